"""Bytes of a server to replies, after Postfix smtp_chat_resp and smtp_get.

Servers lie in one of three places: the code, the enhanced status, the line format.
One of them is believed: the code of the last line. A line that is no reply is kept in
the text and skipped, however often it comes. So a reply is always well-formed, and
what can't be one ends in a lost connection or a time limit.

int() is not used to recognise a code: it takes " 25", "+25" and "2_5" for numbers.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.reply import Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Bytes of one reply that are read at most. Postfix has no limit here but the time; a
# server that sends this much without coming to the point is not going to.
REPLY_LIMIT = 1 << 20

_DIGITS = frozenset("0123456789")


def reply_text(line: bytes, utf8: bool) -> str:
    """A line of the server as it may be shown: what is unprintable becomes "?".

    With utf8 (smtputf8_enable) valid UTF-8 passes. A NUL ends the line.
    """
    line = line.partition(b"\0")[0]
    if line.isascii():
        text = line.decode("ascii")
        if text.isprintable():
            return text
    else:
        text = line.decode("utf-8" if utf8 else "ascii", "surrogateescape")
    return "".join(
        "?" if c < " " or c == "\x7f" or "\udc80" <= c <= "\udcff" else c for c in text
    )


def status_of(code: int, line: str) -> EnhancedStatus:
    """The enhanced status of a reply, by its last line.

    The class is that of the code. What the server says itself counts only where it
    agrees; codes that mean neither success nor failure here get 5.5.0.
    """
    klass = str(code // 100)
    if klass not in ("2", "4", "5"):
        return EnhancedStatus("5.5.0")
    said = EnhancedStatus.leading(line[4:].lstrip(" "))
    if said is not None and said[0] == klass:
        return said
    return EnhancedStatus(f"{klass}.0.0")


def first_reply(data: bytes) -> tuple[Reply, bytes] | None:
    """The first whole reply in what a server sent, and what follows; None: not yet."""
    reader = ReplyReader()
    reader.feed(data)
    reply = reader.next()
    return None if reply is None else (reply, reader.unused)


class ReplyReader:
    """Takes bytes as they come and gives replies.

    `limit` is line_length_limit (bytes): so much is kept of a line, and of all lines
    of a reply together, but for the line that reaches it. `line_filter` is
    smtp_reply_filter: another line for this one, or None; what it raises passes.
    """

    def __init__(
        self,
        *,
        limit: int = 2048,
        utf8: bool = True,
        line_filter: Callable[[str], str | None] | None = None,
        heard: Callable[[str, str], None] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self._limit = limit
        self._utf8 = utf8
        self._filter = line_filter
        self._heard = heard or (lambda direction, line: None)
        self._note = note or (lambda text: None)
        # Something came that was no reply, ever.
        self.garbage = False
        self.forget()

    def _start_reply(self) -> None:
        self._lines: list[str] = []
        self._stored = 0
        self._full = False
        self._garbled = False
        self.consumed = 0

    @property
    def pending(self) -> bool:
        """Bytes are here that no reply has used."""
        return self._at < len(self._buffer)

    @property
    def unused(self) -> bytes:
        """Those bytes."""
        return self._buffer[self._at :]

    def forget(self) -> None:
        """Drop what has been read: nothing said in the clear counts under TLS."""
        self._buffer = b""
        self._at = 0
        self._skipping = False
        self._start_reply()

    def feed(self, data: bytes) -> None:
        """Take what the server sent."""
        self._buffer = self._buffer[self._at :] + data
        self._at = 0

    @property
    def endless(self) -> bool:
        """This reply is longer than any sense it could make."""
        return self.consumed > REPLY_LIMIT

    def next(self) -> Reply | None:
        """The next reply, None if it is not complete yet."""
        while True:
            line = self._next_line()
            if line is None:
                return None
            reply = self._take(line)
            if reply is not None:
                self._start_reply()
                return reply

    def _next_line(self) -> bytes | None:
        """One line without its end, cut to the limit; None if there is none yet."""
        while True:
            end = self._buffer.find(b"\n", self._at)
            line = self._buffer[self._at : None if end < 0 else end]
            if end < 0 and not self._skipping and len(line) <= self._limit:
                return None
            # Used up, whether it is a line or a part of one that is too long.
            self._at = len(self._buffer) if end < 0 else end + 1
            self.consumed += len(line) + 1
            skip, self._skipping = self._skipping, end < 0
            if not skip:
                return self._cut(line)
            if end < 0:
                return None

    def _cut(self, line: bytes) -> bytes:
        # The limit is for the line with its end, but for a CR that comes last; what
        # is beyond it is not looked at, so a CR before the cut is no line end.
        if len(line) + (not line.endswith(b"\r")) <= self._limit:
            return line.rstrip(b"\r")
        start = reply_text(line[:30], self._utf8)
        self._note(f"response longer than {self._limit}: {start}...")
        return line[: self._limit]

    def _take(self, raw: bytes) -> Reply | None:
        """Add a line to the reply; the reply when this was its last one."""
        line = reply_text(raw, self._utf8)
        self._heard("In: ", line)
        if self._filter is not None:
            other = self._filter(line)
            if other is not None:
                self._note(f'replacing server reply "{line}" with "{other}"')
                self._heard("Replaced-by:", other)
                line = other
        self._store(line)
        digits, mark = line[:3], line[3:4]
        if len(digits) == 3 and _DIGITS.issuperset(digits):
            if mark == "-":
                return None
            if mark in ("", " "):
                code = int(digits)
                text = "\n".join(self._lines)
                return Reply(code, status_of(code, line), text, True, self._garbled)
        self._garbled = self.garbage = True
        return None

    def _store(self, line: str) -> None:
        if not (line or self._lines):
            # Nothing to join a newline to: empty lines before a reply are not in it.
            return
        if self._stored < self._limit:
            # One more for the newline that joins it to the line before.
            self._stored += len(line.encode("utf-8")) + bool(self._lines)
            self._lines.append(line)
        elif not self._full:
            self._full = True
            start = "\n".join(self._lines)[:30].replace("\n", "?")
            self._note(f"multi-line response longer than {self._limit} {start}...")
