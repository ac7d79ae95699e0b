"""Delivery records, as Postfix writes them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.envelope import Recipient
from postfix_trouble.core.outcome import DSN, Delays, Disposition, Outcome
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.report.log import (
    delays,
    delivery_record,
    delivery_records,
    printable,
    seconds,
)

BASE = Outcome(
    Recipient("u@d.test"),
    Disposition.SENT,
    DSN(EnhancedStatus("2.0.0"), "250 2.0.0 Ok"),
    "mx.test[192.0.2.1]:25",
    Delays(0.1, 0.02, 0.0, 0.3),
)
START = "QID: to=<u@d.test>, "
MIDDLE = "relay=mx.test[192.0.2.1]:25, delay=0.42, delays=0.1/0.02/0/0.3, "


def test_record() -> None:
    end = "dsn=2.0.0, status=sent (250 2.0.0 Ok)"
    assert delivery_record("QID", BASE) == START + MIDDLE + end


RECORDS = [
    (BASE._replace(connection_use=3), ", conn_use=3, delay="),
    (BASE._replace(relay="none"), "relay=none, "),
    (BASE._replace(disposition=Disposition.BOUNCED), "status=bounced ("),
    (BASE._replace(disposition=Disposition.DEFERRED), "status=deferred ("),
    (
        BASE._replace(disposition=Disposition.DEFERRED, soft_bounce=True),
        "status=SOFTBOUNCE (",
    ),
    (
        BASE._replace(recipient=Recipient("u@d.test", "o@d.test")),
        "to=<u@d.test>, orig_to=<o@d.test>, relay=",
    ),
    (
        BASE._replace(recipient=Recipient("a b@d", "c d@d")),
        '"a b"@d>, orig_to=<"c d"@d>',
    ),
    (
        BASE._replace(dsn=DSN(EnhancedStatus("4.0.0"), "a\nb\x1b\udcff")),
        "(a?b??)",
    ),
]


@pytest.mark.parametrize(("outcome", "part"), RECORDS)
def test_parts_of_a_record(outcome: Outcome, part: str) -> None:
    assert part in delivery_record("QID", outcome)


@pytest.mark.parametrize(
    ("settings", "logged"),
    [
        ({}, True),
        ({"trouble_postfix_version": "3.11"}, True),
        ({"trouble_postfix_version": "3.10"}, False),
        ({"smtp_log_tls_feature_status": "no"}, False),
    ],
)
def test_tls_is_told_as_the_postfix_that_is_followed_does(
    settings: dict[str, str], logged: bool
) -> None:
    outcome = BASE._replace(tls="may:none")
    (record,) = delivery_records("QID", (outcome,), Settings(settings))
    assert (", tls=may:none, dsn=" in record) is logged


def test_nothing_is_told_of_tls_where_no_server_was_tried() -> None:
    assert "tls=" not in delivery_record("QID", BASE, tls=True)


@pytest.mark.parametrize("original", ["", "u@d.test", "U@D.Test"])
def test_original_recipient_is_shown_only_if_it_differs(original: str) -> None:
    record = delivery_record(
        "QID", BASE._replace(recipient=Recipient("u@d.test", original))
    )
    assert "orig_to" not in record


def test_addresses_in_internal_form() -> None:
    outcome = BASE._replace(recipient=Recipient("a b@d"))
    assert "to=<a b@d>," in delivery_record("QID", outcome, external=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1.0, "0"),
        (0.0, "0"),
        (0.001, "0"),
        (0.004, "0"),
        (0.006, "0.01"),
        (0.05, "0.05"),
        (0.3, "0.3"),
        (0.42, "0.42"),
        (1.0, "1"),
        (1.23, "1.2"),
        (9.0, "9"),
        (9.94, "9.9"),
        (10.4, "10"),
        (36.6, "37"),
        (100.0, "100"),
        (86400.2, "86400"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(("resolution", "text"), [(0, "0"), (1, "0.4"), (2, "0.42")])
def test_resolution(resolution: int, text: str) -> None:
    assert seconds(0.42, resolution) == text


def test_resolution_reaches_the_record() -> None:
    assert "delay=0.4, delays=0.1/0/0/0.3," in delivery_record(
        "QID", BASE, resolution=1
    )
    assert delays(Delays(1.0, 0.0, 12.3, 0.25)) == "1/0/12/0.25"


@given(st.floats(0, 1e6))
def test_times_are_short_and_near(value: float) -> None:
    text = seconds(value)
    assert re.fullmatch(r"\d+(\.\d{1,2})?", text)
    assert not text.endswith(".0")
    assert abs(float(text) - value) <= max(0.0051, value * 0.051)


@given(st.text(), st.text(), st.text())
def test_nobody_forges_a_record(address: str, original: str, reason: str) -> None:
    dsn = DSN(EnhancedStatus("4.0.0"), reason)
    rcpt = Recipient(address, original)
    record = delivery_record("QID", BASE._replace(recipient=rcpt, dsn=dsn))
    assert len(record.split("\n")) == 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", record)


def test_forged_recipient_stays_between_quotes() -> None:
    evil = Recipient("x>, relay=evil, status=sent (ok)@d.test")
    record = delivery_record("QID", BASE._replace(recipient=evil))
    assert record.startswith('QID: to=<"x>, relay=evil, status=sent (ok)"@d.test>, ')


@pytest.mark.parametrize("text", ["plain", "\u00fc\u4e2d", "\u202e"])
def test_printable_text_stays(text: str) -> None:
    assert printable(text) == text
