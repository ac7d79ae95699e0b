"""From the greeting to the log-in, after Postfix smtp_helo.

Returns True when the server is ready for a transaction. Otherwise all recipients are
marked, and the caller hangs up.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import Authenticate, AuthFailed, LookUp, Note, Phase
from postfix_trouble.core.tls import TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.smtp import capabilities

if TYPE_CHECKING:
    from postfix_trouble.smtp.session import Script, Session

# A greeting that consists of these only comes through a PIX firewall.
_PIX_GREETING = frozenset("20 *\n")


def handshake(session: Session) -> Script[bool]:
    """Greeting, EHLO or HELO, STARTTLS, AUTH."""
    if session.tls_policy.wrappermode:
        from postfix_trouble.smtp.starttls import shake_hands

        if not (yield from shake_hands(session)):
            return False
    esmtp = yield from _greeting(session)
    if esmtp is None:
        return False
    return (yield from _introduce(session, esmtp=esmtp))


def _greeting(session: Session) -> Script[bool | None]:
    """Read the greeting. Whether EHLO comes next, or None if that was all."""
    reply = yield from session.read(Phase.GREETING)
    if isinstance(reply, Lost):
        session.stream_except(reply, Phase.GREETING)
        return None
    if reply.klass != 2:
        if reply.klass == 5 and session.settings.flag("smtp_skip_5xx_greeting"):
            reply = reply._replace(status=reply.status.softened())
        _refused(session, reply)
        return None
    text = reply.text[4:]
    if _PIX_GREETING.issuperset(text) and not (yield from _pix(session)):
        return None
    words = text.split()
    if words and _is_me(session, words[0]):
        me = session.settings.text("myhostname")
        yield from session.warn(
            f"host {session.relay.namaddrport} greeted me with my own hostname {me}"
        )
    disable = "disable_esmtp" in session.pix_workarounds
    if session.settings.flag("smtp_never_send_ehlo") or disable:
        return session.lmtp
    if session.settings.flag("smtp_always_send_ehlo"):
        return True
    return session.lmtp or any(word.upper() == "ESMTP" for word in words)


def _pix(session: Session) -> Script[bool]:
    """Look up the workarounds for this firewall. False if that can't be done."""
    found = yield LookUp("smtp_pix_workaround_maps", session.relay.address)
    if isinstance(found, Lost):
        session.stream_except(found, Phase.GREETING)
        return False
    if found is None:
        found = session.settings.text("smtp_pix_workarounds")
    words = found.replace(",", " ").lower().split()
    if words:
        session.pix_workarounds = frozenset(words)
        listed, relay = " ".join(words), session.relay.namaddrport
        yield Note(f"enabling PIX workarounds: {listed} for {relay}")
    return True


def _introduce(session: Session, *, esmtp: bool) -> Script[bool]:
    """Say who we are, and go on with what the server can do."""
    if not (yield from _hello(session, esmtp=esmtp)):
        return False
    if not _features_suffice(session):
        return False
    asked = session.tls is not None and session.tls_policy.requiretls
    if asked and not (yield from _requiretls(session)):
        return False
    if session.tls_policy.level is TlsLevel.NONE:
        yield from _note_offer(session)
    elif session.tls is None:
        # Not loaded where TLS is off.
        from postfix_trouble.smtp.starttls import start_tls

        started = yield from start_tls(session)
        if started is None:
            return False
        if started:
            # What was offered in the clear is forgotten: the second EHLO counts.
            return (yield from _introduce(session, esmtp=True))
    if session.tls is None:
        status = session.attempt.tls.level_met("none").requiretls_met("none")
        session.attempt.tls = status
    return (yield from _log_in(session))


# --- EHLO, HELO, LHLO ---------------------------------------------------------------


def _hello(session: Session, *, esmtp: bool) -> Script[bool]:
    session.capabilities = capabilities.Capabilities()
    name = session.settings.text("smtp_helo_name").encode("utf-8", "surrogateescape")
    if esmtp:
        verb, phase = (b"LHLO ", Phase.LHLO) if session.lmtp else (b"EHLO ", Phase.EHLO)
        reply = yield from session.ask(verb + name, phase)
        if isinstance(reply, Lost):
            session.stream_except(reply, phase)
            return False
        if reply.klass == 2:
            session.hello = session.hello if session.tls else reply.text
            return (yield from _read_capabilities(session, reply, phase))
        if session.lmtp or reply.code == 421:
            _refused(session, reply)
            return False
    reply = yield from session.ask(b"HELO " + name, Phase.HELO)
    if isinstance(reply, Lost):
        session.stream_except(reply, Phase.HELO)
        return False
    if reply.klass != 2:
        _refused(session, reply)
        return False
    session.hello = reply.text
    return True


