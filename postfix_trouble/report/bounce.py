"""The report of what can't be delivered, for the sender (RFC 3464).

Laid out field by field as Postfix's bounce(8) does, so that who reads or parses
those reads ours.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterable, Sequence

from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import Outcome
from postfix_trouble.core.value import Value
from postfix_trouble.report.log import printable
from postfix_trouble.report.mail_system import MailSystem, date, header, wrapped
from postfix_trouble.smtp.address import quote_local

# Bytes of header that are returned at most (Postfix: header_size_limit).
_HEADER_LIMIT = 102400

_NOTIFICATION = """\
This is the mail system at host {host}.

I am sorry: your message could not be delivered to one or more of
its recipients. They are listed below, each with the reason, and
the message or its header is attached.

If you need help, please write to {postmaster} and send this
report along. Your own text you may leave out.

                   The mail system
"""


class Copy(Value):
    """What of a message goes back to its sender."""

    content: bytes
    # The whole message, else only its header.
    whole: bool


def build(
    request: DeliveryRequest,
    failed: Sequence[Outcome],
    original: Iterable[bytes],
    system: MailSystem,
    *,
    now: float,
    arrival: float,
    size_limit: int = 50000,
    threaded: bool = False,
) -> bytes:
    """Write the report, lines ending in LF, for sendmail(1).

    `failed`: the recipients to report; all of them have failed now, also those whose
    status is of class 4. `original`: the message, lines ending in LF, of which no
    more is read than is needed. `now`, `arrival` (of the message): seconds since
    1970. `size_limit`: bounce_size_limit, bytes, 0 for none. `threaded`:
    enable_threaded_bounces.
    """
    copy = returned(original, size_limit, headers_only=request.ret == "hdrs")
    notification = _notification(failed, system).encode()
    status = _delivery_status(request, failed, system, arrival).encode()
    content = f"Return-Path: <{printable(quote_local(request.sender))}>\n".encode()
    content += copy.content
    charset = "us-ascii" if notification.isascii() else "utf-8"
    worldwide = "global-" if request.smtputf8 else ""
    parts = (
        _part("Notification", f"text/plain; charset={charset}", notification),
        _part("Delivery report", f"message/{worldwide}delivery-status", status),
        _part(*_kind_of_copy(request, copy), content),
    )
    # Postfix: queue id, time and host name. Longer if the message has just that.
    boundary = f"{request.queue_id or 'bounce'}.{int(now)}/{system.hostname}"
    while any(b"--" + boundary.encode() in part for part in parts):
        boundary += "+"
    fields = _top_fields(request, failed, copy, system, now, threaded)
    mime = [
        ("MIME-Version", "1.0"),
        (
            "Content-Type",
            f'multipart/report; report-type="delivery-status"; boundary="{boundary}"',
        ),
        _encoding(b"".join(parts)),
    ]
    opening = header([*fields, *mime]) + b"This is a MIME-encapsulated message.\n"
    line = b"\n--%s" % boundary.encode()
    return (
        opening + b"".join(b"%s\n%s" % (line, part) for part in parts) + line + b"--\n"
    )


def returned(
    original: Iterable[bytes], size_limit: int, *, headers_only: bool = False
) -> Copy:
    """Take the message if it is no longer than the limit, else its header.

    At most the limit, or 100 kbytes, and one chunk are read and kept.
    """
    kept = bytearray()
    for chunk in original:
        kept += chunk
        if headers_only and b"\n\n" in kept:
            break
        if size_limit and len(kept) > max(size_limit, _HEADER_LIMIT):
            break
    content = bytes(kept).replace(b"\r\n", b"\n")
    if not headers_only and (not size_limit or len(content) <= size_limit):
        return Copy(content, whole=True)
    head = b"" if content.startswith(b"\n") else content.split(b"\n\n", 1)[0]
    if len(head) > _HEADER_LIMIT:
        head = head[:_HEADER_LIMIT].rpartition(b"\n")[0]
    return Copy(head.rstrip(b"\n") + b"\n", whole=False)


def _top_fields(
    request: DeliveryRequest,
    failed: Sequence[Outcome],
    copy: Copy,
    system: MailSystem,
    now: float,
    threaded: bool,
) -> list[tuple[str, str]]:
    addresses = " ".join(outcome.recipient.address for outcome in failed)
    fields = [
        *system.opening(now, request.queue_id, addresses),
        ("Subject", "Undelivered Mail Returned to Sender"),
        ("To", quote_local(request.sender)),
        ("Auto-Submitted", "auto-replied"),
    ]
    if threaded:
        from email.parser import BytesHeaderParser

        found = str(BytesHeaderParser().parsebytes(copy.content)["Message-ID"] or "")
        identity = " ".join(found.split())
        if identity:
            fields += [("References", identity), ("In-Reply-To", identity)]
    return fields


def _notification(failed: Sequence[Outcome], system: MailSystem) -> str:
    postmaster = system.qualified("postmaster")
    paragraphs = [_NOTIFICATION.format(host=system.hostname, postmaster=postmaster)]
    for recipient, _, dsn, *_ in failed:
        name = f"<{quote_local(recipient.address)}>"
        if _was_rewritten(recipient):
            name += f" (expanded from <{quote_local(recipient.original)}>)"
        paragraphs.append(wrapped(f"{name}: {dsn.reason}") + "\n")
    return "\n".join(paragraphs)


def _delivery_status(
    request: DeliveryRequest,
    failed: Sequence[Outcome],
    system: MailSystem,
    arrival: float,
) -> str:
    """The part for programs (RFC 3464 2.1): the message's fields, then blocks."""
    mail = "".join(c if c.isalnum() else "-" for c in system.name)
    sender = quote_local(request.sender) or system.qualified("MAILER-DAEMON")
    block = [("Reporting-MTA", f"dns; {system.hostname}")]
    if request.envid:
        block.append(("Original-Envelope-Id", request.envid))
    if request.queue_id:
        block.append((f"X-{mail}-Queue-ID", request.queue_id))
    block.append((f"X-{mail}-Sender", f"{_type(request, sender)}; {sender}"))
    block.append(("Arrival-Date", date(arrival)))
    blocks = [block, *(_recipient_block(request, outcome) for outcome in failed)]
    return "\n".join(
        "".join(wrapped(f"{name}: {value}") + "\n" for name, value in fields)
        for fields in blocks
    )


