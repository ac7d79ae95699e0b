"""The rule of the policy behind an outcome, in words for people."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.outcome import Action, Disposition, Outcome, Verdict

_FOLLOWS = {
    Action.KEEP: "next host",
    Action.DEFER: "deferred",
    Action.BOUNCE: "bounced",
}


def rule(verdict: Verdict) -> str:
    """`rcpt_fail: hard, bounced`: the entry point, what counted, what follows."""
    assert verdict.now is not None, "an entry point says what it looked at"
    status, soft_bounce = verdict.dsn.status, verdict.now.soft_bounce
    words = ["soft" if status.soft else "hard"]
    if status.soft or soft_bounce:
        # Only then does it matter who else could be asked.
        words += ["soft_bounce"] if not status.soft else []
        words += ["last host" if verdict.now.final_server else "another host left"]
    softened = soft_bounce and verdict.action is Action.BOUNCE
    words.append("deferred" if softened else _FOLLOWS[verdict.action])
    return f"{verdict.entry}: {', '.join(words)}"


def rule_of(outcome: Outcome) -> str:
    """Which rule made an outcome. Without a session the delivery gives up by itself."""
    if outcome.disposition is Disposition.SENT:
        return "2xx"
    if outcome.relay == "none" or outcome.verdict is None:
        soft = outcome.dsn.status.soft and not outcome.soft_bounce
        words = ["soft" if soft else "hard", "no host left", outcome.disposition.value]
        if outcome.soft_bounce:
            words.insert(1, "soft_bounce")
        return f"sess_fail: {', '.join(words)}"
    return rule(outcome.verdict)