def _read_capabilities(session: Session, reply: Reply, phase: Phase) -> Script[bool]:
    settings, relay = session.settings, session.relay
    words = yield LookUp("smtp_discard_ehlo_keyword_address_maps", relay.address)
    if isinstance(words, Lost):
        session.stream_except(words, phase)
        return False
    if words is None:
        words = settings.text("smtp_discard_ehlo_keywords")
    discard = capabilities.discarded(words)
    if discard and "silent-discard" not in discard:
        separator = ", " if settings.follows("3.12") else " "
        listed = separator.join(sorted(discard)).upper()
        yield Note(f"discarding EHLO keywords: {listed}")
    offered = capabilities.parse(reply.text, discard)
    for size in offered.bad_sizes:
        yield from session.warn(
            f'bad EHLO SIZE limit "{size}" from {relay.namaddrport}'
        )
    if not settings.flag("smtp_sasl_auth_enable"):
        offered = offered._replace(auth=None)
    if offered.smtputf8 and not offered.eightbitmime:
        yield Note(f"host {relay.namaddr} offers SMTPUTF8 support, but not 8BITMIME")
        offered = offered._replace(eightbitmime=True)
    session.capabilities = offered
    if _is_me(session, offered.helo_name) and not session.request.server_named:
        yield from _loops_back(session)
        return False
    return True


def _is_me(session: Session, name: str) -> bool:
    """Whether a server on port 25 calls itself by our name."""
    if session.lmtp or session.destination.port != 25:
        return False
    return name.lower() == session.settings.text("myhostname").lower()


def _loops_back(session: Session) -> Script[None]:
    me = session.settings.text("myhostname")
    yield from session.warn(
        f"host {session.relay.namaddrport} replied to HELO/EHLO"
        f" with my own hostname {me}"
    )
    status = "5.4.6" if session.relay.best else "4.4.6"
    session.site_fail(
        Reply.local(status), f"mail for {session.request.nexthop} loops back to myself"
    )


def _refused(session: Session, reply: Reply) -> None:
    session.site_fail(
        reply, f"host {session.relay.namaddr} refused to talk to me: {reply.oneline}"
    )


def _features_suffice(session: Session) -> bool:
    """SMTPUTF8 must be offered, in the clear too, if the message needs it."""
    needed = session.request.needs_smtputf8
    if session.capabilities.smtputf8 or not needed:
        return True
    where, status = session.relay.namaddr, EnhancedStatus("5.6.7")
    if session.settings.follows("3.11"):
        text = (
            "message requires SMTPUTF8, but no server was found that supports"
            f" SMTPUTF8. The last attempted server was {where}"
        )
        session.requirement_failed(DSN(status, text))
    else:
        text = f"SMTPUTF8 is required, but was not offered by host {where}"
        session.mesg_fail(Reply.local(status), text)
    return False


def _requiretls(session: Session) -> Script[bool]:
    """Whether the server may have mail whose sender asked for REQUIRETLS."""
    attempt, facts = session.attempt, session.tls
    if session.requiretls:
        matched = facts is not None and facts.matched
        attempt.tls = attempt.tls.requiretls_met("" if matched else "nocertmatch")
        return True
    from postfix_trouble.policy.requiretls import not_supported

    why = not_supported(session.tls_policy.requiretls, session.relay.namaddr)
    unmet, met = attempt.tls.requiretls_unmet, attempt.tls.requiretls_met
    attempt.tls = (unmet if why.status else met)("none")
    if why.status:
        session.requirement_failed(why)
        return False
    yield Note(why.reason)
    return True


def _note_offer(session: Session) -> Script[None]:
    wanted = session.settings.flag("smtp_tls_note_starttls_offer")
    if wanted and session.capabilities.starttls:
        yield Note(f"Host offered STARTTLS: [{session.relay.host}]")


# --- AUTH ---------------------------------------------------------------------------


def _log_in(session: Session) -> Script[bool]:
    """Log in where AUTH is offered and a password is known. Never without, then."""
    offered = session.capabilities.auth
    if offered is None:
        if not session.request.auth_required:
            return True
        session.sess_fail(_no_auth(session))
        return False
    # AUTH has no words and no limit of its own: a connection that breaks meanwhile
    # was lost in what came before it.
    phase = session.phase
    mechanisms = tuple(offered.upper().split())
    answer = yield Authenticate(mechanisms, session.tls, phase)
    if isinstance(answer, Lost):
        session.stream_except(answer, phase)
        return False
    if isinstance(answer, AuthFailed):
        from postfix_trouble.sasl.choose import failure

        soft = session.settings.flag("smtp_sasl_auth_soft_bounce")
        program = "lmtp" if session.lmtp else "smtp"
        why = failure(answer, session.relay, soft=soft, program=program)
        session.sess_fail(why)
        return False
    if answer is None:
        # Without a password we are strangers: no AUTH=<> either.
        session.capabilities = session.capabilities._replace(auth=None)
    return True


def _no_auth(session: Session) -> DSN:
    """A person asked for a log-in. (Postfix sends without one.)"""
    text = f"AUTH was asked for, but was not offered by host {session.relay.namaddr}"
    if session.tls is None and session.capabilities.starttls:
        text += " without TLS; it offers STARTTLS"
    return DSN(EnhancedStatus("4.7.0"), text)