def _recipient_block(
    request: DeliveryRequest, outcome: Outcome
) -> list[tuple[str, str]]:
    recipient, dsn = outcome.recipient, outcome.dsn
    address = quote_local(recipient.address)
    block = [("Final-Recipient", f"{_type(request, address)}; {address}")]
    if recipient.orcpt:
        block.append(("Original-Recipient", recipient.orcpt))
    elif _was_rewritten(recipient):
        original = quote_local(recipient.original)
        block.append(("Original-Recipient", f"{_type(request, original)}; {original}"))
    block += [("Action", "failed"), ("Status", dsn.status)]
    if dsn.remote_mta:
        block.append(("Remote-MTA", f"dns; {dsn.remote_mta}"))
    if dsn.diagnostic:
        diagnostic = f"{dsn.diagnostic_type or 'smtp'}; {dsn.diagnostic}"
    else:
        diagnostic = f"X-Postfix; {dsn.reason}"
    block.append(("Diagnostic-Code", diagnostic))
    return block


def _type(request: DeliveryRequest, address: str) -> str:
    """Address type: RFC 6533 for what is not ASCII, if the sender knows that."""
    return "utf-8" if request.smtputf8 and not address.isascii() else "rfc822"


def _was_rewritten(recipient: Recipient) -> bool:
    original = recipient.original
    return bool(original) and original.lower() != recipient.address.lower()


def _kind_of_copy(request: DeliveryRequest, copy: Copy) -> tuple[str, str]:
    """How what goes back is described, and its content type."""
    if copy.whole:
        kind = "message/global" if request.smtputf8 else "message/rfc822"
        return "Undelivered Message", kind
    kind = "message/global-headers" if request.smtputf8 else "text/rfc822-headers"
    return "Undelivered Message Headers", kind


def _encoding(body: bytes) -> tuple[str, str]:
    return "Content-Transfer-Encoding", "7bit" if body.isascii() else "8bit"


def _part(description: str, kind: str, body: bytes) -> bytes:
    """A part with its header."""
    fields = [("Content-Description", description), ("Content-Type", kind)]
    return header([*fields, _encoding(body)]) + body
