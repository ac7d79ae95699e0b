"""One LMTP client on one connected socket: commands in, replies out, mail to a spool.

Blocking, a thread or a process per connection: less to go wrong than an event loop,
and faster than the one of asyncio. aiosmtpd was looked at: it answers an exception
with 5xx, keeps the message in memory, knows no PIPELINING, and takes 60 ms to import.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import time
from collections.abc import Callable, Sequence

from postfix_trouble.core.afterwards import warn
from postfix_trouble.core.envelope import DeliveryRequest
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.lmtp import dialogue as lmtp_dialogue
from postfix_trouble.lmtp.dialogue import DEFAULT_LIMITS, Dialogue, Limits, Lines, Then
from postfix_trouble.lmtp.input import DataReader

if TYPE_CHECKING:
    from typing import BinaryIO, Protocol

    class Stopping(Protocol):
        """Becomes readable when the service is to end."""

        def fileno(self) -> int:
            """Descriptor to poll."""


_CHUNK = 65536
# Bytes of a message that are kept in memory; more goes to an unlinked file.
_IN_MEMORY = 1 << 20
_NEVER = float("inf")
# Not every system can tell that the client has closed its side.
_HANGUP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class Transaction(Value):
    """One message that a client wants delivered."""

    # Without nexthop; size is that of MAIL FROM, or else the bytes received.
    request: DeliveryRequest
    # At its beginning; lines end in LF, as pipe(8) feeds them. Closed afterwards.
    # Up to 1 MiB it has no descriptor (io.BytesIO).
    message: BinaryIO


# Delivers, and returns the lines of one reply per recipient, in their order. The
# second argument tells whether the client has gone and nobody will hear of it.
Deliver = Callable[[Transaction, Callable[[], bool]], Sequence[Lines]]


def serve(
    connection: socket.socket,
    deliver: Deliver,
    *,
    hostname: str = "localhost",
    limits: Limits = DEFAULT_LIMITS,
    stop: Stopping | None = None,
    spool_directory: str | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> None:
    """Serve one client until it leaves, says nothing for too long, or `stop` is set.

    An exception in `deliver` is 451 for every recipient: a bug is no reason to lose
    mail. Closes the connection. Never raises for what the client does.
    """
    dialogue = Dialogue(hostname, limits, note)
    with connection:
        client = _Client(connection, limits, stop)
        try:
            _converse(client, dialogue, deliver, spool_directory, note)
            client.flush()
        except _EndError as end:
            client.last_words(end.reply)
        except _GoneError:
            if dialogue.busy:
                note("client hung up in the middle of a transaction")


def _converse(
    client: _Client,
    dialogue: Dialogue,
    deliver: Deliver,
    spool_directory: str | None,
    note: Callable[[str], None],
) -> None:
    client.say(dialogue.greeting())
    then = Then.COMMAND
    while then is not Then.CLOSE:
        line = client.line(dialogue.busy)
        lines, then = dialogue.too_long() if line is None else dialogue.answer(line)
        client.say(lines)
        if then is not Then.DATA:
            continue
        with _Spool(spool_directory, client.limits.message) as spool:
            client.data(spool)
            replies = _result(client, dialogue.request, spool, deliver, note)
            try:
                # Before anything else: who has the message must not get it again.
                client.say(*replies)
                client.flush()
            except _GoneError:
                note("client hung up before the reply: it may send the message again")
                raise
            except Exception as bug:  # noqa: BLE001  whatever goes wrong with us
                warn(note, "replies", bug)
                if not client.output:
                    client.say(*replies)
                client.flush()
            finally:
                dialogue.reset()


def _result(
    client: _Client,
    request: DeliveryRequest,
    spool: _Spool,
    deliver: Deliver,
    note: Callable[[str], None],
) -> Sequence[Lines]:
    """One reply for each recipient."""
    count = len(request.recipients)
    problem = spool.finish()
    if problem is not None:
        return [problem] * count
    if not request.size:
        request = request._replace(size=spool.size)
    client.flush()
    try:
        replies = deliver(Transaction(request, spool.file), client.gone)
        if len(replies) != count or not all(replies):
            raise RuntimeError(f"{len(replies)} replies for {count} recipients")
    except (Exception, SystemExit) as bug:  # noqa: BLE001
        # SystemExit too: whoever calls exit in a delivery means a process of its own.
        warn(note, "message deferred", bug)
        return [lmtp_dialogue.BUG] * count
    return replies


class _GoneError(Exception):
    """The client has hung up, or takes no more replies."""


class _EndError(Exception):
    """We hang up, for a reason of our own."""

    def __init__(self, reply: Lines) -> None:
        super().__init__()
        self.reply = reply


class _Client:
    """Reads lines and data, collects replies. All waits have limits."""

    def __init__(
        self, connection: socket.socket, limits: Limits, stop: Stopping | None
    ) -> None:
        self.limits = limits
        self._connection = connection
        self._stop = stop
        self._input = bytearray()
        # What is to be written still.
        self.output = b""
        # When we hang up even in the middle of a transaction: we were told to stop.
        self._last = _NEVER
        # Seconds that a reply may wait until the client takes it.
        self._patience = limits.idle
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        if stop is not None:
            self._poll.register(stop.fileno(), select.POLLIN)
        # It never blocks, poll does: a timeout would cost a system call for each call.
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            # Or each small reply would wait for the client's delayed ACK: 40 ms.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def say(self, *replies: Lines) -> None:
        """Queue replies. A group of pipelined commands is answered by one write."""
        self.output += b"".join([line + b"\r\n" for lines in replies for line in lines])

    def flush(self) -> None:
        """Write what is queued."""
        try:
            while self.output:
                self._send()
        except OSError as problem:
            raise _GoneError from problem

    def _send(self) -> None:
        """Write what the system takes."""
        try:
            self.output = self.output[self._connection.send(self.output) :]
        except BlockingIOError:
            room = select.poll()
            room.register(self._connection, select.POLLOUT)
            if not room.poll(self._patience * 1000):
                raise

    def last_words(self, reply: Lines) -> None:
        """Say why we hang up, if the client takes it at once."""
        self.say(reply)
        self._patience = 0.0
        with contextlib.suppress(_GoneError):
            self.flush()

    def line(self, busy: bool) -> bytes | None:
        """The next line without its CR LF, None for one that is too long.

        Nothing else ends a line: an address may hold a bare LF between quotes, and
        what stands behind it must not become a command.
        """
        until = time.monotonic() + self.limits.idle
        too_long = False
        while True:
            end = self._input.find(b"\r\n")
            if end >= 0:
                line = bytes(self._input[:end])
                del self._input[: end + 2]
                return None if too_long or end > self.limits.line else line
            if len(self._input) > self.limits.line:
                too_long = True
                # The last byte may be the CR.
                del self._input[:-1]
            self._input += self._receive(until, busy)

    def data(self, spool: _Spool) -> None:
        """Read the message up to its end."""
        until = time.monotonic() + self.limits.data
        reader = DataReader()
        chunk = bytes(self._input)
        while True:
            spool.write(reader.feed(chunk))
            if reader.ended:
                self._input[:] = reader.rest
                return
            chunk = self._receive(until, busy=True)

    def gone(self) -> bool:
        """Whether the client has hung up, so that no reply will reach it."""
        poll = select.poll()
        poll.register(self._connection, _HANGUP)
        return bool(poll.poll(0))

    def _receive(self, until: float, busy: bool) -> bytes:
        """At least one byte, `until` some time and idle for no longer than allowed."""
        self.flush()
        self._wait(until, busy)
        try:
            received = self._connection.recv(_CHUNK)
        except BlockingIOError:
            # What poll(2) has promised can have gone bad meanwhile.
            return self._receive(until, busy)
        except OSError as problem:
            raise _GoneError from problem
        if not received:
            raise _GoneError
        return received

    def _wait(self, until: float, busy: bool) -> None:
        """Until there is something to read."""
        while True:
            if self._last < _NEVER and not busy:
                raise _EndError(lmtp_dialogue.STOPPING)
            now = time.monotonic()
            left = min(until - now, self._last - now, self.limits.idle)
            ready = self._poll.poll(max(0.0, left) * 1000)
            if not ready:
                raise _EndError(lmtp_dialogue.IDLE)
            stop = self._stop
            if stop is None or all(number != stop.fileno() for number, _ in ready):
                return
            self._last = now + self.limits.grace
            self._poll.unregister(stop.fileno())


class _Spool:
    """A message: in memory while it is small, then in a file that has no name."""

    def __init__(self, directory: str | None, limit: int) -> None:
        self.file: BinaryIO = io.BytesIO()
        # Bytes with CR LF, as RFC 1870 and the queue manager count.
        self.size = 0
        self._directory = directory
        self._limit = limit
        self._on_disk = False
        self._problem: Lines | None = None

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        # A full disk may be told once more here.
        with contextlib.suppress(OSError):
            self.file.close()

    def write(self, text: bytes) -> None:
        """Add text, or pass it by once there is a problem: the rest must be read."""
        self.size += len(text) + text.count(b"\n")
        if self._problem is None and 0 < self._limit < self.size:
            self._problem = lmtp_dialogue.too_big(self._limit)
        if self._problem is not None:
            return
        try:
            if not self._on_disk and self.size > _IN_MEMORY:
                self._move_to_disk()
            self.file.write(text)
        except OSError:
            self._problem = lmtp_dialogue.STORAGE_FULL

    def finish(self) -> Lines | None:
        """Go back to the beginning. The reply, if the message could not be kept."""
        try:
            self.file.seek(0)
        except OSError:
            self._problem = self._problem or lmtp_dialogue.STORAGE_FULL
        return self._problem

    def _move_to_disk(self) -> None:
        import tempfile

        small = self.file
        self.file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
        self._on_disk = True
        small.seek(0)
        self.file.write(small.read())
        small.close()
