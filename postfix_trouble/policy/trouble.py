"""Error handler policies, after Postfix smtp_trouble(3).

What a failure means for a recipient is decided here and nowhere else. The six entry
points say how much is broken:

    sess_fail      this session, for a reason that somebody else has worded already
    site_fail      the host does not want to talk to us, or we not to it
    mesg_fail      the sender or the message was refused
    misc_fail      as site_fail or mesg_fail, the caller says which side effects
    rcpt_fail      one recipient was refused
    stream_except  the connection broke, went silent, or a table of ours can't be read

The rule, in words:

    soft error, another host may follow     keep the recipients for that host
    soft error, final host                  defer
    hard error                              bounce, even if other hosts are left
    hard error under soft_bounce            as soft; in the end it is deferred with
                                            its status in class 4

A failure of the host (sess, site, stream) throttles the destination if it leads to a
deferral, unless an earlier session of the same request ran to its end. A failure of
the message or of a recipient never does.

Around the six stand: the report that is left when no host is (left_over), what
becomes of a recipient in the end (defer_append, bounce_append, sent), and the time
stamps of the log (Stamps). Nothing here reads a socket, a clock, a file or a log.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.choice import Flags
from postfix_trouble.core.outcome import (
    DSN,
    Action,
    Delays,
    Disposition,
    Outcome,
    Situation,
    Verdict,
)
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.core.envelope import Recipient
    from postfix_trouble.core.relay import Relay


class Fail(Flags):
    """How a failure differs from the plain case (Postfix SMTP_MISC_FAIL_*)."""

    NONE = 0
    # The destination is in trouble, not only this mail.
    THROTTLE = 1
    # Hard only at the final host: another one may be able to (Postfix 3.12).
    SOFT_NON_FINAL = 2
    # The session is fine, but must not carry another message.
    DONT_CACHE = 4


# --- the six entry points -----------------------------------------------------------


def sess_fail(now: Situation, why: DSN) -> Verdict:
    """Fail for a reason that is worded already: SASL, or no host left."""
    return _bulk_fail(now, Fail.THROTTLE, why)._replace(entry="sess_fail")


def site_fail(now: Situation, reply: Reply, reason: str) -> Verdict:
    """Fail because host and client won't talk: greeting, EHLO, STARTTLS, loop."""
    verdict = misc_fail(now, Fail.THROTTLE, reply, reason)
    return verdict._replace(entry="site_fail")


def mesg_fail(now: Situation, reply: Reply, reason: str) -> Verdict:
    """Fail because of this message: MAIL, DATA, the final dot, its size."""
    verdict = misc_fail(now, Fail.NONE, reply, reason)
    return verdict._replace(entry="mesg_fail")


def misc_fail(now: Situation, flags: Fail, reply: Reply, reason: str) -> Verdict:
    """Fail with side effects of the caller's choice: TLS handshake, SMTPUTF8."""
    verdict = _bulk_fail(now, flags, fill_dsn(now, reply, reason))
    return _check_code(verdict._replace(entry="misc_fail"), reply)


def rcpt_fail(now: Situation, reply: Reply, reason: str) -> Verdict:
    """Fail one recipient. Never throttles."""
    why = fill_dsn(now, reply, reason)
    verdict = Verdict(_decide(now, Fail.NONE, why), why, entry="rcpt_fail", now=now)
    return _check_code(verdict, reply)


def stream_except(now: Situation, lost: Lost, doing: str) -> Verdict:
    """Fail because the conversation can't go on. Always soft.

    `doing` is Phase.doing: what we were waiting for, not what we sent last. A lost
    connection is tried again without TLS if the situation allows that; the host that
    follows is then the same one, so this one was not final.
    """
    assert now.relay is not None, "a stream exception needs a session"
    where = now.relay.namaddr
    retry = lost is not Lost.DATA and now.plaintext_fallback
    if retry:
        now = now._replace(final_server=False)
    status = "4.3.0" if lost is Lost.DATA else "4.4.2"
    reason = lost.value.format(where, doing)
    why = DSN(EnhancedStatus(status), reason)
    verdict = _bulk_fail(now, Fail.THROTTLE, why)
    return verdict._replace(retry_plaintext=retry, entry="stream_except")


