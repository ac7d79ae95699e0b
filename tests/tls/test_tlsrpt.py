"""TLSRPT: what is reported of a session, and in which form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.relay import Relay
from postfix_trouble.core.steps import TlsResult
from postfix_trouble.core.tls import StsPolicy, TlsFacts, TlsLevel, TlsPolicy
from postfix_trouble.tls import tlsrpt

RECORD = "v=TLSRPTv1; rua=mailto:tls@example.test"
SESSION = tlsrpt.Session(
    "example.test", RECORD, Relay("mx.example.test", "192.0.2.1", 25), "192.0.2.9"
)
SUCCESS = TlsResult()
SECURE = TlsPolicy(TlsLevel.SECURE, ("nexthop",))
STS = StsPolicy(
    "example.test",
    "enforce",
    ("*.example.test",),
    text="version: STSv1\r\nmode: enforce\r\n\r\n",
)
DANE = TlsPolicy(TlsLevel.DANE, ("mx.example.test",), records=("3 1 1 AB",))


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([RECORD], (RECORD, "")),
        (["v=TLSRPTv1 \t;rua=x"], ("v=TLSRPTv1 \t;rua=x", "")),
        (["v=spf1 -all", RECORD], (RECORD, "")),
        ([], ("", "")),
        (["v=spf1 -all"], ("", "")),
        (["V=TLSRPTV1; rua=x"], ("", "")),
        (["v=TLSRPTv1"], ("", 'ignoring malformed policy: "v=TLSRPTv1"')),
        (
            ["v=TLSRPTv12; rua=x"],
            ("", 'ignoring malformed policy: "v=TLSRPTv12; rua=x"'),
        ),
        ([RECORD, RECORD], ("", "too many TLSRPT policies")),
    ],
)
def test_record_that_asks_for_reports(texts: list[str], found: tuple[str, str]) -> None:
    assert tlsrpt.record_of(texts) == found


def facts(problem: str = "") -> TlsFacts:
    details = (("problem", problem),) if problem else ()
    return TlsFacts("TLSv1.3", "X", 256, matched=not problem, details=details)


CERTIFICATES = {
    "certificate has expired": ("certificate-expired", ""),
    "hostname mismatch": ("certificate-host-mismatch", ""),
    "self-signed certificate": ("validation-failure", "self-signed_certificate"),
    "self signed certificate": ("validation-failure", "self-signed_certificate"),
    "unable to get local issuer certificate": (
        "validation-failure",
        "unable_to_get_local_issuer_certificate",
    ),
    "certificate is not yet valid": (
        "validation-failure",
        "certificate_is_not_yet_valid",
    ),
    "no matching fingerprint": ("certificate-not-trusted", ""),
    "no matching DANE TLSA records": ("certificate-not-trusted", ""),
}


@pytest.mark.parametrize(("problem", "told"), CERTIFICATES.items())
def test_certificate_that_is_not_the_right_one(
    problem: str, told: tuple[str, str]
) -> None:
    assert tlsrpt.after_handshake(SECURE, facts(problem)) == TlsResult(*told)


def test_success() -> None:
    assert tlsrpt.after_handshake(SECURE, facts()) == TlsResult()


@pytest.mark.parametrize("level", [TlsLevel.MAY, TlsLevel.ENCRYPT])
def test_certificate_does_not_matter_below_fingerprint(level: TlsLevel) -> None:
    found = tlsrpt.after_handshake(TlsPolicy(level), facts("certificate has expired"))
    assert found == TlsResult()


@pytest.mark.parametrize(
    ("found", "failure"),
    [
        (facts(), ""),
        (facts("hostname mismatch"), "certificate-host-mismatch"),
        # Nobody at this level says that it matched.
        (facts()._replace(matched=False), ""),
        (facts("authorities can't be loaded: No such file or directory"), ""),
        (TlsFacts("TLSv1.2", "X", 128, certificate=False), "certificate-not-trusted"),
    ],
)
def test_certificate_counts_where_mta_sts_is_tried_out(
    found: TlsFacts, failure: str
) -> None:
    result = tlsrpt.after_handshake(TlsPolicy(TlsLevel.MAY), found, trial=True)
    assert result.failure == failure


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("testing", {}, True),
        ("enforce", {}, False),
        ("testing", {"smtp_tlsrpt_enable": "no"}, False),
        ("testing", {"trouble_mta_sts": "no"}, False),
        ("testing", {"smtp_tls_CAfile": ""}, False),
        ("testing", {"smtp_tls_CAfile": "", "tls_append_default_CA": "yes"}, True),
        (None, {}, False),
    ],
)
def test_mta_sts_that_is_tried_out(
    mode: str | None, values: dict[str, str], expected: bool
) -> None:
    both = {
        "smtp_tlsrpt_enable": "yes",
        "trouble_mta_sts": "yes",
        "smtp_tls_CAfile": "/x",
    }
    sts = None if mode is None else STS._replace(mode=mode)
    policy = TlsPolicy(TlsLevel.MAY, sts=sts)
    assert tlsrpt.tried_out(policy, Settings({**both, **values})) is expected


def test_records_of_no_use_are_a_failure_whatever_comes() -> None:
    policy = TlsPolicy(TlsLevel.ENCRYPT, ("mx.test",), name="dane")
    known = tlsrpt.before_handshake(policy)
    assert known == TlsResult("tlsa-invalid", "all-TLSA-records-unusable")


@pytest.mark.parametrize(
    ("sts", "level", "failure"),
    [
        (StsPolicy("d.test", failure="sts-policy-fetch-error"), TlsLevel.MAY, True),
        # What is in the cache holds.
        (STS._replace(failure="sts-policy-fetch-error"), TlsLevel.SECURE, False),
        (StsPolicy("d.test"), TlsLevel.MAY, False),
        (STS, TlsLevel.SECURE, False),
    ],
)
def test_policy_that_could_not_be_had(
    sts: StsPolicy, level: TlsLevel, failure: bool
) -> None:
    known = tlsrpt.before_handshake(TlsPolicy(level, sts=sts))
    assert known == (TlsResult("sts-policy-fetch-error") if failure else None)


def told(policy: TlsPolicy, result: TlsResult = SUCCESS) -> dict[str, Any]:
    whole = json.loads(tlsrpt.datagram(SESSION, policy, result))
    assert list(whole) == ["dpv", "d", "pr", "policies"]
    assert (whole["dpv"], whole["d"], whole["pr"]) == ("1", "example.test", RECORD)
    (policy_told,) = whole["policies"]
    found: dict[str, Any] = policy_told
    return found


def test_session_that_succeeds() -> None:
    expected = {"policy-type": 9, "policy-domain": "example.test", "t": 0, "f": 0}
    assert told(TlsPolicy(TlsLevel.MAY)) == expected


def test_session_that_fails() -> None:
    hello = "250-mx.example.test\n250 STARTTLS"
    result = TlsResult("validation-failure", "tls-handshake-failure", hello)
    assert told(SECURE, result) == {
        "policy-type": 9,
        "policy-domain": "example.test",
        "failure-details": [
            {
                "c": 205,
                "s": "192.0.2.9",
                "n": "mx.example.test",
                "h": "250-mx.example.test\r\n250 STARTTLS",
                "r": "192.0.2.1",
                "f": "tls-handshake-failure",
            }
        ],
        "t": 1,
        "f": 1,
    }


def test_dane() -> None:
    found = told(DANE)
    assert found["policy-type"] == 1
    assert found["policy-domain"] == "mx.example.test"
    assert found["policy-string"] == ["3 1 1 AB"]


def test_mta_sts() -> None:
    found = told(SECURE._replace(sts=STS))
    assert list(found) == [
        "policy-type", "policy-domain", "policy-string", "mx-host", "t", "f",
    ]  # fmt: skip
    assert found["policy-type"] == 2
    assert found["policy-string"] == ["version: STSv1", "mode: enforce"]
    assert found["mx-host"] == ["*.example.test"]


@pytest.mark.parametrize(
    "failure",
    [
        "starttls-not-supported",
        "certificate-host-mismatch",
        "certificate-not-trusted",
        "certificate-expired",
        "validation-failure",
        "tlsa-invalid",
        "sts-policy-fetch-error",
        "sts-policy-invalid",
        "sts-webpki-invalid",
    ],
)
def test_each_result_type_has_its_number(failure: str) -> None:
    details = told(SECURE, TlsResult(failure))["failure-details"]
    assert 200 < details[0]["c"] < 305
    assert "f" not in details[0]


def test_bytes_that_are_no_text_get_through() -> None:
    found = told(SECURE, TlsResult("validation-failure", hello="250 \udcff"))
    assert found["failure-details"][0]["h"] == "250 \udcff"


@pytest.mark.parametrize(
    ("result", "record"),
    [
        (TlsResult(), "status=success, {where}"),
        (
            TlsResult("starttls-not-supported"),
            "status=failure, {where}, failure_type=starttls_not_supported",
        ),
        (
            TlsResult("validation-failure", "tls-handshake-failure"),
            "status=failure, {where}, failure_type=validation_failure, "
            "failure_reason=tls-handshake-failure",
        ),
    ],
)
def test_log_record(result: TlsResult, record: str) -> None:
    where = "domain=example.test, receiving_mx=mx.example.test[192.0.2.1]"
    expected = "TLSRPT: " + record.format(where=where)
    assert tlsrpt.log_record(SESSION, result) == expected
