"""Every form of a destination, and every mistake in one."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.core.hostname import address_family, hostname_problem, idn_to_ascii
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.dns.nexthop import BadDestination, destinations

KNOWN = ("lmtp=24", "smtp=25", "smtps=submissions=465", "submission=587")
SERVICES = {"smtp": 25, "mail": 25, "kerberos": 88}


def parse(nexthop: str, **options: Any) -> tuple[Destination, ...] | DSN:
    arguments: dict[str, Any] = {
        "default_port": "smtp",
        "known_ports": KNOWN,
        "service_port": SERVICES.get,
    } | options
    return destinations(nexthop, **arguments)


def lmtp(nexthop: str, **options: Any) -> tuple[Destination, ...] | DSN:
    return parse(nexthop, lmtp=True, default_port="24", **options)


FORMS = [
    # nexthop, host, port, no_mx, service
    ("d.test", "d.test", 25, False, "smtp"),
    ("d.test:2525", "d.test", 2525, False, ""),
    ("d.test:submission", "d.test", 587, False, "submission"),
    ("d.test:submissions", "d.test", 465, False, "submissions"),
    ("d.test:kerberos", "d.test", 88, False, "kerberos"),
    ("d.test:", "d.test", 25, False, "smtp"),
    ("d.test:00025", "d.test", 25, False, ""),
    ("under_score.test", "under_score.test", 25, False, "smtp"),
    ("[h.test]", "h.test", 25, True, "smtp"),
    ("[h.test]:", "h.test", 25, True, "smtp"),
    ("[h.test]:65535", "h.test", 65535, True, ""),
    ("[192.0.2.1]", "192.0.2.1", 25, True, "smtp"),
    ("[192.0.2.1]:26", "192.0.2.1", 26, True, ""),
    ("[ipv6:2001:db8::1]", "2001:db8::1", 25, True, "smtp"),
    ("[IPv6:2001:db8::1]:26", "2001:db8::1", 26, True, ""),
    ("[2001:db8::1]", "2001:db8::1", 25, True, "smtp"),
    ("192.0.2.1", "192.0.2.1", 25, False, "smtp"),
    ("192.0.2.1:26", "192.0.2.1", 26, False, ""),
    # Only LMTP has a prefix.
    ("inet:26", "inet", 26, False, ""),
    ("b\u00fccher.test", "xn--bcher-kva.test", 25, False, "smtp"),
    ("[B\u00dcCHER.test]:26", "xn--bcher-kva.test", 26, True, ""),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0])
def test_forms(form: tuple[str, str, int, bool, str]) -> None:
    text, host, port, no_mx, service = form
    assert parse(text) == (Destination(text, host, port, no_mx, service=service),)


@pytest.mark.parametrize(
    ("nexthop", "host", "port"),
    [
        ("inet:h.test", "h.test", 24),
        ("inet:h.test:25", "h.test", 25),
        ("inet:[192.0.2.1]:26", "192.0.2.1", 26),
        ("h.test", "h.test", 24),
        ("h.test:lmtp", "h.test", 24),
    ],
)
def test_lmtp_never_asks_for_mx(nexthop: str, host: str, port: int) -> None:
    found = lmtp(nexthop)
    assert not isinstance(found, DSN)
    assert [(d.host, d.port, d.no_mx) for d in found] == [(host, port, True)]


def test_tables_are_searched_without_inet() -> None:
    found = lmtp("inet:[h.test]:26")
    assert not isinstance(found, DSN)
    assert found[0].text == "[h.test]:26"


def test_socket_takes_the_whole_rest_and_no_fallback() -> None:
    found = lmtp("unix:/run/a, b:c", fallback="[f.test]")
    path = "/run/a, b:c"
    assert found == (Destination(path, "", 0, no_mx=True, socket=path),)


def test_smtp_knows_no_sockets() -> None:
    assert parse("unix:/etc/passwd") == DSN(
        EnhancedStatus("4.3.5"), "unknown service: /etc/passwd/tcp"
    )


HUGE = "9" * 5000
MISTAKES = [
    ("", 'null destination: ""'),
    (" ,\t", 'null destination: " ,\t"'),
    ("[h.test", 'missing "]" in server description: [h.test'),
    ("[h.test]25", 'garbage after "]" in server description: [h.test]25'),
    ("[ipv6:1.2.3.4]", "malformed IPv6 address in server description: [ipv6:1.2.3.4]"),
    (":25", "missing host information in server description: :25"),
    *(
        (x, f"valid hostname or network address required in server description: {x}")
        for x in (
            "[]", "h.test.", "-h.test", "h..test", "b@c", "1.2.3.4.5",
            "2001:db8::1", "h!", "h/../../etc", "x" * 64, "[1.2.3.256]", "[fe80::1%lo]",
        )
    ),
    ("h:25x", "garbage after numerical service in server description: h:25x"),
    ("h:2x", "garbage after numerical service in server description: h:2x"),
    ("x:0", "bad network port: 0 for destination: x:0"),
    ("x:65536", "bad network port: 65536 for destination: x:65536"),
    (f"x:{HUGE}", f"bad network port: {HUGE} for destination: x:{HUGE}"),
    ("x:nosuch", "unknown service: nosuch/tcp"),
    # Digits of other scripts are letters here.
    ("x:\u0662\u0665", "unknown service: \u0662\u0665/tcp"),
    ("x:\u0662x", "unknown service: \u0662x/tcp"),
    ("x:SUBMISSION", "unknown service: SUBMISSION/tcp"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["\ufffd.test", "-\u00e9.test:25", "xn--a.\u00e9"])
def test_a_name_that_is_none_is_nobodys_configuration(name: str) -> None:
    problem = f"domain without an A-label (UTS #46) in server description: {name}"
    assert parse(name) == DSN(EnhancedStatus("4.1.2"), problem)


@pytest.mark.parametrize(("nexthop", "problem"), MISTAKES, ids=lambda x: x[:30])
def test_mistakes_defer(nexthop: str, problem: str) -> None:
    assert parse(nexthop) == DSN(EnhancedStatus("4.3.5"), problem)


def test_no_default_port() -> None:
    problem = "missing service information in server description: h"
    assert parse("h", default_port="") == DSN(EnhancedStatus("4.3.5"), problem)


@pytest.mark.parametrize("separator", [",", " ", ", ", "\t", ",,", " ,\n"])
def test_lists(separator: str) -> None:
    found = parse(separator.join(("a:1", "[b]:2")), fallback=f"[c]:3{separator}d:4")
    assert not isinstance(found, DSN)
    assert [(d.host, d.port, d.fallback) for d in found] == [
        ("a", 1, False), ("b", 2, False), ("c", 3, True), ("d", 4, True)
    ]  # fmt: skip


def test_a_bad_later_element_waits_for_its_turn() -> None:
    found = parse("a", fallback="b:0 c")
    assert not isinstance(found, DSN)
    assert [d.text for d in found] == ["a", "b:0", "c"]
    bad = found[1]
    assert isinstance(bad, BadDestination)
    assert bad.problem == DSN(
        EnhancedStatus("4.3.5"), "bad network port: 0 for destination: b:0"
    )
    assert (bad.host, bad.port) == ("", 0)


def test_known_ports_may_be_spread_out() -> None:
    words = ("a", "=", "b", "=", "17", "c=", "18")
    found = parse("h:b h:a h:c", known_ports=words)
    assert not isinstance(found, DSN)
    assert [d.port for d in found] == [17, 17, 18]


@given(st.text(max_size=40))
def test_anything_is_answered(text: str) -> None:
    for found in (parse(text), lmtp(text)):
        if isinstance(found, DSN):
            assert found.status in ("4.3.5", "4.1.2")
            assert found.reason


@given(st.ip_addresses())
def test_addresses_are_known(address: ipaddress.IPv4Address) -> None:
    assert address_family(str(address)) == address.version
    assert address_family(address.exploded.upper()) == address.version


@given(st.from_regex(r"[0-9a-f:.]{1,20}", fullmatch=True))
def test_what_is_no_address_is_known_too(text: str) -> None:
    try:
        family: int = ipaddress.ip_address(text).version
    except ValueError:
        family = 0
    assert address_family(text) == family


NEARLY = """
    :: ::: ::1 1:: :1 1: 1::2::3 1::2::
    1:2:3:4:5:6:7 1:2:3:4:5:6:7:8 1:2:3:4:5:6:7:8:9
    1:2:3:4:5:6:7:: 1:2:3:4:5:6:7::8 ::2:3:4:5:6:7:8 1:2:3:4::5:6:7:8
    ffff::FFFF 12345:: ::12345 2001:db8::X ::g
    ::1.2.3.4 1.2.3.4:: ::1.2.3.4: ::1.2.3.4:5 ::1.2.3.256 ::1.2.3
    1:2:3:4:5:1.2.3.4 1:2:3:4:5:6:1.2.3.4 1:2:3:4:5:6:7:1.2.3.4 1:2:3:4:5:6::1.2.3.4
    1.2.3 1.2.3.4.5 1.2.3. 1.2.3.X 0.0.0.0 255.255.255.255 256.1.1.1 1.2.3.1000
    00.1.2.3 01.2.3.4 1.2.3.4x
