"""What Postfix makes of the DNS, row by row, on a real server."""

from __future__ import annotations

import dnslib
import pytest

from dns_scene import (
    FATAL,
    NO_HOST,
    answer_with,
    cases,
    malformed,
    mangled,
    names,
    no,
    scene,
    zone,
)
from dns_server import Zone
from postfix_trouble.core.outcome import DSN

# How the rows are to be read: dns_scene.py.
DELIVERED = cases("""
preference order
    d MX 30 c, 10 a, 20 b; a A 1; b A 2; c A 3 to d.test:26 -> a[1]:26 b[2]:26 c[3]:26
equal preference in order of the answer
    d MX 10 b, 10 a; a A 1, 9; b A 2 to d.test -> b[2] a[1] a[9]
brackets: no MX
    d MX 10 a; d A 5; a A 1 to [d.test] -> d[5]
no MX: the address
    d A 5 to d.test -> d[5]
alias of the domain
    d CNAME e; e MX 10 a; a A 1 to d.test -> a[1]
alias that has to be asked for
    d CNAME e; d alone; e MX 10 a; a A 1 to d.test -> a[1]
MX to an alias keeps its name
    d MX 10 a; a CNAME b; b A 2 to d.test -> a[2]
MX to an alias, overridden
    d MX 10 a; a CNAME b; b A 2 with smtp_cname_overrides_servername=yes to d.test ->
    b[2]
hosts without address are skipped
    d MX 10 no, 20 bad, 30 a; bad rcode SERVFAIL; a A 1 to d.test -> a[1]
MX to an address
    d MX 10 198.51.100.7. to d.test -> 198.51.100.7.[7]
MX to garbage is skipped
    d MX 5 bad!, 6 -rf, 10 a; a A 1 to d.test -> a[1]
numeric without brackets
    to 198.51.100.8 -> 198.51.100.8.[8]
both families
    d MX 10 a; a A 1; a AAAA 2001:db8::1 with all to d.test -> a[1] a[2001:db8::1]
IPv6 preferred
    d MX 10 a, 10 b, 20 c; a A 1; b AAAA ::2; c AAAA ::3 with all;
    smtp_address_preference=ipv6 to d.test -> b[::2] a[1] c[::3]
a host with IPv6 preferred
    d A 1; d AAAA 2001:db8::1 with all; smtp_address_preference=ipv6 to [d.test] ->
    d[2001:db8::1] d[1]
one family fails, the other does not
    d rcode:AAAA SERVFAIL; d A 1 with all to [d.test] -> d[1]
MX failure ignored
    d rcode:MX SERVFAIL; d A 1 with ignore_mx_lookup_error=yes to d.test -> d[1]
backup MX: only better ones
    d MX 10 a, 20 me, 20 b, 30 c; a A 1; me A 127.0.0.1; b A 2; c A 3 to d.test -> a[1]
on another port nothing loops
    d MX 10 me; me A 127.0.0.1 to d.test:26 -> me[127.0.0.1]:26
IDN
    xn--bcher-kva MX 10 a; a A 1 to bücher.test -> a[1]
limits leave some of each family
    d MX 10 a; a A 1, 2, 3, 4, 5, 6; a AAAA 2001:db8::1, ::2, ::3, ::4, ::5, ::6 with
    all; smtp_mx_address_limit=3 to d.test -> a[1] a[2] a[2001:db8::1]
truncated: TCP
    d MX 10 a; d truncate; a A 1; a truncate to d.test -> a[1]
case of names does not matter
    d MX 10 A; a A 1 to D.Test -> A[1]
""")


@pytest.mark.parametrize("case", DELIVERED)
def test_servers(case: str) -> None:
    records, values, nexthop, _ = DELIVERED[case]
    with scene(records, values) as here:
        route = here.route(nexthop)
        assert route.failure == DSN()
        assert list(names(route)) == DELIVERED[case].servers


