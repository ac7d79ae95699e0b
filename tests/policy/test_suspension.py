"""Who is suspended: the table of time, and Postfix's words."""

from __future__ import annotations

import pytest

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.policy.throttle import Mark, Standing, judge, suspended

WHY = DSN(EnhancedStatus("4.4.1"), "connect to b.test[192.0.2.1]:25: timed out")
OPEN, PROBE, WAIT = Standing.OPEN, Standing.PROBE, suspended(WHY)


@pytest.mark.parametrize(
    ("now", "marked", "probed", "expected"),
    [
        pytest.param(1000, 1000, 0, WAIT, id="just now"),
        pytest.param(1299, 1000, 0, WAIT, id="suspended"),
        pytest.param(1300, 1000, 0, PROBE, id="time is over"),
        pytest.param(1301, 1000, 1300, WAIT, id="somebody probes"),
        pytest.param(1600, 1000, 1300, PROBE, id="the probe never came back"),
        pytest.param(990, 1000, 0, WAIT, id="clocks differ a little"),
        pytest.param(940, 1000, 0, WAIT, id="clocks differ by a minute"),
        pytest.param(939, 1000, 0, OPEN, id="the clock was set back"),
        pytest.param(1e9, 1000, 0, PROBE, id="the clock was set ahead: one probe"),
        pytest.param(1400, 1000, 1460, WAIT, id="a probe by a clock that is ahead"),
        pytest.param(1400, 1000, 1461, PROBE, id="a probe from the future"),
        pytest.param(100, -300, 0, PROBE, id="no probe yet, at the beginning of time"),
    ],
)
def test_judge(now: float, marked: float, probed: float, expected: object) -> None:
    assert judge(Mark(WHY, marked, probed), now, 300) == expected


def test_without_a_mark_or_with_no_retry_time_all_is_open() -> None:
    assert judge(None, 1000, 300) == OPEN
    assert judge(Mark(WHY, 1000), 1000, 0) == OPEN
    assert judge(Mark(WHY, 1000), 1000, 1) == WAIT


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("4.7.0", "busy", ("4.7.0", "delivery temporarily suspended: busy")),
        ("5.7.1", "no", ("4.0.0", "delivery temporarily suspended: no")),
        ("", "", ("4.0.0", "delivery temporarily suspended: unknown error")),
    ],
)
def test_always_soft_and_in_postfix_words(
    status: str, reason: str, expected: tuple[str, str]
) -> None:
    found = suspended(DSN(EnhancedStatus(status), reason, "mx.b.test", "smtp", "x"))
    assert found == DSN(EnhancedStatus(expected[0]), expected[1])
