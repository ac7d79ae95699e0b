"""From MAIL to QUIT, after Postfix smtp_xfer and smtp_loop.

With PIPELINING several commands leave together and their replies are read together;
without, a group is one command. What follows from a reply is the same either way. Only
when all replies to a group are in can the script change its mind:

    RCPT comes next, but MAIL was refused          RSET instead
    DATA comes next, but nobody was accepted       RSET instead
    DATA was accepted, but nobody was              a lone dot
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.afterwards import warn
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import (
    Note,
    Pause,
    Pending,
    Phase,
    Read,
    Send,
    SendBody,
    Unsendable,
)
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.policy import trouble
from postfix_trouble.smtp import commands

if TYPE_CHECKING:
    from postfix_trouble.core.envelope import Recipient
    from postfix_trouble.smtp.commands import SmtpCommand
    from postfix_trouble.smtp.session import Script, Session

# Bytes of commands that may be under way without a reply (Postfix SMTP_SNDBUF).
_WINDOW = 4096


class _Course(Value):
    """How far the server went along with us."""

    sender_rejected: bool = False
    accepted: tuple[Recipient, ...] = ()
    data_reply: Reply | None = None


def transaction(session: Session) -> Script[None]:
    """Hand the message over. Every recipient is marked when this returns."""
    if _too_big(session):
        # The session ran to its end in a way; it is only closed without a word.
        session.attempt.complete = True
        session.broken = not session.keeping
        yield from session.leave()
        return
    session.attempt.stamps.setup_done = session.attempt.clock()
    session.attempt.connection_use = session.use
    course = yield from _envelope(session)
    if course is not None:
        data = course.data_reply
        if data is not None and data.klass == 3:
            alive = yield from _message(session, course.accepted)
        else:
            # After a strange reply to DATA it is left as one that never was to be kept.
            session.keeping &= data is None or session.reusable
            alive = yield from _reset(session)
        session.attempt.complete |= alive
    if session.broken:
        yield from session.quit()


def probe(session: Session) -> Script[bool]:
    """Ask a connection that was kept whether it is still good (RSET)."""
    reply = yield from session.ask(b"RSET", Phase.PROBE)
    return isinstance(reply, Reply) and reply.klass == 2


def _too_big(session: Session) -> bool:
    size, limit = session.request.size, session.capabilities.size_limit
    if not 0 < limit < size:
        return False
    where = session.relay.namaddr
    session.mesg_fail(
        Reply.local("5.3.4"),
        f"message size {size} exceeds size limit {limit} of server {where}",
    )
    return True


# --- MAIL, RCPT, DATA ---------------------------------------------------------------


def _envelope(session: Session) -> Script[_Course | None]:
    """Everything up to the reply to DATA. None if the connection did not last."""
    todo = commands.envelope(session)
    course = _Course()
    while todo:
        if _off_course(course, todo[0]):
            break
        group = _group(todo, session.capabilities.pipelining)
        todo = todo[len(group) :]
        early = False
        if group[0].phase is Phase.MAIL and session.tls is not None:
            early = yield from _early_reply(session)
        yield Send(tuple(command.line for command in group))
        for command in group:
            reply = yield from session.read(command.phase)
            if isinstance(reply, Lost):
                session.stream_except(reply, command.phase)
                return None
            if early and command.phase is Phase.MAIL:
                session.site_fail(Reply.local("4.7.0"), "unexpected server message")
                course = course._replace(sender_rejected=True)
            else:
                course = yield from _heard(session, command, reply, course)
    return course


def _group(todo: tuple[SmtpCommand, ...], pipelining: bool) -> tuple[SmtpCommand, ...]:
    """The commands that leave together."""
    if not pipelining:
        return todo[:1]
    size = 0
    for count, command in enumerate(todo):
        size += len(command.line) + 2
        if count and size > _WINDOW:
            return todo[:count]
    return todo


def _off_course(course: _Course, following: SmtpCommand) -> bool:
    if following.phase is Phase.RCPT:
        return course.sender_rejected
    return following.phase is Phase.DATA and not course.accepted


def _early_reply(session: Session) -> Script[bool]:
    """Was something said before MAIL, in a TLS session (CVE-2009-3555)?"""
    if not session.settings.flag("smtp_tls_block_early_mail_reply"):
        return False
    if not (yield Pending()):
        return False
    yield from session.warn(
        f"server {session.relay.namaddr} violates"
        " smtp_tls_block_early_mail_reply policy"
    )
    return True


def _heard(
    session: Session, command: SmtpCommand, reply: Reply, course: _Course
) -> Script[_Course]:
    """What one reply of the envelope means."""
    if command.phase is Phase.MAIL:
        if reply.klass == 2:
            return course
        session.mesg_fail(reply, _refusal(session, command.phase, reply))
        return course._replace(sender_rejected=True)
    if command.phase is Phase.RCPT:
        recipient = command.recipient
        assert recipient is not None
        if course.sender_rejected:
            return course
        if reply.klass == 2:
            return course._replace(accepted=(*course.accepted, recipient))
        reason = _refusal(session, command.phase, reply)
        _rcpt_fail(session, recipient, reply, reason)
        return course
    if command.phase is Phase.DATA:
        if reply.klass != 3 and course.accepted:
            session.mesg_fail(reply, _refusal(session, command.phase, reply))
        return course._replace(data_reply=reply)
    if reply.klass != 2:
        where = session.relay.namaddrport
        yield from session.warn(
            f"host {where} said: {reply.oneline} (in reply to {command.phase.command})"
        )
    return course


def _refusal(session: Session, phase: Phase, reply: Reply) -> str:
    """What the server said, and to what, in Postfix's words."""
    said = f"host {session.relay.namaddr} said: {reply.oneline}"
    return f"{said} (in reply to {phase.command})"


