"""STARTTLS, after Postfix smtp_start_tls. Loaded where a policy asks for TLS."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.steps import HandshakeFailed, Phase, StartTls
from postfix_trouble.core.tls import RequireTls, TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.policy.trouble import Fail
from postfix_trouble.tls import level as tls_level
from postfix_trouble.tls.level import Go

if TYPE_CHECKING:
    from postfix_trouble.core.tls import TlsFacts
    from postfix_trouble.smtp.session import Script, Session
    from postfix_trouble.tls.level import Fork


def start_tls(session: Session) -> Script[bool | None]:
    """Ask for TLS if it is offered. None if the session failed over it.

    True: TLS is on, and EHLO comes next. False: go on in the clear.
    """
    level, offered = session.tls_policy.level, session.capabilities.starttls
    fork = tls_level.starttls_fork(level, offered)
    if fork.go is Go.STARTTLS:
        reply = yield from session.ask(b"STARTTLS", Phase.STARTTLS)
        if isinstance(reply, Lost):
            session.stream_except(reply, Phase.STARTTLS)
            return None
        if reply.klass == 2:
            return True if (yield from shake_hands(session)) else None
        fork = tls_level.refused_fork(level)
        refusal = reply.oneline
        # Before 3.11, only where it is a must.
        told = fork.go is not Go.PLAINTEXT or session.settings.follows("3.11")
    else:
        reply, refusal = Reply.local(fork.status), ""
        strict = session.tls_policy.requiretls >= RequireTls.OPPORTUNISTIC_STARTTLS
        told = strict or fork.go is not Go.PLAINTEXT or _tried_out(session)
    if told and _reported(session):
        from postfix_trouble.tls.tlsrpt import NOT_SUPPORTED

        yield NOT_SUPPORTED._replace(hello=session.hello)
    if fork.go is not Go.STARTTLS and session.tls_policy.requiretls:
        from postfix_trouble.policy import requiretls

        unmet = requiretls.no_starttls(
            session.tls_policy.requiretls, session.relay.namaddr, refusal
        )
        if unmet is not None:
            status = session.attempt.tls.requiretls_unmet("nostarttls")
            if fork.go is not Go.PLAINTEXT:
                status = status.level_unmet()
            session.attempt.tls = status
            session.requirement_failed(unmet)
            return None
    if fork.go is Go.PLAINTEXT:
        return False
    session.attempt.tls = session.attempt.tls.level_unmet()
    _tls_failed(session, fork, reply)
    return None


def shake_hands(session: Session) -> Script[bool]:
    """The handshake, and whether the server is who it should be. False: it failed."""
    answer: TlsFacts | HandshakeFailed = yield StartTls()
    level = session.tls_policy.level
    if _reported(session):
        yield from _report(session, answer)
    if isinstance(answer, HandshakeFailed):
        fork = tls_level.handshake_fork(level, answer.setting)
        flags = Fail.THROTTLE if fork.throttle else Fail.NONE
        session.handshake_failed(flags, Reply.local(fork.status), fork.text)
        return False
    session.tls = answer
    session.reusable &= session.settings.flag("smtp_tls_connection_reuse")
    unmatched = tls_level.match_fork(level, answer)
    attempt = session.attempt
    if unmatched is not None:
        from postfix_trouble.policy import requiretls

        attempt.tls = attempt.tls.level_unmet()
        unmet = requiretls.not_matched(
            session.tls_policy.requiretls,
            session.relay.namaddr,
            trusted=answer.trusted,
        )
        if unmet is not None:
            attempt.tls = attempt.tls.requiretls_unmet("nocertmatch")
            session.requirement_failed(unmet)
            return False
        attempt.tls = attempt.tls.requiretls_met("nocertmatch")
        _tls_failed(session, unmatched, Reply.local(unmatched.status))
        return False
    # What DANE came to, where no record could be compared with.
    attempt.tls = attempt.tls.level_met("encrypt" if level is TlsLevel.ENCRYPT else "")
    return True


def _reported(session: Session) -> bool:
    """Whether somebody may want to know (TLSRPT)."""
    return not session.lmtp and session.settings.flag("smtp_tlsrpt_enable")


def _tried_out(session: Session) -> bool:
    if session.tls_policy.sts is None:
        return False
    from postfix_trouble.tls.tlsrpt import tried_out

    return tried_out(session.tls_policy, session.settings)


def _report(session: Session, answer: TlsFacts | HandshakeFailed) -> Script[None]:
    from postfix_trouble.tls import tlsrpt

    policy, resumed = session.tls_policy, False
    known = tlsrpt.before_handshake(policy)
    if isinstance(answer, HandshakeFailed):
        if answer.setting:
            # Ours is the fault.
            return
        result = known or tlsrpt.HANDSHAKE_FAILED
    else:
        trial = tlsrpt.tried_out(policy, session.settings)
        result = known or tlsrpt.after_handshake(policy, answer, trial=trial)
        resumed = answer.resumed
    yield result._replace(hello=session.hello, resumed=resumed)


def _tls_failed(session: Session, fork: Fork, reply: Reply) -> None:
    reason = fork.text.format(namaddr=session.relay.namaddr, reply=reply.oneline)
    session.site_fail(reply, reason)