"""


@pytest.mark.parametrize("text", NEARLY.split())
def test_addresses_at_the_border(text: str) -> None:
    try:
        family: int = ipaddress.ip_address(text).version
    except ValueError:
        family = 0
    assert address_family(text) == family


LONG = "y" * 60 + "." + "x" * 60


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a.b-c.d_e", ""),
        ("1.X.2", ""),
        (".".join(["x" * 63] * 4), ""),
        (
            ".".join(["x" * 63] * 3 + ["x" * 62, "y"]),
            f"bad length 256 for {'x' * 63}.{'x' * 36}...",
        ),
        ("\u00fc", "invalid character 195(decimal): \u00fc"),
        ("\udcff", "invalid character 255(decimal): \udcff"),
        # Not all of a name that somebody may have made long for the purpose.
        (f"{LONG}!", f"invalid character 33(decimal): {LONG[:100]}"),
        (f"{LONG}..a", f"misplaced delimiter: {LONG[:100]}"),
        (f"{LONG}{LONG}", f"hostname label too long: {LONG[:100]}"),
        (f"{LONG}-", f"misplaced hyphen: {LONG[:100]}"),
        ("1" * 50 + "." + "2" * 50, "numeric hostname: " + "1" * 50 + "." + "2" * 49),
        ("_25._tcp.h", ""),
        ("x" * 63 + ".test", ""),
        ("", "empty hostname"),
        ("x" * 64, "hostname label too long: " + "x" * 64),
        ("a.", "misplaced delimiter: a."),
        (".a", "misplaced delimiter: .a"),
        ("a..b", "misplaced delimiter: a..b"),
        ("-a", "misplaced hyphen: -a"),
        ("a-.b", "misplaced hyphen: a-.b"),
        ("a-", "misplaced hyphen: a-"),
        ("bad_-name!.test", "invalid character 33(decimal): bad_-name!.test"),
        ("a\nb", "invalid character 10(decimal): a\nb"),
        ("127.0.0.1", "numeric hostname: 127.0.0.1"),
        (".".join(["abcdefg"] * 33), f"bad length 263 for {'abcdefg.' * 12}abcd..."),
    ],
)
def test_host_names(name: str, problem: str) -> None:
    assert hostname_problem(name) == problem


@pytest.mark.parametrize(
    ("domain", "ascii_form"),
    [
        ("plain.Test", "plain.Test"),
        ("b\u00fccher.test", "xn--bcher-kva.test"),
        ("fa\u00df.test", "xn--fa-hia.test"),
        ("\u4f8b\u3002test", "xn--fsq.test"),
        ("\u2603.test", "xn--n3h.test"),
        ("b\u00fccher_x.test", "xn--bcher_x-n2a.test"),
        ("b\u00fccher.a_b.test", "xn--bcher-kva.a_b.test"),
        ("\u2603.B.test", "xn--n3h.b.test"),
        ("\ufffd.test", ""),
        # Against IDNA2008's rules of context and direction; ICU (UTS #46) takes them.
        ("a\u200d.test", "xn--a-ugn.test"),
        ("A\u200d.test", "xn--a-ugn.test"),
        ("1\u05d1\u05d9\u05ea.test", "xn--1-2hcy2e.test"),
        ("a\u30fbb.test", "xn--ab-3n4a.test"),
        ("\u05d0.b\u062a1.test", "xn--4db.xn--b1-ltd.test"),
        ("l\u00b7l.test", "xn--ll-0ea.test"),
        ("*.b\u00fccher.test", "*.xn--bcher-kva.test"),
        # What ICU refuses.
        ("-\u00e9.test", ""),
        ("\u00e9-.test", ""),
        ("\u00e9\u00e9--x.test", ""),
        ("\u0301a.test", ""),
        ("xn--a.\u00e9", ""),
        ("xn--zz-\u00e9.test", ""),
        ("XN--BCHER-KVA.\u00e9", "xn--bcher-kva.xn--9ca"),
    ],
)
def test_idn(domain: str, ascii_form: str) -> None:
    assert idn_to_ascii(domain) == ascii_form
