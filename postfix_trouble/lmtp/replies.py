"""An outcome as the LMTP reply that makes lmtp(8) log, and bounce, just that."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.outcome import Disposition, Outcome
from postfix_trouble.core.status import EnhancedStatus

# RFC 5321 4.5.3.1.5, without CR LF.
_LINE = 510
# lmtp(8) keeps so many bytes of a reply (line_length_limit, smtp_chat_resp).
_REPLY = 2048
_CODES = {"2": "250", "4": "450", "5": "550"}
_CLASSES = {
    Disposition.SENT: "2",
    Disposition.DEFERRED: "4",
    Disposition.BOUNCED: "5",
}


def reply(outcome: Outcome) -> tuple[bytes, ...]:
    """The lines of the reply for one recipient, without line ends.

    The disposition decides the class, whatever the status says: lmtp(8) goes by the
    code, and believes a status only if it agrees.
    """
    wanted = _CLASSES[outcome.disposition]
    status = EnhancedStatus.leading(outcome.dsn.status)
    if status is None or not status.startswith(wanted):
        status = EnhancedStatus(f"{wanted}.0.0")
    text = _printable(outcome.dsn.reason)
    if outcome.disposition is Disposition.SENT and _says(text, status):
        # The server's own words, so that the log reads as with smtp(8).
        return (text.encode(),)
    return _lines(_CODES[wanted], status, text.encode())


def _says(text: str, status: EnhancedStatus) -> bool:
    """Whether the text is a reply in one line that lmtp(8) reads as this status."""
    code, _, rest = text.partition(" ")
    if len(code) != 3 or not (code.isascii() and code.isdigit() and code[0] == "2"):
        return False
    if len(text.encode()) > _LINE:
        return False
    said = EnhancedStatus.leading(rest.lstrip(" "))
    if said is None or said[0] != "2":
        said = EnhancedStatus("2.0.0")
    return said == status


def _lines(code: str, status: str, text: bytes) -> tuple[bytes, ...]:
    """Break the text at blanks, as far as lmtp(8) keeps it."""
    room = _LINE - len(f"{code} {status} ")
    pieces: list[bytes] = []
    left = _REPLY
    while text or not pieces:
        left -= _LINE - room
        if left <= 0:
            break
        piece = _first_piece(text, min(room, left))
        text = text[len(piece) :].lstrip(b" ")
        left -= len(piece) + 1
        pieces.append(piece.rstrip(b" "))
    prefix = status.encode() + b" "
    *first, last = pieces
    return (
        *(code.encode() + b"-" + prefix + piece for piece in first),
        (code.encode() + b" " + prefix + last).rstrip(b" "),
    )


def _first_piece(text: bytes, room: int) -> bytes:
    if len(text) <= room:
        return text
    end = text.rfind(b" ", 0, room + 1)
    if end > room // 2:
        return text[:end]
    end = room
    # Not in the middle of a character: the two halves would be logged as "?".
    while end > room - 4 and text[end] & 0xC0 == 0x80:
        end -= 1
    return text[:end]


def _printable(text: str) -> str:
    """Control characters, and bytes that are no UTF-8, as `?`; a line end as blank."""
    if text.isprintable():
        return text.strip(" ")
    return "".join(
        "?" if c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" else c
        for c in text.replace("\n", " ")
    ).strip(" ")
