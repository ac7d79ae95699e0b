"""MTA-STS records and policies (RFC 8461): what is one, what it says, how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.outcome import Skipped
from postfix_trouble.core.relay import Destination, Exchange, Relay
from postfix_trouble.core.tls import StsPolicy, TlsLevel, TlsPolicy
from postfix_trouble.dns.lookup import Answer, Record, Result
from postfix_trouble.tls import mta_sts
from postfix_trouble.tls import policy as tls_policy
from postfix_trouble.tls.mta_sts import Cached, NoPolicy
from postfix_trouble.tls.policy_entry import Entry, parse_entry

# --- TXT records --------------------------------------------------------------------

RECORDS: list[tuple[list[str], str]] = [
    # what is there, the id or what is wrong
    (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
    (["v=STSv1;id=1"], "1"),
    (["v=STSv1; id=1 ; "], "1"),
    (["v=STSv1;\t id=a\t;b=c"], "a"),
    (["v=STSv1; x.y-z_1=!,/~; id=1"], "1"),
    (["v=STSv1; id=1; id=2"], "1"),
    (["v=STSv1; id=" + "a" * 32], "a" * 32),
    (["some verification=token", "v=STSv1; id=1", "v=spf1 -all"], "1"),
    (["v=STSv1 ; id=2", "v=STSv1; id=1"], "1"),
    ([], "no TXT record"),
    (["v=spf1 -all"], "no TXT record"),
    (["v=STSv2; id=1"], "no TXT record"),
    (["V=STSv1; id=1"], "no TXT record"),
    ([" v=STSv1; id=1"], "no TXT record"),
    (["v=STSv1; id=1", "v=STSv1; id=1"], "several TXT records"),
    (["v=STSv1; id=1", "v=STSv1; nonsense"], "several TXT records"),
    (["v=STSv1;"], "malformed TXT record"),
    (["v=STSv1; id"], "malformed TXT record"),
    (["v=STSv1; ID=1"], "malformed TXT record"),
    (["v=STSv1; id=1; more"], "malformed TXT record"),
    (["v=STSv1; id=1; -a=b"], "malformed TXT record"),
    (["v=STSv1; id=1; a=b c"], "malformed TXT record"),
    (["v=STSv1; id=1; a=b=c"], "malformed TXT record"),
    (["v=STSv1; id=1;; a=b"], "malformed TXT record"),
    (["v=STSv1; id="], "malformed TXT record"),
    (["v=STSv1; id=" + "a" * 33], "malformed id"),
    (["v=STSv1; id=2016-08-31"], "malformed id"),
    (["v=STSv1; id=\\xfc"], "malformed id"),
]


@pytest.mark.parametrize(("texts", "expected"), RECORDS)
def test_record(texts: list[str], expected: str) -> None:
    found = mta_sts.identity(texts)
    if isinstance(found, NoPolicy):
        assert found.problem.startswith(expected)
        # Who has none is not to be reported.
        assert bool(found.failure) is not expected.startswith("no TXT")
    else:
        assert found == expected


# --- policies -----------------------------------------------------------------------

GOOD = b"version: STSv1\nmode: enforce\nmx: mx.a.test\nmx: *.b.test\nmax_age: 86400\n"

POLICIES: list[tuple[bytes, str]] = [
    # the policy, and "mode max_age names" or what is wrong
    (GOOD, "enforce 86400 mx.a.test *.b.test"),
    (GOOD.replace(b"\n", b"\r\n"), "enforce 86400 mx.a.test *.b.test"),
    (GOOD.rstrip(), "enforce 86400 mx.a.test *.b.test"),
    (GOOD.replace(b"\n", b" \t\n"), "enforce 86400 mx.a.test *.b.test"),
    (GOOD.replace(b": ", b":"), "enforce 86400 mx.a.test *.b.test"),
    (GOOD + b"\n\n", "enforce 86400 mx.a.test *.b.test"),
    (GOOD + b"some_thing.new-1: sm\xc3\xb6rg\xc3\xa5s\n", "enforce 86400 mx.a.test"),
    (GOOD + b"mode: none\nmax_age: 1\nversion: 2\n", "enforce 86400 mx.a.test"),
    (GOOD.replace(b"mx.a", b"MX.A"), "enforce 86400 mx.a.test"),
    (GOOD.replace(b"mx.a.test", b"mx.a.test."), "enforce 86400 mx.a.test"),
    (GOOD.replace(b"86400", b"0"), "enforce 0 "),
    (GOOD.replace(b"86400", b"31557600"), "enforce 31557600 "),
    (GOOD.replace(b"86400", b"31557601"), "enforce 31557600 "),
    (GOOD.replace(b"86400", b"9999999999"), "enforce 31557600 "),
    (GOOD.replace(b"enforce", b"testing"), "testing 86400 mx.a.test"),
    (GOOD.replace(b"enforce", b"none"), "none 86400 mx.a.test"),
    (b"version: STSv1\nmode: none\nmax_age: 9", "none 9 "),
    (b"max_age: 9\nmx: a.test\nmode: enforce\nversion: STSv1", "enforce 9 a.test"),
    (b"", "the policy's version"),
    (GOOD.replace(b"STSv1", b"STSv2"), "the policy's version"),
    (GOOD.replace(b"version", b"Version"), "the policy's version"),
    (GOOD.replace(b"enforce", b"Enforce"), "the policy's mode"),
    (GOOD.replace(b"mode: enforce\n", b""), "the policy's mode"),
    (GOOD.replace(b"86400", b"-1"), "the policy has no max_age"),
    (GOOD.replace(b"86400", b"12345678901"), "the policy has no max_age"),
    (GOOD.replace(b"86400", "\u0663".encode()), "the policy has no max_age"),
    (GOOD.replace(b"max_age: 86400", b""), "the policy has no max_age"),
    (b"version: STSv1\nmode: enforce\nmax_age: 9", "the policy has no mx"),
    (b"version: STSv1\nmode: testing\nmax_age: 9", "the policy has no mx"),
    (GOOD.replace(b"mx.a.test", b"*"), "malformed mx"),
    (GOOD.replace(b"mx.a.test", b"a.*.test"), "malformed mx"),
    (GOOD.replace(b"mx.a.test", b"*.*.test"), "malformed mx"),
    (GOOD.replace(b"mx.a.test", b"a.test, b.test"), "malformed mx"),
    (GOOD.replace(b"mx.a.test", b"192.0.2.1"), "malformed mx"),
    (GOOD.replace(b"mx.a.test", "m\u00fc.test".encode()), "malformed mx"),
    (GOOD.replace(b"mx.a.test", b""), "malformed line"),
    (GOOD + b"nonsense\n", "malformed line"),
    (GOOD + b": value\n", "malformed line"),
    (b"<html>\n" + GOOD, "malformed line"),
    (b"\xef\xbb\xbf" + GOOD, "malformed line"),
    (GOOD + b"\xff: x\n", "the policy is no UTF-8"),
]


@pytest.mark.parametrize(("body", "expected"), POLICIES)
def test_policy(body: bytes, expected: str) -> None:
    found = mta_sts.parse("a.test", body)
    if isinstance(found, NoPolicy):
        assert found.problem.startswith(expected)
        assert found.failure == "sts-policy-invalid"
    else:
        text = f"{found.mode} {found.max_age} {' '.join(found.mx)}"
        assert text.startswith(expected)
        assert found.domain == "a.test"


FIELDS = st.sampled_from(
    [*GOOD.decode().splitlines(), "mode: none", "x: y", "mx: *", ":", "", "\r", "\t a"]
)


@given(st.lists(FIELDS | st.text(max_size=20)), st.sampled_from("\n\r"))
def test_whatever_a_web_server_sends(lines: list[str], end: str) -> None:
    """A policy is whole, within its limits and the same again, or there is none."""
    found = mta_sts.parse("a.test", end.join(lines).encode("utf-8", "surrogatepass"))
    if isinstance(found, NoPolicy):
        assert found.problem
        return
    assert found.mode in ("enforce", "testing", "none")
    assert found.mx or found.mode == "none"
    assert 0 <= found.max_age <= mta_sts.MOST_AGE
    assert mta_sts.parse("a.test", found.text.encode()) == found
    cached = Cached("id", 5.0, 7.5, found)
    assert mta_sts.unpacked("a.test", mta_sts.packed(cached)) == cached


@given(st.lists(st.text(st.sampled_from("v=STSv1; idx\t.~")) | st.text(), max_size=3))
def test_whatever_a_name_server_sends(texts: list[str]) -> None:
    found = mta_sts.identity([*texts, "v=STSv1; id=" + "".join(texts)])
    if not isinstance(found, NoPolicy):
        assert found.isascii()
        assert found.isalnum()
        assert len(found) <= 32


@pytest.mark.parametrize("text", ["", "x", "id 1", "id one 2\n", f"id 1 2\n{'x'}"])
def test_what_is_in_no_cache(text: str) -> None:
    assert mta_sts.unpacked("a.test", text) == Cached()


# --- names --------------------------------------------------------------------------

NAMES = [
    # host, pattern, whether it fits (RFC 8461 4.1)
    ("mx.a.test", "mx.a.test", True),
    ("MX.a.test", "mx.A.test", True),
    ("mx.a.test.", "mx.a.test", True),
    ("mx2.a.test", "mx.a.test", False),
    ("mx.a.test", "*.a.test", True),
    ("mx.b.a.test", "*.a.test", False),
    ("a.test", "*.a.test", False),
    (".a.test", "*.a.test", True),
    ("mx.xa.test", "*.a.test", False),
    ("a.test", "mx.a.test", False),
    ("", "mx.a.test", False),
]


@pytest.mark.parametrize(("host", "pattern", "expected"), NAMES)
def test_names(host: str, pattern: str, expected: bool) -> None:
    assert mta_sts.matches(host, pattern) is expected


# --- the cache ----------------------------------------------------------------------

WEEK = 7 * 86400
HELD = StsPolicy("a.test", "enforce", ("mx.a.test",), WEEK, GOOD.decode())
KNOWN = Cached("1", 1000.0, 1000.0, HELD)

DUE: list[tuple[Cached, str, float, bool]] = [
    # what is known, id in the DNS, seconds later, whether to fetch
    (KNOWN, "1", 60, False),
    (KNOWN, "2", 0, True),
    (KNOWN, "", 60, False),
    # Once a day, whatever the DNS says: somebody may be hiding the record.
    (KNOWN, "1", 86399, False),
    (KNOWN, "1", 86400, True),
    (KNOWN, "", 86400, True),
    # It is too old: without a record nothing is known.
    (KNOWN, "1", WEEK, True),
    (KNOWN, "", WEEK, False),
    # The clock was set back.
    (KNOWN, "1", -10, True),
    (KNOWN._replace(policy=HELD._replace(max_age=600)), "1", 299, False),
    (KNOWN._replace(policy=HELD._replace(max_age=600)), "", 300, True),
    (Cached(), "1", 0, True),
    (Cached(), "", 0, False),
]


@pytest.mark.parametrize(("known", "identity", "later", "expected"), DUE)
def test_when_to_fetch(
    known: Cached, identity: str, later: float, expected: bool
) -> None:
    assert known.due(identity, 1000.0 + later) is expected


def test_how_long_a_policy_holds() -> None:
    assert KNOWN.holds(1000.0 + WEEK - 1) == HELD
    assert KNOWN.holds(1000.0 + WEEK) is None
    assert KNOWN.expires() == 1000.0 + WEEK
    failed = KNOWN._replace(tried=2000.0)
    assert failed.holds(1000.0 + WEEK - 1) == HELD
    assert [failed.rests(x) for x in (1999.0, 2000.0, 2299.0, 2300.0)] == [
        False,
        True,
        True,
        False,
    ]
    assert not KNOWN.rests(1000.0)
    assert Cached(tried=2000.0).expires() == 2300.0


# --- what follows for TLS -----------------------------------------------------------

DOMAIN = Destination("example.test", "example.test", 25)
SERVER = Relay("mx.example.test", "192.0.2.1", 25)
NO_RECORDS = Answer(Result.NOT_FOUND)
LEVELS = ("none", "may", "encrypt", "verify", "secure")


def policy(
    values: dict[str, str],
    sts: StsPolicy,
    *,
    destination: Destination = DOMAIN,
    relay: Relay = SERVER,
    tables: dict[str, str] | None = None,
    tlsa: Answer = NO_RECORDS,
    optional: bool = False,
) -> tuple[TlsPolicy | Skipped, list[str]]:
    """The policy for a server, and for which domains MTA-STS was asked."""
    asked: list[str] = []

    def ask(domain: str) -> StsPolicy:
        asked.append(domain)
        return sts

    found = tls_policy.policy(
        Settings(values),
        destination,
        relay,
        lambda parameter, key, fold: (tables or {}).get(key),
        query=lambda name, kind: tlsa,
        sts=ask,
        optional=optional,
    )
    return found, asked


def sts(mode: str = "enforce", *names: str) -> StsPolicy:
    text = f"version: STSv1\nmode: {mode}\n"
    return StsPolicy("example.test", mode, names or ("mx.example.test",), 600, text)


@pytest.mark.parametrize("level", LEVELS)
def test_as_a_plug_in(level: str) -> None:
    """The built-in's answer is that of a table with what a plug-in says."""
    plugged = (
        "secure match=mx.example.test:.b.test servername=hostname policy_type=sts "
        "policy_domain=example.test policy_ttl=600 "
        "{ policy_string = version: STSv1 } { policy_string = mode: enforce } "
        "mx_host_pattern=mx.example.test mx_host_pattern=*.b.test"
    )
    for more in ({}, {"smtp_tls_enforce_sts_mx_patterns": "no"}):
        for host in ("mx.example.test", "a.b.test", "mx.else.test"):
            relay = Relay(host, "192.0.2.1", 25)
            values = {"smtp_tls_security_level": level, **more}
            found, _ = policy(
                values, sts("enforce", "mx.example.test", "*.b.test"), relay=relay
            )
            other, asked = policy(
                {**values, "smtp_tls_policy_maps": "x"},
                sts("none"),
                relay=relay,
                tables={"example.test": plugged},
            )
            assert asked == []
            assert found._replace(sts=None) == other._replace(sts=None)