def _rcpt_fail(
    session: Session, recipient: Recipient, reply: Reply, reason: str
) -> None:
    verdict = trouble.rcpt_fail(session.situation(), reply, reason)
    session.note_verdict(verdict)
    session.attempt.fail_one(recipient, verdict, session.relay)


def _reset(session: Session) -> Script[bool]:
    """Leave the transaction. False if the connection did not last."""
    piped = session.capabilities.pipelining and not session.keeping
    yield Send((b"RSET", b"QUIT") if piped else (b"RSET",))
    reply = yield from session.read(Phase.RSET)
    if isinstance(reply, Lost):
        session.broken = True
        return False
    if piped:
        return (yield from session.goodbye())
    return (yield from session.leave())


# --- the message --------------------------------------------------------------------


def _message(session: Session, accepted: tuple[Recipient, ...]) -> Script[bool]:
    """Body, dot, and what the server makes of it. False: the connection broke."""
    phase = Phase.DOT
    if accepted:
        answer = yield SendBody(seven_bit=commands.must_convert(session))
        if isinstance(answer, Unsendable):
            session.mesg_fail(Reply.local(answer.status), answer.reason)
            session.broken = True
            return True
        if answer is Lost.DATA:
            session.stream_except(Lost.DATA, Phase.BODY)
            session.broken = True
            return False
        if answer is Lost.TIME:
            session.stream_except(Lost.TIME, Phase.BODY)
            return False
        if answer is Lost.EOF:
            # The server may have said why before it hung up.
            yield from _replies(session, accepted, Phase.BODY)
            session.broken = True
            return False
        yield from _pix_delay(session)
    # No dot leaves together with QUIT unless the server can take that.
    piped = session.capabilities.pipelining and not session.keeping
    answer = yield Send((b".", b"QUIT") if piped else (b".",))
    if isinstance(answer, Unsendable):
        session.attempt.defer_rest(EnhancedStatus(answer.status), answer.reason)
        session.broken = True
        return False
    if not (yield from _replies(session, accepted, phase)):
        return False
    if piped:
        return (yield from session.goodbye())
    return (yield from session.leave())


def _replies(
    session: Session, accepted: tuple[Recipient, ...], phase: Phase
) -> Script[bool]:
    """Replies after the dot: one, or in LMTP one for each accepted recipient.

    `phase` words a connection that breaks. False if it did.
    """
    count = len(accepted) if session.lmtp and accepted else 1
    # All that can be known is made out before the reply comes: between that and the
    # record of what it means nothing is called that could fail.
    session.phase, step, action = Phase.DOT, Read(Phase.DOT), _action(session)
    for index in range(count):
        try:
            reply = yield step
        except Exception as bug:  # noqa: BLE001  it is still there to be read
            warn(session.attempt.note, "reply to end of DATA", bug)
            reply = yield step
        if isinstance(reply, Lost):
            lost = Lost.EOF if phase is Phase.BODY else reply
            session.stream_except(lost, phase)
            return False
        whom = accepted[index : index + 1] if session.lmtp else accepted
        try:
            _final(session, whom, reply, action)
        except Exception as bug:
            if reply.code // 100 != 2:
                raise
            session.attempt.taken(whom, reply, session.relay, action, bug)
    return True


def _final(
    session: Session, whom: tuple[Recipient, ...], reply: Reply, action: str
) -> None:
    """The server's last word on these recipients."""
    session.attempt.stamps.deliver_done = session.attempt.clock()
    session.heard(reply)
    if not whom:
        return
    if reply.klass == 2:
        session.attempt.succeed(whom, reply, session.relay, action)
        return
    reason = _refusal(session, Phase.DOT, reply)
    if session.lmtp:
        _rcpt_fail(session, whom[0], reply, reason)
    else:
        session.mesg_fail(reply, reason)


def _action(session: Session) -> str:
    """relayed, unless this server is known to be the last one (RFC 3464)."""
    final = session.lmtp and session.settings.flag("lmtp_assume_final")
    return "delivered" if final and not session.capabilities.dsn else "relayed"


def _pix_delay(session: Session) -> Script[None]:
    """Old PIX firewalls break a dot that comes with the text before it."""
    threshold = session.settings.seconds("smtp_pix_workaround_threshold_time")
    if "delay_dotcrlf" in session.pix_workarounds and session.request.age > threshold:
        seconds = session.settings.seconds("smtp_pix_workaround_delay_time")
        yield Note(f"waiting {seconds:g}s before the final dot (PIX workaround)")
        yield Pause(seconds)