FAILED = cases("""
NXDOMAIN
    to d.test -> 5.4.4 d A: Host not found
NXDOMAIN, both families
    with all to d.test -> 5.4.4 d AAAA: Host not found
no data
    d TXT x to d.test -> 5.4.4 d A: Host found but no data record of requested type
null MX
    d MX 0 .; d A 1 to d.test -> 5.1.0 Domain d.test does not accept mail (nullMX)
null MX among others
    d MX 10 a, 0 .; a A 1 to d.test -> 5.1.0 Domain d.test does not accept mail (nullMX)
null MX can't be ignored
    d MX 0 .; d A 1 with ignore_mx_lookup_error=yes to d.test -> 5.1.0 Domain d.test
    does not accept mail (nullMX)
MX SERVFAIL
    d rcode:MX SERVFAIL; d A 1 to d.test -> 4.4.3 d MX: Host not found, try again
MX REFUSED
    d rcode:MX REFUSED; d A 1 to d.test -> 4.4.3 d MX: Host not found, try again
MX NOTIMP
    d rcode:MX NOTIMP; d A 1 to d.test -> 4.4.3 d MX: Host not found, try again
MX FORMERR
    d rcode:MX FORMERR; d A 1 to d.test -> 5.4.3 d MX: Non-recoverable error
MX YXDOMAIN
    d rcode:MX YXDOMAIN; d A 1 to d.test -> 5.4.3 d MX: Non-recoverable error
MX failure ignored, the address fails too
    d rcode:MX SERVFAIL with ignore_mx_lookup_error=yes to d.test -> 5.4.4 d A: Host
    found but no data record of requested type
only garbage
    d MX 5 bad!, 6 -rf; d A 1 to d.test -> 5.4.4 d MX: malformed
MX host without data
    d MX 10 a; a TXT x to d.test -> 5.4.4 a A: Host found but no data record of
    requested type
no MX host exists: the last is named
    d MX 10 a, 20 b to d.test -> 5.4.4 b A: Host not found
the same, deferred by request
    d MX 10 a, 20 b with smtp_defer_if_no_mx_address_found=yes to d.test -> 4.4.4 b A:
    Host not found
a soft error dominates
    d MX 10 a, 20 b; a rcode SERVFAIL to d.test -> 4.4.4 b A: Host not found
soft, then fatal
    d MX 10 a, 20 b; a rcode SERVFAIL; b rcode FORMERR to d.test -> 4.4.3 b A:
    Non-recoverable error
fatal address
    d rcode FORMERR to [d.test] -> 5.4.3 d A: Non-recoverable error
the worse of two families is named
    d rcode:A SERVFAIL with all to [d.test] -> 4.4.3 d A: Host not found, try again
best MX ourselves
    d MX 10 me, 20 a; me A 127.0.0.1; a A 1 to d.test -> 5.4.6 mail for d.test loops
    back to myself
a peer of ours
    d MX 10 a, 10 me; me A 127.0.0.1; a A 1 to d.test -> 5.4.6 mail for d.test loops
    back to myself
better MX missing, next one ourselves
    d MX 10 no, 20 me; me A 127.0.0.1 to d.test -> 4.4.4 unable to find primary relay
    for d.test
address of our own
    d A 127.0.0.1 to d.test -> 5.4.6 mail for d.test loops back to myself
proxy address
    d MX 10 a; a A 1 with proxy_interfaces=198.51.100.1 to d.test -> 5.4.6 mail for
    d.test loops back to myself
interfaces of this machine
    d A 127.0.0.1 with inet_interfaces=all to d.test -> 5.4.6 mail for d.test loops back
    to myself
loopback only
    d AAAA ::1 with all; inet_interfaces=loopback-only to d.test -> 5.4.6 mail for
    d.test loops back to myself
alias without end
    d CNAME e; e CNAME d to [d.test] -> 5.4.4 Name server loop for d.test
alias of itself
    d CNAME d; d alone to [d.test] -> 5.4.4 Name server loop for d.test
alias to garbage
    d CNAME bad!; d alone to [d.test] -> 5.4.4 d A: malformed
nobody can be there
    d A 0.0.0.0, 224.0.0.1, 255.255.255.255, 0.1.2.3 to [d.test] -> 4.4.3 d A: malformed
nor there
    d AAAA ::, ff02::1, ::ffff:c633:6401 with inet_protocols=ipv6 to [d.test] -> 4.4.3 d
    AAAA: malformed
address of a family that is off
    to [2001:db8::1] -> 5.4.4 Name service error for 2001:db8::1: invalid host or domain
    name
""")


