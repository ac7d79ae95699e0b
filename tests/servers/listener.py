"""A server that listens, and serves each connection in a thread."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from typing import Any, Self

from servers.dialogue import Connection
from servers.turn import Turn
from waiting import wait


class Listener:
    """Listens at an address (`HOST:PORT` or `unix:PATH`) from start() to stop()."""

    def __init__(self, listen: str) -> None:
        self.listen = listen
        self.port = 0
        self._listener: socket.socket | None = None
        # Until somebody accepts, nobody has anything to do.
        self._turn = Turn()
        self._turn.over()
        self._threads: list[threading.Thread] = []
        self._fillers: list[socket.socket] = []

    def begin(self, peer: socket.socket) -> Connection:
        """What serves a client that has come."""
        raise NotImplementedError

    def start(self) -> Self:
        """Listen, and serve in threads."""
        self.bind()
        self._turn = Turn()
        self._serve_in_thread(self._accept)
        return self

    def start_full(self) -> Self:
        """Listen with a full queue and never accept: attempts to connect time out."""
        self.bind(backlog=0)
        assert self._listener is not None
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(self._listener.getsockname())
            self._fillers.append(filler)
        return self

    def stop(self, patience: float = 3.0) -> object:
        """No more connections; seconds for those that are left to end by themselves."""
        until = time.monotonic() + patience
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            # Not before: its descriptor may be another's next.
            for accepting in self._threads[:1]:
                accepting.join(max(0.0, until - time.monotonic()))
            self._listener.close()
            self._listener = None
        for filler in self._fillers:
            filler.close()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def bind(self, backlog: int = 128) -> None:
        """Have an address, and let clients wait there."""
        if self._listener is None:
            listener = wait(self._bound, lambda: f"{self.listen} is in use")
            assert listener is not None
            listener.listen(backlog)
            self._listener = listener

    def _bound(self) -> socket.socket | None:
        """None: the port belongs to a connection of somebody else for a moment."""
        if self.listen.startswith("unix:"):
            path = self.listen[5:]
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            os.chmod(path, 0o666)
            return listener
        host, _, port = self.listen.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, int(port)))
        except OSError as problem:
            listener.close()
            if problem.errno == errno.EADDRINUSE:
                return None
            raise
        self.port = listener.getsockname()[1]
        return listener

    def _accept(self) -> None:
        listener = self._listener
        assert listener is not None
        while True:
            try:
                self._turn.wait(listener, select.POLLIN, None)
                peer, _ = listener.accept()
            except OSError:
                self._turn.over()
                return
            if peer.family != socket.AF_UNIX:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._serve_in_thread(self.begin(peer).serve)

    def _serve_in_thread(self, work: Any) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()