def test_the_entry_is_that_of_a_table() -> None:
    """Every attribute has the form that a plug-in's must have."""
    found = mta_sts.entry(sts("enforce", "*.b.test"))
    assert found is not None
    words = " ".join(
        f"{{ {name} = {value} }}"
        for name, values in found.attributes.items()
        for value in values
    )
    assert parse_entry(f"secure {words}") == Entry(TlsLevel.SECURE, found.attributes)


@pytest.mark.parametrize("mode", ["testing", "none", ""])
@pytest.mark.parametrize("level", LEVELS)
def test_without_enforcement_the_level_stays(mode: str, level: str) -> None:
    found, asked = policy({"smtp_tls_security_level": level}, sts(mode, "else.test"))
    assert isinstance(found, TlsPolicy)
    assert found.level.word == level
    assert found.sts is not None
    assert found.sts.mode == mode
    assert asked == ["example.test"]


NOT_ASKED: list[tuple[str, dict[str, object]]] = [
    ("an entry of a table", {"tables": {"example.test": "may"}}),
    ("an entry of its parent", {"tables": {".test": "may"}}),
    ("TLS-Required: no", {"optional": True}),
    ("brackets", {"destination": DOMAIN._replace(text="[example.test]", no_mx=True)}),
    ("an address", {"destination": DOMAIN._replace(host="192.0.2.1")}),
]


