"""A zone for each row of what Postfix makes of the DNS, on a real server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dnslib
import pytest

import needs
from dns_server import DnsServer, Zone, serving, silent_port
from postfix_trouble.config.settings import ConfigError, Settings
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination, Exchange, Relay
from postfix_trouble.core.reply import Lost
from postfix_trouble.dns.lookup import Result
from postfix_trouble.dns.nameservers import NameServers
from postfix_trouble.dns.nexthop import destinations
from postfix_trouble.dns.resolver import Resolver
from postfix_trouble.dns.routing import Servers
from postfix_trouble.smtp.connect import service_port

BASE = {
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "smtp_randomize_addresses": "no",
}
NOT_FOUND = "Host or domain name not found. Name service error for name={} type={}: {}"
MALFORMED = (
    "Name service error for name={} type={}: Malformed or unexpected name server reply"
)
NO_HOST = "Host not found"
NO_DATA = "Host found but no data record of requested type"
AGAIN = "Host not found, try again"
FATAL = "Non-recoverable error"
ALL = {"inet_protocols": "all", "inet_interfaces": "127.0.0.1, [::1]"}


class Scene:
    """A resolver on a zone."""

    def __init__(
        self,
        dns: DnsServer,
        values: Mapping[str, str],
        *,
        deadline: float = 5.0,
        **options: Any,
    ) -> None:
        self.dns = dns
        self.notes: list[str] = []
        values = {**BASE, "trouble_nameserver": dns.address, **values}
        self.settings = Settings(values, lmtp=options.get("lmtp", False))
        options.setdefault("resolv_conf", "/nonexistent")
        self.resolver = Resolver(
            self.settings, lambda: deadline, self.notes.append, **options
        )

    def destination(self, text: str, lmtp: bool = False) -> Destination:
        found = destinations(
            text,
            default_port="24" if lmtp else "smtp",
            lmtp=lmtp,
            known_ports=self.settings.words("known_tcp_ports"),
            service_port=service_port,
        )
        assert not isinstance(found, DSN)
        return found[0]

    def route(self, text: str) -> Servers:
        return self.resolver.route(self.destination(text))

    def servers(self, text: str) -> list[str]:
        return list(names(self.route(text)))

    def failure(self, text: str) -> tuple[str, str]:
        route = self.route(text)
        assert not route.more()
        assert route.next() is None
        return route.failure.status, route.failure.reason


def relays(route: Servers) -> Iterator[Relay]:
    while relay := route.next():
        yield relay


def names(route: Servers) -> Iterator[str]:
    return (relay.namaddrport for relay in relays(route))


@contextmanager
def scene(
    zone: Zone, values: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Scene]:
    with serving(zone) as dns:
        yield Scene(dns, values or {}, **options)


def mx(*hosts: str, **more: Any) -> dict[str, Any]:
    return {"MX": list(hosts), **more}


def a(*addresses: str, **more: Any) -> dict[str, Any]:
    return {"A": list(addresses), **more}


def answer_with(*records: str, **header: int) -> dict[str, Any]:
    """A reply that the zone's own rules would not give."""

    def make(query: bytes) -> bytes:
        reply = dnslib.DNSRecord.parse(query).reply()
        for text in records:
            reply.add_answer(*dnslib.RR.fromZone(text))
        for name, value in header.items():
            setattr(reply.header, name, value)
        return bytes(reply.pack())

    return {"raw": make}


def mangled(change: Any) -> dict[str, Any]:
    """A good reply, spoiled."""

    def make(query: bytes) -> bytes:
        reply = dnslib.DNSRecord.parse(query).reply()
        reply.add_answer(*dnslib.RR.fromZone("d.test. 60 IN MX 10 mx.test."))
        return bytes(change(bytes(reply.pack())))

    return {"raw": make}


