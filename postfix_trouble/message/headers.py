"""headers: what the header of a message tells, in bounded memory.

What is a header line and where the header ends is decided as by Postfix is_header(3)
and mime_state(3): a name of printable ASCII, perhaps blanks, a colon. The first line
that is neither that nor the continuation of one ends the header.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.message.lines import records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


# header_size_limit: text of one header that is kept, more or less.
LIMIT = 102400

# No regular expressions here: to compile two costs a tenth of a delivery.
_NAME_BYTES = bytes(range(33, 127)).replace(b":", b"")
# A queue id of Postfix has up to 20 characters.
_LONGEST_ID = 30
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"


class Facts(Value):
    """What the rest of the program wants to know of the message header."""

    # "8bit" if Content-Transfer-Encoding says 8bit or binary, else empty.
    encoding: str = ""
    # There may be parts, or a message in the message, with headers of their own.
    structured: bool = False
    # Non-ASCII bytes in the message header (not in those of its parts).
    utf8: bool = False
    # The topmost Received: header, without its name.
    trace: bytes = b""
    # The sender prefers delivery without TLS to none (TLS-Required: no, RFC 8689).
    tls_optional: bool = False

    def received(self) -> float | None:
        """Seconds since 1970 at which the topmost Received: header was written."""
        return date(self.trace.decode("ascii", "replace").rpartition(";")[2])

    def queue_id(self) -> str:
        """The queue id in the topmost Received: header, empty if it has none.

        `... by HOST (Postfix) with ESMTP id 4XYZ for <...>; DATE`. What stands before
        the last "by" is the client's to say.
        """
        _, found = self._by()
        usual = found.isalnum() and len(found) <= _LONGEST_ID
        return found.decode("ascii") if usual else ""

    def protocol(self) -> str:
        """How the message came by that header: ESMTP, UTF8SMTP; empty: not by SMTP."""
        words, _ = self._by()
        found = words[words.index(b"with") + 1 :] if b"with" in words else []
        return found[0].decode("ascii", "replace") if found else ""

    def _by(self) -> tuple[list[bytes], bytes]:
        """What stands between the last "by" and "id", and what follows that."""
        words = self.trace.rpartition(b";")[0].split()
        if b"by" not in words:
            return [], b""
        ours = words[len(words) - words[::-1].index(b"by") :]
        if b"id" not in ours[:-1]:
            return [], b""
        at = ours.index(b"id")
        return ours[:at], ours[at + 1]


def name_length(line: bytes) -> int:
    """Length of the header name that a line begins with, 0 if with none."""
    name = line[: max(line.find(b":"), 0)].rstrip(b" \t")
    return 0 if name.translate(None, _NAME_BYTES) else len(name)


def headers(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The headers of a message one by one, with the newlines where they are folded."""
    header = bytearray()
    continued = False
    for text, complete in records(chunks):
        if continued or (header and text[:1] in (b" ", b"\t")):
            if len(header) < LIMIT:
                header += text if continued else b"\n" + text
        else:
            if header:
                yield bytes(header)
            header[:] = text
            if not name_length(text):
                return
        continued = not complete
    if header:
        yield bytes(header)


def facts(chunks: Iterable[bytes]) -> Facts:
    """Read the header of a message; no more than that is taken from the chunks."""
    encoding = trace = b""
    structured = utf8 = tls_optional = False
    for header in headers(chunks):
        utf8 = utf8 or not header.isascii()
        name, _, value = header.partition(b":")
        match name.rstrip(b" \t").lower():
            case b"content-transfer-encoding" if says_8bit(value):
                # Any of several counts.
                encoding = b"8bit"
            case b"content-type":
                value = value.lower()
                structured |= b"multipart" in value or b"message" in value
            case b"received" if not trace:
                trace = value
            case b"tls-required":
                # Any of several counts; anything behind the word spoils it.
                tls_optional |= value.lstrip().lower() == b"no"
    return Facts(encoding.decode(), structured, utf8, trace, tls_optional)


def says_8bit(value: bytes) -> bool:
    """Whether Postfix takes a Content-Transfer-Encoding for the one of 8-bit text.

    "binary" counts, too; a comment or a blank behind it spoils it (cleanup_message.c,
    detect_8bit_encoding_header).
    """
    return value.lstrip().lower() in (b"8bit", b"binary")


def date(text: str) -> float | None:
    """Seconds since 1970 of a date and time after RFC 5322, None if it is none."""
    words = text.split()
    if not words:
        return None
    if words[0].endswith(","):
        del words[0]
    try:
        day, month, year, clock, zone = words[:5]
        hours, minutes, seconds = clock.split(":")
        digits = (day, year, hours, minutes, seconds, zone[1:])
        usual = zone[0] in "+-" and all(map(str.isdecimal, digits))
        if not usual or len(year) != 4 or len(zone) != 5 or len(month) != 3:
            raise ValueError
        days = _days(int(year), _MONTHS.index(month.lower()) // 4 + 1, int(day))
    except ValueError:
        return _unusual_date(text)
    offset = int(zone[0] + zone[1:3]) * 3600 + int(zone[0] + zone[3:]) * 60
    clock_seconds = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return float(days * 86400 + clock_seconds - offset)


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970. The year is counted from March, so that leap days come last."""
    if month < 3:
        year, month = year - 1, month + 12
    return (
        365 * year
        + year // 4
        - year // 100
        + year // 400
        + (153 * (month - 3) + 2) // 5
        + day
        - 719469
    )


def _unusual_date(text: str) -> float | None:
    # Costs ten milliseconds, so it is left to the dates that need it.
    from email.utils import mktime_tz, parsedate_tz

    parsed = parsedate_tz(text)
    try:
        return float(mktime_tz(parsed)) if parsed else None
    except (ValueError, OverflowError):
        return None