@pytest.mark.parametrize(
    "options", [x[1] for x in NOT_ASKED], ids=[x[0] for x in NOT_ASKED]
)
def test_who_is_not_asked(options: dict[str, object]) -> None:
    values = {"smtp_tls_security_level": "may", "smtp_tls_policy_maps": "x"}
    found, asked = policy(values, sts("enforce", "else.test"), **options)  # type: ignore[arg-type]
    assert isinstance(found, TlsPolicy)
    assert found.level is TlsLevel.MAY
    assert asked == []


@pytest.mark.parametrize("level", ["fingerprint", "dane-only"])
def test_levels_that_no_domain_can_change(level: str) -> None:
    values = {
        "smtp_tls_security_level": level,
        "smtp_tls_fingerprint_cert_match": "aa:bb",
        "smtp_dns_support_level": "dnssec",
    }
    _, asked = policy(values, sts())
    assert asked == []


@pytest.mark.parametrize(("entry", "expected"), [("MAY", "may"), (None, "secure")])
def test_per_site_tables_go_first(entry: str | None, expected: str) -> None:
    tables = {"example.test": entry} if entry else {}
    found, _ = policy({"smtp_tls_per_site": "x"}, sts(), tables=tables)
    assert isinstance(found, TlsPolicy)
    assert found.level.word == expected


