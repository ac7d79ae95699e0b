"""DANE: what TLSA records leave of a level, host by host, and which of them count."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from certificates import tlsa_data
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.outcome import DSN, Skipped
from postfix_trouble.core.relay import Destination, Exchange, Relay
from postfix_trouble.core.tls import Tlsa, TlsLevel, TlsPolicy
from postfix_trouble.dns.lookup import Answer, Record, Result
from postfix_trouble.tls import certificate as tls_certificate
from postfix_trouble.tls import dane
from postfix_trouble.tls import policy as tls_policy
from postfix_trouble.tls.certificate import is_public_key

DNSSEC = {"smtp_dns_support_level": "dnssec"}
HOST = "mx.example.test"
SECURE = Exchange(("example.test",), authentic=True)
INSECURE = Exchange(("example.test",))
RELAY = Relay(HOST, "192.0.2.1", 25, authentic=True, exchange=SECURE)
HALF = RELAY._replace(exchange=INSECURE)
UNSIGNED = RELAY._replace(authentic=False)
ALIAS = RELAY._replace(alias=(HOST, "Real.test"))
UNSIGNED_TARGET = ALIAS._replace(authentic=False)
KEY = "aa" * 32
USABLE = f"3 1 1 {KEY}"
USABLE_TLSA = Tlsa(3, 1, "sha256", bytes.fromhex(KEY))

# Name -> records; "?" in front: not authentic, "!": the look-up fails.
Zone = Mapping[str, Sequence[str]]


def answer(name: str, texts: Sequence[str]) -> Answer:
    authentic = True
    records = []
    for text in texts:
        if text == "!":
            return Answer(Result.RETRY, "Host not found, try again")
        if text == "CNAME":
            records.append(Record(name, "CNAME", "real.test"))
            continue
        authentic = not text.startswith("?")
        usage, selector, matching, *data = text.lstrip("?").split()
        parameters = (int(usage), int(selector), int(matching))
        records.append(Record(name, "TLSA", "".join(data), parameters=parameters))
    return Answer(Result.FOUND, "", tuple(records), authentic)


class Asked:
    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.names: list[str] = []

    def __call__(self, name: str, kind: str) -> Answer:
        self.names.append(f"{name} {kind}")
        texts = self.zone.get(name)
        return Answer(Result.NOT_FOUND) if texts is None else answer(name, texts)


def pinned(
    zone: Zone,
    relay: Relay = RELAY,
    level: TlsLevel = TlsLevel.DANE,
    values: Mapping[str, str] = {},
    *,
    lmtp: bool = False,
) -> tuple[dane.Pinned | DSN, list[str], list[str]]:
    """The result, the names that were asked for, the warnings."""
    asked, notes = Asked(zone), list[str]()
    settings = Settings({"smtp_tls_security_level": "dane", **DNSSEC, **values})
    found = dane.pinned(
        level,
        relay,
        settings,
        asked,
        notes.append,
        destination="example.test",
        lmtp=lmtp,
    )
    return found, asked.names, notes


def level_for(zone: Zone, relay: Relay = RELAY, **values: str) -> str:
    """The word for what dane comes to; a reason if mail is deferred."""
    found, _, _ = pinned(zone, relay, values=values)
    return found.reason if isinstance(found, DSN) else found.level.word


def reason_for_only(zone: Zone, relay: Relay = RELAY, **values: str) -> str:
    found, _, _ = pinned(zone, relay, TlsLevel.DANE_ONLY, values)
    if not isinstance(found, DSN):
        return found.level.word
    assert found.status == "4.7.5"
    return found.reason


# --- the level for a host -----------------------------------------------------------

AT = f"_25._tcp.{HOST}"
LATE = f"TLSA lookup error for {HOST}:25"
NONE = "no TLSA records found"
UNUSABLE = "TLSA records unusable"
# What has the form of a key.
WHOLE = "300430000300"
MX = "smtp_tls_dane_insecure_mx_policy"
FORCED = {"smtp_tls_force_insecure_host_tlsa_lookup": "yes"}
LEVELS: list[tuple[str, Zone, Relay, Mapping[str, str], str, str]] = [
    ("match required", {AT: [USABLE]}, RELAY, {}, "dane", "dane-only"),
    ("no records", {}, RELAY, {}, "may", NONE),
    ("not authentic", {AT: ["?" + USABLE]}, RELAY, {}, "may", NONE),
    ("look-up fails", {AT: ["!"]}, RELAY, {}, LATE, LATE),
    ("PKIX-TA", {AT: [f"0 0 1 {KEY}"]}, RELAY, {}, "encrypt", UNUSABLE),
    ("PKIX-EE", {AT: [f"1 1 1 {KEY}"]}, RELAY, {}, "encrypt", UNUSABLE),
    ("usage 4", {AT: [f"4 1 1 {KEY}"]}, RELAY, {}, "encrypt", UNUSABLE),
    ("matching type 255", {AT: ["3 1 255 ab"]}, RELAY, {}, "encrypt", UNUSABLE),
    ("empty", {AT: ["3 1 1"]}, RELAY, {}, "encrypt", UNUSABLE),
    ("unknown matching type", {AT: ["3 1 3 ab"]}, RELAY, {}, "encrypt", "dane-only"),
    ("unknown selector", {AT: [f"3 2 1 {KEY}"]}, RELAY, {}, "encrypt", "dane-only"),
    ("short digest", {AT: ["3 1 1 abcd"]}, RELAY, {}, "encrypt", "dane-only"),
    ("no certificate", {AT: ["3 0 0 abcd"]}, RELAY, {}, "encrypt", "dane-only"),
    ("no key", {AT: ["2 1 0 3000"]}, RELAY, {}, "encrypt", "dane-only"),
    ("key of no type", {AT: [f"3 1 3 {WHOLE}"]}, RELAY, {}, "encrypt", "dane-only"),
    ("exchangers signed", {AT: [USABLE]}, RELAY, {MX: "encrypt"}, "dane", "dane-only"),
    ("host unsigned", {AT: ["!"]}, UNSIGNED, {}, "may", NONE),
    ("forced", {AT: [USABLE]}, UNSIGNED, FORCED, "dane", "dane-only"),
    ("forced, late", {AT: ["!"]}, UNSIGNED, FORCED, LATE, LATE),
]


@pytest.mark.parametrize(
    ("zone", "relay", "values", "expected", "only"),
    [x[1:] for x in LEVELS],
    ids=[x[0] for x in LEVELS],
)
def test_level_for_a_host(
    zone: Zone, relay: Relay, values: Mapping[str, str], expected: str, only: str
) -> None:
    assert level_for(zone, relay, **values) == expected
    assert reason_for_only(zone, relay, **values) == only


@pytest.mark.parametrize(
    ("policy", "zone", "expected"),
    [
        ("may", {AT: [USABLE]}, "may"),
        ("may", {AT: ["!"]}, "may"),
        ("encrypt", {AT: [USABLE]}, "encrypt"),
        ("encrypt", {}, "may"),
        ("encrypt", {AT: ["!"]}, LATE),
        ("dane", {AT: [USABLE]}, "dane"),
        ("dane", {}, "may"),
        ("", {AT: [USABLE]}, "dane"),
    ],
)
def test_exchangers_without_dnssec(policy: str, zone: Zone, expected: str) -> None:
    values = {MX: policy} if policy else {}
    assert level_for(zone, HALF, **values) == expected
    assert reason_for_only(zone, HALF, **values) == "non DNSSEC destination"


def test_exchangers_without_dnssec_where_only_a_table_says_dane() -> None:
    only: dict[str, str] = {"smtp_tls_security_level": "may"}
    assert level_for({AT: [USABLE]}, HALF, **only) == "dane"
    older = {**only, "trouble_postfix_version": "3.7"}
    assert level_for({AT: [USABLE]}, HALF, **older) == "may"


def test_no_exchanger_no_doubt() -> None:
    host = RELAY._replace(exchange=None)
    found, _, _ = pinned({AT: [USABLE]}, host)
    assert found == dane.Pinned(
        TlsLevel.DANE, (USABLE_TLSA,), (HOST,), (USABLE,), "dane"
    )


NO_DNSSEC = "configured with dnssec lookups disabled"
IMPOSSIBLE = [
    ({"smtp_dns_support_level": ""}, f"dane {NO_DNSSEC}"),
    ({"smtp_dns_support_level": "enabled"}, f"dane {NO_DNSSEC}"),
    ({"smtp_host_lookup": "native"}, f"dane {NO_DNSSEC}"),
    (
        {"ignore_mx_lookup_error": "yes"},
        "dane configured with MX lookup errors ignored",
    ),
    (
        {"smtp_dns_resolver_options": "res_defnames"},
        "dns resolver options incompatible with dane TLS",
    ),
]


@pytest.mark.parametrize(("values", "why"), IMPOSSIBLE, ids=lambda x: str(x)[:40])
def test_where_there_is_no_dane(values: Mapping[str, str], why: str) -> None:
    found, asked, notes = pinned({AT: [USABLE]}, values=values)
    assert found == dane.Pinned(TlsLevel.MAY)
    assert asked == []
    assert notes == [f"warning: example.test: {why}"]
    expected = "client TLS configuration problem"
    assert reason_for_only({AT: [USABLE]}, RELAY, **values) == expected


def test_lmtp_has_no_exchangers_to_get_wrong() -> None:
    values = {"ignore_mx_lookup_error": "yes"}
    found, _, _ = pinned({AT: [USABLE]}, values=values, lmtp=True)
    assert isinstance(found, dane.Pinned)
    assert found.level is TlsLevel.DANE


@pytest.mark.parametrize("level", [TlsLevel.DANE, TlsLevel.DANE_ONLY])
def test_a_socket_has_no_name(level: TlsLevel) -> None:
    found, _, notes = pinned({}, Relay("client.test", "/run/lmtp", 0), level)
    assert found == dane._CONFIGURATION
    assert notes == [
        f'warning: example.test: the "{level.word}" security level is invalid '
        "for delivery via unix-domain sockets"
    ]


# --- whose records ------------------------------------------------------------------

AT_REAL = "_25._tcp.real.test"
OWN, TARGET = f"{AT} TLSA", f"{AT_REAL} TLSA"
NAMES: list[tuple[str, Zone, Relay, Mapping[str, str], list[str], str]] = [
    ("host", {}, RELAY, {}, [OWN], ""),
    ("host unsigned", {}, UNSIGNED, {}, [], ""),
    ("target first", {AT_REAL: [USABLE]}, ALIAS, {}, [TARGET], "real.test"),
    ("then its own", {AT: [USABLE]}, ALIAS, {}, [TARGET, OWN], HOST),
    ("unusable is found", {AT_REAL: ["1 1 1 ab"]}, ALIAS, {}, [TARGET], ""),
    ("target unsigned", {HOST: ["CNAME"]}, UNSIGNED_TARGET, {}, ["cname", OWN], ""),
    ("alias unsigned", {HOST: ["?3 1 1 ab"]}, UNSIGNED_TARGET, {}, ["cname"], ""),
    ("forced", {}, UNSIGNED_TARGET, FORCED, [OWN], ""),
]


@pytest.mark.parametrize(
    ("zone", "relay", "values", "names", "base"),
    [x[1:] for x in NAMES],
    ids=[x[0] for x in NAMES],
)
def test_whose_records_are_asked_for(
    zone: Zone, relay: Relay, values: Mapping[str, str], names: list[str], base: str
) -> None:
    found, asked, _ = pinned(zone, relay, values=values)
    assert asked == [f"{HOST} CNAME" if x == "cname" else x for x in names]
    assert isinstance(found, dane.Pinned)
    assert found.names[:1] == ((base,) if base else ())


PROBLEM = "DANE TLSA lookup problem"


@pytest.mark.parametrize(
    ("zone", "relay", "what"),
    [
        ({AT_REAL: ["!"], AT: [USABLE]}, ALIAS, PROBLEM),
        ({AT: ["!"]}, ALIAS, PROBLEM),
        (
            {HOST: ["!"], AT: [USABLE]},
            UNSIGNED_TARGET,
            f"DNSSEC status lookup error for {HOST}",
        ),
    ],
    ids=["target", "own", "alias"],
)
def test_no_look_up_of_an_alias_may_fail(zone: Zone, relay: Relay, what: str) -> None:
    assert level_for(zone, relay) == LATE
    _, _, notes = pinned(zone, relay)
    assert notes == [f"warning: {what}: Host not found, try again"]


def test_names_of_a_certificate() -> None:
    """The base, then the destination: the end of its aliases, and itself."""
    exchange = Exchange(("example.test", "mail.test"), authentic=True)
    found, _, _ = pinned({AT: [USABLE]}, RELAY._replace(exchange=exchange))
    assert isinstance(found, dane.Pinned)
    assert found.names == (HOST, "mail.test", "example.test")


def test_the_port_is_the_server_s() -> None:
    _, asked, _ = pinned({}, RELAY._replace(port=2525))
    assert asked == [f"_2525._tcp.{HOST} TLSA"]


# --- which records ------------------------------------------------------------------

OTHER, LONG = "bb" * 32, "cc" * 64
AGILITY = [
    ("two", [USABLE, f"3 1 1 {OTHER}"], "", [0, 1]),
    ("unusable ones", ["1 1 1 ab", "3 1 3 ab", USABLE], "", [2]),
    ("the best digest", [USABLE, f"3 1 2 {LONG}"], "", [1]),
    ("for each selector", [USABLE, f"3 0 2 {LONG}"], "", [0, 1]),
    ("for each usage", [USABLE, f"2 1 2 {LONG}"], "", [0, 1]),
    ("of a right length", [USABLE, "3 1 2 abcd"], "", [0]),
    ("in the order of the list", [USABLE, f"3 1 2 {LONG}"], "sha256 sha512", [0]),
    ("in the list", [USABLE, f"3 1 2 {LONG}"], "sha256", [0]),
    ("with commas", [f"3 1 2 {LONG}"], "sha256,sha512", [0]),
    ("beside a whole key", [f"3 1 0 {WHOLE}", USABLE], "", [0, 1]),
    ("with a number", ["3 1 7 " + "dd" * 48, USABLE], "sha384=7 sha256", [0]),
]


@pytest.mark.parametrize(
    ("records", "digests", "left"),
    [x[1:] for x in AGILITY],
    ids=[str(x[0]) for x in AGILITY],
)
def test_which_records_count(records: list[str], digests: str, left: list[int]) -> None:
    values = {"tls_dane_digests": digests} if digests else {}
    found, _, _ = pinned({AT: records}, values=values)
    assert isinstance(found, dane.Pinned)
    wanted = {bytes.fromhex(records[x].split()[3]) for x in left}
    assert {x.data for x in found.records} == wanted


@pytest.mark.parametrize(
    "word",
    [
        *("nosuch", "nosuch=7", "sha512=1", "sha384=1", "sha1", "sha1=x", "sha1=255"),
        *("sha256=x", "sha1=\u0667", "sha1=70000", "shake_128=7"),
    ],
)
def test_bad_digests_are_passed_over(word: str) -> None:
    values = {"tls_dane_digests": f"{word} sha256"}
    found, _, notes = pinned({AT: [USABLE]}, values=values)
    assert isinstance(found, dane.Pinned)
    assert found.records == (USABLE_TLSA,)
    assert notes == [f"warning: tls_dane_digests: {word} can't be used"]
    values = {"tls_dane_digests": word}
    found, asked, _ = pinned({AT: [USABLE]}, values=values)
    assert found == dane._CONFIGURATION
    assert asked == []


def test_what_is_unusable_is_told() -> None:
    most, more = "ab" * 40, "ab" * 40 + "cd"
    _, _, notes = pinned({AT: [f"1 1 1 {most}", f"1 1 1 {more}"]})
    assert notes == [
        f"warning: {AT} unsupported TLSA certificate usage: 1 1 1 {most}",
        f"warning: {AT} unsupported TLSA certificate usage: 1 1 1 {most}...",
    ]
    _, _, notes = pinned({AT: [f"1 1 1 {KEY}", "3 1 255 ab", "3 1 1", "3 1 3 AB"]})
    assert notes == [
        f"warning: {AT} unsupported TLSA certificate usage: 1 1 1 {KEY}",
        f"warning: {AT} reserved private-use matching type: 3 1 255 ab",
        f"warning: {AT} empty association data: 3 1 1 ",
        f"warning: {HOST}[192.0.2.1]:25: unusable TLSA RR: 3 1 3 AB",
        f"warning: {HOST}[192.0.2.1]:25: all TLSA records unusable, "
        "fallback to unauthenticated TLS",
    ]


# --- the policy of which this is a part ---------------------------------------------


def policy(
    zone: Zone,
    entry: str = "dane",
    relay: Relay = RELAY,
    prefix: str = "smtp",
    **values: str,
) -> TlsPolicy | DSN:
    table = {"smtp_tls_policy_maps": "inline:{here}", **DNSSEC, **values}
    found = tls_policy.policy(
        Settings(table),
        Destination("example.test", "example.test", 25),
        relay,
        lambda parameter, key, fold: entry,
        query=Asked(zone),
        prefix=prefix,
    )
    return found.why if isinstance(found, Skipped) else found


def test_policy_with_records() -> None:
    found = policy({AT: [USABLE]}, "dane servername=other.test")
    assert isinstance(found, TlsPolicy)
    assert found.level is TlsLevel.DANE
    assert found.servername == f"{HOST}."
    assert found.match == (HOST, "example.test")
    assert found.tlsa == (USABLE_TLSA,)
    assert found.exclude == "aNULL"


def test_the_name_for_sni_has_one_dot_at_its_end() -> None:
    found = policy({f"{AT}.": [USABLE]}, relay=RELAY._replace(host=f"{HOST}."))
    assert isinstance(found, TlsPolicy)
    assert found.servername == f"{HOST}."


def test_a_name_for_sni_that_is_none_puts_off_under_dane_too() -> None:
    found = policy({AT: [USABLE]}, smtp_tls_servername="127.0.0.1")
    assert found == dane._CONFIGURATION


def test_records_of_the_host_and_not_sts_say_which_host_is_right() -> None:
    entry = "dane policy_type=sts mx_host_pattern=mx.other.test"
    found = policy({AT: [USABLE]}, entry)
    assert isinstance(found, TlsPolicy)
    assert found.match == (HOST, "example.test")


@pytest.mark.parametrize(
    ("prefix", "level"), [("lmtp", TlsLevel.DANE), ("smtp", TlsLevel.MAY)]
)
def test_no_exchangers_to_get_wrong_with_lmtp(prefix: str, level: TlsLevel) -> None:
    found = policy({AT: [USABLE]}, prefix=prefix, ignore_mx_lookup_error="yes")
    assert isinstance(found, TlsPolicy)
    assert found.level is level


@pytest.mark.parametrize(
    ("zone", "servername", "level"),
    [
        ({}, "other.test", TlsLevel.MAY),
        ({AT: [f"1 1 1 {KEY}"]}, "other.test", TlsLevel.ENCRYPT),
        ({AT: ["3 1 3 ab"]}, f"{HOST}.", TlsLevel.ENCRYPT),
    ],
)
def test_policy_without_records(zone: Zone, servername: str, level: TlsLevel) -> None:
    found = policy(zone, "dane servername=other.test")
    assert isinstance(found, TlsPolicy)
    assert (found.level, found.servername) == (level, servername)
    assert found.tlsa == ()


def test_no_name_service_defers() -> None:
    found = tls_policy.policy(
        Settings({"smtp_tls_security_level": "dane", **DNSSEC}),
        Destination("example.test", "example.test", 25),
        RELAY,
        lambda parameter, key, fold: None,
    )
    assert isinstance(found, Skipped)
    assert found.why == DSN("4.7.5", LATE)  # type: ignore[arg-type]


# --- certificates -------------------------------------------------------------------


def certificate(path: Path) -> tls_certificate.Certificate:
    found = tls_certificate.parse(ssl.PEM_cert_to_DER_cert(path.read_text()))
    assert found is not None
    return found


def tlsa(path: Path, usage: int, selector: int, matching: int) -> Tlsa:
    name = {0: "", 1: "sha256", 2: "sha512"}[matching]
    data = bytes.fromhex(tlsa_data(path, selector, matching))
    return Tlsa(usage, selector, name, data)


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_a_record_is_about_one_certificate(
    certificates: Path, selector: int, matching: int
) -> None:
    record = tlsa(certificates / "good.pem", 3, selector, matching)
    for name in ("good", "untrusted", "ca"):
        shown = certificate(certificates / f"{name}.pem")
        assert dane.matches(shown, [record], dane.SERVER) is (name == "good")
        assert not dane.matches(shown, [record], dane.AUTHORITY)


def test_authorities(certificates: Path) -> None:
    path = certificates
    leaf, ca, other = (
        certificate(path / f"{x}.pem") for x in ("good", "ca", "otherca")
    )
    by_digest = tlsa(path / "ca.pem", 2, 0, 1)
    assert dane.anchors([leaf, other, ca], [by_digest]) == {ca.der}
    assert dane.anchors([leaf], [by_digest]) == set()
    assert dane.anchors([leaf], [tlsa(path / "ca.pem", 2, 0, 0)]) == {ca.der}
    assert len(dane.anchors([leaf], [tlsa(path / "ca.pem", 2, 1, 0)])) == 1
    # About the server's own certificate, but as an authority.
    assert dane.anchors([leaf], [tlsa(path / "good.pem", 2, 0, 1)]) == set()
    assert dane.anchors([leaf], [tlsa(path / "good.pem", 2, 0, 0)]) == set()
    # About the authority, but as the server's own.
    assert dane.anchors([leaf, ca], [tlsa(path / "ca.pem", 3, 0, 1)]) == set()
    for selector in (0, 1):
        whole = tlsa(path / "ca.pem", 3, selector, 0)
        assert dane.anchors([leaf, ca], [whole]) == set()
    # Nobody is his own authority who has not signed himself.
    own = dane.anchors([leaf], [tlsa(path / "good.pem", 2, 1, 0)])
    assert leaf.der not in own


def test_a_key_that_signed_itself(certificates: Path) -> None:
    path = certificates / "selfsigned.pem"
    mine = certificate(path)
    assert mine.der in dane.anchors([mine], [tlsa(path, 2, 1, 0)])
    assert dane.anchors([mine], [tlsa(path, 2, 0, 1)]) == set()
    other = tlsa(certificates / "ca.pem", 2, 1, 0)
    assert mine.der not in dane.anchors([mine], [other])


def test_what_is_a_public_key(certificates: Path) -> None:
    key = certificate(certificates / "good.pem").public_key
    assert is_public_key(key)
    assert is_public_key(bytes.fromhex(WHOLE))
    for wrong in (
        # No length in advance: BER, not DER.
        bytes.fromhex("300430800300"),
        key[:1],
        b"",
        key[:-1],
        key + b"\0",
        b"\x30\x00",
        hashlib.sha256(key).digest(),
    ):
        assert not is_public_key(wrong)