# --- step 1: the report -------------------------------------------------------------


def fill_dsn(now: Situation, reply: Reply, reason: str) -> DSN:
    """Word a failure (Postfix vsmtp_fill_dsn).

    A status of the server that is neither soft nor hard can't be a reason to fail:
    the server is out of step. That happens with a 2xx to DATA only, since the reader
    of replies gives 1xx, 3xx and nonsense codes 5.5.0 already.
    """
    if not reply.remote:
        return DSN(reply.status, reason)
    status = reply.status
    if not (status.soft or status.hard):
        status = EnhancedStatus("5.5.0")
        reason = f"Protocol error: {reason}"
    host = now.relay.host if now.relay else ""
    return DSN(status, reason, host, "smtp", reply.oneline)


def _check_code(verdict: Verdict, reply: Reply) -> Verdict:
    """Note a server that does not keep to the protocol (Postfix smtp_check_code).

    The code is looked at here, not the status: a 5xx greeting that counts as soft is
    still a 5xx.
    """
    if not reply.remote:
        return verdict
    code = reply.code
    out_of_step = reply.status[:1] not in ("4", "5")
    wrong = code < 400 or code > 599 or code == 555 or 500 <= code <= 509
    if out_of_step or wrong:
        return verdict._replace(protocol_error=True, reusable=False)
    return verdict


# --- step 2: the decision -----------------------------------------------------------


def _decide(now: Situation, flags: Fail, why: DSN) -> Action:
    soft = why.status.soft or (
        Fail.SOFT_NON_FINAL in flags and why.status.hard and not now.final_server
    )
    soft_here = soft or (why.status.hard and now.soft_bounce)
    if soft_here and not now.final_server:
        return Action.KEEP
    return Action.DEFER if soft else Action.BOUNCE


def _bulk_fail(now: Situation, flags: Fail, why: DSN) -> Verdict:
    """Decide for all recipients that are not marked yet (Postfix smtp_bulk_fail)."""
    action = _decide(now, flags, why)
    # Whether a bounce leads to a deferral is seen only when it is recorded.
    finish = action is not Action.KEEP
    return Verdict(
        action,
        why,
        throttle=Fail.THROTTLE in flags and finish and not now.complete,
        reusable=not flags & (Fail.THROTTLE | Fail.DONT_CACHE),
        server_failed=Fail.THROTTLE in flags,
        now=now,
    )


def left_over(
    why: DSN, *, fallback: bool, relayhost: bool, loop_transport: str = ""
) -> tuple[DSN, str]:
    """The report for recipients that no host took (Postfix smtp_connect, at its end).

    `fallback`: the last destination was a fallback relay. `relayhost`: the first
    destination is the configured relayhost. Either can't be the recipient's fault, so
    the mail is deferred. `loop_transport` is best_mx_transport: mail that loops belongs
    to another transport then, which a program behind pipe(8) can't reach; it is
    deferred too. Returns the report and a warning for the log, which may be empty.
    """
    if not why.status:
        text = "server unavailable or unable to receive mail"
        return DSN(EnhancedStatus("4.3.0"), text), ""
    if why.status.soft:
        return why, ""
    local = EnhancedStatus("4.3.5")
    if fallback:
        return why._replace(status=local), "smtp_fallback_relay configuration problem"
    if relayhost:
        return why._replace(status=local), "relayhost configuration problem"
    if loop_transport and why.status.endswith(".4.6"):
        return why._replace(status=local), (
            f"best_mx_transport = {loop_transport} is out of reach of pipe(8)"
        )
    return why, ""


# --- the end of a recipient ---------------------------------------------------------


class OutcomeRules(Value):
    """How outcomes are recorded (Postfix bounce(3), defer(3), sent(3))."""

    soft_bounce: bool = False
    # smtp_delivery_status_filter: "X.Y.Z text" to another one, or None. It runs after
    # the decision, so it can't cause or stop a try at another host.
    status_filter: Callable[[str], str | None] | None = None
    # Warnings for the log.
    warn: Callable[[str], None] | None = None


