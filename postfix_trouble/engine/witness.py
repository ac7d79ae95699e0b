"""A session that tells who decided what: the entry point, and the row of the policy."""

from __future__ import annotations

from postfix_trouble.engine.session import Session
from postfix_trouble.model.value import TYPE_CHECKING, Value
from postfix_trouble.model.verdict import Action, Disposition

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from postfix_trouble.model.reply import Lost, Reply
    from postfix_trouble.model.steps import Phase
    from postfix_trouble.model.verdict import DSN, Outcome, Verdict
    from postfix_trouble.policy.trouble import Fail, Situation


class Decision(Value):
    """One answer of policy/trouble.py."""

    # Which of the six entry points was asked.
    entry: str
    now: Situation
    verdict: Verdict

    @property
    def rule(self) -> str:
        """`rcpt_fail: hard, bounced`: the entry point, what counted, what follows."""
        status, soft_bounce = self.verdict.dsn.status, self.now.soft_bounce
        words = ["soft" if status.soft else "hard"]
        if status.soft or soft_bounce:
            # Only then does it matter who else could be asked.
            words += ["soft_bounce"] if not status.soft else []
            words += ["last host" if self.now.final_server else "another host left"]
        softened = soft_bounce and self.verdict.action is Action.BOUNCE
        words.append("deferred" if softened else _FOLLOWS[self.verdict.action])
        return f"{self.entry}: {', '.join(words)}"


_FOLLOWS = {
    Action.KEEP: "next host",
    Action.DEFER: "deferred",
    Action.BOUNCE: "bounced",
}


class WitnessedSession(Session):
    """A session that reports every verdict to `decided`, before it takes effect."""

    def __init__(
        self, *values: Any, decided: Callable[[Decision], None], **named: Any
    ) -> None:
        super().__init__(*values, **named)
        self._decided = decided
        # Only for one recipient is the policy asked without one of the calls below.
        self._entry = "rcpt_fail"
        self._now: Situation

    def situation(self) -> Situation:
        """As Session's; kept, since finding it out may have cost look-ups."""
        self._now = super().situation()
        return self._now

    def note_verdict(self, verdict: Verdict) -> None:
        """All verdicts come by here, those for one recipient from the transaction."""
        super().note_verdict(verdict)
        entry, self._entry = self._entry, "rcpt_fail"
        self._decided(Decision(entry, self._now, verdict))

    def site_fail(self, reply: Reply, reason: str) -> None:
        """As Session's, and told."""
        self._entry = "site_fail"
        super().site_fail(reply, reason)

    def mesg_fail(self, reply: Reply, reason: str) -> None:
        """As Session's, and told."""
        self._entry = "mesg_fail"
        super().mesg_fail(reply, reason)

    def misc_fail(self, flags: Fail, reply: Reply, reason: str) -> None:
        """As Session's, and told."""
        self._entry = "misc_fail"
        super().misc_fail(flags, reply, reason)

    def handshake_failed(self, flags: Fail, reply: Reply, reason: str) -> None:
        """As Session's, and told."""
        self._entry = "misc_fail"
        super().handshake_failed(flags, reply, reason)

    def sess_fail(self, why: DSN) -> None:
        """As Session's, and told."""
        self._entry = "sess_fail"
        super().sess_fail(why)

    def stream_except(self, lost: Lost, phase: Phase) -> None:
        """As Session's, and told."""
        self._entry = "stream_except"
        super().stream_except(lost, phase)


def rule_of(outcome: Outcome, last: Decision | None) -> str:
    """Which rule made an outcome; `last` is the decision that came just before it.

    Without a session there was none to look on: the delivery gives up by itself.
    """
    if outcome.disposition is Disposition.SENT:
        return "2xx"
    if outcome.relay == "none":
        soft = outcome.dsn.status.soft and not outcome.soft_bounce
        words = ["soft" if soft else "hard", "no host left", outcome.disposition.value]
        if outcome.soft_bounce:
            words.insert(1, "soft_bounce")
        return f"sess_fail: {', '.join(words)}"
    assert last is not None, "in a session somebody decides"
    return last.rule
