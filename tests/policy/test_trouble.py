"""The policy: each sentence a row, and all combinations against the decision tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from decision_tables import (
    APPEND,
    BULK,
    BY_CODE,
    ENTRY_POINTS,
    FILTER,
    KEEP,
    LEFT_OVER,
    ONE,
    STREAM,
    row_for,
)
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import DSN, Disposition, Outcome, Situation, Verdict
from postfix_trouble.core.relay import Relay
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import Phase
from postfix_trouble.policy import trouble
from postfix_trouble.policy.trouble import Fail, OutcomeRules, Stamps
from postfix_trouble.smtp.replies import status_of

RELAY = Relay("mx.d.test", "192.0.2.1", 25)
WHOM = Recipient("u@d.test")
YES_NO = (False, True)


def reply(code: int | str, text: str = "said so", status: str = "") -> Reply:
    """A reply of the server as the reader gives it."""
    line = f"{code} {text}"
    return Reply(int(code), EnhancedStatus(status) or status_of(int(code), line), line)


def call(
    name: str,
    now: Situation,
    answer: Reply,
    flags: Fail = Fail.NONE,
    reason: str = "reason",
) -> Verdict:
    """Call an entry point by name; DSN-taking ones get a filled report."""
    if name == "sess_fail":
        return trouble.sess_fail(now, DSN(answer.status, reason))
    if name == "misc_fail":
        return trouble.misc_fail(now, flags, answer, reason)
    entry: Callable[..., Verdict] = getattr(trouble, name)
    return entry(now, answer, reason)


def word(outcome: Outcome) -> str:
    """The word after `status=` in the log."""
    return "SOFTBOUNCE" if outcome.soft_bounce else outcome.disposition.value


# --- step 1: the report ---------------------------------------------------------------

FILLING = [name for name, entry in ENTRY_POINTS.items() if entry.fills]


@pytest.mark.parametrize("name", FILLING)
@pytest.mark.parametrize(("code", "status", "prefix", "protocol"), BY_CODE)
def test_report_by_code(
    name: str, code: str, status: str, prefix: bool, protocol: bool
) -> None:
    verdict = call(name, Situation(RELAY), reply(code), reason="host said so")
    text = "Protocol error: host said so" if prefix else "host said so"
    assert verdict.dsn == DSN(
        EnhancedStatus(status), text, "mx.d.test", "smtp", f"{code} said so"
    )
    assert verdict.protocol_error is protocol
    if protocol:
        assert not verdict.reusable, "a server out of step gets no second message"


def test_protocol_error_by_code() -> None:
    for code in range(1000):
        verdict = trouble.mesg_fail(Situation(RELAY), reply(f"{code:03}"), "x")
        in_step = 400 <= code <= 499 or (510 <= code <= 599 and code != 555)
        assert verdict.protocol_error is not in_step, code
        prefix = verdict.dsn.reason.startswith("Protocol error: ")
        assert prefix is (code // 100 == 2), code


@pytest.mark.parametrize("name", FILLING)
def test_our_own_decision_blames_nobody(name: str) -> None:
    verdict = call(name, Situation(RELAY), Reply.local("5.3.4"))
    assert verdict.dsn == DSN(EnhancedStatus("5.3.4"), "reason")
    assert not verdict.protocol_error


def test_lines_of_a_reply_are_joined_by_blanks_in_the_diagnostic() -> None:
    said = Reply(550, EnhancedStatus("5.1.1"), "550-5.1.1 no\n550 5.1.1 never")
    verdict = trouble.rcpt_fail(Situation(RELAY), said, "x")
    assert verdict.dsn.diagnostic == "550-5.1.1 no 550 5.1.1 never"


@pytest.mark.parametrize(("code", "protocol"), [(500, True), (554, False), (555, True)])
def test_code_and_not_status_tells_a_protocol_error(code: int, protocol: bool) -> None:
    # smtp_skip_5xx_greeting: the status is soft, the code is what it was.
    softened = reply(code, status="4.7.0")
    verdict = trouble.site_fail(Situation(RELAY), softened, "x")
    assert verdict.protocol_error is protocol
    assert verdict.action.value == KEEP


# --- step 2: the decision -------------------------------------------------------------

FLAGS = [
    Fail.NONE,
    Fail.THROTTLE,
    Fail.SOFT_NON_FINAL,
    Fail.DONT_CACHE,
    Fail.THROTTLE | Fail.SOFT_NON_FINAL,
    Fail.DONT_CACHE | Fail.SOFT_NON_FINAL,
]


def combinations() -> Iterator[Any]:
    """Everything the policy looks at, for every entry point."""
    names = [name for name in ENTRY_POINTS if name != "stream_except"]
    for name, digit in product(names, "45"):
        for soft_bounce, final, complete in product(YES_NO, repeat=3):
            for flags in FLAGS if name == "misc_fail" else [Fail.NONE]:
                facts = (name, digit, soft_bounce, final, complete, flags)
                bits = f"soft{soft_bounce:d}-final{final:d}-complete{complete:d}"
                label = f"{name}-{digit}xx-{bits}-flags{flags.value}"
                yield pytest.param(*facts, id=label)


@pytest.mark.parametrize(
    ("name", "digit", "soft_bounce", "final", "complete", "flags"), list(combinations())
)
def test_decision(
    name: str,
    digit: str,
    soft_bounce: bool,
    final: bool,
    complete: bool,
    flags: Fail,
) -> None:
    now = Situation(RELAY, final, soft_bounce, complete)
    verdict = call(name, now, reply(f"{digit}51", f"{digit}.7.1 no"), flags)
    entry = ENTRY_POINTS[name]
    if entry.bulk:
        non_final = Fail.SOFT_NON_FINAL in flags
        action, logged, klass = row_for(BULK, digit, soft_bounce, non_final, final)
    else:
        action, logged, klass = row_for(ONE, digit, soft_bounce, final)
    assert verdict.action.value == action
    throttles = Fail.THROTTLE in flags if entry.throttle is None else entry.throttle
    if action == KEEP:
        assert not verdict.throttle
    else:
        append = getattr(trouble, f"{action}_append")
        outcome = append(OutcomeRules(soft_bounce), WHOM, verdict.dsn)
        assert word(outcome) == logged
        assert outcome.dsn.status == f"{klass}.7.1"
        # It counts if a recipient stays in the queue; a bounce may end so too.
        assert verdict.throttle is (throttles and not complete)
    assert verdict.reusable is not (throttles or Fail.DONT_CACHE in flags)
    assert not verdict.retry_plaintext
    assert verdict.dsn.status == f"{digit}.7.1", "the report keeps what was said"


@pytest.mark.parametrize("soft_bounce", YES_NO)
@pytest.mark.parametrize("final", YES_NO)
@pytest.mark.parametrize("flags", FLAGS)
def test_status_that_is_no_failure(soft_bounce: bool, final: bool, flags: Fail) -> None:
    now = Situation(RELAY, final, soft_bounce)
    verdict = trouble.misc_fail(now, flags, Reply.local("2.0.0"), "x")
    action, logged, klass = row_for(
        BULK, "2", soft_bounce, Fail.SOFT_NON_FINAL in flags, final
    )
    assert verdict.action.value == action
    outcome = trouble.bounce_append(OutcomeRules(soft_bounce), WHOM, verdict.dsn)
    assert (word(outcome), outcome.dsn.status) == (logged, f"{klass}.0.0")


def test_hard_error_bounces_even_if_other_hosts_are_left() -> None:
    verdict = trouble.site_fail(Situation(RELAY), reply(550), "x")
    assert verdict.action.value == "bounce"


def test_hard_error_of_one_recipient_never_throttles() -> None:
    now = Situation(RELAY, final_server=True, soft_bounce=True)
    for code in (450, 550):
        assert not trouble.rcpt_fail(now, reply(code), "x").throttle


# --- the conversation breaks ----------------------------------------------------------


@pytest.mark.parametrize("lost", list(Lost), ids=lambda lost: lost.name)
@pytest.mark.parametrize("phase", list(Phase), ids=lambda phase: phase.name)
def test_stream_exception_is_worded_by_stage(lost: Lost, phase: Phase) -> None:
    verdict = trouble.stream_except(Situation(RELAY), lost, phase.doing)
    status, words, _data, _retry = STREAM[lost.name]
    reason = words.format("mx.d.test[192.0.2.1]", phase.doing)
    assert verdict.dsn == DSN(EnhancedStatus(status), reason)


@pytest.mark.parametrize("lost", list(Lost), ids=lambda lost: lost.name)
@pytest.mark.parametrize("final", YES_NO)
@pytest.mark.parametrize("fallback", YES_NO)
@pytest.mark.parametrize("soft_bounce", YES_NO)
@pytest.mark.parametrize("complete", YES_NO)
def test_stream_exception(
    lost: Lost, final: bool, fallback: bool, soft_bounce: bool, complete: bool
) -> None:
    now = Situation(RELAY, final, soft_bounce, complete, fallback)
    verdict = trouble.stream_except(now, lost, "testing")
    retry = fallback and STREAM[lost.name][3]
    action = KEEP if retry else row_for(BULK, "4", soft_bounce, False, final)[0]
    assert verdict.action.value == action
    assert verdict.retry_plaintext is retry
    assert verdict.throttle is (action != KEEP and not complete)
    assert not verdict.reusable


def test_stream_exception_needs_a_session() -> None:
    with pytest.raises(AssertionError):
        trouble.stream_except(Situation(), Lost.EOF, "testing")


# --- after the last host --------------------------------------------------------------


@pytest.mark.parametrize("status", ["", "4.4.1", "4.4.6", "5.1.1", "5.4.6", "2.0.0"])
@pytest.mark.parametrize("fallback", YES_NO)
@pytest.mark.parametrize("relayhost", YES_NO)
@pytest.mark.parametrize("transport", ["", "local"])
def test_left_over(
    status: str, fallback: bool, relayhost: bool, transport: str
) -> None:
    why = DSN(EnhancedStatus(status), "text" if status else "", "host", "smtp", "said")
    left, warning = trouble.left_over(
        why, fallback=fallback, relayhost=relayhost, loop_transport=transport
    )
    expected, words = row_for(
        LEFT_OVER,
        status[:1],
        fallback,
        relayhost,
        status.endswith(".4.6"),
        bool(transport),
    )
    assert left.status == (status if expected is None else expected)
    assert words in warning
    assert bool(words) is bool(warning)
    if status:
        assert left == why._replace(status=left.status), "all else is kept"
    else:
        assert left.reason == "server unavailable or unable to receive mail"


# --- the records ----------------------------------------------------------------------


def record(rules: OutcomeRules, operation: str, status: str) -> Outcome:
    why = DSN(EnhancedStatus(status), "some reason", "mx.d.test", "smtp", "said")
    if operation == "sent":
        said = Reply(250, EnhancedStatus(status), "some\nreason")
        return trouble.sent(rules, WHOM, RELAY, said, "relayed")
    append = trouble.defer_append if operation == "defer" else trouble.bounce_append
    return append(rules, WHOM, why)


OPERATIONS = ("defer", "bounce", "sent")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("digit", ["2", "4", "5", ""])
@pytest.mark.parametrize("soft_bounce", YES_NO)
def test_record(operation: str, digit: str, soft_bounce: bool) -> None:
    warnings: list[str] = []
    rules = OutcomeRules(soft_bounce, warn=warnings.append)
    status = f"{digit}.7.1" if digit else ""
    outcome = record(rules, operation, status)
    logged, expected, action = row_for(APPEND, operation, digit, soft_bounce)
    assert (word(outcome), outcome.dsn.status, outcome.action) == (
        logged,
        expected,
        action,
    )
    assert outcome.dsn.reason == "some reason"
    assert outcome.soft_bounce is (logged == "SOFTBOUNCE")
    right = {"defer": "4", "bounce": "5", "sent": "2"}[operation]
    who = operation if operation == "sent" else f"{operation}_append"
    wrong = [] if digit == right else [f"{who}: ignoring dsn code {status}"]
    assert [text.replace('"', "") for text in warnings] == wrong


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("digit", "245")
@pytest.mark.parametrize("soft_bounce", YES_NO)
def test_status_filter(operation: str, digit: str, soft_bounce: bool) -> None:
    asked: list[str] = []
    warnings: list[str] = []

    def change(text: str) -> str:
        asked.append(text)
        return f"{digit}.9.9  other words"

    rules = OutcomeRules(soft_bounce, change, warnings.append)
    before = {"defer": "4.7.1", "bounce": "5.7.1", "sent": "2.7.1"}[operation]
    outcome = record(rules, operation, before)
    assert asked == [f"{before} some reason"]
    logged, status = row_for(FILTER, operation, digit, soft_bounce)
    if logged:
        assert (word(outcome), outcome.dsn.status) == (logged, status)
        assert outcome.dsn.reason == "other words"
        assert warnings == []
    else:
        assert outcome == record(OutcomeRules(soft_bounce), operation, before)
        what = "smtp_delivery_status_filter: bad status code"
        assert warnings == [f"{what}: {digit}.9.9  other words"]


@pytest.mark.parametrize("found", ["nonsense", "", "4.9", "4.9.9x y", " 4.9.9 y"])
def test_status_filter_without_a_status_is_passed_over(found: str) -> None:
    rules = OutcomeRules(status_filter=lambda text: found)
    assert record(rules, "defer", "4.7.1").dsn.reason == "some reason"


def test_status_filter_without_a_hit_changes_nothing() -> None:
    rules = OutcomeRules(status_filter=lambda text: None)
    assert record(rules, "bounce", "5.7.1") == record(OutcomeRules(), "bounce", "5.7.1")


def test_remote_mta_and_diagnostic_survive_the_status_filter() -> None:
    rules = OutcomeRules(status_filter=lambda text: "5.0.0 x")
    dsn = record(rules, "defer", "4.7.1").dsn
    assert (dsn.remote_mta, dsn.diagnostic) == ("mx.d.test", "said")


def test_sent_tells_who_took_it() -> None:
    outcome = record(OutcomeRules(), "sent", "2.1.5")
    assert outcome.relay == "mx.d.test[192.0.2.1]:25"
    assert outcome.dsn == DSN(
        EnhancedStatus("2.1.5"), "some reason", "mx.d.test", "smtp", "some reason"
    )


@pytest.mark.parametrize("soft_bounce", YES_NO)
def test_bounce_that_cannot_be_recorded_is_deferred(soft_bounce: bool) -> None:
    outcome = trouble.bounce_failed(
        record(OutcomeRules(soft_bounce), "bounce", "5.7.1")
    )
    assert outcome.disposition is Disposition.DEFERRED
    assert (outcome.dsn.status, outcome.action) == ("4.3.0", "delayed")
    assert outcome.dsn.reason == "bounce or trace service failure"
    assert not outcome.soft_bounce


# --- time stamps ----------------------------------------------------------------------


def stamps(setup: float | None = None, done: float | None = None) -> Stamps:
    """Arrived at 90, handed to us at 100."""
    made = Stamps(90.0, 100.0)
    made.setup_done, made.deliver_done = setup, done
    return made


@pytest.mark.parametrize(
    ("made", "now", "expected"),
    [
        pytest.param(stamps(), 103.0, (10, 0, 0, 3), id="nothing happened yet"),
        pytest.param(stamps(102.0), 105.0, (10, 0, 2, 3), id="MAIL was sent"),
        pytest.param(stamps(102.0, 104.0), 109.0, (10, 0, 2, 2), id="the dot's reply"),
        pytest.param(stamps(102.0, 101.0), 109.0, (10, 0, 2, 0), id="clock set back"),
        pytest.param(stamps(99.0, 104.0), 109.0, (10, 0, 0, 5), id="and before that"),
    ],
)
def test_delays(made: Stamps, now: float, expected: tuple[float, ...]) -> None:
    assert tuple(made.delays(now)) == expected


def test_failure_before_mail_takes_no_transmission_time() -> None:
    made = stamps()
    made.bulk_failed(104.0)
    assert tuple(made.delays(109.0)) == (10, 0, 4, 0)


def test_failure_after_mail_ends_the_transmission() -> None:
    made = stamps(102.0)
    made.bulk_failed(104.0)
    assert tuple(made.delays(109.0)) == (10, 0, 2, 2)


def test_time_spent_at_earlier_hosts_is_set_up_time() -> None:
    made = stamps(102.0, 104.0)
    made.forget_session()
    made.setup_done = 107.0
    assert tuple(made.delays(108.0)) == (10, 0, 7, 1)


def test_message_from_the_future_is_not_older_than_now() -> None:
    assert tuple(Stamps(110.0, 100.0).delays(100.0)) == (0, 0, 0, 0)


@given(st.lists(st.floats(0, 1e9), min_size=5, max_size=5))
def test_no_delay_is_negative(times: list[float]) -> None:
    made = Stamps(times[0], times[1])
    made.setup_done, made.deliver_done = times[2], times[3]
    assert min(made.delays(times[4])) >= 0


# --- what the message asks for --------------------------------------------------------


def test_smtputf8_is_needed_only_if_asked_for_and_used() -> None:
    plain = DeliveryRequest("s@d.test", (WHOM,), "d.test")
    foreign = (Recipient("\u00fc@d.test"),)
    rows = [
        (plain, False),
        (plain._replace(smtputf8=True), False),
        (plain._replace(recipients=foreign), False),
        (plain._replace(smtputf8=True, recipients=foreign), True),
        (plain._replace(smtputf8=True, sender="\u00fc@d.test"), True),
        (plain._replace(smtputf8=True, utf8_header=True), True),
        (plain._replace(utf8_header=True), False),
    ]
    for request, needed in rows:
        assert request.needs_smtputf8 is needed


# --- words, and what is so unless somebody says otherwise -----------------------------


def test_nothing_is_assumed() -> None:
    assert Situation() == (None, False, False, False, False)
    assert OutcomeRules() == (False, None, None)


@pytest.mark.parametrize("flag", [Fail.NONE, Fail.SOFT_NON_FINAL, Fail.DONT_CACHE])
def test_side_effects_come_one_by_one(flag: Fail) -> None:
    now = Situation(RELAY, final_server=True)
    verdict = trouble.misc_fail(now, flag, reply(450), "x")
    assert not verdict.throttle
    assert verdict.reusable is (flag is not Fail.DONT_CACHE)


def test_a_reply_without_a_session_names_no_host() -> None:
    assert trouble.fill_dsn(Situation(), reply(450), "x").remote_mta == ""


def test_status_out_of_step_with_the_code_is_a_protocol_error() -> None:
    verdict = trouble.mesg_fail(Situation(RELAY), reply(450, status="2.0.0"), "x")
    assert verdict.protocol_error
    assert verdict.dsn.status == "5.5.0"


@pytest.mark.parametrize(
    ("which", "warning"),
    [
        ({"fallback": True}, "smtp_fallback_relay configuration problem"),
        ({"relayhost": True}, "relayhost configuration problem"),
        (
            {"loop_transport": "local"},
            "best_mx_transport = local is out of reach of pipe(8)",
        ),
        ({}, ""),
    ],
)
def test_left_over_warns(which: dict[str, Any], warning: str) -> None:
    why = DSN(EnhancedStatus("5.4.6"), "text")
    where = {"fallback": False, "relayhost": False, **which}
    assert trouble.left_over(why, **where)[1] == warning
