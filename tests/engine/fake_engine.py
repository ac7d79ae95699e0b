"""An engine that answers whatever a test wants, to see what its clients make of it."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from postfix_trouble.engine import protocol

#: Seconds until a test gives up.
PATIENCE = 60.0

Play = Callable[["Visitor"], object]


class Visitor:
    """One client of the engine."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.arguments: list[bytes] = []
        self.message = b""
        self.ended = False
        self.signals: list[bytes] = []
        self._waiting = b""

    def greet(self, seconds: int = 900) -> None:
        self.send(protocol.greeting(seconds, 1))

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, status: int, text: bytes) -> None:
        self.send(protocol.answer(status, text))

    def frame(self) -> tuple[bytes, bytes] | None:
        """The next one; None: the client has gone."""
        while True:
            if len(self._waiting) >= protocol.HEAD:
                length = int.from_bytes(self._waiting[1:5], "big") + protocol.HEAD
                if len(self._waiting) >= length:
                    found = self._waiting[:1], self._waiting[protocol.HEAD : length]
                    self._waiting = self._waiting[length:]
                    return found
            try:
                got = self.sock.recv(65536)
            except ConnectionError:
                got = b""
            if not got:
                return None
            self._waiting += got

    def request(self) -> bool:
        """Read one to its end. False: the client left before that."""
        while (found := self.frame()) is not None:
            kind, data = found
            if kind == protocol.ARGUMENTS:
                self.arguments += [os.fsencode(word) for word in protocol.words(data)]
            elif kind == protocol.PIECE:
                self.message += data
            elif kind == protocol.END:
                self.ended = True
                return True
        return False

    def gone(self) -> bool:
        """Wait until the client has closed; what it says before is kept."""
        while (found := self.frame()) is not None:
            if found[0] == protocol.SIGNAL:
                self.signals.append(found[1])
        return True


class FakeEngine:
    """Listens on a Unix socket, and plays a function for each client."""

    def __init__(self, path: Path, play: Play, *, backlog: int = 8) -> None:
        self.path = path
        self.visitors: list[Visitor] = []
        self._play = play
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(backlog)
        self._threads: list[threading.Thread] = []
        self.done = threading.Event()

    def __enter__(self) -> FakeEngine:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for visitor in self.visitors:
            visitor.sock.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            visitor = Visitor(sock)
            self.visitors.append(visitor)
            self._start(partial(self._serve, visitor))

    def _serve(self, visitor: Visitor) -> None:
        try:
            self._play(visitor)
        except OSError:
            pass
        finally:
            visitor.sock.close()
            self.done.set()


def peer(sock: socket.socket) -> tuple[int, int, int]:
    """Process, user and group at the other end."""
    size = struct.calcsize("3i")
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return struct.unpack("3i", data)


def reset(sock: socket.socket) -> None:
    """Close with data unread, so that the other end's writes fail."""
    os.close(sock.detach())
