"""REQUIRETLS: the policy for a nexthop, and what it makes of a server that lacks it."""

from __future__ import annotations

import pytest

from postfix_trouble.core.failure import TableError
from postfix_trouble.core.tls import RequireTls, TlsLevel, TlsPolicy
from postfix_trouble.policy import requiretls as rule

ALL = tuple(RequireTls)
DISABLE, MAYBE, TLS, ENFORCE = ALL
# Tables by name; what is not here can't be searched.
TABLES = {
    "t:host": {"mail.d.test": "opportunistic"},
    "t:parent": {".d.test": "Disable"},
    "t:top": {".test": "opportunistic+starttls"},
    "t:address": {"192.0.2.1": "opportunistic", ".2.1": "disable"},
    "t:odd": {"mail.d.test": "sometimes"},
    "t:none": {},
}


def policy(
    words: str, name: str = "mail.d.test"
) -> tuple[RequireTls | None, list[str]]:
    notes: list[str] = []

    def find(table: str, key: str) -> str | None:
        if table not in TABLES:
            raise TableError("smtp_requiretls_policy", table)
        return TABLES[table].get(key)

    found = rule.policy_for(name, words.split(), find, note=notes.append)
    return found, notes


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ENFORCE),
        ("enforce", ENFORCE),
        ("opportunistic+starttls", TLS),
        ("OPPORTUNISTIC", MAYBE),
        ("disable enforce", DISABLE),
        ("t:none", ENFORCE),
        ("t:none disable", DISABLE),
        ("t:host disable", MAYBE),
        ("t:parent enforce", DISABLE),
        ("t:top enforce", TLS),
        ("t:none t:parent t:host", DISABLE),
    ],
)
def test_first_word_or_table_that_decides(words: str, expected: RequireTls) -> None:
    assert policy(words) == (expected, [])


def test_addresses_and_sockets_have_no_parents() -> None:
    assert policy("t:address", "192.0.2.1") == (MAYBE, [])
    assert policy("t:address", "192.3.2.1") == (ENFORCE, [])
    assert policy("t:parent", "/var/run/a.d.test") == (ENFORCE, [])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("sometimes enforce", "unknown policy action: 'sometimes'"),
        ("t:odd enforce", "unknown policy action: 'sometimes'"),
        ("t:broken opportunistic", "t:broken: table lookup error"),
    ],
)
def test_policy_that_makes_no_sense_lets_nothing_through(words: str, why: str) -> None:
    text = f"warning: smtp_requiretls_policy: {why}"
    assert policy(words) == (None, [f"{text} -- ignoring the remainder of this policy"])


LEVELS = {
    TlsLevel.NONE: "no",
    TlsLevel.MAY: "no",
    TlsLevel.ENCRYPT: "no",
    TlsLevel.FINGERPRINT: "",
    TlsLevel.DANE: "",
    TlsLevel.DANE_ONLY: "",
    TlsLevel.VERIFY: "",
    TlsLevel.SECURE: "",
}


@pytest.mark.parametrize(("level", "low"), list(LEVELS.items()))
@pytest.mark.parametrize("requires", ALL)
def test_level_of_ours_that_is_too_low(
    requires: RequireTls, level: TlsLevel, low: str
) -> None:
    skipped = rule.level_too_low(TlsPolicy(level, requiretls=requires), "h.test")
    if requires < TLS or not low:
        assert skipped is None
        return
    assert skipped is not None
    why = skipped.why
    assert why.status == "5.7.10"
    bare = requires is TLS and level is TlsLevel.NONE
    lacks = "encryption" if bare else "certificate matching"
    assert why.reason == (
        "Sender requested REQUIRETLS, but my configured TLS security level"
        f" '{level.word}' disables {lacks}. The last attempted server was h.test"
    )
    assert rule.passed_over(requires, level) is (requires is ENFORCE or bare)


@pytest.mark.parametrize("requires", ALL)
def test_server_without_tls(requires: RequireTls) -> None:
    offered = rule.no_starttls(requires, "h[1]", "")
    refused = rule.no_starttls(requires, "h[1]", "454 no")
    if requires < TLS:
        assert (offered, refused) == (None, None)
        return
    assert offered is not None
    assert refused is not None
    assert offered.status == "5.7.30"
    assert refused.status == "5.7.10"
    assert refused.reason.endswith("host h[1] refused to start TLS: 454 no")


@pytest.mark.parametrize("requires", ALL)
def test_certificate_and_extension(requires: RequireTls) -> None:
    wrong = rule.not_matched(requires, "h[1]", trusted=True)
    unknown = rule.not_matched(requires, "h[1]", trusted=False)
    lacking = rule.not_supported(requires, "h[1]")
    if requires is not ENFORCE:
        assert (wrong, unknown, lacking.status) == (None, None, "")
        assert lacking.reason.endswith("support was not offered by host h[1]")
        return
    assert wrong is not None
    assert unknown is not None
    assert (wrong.status, unknown.status) == ("5.7.10", "5.7.10")
    assert "no matching server certificate" in wrong.reason
    assert "no trusted server certificate" in unknown.reason
    assert lacking.status == "5.7.30"