@pytest.mark.parametrize("case", FAILED)
def test_failures(case: str) -> None:
    records, values, nexthop, _ = FAILED[case]
    with scene(records, values) as here:
        assert here.failure(nexthop) == FAILED[case].failure


LONG = ".".join(["x" * 63] * 3 + ["y" * 62])
CHAIN = ";".join(f"c{x} CNAME c{x + 1}; c{x} alone" for x in range(12))
ODD: dict[str, tuple[Zone, str, str, str]] = {
    "record cut short": (
        {"d.test": mangled(lambda x: x[:-3])}, "d.test", "4.4.3", malformed("d MX"),
    ),
    "pointer to itself": (
        {"d.test": mangled(lambda x: x.replace(b"\xc0\x0c", b"\xc0\x18"))},
        "d.test", "4.4.3", malformed("d MX"),
    ),
    "long chain of aliases": (
        zone(CHAIN), "[c0.test]", "5.4.4", "Name server loop for c10.test",
    ),
    "too long for a packet": ({}, LONG, "5.4.3", no(f"{LONG}. MX", FATAL)),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_odd_failures(case: str) -> None:
    records, nexthop, *expected = ODD[case]
    with scene(records) as here:
        assert here.failure(nexthop) == tuple(expected)


@pytest.mark.attack("DNS: records of other names in an answer")
def test_a_slipped_record_is_not_believed() -> None:
    records = {"d.test": answer_with("bank.test. 60 IN A 198.51.100.66")}
    with scene(records) as here:
        assert here.failure("[d.test]") == ("4.4.3", malformed("d A"))


def test_a_slipped_record_beside_an_alias_is_not_believed() -> None:
    lines = ("d.test. 60 IN CNAME b.test.", "bank.test. 60 IN A 198.51.100.66")
    with scene({"d.test": answer_with(*lines)}) as here:
        missing = no("b A", NO_HOST)
        assert here.failure("[d.test]") == ("4.4.3", missing)


TWO_ALIASES = ("d.test. 60 IN CNAME one.test.", "d.test. 60 IN CNAME other.test.")


def test_several_aliases_of_a_name_are_all_followed() -> None:
    lines = (*TWO_ALIASES, "one.test. 60 IN A 198.51.100.1")
    with scene({"d.test": answer_with(*lines)}) as here:
        assert here.servers("[d.test]") == ["d.test[198.51.100.1]:25"]


def test_several_aliases_that_lead_nowhere_are_no_reason_to_bounce() -> None:
    records = {"d.test": answer_with(*TWO_ALIASES), **zone("one A 1")}
    with scene(records) as here:
        missing = no("other A", NO_HOST)
        assert here.failure("[d.test]") == ("4.4.3", missing)


@pytest.mark.attack("DNS: names with controls and blanks in them")
def test_hostile_names_stay_text() -> None:
    evil = b"\x07a\x08b\x00c.d\x04test\x00"

    def make(query: bytes) -> bytes:
        reply = dnslib.DNSRecord.parse(query).reply()
        reply.add_answer(*dnslib.RR.fromZone("d.test. 60 IN MX 10 x.test."))
        packet = bytes(reply.pack())
        end = packet.rindex(b"\x00\x0a")
        return packet[: end - 2] + (2 + len(evil)).to_bytes(2, "big") + b"\0\x0a" + evil

    with scene({"d.test": {"raw": make}}) as here:
        assert here.failure("d.test") == ("5.4.4", malformed("d MX"))
        assert all(x.isprintable() for x in here.notes)
        assert here.notes[-1].endswith(r"record for d.test: a\008b\000c\.d.test")


def test_warnings() -> None:
    with scene("d MX 5 bad!, 10 no, 20 198.51.100.300.") as here:
        here.failure("d.test")
        assert here.notes == [
            "warning: valid_hostname: invalid character 33(decimal): bad!.test",
            "warning: malformed domain name in resource data of MX record"
            " for d.test: bad!.test",
            "warning: valid_hostname: numeric hostname: 198.51.100.300",
            "warning: malformed domain name in resource data of MX record"
            " for d.test: 198.51.100.300",
            "warning: no MX host for d.test has a valid address record",
        ]


TWO = "d MX 10 a, 20 b; a A 1; a AAAA ::2; b A 2"


def test_the_first_host_costs_three_queries() -> None:
    with scene(TWO, {"inet_protocols": "all", "inet_interfaces": "all"}) as here:
        route = here.route("d.test")
        assert route.more()
        assert route.next() is not None
        first = [("d.test", "MX"), ("a.test", "A"), ("a.test", "AAAA")]
        assert [x[:2] for x in here.dns.queries] == first
        assert route.more()
        assert [x[:2] for x in here.dns.queries] == [
            *first,
            ("b.test", "A"),
            ("b.test", "AAAA"),
        ]
        assert not route.last_resort
        assert len(here.dns.queries) == 5


def test_a_name_is_asked_for_once() -> None:
    with scene("d MX 10 a, 20 A; a A 1") as x:
        assert len(x.servers("d.test")) == 2
        assert len(x.servers("d.test")) == 2
        assert x.dns.asked() == ["d.test", "a.test"]


LAST_RESORT = {
    "not us": ("d MX 10 a, 20 me; a A 1", False),
    "backup": ("d MX 10 a, 20 me; a A 1; me A 127.0.0.1", True),
    "loop": ("d A 127.0.0.1", True),
    "primary missing": ("d MX 10 no, 20 me; me A 127.0.0.1", True),
    "unknown": ("", False),
}


@pytest.mark.parametrize("case", LAST_RESORT)
def test_last_resort(case: str) -> None:
    records, last = LAST_RESORT[case]
    with scene(records) as here:
        assert here.route("d.test").last_resort is last


def test_best_is_the_best_that_was_found() -> None:
    with scene("d MX 10 no, 20 a, 30 b; a A 1; b A 2") as here:
        route = here.route("d.test")
        assert [route.next().best, route.next().best] == [True, False]  # type: ignore[union-attr]


def test_shuffled_among_equals_only() -> None:
    records = "d MX 10 h0, 10 h1, 10 h2, 10 h3, 20 z; h0 A 1; h1 A 2; h2 A 3; h3 A 4"
    with scene(f"{records}; z A 99", {"smtp_randomize_addresses": "yes"}) as here:
        orders = {tuple(here.servers("d.test")) for _ in range(30)}
        assert len(orders) > 5
        assert {len(x) for x in orders} == {5}
        assert {x[-1] for x in orders} == {"z.test[198.51.100.99]:25"}
        assert len({x[0] for x in orders}) == 4


def test_no_more_addresses_of_a_host_than_can_be_tried() -> None:
    records = f"d A {', '.join(map(str, range(1, 31)))}; d truncate"
    for limit, used in {"5": 5, "20": 20, "0": 30}.items():
        with scene(records, {"smtp_mx_address_limit": limit}) as here:
            assert len(here.servers("[d.test]")) == used


@pytest.mark.attack("DNS: more than 100 MX records")
def test_hundred_records_at_most() -> None:
    hosts = ", ".join(f"10 h{x}" for x in range(150))
    with scene(f"d MX {hosts}; d truncate") as here:
        here.failure("d.test:26")
        assert len(here.dns.asked("A")) == 100
