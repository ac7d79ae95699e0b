"""TLS levels, policies and the forks of the dialogue. What smtp(8) was seen to do."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.config.settings import ConfigError, Settings
from postfix_trouble.core.failure import TableError
from postfix_trouble.core.outcome import DSN, Skipped
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.tls import StsPolicy, TlsFacts, TlsLevel, TlsPolicy
from postfix_trouble.tls import offer as tls_offer
from postfix_trouble.tls import policy as tls_policy
from postfix_trouble.tls.level import (
    Go,
    handshake_fork,
    match_fork,
    plaintext_fallback,
    refused_fork,
    security_level,
    starttls_fork,
)
from postfix_trouble.tls.policy_entry import parse_entry

NONE, MAY, ENCRYPT = TlsLevel.NONE, TlsLevel.MAY, TlsLevel.ENCRYPT
FINGERPRINT, VERIFY, SECURE = TlsLevel.FINGERPRINT, TlsLevel.VERIFY, TlsLevel.SECURE
CONFIGURATION = DSN("4.7.5", "client TLS configuration problem")  # type: ignore[arg-type]


def policy(
    values: Mapping[str, str],
    table: Mapping[str, str] | None = None,
    *,
    nexthop: str = "example.test",
    relay: str = "mx.example.test",
    socket: str = "",
) -> tuple[TlsPolicy | DSN, list[str]]:
    """The policy for a server, and the warnings."""
    values = dict(values)
    if table is not None:
        values.setdefault("smtp_tls_policy_maps", "inline:{here}")
    notes: list[str] = []

    def find(parameter: str, key: str, fold: bool) -> str | None:
        assert parameter in values
        assert fold
        if table is None or "broken" in table:
            raise TableError(parameter, "lookup error")
        return table.get(key)

    found = tls_policy.policy(
        Settings(values),
        Destination(nexthop, nexthop.strip("[]").partition("]")[0], 25, socket=socket),
        Relay(relay, "192.0.2.1", 25),
        find,
        note=notes.append,
    )
    return (found.why if isinstance(found, Skipped) else found), notes


def level(*arguments: object, **options: str) -> TlsLevel:
    found, notes = policy(*arguments, **options)  # type: ignore[arg-type]
    assert isinstance(found, TlsPolicy), found
    assert not notes
    return found.level


# --- the level ----------------------------------------------------------------------

GLOBAL = [
    ({}, NONE),
    ({"smtp_tls_security_level": "may"}, MAY),
    ({"smtp_tls_security_level": "SECURE"}, SECURE),
    ({"smtp_use_tls": "yes"}, MAY),
    ({"smtp_enforce_tls": "yes"}, VERIFY),
    ({"smtp_enforce_tls": "yes", "smtp_use_tls": "no"}, VERIFY),
    ({"smtp_enforce_tls": "yes", "smtp_tls_enforce_peername": "no"}, ENCRYPT),
    ({"smtp_tls_security_level": "none", "smtp_enforce_tls": "yes"}, NONE),
]


@pytest.mark.parametrize(("values", "expected"), GLOBAL)
def test_global_level(values: dict[str, str], expected: TlsLevel) -> None:
    assert security_level(Settings(values)) is expected
    found, _ = policy(
        {"smtp_tls_fingerprint_cert_match": "aa:bb", **values},
    )
    assert isinstance(found, TlsPolicy)
    assert found.level is expected


def test_sockets_know_no_opportunistic_tls() -> None:
    found, notes = policy(
        {"smtp_tls_security_level": "may"}, nexthop="/run/lmtp", socket="/run/lmtp"
    )
    assert found == TlsPolicy()
    assert notes == [
        "opportunistic TLS encryption is not appropriate for unix-domain destinations."
    ]


def test_sockets_know_mandatory_tls() -> None:
    values = {"smtp_tls_security_level": "encrypt"}
    assert level(values, nexthop="/run/lmtp", socket="/run/lmtp") is ENCRYPT
    values = {"smtp_tls_security_level": "none"}
    assert level(values, nexthop="/run/lmtp", socket="/run/lmtp") is NONE


# --- policy tables: which key -------------------------------------------------------

ENTRY = "encrypt"
KEYS = [
    ("sub.example.test", "sub.example.test", True),
    ("sub.example.test", ".example.test", True),
    ("sub.example.test", ".test", True),
    ("a.b.test", ".b.test", True),
    ("sub.example.test", "example.test", False),
    ("sub.example.test", "test", False),
    ("example.test", ".example.test", False),
    ("[mx.example.test]", "[mx.example.test]", True),
    ("[mx.example.test]", "mx.example.test", False),
    ("[mx.example.test]", ".example.test", False),
    ("example.test:25", "example.test:25", True),
    ("example.test:25", "example.test", False),
    ("sub.example.test:25", ".example.test:25", False),
    ("192.0.2.1", "192.0.2.1", True),
    ("192.0.2.1", ".0.2.1", False),
    ("[192.0.2.1]:25", "[192.0.2.1]:25", True),
    # Never the host.
    ("example.test", "mx.example.test", False),
]


@pytest.mark.parametrize(("nexthop", "key", "found"), KEYS)
def test_policy_keys(nexthop: str, key: str, found: bool) -> None:
    expected = ENCRYPT if found else MAY
    values = {"smtp_tls_security_level": "may"}
    assert level(values, {key: ENTRY}, nexthop=nexthop) is expected


def test_first_hit_ends_the_search() -> None:
    table = {"a.b.test": "may", ".b.test": "secure"}
    assert level({}, table, nexthop="a.b.test") is MAY


def test_parents_of_international_domains_need_smtputf8() -> None:
    table = {".example.test": ENTRY}
    for flag, expected in (("yes", ENCRYPT), ("no", NONE)):
        values = {"smtputf8_enable": flag}
        assert level(values, table, nexthop="bücher.example.test") is expected


def test_a_table_that_fails_is_never_no_entry() -> None:
    found, notes = policy({"smtp_tls_security_level": "may"}, {"broken": ""})
    assert found == CONFIGURATION
    assert notes == [
        'smtp_tls_policy_maps, next-hop destination "example.test": '
        "policy table lookup error",
        "TLS policy lookup for example.test/mx.example.test: "
        "client TLS configuration problem",
    ]


# --- policy tables: what an entry says ----------------------------------------------

OPEN = TlsPolicy(MAY, protocols=">=TLSv1", ciphers="medium")
MUST = OPEN._replace(level=ENCRYPT, exclude="eNULL")
NAMED = OPEN._replace(level=SECURE, exclude="aNULL", match=("nexthop", "dot-nexthop"))
GOOD = [
    ("NONE", TlsPolicy()),
    ("may", OPEN),
    ("encrypt,protocols=>=TLSv1.2", MUST._replace(protocols=">=TLSv1.2")),
    ("encrypt ciphers=high", MUST._replace(ciphers="high")),
    ("encrypt exclude=RC4", MUST._replace(exclude="RC4 eNULL")),
    ("encrypt protocols=", MUST._replace(protocols="")),
    ("verify", NAMED._replace(level=VERIFY, match=("hostname",))),
    ("secure", NAMED),
    (
        "Secure MATCH=a.test:.b.test match=hostname",
        NAMED._replace(match=("a.test", ".b.test", "hostname")),
    ),
    (
        "fingerprint match=AA:bb|ccDD match=ee",
        NAMED._replace(level=FINGERPRINT, match=("aabb", "ccdd", "ee")),
    ),
    (
        "secure servername=hostname tafile=/x tafile=/y connection_reuse=yes",
        NAMED._replace(servername="hostname", trust_anchors=("/x", "/y")),
    ),
    ("secure match=MX", NAMED._replace(match=("MX",))),
    ("secure match=hostname\r\n", NAMED._replace(match=("hostname",))),
    (
        "secure policy_type=STS policy_domain=example.test policy_ttl=86400 "
        "policy_string=a policy_string=b",
        NAMED._replace(sts=StsPolicy("example.test", "enforce", text="a\nb")),
    ),
    *(
        (
            f"secure policy_type=no-policy-found policy_failure={why}",
            NAMED._replace(must_fail=why.lower()),
        )
        for why in (
            "sts-policy-fetch-error",
            "sts-policy-invalid",
            "sts-webpki-invalid",
            "Validation-Failure",
        )
    ),
    (
        "may { protocols = TLSv1.2, TLSv1.3 } enable_rpk=no",
        OPEN._replace(protocols="TLSv1.2, TLSv1.3"),
    ),
]


@pytest.mark.parametrize(("entry", "expected"), GOOD, ids=[row[0] for row in GOOD])
def test_policy_entries(entry: str, expected: TlsPolicy) -> None:
    assert policy({}, {"example.test": entry}) == (expected, [])


BAD = {
    "": "invalid empty policy",
    " , ": "invalid empty policy",
    "bogus": 'invalid security level "bogus"',
    "halfdane": 'invalid security level "halfdane"',
    "may foo=bar": 'invalid attribute name: "foo"',
    "may foo": "malformed attribute/value pair \"foo\": missing '=' after name",
    "may =x": 'malformed attribute/value pair "=x": missing attribute name',
    "may {protocols=TLSv1": 'malformed attribute/value pair in "may {protocols=TLSv1"',
    "encrypt match=x": 'attribute "match" invalid at security level "encrypt"',
    "secure match=": 'attribute "match" has empty value',
    "may ciphers=": 'attribute "ciphers" has empty value',
    "may tafile=x": 'attribute "tafile" invalid at security level "may"',
    "fingerprint match=aa tafile=x": (
        'attribute "tafile" invalid at security level "fingerprint"'
    ),
    "secure exclude=A exclude=B": 'attribute "exclude" is specified multiple times',
    "may servername=f..oo": '"servername=f..oo" specifies an invalid hostname',
    "may connection_reuse=maybe": 'attribute "connection_reuse" has bad value: "maybe"',
    "secure policy_ttl=5": (
        "built-in policy has unexpected attribute policy_ttl, policy_domain, "
        "policy_string, mx_host_pattern or policy_failure"
    ),
    **{
        f"secure {word}": (
            "built-in policy has unexpected attribute policy_ttl, policy_domain, "
            "policy_string, mx_host_pattern or policy_failure"
        )
        for word in (
            "policy_domain=a.test",
            "policy_string=x",
            "mx_host_pattern=mx.example.test",
            "policy_failure=validation-failure",
        )
    },
    "secure tafile=": 'attribute "tafile" has empty value',
    "secure policy_type=sts policy_failure=x": (
        'attribute "policy_failure" has an unexpected value: "x"'
    ),
    "secure policy_type=sts policy_ttl=\u0665": (
        'attribute "policy_ttl" has a malformed value: "\u0665"'
    ),
    "secure policy_type=sts policy_domain=f..oo": (
        'attribute "policy_domain" has a malformed value: "f..oo"'
    ),
    "may\vciphers=high": 'invalid security level "may\vciphers=high"',
    "secure policy_type=x": 'attribute "policy_type" has an unexpected value: "x"',
    "secure policy_type=sts policy_ttl=x": (
        'attribute "policy_ttl" has a malformed value: "x"'
    ),
}


@pytest.mark.parametrize("entry", BAD, ids=[key or "empty" for key in BAD])
def test_an_entry_that_is_not_understood_passes_the_server_over(entry: str) -> None:
    found, notes = policy({"smtp_tls_security_level": "may"}, {"example.test": entry})
    assert found == CONFIGURATION
    where = 'smtp_tls_policy_maps, next-hop destination "example.test"'
    assert notes[0] == f"{where}: {BAD[entry]}"


def test_attributes_without_tls_are_ignored_loudly() -> None:
    found, notes = policy({}, {"example.test": "none match=x"})
    assert found == TlsPolicy()
    assert notes[0].endswith('ignoring attribute "match=x" with TLS disabled')


@given(st.text(alphabet="mayencrypt verify={}:|,\tx", max_size=60))
def test_any_entry_is_understood_or_refused(text: str) -> None:
    parse_entry(text)


# --- main.cf beside the tables ------------------------------------------------------


def test_main_cf_fills_what_the_entry_leaves_open() -> None:
    values = {
        "smtp_tls_security_level": "may",
        "smtp_tls_protocols": "!SSLv3",
        "smtp_tls_ciphers": "low",
        "smtp_tls_exclude_ciphers": "RC4",
        "smtp_tls_mandatory_protocols": ">=TLSv1.2",
        "smtp_tls_mandatory_ciphers": "high",
        "smtp_tls_mandatory_exclude_ciphers": "MD5, DES",
        "smtp_tls_servername": "nexthop",
        "smtp_tls_trust_anchor_file": "/a, /b",
        "smtp_tls_secure_cert_match": "nexthop, x.test:y.test",
        "smtp_tls_wrappermode": "yes",
    }
    table = {"secure.test": "secure", "encrypt.test": "encrypt"}
    assert policy(values, table, nexthop="secure.test") == (
        TlsPolicy(
            SECURE,
            ("nexthop", "x.test", "y.test"),
            ">=TLSv1.2",
            "high",
            "RC4 MD5, DES aNULL",
            "nexthop",
            ("/a", "/b"),
            wrappermode=True,
        ),
        [],
    )
    found, _ = policy(values, table, nexthop="encrypt.test")
    assert isinstance(found, TlsPolicy)
    assert (found.exclude, found.trust_anchors) == ("RC4 MD5, DES eNULL", ())
    found, _ = policy(values, {"verify.test": "verify"}, nexthop="verify.test")
    assert isinstance(found, TlsPolicy)
    assert (found.exclude, found.trust_anchors) == ("RC4 MD5, DES aNULL", ("/a", "/b"))
    found, _ = policy({**values, "smtp_tls_wrappermode": "no"}, {}, nexthop="may.test")
    assert found == TlsPolicy(MAY, (), "!SSLv3", "low", "RC4", "nexthop")


def test_wrapped_tls_must_be_a_must() -> None:
    for word in ("none", "may"):
        values = {"smtp_tls_security_level": word, "smtp_tls_wrappermode": "yes"}
        assert policy(values) == (
            DSN(),
            [
                'smtp_tls_wrappermode requires "smtp_tls_security_level = encrypt" '
                "(or stronger)"
            ],
        )


@pytest.mark.parametrize("listed", ["", "zz:11", "a", "aa:b", "aa::bb"])
def test_fingerprint_level_needs_fingerprints(listed: str) -> None:
    found, notes = policy(
        {
            "smtp_tls_security_level": "fingerprint",
            "smtp_tls_fingerprint_cert_match": listed,
        }
    )
    assert found == CONFIGURATION
    assert notes[-2] == (
        "nexthop domain example.test: configured at fingerprint security level, "
        "but with no fingerprints to match."
    )
    assert (f"malformed fingerprint value: {listed}" in notes) == bool(listed)


def test_a_name_for_sni_must_be_a_name() -> None:
    found, notes = policy(
        {"smtp_tls_security_level": "may", "smtp_tls_servername": "127.0.0.1"}
    )
    assert found == CONFIGURATION
    assert notes[0] == '"smtp_tls_servername = 127.0.0.1" specifies an invalid hostname'


# --- STS ----------------------------------------------------------------------------

STS = "secure policy_type=sts policy_domain=example.test"
PATTERNS = [
    ("mx_host_pattern=mx.example.test", True),
    ("mx_host_pattern=MX.Example.test", True),
    ("mx_host_pattern=*.example.test", True),
    ("mx_host_pattern=a.test mx_host_pattern=*.example.test", True),
    ("mx_host_pattern=*.test", False),
    ("mx_host_pattern=example.test", False),
    ("mx_host_pattern=*.mx.example.test", False),
]


@pytest.mark.parametrize(("patterns", "named"), PATTERNS)
def test_sts_names_the_hosts(patterns: str, named: bool) -> None:
    entry = f"{STS} match=x.test {patterns}"
    found, notes = policy({}, {"example.test": entry})
    if named:
        assert isinstance(found, TlsPolicy)
        # The host is the right one: the certificate must be the host's.
        assert found.match == ("hostname",)
        assert notes == []
    else:
        assert found == DSN()
        assert notes == [
            "MX name 'mx.example.test' does not match STS MX pattern for 'example.test'"
        ]


def test_sts_hosts_without_names_of_their_own() -> None:
    """No match=: names are those of the level. Without a policy: the same."""
    ours = {"smtp_tls_secure_cert_match": "nexthop, x.test"}
    for kind in ("sts", "no-policy-found"):
        entry = f"secure policy_type={kind} mx_host_pattern=mx.example.test"
        found, notes = policy(ours, {"example.test": entry})
        assert isinstance(found, TlsPolicy), notes
        assert found.match == ("nexthop", "x.test")


def test_a_misspelt_level_is_never_a_weaker_one() -> None:
    with pytest.raises(ConfigError, match="smtp_tls_security_level = encrpyt"):
        policy({"smtp_tls_security_level": "encrpyt"})


def test_hosts_are_free_where_there_was_no_sts_policy() -> None:
    entry = "secure policy_type=no-policy-found mx_host_pattern=other.test"
    assert level({}, {"example.test": entry}) is SECURE


def test_sts_host_with_a_dot_at_its_end() -> None:
    entry = f"{STS} mx_host_pattern=mx.example.test"
    assert level({}, {"example.test": entry}, relay="mx.example.test.") is SECURE


@pytest.mark.parametrize(
    ("attribute", "domain"),
    [("", "example.test"), (" policy_domain=other.test", "other.test")],
)
def test_sts_complaint_names_the_domain_of_the_policy(
    attribute: str, domain: str
) -> None:
    entry = f"secure policy_type=sts{attribute} mx_host_pattern=mx.other.test"
    _, notes = policy({}, {"example.test": entry})
    assert notes == [
        f"MX name 'mx.example.test' does not match STS MX pattern for '{domain}'"
    ]


def test_sts_patterns_can_be_turned_off() -> None:
    entry = f"{STS} match=x.test mx_host_pattern=other.test"
    found, _ = policy(
        {"smtp_tls_enforce_sts_mx_patterns": "no"}, {"example.test": entry}
    )
    assert isinstance(found, TlsPolicy)
    assert found.match == ("x.test",)


# --- per-site tables ----------------------------------------------------------------

SITES = [
    # common, entry of the nexthop, of the host, expected
    ("none", None, None, NONE),
    ("encrypt", None, None, ENCRYPT),
    ("none", "MAY", None, MAY),
    ("encrypt", "MAY", None, ENCRYPT),
    ("encrypt", "NONE", None, NONE),
    ("none", "MUST", None, VERIFY),
    ("none", "must_nopeermatch", None, ENCRYPT),
    ("encrypt", "NONE", "MAY", NONE),
    ("encrypt", "MAY", "NONE", NONE),
    ("none", "NONE", "MUST", VERIFY),
    ("none", "MUST", "NONE", VERIFY),
    ("none", "MUST", "MUST_NOPEERMATCH", VERIFY),
]


@pytest.mark.parametrize(("common", "nexthop", "host", "expected"), SITES)
def test_per_site(
    common: str, nexthop: str | None, host: str | None, expected: TlsLevel
) -> None:
    entries = {"example.test": nexthop, "mx.example.test": host}
    table = {key: value for key, value in entries.items() if value is not None}
    values = {"smtp_tls_security_level": common, "smtp_tls_per_site": "inline:{here}"}
    found, _ = policy({**values, "smtp_tls_policy_maps": ""}, table)
    assert isinstance(found, TlsPolicy)
    assert found.level is expected


def test_per_site_asks_once_for_one_name() -> None:
    values = {"smtp_tls_per_site": "inline:{here}", "smtp_tls_policy_maps": ""}
    same = {"nexthop": "mx.example.test", "relay": "MX.example.test"}
    found, notes = policy(values, {"mx.example.test": "nonsense"}, **same)
    assert found == CONFIGURATION
    assert [note for note in notes if "server hostname" in note] == []


def test_per_site_errors() -> None:
    values = {"smtp_tls_per_site": "inline:{here}", "smtp_tls_policy_maps": ""}
    found, notes = policy(values, {"example.test": "foo"})
    assert found == CONFIGURATION
    assert notes[0] == (
        "smtp_tls_per_site: unknown TLS policy 'foo' for next-hop destination "
        "example.test"
    )
    _, notes = policy(values, {"mx.example.test": "foo"})
    assert notes[0] == (
        "smtp_tls_per_site: unknown TLS policy 'foo' for server hostname "
        "mx.example.test"
    )
    found, notes = policy(values, {"broken": ""})
    assert found == DSN("4.3.0", "Temporary lookup error")  # type: ignore[arg-type]
    assert notes[0] == (
        'smtp_tls_per_site: next-hop destination "example.test": '
        "per-site table lookup error"
    )


# --- forks --------------------------------------------------------------------------


def test_starttls_fork() -> None:
    for each in TlsLevel:
        offered, silent = starttls_fork(each, True), starttls_fork(each, False)
        assert offered.go is (Go.PLAINTEXT if each is NONE else Go.STARTTLS)
        if each <= MAY:
            assert silent.go is Go.PLAINTEXT
        else:
            assert (silent.go, silent.status) == (Go.SITE_FAIL, "4.7.4")
            assert silent.text.format(namaddr="mx[::1]", reply="") == (
                "TLS is required, but was not offered by host mx[::1]"
            )
            # The destination is suspended.
            assert silent.throttle
        for fork in (offered, silent):
            if fork.go is not Go.SITE_FAIL:
                assert (fork.status, fork.text, fork.throttle) == ("", "", False)


def test_a_refusal_is_as_hard_as_the_server_says() -> None:
    assert refused_fork(MAY).go is Go.PLAINTEXT
    fork = refused_fork(ENCRYPT)
    assert (fork.go, fork.status, fork.throttle) == (Go.SITE_FAIL, "", True)
    assert fork.text.format(namaddr="mx[::1]", reply="454 no {x}") == (
        "TLS is required, but host mx[::1] refused to start TLS: 454 no {x}"
    )


def test_a_failed_handshake_throttles_only_where_tls_is_a_must() -> None:
    for each in TlsLevel:
        fork = handshake_fork(each)
        assert (fork.go, fork.status) == (Go.MISC_FAIL, "4.7.5")
        assert fork.text == "Cannot start TLS: handshake failure"
        assert fork.throttle is (each > MAY)


def test_a_certificate_must_match_from_fingerprint_up() -> None:
    stranger = TlsFacts("TLSv1.3", "X", 256, trusted=True)
    for each in TlsLevel:
        fork = match_fork(each, stranger)
        assert (fork is None) is (each <= ENCRYPT)
        if fork is not None:
            assert (fork.go, fork.status) == (Go.SITE_FAIL, "4.7.5")
            assert fork.text == "Server certificate not verified"
            assert fork.throttle
        assert match_fork(each, stranger._replace(matched=True)) is None


FALLBACK = [
    (MAY, 300.0, False, True),
    (MAY, 299.9, False, False),
    (MAY, 0.0, False, False),
    (MAY, 9999.0, True, False),
    (NONE, 9999.0, False, False),
    (ENCRYPT, 9999.0, False, False),
    (SECURE, 9999.0, False, False),
]


@pytest.mark.parametrize(("each", "age", "password", "expected"), FALLBACK)
def test_plaintext_fallback(
    each: TlsLevel, age: float, password: bool, expected: bool
) -> None:
    assert plaintext_fallback(each, age, 300.0, password) is expected


# --- what we offer ------------------------------------------------------------------

ALL = ["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
# What is left, or what is wrong; as Postfix 3.7 was seen to take them.
PROTOCOLS = {
    ">=TLSv1": ALL[1:],
    ">=tlsv1.2": ALL[3:],
    ">=TLSv1.1 <=TLSv1.2": ALL[2:4],
    ">=TLSv1.2:<=TLSv1.2": ["TLSv1.2"],
    ">=TLSv1.1 >=TLSv1.3": ["TLSv1.3"],
    "!SSLv2, !SSLv3, !TLSv1.1": ["TLSv1", "TLSv1.2", "TLSv1.3"],
    "!SSLv2:!SSLv3:!TLSv1": ALL[2:],
    "TLSv1.2 TLSv1": ["TLSv1", "TLSv1.2"],
    ">= TLSv1.2": ALL[3:],
    ">=0x0303": ALL[3:],
    ">=0X303": ALL[3:],
    ">=0303": ALL[3:],
    ">=303, <=0303": ["TLSv1.2"],
    # Bounds that are none, or that OpenSSL does not know.
    ">=0": ALL,
    ">=0x0": ALL,
    ">=": ALL,
    "<=0305": ALL,
    ">=TLSv1, <=0x0305": ALL[1:],
    ">=0x0002": ALL,
    ">=771": ALL,
    "<=fffff": ALL,
    # A word that means nothing any more.
    "SSLv2": ALL,
    "SSLv2 TLSv1.2": ["TLSv1.2"],
    "": ALL,
    "TLSv1.2, !TLSv1.2": "no protocol is left",
    ">=TLSv1.3 <=TLSv1.2": "no protocol is left",
    ">=SSLv2": 'unknown protocol "SSLv2"',
    "0x0303": 'unknown protocol "0x0303"',
    "!0303": 'unknown protocol "0303"',
    ">=TLSv1.9": 'unknown protocol "TLSv1.9"',
    "TLSv1.9": 'unknown protocol "TLSv1.9"',
    "! TLSv1.2": 'unknown protocol ""',
    "=TLSv1.2": 'unknown protocol "=TLSv1.2"',
    ">TLSv1.2": 'unknown protocol ">TLSv1.2"',
    ">=-1": 'unknown protocol "-1"',
    ">=0x": 'unknown protocol "0x"',
    "TLSv1.2;TLSv1.3": 'unknown protocol "TLSv1.2;TLSv1.3"',
}


@pytest.mark.parametrize("listed", PROTOCOLS, ids=[key or "all" for key in PROTOCOLS])
def test_protocols(listed: str) -> None:
    found = tls_offer.protocols(listed)
    if isinstance(found, tls_offer.Unusable):
        assert found.attributes == ("protocols",)
        assert found.problem == PROTOCOLS[listed]
    else:
        names = [tls_offer.PROTOCOLS[number] for number in found.numbers]
        assert names == PROTOCOLS[listed]


@pytest.mark.parametrize(
    ("listed", "bounds"),
    [
        (">=TLSv1, <=0305", ("<=0305",)),
        (">=771", (">=771",)),
        (">=", ()),
        (">=0x0 <=00", ()),
        (">=0303", ()),
    ],
)
def test_bounds_that_are_none(listed: str, bounds: tuple[str, ...]) -> None:
    found = tls_offer.protocols(listed)
    assert isinstance(found, tls_offer.Protocols)
    assert found.unbounded == bounds


_HIGH = "aNULL:-aNULL:HIGH:@STRENGTH"
CIPHERS = [
    ("medium", "", "aNULL:-aNULL:HIGH:MEDIUM:+RC4:@STRENGTH"),
    ("HIGH", "RC4, aNULL", f"{_HIGH}:!RC4:!aNULL"),
    ("null", "", "eNULL:!aNULL"),
    ("low", "", "aNULL:-aNULL:HIGH:MEDIUM:LOW:+RC4:@STRENGTH"),
    ("export", "", "aNULL:-aNULL:HIGH:MEDIUM:LOW:EXPORT:+RC4:@STRENGTH"),
    ("high", "EDH+RC4", f"{_HIGH}:!EDH+RC4"),
    ("high", "aNULL:MD5:RC4", f"{_HIGH}:!aNULL:!MD5:!RC4"),
    ("high", " :aNULL: MD5 ,\tRC4 :", f"{_HIGH}:!aNULL:!MD5:!RC4"),
    ("high", "aNULL@SECLEVEL=0", f"{_HIGH}:!aNULL@SECLEVEL=0"),
    ("great", "", ("ciphers", 'unknown grade "great"')),
    ("HIGH:MD5", "", ("ciphers", 'unknown grade "HIGH:MD5"')),
    ("", "", ("ciphers", 'unknown grade ""')),
    ("high", "a:!foo", ("exclude", '"!foo" begins with !')),
    ("high", "-RC4", ("exclude", '"-RC4" begins with -')),
    ("high", "+RC4", ("exclude", '"+RC4" begins with +')),
    ("high", "@STRENGTH", ("exclude", '"@STRENGTH" begins with @')),
]


@pytest.mark.parametrize(("grade", "exclude", "expected"), CIPHERS)
def test_cipher_list(grade: str, exclude: str, expected: str | tuple[str, str]) -> None:
    found = tls_offer.cipher_list(grade, exclude)
    if isinstance(found, tls_offer.Unusable):
        assert (*found.attributes, found.problem) == expected
    else:
        assert found == expected


SOURCES: list[tuple[str, str, dict[str, str], str]] = [
    # entry of the policy table, attribute, parameters, where it was set
    ("", "protocols", {}, "smtp_tls_protocols = >=TLSv1"),
    (
        "",
        "exclude",
        {"smtp_tls_exclude_ciphers": "a:b", "smtp_tls_mandatory_exclude_ciphers": "c"},
        "smtp_tls_exclude_ciphers = a:b",
    ),
    (
        "encrypt",
        "exclude",
        {"smtp_tls_exclude_ciphers": "a", "smtp_tls_mandatory_exclude_ciphers": "b, c"},
        "smtp_tls_exclude_ciphers = a, smtp_tls_mandatory_exclude_ciphers = b, c",
    ),
    ("encrypt", "exclude", {}, ""),
    ("encrypt exclude=a:b", "exclude", {}, "smtp_tls_policy_maps: exclude=a:b"),
    ("may ciphers=x", "ciphers", {}, "smtp_tls_policy_maps: ciphers=x"),
    (
        "verify protocols=TLSv9",
        "protocols",
        {},
        "smtp_tls_policy_maps: protocols=TLSv9",
    ),
    (
        "verify",
        "ciphers",
        {"smtp_tls_mandatory_ciphers": "low"},
        "smtp_tls_mandatory_ciphers = low",
    ),
]


@pytest.mark.parametrize(("entry", "attribute", "values", "where"), SOURCES)
@pytest.mark.parametrize("lmtp", [False, True])
def test_where_an_attribute_was_set(
    entry: str, attribute: str, values: dict[str, str], where: str, lmtp: bool
) -> None:
    if lmtp:
        values = {k.replace("smtp_", "lmtp_"): v for k, v in values.items()}
        where = where.replace("smtp_", "lmtp_")
    values["lmtp_tls_policy_maps" if lmtp else "smtp_tls_policy_maps"] = "static:x"
    name = "lmtp_tls_security_level" if lmtp else "smtp_tls_security_level"
    settings = Settings({name: "may", **values}, lmtp=lmtp)
    found = tls_policy.policy(
        settings,
        Destination("d.test", "d.test", 25),
        Relay("mx.test", "192.0.2.1", 25),
        lambda parameter, key, fold: entry or None,
    )
    assert isinstance(found, TlsPolicy)
    assert tls_offer.source(attribute, found, settings) == where
