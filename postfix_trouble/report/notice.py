"""The transcript of a session that went wrong, for the postmaster (smtp_chat_notify).

It may hold whatever the server said, but no secret: the wire masks them as they are
sent, and this module does it again for what looks like AUTH (RFC 4954).
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from postfix_trouble.core.outcome import ServerRecord
from postfix_trouble.report.log import printable
from postfix_trouble.report.mail_system import MailSystem, header, wrapped

# Lines of a transcript that are kept: its beginning and its end; and bytes of each.
_FIRST, _LAST, _LONGEST = 120, 80, 998
_HIDDEN = "<hidden>"
_AUTH = re.compile(r"\s*(AUTH)\b\s*([A-Z0-9_-]{0,20})", re.IGNORECASE)
_CHALLENGE = re.compile(r"334[ -]")


def wanted(
    record: ServerRecord, classes: Collection[str], sender: str, double_bounce: str
) -> bool:
    """Whether the postmaster is to have this one.

    `classes`: notify_classes. Mail from the null sender, or from the address that our
    own notices come from, is never answered with another notice.
    """
    if not record.transcript or not set(record.errors) & set(classes):
        return False
    return bool(sender) and sender.lower() != double_bounce.lower()


def build(
    record: ServerRecord,
    system: MailSystem,
    recipient: str,
    *,
    now: float,
    queue_id: str = "",
    lmtp: bool = False,
) -> bytes:
    """Write the notice, lines ending in LF, for sendmail(1).

    `recipient`: error_notice_recipient. `now`: seconds since 1970.
    """
    client = f"{system.name} {'LMTP' if lmtp else 'SMTP'} client"
    server = record.relay.namaddrport
    lines = [f"Unexpected response from {server}.", ""]
    lines += ["Transcript of session follows.", ""]
    lines += [_indented(line) for line in _lines(record)]
    lines += ["", "For other details, see the local mail logfile", ""]
    body = "\n".join(lines).encode()
    fields = [
        *system.opening(now, queue_id, f"notice {server}"),
        ("To", system.mailbox(recipient, "Postmaster")),
        ("Subject", f"{client}: errors from {server}"),
        ("Auto-Submitted", "auto-generated"),
    ]
    if not body.isascii():
        fields += [
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
        ]
    return header(fields) + body


def log_lines(record: ServerRecord) -> tuple[str, ...]:
    """The same for the log, one record per line, without queue id."""
    server = record.relay.namaddrport
    classes = ", ".join(record.errors)
    first = f"{classes} error: transcript of session with {server} follows"
    return tuple(printable(line) for line in (first, *_lines(record)))


def _indented(line: str) -> str:
    """One blank before each line; wrapped to 78 columns, not counting the blank."""
    return "\n".join(f" {part}" for part in wrapped(line, 78).split("\n"))


def _lines(record: ServerRecord) -> list[str]:
    """The dialogue, masked and cut."""
    lines = [line[:_LONGEST] for line in _dialogue(record)]
    left_out = len(lines) - _FIRST - _LAST
    if left_out > 0:
        lines[_FIRST:-_LAST] = [f"({left_out} lines left out)"]
    return lines


def _dialogue(record: ServerRecord) -> Iterator[str]:
    """All lines as Postfix writes them: direction, a blank, and what was said."""
    exchange = False
    for direction, line in record.transcript:
        if direction.startswith("Out"):
            auth = _AUTH.match(line)
            if auth:
                exchange, line = True, f"{auth[1]} {auth[2]} {_HIDDEN}"
            elif exchange:
                line = _HIDDEN
        elif exchange and _CHALLENGE.match(line):
            line = f"{line[:4]}{_HIDDEN}"
        elif direction.startswith("In"):
            exchange = False
        if direction.startswith("Replaced"):
            yield direction
            yield f"     {line}"
        else:
            yield f"{direction} {line}"
