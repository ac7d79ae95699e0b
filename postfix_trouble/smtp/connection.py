"""One connection to one server: smtplib.SMTP, with Postfix's rules for its replies.

Every command and reply of a session goes by smtplib's low-level calls: `putcmd`,
`send`, `getreply`, `close`. What is built on them (`docmd`, `ehlo`, `noop`, `rset`,
`quit`, `sendmail`) works as documented. Three of them are replaced here:

- `send` queues. What is queued leaves with the next reply that is asked for, as in
  Postfix, so commands are pipelined; a write that fails is reported by that read, and
  the socket stays open, since the server may have said why before that.
- `getreply` reads with the bounds and time limits of smtp/replies.py. smtplib's never
  ends on an endless reply, takes "+25" for a code, and says "connection closed" when
  it timed out. The whole reply, or why there is none, is in `reply` afterwards.
- `starttls` waits by the timeout of the socket.

smtplib's `sendmail`, `data`, `mail`, `rcpt` are not used for a delivery: they hide the
phase, parse addresses again and let a bare CR through. Nor is `connect`, which hides
the greeting in an exception: the socket is connected when it comes here. `read` and
`flush` raise nothing for what the peer or the network does: the answer is Lost.
"""

from __future__ import annotations

import select
import time

from postfix_trouble.core.afterwards import warn
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.smtp.replies import ReplyReader, first_reply
from postfix_trouble.smtp.smtplib_lean import smtplib

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from _typeshed import ReadableBuffer as Buffer

    from postfix_trouble.core.relay import Relay

# Bytes per write: a limit of time for each is a limit for a slow but steady receiver.
_WRITE = 65536
# Per read: room that Python takes first, and leaves holes of in what stays.
_READ = 4096
# Seconds of one wait at most: more milliseconds don't fit into what poll(2) takes.
_LONGEST = 1e6

# Bytes of transcript that are kept (a line counts for 64 more): a server that sends
# nothing but line ends must not fill the memory with them.
_TRANSCRIPT = 4 << 20


class TimeLimits:
    """How long one wait may last (seconds).

    `left` tells how much is left of the time for the whole request. Under
    smtp_per_request_deadline a limit is a budget for a whole phase, not for each
    system call, and writing `min_rate` bytes earns a second.
    """

    def __init__(
        self, left: Callable[[], float], *, budgets: bool = False, min_rate: int = 0
    ) -> None:
        self._left = left
        self._budgets = budgets
        self._min_rate = min_rate
        self.disarm()

    def disarm(self) -> None:
        """No phase has begun: there is no limit but `left`."""
        self._limit = self._end = float("inf")
        self._phase = ""

    def start_over(self, left: Callable[[], float]) -> None:
        """The time is that of another request."""
        self._left = left
        self.disarm()

    def arm(self, phase: str, limit: float) -> None:
        """Enter a phase. The same phase again goes on with what is left of it."""
        self._limit = limit
        if phase != self._phase:
            self._phase = phase
            self._end = time.monotonic() + limit

    def wrote(self, count: int) -> None:
        """Earn time by progress."""
        if self._budgets and self._min_rate:
            now = time.monotonic()
            earned = self._end + count / self._min_rate
            self._end = min(earned, now + self._limit)

    def seconds(self) -> float:
        """For the next system call; zero or less when there is no time."""
        limit = self._end - time.monotonic() if self._budgets else self._limit
        return min(limit, self._left())


