"""Look-ups: time, transport, whom we trust, and what is made of replies."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import dnslib
import pytest

from dns_scene import AGAIN, BASE, NO_HOST, Scene, no, relays, scene, zone
from dns_server import serving, silent_port
from postfix_trouble.config.settings import ConfigError, Settings
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination, Exchange
from postfix_trouble.core.reply import Lost
from postfix_trouble.dns.lookup import Result
from postfix_trouble.dns.nameservers import NameServers
from postfix_trouble.dns.resolver import Resolver


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
    with scene("d drop", values, resolv_conf=str(conf)) as here:
        here.resolver._deadline = lambda: 0.2  # what is left of the delivery
        start = time.monotonic()
        expected = ("4.4.3", no("d MX", AGAIN))
        assert here.failure("d.test") == expected
        assert time.monotonic() - start < 10


class Hurried(Settings):
    """Postfix knows no fractions of seconds."""

    def seconds(self, name: str) -> float:
        return 0.5 if name == "trouble_resolver_time_limit" else super().seconds(name)


def test_all_look_ups_of_a_destination_share_a_limit() -> None:
    hosts = ", ".join(f"10 h{number}" for number in range(60))
    silent = ";".join(f"h{number} drop" for number in range(60))
    with serving(zone(f"d MX {hosts}; {silent}")) as dns:
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
    good = zone("d A 1")
    with serving(zone("d rcode SERVFAIL")) as bad, serving(good) as dns:
        values = {"trouble_nameserver": f"{silent}, {bad.address} {dns.address}"}
        here = Scene(dns, values)
        assert here.servers("[d.test]") == ["d.test[198.51.100.1]:25"]
        assert len(bad.queries) == len(dns.queries) == 1


def test_servers_that_can_not_say_are_asked_once() -> None:
    with scene("d rcode SERVFAIL") as here:
        here.failure("d.test")
        assert len(here.dns.queries) == 1


def test_servers_take_turns(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("options rotate\n")
    records = zone(";".join(f"n{x} A 1" for x in range(20)))
    with serving(records) as one, serving(records) as two:
        values = {"trouble_nameserver": f"{one.address} {two.address}"}
        here = Scene(one, values, resolv_conf=str(conf))
        for name in records:
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
    with scene("d A 1", deadline=0) as here:
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
            no("d MX", AGAIN),
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
    assert failure == DSN("4.4.3", no("d MX", AGAIN))  # type: ignore[arg-type]


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
    records = zone(";".join(f"n{x} A 1" for x in range(20)))
    with scene(records) as here:
        for name in records:
            here.servers(f"[{name}]")
        assert len({x[:2] for x in here.dns.packets}) > 15


def test_tcp_only(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("options use-vc\n")
    with scene("d A 1", resolv_conf=str(conf)) as here:
        assert here.servers("[d.test]") == ["d.test[198.51.100.1]:25"]
        assert [x[2] for x in here.dns.queries] == ["tcp"]


def test_truncated_goes_to_tcp_once() -> None:
    with scene("d A 1; d truncate") as here:
        here.servers("[d.test]")
        assert [x[2] for x in here.dns.queries] == ["udp", "tcp"]


SECURE = zone("""
    d MX 10 a, 20 b; d ad; a A 1; a ad; b A 2; _25._tcp.a TLSA 3 1 1 00FF17;
    _25._tcp.a ad; c CNAME a; c alone; e CNAME a; e alone; e ad
""")


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
    records = {**SECURE, **zone("m CNAME d; m ad")}
    with scene(records, {"smtp_dns_support_level": "dnssec"}) as here:
        first, *_ = relays(here.route("m.test"))
        assert first.exchange == Exchange(("m.test", "d.test"), authentic=True)
        assert first.host == "a.test"


def test_what_an_alias_itself_is_worth() -> None:
    """Whatever it leads to: DNSSEC for the name alone."""
    with scene(
        "e CNAME b; e ad; c CNAME a; a A 1; a ad; b A 2",
        {"smtp_dns_support_level": "dnssec"},
    ) as here:
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
    records = "h.one A 1; k.two A 2; x.y.two A 3"

    def ask(options: str, host: str) -> list[str]:
        values = {"smtp_dns_resolver_options": options}
        with scene(records, values, resolv_conf=str(conf)) as here:
            return here.servers(f"[{host}]")

    assert ask("", "h") == []
    assert ask("res_defnames", "h") == ["h[198.51.100.1]:25"]
    assert ask("res_defnames", "k") == []
    assert ask("res_dnsrch", "k") == ["k[198.51.100.2]:25"]
    assert ask("res_defnames", "x.y") == []
    assert ask("res_dnsrch", "x.y") == ["x.y[198.51.100.3]:25"]
    with scene(records, {"smtp_dns_resolver_options": "res_dnsrch"}) as here:
        expected = ("5.4.4", no("n. A", NO_HOST))
        assert here.failure("[n]") == expected


def test_reply_filter() -> None:
    records = "d MX 10 a, 20 b; a A 1; b A 2"
    values = {"smtp_dns_reply_filter": "texthash:/unused"}
    rows: dict[str, str | Lost] = {"d.test. 60 IN MX 10 a.test.": "IGNORE"}
    with scene(records, values, search_filter=rows.get) as here:
        assert here.servers("d.test") == ["b.test[198.51.100.2]:25"]
        assert here.notes == ["ignoring DNS RR: d.test. 60 IN MX 10 a.test."]
    rows["d.test. 60 IN MX 20 b.test."] = "ignore"
    about = "Error looking up name=d.test type=MX: "
    with scene(records, values, search_filter=rows.get) as here:
        dropped = about + "DNS reply filter drops all results"
        assert here.failure("d.test") == ("4.7.0", dropped)
    for action in ("what", Lost.DATA):
        rows["d.test. 60 IN MX 20 b.test."] = action
        with scene(records, values, search_filter=rows.get) as here:
            syntax = about + "Invalid DNS reply filter syntax"
            assert here.failure("d.test") == ("4.4.3", syntax)
    with pytest.raises(ConfigError, match="smtp_dns_reply_filter"):
        Resolver(Settings(values), lambda: 1, print)
