"""One answer for several recipients: nobody lost, nobody told what is not true."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import DSN, Disposition, Outcome
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.policy.multi_recipient import (
    IN_PROGRESS,
    NO_NAME,
    Finished,
    Settlement,
    bounce_failed,
    places,
    refusal,
    settle,
    unfinished,
)

SENT, DEFERRED, BOUNCED = Disposition.SENT, Disposition.DEFERRED, Disposition.BOUNCED
DAY = 86400.0


def dsn(text: str) -> DSN:
    status, _, reason = text.partition(" ")
    return DSN(EnhancedStatus(status), reason)


OK = dsn("2.0.0 250 ok")
LATER = dsn("4.2.0 450 later")
GONE = dsn("5.1.1 550 gone")
FULL = dsn("5.2.2 552 full")

# What became of a recipient: in this attempt, or remembered of an earlier one.
NOW = {
    "s": (SENT, OK),
    "d": (DEFERRED, LATER),
    "b": (BOUNCED, GONE),
    "f": (BOUNCED, FULL),
}
BEFORE = {
    "S": Finished(SENT, OK),
    "B": Finished(BOUNCED, GONE),
    "F": Finished(BOUNCED, FULL),
    "R": Finished(BOUNCED, GONE, reported=True),
}


def settled(
    fates: str,
    *,
    sender: str = "me@a.test",
    age: float = 0.0,
    notify: str = "",
) -> Settlement:
    """Settle a request whose recipients, 0@b.test and so on, have these fates."""
    recipients = tuple(
        Recipient(f"{n}@b.test", notify=notify, position=n) for n in range(len(fates))
    )
    request = DeliveryRequest(sender, recipients, "b.test", "ABC")
    outcomes = [
        Outcome(recipient, *NOW[fate])
        for recipient, fate in zip(recipients, fates, strict=True)
        if fate in NOW
    ]
    finished = {
        (f"{n}@b.test", 0): BEFORE[fate]
        for n, fate in enumerate(fates)
        if fate in BEFORE
    }
    return settle(
        request,
        outcomes,
        finished,
        age=age,
        give_up_age=4 * DAY,
        log="postfix-trouble[581]",
    )


def numbers(outcomes: tuple[Outcome, ...]) -> str:
    """The recipients by the digit of their address."""
    return "".join(outcome.recipient.address[0] for outcome in outcomes)


@pytest.mark.parametrize(
    ("fates", "disposition", "status", "bounce"),
    [
        pytest.param("s", SENT, "2.0.0", "", id="one sent"),
        pytest.param("d", DEFERRED, "4.2.0", "", id="one deferred"),
        pytest.param("b", BOUNCED, "5.1.1", "", id="one bounced"),
        pytest.param("ss", SENT, "2.0.0", "", id="all sent"),
        pytest.param("dd", DEFERRED, "4.2.0", "", id="all deferred"),
        pytest.param("sdb", DEFERRED, "4.2.0", "2", id="refused: told at once"),
        pytest.param("bdf", DEFERRED, "4.2.0", "02", id="two refused, two reasons"),
        pytest.param("bdb", DEFERRED, "4.2.0", "02", id="two refused, one reason"),
        pytest.param("Bd", DEFERRED, "4.2.0", "0", id="the report failed before"),
        pytest.param("SBd", DEFERRED, "4.2.0", "1", id="killed before the report"),
        pytest.param("Rdb", DEFERRED, "4.2.0", "2", id="told once, and the other now"),
        pytest.param("SRd", DEFERRED, "4.2.0", "", id="deferred again"),
        pytest.param("bb", BOUNCED, "5.1.1", "", id="all bounced, one reason"),
        pytest.param("Bb", BOUNCED, "5.1.1", "", id="all bounced, at two attempts"),
        pytest.param("bf", SENT, "2.0.0", "01", id="all bounced, two reasons"),
        pytest.param("sb", SENT, "2.0.0", "1", id="sent and bounced"),
        pytest.param("Bs", SENT, "2.0.0", "0", id="bounced before, the rest sent now"),
        pytest.param("SbF", SENT, "2.0.0", "12", id="one report for both attempts"),
        pytest.param("SB", SENT, "2.0.0", "1", id="killed before the report, all done"),
        pytest.param("SR", SENT, "2.0.0", "", id="killed after the report"),
        pytest.param("RR", SENT, "2.0.0", "", id="all reported: not once more"),
        pytest.param("Rb", SENT, "2.0.0", "1", id="one reported, one not"),
        pytest.param("SS", SENT, "2.0.0", "", id="killed before the answer"),
    ],
)
def test_answer(fates: str, disposition: Disposition, status: str, bounce: str) -> None:
    found = settled(fates)
    assert (found.disposition, found.dsn.status) == (disposition, status)
    assert numbers(found.bounce) == bounce
    assert not found.silent


@pytest.mark.parametrize(
    ("fates", "disposition", "bounce"),
    [
        pytest.param("d", DEFERRED, "", id="nothing finished: true if Postfix says so"),
        pytest.param("dd", DEFERRED, "", id="nothing finished of two"),
        pytest.param("sd", SENT, "1", id="one sent just now"),
        pytest.param("Sd", SENT, "1", id="one sent long ago"),
        pytest.param("bd", SENT, "01", id="each with its own reason"),
        pytest.param("Rd", SENT, "1", id="one reported: the queue manager would again"),
        pytest.param("SdBd", SENT, "123", id="all that are left"),
        pytest.param("ss", SENT, "", id="nothing to give up"),
    ],
)
def test_old_requests_are_given_up(
    fates: str, disposition: Disposition, bounce: str
) -> None:
    found = settled(fates, age=4 * DAY)
    assert found.disposition == disposition
    assert numbers(found.bounce) == bounce


def test_given_up_with_the_reason_of_the_deferral() -> None:
    found = settled("sd", age=5 * DAY)
    assert [outcome.dsn for outcome in found.bounce] == [LATER]


@pytest.mark.parametrize(
    ("fates", "disposition", "silent"),
    [
        pytest.param("sb", SENT, "1", id="sent and bounced"),
        pytest.param("bb", BOUNCED, "", id="Postfix knows who wants a copy"),
        pytest.param("bf", BOUNCED, "", id="in any words"),
        pytest.param("sd", DEFERRED, "", id="deferred"),
        pytest.param("bd", DEFERRED, "", id="decided in the end"),
        pytest.param("Bb", BOUNCED, "", id="refused one after the other"),
    ],
)
def test_null_sender_gets_no_report(
    fates: str, disposition: Disposition, silent: str
) -> None:
    found = settled(fates, sender="")
    assert found.disposition == disposition
    assert not found.bounce
    assert numbers(found.silent) == silent


@pytest.mark.parametrize(
    ("notify", "reported"),
    [
        ("", True),
        ("FAILURE", True),
        ("SUCCESS,FAILURE", True),
        ("failure,delay", True),
        ("NEVER", False),
        ("SUCCESS", False),
        ("DELAY", False),
    ],
)
def test_notify_is_honoured(notify: str, reported: bool) -> None:
    found = settled("sb", notify=notify)
    assert found.disposition == SENT
    assert (numbers(found.bounce), numbers(found.silent)) == (
        ("1", "") if reported else ("", "1")
    )


@pytest.mark.parametrize("notify", ["never", "delay,success"])
@pytest.mark.parametrize(("fates", "disposition"), [("bd", DEFERRED), ("Bb", BOUNCED)])
def test_who_is_not_to_be_told_waits_for_the_end(
    fates: str, disposition: Disposition, notify: str
) -> None:
    """If all bounce, Postfix knows what else is to be done about it."""
    found = settled(fates, notify=notify)
    assert (found.disposition, found.bounce, found.silent) == (disposition, (), ())


@given(
    st.text("sdbfSBFR", min_size=1, max_size=6),
    st.sampled_from(["", "me@a.test"]),
    st.booleans(),
)
def test_nobody_is_lost_and_nobody_wrongly_reported(
    fates: str, sender: str, old: bool
) -> None:
    found = settled(fates, sender=sender, age=9 * DAY if old else 0.0)
    reported = numbers(found.bounce) + numbers(found.silent)
    for number, fate in enumerate(fates):
        told = str(number) in reported
        assert not (told and fate in "sSR"), "delivered or reported before"
        assert not (told and fate == "d" and not old), "reported, and tried again"
        if found.disposition == SENT:
            assert told or fate in "sSR", "lost"
        if found.disposition == BOUNCED:
            assert fate in "bfBF", "wrongly reported by Postfix"
            assert not reported, "reported by both"
        if found.disposition == DEFERRED and sender and fate in "bfBF":
            assert told, "not told at once"
    if old:
        # After our answer Postfix may give up: then nobody may be finished.
        assert found.disposition != DEFERRED or set(fates) == {"d"}


@given(st.lists(st.text("sdbf", min_size=4, max_size=4), min_size=1, max_size=6))
def test_over_all_attempts_each_is_reported_once(attempts: list[str]) -> None:
    """What the ledger remembers between them, as pipe/ledgered.py writes it."""
    known: dict[int, str] = {}
    reports: list[str] = []
    for attempt in attempts:
        fates = "".join(known.get(n, fate) for n, fate in enumerate(attempt))
        found = settled(fates)
        reports += numbers(found.bounce)
        if found.disposition is not DEFERRED:
            break
        for number, fate in enumerate(fates):
            known |= {number: "S"} if fate == "s" else {}
            known |= {number: "R"} if fate in "bf" else {}
    assert len(reports) == len(set(reports))
    ended = found.disposition is not DEFERRED
    for number, fate in enumerate(fates):
        refused = fate in "bfR"
        by_postfix = found.disposition == BOUNCED
        assert (str(number) in reported_by(reports, by_postfix)) == refused
        assert not (ended and fate == "d")


def reported_by(reports: list[str], by_postfix: bool) -> str:
    return "0123" if by_postfix and not reports else "".join(reports)


def test_no_outcome_is_a_deferral() -> None:
    request = DeliveryRequest("s@a", (Recipient("r@b"), Recipient("q@b")), "b")
    outcomes = [Outcome(Recipient("q@b"), SENT, OK)]
    found = settle(request, outcomes, {}, age=0, give_up_age=DAY, log="")
    assert found.disposition == DEFERRED
    assert found.dsn == dsn("4.3.0 internal error: no outcome")


def test_a_report_that_is_refused_defers_in_postfix_words() -> None:
    found = bounce_failed()
    assert found.disposition == DEFERRED
    assert found.dsn == dsn("4.3.0 bounce or trace service failure")


def test_an_address_that_stands_twice_counts_twice() -> None:
    recipients = tuple(
        Recipient(address, position=n)
        for n, address in enumerate(["a@b", "c@b", "a@b"])
    )
    assert places(recipients) == (("a@b", 0), ("c@b", 0), ("a@b", 1))
    thrice = (Recipient("a@b"), Recipient("a@b"), Recipient("a@b"))
    assert places(thrice) == (("a@b", 0), ("a@b", 1), ("a@b", 2))
    left = unfinished(recipients, {("a@b", 0): Finished(SENT, OK)})
    assert [recipient.position for recipient in left] == [1, 2]


@pytest.mark.parametrize(
    ("fates", "left"),
    list(zip(("sd", "ds", "ss", "dd"), ("1", "0", "", "01"), strict=True)),
)
def test_twins_are_told_apart(fates: str, left: str) -> None:
    twins = (Recipient("a@b", position=0), Recipient("a@b", position=1))
    request = DeliveryRequest("s@a", twins, "b")
    outcomes = [Outcome(t, *NOW[f]) for t, f in zip(twins, fates, strict=True)]
    for order in itertools.permutations(outcomes):
        found = settle(request, order, {}, age=9 * DAY, give_up_age=1, log="")
        reported = "".join(str(o.recipient.position) for o in found.bounce)
        assert reported == ("" if fates == "dd" else left)


@pytest.mark.parametrize(
    ("count", "problem", "answer"),
    [
        pytest.param(1, "", None, id="one needs no ledger"),
        pytest.param(1, "no space", None, id="one, and the ledger is broken"),
        pytest.param(
            *(2, "state directory /x: no space"),
            "4.3.0 ledger unavailable: state directory /x: no space",
            id="broken ledger",
        ),
        pytest.param(
            *(2, ""),
            "4.3.5 mail system configuration error: several recipients in one request"
            " need a state directory, or a recipient limit of 1",
            id="no state directory",
        ),
    ],
)
def test_refusal(count: int, problem: str, answer: str | None) -> None:
    assert refusal(count, problem=problem) == (dsn(answer) if answer else None)


def test_requests_that_wait_say_for_what() -> None:
    assert dsn("4.3.0 delivery in progress") == IN_PROGRESS
    assert (
        dsn(
            "4.3.5 mail system configuration error: several recipients in one request"
            " need --queue-id"
        )
        == NO_NAME
    )


@pytest.mark.parametrize(
    ("fates", "text"),
    [
        ("sb", "1 sent, 1 bounced (5.1.1)"),
        ("sSbfB", "2 sent, 3 bounced (5.1.1, 5.2.2)"),
        ("bf", "2 bounced (5.1.1, 5.2.2)"),
        ("SR", "1 sent, 1 bounced (5.1.1)"),
        ("RR", "2 bounced (5.1.1)"),
        ("sSd", "2 sent, 1 expired (4.2.0)"),
        ("sdbR", "1 sent, 2 bounced (5.1.1), 1 expired (4.2.0)"),
    ],
)
def test_what_postfix_logs_when_outcomes_differ(fates: str, text: str) -> None:
    found = settled(fates, age=9 * DAY)
    assert found.dsn == dsn(f"2.0.0 {text}: see postfix-trouble[581]")


def test_what_postfix_logs_when_all_are_sent() -> None:
    assert settled("sS").dsn == settled("s").dsn == OK


def test_what_postfix_logs_of_many_codes() -> None:
    """It takes 100 bytes."""
    recipients = tuple(Recipient(f"{n}@b.test", position=n) for n in range(9))
    outcomes = [
        Outcome(recipient, BOUNCED, dsn(f"5.1.{recipient.position} no"))
        for recipient in recipients
    ]
    request = DeliveryRequest("s@a", recipients, "b")
    found = settle(request, outcomes, {}, age=0, give_up_age=DAY, log="here")
    assert found.dsn.reason == "9 bounced (5.1.0, 5.1.1, 5.1.2, ...): see here"


def test_old_and_one_sent_now_is_given_up() -> None:
    found = settled("sd", age=9 * DAY)
    assert found.disposition == SENT
    assert [end.recipient.position for end in found.bounce] == [1]
