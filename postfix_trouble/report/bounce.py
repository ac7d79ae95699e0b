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
    parts = (
        (_notification_fields(notification), notification),
        (_status_fields(request, status), status),
        (_copy_fields(request, copy), content),
    )
    # Postfix: queue id, time and host name. Longer if the message has just that.
    boundary = f"{request.queue_id or 'bounce'}.{int(now)}/{system.hostname}"
    while any(b"--" + boundary.encode() in body for _, body in parts):
        boundary += "+"
    fields = _top_fields(request, failed, copy, system, now, threaded)
    mime = [
        ("MIME-Version", "1.0"),
        (
            "Content-Type",
            f'multipart/report; report-type="delivery-status"; boundary="{boundary}"',
        ),
        *_encoding(b"".join(body for _, body in parts)),
    ]
    return b"".join(
        (
            header([*fields, *mime]),
            b"This is a MIME-encapsulated message.\n",
            *(
                b"\n--%s\n%s%s" % (boundary.encode(), header(names), body)
                for names, body in parts
            ),
            b"\n--%s--\n" % boundary.encode(),
        )
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


def _encoding(body: bytes) -> list[tuple[str, str]]:
    word = "7bit" if body.isascii() else "8bit"
    return [("Content-Transfer-Encoding", word)]


def _notification_fields(body: bytes) -> list[tuple[str, str]]:
    charset = "us-ascii" if body.isascii() else "utf-8"
    return [
        ("Content-Description", "Notification"),
        ("Content-Type", f"text/plain; charset={charset}"),
        *_encoding(body),
    ]


def _status_fields(request: DeliveryRequest, body: bytes) -> list[tuple[str, str]]:
    kind = "global-delivery-status" if request.smtputf8 else "delivery-status"
    return [
        ("Content-Description", "Delivery report"),
        ("Content-Type", f"message/{kind}"),
        *_encoding(body),
    ]


def _copy_fields(request: DeliveryRequest, copy: Copy) -> list[tuple[str, str]]:
    if copy.whole:
        description = "Undelivered Message"
        kind = "message/global" if request.smtputf8 else "message/rfc822"
    else:
        description = "Undelivered Message Headers"
        kind = "message/global-headers" if request.smtputf8 else "text/rfc822-headers"
    return [
        ("Content-Description", description),
        ("Content-Type", kind),
        *_encoding(copy.content),
    ]