DELIVERED: dict[str, tuple[Zone, dict[str, str], str, list[str]]] = {
    "preference order": (
        {
            "d.test": mx("30 c.test.", "10 a.test.", "20 b.test."),
            "a.test": a("198.51.100.1"),
            "b.test": a("198.51.100.2"),
            "c.test": a("198.51.100.3"),
        },
        {},
        "d.test:26",
        [
            "a.test[198.51.100.1]:26",
            "b.test[198.51.100.2]:26",
            "c.test[198.51.100.3]:26",
        ],
    ),
    "equal preference in order of the answer": (
        {
            "d.test": mx("10 b.test.", "10 a.test."),
            "a.test": a("198.51.100.1", "198.51.100.9"),
            "b.test": a("198.51.100.2"),
        },
        {},
        "d.test",
        [
            "b.test[198.51.100.2]:25",
            "a.test[198.51.100.1]:25",
            "a.test[198.51.100.9]:25",
        ],
    ),
    "brackets: no MX": (
        {"d.test": mx("10 a.test.", A=["198.51.100.5"]), "a.test": a("198.51.100.1")},
        {},
        "[d.test]",
        ["d.test[198.51.100.5]:25"],
    ),
    "no MX: the address": (
        {"d.test": a("198.51.100.5")},
        {},
        "d.test",
        ["d.test[198.51.100.5]:25"],
    ),
    "alias of the domain": (
        {
            "d.test": {"CNAME": ["e.test."]},
            "e.test": mx("10 a.test."),
            "a.test": a("198.51.100.1"),
        },
        {},
        "d.test",
        ["a.test[198.51.100.1]:25"],
    ),
    "alias that has to be asked for": (
        {
            "d.test": {"CNAME": ["e.test."], "alone": True},
            "e.test": mx("10 a.test."),
            "a.test": a("198.51.100.1"),
        },
        {},
        "d.test",
        ["a.test[198.51.100.1]:25"],
    ),
    "MX to an alias keeps its name": (
        {
            "d.test": mx("10 a.test."),
            "a.test": {"CNAME": ["b.test."]},
            "b.test": a("198.51.100.2"),
        },
        {},
        "d.test",
        ["a.test[198.51.100.2]:25"],
    ),
    "MX to an alias, overridden": (
        {
            "d.test": mx("10 a.test."),
            "a.test": {"CNAME": ["b.test."]},
            "b.test": a("198.51.100.2"),
        },
        {"smtp_cname_overrides_servername": "yes"},
        "d.test",
        ["b.test[198.51.100.2]:25"],
    ),
    "hosts without address are skipped": (
        {
            "d.test": mx("10 no.test.", "20 bad.test.", "30 a.test."),
            "bad.test": {"rcode": "SERVFAIL"},
            "a.test": a("198.51.100.1"),
        },
        {},
        "d.test",
        ["a.test[198.51.100.1]:25"],
    ),
    "MX to an address": (
        {"d.test": mx("10 198.51.100.7.")},
        {},
        "d.test",
        ["198.51.100.7[198.51.100.7]:25"],
    ),
    "MX to garbage is skipped": (
        {
            "d.test": mx("5 bad!.test.", "6 -rf.test.", "10 a.test."),
            "a.test": a("198.51.100.1"),
        },
        {},
        "d.test",
        ["a.test[198.51.100.1]:25"],
    ),
    "numeric without brackets": (
        {},
        {},
        "198.51.100.8",
        ["198.51.100.8[198.51.100.8]:25"],
    ),
    "both families": (
        {
            "d.test": mx("10 a.test."),
            "a.test": {"A": ["198.51.100.1"], "AAAA": ["2001:db8::1"]},
        },
        ALL,
        "d.test",
        ["a.test[198.51.100.1]:25", "a.test[2001:db8::1]:25"],
    ),
    "IPv6 preferred": (
        {
            "d.test": mx("10 a.test.", "10 b.test.", "20 c.test."),
            "a.test": a("198.51.100.1"),
            "b.test": {"AAAA": ["2001:db8::2"]},
            "c.test": {"AAAA": ["2001:db8::3"]},
        },
        {**ALL, "smtp_address_preference": "ipv6"},
        "d.test",
        ["b.test[2001:db8::2]:25", "a.test[198.51.100.1]:25", "c.test[2001:db8::3]:25"],
    ),
    "a host with IPv6 preferred": (
        {"d.test": {"A": ["198.51.100.1"], "AAAA": ["2001:db8::1"]}},
        {**ALL, "smtp_address_preference": "ipv6"},
        "[d.test]",
        ["d.test[2001:db8::1]:25", "d.test[198.51.100.1]:25"],
    ),
    "one family fails, the other does not": (
        {"d.test": {"rcode:AAAA": "SERVFAIL", "A": ["198.51.100.1"]}},
        ALL,
        "[d.test]",
        ["d.test[198.51.100.1]:25"],
    ),
    "MX failure ignored": (
        {"d.test": {"rcode:MX": "SERVFAIL", "A": ["198.51.100.1"]}},
        {"ignore_mx_lookup_error": "yes"},
        "d.test",
        ["d.test[198.51.100.1]:25"],
    ),
    "backup MX: only better ones": (
        {
            "d.test": mx("10 a.test.", "20 me.test.", "20 b.test.", "30 c.test."),
            "a.test": a("198.51.100.1"),
            "me.test": a("127.0.0.1"),
            "b.test": a("198.51.100.2"),
            "c.test": a("198.51.100.3"),
        },
        {},
        "d.test",
        ["a.test[198.51.100.1]:25"],
    ),
    "on another port nothing loops": (
        {"d.test": mx("10 me.test."), "me.test": a("127.0.0.1")},
        {},
        "d.test:26",
        ["me.test[127.0.0.1]:26"],
    ),
    "IDN": (
        {"xn--bcher-kva.test": mx("10 a.test."), "a.test": a("198.51.100.1")},
        {},
        "b\u00fccher.test",
        ["a.test[198.51.100.1]:25"],
    ),
    "limits leave some of each family": (
        {
            "d.test": mx("10 a.test."),
            "a.test": {
                "A": [f"198.51.100.{x}" for x in range(1, 7)],
                "AAAA": [f"2001:db8::{x}" for x in range(1, 7)],
            },
        },
        {**ALL, "smtp_mx_address_limit": "3"},
        "d.test",
        [
            "a.test[198.51.100.1]:25",
            "a.test[198.51.100.2]:25",
            "a.test[2001:db8::1]:25",
        ],
    ),
    "truncated: TCP": (
        {
            "d.test": mx("10 a.test.", truncate=True),
            "a.test": a("198.51.100.1", truncate=True),
        },
        {},
        "d.test",
        ["a.test[198.51.100.1]:25"],
    ),
    "case of names does not matter": (
        {"d.test": mx("10 A.test."), "a.test": a("198.51.100.1")},
        {},
        "D.Test",
        ["A.test[198.51.100.1]:25"],
    ),
}


@pytest.mark.parametrize("case", DELIVERED.values(), ids=DELIVERED)
def test_servers(case: tuple[Zone, dict[str, str], str, list[str]]) -> None:
    zone, values, nexthop, expected = case
    with scene(zone, values) as here:
        route = here.route(nexthop)
        assert route.failure == DSN()
        assert list(names(route)) == expected


