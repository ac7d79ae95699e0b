"""Destinations that are suspended (Postfix: qmgr_queue_throttle).

The queue manager suspends a destination when a delivery agent tells it to. pipe(8)
can't tell it, so we keep the marks ourselves. This module only decides; all times
are seconds of one wall clock, since processes and boots share the marks.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import Value

# Clocks of processes that look at nearly the same moment may differ by this much; a
# mark from further ahead was made before the clock was set back, and says nothing.
_SKEW = 60.0


class Standing(Choice):
    """Whether a destination may be connected to."""

    OPEN = "open"
    # Its time of rest is over: one delivery may find out whether it lives.
    PROBE = "probe"


class Mark(Value):
    """What is remembered of a destination in trouble."""

    dsn: DSN
    # When the trouble was seen, and when a probe was let through; 0 for not yet.
    marked: float
    probed: float = 0.0


def judge(mark: Mark | None, now: float, retry_time: float) -> Standing | DSN:
    """Say whether a delivery may go ahead, else why it is deferred.

    A probe is expected to end with a new mark or without one. If it was killed it
    ends with neither, so after another `retry_time` the next one is due.
    """
    if mark is None or retry_time <= 0 or mark.marked > now + _SKEW:
        return Standing.OPEN
    if now < mark.marked + retry_time:
        return suspended(mark.dsn)
    probing = mark.probed > 0 and mark.probed <= now + _SKEW
    if probing and now < mark.probed + retry_time:
        return suspended(mark.dsn)
    return Standing.PROBE


def suspended(dsn: DSN) -> DSN:
    """The reason for a deferral without an attempt, in the queue manager's words.

    After qmgr_deliver_update and defer_append: what is not a status of class 4
    becomes 4.0.0. The server's own words are in the reason; it is not asked now, so
    it is not named as the one that decided.
    """
    status = dsn.status if dsn.status.soft else EnhancedStatus("4.0.0")
    reason = dsn.reason or "unknown error"
    return DSN(status, f"delivery temporarily suspended: {reason}")
