"""A resolver on a zone, whose records are a line of text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import dnslib

from dns_server import DnsServer, Zone, serving
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.dns.nexthop import destinations
from postfix_trouble.dns.resolver import Resolver
from postfix_trouble.dns.routing import Servers
from postfix_trouble.smtp.connect import service_port

BASE = {
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "smtp_randomize_addresses": "no",
}
ALL = {"inet_protocols": "all", "inet_interfaces": "127.0.0.1, [::1]"}
NO_HOST = "Host not found"
NO_DATA = "Host found but no data record of requested type"
AGAIN = "Host not found, try again"
FATAL = "Non-recoverable error"


# --- short forms ----------------------------------------------------------------------


def zone(text: str) -> dict[str, Any]:
    """A zone: `NAME TYPE DATA, DATA; NAME FLAG; NAME rcode SERVFAIL; ...`.

    A name without a dot at its end is below test; 7 stands for 198.51.100.7, ::7 for
    2001:db8::7. Flags are those of dns_server.py.
    """
    found: dict[str, Any] = {}
    for line in filter(None, map(str.strip, text.split(";"))):
        owner, kind, *rest = line.split(None, 2)
        entry = found.setdefault(full(owner).removesuffix("."), {})
        if kind.startswith("rcode"):
            (entry[kind],) = rest
        elif not rest:
            entry[kind] = True
        elif kind in ("A", "AAAA"):
            entry[kind] = [address(each) for each in rest[0].split(", ")]
        elif kind in ("MX", "SRV", "CNAME"):
            pieces = (each.rpartition(" ") for each in rest[0].split(", "))
            entry[kind] = [f"{a}{blank}{full(name)}" for a, blank, name in pieces]
        else:
            entry[kind] = rest[0].split(", ")
    return found


def full(name: str) -> str:
    """A name with the dot at its end."""
    return name if name.endswith(".") else f"{name}.test."


def address(text: str) -> str:
    """An address in full."""
    if text.isdigit():
        return f"198.51.100.{text}"
    return re.sub(r"\A::(?=\w+\Z)(?!1\Z)", "2001:db8::", text)


def relay_names(text: str) -> list[str]:
    """Servers as `a[7] b[7]:26`, in full."""
    found = []
    for word in text.split():
        name, where, port = re.fullmatch(r"(.+)\[(.+)\](:\d+)?", word).groups()  # type: ignore[union-attr]
        host = full(name).removesuffix(".")
        found.append(f"{host}[{address(where)}]{port or ':25'}")
    return found


def no(question: str, why: str) -> str:
    """What is said of `NAME TYPE` when there is none."""
    name, kind = question.split()
    return (
        "Host or domain name not found. Name service error for"
        f" name={full(name)[:-1]} type={kind}: {why}"
    )


def malformed(question: str) -> str:
    """What is said of a reply that is none."""
    name, kind = question.split()
    return (
        f"Name service error for name={full(name)[:-1]} type={kind}:"
        " Malformed or unexpected name server reply"
    )


def answer_with(*records: str) -> dict[str, Any]:
    """A reply that the zone's own rules would not give."""

    def make(query: bytes) -> bytes:
        reply = dnslib.DNSRecord.parse(query).reply()
        for text in records:
            reply.add_answer(*dnslib.RR.fromZone(text))
        return bytes(reply.pack())

    return {"raw": make}


def mangled(change: Any) -> dict[str, Any]:
    """A good reply, spoiled."""
    good = answer_with("d.test. 60 IN MX 10 mx.test.")["raw"]
    return {"raw": lambda query: bytes(change(good(query)))}


# --- the resolver ---------------------------------------------------------------------


class Scene:
    """A resolver on a zone."""

    def __init__(
        self,
        dns: DnsServer,
        values: Mapping[str, str],
        *,
        deadline: float = 60.0,
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
    records: Zone | str, values: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Scene]:
    with serving(zone(records) if isinstance(records, str) else records) as dns:
        yield Scene(dns, values or {}, **options)


# --- tables of cases ------------------------------------------------------------------


class Case(NamedTuple):
    """What is in the DNS and in main.cf, and what comes of a nexthop then."""

    records: str
    values: Mapping[str, str]
    nexthop: str
    expected: str

    @property
    def servers(self) -> list[str]:
        return relay_names(self.expected)

    @property
    def failure(self) -> tuple[str, str]:
        status, _, reason = self.expected.partition(" ")
        if found := re.fullmatch(r"(\S+ (?:A|AAAA|MX|SRV)): (.*)", reason):
            question, why = found.groups()
            reason = malformed(question) if why == "malformed" else no(question, why)
        return status, reason


def cases(text: str) -> dict[str, Case]:
    """Named blocks: RECORDS [with all; NAME=VALUE; ...] to NEXTHOP -> EXPECTED."""
    shape = re.compile(r"(.*?) ?(?:\bwith (.*?) )?to (\S+) -> (.*)")
    found = {}
    for block in re.split(r"\n(?=\S)", text.strip()):
        name, *lines = block.splitlines()
        row = shape.fullmatch(" ".join(map(str.strip, lines)))
        assert row, name
        records, settings, nexthop, expected = row.groups()
        words = settings.split("; ") if settings else []
        values = dict(ALL) if "all" in words else {}
        values |= dict(word.split("=", 1) for word in words if word != "all")
        found[name] = Case(records, values, nexthop, expected)
    return found
