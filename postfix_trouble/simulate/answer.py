"""What Postfix would do with this? The answer, as a value.

What happened is read from words (recognition.py) and played twice through the real
dialogue (session.py), once with another host behind this one and once without.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Mapping

from postfix_trouble.core.outcome import DSN, Disposition, Outcome, Verdict
from postfix_trouble.core.reply import Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import HandshakeFailed
from postfix_trouble.core.value import Value
from postfix_trouble.simulate.recognition import NOT_IN_STS, Heard, Logged, recognise
from postfix_trouble.simulate.rule import rule, rule_of
from postfix_trouble.simulate.session import (
    EXAMPLE,
    STAGES,
    Ending,
    Happening,
    OwnDecision,
    Setting,
    read_reply,
    simulate,
)

# The parameter that made a hard reply soft, by stage.
_SOFTENED_BY = {
    "greeting": "smtp_skip_5xx_greeting",
    "auth": "smtp_sasl_auth_soft_bounce",
}
_ONE = "this recipient only"
_ALL = "all recipients that are left"


class NotExplained(str):
    """Why something can't be explained: one line for a person."""

    __slots__ = ()


class Case(Value):
    """What follows in one of two situations."""

    # No further host would be tried.
    final_server: bool
    # What becomes of the recipient: keep, defer, bounce, sent, continue (no failure),
    # plaintext (the same host again, without TLS).
    effect: str
    status: str
    # As it would be logged.
    reason: str
    # In place of a bounce, because of soft_bounce.
    soft_bounce: bool = False
    # The destination as a whole is left alone for a while.
    throttled: bool = False
    # The row of the policy that decided.
    rule: str = ""
    outcome: Outcome | None = None

    @property
    def next_host_tried(self) -> bool:
        """Whether another host gets the mail within this attempt."""
        return self.effect == "keep"


class Explanation(Value):
    """What Postfix would do."""

    # What was explained: a reply, or what happened in its place.
    subject: str
    stage: str
    lmtp: bool
    # With another host left to try, and at the last one.
    cases: tuple[Case, Case]
    # Whom it hits; empty: nobody.
    scope: str
    # Entry point of policy/trouble.py that decides.
    entry: str
    # The postmaster may get a transcript (notify_classes).
    notices: tuple[str, ...]
    remarks: tuple[str, ...]
    # The stage was not told, and not to be seen.
    stage_assumed: bool
    logged: Logged | None

    @property
    def agrees(self) -> bool | None:
        """Whether a log record ends as we say. None: there is nothing to compare."""
        if self.logged is None or not self.logged.word:
            return None
        return any(
            case.outcome is not None
            and _word(case.outcome) == self.logged.word
            and case.outcome.dsn.status == self.logged.dsn
            for case in self.cases
        )


def explain(
    text: str,
    *,
    stage: str = "",
    lmtp: bool = False,
    values: Mapping[str, str] = {},
    age: float = 0.0,
) -> Explanation | NotExplained:
    """Say what Postfix would do about a reply, a log line or a broken connection.

    `stage`: a name of STAGES; empty: as the text says, else RCPT TO. `values`:
    parameters by their main.cf names. `age`: seconds since the message arrived.
    Raises ConfigError for a value that can't be used.
    """
    heard = recognise(text)
    if heard is None:
        return NotExplained(
            f"{_quoted(text)} is no reply (three digits and text), no log line of an "
            'SMTP client, and neither "lost connection" nor "timeout"'
        )
    if heard.logged is not None and heard.logged.word == "SOFTBOUNCE":
        values = {**values, "soft_bounce": "yes"}
    lmtp = lmtp or heard.lmtp
    place = _stage(stage or heard.stage or _usual_stage(heard), lmtp)
    if isinstance(place, NotExplained):
        return place
    happening = _happening(heard, place, text)
    if isinstance(happening, NotExplained):
        return happening
    setting = Setting(values, lmtp=lmtp, relay=heard.relay or EXAMPLE, age=age)
    ends = tuple(
        simulate(place, happening, setting._replace(final_server=final))
        for final in (False, True)
    )
    if not ends[1].reached:
        return NotExplained(f"with these settings the session never comes to {place}")
    cases = (case(False, place, ends[0]), case(True, place, ends[1]))
    entry = ends[1].entry
    return Explanation(
        _subject(heard, happening),
        place,
        lmtp,
        cases,
        scope="" if not entry else _ONE if entry == "rcpt_fail" else _ALL,
        entry=entry,
        notices=ends[1].errors,
        remarks=_remarks(heard, happening, place, ends[1]),
        stage_assumed=not (stage or heard.stage) and not heard.own_reason,
        logged=heard.logged,
    )


def _quoted(text: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text[:60])
    return f'"{shown}..."' if len(text) > 60 else f'"{shown}"'


def _usual_stage(heard: Heard) -> str:
    """Where it most likely happened, if nobody says."""
    return "lookup" if heard.own_reason and heard.relay is None else "rcpt"


def _stage(name: str, lmtp: bool) -> str | NotExplained:
    """The stage of that name; its aliases, and what LMTP calls it."""
    name = {"banner": "greeting", "eod": "dot", ".": "dot"}.get(name, name)
    if lmtp and name in ("ehlo", "helo"):
        name = "lhlo"
    if name not in STAGES:
        return NotExplained(f"no such stage: {name}; there are {', '.join(STAGES)}")
    if name == "lhlo" and not lmtp:
        return NotExplained("LHLO is a command of LMTP: add --lmtp")
    return name


