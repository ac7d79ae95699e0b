"""The command lines of a transaction and their parameters (RFC 5321, 3461, 6531)."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.steps import Phase
from postfix_trouble.core.tls import RequireTls
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.smtp import address

if TYPE_CHECKING:
    from postfix_trouble.core.envelope import Recipient
    from postfix_trouble.smtp.session import Session

# Attribute, its name in XFORWARD, whether "unknown" means that it isn't known.
_XFORWARD_NAME = (
    ("log_client_name", "NAME", True),
    ("log_client_address", "ADDR", True),
    ("log_client_port", "PORT", True),
)
_XFORWARD_HELO = (
    ("log_protocol_name", "PROTO", True),
    ("log_helo_name", "HELO", False),
    ("log_ident", "IDENT", False),
)


class SmtpCommand(Value):
    """One command of the envelope."""

    line: bytes
    phase: Phase
    recipient: Recipient | None = None


def must_convert(session: Session) -> bool:
    """Whether 8-bit MIME parts must become quoted-printable for this server."""
    return not (
        session.capabilities.eightbitmime
        or session.request.encoding == "7bit"
        or session.settings.flag("disable_mime_output_conversion")
    )


def envelope(session: Session) -> tuple[SmtpCommand, ...]:
    """All commands before the message, in order."""
    return (
        *_xforward(session),
        SmtpCommand(_mail(session), Phase.MAIL),
        *(
            SmtpCommand(_rcpt(session, r), Phase.RCPT, r)
            for r in session.attempt.unmarked
        ),
        SmtpCommand(b"DATA", Phase.DATA),
    )


def _mailbox(session: Session, text: str) -> bytes:
    """An address between its brackets: rewritten, then quoted."""
    if text:
        text = session.rewrite(text)
        if session.settings.flag("smtp_quote_rfc821_envelope"):
            text = address.quote_local(text)
    return b"<" + address.to_bytes(text) + b">"


def _mail(session: Session) -> bytes:
    request, offered = session.request, session.capabilities
    words = [b"MAIL FROM:" + _mailbox(session, request.sender)]
    if offered.size and not must_convert(session):
        words.append(b"SIZE=%d" % request.size)
    if offered.eightbitmime and request.encoding in ("7bit", "8bit"):
        words.append(b"BODY=8BITMIME" if request.encoding == "8bit" else b"BODY=7BIT")
    if offered.dsn and request.envid:
        words.append(b"ENVID=" + address.xtext(request.envid).encode("ascii"))
    asked = session.tls_policy.requiretls > RequireTls.DISABLE
    if offered.dsn and asked and not session.requiretls:
        # RFC 8689 section 5: the text must not come back by ways that are not safe.
        words.append(b"RET=HDRS")
    elif offered.dsn and request.ret:
        words.append(b"RET=" + request.ret.upper().encode("ascii"))
    if offered.smtputf8 and request.smtputf8:
        words.append(b"SMTPUTF8")
    if asked and session.requiretls:
        words.append(b"REQUIRETLS")
    if offered.auth is not None and session.settings.flag("smtp_send_dummy_mail_auth"):
        words.append(b"AUTH=<>")
    return b" ".join(words)


def _rcpt(session: Session, recipient: Recipient) -> bytes:
    words = [b"RCPT TO:" + _mailbox(session, recipient.address)]
    if session.capabilities.dsn:
        orcpt = _orcpt(recipient, session.request.smtputf8)
        if orcpt:
            words.append(b"ORCPT=" + address.to_bytes(orcpt))
        if recipient.notify:
            words.append(b"NOTIFY=" + recipient.notify.encode("ascii"))
    return b" ".join(words)


def _orcpt(recipient: Recipient, smtputf8: bool) -> str:
    """Original recipient as `type;encoded address`; empty if not known."""
    if recipient.orcpt:
        kind, _, text = recipient.orcpt.partition(";")
    elif recipient.original:
        text = address.quote_local(recipient.original)
        kind = "utf-8" if smtputf8 and not text.isascii() else "rfc822"
    else:
        return ""
    if kind.lower() == "utf-8":
        encoded = address.uxtext(text)
        return f"{kind};{encoded}" if encoded is not None else ""
    # The type comes from afar, too.
    return f"{address.xtext(kind)};{address.xtext(text)}"


def _xforward(session: Session) -> list[SmtpCommand]:
    """Who gave us this message, for a server that wants to know (XFORWARD_README)."""
    if not session.settings.flag("smtp_send_xforward_command"):
        return []
    offered, known = session.capabilities.xforward, session.request.attributes

    def words(rows: tuple[tuple[str, str, bool], ...]) -> list[str]:
        found = []
        for attribute, name, may_be_unknown in rows:
            text = known.get(attribute, "")
            if name in offered and text and not (may_be_unknown and text == "unknown"):
                found.append(f"{name}={_xforward_text(text)}")
        return found

    first, second = words(_XFORWARD_NAME), words(_XFORWARD_HELO)
    if "SOURCE" in offered:
        local = known.get("rewrite_context") == "local"
        second.append("SOURCE=LOCAL" if local else "SOURCE=REMOTE")
    out = []
    for what, phase in ((first, Phase.XFORWARD_NAME), (second, Phase.XFORWARD_HELO)):
        if what:
            line = " ".join(["XFORWARD", *what]).encode("ascii")
            out.append(SmtpCommand(line, phase))
    return out


def _xforward_text(text: str) -> str:
    # As RFC 1891 xtext, but "=" may stand for itself here.
    return address.xtext(text).replace("+3D", "=")
