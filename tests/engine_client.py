"""A client of an engine without a process of its own: hundreds of them cost little."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from postfix_trouble.engine import protocol

PATIENCE = 60.0


class DirectClient:
    """One request; it says what launcher/postfix-trouble.c says."""

    def __init__(self, path: Path) -> None:
        """Connect, and wait to be greeted."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        try:
            self.sock.connect(str(path))
            self.greeting = self._line()
        except OSError:
            self.sock.close()
            raise
        assert self.greeting.startswith(protocol.GREETING), self.greeting

    def __enter__(self) -> DirectClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, *words: str, message: bytes = b"", end: bool = True) -> None:
        """Send a command line and a message, or the beginning of it."""
        frames = [protocol.arguments([os.fsencode(word) for word in words])]
        size = 1 << 16
        frames += [
            protocol.frame(protocol.PIECE, message[place : place + size])
            for place in range(0, len(message), size)
        ]
        if end:
            frames.append(protocol.frame(protocol.END))
        self.sock.sendall(b"".join(frames))

    def answer(self) -> tuple[int, bytes]:
        """Exit code and text, waited for."""
        head = self._exactly(protocol.HEAD)
        assert head[:1] == protocol.ANSWER
        data = self._exactly(int.from_bytes(head[1:], "big"))
        return 0 if data[0] == protocol.SUCCESS else data[0], data[1:]

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self._exactly(1)
        return line

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            got = self.sock.recv(count - len(data))
            if not got:
                raise ConnectionError("the engine has hung up")
            data += got
        return data