def _happening(heard: Heard, stage: str, text: str) -> Happening | NotExplained:
    if heard.lost is not None:
        if stage in ("lookup", "connect"):
            return DSN(EnhancedStatus("4.4.1"), text)
        return HandshakeFailed(text) if stage == "handshake" else heard.lost
    if heard.entry == NOT_IN_STS:
        # No trace in the report: what an earlier server left there stands.
        return DSN()
    if heard.own_reason:
        if stage == "handshake":
            why = heard.own_reason.partition(": ")[2]
            return HandshakeFailed(why, "" if why == "handshake failure" else why)
        dsn = heard.logged.dsn if heard.logged else heard.status
        status = EnhancedStatus(dsn or "4.4.1")
        if heard.relay is not None and stage != "connect":
            return OwnDecision(heard.entry or "mesg_fail", status, heard.own_reason)
        return DSN(status, heard.own_reason)
    if stage in ("lookup", "connect", "handshake", "body"):
        words = STAGES[stage]
        return NotExplained(f"there is no reply to {words}: try a stage that has one")
    reply = read_reply(heard.reply)
    if reply is None:
        return NotExplained(f"{_quoted(text)} is not a complete reply")
    return reply


def _subject(heard: Heard, happening: Happening) -> str:
    if isinstance(happening, Reply):
        return happening.text
    if isinstance(happening, DSN | OwnDecision):
        return heard.own_reason or happening.reason
    if isinstance(happening, HandshakeFailed):
        return "the TLS handshake fails"
    assert heard.lost is not None
    words = heard.lost.name
    return {
        "EOF": "the connection is lost",
        "TIME": "no answer within the time limit",
        "DATA": "a table of our own can't be searched",
    }[words]


# --- one case -----------------------------------------------------------------------


_SKIPPED = "no server was reached: the next one is tried, whatever the status"


def case(final: bool, stage: str, end: Ending) -> Case:
    """Describe an ending."""
    verdict, outcome = end.verdict, end.outcome
    if verdict is None:
        if outcome is None:
            # No session: skipped in favour of the next host.
            return Case(final, "keep", "", end.skipped[-1], rule=_SKIPPED)
        effect = "sent" if stage == "dot" else "continue"
        return Case(
            final, effect, outcome.dsn.status, outcome.dsn.reason, outcome=outcome
        )
    dsn = outcome.dsn if outcome else verdict.dsn
    effect = "plaintext" if end.retry_plaintext else verdict.action.value
    soft_bounce = outcome is not None and outcome.soft_bounce
    if outcome is not None:
        deferred = outcome.disposition is Disposition.DEFERRED
        effect = "defer" if deferred else "bounce"
    return Case(
        final,
        effect,
        dsn.status,
        dsn.reason,
        soft_bounce,
        end.throttled,
        _rule(effect, verdict, outcome),
        outcome,
    )


def _rule(effect: str, verdict: Verdict, outcome: Outcome | None) -> str:
    """The row of the policy that decided."""
    if effect == "plaintext":
        return "TLS failed at level may, no password, no fresh message: plaintext"
    return rule(verdict) if outcome is None else rule_of(outcome)


# --- remarks ------------------------------------------------------------------------


def _remarks(
    heard: Heard, happening: Happening, stage: str, end: Ending
) -> tuple[str, ...]:
    """What is not plain to see: why the status is not the one in the reply."""
    said = []
    if isinstance(happening, Reply):
        said = _about_status(happening, stage, end)
        if stage == "ehlo" and not end.entry and happening.klass != 2:
            said.append("EHLO refused: HELO is tried")
        if happening.klass == 5 and "protocol" in end.errors:
            said.append("a reply that nobody gets who keeps to the protocol")
    if isinstance(happening, OwnDecision) and not heard.entry:
        said.append("a reason unknown here: whether it throttles can't be told")
    if heard.entry == NOT_IN_STS:
        said.append(
            "no connection is made: the MTA-STS policy of the domain is in force, and"
            " names other hosts (probe shows it)"
        )
    if heard.own_reason.startswith("Server certificate not "):
        said.append(
            "the certificate is not for this name, or from nobody that is trusted; the"
            " TLS level demands it, or the domain's MTA-STS policy (probe shows which)"
        )
    if heard.logged and not heard.logged.word:
        said.append("the record is of a host that was skipped for the next one")
    return tuple(said)


def _about_status(reply: Reply, stage: str, end: Ending) -> list[str]:
    said = EnhancedStatus.leading(reply.text.split("\n")[-1][4:].lstrip(" "))
    found = end.verdict.dsn.status if end.verdict else reply.status
    if end.verdict and reply.klass not in (2, 4, 5):
        return [f"{reply.code:03} is neither success nor failure here: 5.5.0"]
    if end.verdict and reply.klass == 2:
        return ["success where it makes no sense: the server is out of step, 5.5.0"]
    if said is not None and said != reply.status:
        return [f"the status {said} does not fit the code {reply.code}: not believed"]
    if reply.status.hard and found.soft and stage in _SOFTENED_BY:
        return [f"5xx counts as soft here ({_SOFTENED_BY[stage]})"]
    return []


def _word(outcome: Outcome) -> str:
    return "SOFTBOUNCE" if outcome.soft_bounce else outcome.disposition.value
