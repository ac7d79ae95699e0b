"""Lines of the dialogue, the time line, and the table, at every width."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.cli.live import (
    Event,
    Stage,
    Timing,
    Way,
    event_lines,
    merged,
    time_line,
)
from postfix_trouble.cli.outcome_table import OutcomeRow, Retries, duration, table
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.envelope import Recipient
from postfix_trouble.core.outcome import DSN, Disposition, Outcome
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.terminal.columns import plain

EVENTS: list[Any] = [
    (Event(0.0, Way.ABOUT, "connecting"), "  0.000 === connecting"),
    (Event(0.0, Way.TROUBLE, "lost"), "  0.000 **  lost"),
    (Event(1.5, Way.OUT, "QUIT"), "  1.500  -> QUIT"),
    (Event(1.5, Way.IN, "221 bye"), "  1.500 <-  221 bye"),
    (Event(1.5, Way.IN, "450 no"), "  1.500 <** 450 no"),
    (Event(1.5, Way.OUT, "QUIT", True), "  1.500  ~> QUIT"),
    (Event(1.5, Way.IN, "221 bye", True), "  1.500 <~  221 bye"),
    (Event(1.5, Way.IN, "550 no", True), "  1.500 <~* 550 no"),
    (Event(1.5, Way.REPLACED, "250 ok"), "  1.500 <=  250 ok"),
    (Event(1234.5, Way.IN, "220 a\tb\x1b[2J"), "1234.500 <-  220 a?b?[2J"),
]


@pytest.mark.parametrize(("event", "line"), EVENTS, ids=lambda x: str(x)[:40])
def test_line(event: Event, line: str) -> None:
    assert event_lines(event, 200, plain) == [line]


@given(st.text(st.characters(codec="ascii"), max_size=200), st.integers(40, 100))
def test_no_line_is_wider_than_the_screen_and_nothing_is_lost(
    text: str, width: int
) -> None:
    lines = event_lines(Event(0.0, Way.IN, text), width, plain)
    assert max(map(len, lines)) <= width
    shown = "".join(line[12:] for line in lines)
    assert shown.replace(" ", "") == "".join(
        c if c.isprintable() else "?" for c in text
    ).replace(" ", "")


def test_stages_that_follow_each_other_are_one() -> None:
    stages = [Stage("a", 0.0, 1.0), Stage("a", 2.0, 1.0), Stage("b", 3.0, 1.0)]
    assert merged([*stages, stages[0]]) == (
        Stage("a", 0.0, 3.0),
        stages[2],
        stages[0],
    )


def test_time_line() -> None:
    timing = Timing(
        "mx[192.0.2.1]:25", (Stage("connect", 0.0, 0.5), Stage("data", 1.5, 0.5))
    )
    assert time_line([timing], 46, plain) == [
        "mx[192.0.2.1]:25",
        "  connect    0.500 s  |=====               |",
        "  data       0.500 s  |               =====|",
        "  total      2.000 s",
    ]
    assert time_line([], 80, plain) == []


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1000)), min_size=1),
    st.integers(40, 100),
)
def test_bars_stay_on_the_screen(spans: list[tuple[float, float]], width: int) -> None:
    timing = Timing("x", tuple(Stage("data", *span) for span in spans))
    lines = time_line([timing], width, plain)
    assert max(map(len, lines)) <= width
    assert all("=" in line for line in lines[1:-1])


# --- the table ----------------------------------------------------------------------

RETRIES = Retries(300, 4000, 432000)
ROW = OutcomeRow(
    Outcome(
        Recipient("a b@example.com"),
        Disposition.DEFERRED,
        DSN(EnhancedStatus("4.7.1"), "host mx.example.com[192.0.2.1] said: 450 no"),
        "mx.example.com[192.0.2.1]:25",
    ),
    "rcpt_fail: soft, last host, deferred",
    RETRIES,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.6, "1m"),
        (4000, "1h 6m 40s"),
        (432000, "5d"),
        (90061, "1d 1h 1m 1s"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


RETRYING: list[Any] = [
    (RETRIES, "tried again after 5m, 5m, 10m, 20m, 40m, then every 1h 6m 40s;"
     " returned to sender after 5d"),
    (Retries(300, 300, 3600), "tried again every 5m; returned to sender after 1h"),
    (Retries(300, 4000, 0), "never tried again: maximal_queue_lifetime is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("retries", "text"), RETRYING)
def test_retries_are_those_of_the_queue_manager(retries: Retries, text: str) -> None:
    assert str(retries) == text


def test_bounces_have_a_lifetime_of_their_own() -> None:
    settings = Settings({"bounce_queue_lifetime": "1d"})
    assert Retries.of(settings, null_sender=True).lifetime == 86400
    assert Retries.of(settings, null_sender=False) == RETRIES


def test_table_has_a_line_for_each_and_the_reason_below() -> None:
    shown = [
        "RECIPIENT          RESULT    STATUS  SERVER",
        '"a b"@example.com  deferred  4.7.1   mx.example.com[192.0.2.1]:25',
        "  450 no",
        "  tried again after 5m, 5m, 10m, 20m, 40m, then every 1h 6m 40s; returned to",
        "  sender after 5d",
    ]
    assert table([ROW], 80, plain) == shown
    assert table([ROW], 80, plain, rules=True) == [
        *shown,
        "  rcpt_fail: soft, last host, deferred; exit status 75 (EX_TEMPFAIL)",
    ]


def test_table_has_all_of_a_reason_that_is_no_reply() -> None:
    reason = "connect to mx.example.com[192.0.2.1]:25: Connection refused"
    outcome = ROW.outcome._replace(
        dsn=DSN(EnhancedStatus("4.4.1"), reason), relay="none"
    )
    head, row, said, *_ = table([ROW._replace(outcome=outcome)], 80, plain)
    assert head.endswith("  SERVER")
    assert row.endswith("  4.4.1")
    assert said == f"  {reason}"


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
    st.sampled_from(list(Disposition)),
    st.integers(40, 100),
    st.booleans(),
)
def test_table_fits(local: str, word: Disposition, width: int, throttled: bool) -> None:
    outcome = ROW.outcome._replace(
        recipient=Recipient(f"{local}@example.com"), disposition=word
    )
    row = ROW._replace(outcome=outcome, throttled=throttled)
    lines = table([row, row], width, plain)
    assert max(map(len, lines)) <= width
    shown = "".join(lines).replace(" ", "")
    assert word.value in shown
    assert "4.7.1" in shown


def test_soft_bounce_has_its_word_and_a_probe_sends_nothing() -> None:
    soft = ROW.outcome._replace(soft_bounce=True)
    assert ROW._replace(outcome=soft).word == "SOFTBOUNCE"
    sent = ROW.outcome._replace(disposition=Disposition.SENT)
    assert ROW._replace(outcome=sent).word == "sent"
    assert ROW._replace(outcome=sent, probed=True).word == "accepted"