class Connection(smtplib.SMTP):
    """A connected server: commands are queued, replies read."""

    def __init__(
        self,
        sock: socket.socket,
        relay: Relay,
        limits: TimeLimits,
        *,
        line_limit: int = 2048,
        utf8: bool = True,
        reply_filter: Callable[[str], str | None] | None = None,
        note: Callable[[str], None] = lambda text: None,
        on_line: Callable[[str, str], None] | None = None,
    ) -> None:
        """`on_line` is told of each line of the transcript when it comes or goes."""
        super().__init__(local_hostname="localhost")
        self.sock: socket.socket | None = sock
        # Waits for a socket without TLS, which never blocks itself.
        self._poll: select.poll | None = select.poll()
        self._poll.register(sock, select.POLLIN)
        sock.setblocking(False)
        # The name that smtplib's starttls() asks for.
        self._host = relay.host
        self.relay = relay
        self.limits = limits
        self.transcript: list[tuple[str, str]] = []
        self._room = _TRANSCRIPT
        self._said = on_line
        # What is said now is not for the transcript.
        self.secret = False
        # Blanks out what was said then, should the server repeat it later.
        self.conceal: Callable[[str], str] | None = None
        self._queue: list[bytes] = []
        # The reply to the final dot as it comes, while it is read.
        self._received: list[bytes] = []
        self._reader = ReplyReader(
            limit=line_limit,
            utf8=utf8,
            line_filter=reply_filter,
            heard=self._record,
            note=self._remark,
        )
        self._note = note
        self.reply: Reply | Lost = Lost.EOF

    # --- writing

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Queue a command line. Raises ValueError for one that holds a line end."""
        super().putcmd(cmd, args)
        self._record("Out:", f"{cmd} {args}" if args else cmd)

    def send(self, s: Buffer | str) -> None:
        """Queue bytes, or text as UTF-8; both may hold what is no UTF-8."""
        if isinstance(s, str):
            s = s.encode("utf-8", "surrogateescape")
        self._queue.append(bytes(s))

    def write(self, chunk: bytes, limit: float) -> Lost | None:
        """Write message text. The last piece stays queued, to leave with the dot.

        limit: seconds, smtp_data_xfer_timeout.
        """
        if self._queue:
            self.limits.arm("body", limit)
            lost = self.flush()
            if lost is not None:
                # Nothing is left queued: what the server said before is still read.
                return lost
        self.send(chunk)
        return None

    def flush(self) -> Lost | None:
        """Write what is queued. It is dropped if that fails."""
        data, self._queue = b"".join(self._queue), []
        if self.sock is None:
            return Lost.EOF
        for start in range(0, len(data), _WRITE):
            try:
                self._transmit(self.sock, data[start : start + _WRITE])
            except TimeoutError:
                return Lost.TIME
            except (OSError, ValueError):
                # ValueError: a TLS session that has ended.
                return Lost.EOF
        return None

    def _transmit(self, sock: socket.socket, data: bytes) -> None:
        """Write within the limit of time. Raises OSError, TimeoutError among them."""
        seconds = self.limits.seconds()
        if seconds <= 0:
            raise TimeoutError
        if self._poll is None:
            sock.settimeout(min(seconds, _LONGEST))
            sock.sendall(data)
        else:
            self._send_plain(sock, data, time.monotonic() + seconds)
        self.limits.wrote(len(data))

    def _send_plain(self, sock: socket.socket, data: bytes, end: float) -> None:
        """Write without waiting first: there nearly always is room.

        A socket with a timeout costs three system calls where this costs one.
        """
        left = memoryview(data)
        while True:
            try:
                left = left[sock.send(left) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, end - time.monotonic())
            if not left:
                return

    def _wait(self, event: int, seconds: float) -> None:
        """Wait until a plain socket is ready. Raises TimeoutError."""
        assert self._poll is not None
        assert self.sock is not None
        self._poll.modify(self.sock, event)
        if seconds <= 0 or not self._poll.poll(min(seconds, _LONGEST) * 1000):
            raise TimeoutError

    # --- reading

    def read(self, phase: str, limit: float) -> Reply | Lost:
        """Write what is queued and read one reply.

        phase: replies of one phase share a budget. limit: seconds.
        """
        self.limits.arm(phase, limit)
        try:
            self.getreply()
        except smtplib.SMTPServerDisconnected:
            # `reply` says why.
            pass
        return self.reply

    def verdict(self, phase: str, limit: float) -> Reply | Lost:
        """read(), for the reply to the final dot: what it says is what counts.

        A filter that can't be searched, or anything else of ours that fails over a 2xx,
        leaves the words of the server: it has the message. Any other reply is Lost.DATA
        then, since the filter might have made it a softer one.
        """
        self.limits.arm(phase, limit)
        lost = self.flush()
        if lost is not None:
            return lost
        self._received = [self._reader.unused]
        try:
            return self.read(phase, limit)
        except Exception as problem:  # noqa: BLE001  whatever it is
            reply = self._read_plainly()
            warn(self._note, f"reply of {self.relay.namaddrport}", problem)
        finally:
            self._received = []
        counts = isinstance(reply, Lost) or reply.code // 100 == 2
        return reply if counts else Lost.DATA

    def _read_plainly(self) -> Reply | Lost:
        """The same reply once more: no filter, no transcript, nobody is told."""
        data = b"".join(self._received)
        while (found := first_reply(data)) is None:
            more = self._receive()
            if isinstance(more, Lost):
                return more
            data += more
        reply, rest = found
        self._reader.forget()
        self._reader.feed(rest)
        return reply

    def getreply(self) -> tuple[int, bytes]:
        """Write what is queued; read one reply: its code, its lines without the code.

        The reply as Postfix sees it is in `reply`. Raises SMTPServerDisconnected when
        there is none, and `reply` is then Lost.
        """
        reply: Reply | Lost | None = self.flush()
        if reply is None:
            reply = self._read_reply()
        self.reply = reply
        if isinstance(reply, Lost):
            raise smtplib.SMTPServerDisconnected("Connection unexpectedly closed")
        lines = [line[4:].strip() for line in reply.text.split("\n")]
        return reply.code, "\n".join(lines).encode("utf-8", "replace")

    def _read_reply(self) -> Reply | Lost:
        while True:
            reply = self._reader.next()
            if reply is not None:
                return self._concealed(reply)
            if self._reader.endless:
                return Lost.EOF
            data = self._receive()
            if isinstance(data, Lost):
                return data
            if self._received:
                self._received.append(data)
            self._reader.feed(data)

    def _concealed(self, reply: Reply) -> Reply:
        if self.conceal is None:
            return reply
        return reply._replace(text=self.conceal(reply.text))

    def _receive(self) -> bytes | Lost:
        seconds = self.limits.seconds()
        if self.sock is None or seconds <= 0:
            return Lost.TIME
        try:
            if self._poll is None:
                self.sock.settimeout(min(seconds, _LONGEST))
            else:
                self._wait(select.POLLIN, seconds)
            return self.sock.recv(_READ) or Lost.EOF
        except BlockingIOError:
            # What poll(2) has promised can have gone bad meanwhile.
            return self._receive()
        except TimeoutError:
            return Lost.TIME
        except (OSError, ValueError):
            return Lost.EOF

    def pending(self) -> bool:
        """Whether the server has said something that was not asked for."""
        if self._reader.pending:
            return True
        if self.sock is None:
            return False
        decrypted = getattr(self.sock, "pending", None)
        if decrypted is not None and decrypted():
            return True
        return bool(select.select([self.sock], [], [], 0)[0])

    # --- the rest

    def start_over(self, left: Callable[[], float]) -> None:
        """Another request goes over this connection; its transcript is its own."""
        self.limits.start_over(left)
        self.transcript = []
        self._room = _TRANSCRIPT
        self._reader.garbage = False

    @property
    def garbage(self) -> bool:
        """The server said something that is no reply, whether or not one followed."""
        return self._reader.garbage

    def starttls(self, *options: Any, **named: Any) -> tuple[int, bytes]:
        """As smtplib's: STARTTLS, and the handshake. Raises what ssl and that raise."""
        assert self.sock is not None
        self._poll = None
        self.sock.settimeout(max(0.001, min(self.limits.seconds(), _LONGEST)))
        answer = super().starttls(*options, **named)
        self.secured(self.sock)
        return answer

    def secured(self, sock: socket.socket) -> None:
        """Go on over TLS. What was said in the clear and not read yet never counts."""
        self.sock = sock
        # From now on the ssl module waits, by the timeout of the socket.
        self._poll = None
        self._reader.forget()
        self.limits.disarm()

    def drop(self) -> None:
        """Close without another word."""
        self._queue.clear()
        self.hang_up()

    def hang_up(self) -> None:
        """Write what is queued, if that is quick, and close."""
        if self.sock is not None and self._queue:
            self.limits.arm("closing", 5.0)
            self.flush()
        self.close()

    def _remark(self, text: str) -> None:
        # It quotes the server, which may repeat what it was told in confidence.
        if not self.secret:
            text = self.conceal(text) if self.conceal else text
            self._note(f"{self.relay.namaddrport}: {text}")

    def _record(self, direction: str, line: str) -> None:
        if self.secret:
            line = _hidden(direction, line)
        elif self.conceal is not None:
            line = self.conceal(line)
        if self._room > 0:
            self._room -= len(line) + 64
            self.transcript.append((direction, line))
        if self._said is not None:
            self._said(direction, line)


def _hidden(direction: str, line: str) -> str:
    """What may be shown of a line of AUTH: the mechanism, or the reply code."""
    if direction == "Out:" and line.startswith("AUTH "):
        return f"AUTH {line.split()[1]} <hidden>"
    code = line[:3] if direction != "Out:" and line[:3].isdigit() else ""
    return f"{code} <hidden>".lstrip()