def _filtered(rules: OutcomeRules, why: DSN) -> DSN:
    """In the filter's words, if a failure stays one, and a success too."""
    if rules.status_filter is None:
        return why
    found = rules.status_filter(f"{why.status} {why.reason}")
    if found is None:
        return why
    failed = why.status.soft or why.status.hard
    status = EnhancedStatus.leading(found)
    if status is None or (status.soft or status.hard) is not failed:
        if rules.warn:
            rules.warn(f"smtp_delivery_status_filter: bad status code: {found}")
        return why
    return why._replace(status=status, reason=found[len(status) :].lstrip())


def _in_class(rules: OutcomeRules, why: DSN, digit: str, who: str) -> DSN:
    if why.status.startswith(digit):
        return why
    if rules.warn:
        rules.warn(f"{who}: ignoring dsn code {why.status!s}")
    return why._replace(status=EnhancedStatus(f"{digit}.0.0"))


def defer_append(rules: OutcomeRules, recipient: Recipient, why: DSN) -> Outcome:
    """Defer a recipient. The status filter may make that a bounce."""
    why = _filtered(rules, _in_class(rules, why, "4", "defer_append"))
    if why.status.hard:
        return _bounced(rules, recipient, why)
    return Outcome(recipient, Disposition.DEFERRED, why, action="delayed")


def bounce_append(rules: OutcomeRules, recipient: Recipient, why: DSN) -> Outcome:
    """Give a recipient up. soft_bounce and the status filter may defer it instead."""
    why = _filtered(rules, _in_class(rules, why, "5", "bounce_append"))
    if why.status.soft:
        return Outcome(recipient, Disposition.DEFERRED, why, action="delayed")
    return _bounced(rules, recipient, why)


def _bounced(rules: OutcomeRules, recipient: Recipient, why: DSN) -> Outcome:
    if rules.soft_bounce:
        why = why._replace(status=why.status.softened())
        return Outcome(
            recipient, Disposition.DEFERRED, why, action="delayed", soft_bounce=True
        )
    return Outcome(recipient, Disposition.BOUNCED, why, action="failed")


def bounce_failed(outcome: Outcome) -> Outcome:
    """The bounce could not be recorded: defer the recipient instead."""
    why = DSN(EnhancedStatus("4.3.0"), "bounce or trace service failure")
    return outcome._replace(
        disposition=Disposition.DEFERRED, dsn=why, action="delayed", soft_bounce=False
    )


def sent(
    rules: OutcomeRules, recipient: Recipient, relay: Relay, reply: Reply, action: str
) -> Outcome:
    """The server took the mail. `action` is relayed or delivered (RFC 3464)."""
    why = DSN(reply.status, reply.oneline, relay.host, "smtp", reply.oneline)
    why = _filtered(rules, _in_class(rules, why, "2", "sent"))
    return Outcome(recipient, Disposition.SENT, why, relay.namaddrport, action=action)


# --- time stamps --------------------------------------------------------------------


class Stamps:
    """When things happened, for `delay=` and `delays=` (Postfix MSG_STATS).

    All times in seconds on one clock. Set-up ends when MAIL FROM is built; delivery
    ends with the reply to the final dot, or with the failure of all recipients.
    """

    __slots__ = ("arrived", "deliver_done", "hand_off", "setup_done")

    def __init__(self, arrived: float, hand_off: float) -> None:
        self.arrived = arrived
        self.hand_off = hand_off
        self.forget_session()

    def forget_session(self) -> None:
        """A session is over; what it took counts as set-up time of the next."""
        self.setup_done: float | None = None
        self.deliver_done: float | None = None

    def bulk_failed(self, now: float) -> None:
        """All recipients that are left fail at the same time."""
        if self.setup_done is None:
            self.setup_done = now
        self.deliver_done = now

    def delays(self, now: float) -> Delays:
        """For a recipient that ends now (or ended when the delivery was done)."""
        end = now if self.deliver_done is None else self.deliver_done
        setup = self.hand_off if self.setup_done is None else self.setup_done
        # What happens before hand-off is one number to us: pipe(8) doesn't pass on
        # when the queue manager took the mail up.
        return Delays(
            max(0.0, self.hand_off - self.arrived),
            0.0,
            max(0.0, setup - self.hand_off),
            max(0.0, end - setup),
        )
