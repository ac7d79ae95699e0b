"""The message that `send` sends: headers, text and attachments as they were asked for,
and the recipients that its headers name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

import click

from postfix_trouble import __version__
from postfix_trouble.core.value import Value
from postfix_trouble.report.log import printable
from postfix_trouble.smtp.address import quote_local, to_bytes
from postfix_trouble.terminal import screen

_FIELD = re.compile(r"(?P<name>[!-9;-~]+)[ \t]*:(?P<value>(?:.|\n[ \t])*)")
_HEADER = re.compile(rb"(?:[!-9;-~]+[ \t]*:.*\n(?:[ \t].*\n)*)*")
_BLIND = ("Bcc", "Resent-Bcc")


class OwnMessage(Value):
    """What was asked for."""

    # Of --message; None: the test message.
    content: bytes | None
    # `Name: value`
    fields: tuple[str, ...]
    body: str | None
    # File name, media type and content of each.
    attachments: tuple[tuple[str, str, bytes], ...]

    @property
    def header(self) -> bytes:
        """The header as far as a person chose it."""
        return with_fields(self.content or b"\n", self.fields, utf8=True)

    def public(self) -> OwnMessage:
        """The same without the fields that only we may see."""
        hidden = tuple(f"{name.lower()}:" for name in _BLIND)
        return self._replace(
            content=self.content and _without(self.content, _BLIND),
            fields=tuple(x for x in self.fields if not x.lower().startswith(hidden)),
        )


def given(
    path: str | None, fields: Sequence[str], body: str | None, attached: Sequence[str]
) -> OwnMessage:
    """What the options say. Raises click.UsageError."""
    if path is not None and (body is not None or attached):
        option = "--attach" if attached else "--body"
        raise click.UsageError(
            f"{option} is for the test message: --message is sent as it is"
        )
    for field in fields:
        if not _FIELD.fullmatch(field):
            raise click.UsageError(
                f"--header {printable(field)}: 'Name: value' expected"
            )
    content = None if path is None else _read(path)
    attachments = tuple(_attachment(one) for one in attached)
    return OwnMessage(content, tuple(fields), body, attachments)


def _read(path: str) -> bytes:
    """A message with LF line ends, as the engine wants it. Raises click.UsageError."""
    if path == "-" and os.isatty(0):
        screen.complain("Type the message, header first; end it with Ctrl-D.")
    try:
        if path == "-":
            content = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                content = file.read()
    except OSError as problem:
        raise click.UsageError(f"--message {path}: {problem.strerror}") from None
    first = content.partition(b"\n")[0]
    return content.replace(b"\r\n", b"\n") if first.endswith(b"\r") else content


def _attachment(path: str) -> tuple[str, str, bytes]:
    """File name, media type and content. Raises click.UsageError."""
    from mimetypes import guess_type

    media_type, encoded = guess_type(path)
    if encoded or not media_type or media_type.startswith(("message/", "multipart/")):
        media_type = "application/octet-stream"
    try:
        with open(path, "rb") as file:
            return os.path.basename(path), media_type, file.read()
    except OSError as problem:
        raise click.UsageError(f"--attach {path}: {problem.strerror}") from None


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
    since 1970. `body`: in place of our words; `attachments`: file name, media type and
    content of each.
    No two have the same Message-ID.
    """
    from email.utils import formatdate, make_msgid

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


def mime_part(body: str, attachments: Sequence[tuple[str, str, bytes]]) -> bytes:
    """Content headers, an empty line and the content; lines end in LF.

    `attachments`: file name, media type and content of each.
    """
    from email.message import EmailMessage
    from email.policy import default

    # No server needs 8BITMIME for it.
    part = EmailMessage(policy=default.clone(cte_type="7bit"))
    part.set_content(body, charset="us-ascii" if body.isascii() else "utf-8")
    for name, media_type, content in attachments:
        main, _, sub = media_type.partition("/")
        part.add_attachment(content, maintype=main, subtype=sub, filename=name)
    return part.as_bytes()


def with_fields(content: bytes, fields: Sequence[str], *, utf8: bool) -> bytes:
    """The message with these header fields, in place of those of the same names.

    `fields` are `Name: value`. What is not ASCII is encoded (RFC 2047) unless `utf8`.
    """
    if not fields:
        return content
    from email.header import Header

    names, lines = [], []
    for field in fields:
        found = _FIELD.fullmatch(field)
        assert found, "see given()"
        name, value = found["name"], found["value"].strip(" \t")
        if not utf8 and not value.isascii():
            value = Header(value, "utf-8", header_name=name).encode()
        names.append(name)
        lines.append(f"{name}: {value}\n".encode("utf-8", "surrogateescape"))
    header, rest = _parts(_without(content, names))
    # Where the header ends without an empty line, it has none after it.
    gap = b"" if rest[:1] in (b"", b"\n") else b"\n"
    return header + b"".join(lines) + gap + rest


def has_header(content: bytes) -> bool:
    """Whether the message begins with a header field."""
    return bool(_parts(content)[0])


def addressees(content: bytes) -> list[str]:
    """Whom the header names, as sendmail -t has it: To, Cc and Bcc, or where there is
    any Resent- field, those with Resent- before them."""
    from email import message_from_string
    from email.headerregistry import AddressHeader
    from email.policy import default

    text = _parts(content)[0].decode("utf-8", "replace")
    header = message_from_string(text, policy=default)
    resent = any(name.lower().startswith("resent-") for name in header)
    found: dict[str, None] = {}
    for name in ("To", "Cc", "Bcc"):
        for field in header.get_all(f"Resent-{name}" if resent else name, []):
            assert isinstance(field, AddressHeader)
            found |= dict.fromkeys(one.addr_spec for one in field.addresses)
    return [one for one in found if one not in ("", "<>")]


def _parts(content: bytes) -> tuple[bytes, bytes]:
    """The header, and what follows it: an empty line and the body."""
    whole = content if content.endswith(b"\n") else content + b"\n"
    found = _HEADER.match(whole)
    end = found.end() if found else 0
    return (whole if end == len(whole) else content)[:end], content[end:]


def _without(content: bytes, names: Sequence[str]) -> bytes:
    header, rest = _parts(content)
    pattern = b"|".join(re.escape(name.encode()) for name in names)
    field = rb"^(?:" + pattern + rb")[ \t]*:.*\n(?:[ \t].*\n)*"
    return re.sub(field, b"", header, flags=re.IGNORECASE | re.MULTILINE) + rest
