"""The JSON object: its names and values are public."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import (
    DSN,
    Delays,
    Disposition,
    Outcome,
    Report,
    ServerRecord,
)
from postfix_trouble.core.relay import Relay
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.tls import TlsFacts
from postfix_trouble.report import as_json
from postfix_trouble.report.pipe8 import Exit, deferred

WHOM = Recipient("u@d.test", "o@d.test")
REQUEST = DeliveryRequest("s@d.test", (WHOM,), "d.test", "QID")
RELAY = Relay("mx.test", "192.0.2.1", 25)
OUTCOME = Outcome(
    WHOM,
    Disposition.DEFERRED,
    DSN(EnhancedStatus("4.2.0"), "reason", "mx.test", "smtp", "450 4.2.0 x"),
    RELAY.namaddrport,
    Delays(1.0, 0.0, 0.25, 0.12345),
    "delayed",
    tls="may:none",
)
TLS = TlsFacts("TLSv1.3", "X", 256, details=(("subject", "mx.test"),))
SERVER = ServerRecord(
    RELAY, TLS, False, (("In: ", "220 hi"), ("Out:", "EHLO me"), ("Out:", "QUIT"))
)
REPORT = Report(REQUEST, (OUTCOME,), ("first host refused",), None, (SERVER,))
END = Exit(75, "4.2.0 reason")


def shown(report: Report = REPORT, notices: tuple[str, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        as_json.render(report._replace(notices=notices), END)
    )
    return found


def test_whole_object() -> None:
    assert shown(notices=("protocol",)) == {
        "version": 1,
        "queue_id": "QID",
        "sender": "s@d.test",
        "nexthop": "d.test",
        "exit_status": 75,
        "exit_name": "EX_TEMPFAIL",
        "status_line": "4.2.0 reason",
        "recipients": [
            {
                "recipient": "u@d.test",
                "original_recipient": "o@d.test",
                "status": "deferred",
                "action": "delayed",
                "dsn": "4.2.0",
                "relay": "mx.test[192.0.2.1]:25",
                "reason": "reason",
                "remote_mta": "dns; mx.test",
                "diagnostic_code": "smtp; 450 4.2.0 x",
                "delays": [1.0, 0.0, 0.25, 0.123],
                "tls": "may:none",
            }
        ],
        "skipped": ["first host refused"],
        "throttled": False,
        "notices": ["protocol"],
        "servers": [
            {
                "relay": "mx.test[192.0.2.1]:25",
                "tls": {
                    "protocol": "TLSv1.3",
                    "cipher": "X",
                    "bits": 256,
                    "trusted": False,
                    "matched": False,
                    "certificate": True,
                    "resumed": False,
                    "details": {"subject": "mx.test"},
                },
                "reused": False,
                "commands": ["EHLO me", "QUIT"],
            }
        ],
    }


def test_without_server_and_diagnostic() -> None:
    dsn = DSN(EnhancedStatus("4.4.1"), "connect")
    report = REPORT._replace(
        outcomes=(OUTCOME._replace(dsn=dsn, relay="none"),),
        throttled=dsn,
        servers=(SERVER._replace(tls=None),),
    )
    found = shown(report)
    assert found["throttled"] is True
    assert found["servers"][0]["tls"] is None
    recipient = found["recipients"][0]
    assert (recipient["remote_mta"], recipient["diagnostic_code"]) == ("", "")


@pytest.mark.parametrize("soft", [True, False])
def test_soft_bounce_is_told(soft: bool) -> None:
    report = REPORT._replace(outcomes=(OUTCOME._replace(soft_bounce=soft),))
    assert shown(report)["recipients"][0].get("soft_bounced", False) is soft


def test_failure_has_the_same_names() -> None:
    end = deferred("4.3.5", "bad option")
    found = json.loads(as_json.failure(end, "s@d", "n", "Q"))
    assert found.keys() == shown().keys()
    assert (found["exit_status"], found["status_line"]) == (75, "4.3.5 bad option")
    assert found["recipients"] == []


@given(st.text(), st.text())
def test_any_text_gets_through_as_one_line_of_ascii(address: str, reason: str) -> None:
    report = REPORT._replace(
        request=REQUEST._replace(sender=address),
        outcomes=(OUTCOME._replace(dsn=DSN(EnhancedStatus("4.0.0"), reason)),),
    )
    text = as_json.render(report, Exit(75, f"4.0.0 {reason}"))
    assert text.isascii()
    assert "\n" not in text
    found = json.loads(text)
    assert (found["sender"], found["recipients"][0]["reason"]) == (address, reason)


def test_bytes_that_are_no_utf8_come_back() -> None:
    raw = b"\xff\xfe@d.test"
    address = raw.decode("utf-8", "surrogateescape")
    report = REPORT._replace(request=REQUEST._replace(sender=address))
    back: str = shown(report)["sender"]
    assert back.encode("utf-8", "surrogateescape") == raw
