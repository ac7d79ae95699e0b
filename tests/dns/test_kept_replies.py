"""What a process that stays asks name servers, and what it knows already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dns_server import DnsServer, serving
from lmtp_client import Service
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.relay import Destination
from postfix_trouble.dns.kept import KeptReplies
from postfix_trouble.dns.resolver import Resolver
from scripted_server import ScriptedServer

HOUR = 3600
ADDRESS = ["192.0.2.1"]


class Asking:
    """Deliveries, each with a resolver of its own, that share what was said."""

    def __init__(self, dns: DnsServer, **values: str) -> None:
        self.now = 0.0
        self.dns = dns
        self.kept = KeptReplies(lambda: self.now)
        self.settings = Settings(
            {
                "inet_protocols": "ipv4",
                "trouble_nameserver": dns.address,
                "trouble_resolver_time_limit": "5",
                "inet_interfaces": "127.0.0.1",
                **values,
            }
        )

    def resolver(self) -> Resolver:
        return Resolver(
            self.settings,
            lambda: 5.0,
            lambda text: None,
            kept=self.kept,
            resolv_conf="/dev/null",
        )

    def times(self, seconds: float, kind: str = "A") -> int:
        """Ask, and once more some seconds later: how often the server was asked."""
        before = len(self.dns.queries)
        self.resolver().query("a.test", kind)
        self.now += seconds
        self.resolver().query("a.test", kind)
        return len(self.dns.queries) - before


ROWS: list[Any] = [
    # zone, seconds between two questions, how often the server is asked
    pytest.param({"A": ADDRESS}, 59, 1, id="within the time to live"),
    pytest.param({"A": ADDRESS}, 60, 2, id="after it"),
    pytest.param({"A": ADDRESS, "ttl": 0}, 0, 2, id="of no time"),
    pytest.param({"A": ADDRESS, "ttl": 2**31}, 0, 2, id="of more than 31 bits"),
    pytest.param({"A": ADDRESS, "ttl": 9 * HOUR}, HOUR - 1, 1, id="a long one"),
    pytest.param({"A": ADDRESS, "ttl": 9 * HOUR}, HOUR, 2, id="no more than an hour"),
    pytest.param({"soa": (90, 30)}, 29, 1, id="no record: minimum of the SOA"),
    pytest.param({"soa": (90, 30)}, 30, 2, id="no record: after it"),
    pytest.param({"soa": (20, 30)}, 20, 2, id="no record: time to live of the SOA"),
    pytest.param({"soa": (HOUR, HOUR)}, 59, 1, id="no record: a long one"),
    pytest.param({"soa": (HOUR, HOUR)}, 60, 2, id="no record: a minute at most"),
    pytest.param({}, 0, 2, id="no record, and no SOA"),
    pytest.param({"rcode": "NXDOMAIN", "soa": (30, 30)}, 29, 1, id="no such name"),
    pytest.param({"rcode": "NXDOMAIN"}, 0, 2, id="no such name, and no SOA"),
    pytest.param({"rcode": "FORMERR", "soa": (30, 30)}, 0, 2, id="can't read that"),
    pytest.param({"raw:A": ["NOERROR", [("a.test", "MX", "1 m.test")]]}, 59, 1,
                 id="another kind"),
]  # fmt: skip


@pytest.mark.parametrize(("zone", "seconds", "times"), ROWS)
def test_how_often(zone: dict[str, Any], seconds: float, times: int) -> None:
    with serving({"a.test": zone}) as dns:
        assert Asking(dns).times(seconds) == times


@pytest.mark.parametrize("zone", [{"rcode": "SERVFAIL", "soa": (30, 30)}, {"drop": 1}])
def test_what_a_server_cannot_say_is_asked_again(zone: dict[str, Any]) -> None:
    with serving({"a.test": zone}) as dns:
        asking = Asking(dns, trouble_resolver_time_limit="1")
        assert not asking.resolver().query("a.test", "A").records
        dns.zone["a.test"] = {"A": ADDRESS}
        assert asking.resolver().query("a.test", "A").records


def test_aliases_are_kept_for_the_shortest_time() -> None:
    zone: dict[str, Any] = {
        "a.test": {"CNAME": ["b.test"], "ttl": 9},
        "b.test": {"A": ADDRESS},
    }
    with serving(zone) as dns:
        asking = Asking(dns)
        assert asking.times(8) == 1
        assert asking.times(1) == 1


@pytest.mark.parametrize("authentic", [True, False])
def test_dnssec(authentic: bool) -> None:
    zone = {"a.test": {"A": ADDRESS, "ad": authentic}}
    with serving(zone) as dns:
        asking = Asking(dns, smtp_dns_support_level="dnssec")
        found = [asking.resolver().query("a.test", "A").authentic for _ in range(2)]
        assert len(dns.queries) == 1
    assert found == [authentic, authentic]


def test_kinds_and_names_are_apart() -> None:
    zone = {
        "a.test": {"A": ADDRESS, "MX": ["1 m.test"]},
        "b.test": {"A": ["192.0.2.2"]},
    }
    with serving(zone) as dns:
        asking = Asking(dns)
        for name, kind in (("a.test", "A"), ("a.test", "MX"), ("b.test", "A")):
            asking.resolver().query(name, kind)
        assert len(dns.queries) == 3
        assert asking.resolver().query("A.Test", "A").records[0].data == ADDRESS[0]
        assert len(dns.queries) == 3


def test_there_is_an_end_of_them() -> None:
    zone = {"a.test": {"A": ADDRESS}, "n.test": {"A": ADDRESS}}
    with serving(zone) as dns:
        asking = Asking(dns)
        assert asking.times(0) == 1
        reply = asking.kept.find(("a.test", "A"))
        assert reply is not None
        for number in range(1000):
            asking.kept.keep((f"{number}.test", "A"), reply)
        assert asking.times(0) == 1
        assert asking.kept.find(("0.test", "A")) is None


def test_one_process_for_each_mail_keeps_nothing() -> None:
    with serving({"a.test": {"A": ADDRESS}}) as dns:
        settings = Asking(dns).settings
        for _ in range(2):
            resolver = Resolver(settings, lambda: 5.0, lambda text: None)
            resolver.query("a.test", "A")
        assert len(dns.queries) == 2


def test_the_lmtp_server(tmp_path: Path) -> None:
    with ScriptedServer() as server:
        zone = {"b.test": {"MX": ["10 mx.b.test"]}, "mx.b.test": {"A": ["127.0.0.1"]}}
        with serving(zone) as dns:
            values = {
                "inet_protocols": "ipv4",
                "trouble_nameserver": dns.address,
                "smtp_tcp_port": str(server.port),
                "inet_interfaces": "127.0.0.2",
            }
            with Service(str(tmp_path / "log"), **values) as service:
                for _ in range(3):
                    assert service.send("r@b.test")[0].startswith("250 "), service.log()
            assert dns.asked() == ["b.test", "mx.b.test"]


def test_routes_are_found_anew_from_what_is_known() -> None:
    zone = {
        "d.test": {"MX": ["1 a.test", "1 b.test"]},
        "a.test": {"A": ["192.0.2.1"]},
        "b.test": {"A": ["192.0.2.2"]},
    }
    with serving(zone) as dns:
        asking = Asking(dns)
        destination = Destination("d.test", "d.test", 25)
        first = set()
        for _ in range(60):
            server = asking.resolver().route(destination).next()
            assert server is not None
            first.add(server.address)
        assert len(dns.queries) == 3
    # Both are the first one at times.
    assert first == {"192.0.2.1", "192.0.2.2"}
