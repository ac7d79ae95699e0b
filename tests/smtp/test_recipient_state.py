"""The recipients of a request: every recipient is marked once in each session."""

from __future__ import annotations

import pytest
from script import recipients

from postfix_trouble.core.envelope import DeliveryRequest
from postfix_trouble.core.outcome import DSN, Action, Outcome, Verdict
from postfix_trouble.core.relay import Relay
from postfix_trouble.core.reply import Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.policy.trouble import OutcomeRules
from postfix_trouble.smtp.recipients import Panic, RecipientState

RELAY = Relay("mx.test", "192.0.2.1", 25)
OK = Reply(250, EnhancedStatus("2.0.0"), "250 ok")


class RecordedState(RecipientState):
    """An attempt for two recipients, and what it told."""

    def __init__(self, age: float = 0.0) -> None:
        self.told: list[Outcome] = []
        # How many ended at a time.
        self.times: list[int] = []
        self.notes: list[str] = []
        self.now = 100.0
        request = DeliveryRequest("s@d.test", recipients(2), "d.test", age=age)
        super().__init__(
            request, OutcomeRules(), lambda: self.now, self._tell, self.notes.append
        )

    def _tell(self, outcomes: tuple[Outcome, ...]) -> None:
        self.times.append(len(outcomes))
        self.told += outcomes


def verdict(
    action: Action, status: str = "4.1.1", *, throttle: bool = False
) -> Verdict:
    return Verdict(action, DSN(EnhancedStatus(status), "text"), throttle)


def test_marking_a_recipient_twice_is_a_bug() -> None:
    state = RecordedState()
    one = state.unmarked[0]
    state.fail_one(one, verdict(Action.BOUNCE, "5.1.1"), RELAY)
    with pytest.raises(Panic, match=r"^recipient 0 is marked already$"):
        state.fail_one(one, verdict(Action.DEFER), RELAY)
    with pytest.raises(Panic):
        state.succeed((one,), OK, RELAY, "relayed")
    assert len(state.told) == 1


def test_ending_a_session_without_a_mark_is_a_bug() -> None:
    state = RecordedState()
    state.succeed((state.unmarked[1],), OK, RELAY, "relayed")
    with pytest.raises(Panic, match=r"^1 recipients without a mark$"):
        state.end_session()


def test_marking_all_leaves_alone_who_is_marked() -> None:
    state = RecordedState()
    state.fail_one(state.unmarked[0], verdict(Action.KEEP), RELAY)
    state.fail_all(verdict(Action.BOUNCE, "5.1.1"), RELAY)
    assert [end.recipient.position for end in state.told] == [1]
    state.end_session()
    assert [rcpt.position for rcpt in state.unmarked] == [0]


def test_keeping_all_is_noted_once_even_if_nobody_is_left() -> None:
    state = RecordedState()
    state.fail_all(verdict(Action.DEFER), RELAY)
    state.fail_all(verdict(Action.KEEP), RELAY)
    assert state.notes == ["text"]
    assert state.skipped == ["text"]
    assert len(state.told) == 2


def test_finishing_nobody_says_nothing() -> None:
    state = RecordedState()
    state.fail_all(verdict(Action.BOUNCE, "5.1.1"), RELAY)
    state.fail_all(verdict(Action.DEFER, throttle=True), RELAY)
    assert state.times == [2], "told once, and not of nobody"
    assert state.throttled is None, "nobody was deferred by it"


def test_first_reason_to_throttle_stays() -> None:
    state = RecordedState()
    state.fail_all(verdict(Action.DEFER, "4.4.2", throttle=True), RELAY)
    state.unmarked = list(recipients(1))
    state.fail_all(verdict(Action.DEFER, "4.4.1", throttle=True), None)
    assert state.throttled is not None
    assert state.throttled.status == "4.4.2"


def test_last_reason_is_what_is_left() -> None:
    state = RecordedState()
    for status in ("4.1.1", "4.2.2"):
        state.fail_all(verdict(Action.KEEP, status), RELAY)
        state.end_session()
    assert state.why.status == "4.2.2"


def test_relay_of_a_failure() -> None:
    state = RecordedState()
    state.fail_one(state.unmarked[0], verdict(Action.DEFER), RELAY)
    state.fail_all(verdict(Action.DEFER), None)
    assert [end.relay for end in state.told] == ["mx.test[192.0.2.1]:25", "none"]


def test_use_of_the_connection_is_told() -> None:
    state = RecordedState()
    state.connection_use = 3
    state.succeed((state.unmarked[0],), OK, RELAY, "delivered")
    assert (state.told[0].connection_use, state.told[0].action) == (3, "delivered")


def test_delays() -> None:
    state = RecordedState(age=60.0)
    state.now = 104.0
    state.fail_one(state.unmarked[0], verdict(Action.DEFER), RELAY)
    state.now = 110.0
    state.fail_all(verdict(Action.DEFER), RELAY)
    # One recipient takes the present time, all together share a set-up time.
    assert tuple(state.told[0].delays) == (60, 0, 0, 4)
    assert tuple(state.told[1].delays) == (60, 0, 10, 0)