FAILED: dict[str, tuple[Zone, dict[str, str], str, str, str]] = {
    "NXDOMAIN": ({}, {}, "d.test", "5.4.4", NOT_FOUND.format("d.test", "A", NO_HOST)),
    "NXDOMAIN, both families": (
        {}, ALL, "d.test", "5.4.4", NOT_FOUND.format("d.test", "AAAA", NO_HOST),
    ),
    "no data": (
        {"d.test": {"TXT": ["x"]}}, {}, "d.test",
        "5.4.4", NOT_FOUND.format("d.test", "A", NO_DATA),
    ),
    "null MX": (
        {"d.test": mx("0 .", A=["198.51.100.1"])}, {}, "d.test",
        "5.1.0", "Domain d.test does not accept mail (nullMX)",
    ),
    "null MX among others": (
        {"d.test": mx("10 a.test.", "0 ."), "a.test": a("198.51.100.1")}, {}, "d.test",
        "5.1.0", "Domain d.test does not accept mail (nullMX)",
    ),
    "null MX can't be ignored": (
        {"d.test": mx("0 .", A=["198.51.100.1"])}, {"ignore_mx_lookup_error": "yes"},
        "d.test", "5.1.0", "Domain d.test does not accept mail (nullMX)",
    ),
    **{
        f"MX {rcode}": (
            {"d.test": {"rcode:MX": rcode, "A": ["198.51.100.1"]}}, {}, "d.test",
            status, NOT_FOUND.format("d.test", "MX", error),
        )
        for rcode, status, error in (
            ("SERVFAIL", "4.4.3", AGAIN), ("REFUSED", "4.4.3", AGAIN),
            ("NOTIMP", "4.4.3", AGAIN), ("FORMERR", "5.4.3", FATAL),
            ("YXDOMAIN", "5.4.3", FATAL),
        )
    },
    "MX failure ignored, the address fails too": (
        {"d.test": {"rcode:MX": "SERVFAIL"}}, {"ignore_mx_lookup_error": "yes"},
        "d.test", "5.4.4", NOT_FOUND.format("d.test", "A", NO_DATA),
    ),
    "only garbage": (
        {"d.test": mx("5 bad!.test.", "6 -rf.test.", A=["198.51.100.1"])}, {}, "d.test",
        "5.4.4", MALFORMED.format("d.test", "MX"),
    ),
    "record cut short": (
        {"d.test": mangled(lambda x: x[:-3])}, {}, "d.test",
        "4.4.3", MALFORMED.format("d.test", "MX"),
    ),
    "pointer to itself": (
        {"d.test": mangled(lambda x: x.replace(b"\xc0\x0c", b"\xc0\x18"))}, {},
        "d.test", "4.4.3", MALFORMED.format("d.test", "MX"),
    ),
    "MX host without data": (
        {"d.test": mx("10 a.test."), "a.test": {"TXT": ["x"]}}, {}, "d.test",
        "5.4.4", NOT_FOUND.format("a.test", "A", NO_DATA),
    ),
    "no MX host exists: the last is named": (
        {"d.test": mx("10 a.test.", "20 b.test.")}, {}, "d.test",
        "5.4.4", NOT_FOUND.format("b.test", "A", NO_HOST),
    ),
    "the same, deferred by request": (
        {"d.test": mx("10 a.test.", "20 b.test.")},
        {"smtp_defer_if_no_mx_address_found": "yes"}, "d.test",
        "4.4.4", NOT_FOUND.format("b.test", "A", NO_HOST),
    ),
    "a soft error dominates": (
        {"d.test": mx("10 a.test.", "20 b.test."), "a.test": {"rcode": "SERVFAIL"}},
        {}, "d.test", "4.4.4", NOT_FOUND.format("b.test", "A", NO_HOST),
    ),
    "soft, then fatal": (
        {
            "d.test": mx("10 a.test.", "20 b.test."),
            "a.test": {"rcode": "SERVFAIL"}, "b.test": {"rcode": "FORMERR"},
        },
        {}, "d.test", "4.4.3", NOT_FOUND.format("b.test", "A", FATAL),
    ),
    "fatal address": (
        {"d.test": {"rcode": "FORMERR"}}, {}, "[d.test]",
        "5.4.3", NOT_FOUND.format("d.test", "A", FATAL),
    ),
    "the worse of two families is named": (
        {"d.test": {"rcode:A": "SERVFAIL"}}, ALL, "[d.test]",
        "4.4.3", NOT_FOUND.format("d.test", "A", AGAIN),
    ),
    "best MX ourselves": (
        {
            "d.test": mx("10 me.test.", "20 a.test."),
            "me.test": a("127.0.0.1"), "a.test": a("198.51.100.1"),
        },
        {}, "d.test", "5.4.6", "mail for d.test loops back to myself",
    ),
    "a peer of ours": (
        {
            "d.test": mx("10 a.test.", "10 me.test."),
            "me.test": a("127.0.0.1"), "a.test": a("198.51.100.1"),
        },
        {}, "d.test", "5.4.6", "mail for d.test loops back to myself",
    ),
    "better MX missing, next one ourselves": (
        {"d.test": mx("10 no.test.", "20 me.test."), "me.test": a("127.0.0.1")},
        {}, "d.test", "4.4.4", "unable to find primary relay for d.test",
    ),
    "address of our own": (
        {"d.test": a("127.0.0.1")}, {}, "d.test",
        "5.4.6", "mail for d.test loops back to myself",
    ),
    "proxy address": (
        {"d.test": mx("10 a.test."), "a.test": a("198.51.100.1")},
        {"proxy_interfaces": "198.51.100.1"}, "d.test",
        "5.4.6", "mail for d.test loops back to myself",
    ),
    "interfaces of this machine": (
        {"d.test": a("127.0.0.1")}, {"inet_interfaces": "all"}, "d.test",
        "5.4.6", "mail for d.test loops back to myself",
    ),
    "loopback only": (
        {"d.test": {"AAAA": ["::1"]}}, {**ALL, "inet_interfaces": "loopback-only"},
        "d.test", "5.4.6", "mail for d.test loops back to myself",
    ),
    "alias without end": (
        {"d.test": {"CNAME": ["e.test."]}, "e.test": {"CNAME": ["d.test."]}}, {},
        "[d.test]", "5.4.4", "Name server loop for d.test",
    ),
    "alias of itself": (
        {"d.test": {"CNAME": ["d.test."], "alone": True}}, {},
        "[d.test]", "5.4.4", "Name server loop for d.test",
    ),
    "long chain of aliases": (
        {
            f"c{x}.test": {"CNAME": [f"c{x + 1}.test."], "alone": True}
            for x in range(12)
        },
        {}, "[c0.test]", "5.4.4", "Name server loop for c10.test",
    ),
    "alias to garbage": (
        {"d.test": {"CNAME": ["bad!.test."], "alone": True}}, {}, "[d.test]",
        "5.4.4", MALFORMED.format("d.test", "A"),
    ),
    "nobody can be there": (
        {"d.test": a("0.0.0.0", "224.0.0.1", "255.255.255.255", "0.1.2.3")}, {},
        "[d.test]", "4.4.3", MALFORMED.format("d.test", "A"),
    ),
    "nor there": (
        {"d.test": {"AAAA": ["::", "ff02::1", "::ffff:c633:6401"]}},
        {"inet_protocols": "ipv6"},
        "[d.test]", "4.4.3", MALFORMED.format("d.test", "AAAA"),
    ),
    "address of a family that is off": (
        {}, {}, "[2001:db8::1]", "5.4.4",
        "Name service error for 2001:db8::1: invalid host or domain name",
    ),
    "too long for a packet": (
        {}, {}, ".".join(["x" * 63] * 3 + ["y" * 62]), "5.4.3",
        NOT_FOUND.format(".".join(["x" * 63] * 3 + ["y" * 62]), "MX", FATAL),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILED.values(), ids=FAILED)
def test_failures(case: tuple[Zone, dict[str, str], str, str, str]) -> None:
    zone, values, nexthop, status, reason = case
    with scene(zone, values) as here:
        assert here.failure(nexthop) == (status, reason)


@pytest.mark.attack("DNS: records of other names in an answer")
def test_a_slipped_record_is_not_believed() -> None:
    zone = {"d.test": answer_with("bank.test. 60 IN A 198.51.100.66")}
    with scene(zone) as here:
        assert here.failure("[d.test]") == ("4.4.3", MALFORMED.format("d.test", "A"))


def test_a_slipped_record_beside_an_alias_is_not_believed() -> None:
    lines = ("d.test. 60 IN CNAME b.test.", "bank.test. 60 IN A 198.51.100.66")
    with scene({"d.test": answer_with(*lines)}) as here:
        missing = NOT_FOUND.format("b.test", "A", "Host not found")
        assert here.failure("[d.test]") == ("4.4.3", missing)


TWO_ALIASES = ("d.test. 60 IN CNAME one.test.", "d.test. 60 IN CNAME other.test.")


def test_several_aliases_of_a_name_are_all_followed() -> None:
    lines = (*TWO_ALIASES, "one.test. 60 IN A 198.51.100.1")
    with scene({"d.test": answer_with(*lines)}) as here:
        assert here.servers("[d.test]") == ["d.test[198.51.100.1]:25"]


def test_several_aliases_that_lead_nowhere_are_no_reason_to_bounce() -> None:
    zone = {"d.test": answer_with(*TWO_ALIASES), "one.test": a("198.51.100.1")}
    with scene(zone) as here:
        missing = NOT_FOUND.format("other.test", "A", "Host not found")
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
        assert here.failure("d.test") == ("5.4.4", MALFORMED.format("d.test", "MX"))
        assert all(x.isprintable() for x in here.notes)
        assert here.notes[-1].endswith(r"record for d.test: a\008b\000c\.d.test")


def test_warnings() -> None:
    zone = {"d.test": mx("5 bad!.test.", "10 no.test.", "20 198.51.100.300.")}
    with scene(zone) as here:
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


TWO = {
    "d.test": mx("10 a.test.", "20 b.test."),
    "a.test": {"A": ["198.51.100.1"], "AAAA": ["2001:db8::1"]},
    "b.test": a("198.51.100.2"),
}


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
    with scene(
        {"d.test": mx("10 a.test.", "20 A.test."), "a.test": a("198.51.100.1")}
    ) as x:
        assert len(x.servers("d.test")) == 2
        assert len(x.servers("d.test")) == 2
        assert x.dns.asked() == ["d.test", "a.test"]


@pytest.mark.parametrize(
    ("zone", "nexthop", "last"),
    [
        (
            {"d.test": mx("10 a.test.", "20 me.test."), "a.test": a("198.51.100.1")},
            "",
            False,
        ),
        (
            {
                "d.test": mx("10 a.test.", "20 me.test."),
                "a.test": a("198.51.100.1"),
                "me.test": a("127.0.0.1"),
            },
            "",
            True,
        ),
        ({"d.test": a("127.0.0.1")}, "", True),
        (
            {"d.test": mx("10 no.test.", "20 me.test."), "me.test": a("127.0.0.1")},
            "",
            True,
        ),
        ({}, "", False),
    ],
    ids=["not us", "backup", "loop", "primary missing", "unknown"],
)
def test_last_resort(zone: Zone, nexthop: str, last: bool) -> None:
    with scene(zone) as here:
        assert here.route("d.test").last_resort is last


def test_best_is_the_best_that_was_found() -> None:
    zone = {
        "d.test": mx("10 no.test.", "20 a.test.", "30 b.test."),
        "a.test": a("198.51.100.1"),
        "b.test": a("198.51.100.2"),
    }
    with scene(zone) as here:
        route = here.route("d.test")
        assert [route.next().best, route.next().best] == [True, False]  # type: ignore[union-attr]


def test_shuffled_among_equals_only() -> None:
    hosts = [f"h{x}.test" for x in range(4)]
    zone: dict[str, Any] = {x: a(f"198.51.100.{n}") for n, x in enumerate(hosts, 1)}
    zone["d.test"] = mx(*(f"10 {x}." for x in hosts), "20 z.test.")
    zone["z.test"] = a("198.51.100.99")
    with scene(zone, {"smtp_randomize_addresses": "yes"}) as here:
        orders = {tuple(here.servers("d.test")) for _ in range(30)}
        assert len(orders) > 5
        assert {len(x) for x in orders} == {5}
        assert {x[-1] for x in orders} == {"z.test[198.51.100.99]:25"}
        assert len({x[0] for x in orders}) == 4


def test_no_more_addresses_of_a_host_than_can_be_tried() -> None:
    zone = {"d.test": a(*(f"198.51.100.{x}" for x in range(1, 31)), truncate=True)}
    with scene(zone) as here:
        assert len(here.servers("[d.test]")) == 5
    with scene(zone, {"smtp_mx_address_limit": "20"}) as here:
        assert len(here.servers("[d.test]")) == 20
    with scene(zone, {"smtp_mx_address_limit": "0"}) as here:
        assert len(here.servers("[d.test]")) == 30


@pytest.mark.attack("DNS: more than 100 MX records")
def test_hundred_records_at_most() -> None:
    zone = {"d.test": mx(*(f"10 h{x}.test." for x in range(150)), truncate=True)}
    with scene(zone) as here:
        here.failure("d.test:26")
        assert len(here.dns.asked("A")) == 100


# Time, transport, trust


@pytest.mark.parametrize("echo", [True, False], ids=["question", "header-only"])
def test_a_server_that_does_not_know_edns(tmp_path: Path, echo: bool) -> None:
    """It says FORMERR, and mail is not bounced for that: res_send(3) asks once more."""

    def raw(query: bytes) -> bytes:
        request = dnslib.DNSRecord.parse(query)
        if not request.ar:
            reply = request.reply()
            reply.add_answer(*dnslib.RR.fromZone("d.test. 60 IN A 198.51.100.1"))
            return bytes(reply.pack())
        head = query[:2] + b"\x81\x81"
        return head + (query[4:10] + b"\0\0" + query[12:-11] if echo else bytes(8))

    conf = tmp_path / "resolv.conf"
    conf.write_text("options edns0\n")
    with scene({"d.test": {"raw": raw}}, resolv_conf=str(conf)) as here:
        assert here.servers("[d.test]") == ["d.test[198.51.100.1]:25"]
        assert len(here.dns.packets) == 2


def test_silence_is_soft_and_short(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("options timeout:30 attempts:1\n")
    values = {"trouble_resolver_time_limit": "60s"}
    with scene({"d.test": {"drop": True}}, values, resolv_conf=str(conf)) as here:
        here.resolver._deadline = lambda: 0.2  # what is left of the delivery
        start = time.monotonic()
        expected = ("4.4.3", NOT_FOUND.format("d.test", "MX", AGAIN))
        assert here.failure("d.test") == expected
        assert time.monotonic() - start < 10


class Hurried(Settings):
    """Postfix knows no fractions of seconds."""

    def seconds(self, name: str) -> float:
        return 0.5 if name == "trouble_resolver_time_limit" else super().seconds(name)


def test_all_look_ups_of_a_destination_share_a_limit() -> None:
    hosts = [f"h{number}.test" for number in range(60)]
    zone = {
        "d.test": mx(*(f"10 {host}." for host in hosts)),
        **{host: {"drop": True} for host in hosts},
    }
    with serving(zone) as dns:
        settings = Hurried({**BASE, "trouble_nameserver": dns.address})
        resolver = Resolver(settings, lambda: 30, lambda _: None)
        for _ in range(2):
            start = time.monotonic()
            route = resolver.route(Destination("d.test", "d.test", 25))
            assert route.failure.status == "4.4.3"
            assert time.monotonic() - start < 10


def test_the_system_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: go_on.wait(60) and [])
    with scene({}, {"smtp_host_lookup": "native"}, deadline=0.1) as here:
        reason = "unable to look up host h: Temporary failure in name resolution"
        assert here.failure("[h]") == ("4.4.4", reason)
    go_on.set()


def test_the_next_server_may_know_better() -> None:
    sock, silent = silent_port()
    sock.close()
    good = {"d.test": a("198.51.100.1")}
    with serving({"d.test": {"rcode": "SERVFAIL"}}) as bad, serving(good) as dns:
        values = {"trouble_nameserver": f"{silent}, {bad.address} {dns.address}"}
        here = Scene(dns, values)
        assert here.servers("[d.test]") == ["d.test[198.51.100.1]:25"]
        assert len(bad.queries) == len(dns.queries) == 1


def test_servers_that_can_not_say_are_asked_once() -> None:
    with scene({"d.test": {"rcode": "SERVFAIL"}}) as here:
        here.failure("d.test")
        assert len(here.dns.queries) == 1


def test_servers_take_turns(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("options rotate\n")
    zone = {f"n{x}.test": a("198.51.100.1") for x in range(20)}
    with serving(zone) as one, serving(zone) as two:
        values = {"trouble_nameserver": f"{one.address} {two.address}"}
        here = Scene(one, values, resolv_conf=str(conf))
        for name in zone:
            here.servers(f"[{name}]")
        assert one.queries
        assert two.queries


@pytest.mark.parametrize(
    ("text", "server", "trusted"),
    [
        ("", "127.0.0.53", True),
        ("", "::1", True),
        ("", "198.51.100.53", False),
        ("options trust-ad", "198.51.100.53", True),
    ],
)
def test_whom_we_trust(text: str, server: str, trusted: bool, tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text(text)
    servers = NameServers(str(conf), server, dnssec=True, below=lambda _: 0)
    assert servers._is_trusted(server) is trusted


def test_name_servers_are_addresses(tmp_path: Path) -> None:
    """A name would have to be looked up in turn."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver localhost\nnameserver fe80::1%eth0\n")
    servers = NameServers(str(conf), "", dnssec=False, below=lambda _: 0)
    assert servers._servers == [("fe80::1%eth0", 53)]


def test_no_time_no_query() -> None:
    with scene({"d.test": a("198.51.100.1")}, deadline=0) as here:
        assert here.failure("[d.test]")[0] == "4.4.3"
        assert here.dns.queries == []


def test_nobody_listens() -> None:
    sock, address = silent_port()
    sock.close()
    values = {"trouble_nameserver": address, "trouble_resolver_time_limit": "60s"}
    with scene({}, values) as here:
        start = time.monotonic()
        assert here.failure("d.test") == (
            "4.4.3",
            NOT_FOUND.format("d.test", "MX", AGAIN),
        )
        assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "text", ["", "nameserver\n", "nameserver none.test\n", "\0\xff\n", None]
)
def test_broken_resolv_conf_is_soft(text: str | None, tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    if text is not None:
        conf.write_bytes(text.encode("latin-1"))
    notes: list[str] = []
    resolver = Resolver(
        Settings({**BASE, "trouble_resolver_time_limit": "1s"}),
        lambda: 0.3,
        notes.append,
        resolv_conf=str(conf),
    )
    failure = resolver.route(Destination("d.test", "d.test", 25)).failure
    assert failure == DSN("4.4.3", NOT_FOUND.format("d.test", "MX", AGAIN))  # type: ignore[arg-type]


@pytest.mark.attack("DNS: forged replies before the real one")
def test_a_forged_reply_is_passed_over() -> None:
    """Wrong identity, wrong question, not a reply: all come first."""
    sock, address = silent_port()
    with sock, scene({}, {"trouble_nameserver": address}) as here:

        def serve() -> None:
            query, peer = sock.recvfrom(4096)
            good = dnslib.DNSRecord.parse(query).reply()
            good.add_answer(*dnslib.RR.fromZone("d.test. 60 IN A 198.51.100.1"))
            packet = bytes(good.pack())
            forged = packet.replace(b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x42")
            other = forged.replace(b"\x01d\x04test", b"\x01e\x04test", 1)
            flipped = bytes([packet[0] ^ 1]) + forged[1:]
            for reply in (b"", forged[:11], flipped, other, query, packet):
                sock.sendto(reply, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert here.servers("[d.test]") == ["d.test[198.51.100.1]:25"]
        thread.join()


@pytest.mark.attack("DNS: numbers and ports that could be guessed")
def test_identities_and_ports_change() -> None:
    zone = {f"n{x}.test": a("198.51.100.1") for x in range(20)}
    with scene(zone) as here:
        for name in zone:
            here.servers(f"[{name}]")
        assert len({x[:2] for x in here.dns.packets}) > 15


def test_tcp_only(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("options use-vc\n")
    with scene({"d.test": a("198.51.100.1")}, resolv_conf=str(conf)) as here:
        assert here.servers("[d.test]") == ["d.test[198.51.100.1]:25"]
        assert [x[2] for x in here.dns.queries] == ["tcp"]


def test_truncated_goes_to_tcp_once() -> None:
    with scene({"d.test": a("198.51.100.1", truncate=True)}) as here:
        here.servers("[d.test]")
        assert [x[2] for x in here.dns.queries] == ["udp", "tcp"]


SECURE = {
    "d.test": mx("10 a.test.", "20 b.test.", ad=True),
    "a.test": a("198.51.100.1", ad=True),
    "b.test": a("198.51.100.2"),
    "_25._tcp.a.test": {"TLSA": ["3 1 1 00FF17"], "ad": True},
    "c.test": {"CNAME": ["a.test."], "alone": True},
    "e.test": {"CNAME": ["a.test."], "alone": True, "ad": True},
}


def test_authentic() -> None:
    with scene(SECURE, {"smtp_dns_support_level": "dnssec"}) as here:
        route = here.route("d.test")
        first, second = route.next(), route.next()
        assert first
        assert second
        assert [first.authentic, second.authentic] == [True, False]
        assert first.exchange == Exchange(("d.test",), authentic=True)
        assert first.alias == ()
        (alone,) = relays(here.route("[e.test]"))
        assert (alone.authentic, alone.exchange) == (True, None)
        assert alone.alias == ("e.test", "a.test")
        tlsa = here.resolver.query("_25._tcp.a.test", "TLSA")
        assert tlsa.result is Result.FOUND
        assert tlsa.authentic
        assert tlsa.records[0].parameters == (3, 1, 1)
        assert tlsa.records[0].data == "00FF17"
        # An alias that is not authentic spoils what it leads to.
        assert not here.resolver.query("c.test", "A").authentic
        assert here.resolver.query("e.test", "A").authentic
        assert here.resolver.query("e.test", "A").records[0].owner == "a.test"
        sent = dnslib.DNSRecord.parse(here.dns.packets[0])
        assert sent.header.ad == 1
        assert sent.ar[0].rtype == dnslib.QTYPE.OPT


def test_aliases_of_mail_domains() -> None:
    zone = {**SECURE, "m.test": {"CNAME": ["d.test."], "ad": True}}
    with scene(zone, {"smtp_dns_support_level": "dnssec"}) as here:
        first, *_ = relays(here.route("m.test"))
        assert first.exchange == Exchange(("m.test", "d.test"), authentic=True)
        assert first.host == "a.test"


def test_what_an_alias_itself_is_worth() -> None:
    """Whatever it leads to: DNSSEC for the name alone."""
    zone: dict[str, Mapping[str, Any]] = {
        "e.test": {"CNAME": ["b.test."], "ad": True},
        "c.test": {"CNAME": ["a.test."]},
        **{name: SECURE[name] for name in ("a.test", "b.test")},
    }
    with scene(zone, {"smtp_dns_support_level": "dnssec"}) as here:
        asked = {x: here.resolver.query(f"{x}.test", "CNAME") for x in "ecab"}
        assert not here.resolver.query("e.test", "A").authentic
        assert [asked[x].authentic for x in "ec"] == [True, False]
        assert asked["e"].records[0].data == "b.test"
        assert {asked[x].result for x in "ab"} == {Result.NOT_FOUND}


@pytest.mark.attack("DNS: a far name server that vouches by DNSSEC")
def test_no_name_server_far_away_is_believed(tmp_path: Path) -> None:
    """Nor ignored in silence: it may well be that of the administrator."""
    conf = tmp_path / "resolv.conf"
    with serving(SECURE) as dns:
        host, _, port = dns.address.rpartition(":")
        values = {"smtp_dns_support_level": "dnssec"}
        for options, believed in (("", False), ("options trust-ad", True)):
            conf.write_text(options)
            here = Scene(dns, values, resolv_conf=str(conf))
            servers = here.resolver._name_servers()
            # Loopback by a name under which we don't know it.
            servers._servers = [(f"::ffff:{host}", int(port))]
            answers = [here.resolver.query(x, "A") for x in ("a.test", "e.test")]
            assert {x.authentic for x in answers} == {believed}
            assert len(here.notes) == (not believed)
            assert believed or "is not on this machine" in here.notes[0]


@pytest.mark.parametrize("level", ["", "enabled"])
def test_not_asked_for_not_authentic(level: str) -> None:
    with scene(SECURE, {"smtp_dns_support_level": level}) as here:
        assert not here.route("d.test").next().authentic  # type: ignore[union-attr]


def test_search_list(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("search one.test two.test\n")
    zone = {
        "h.one.test": a("198.51.100.1"),
        "k.two.test": a("198.51.100.2"),
        "x.y.two.test": a("198.51.100.3"),
    }

    def ask(options: str, host: str) -> list[str]:
        values = {"smtp_dns_resolver_options": options}
        with scene(zone, values, resolv_conf=str(conf)) as here:
            return here.servers(f"[{host}]")

    assert ask("", "h") == []
    assert ask("res_defnames", "h") == ["h[198.51.100.1]:25"]
    assert ask("res_defnames", "k") == []
    assert ask("res_dnsrch", "k") == ["k[198.51.100.2]:25"]
    assert ask("res_defnames", "x.y") == []
    assert ask("res_dnsrch", "x.y") == ["x.y[198.51.100.3]:25"]
    with scene(zone, {"smtp_dns_resolver_options": "res_dnsrch"}) as here:
        expected = ("5.4.4", NOT_FOUND.format("n", "A", NO_HOST))
        assert here.failure("[n]") == expected


def test_reply_filter() -> None:
    zone = {
        "d.test": mx("10 a.test.", "20 b.test."),
        "a.test": a("198.51.100.1"),
        "b.test": a("198.51.100.2"),
    }
    values = {"smtp_dns_reply_filter": "texthash:/unused"}
    rows: dict[str, str | Lost] = {"d.test. 60 IN MX 10 a.test.": "IGNORE"}
    with scene(zone, values, search_filter=rows.get) as here:
        assert here.servers("d.test") == ["b.test[198.51.100.2]:25"]
        assert here.notes == ["ignoring DNS RR: d.test. 60 IN MX 10 a.test."]
    rows["d.test. 60 IN MX 20 b.test."] = "ignore"
    about = "Error looking up name=d.test type=MX: "
    with scene(zone, values, search_filter=rows.get) as here:
        dropped = about + "DNS reply filter drops all results"
        assert here.failure("d.test") == ("4.7.0", dropped)
    for action in ("what", Lost.DATA):
        rows["d.test. 60 IN MX 20 b.test."] = action
        with scene(zone, values, search_filter=rows.get) as here:
            syntax = about + "Invalid DNS reply filter syntax"
            assert here.failure("d.test") == ("4.4.3", syntax)
    with pytest.raises(ConfigError, match="smtp_dns_reply_filter"):
        Resolver(Settings(values), lambda: 1, print)


# SRV

SRV = {"use_srv_lookup": "submission"}
Q = "_submission._tcp.d.test"
H1 = {
    "h1.test": a("198.51.100.1"),
    "h2.test": a("198.51.100.2"),
    "h3.test": a("198.51.100.3"),
}


def srv(*records: str, **more: Any) -> dict[str, Any]:
    return {"SRV": list(records), **more}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (srv("0 0 2525 h1.test."), ["h1.test[198.51.100.1]:2525"]),
        (
            srv("20 0 26 h2.test.", "10 0 25 h1.test."),
            ["h1.test[198.51.100.1]:25", "h2.test[198.51.100.2]:26"],
        ),
        (
            srv("10 0 26 h1.test.", "20 0 27 h1.test."),
            ["h1.test[198.51.100.1]:26", "h1.test[198.51.100.1]:27"],
        ),
        (srv("10 0 0 no.test.", "20 0 27 h1.test."), ["h1.test[198.51.100.1]:27"]),
    ],
)
def test_srv(data: dict[str, Any], expected: list[str]) -> None:
    with scene({Q: data, **H1}, SRV) as here:
        assert here.servers("d.test:submission") == expected
    with scene({Q: data, **H1}, {**SRV, "allow_srv_lookup_fallback": "yes"}) as here:
        assert here.servers("d.test:submission") == expected


@pytest.mark.parametrize(
    ("nexthop", "services", "asked"),
    [
        ("d.test:submission", "smtps, submission", [Q]),
        ("d.test:submission", "smtp", []),
        ("d.test:587", "submission", []),
        ("d.test:587", "587", ["_587._tcp.d.test"]),
        ("[d.test]:submission", "submission", []),
        ("d.test", "smtp", ["_smtp._tcp.d.test"]),
    ],
)
def test_when_srv_is_asked_for(nexthop: str, services: str, asked: list[str]) -> None:
    with scene({}, {"use_srv_lookup": services}) as here:
        here.route(nexthop)
        assert here.dns.asked("SRV") == asked


SRV_FAILED = {
    "NXDOMAIN": ({}, "5.4.4", NOT_FOUND.format(Q, "SRV", NO_HOST), False),
    "no data": (
        {Q: {"TXT": ["x"]}}, "5.4.4", NOT_FOUND.format(Q, "SRV", NO_DATA), False,
    ),
    "SERVFAIL": (
        {Q: {"rcode": "SERVFAIL"}}, "4.4.3", NOT_FOUND.format(Q, "SRV", AGAIN), True,
    ),
    "FORMERR": (
        {Q: {"rcode": "FORMERR"}}, "5.4.3", NOT_FOUND.format(Q, "SRV", FATAL), True,
    ),
    "bad name": (
        {Q: srv("0 0 25 -bad-.test.")}, "5.4.4", MALFORMED.format(Q, "SRV"), True,
    ),
    "null": (
        {Q: srv("0 0 0 .")},
        "5.1.0", f"Domain {Q} does not support SRV requests", False,
    ),
    "null and another": (
        {Q: srv("0 0 25 h1.test.", "0 0 0 .")},
        "5.1.0", f"Domain {Q} does not support SRV requests", False,
    ),
    "no address": (
        {Q: srv("0 0 25 no.test.")},
        "5.4.4", NOT_FOUND.format("no.test", "A", NO_HOST), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SRV_FAILED.values(), ids=SRV_FAILED)
def test_srv_failures(case: tuple[Zone, str, str, bool]) -> None:
    zone, status, reason, ignorable = case
    zone = {**H1, **zone, "d.test": mx("10 h3.test.")}
    other = ["h3.test[198.51.100.3]:587"]
    with scene(zone, SRV) as here:
        assert here.failure("d.test:submission") == (status, reason)
    with scene(zone, {**SRV, "ignore_srv_lookup_error": "yes"}) as here:
        expected = other if ignorable else []
        assert here.servers("d.test:submission") == expected
    with scene(zone, {**SRV, "allow_srv_lookup_fallback": "yes"}) as here:
        assert here.servers("d.test:submission") == other
        assert here.notes[-1] == f"skipping SRV lookup for {Q}: {reason}"


def test_srv_loops() -> None:
    zone = {
        "_smtp._tcp.d.test": srv("10 0 2525 h1.test.", "20 0 25 me.test."),
        "_smtp._tcp.e.test": srv("10 0 2525 no.test.", "20 0 25 me.test."),
        "_smtp._tcp.f.test": srv("10 0 2525 me.test."),
        "me.test": a("127.0.0.1"),
        **H1,
    }
    with scene(zone, {"use_srv_lookup": "smtp"}) as here:
        route = here.route("d.test")
        assert list(names(route)) == ["h1.test[198.51.100.1]:2525"]
        assert route.last_resort
        missing = "unable to find primary relay for _smtp._tcp.e.test"
        assert here.failure("e.test") == ("4.4.4", missing)
        loops = "mail for _smtp._tcp.f.test loops back to myself"
        assert here.failure("f.test") == ("5.4.6", loops)


def test_lmtp_by_srv_falls_back_to_the_address() -> None:
    zone = {"d.test": {"A": ["198.51.100.1"], "MX": ["10 h3.test."]}, **H1}
    values = {"use_srv_lookup": "lmtp", "allow_srv_lookup_fallback": "yes"}
    with scene(zone, values, lmtp=True) as here:
        route = here.resolver.route(here.destination("d.test:lmtp", lmtp=True))
        assert list(names(route)) == ["d.test[198.51.100.1]:24"]


# The system's own look-ups


def test_dns_off_asks_the_system() -> None:
    needs.localhost()
    values = {"smtp_dns_support_level": "disabled"}
    with scene({"localhost": mx("10 a.test.")}, values) as here:
        assert here.servers("localhost:26") == ["localhost[127.0.0.1]:26"]
        assert here.dns.queries == []


def test_old_switch() -> None:
    with scene({}, {"disable_dns_lookups": "yes"}) as here:
        here.servers("localhost:26")
        assert here.dns.queries == []


def test_the_system_is_asked_second() -> None:
    needs.localhost()
    with scene({}, {"smtp_host_lookup": "native, dns"}) as here:
        assert here.servers("[localhost]:26") == ["localhost[127.0.0.1]:26"]
        assert here.dns.asked() == ["localhost"]


def test_the_system_is_not_asked_after_a_failure() -> None:
    values = {"smtp_host_lookup": "dns, native"}
    with scene({"localhost": {"rcode": "SERVFAIL"}}, values) as here:
        assert here.failure("[localhost]:26")[0] == "4.4.3"


def test_the_system_does_not_know() -> None:
    """Offline the system says "try again", which is soft."""
    values = {"smtp_host_lookup": "native"}
    with scene({}, values) as here:
        status, reason = here.failure("[nosuch.invalid]:26")
        assert status in ("5.4.4", "4.4.4")
        assert reason.startswith("unable to look up host nosuch.invalid: ")


def test_mx_by_dns_hosts_by_the_system() -> None:
    needs.localhost()
    values = {"smtp_host_lookup": "native"}
    with scene({"d.test": mx("10 localhost.")}, values) as here:
        assert here.servers("d.test:26") == ["localhost[127.0.0.1]:26"]
        assert here.dns.asked() == ["d.test"]


# The rest


def test_interfaces_by_name() -> None:
    needs.localhost()
    with scene({"d.test": a("127.0.0.1")}, {"inet_interfaces": "localhost"}) as here:
        assert here.failure("d.test")[0] == "5.4.6"
    values = {"inet_interfaces": "no.invalid"}
    with scene({"d.test": a("127.0.0.1")}, values) as here:
        status, reason = here.failure("d.test")
        assert status == "4.3.5"
        assert reason.endswith("host not found: no.invalid")


@pytest.mark.parametrize(
    ("interfaces", "ipv4", "ipv6"),
    [
        ("all", "", ""),
        ("loopback-only", "", ""),
        ("192.0.2.1", "192.0.2.1", ""),
        ("192.0.2.1, [2001:db8:0::1]", "192.0.2.1", "2001:db8::1"),
        ("192.0.2.1, [192.0.2.1]", "192.0.2.1", ""),
        ("192.0.2.1, 192.0.2.2", "", ""),
        ("192.0.2.1, 127.0.0.1", "", ""),
        ("192.0.2.1, [::1]", "192.0.2.1", ""),
        ("127.0.0.1, [::1]", "", ""),
        ("localhost", "", ""),
    ],
)
def test_source_of_a_virtual_host(interfaces: str, ipv4: str, ipv6: str) -> None:
    """Mail comes from the only address at which we receive it (smtp_connect_addr)."""
    if interfaces == "localhost":
        needs.localhost()
    values = {
        "inet_interfaces": interfaces,
        "inet_protocols": "all",
        "proxy_interfaces": "198.51.100.1",
    }
    with scene({}, values) as here:
        assert (here.resolver.source(4), here.resolver.source(6)) == (ipv4, ipv6)


def test_not_every_loopback_address_is_ours() -> None:
    """Only what an interface has: others may be tunnels to somewhere."""
    with scene({"d.test": a("127.9.9.9")}, {"inet_interfaces": "all"}) as here:
        assert here.servers("d.test") == ["d.test[127.9.9.9]:25"]


def test_lmtp_never_loops() -> None:
    with scene({"d.test": a("127.0.0.1")}, lmtp=True) as here:
        destination = here.destination("inet:d.test:25", lmtp=True)
        assert list(names(here.resolver.route(destination))) == ["d.test[127.0.0.1]:25"]


def test_socket() -> None:
    values = {"myhostname": "me.test", "lmtp_fallback_relay": "[198.51.100.1]"}
    with scene({}, values, lmtp=True) as here:
        route = here.resolver.route(here.destination("unix:/run/x", lmtp=True))
        relay = route.next()
        assert relay is not None
        assert relay.namaddrport == "me.test[/run/x]"
        assert not route.more()
        assert not route.last_resort
        assert here.notes == [
            'warning: ignoring "lmtp_fallback_relay = [198.51.100.1]" setting'
            " for non-TCP connections"
        ]


def test_hint_for_smtps() -> None:
    with scene({}) as here:
        here.route("[198.51.100.1]:465")
        assert here.notes[0].startswith("SMTPS wrappermode (TCP port 465) requires")
    with scene({}, {"smtp_tls_wrappermode": "yes"}) as here:
        here.route("[198.51.100.1]:465")
        assert here.notes == []


def test_ipv6_server_and_normal_form() -> None:
    with scene({}, ALL) as here:
        assert here.servers("[ipv6:2001:DB8:0::1]") == ["2001:DB8:0::1[2001:db8::1]:25"]


@pytest.mark.parametrize(
    "text", ["ns.test", "127.0.0.1:0", "127.0.0.1:x", "[::1", "127.0.0.1:99999", "[]"]
)
def test_bad_name_server(text: str) -> None:
    with scene({}, {"trouble_nameserver": text}) as here:
        # Not before it is needed.
        assert here.servers("[198.51.100.1]")
        status, reason = here.failure("d.test")
        assert status == "4.3.5"
        assert "trouble_nameserver" in reason
        assert here.route("d.test").last_resort


def test_name_server_by_ipv6() -> None:
    """[::1]:port is understood; nobody is there."""
    probe = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    probe.bind(("::1", 0))
    port = probe.getsockname()[1]
    probe.close()
    with scene({}, {"trouble_nameserver": f"[::1]:{port}"}) as here:
        assert here.failure("d.test")[0] == "4.4.3"


@pytest.mark.parametrize(
    ("name", "port"),
    [("lmtp", 24), ("smtp", 25), ("smtps", 465), ("submissions", 465),
     ("submission", 587)],
)  # fmt: skip
def test_ports_that_need_no_database(name: str, port: int) -> None:
    """known_tcp_ports has them, as in Postfix."""
    found = destinations(
        f"[a.test]:{name}",
        default_port="smtp",
        known_ports=Settings({}).words("known_tcp_ports"),
        service_port=lambda _: None,
    )
    assert not isinstance(found, DSN)
    assert found[0].port == port


def test_service_names() -> None:
    needs.services()
    assert service_port("smtp") == 25


def test_unknown_service_names() -> None:
    assert service_port("no such") is None
    assert service_port("a\0b") is None


@pytest.mark.usefixtures("unmeasured")
def test_a_numeric_destination_loads_nothing_for_dns() -> None:
    code = (
        "import sys\n"
        "from postfix_trouble.config.settings import Settings\n"
        "from postfix_trouble.dns.resolver import Resolver\n"
        "from postfix_trouble.core.relay import Destination\n"
        "r = Resolver(Settings({}), lambda: 1, print)\n"
        "d = Destination('[127.0.0.1]:26', '127.0.0.1', 26, no_mx=True)\n"
        "assert r.route(d).next().address == '127.0.0.1'\n"
        "words = ('packet', 'resolv_conf', 'answers', 'nameservers', 'random', 'idna',"
        " 'threading', 'ipaddress')\n"
        "print([x for x in sys.modules if any(w in x.split('.')[-1] or"
        " w == x.split('.')[0] for w in words)])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
