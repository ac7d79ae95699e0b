"""A message that says what it is: a test."""

from __future__ import annotations

from collections.abc import Sequence

from postfix_trouble import __version__
from postfix_trouble.smtp.address import quote_local, to_bytes


def sample_message(
    sender: str,
    recipients: Sequence[str],
    host: str,
    now: float,
    body: str | None = None,
    attachments: Sequence[tuple[str, str, bytes]] = (),
) -> bytes:
    """A test message (RFC 5322), lines ending in LF.

    Addresses in internal form; `host`: our name, for the Message-ID; `now`: seconds
    since 1970. `body`: in place of our words; `attachments`: own_message.attachment.
    No two have the same Message-ID.
    """
    from email.utils import formatdate, make_msgid

    from postfix_trouble.cli.own_message import mime_part

    identity = make_msgid(domain=host)
    mark = identity.strip("<>").partition("@")[0].rpartition(".")[2][-8:]
    shown = ",\n ".join(map(quote_local, recipients))
    date = formatdate(now, localtime=True)
    lines = (
        f"Date: {date}",
        f"From: {quote_local(sender) or f'postmaster@{host}'}",
        f"To: {shown}",
        f"Subject: Test message {mark} from postfix-trouble",
        f"Message-ID: {identity}",
        f"User-Agent: postfix-trouble/{__version__}",
    )
    words = (
        'This is a test message. Somebody sent it by hand with\n"postfix-trouble send"'
        f" from {host},\n{date}.\n\nThere is nothing to be done about it.\n"
    )
    part = mime_part(words if body is None else body, attachments)
    return to_bytes("\n".join((*lines, ""))) + part