def test_a_destination_that_is_not_ascii() -> None:
    domain = Destination("b\u00fccher.test", "b\u00fccher.test", 25)
    _, asked = policy({}, sts(), destination=domain)
    assert asked == ["xn--bcher-kva.test"]


# --- DANE ---------------------------------------------------------------------------

DANE = {"smtp_tls_security_level": "dane", "smtp_dns_support_level": "dnssec"}
TLSA = Record("_25._tcp.mx", "TLSA", "AB" * 32, parameters=(3, 1, 1))
USABLE = Answer(Result.FOUND, "", (TLSA,), authentic=True)
UNUSABLE = Answer(
    Result.FOUND, "", (TLSA._replace(parameters=(1, 1, 1)),), authentic=True
)
LOST = Answer(Result.RETRY, "try again")
SIGNED = Relay(
    "mx.example.test",
    "192.0.2.1",
    25,
    authentic=True,
    exchange=Exchange(("example.test",), authentic=True),
)
UNSIGNED = SIGNED._replace(exchange=Exchange(("example.test",)))

WITH_DANE = [
    # server, its TLSA records, the policy's names, the level, whether it is asked for
    (SIGNED, USABLE, "mx.example.test", "dane", False),
    (SIGNED, USABLE, "else.test", "dane", False),
    (SIGNED, LOST, "mx.example.test", "", False),
    (SIGNED, UNUSABLE, "mx.example.test", "secure", True),
    (SIGNED, NO_RECORDS, "mx.example.test", "secure", True),
    (SIGNED, NO_RECORDS, "else.test", "", True),
    # The certificate is pinned, but anybody could have named the server.
    (UNSIGNED, USABLE, "mx.example.test", "dane", True),
    (UNSIGNED, USABLE, "else.test", "", True),
    (UNSIGNED, LOST, "mx.example.test", "", False),
]


@pytest.mark.parametrize(("relay", "tlsa", "name", "level", "looked"), WITH_DANE)
def test_dane_goes_first(
    relay: Relay, tlsa: Answer, name: str, level: str, looked: bool
) -> None:
    found, asked = policy(DANE, sts("enforce", name), relay=relay, tlsa=tlsa)
    assert ("" if isinstance(found, Skipped) else found.level.word) == level
    assert bool(asked) is looked


def test_a_server_that_is_passed_over_says_why() -> None:
    found, _ = policy({}, sts("enforce", "else.test"))
    assert isinstance(found, Skipped)
    assert not found.why.status
    assert found.tls.text == "secure?"
    assert found.said == (
        "MX name 'mx.example.test' does not match STS MX pattern for 'example.test'"
    )
    assert found.sts is not None
