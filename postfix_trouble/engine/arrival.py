"""One client of the engine, and its request as it arrives."""

from __future__ import annotations

import select
import socket
import time
from functools import partial
from io import BytesIO
from typing import IO, TYPE_CHECKING

from postfix_trouble.core.sysexits import EX_TEMPFAIL
from postfix_trouble.engine import protocol
from postfix_trouble.engine.request import RequestDeadline

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of a message that are kept in memory.
IN_MEMORY = 1 << 20
#: Bytes of all arguments, at most; Linux gives a program no more than some megabytes.
_MOST_ARGUMENTS = 8 << 20


def _write(file: IO[bytes], data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _nexthop(arguments: list[str]) -> str:
    for place, word in enumerate(arguments):
        if word == "--nexthop" and place + 1 < len(arguments):
            return arguments[place + 1]
        if word.startswith("--nexthop="):
            return word.partition("=")[2]
    return ""


class Client:
    """One connection, and the request that comes over it."""

    def __init__(
        self,
        sock: socket.socket,
        answered: Callable[[Client], None],
        told: Callable[[int, bytes], None],
    ) -> None:
        self.sock = sock
        self._told = told
        self.deadline = RequestDeadline(
            self._send_answer, partial(answered, self), self._left
        )
        self.arguments: list[str] = []
        # As the client names it; only requests with the same one share it.
        self.nexthop = ""
        # In memory, or a file without a name.
        self.message: IO[bytes] = BytesIO()
        self.ended = False
        # When somebody has to look at it, and what is to be done then.
        self.due = 0.0
        self.end = 0.0
        self.alarm: Callable[[], float | None] = self.deadline.expired
        # Its answer.
        self.status = EX_TEMPFAIL
        # A worker has begun with it.
        self.begun = False
        # The client has closed, or what it says makes no sense.
        self.heard_out = False
        self._buffer = b""

    def _send_answer(self, status: int, text: bytes) -> None:
        self.status = status
        data = protocol.answer(status, text)
        try:
            # It goes into the buffer of the socket, but for JSON objects of some size.
            sent = self.sock.send(data, socket.MSG_DONTWAIT)
            if sent < len(data):
                self.sock.settimeout(10)
                self.sock.sendall(data[sent:])
        except OSError:
            # It has gone; pipe(8) has deferred the mail.
            return
        self._told(status, text)

    def _left(self) -> bool:
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        return bool(poll.poll(0))

    def receive(self, room: memoryview) -> bool:
        """Read what has come, by way of `room`, which all clients share. False: the
        client has gone, or talks nonsense."""
        try:
            count = self.sock.recv_into(room, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not count:
            return False
        self._buffer += room[:count]
        at = 0
        while len(self._buffer) - at >= protocol.HEAD:
            length = int.from_bytes(self._buffer[at + 1 : at + 5], "big")
            if length > _MOST_ARGUMENTS:
                return False
            end = at + protocol.HEAD + length
            if len(self._buffer) < end:
                break
            kind = self._buffer[at : at + 1]
            if not self._take(kind, self._buffer[at + protocol.HEAD : end]):
                return False
            at = end
        self._buffer = self._buffer[at:]
        return True

    def _take(self, kind: bytes, data: bytes) -> bool:
        if kind == protocol.SIGNAL and self.ended:
            self.interrupt(self.deadline.signalled)
        elif self.ended:
            return False
        elif kind == protocol.ARGUMENTS:
            self.arguments += protocol.words(data)
        elif kind == protocol.PIECE:
            self._keep(data)
        elif kind == protocol.END:
            self.nexthop = _nexthop(self.arguments)
            self.message.seek(0)
            self.ended = True
        else:
            return False
        return True

    def _keep(self, piece: bytes) -> None:
        """Add to the message. Raises OSError if there is no room on the disk."""
        if isinstance(self.message, BytesIO):
            before = self.message.getbuffer()
            if len(before) + len(piece) > IN_MEMORY:
                from tempfile import TemporaryFile

                # Without a buffer: what does not fit is to show here, not at the end.
                self.message = TemporaryFile(buffering=0)  # noqa: SIM115  closed later
                _write(self.message, before)
            del before
        _write(self.message, piece)

    def interrupt(self, how: Callable[[], float | None]) -> None:
        """The client, or the clock, wants an end."""
        grace = how()
        if grace is not None:
            self.due = self.end = time.monotonic() + grace
            self.alarm = self._give_up

    def _give_up(self) -> None:
        self.deadline.given_up()
