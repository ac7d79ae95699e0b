"""Hosts by the system's look-ups, our own addresses, and what needs no look-up."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

import needs
from dns_scene import ALL, names, scene
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.outcome import DSN
from postfix_trouble.dns.nexthop import destinations
from postfix_trouble.smtp.connect import service_port


def test_dns_off_asks_the_system() -> None:
    needs.localhost()
    values = {"smtp_dns_support_level": "disabled"}
    with scene("localhost. MX 10 a", values) as here:
        assert here.servers("localhost:26") == ["localhost[127.0.0.1]:26"]
        assert here.dns.queries == []


def test_old_switch() -> None:
    with scene("", {"disable_dns_lookups": "yes"}) as here:
        here.servers("localhost:26")
        assert here.dns.queries == []


def test_the_system_is_asked_second() -> None:
    needs.localhost()
    with scene("", {"smtp_host_lookup": "native, dns"}) as here:
        assert here.servers("[localhost]:26") == ["localhost[127.0.0.1]:26"]
        assert here.dns.asked() == ["localhost"]


def test_the_system_is_not_asked_after_a_failure() -> None:
    values = {"smtp_host_lookup": "dns, native"}
    with scene("localhost. rcode SERVFAIL", values) as here:
        assert here.failure("[localhost]:26")[0] == "4.4.3"


def test_the_system_does_not_know() -> None:
    """Offline the system says "try again", which is soft."""
    values = {"smtp_host_lookup": "native"}
    with scene("", values) as here:
        status, reason = here.failure("[nosuch.invalid]:26")
        assert status in ("5.4.4", "4.4.4")
        assert reason.startswith("unable to look up host nosuch.invalid: ")


def test_mx_by_dns_hosts_by_the_system() -> None:
    needs.localhost()
    values = {"smtp_host_lookup": "native"}
    with scene("d MX 10 localhost.", values) as here:
        assert here.servers("d.test:26") == ["localhost[127.0.0.1]:26"]
        assert here.dns.asked() == ["d.test"]


def test_interfaces_by_name() -> None:
    needs.localhost()
    with scene("d A 127.0.0.1", {"inet_interfaces": "localhost"}) as here:
        assert here.failure("d.test")[0] == "5.4.6"
    values = {"inet_interfaces": "no.invalid"}
    with scene("d A 127.0.0.1", values) as here:
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
    with scene("", values) as here:
        assert (here.resolver.source(4), here.resolver.source(6)) == (ipv4, ipv6)


def test_not_every_loopback_address_is_ours() -> None:
    """Only what an interface has: others may be tunnels to somewhere."""
    with scene("d A 127.9.9.9", {"inet_interfaces": "all"}) as here:
        assert here.servers("d.test") == ["d.test[127.9.9.9]:25"]


def test_lmtp_never_loops() -> None:
    with scene("d A 127.0.0.1", lmtp=True) as here:
        destination = here.destination("inet:d.test:25", lmtp=True)
        assert list(names(here.resolver.route(destination))) == ["d.test[127.0.0.1]:25"]


def test_socket() -> None:
    values = {"myhostname": "me.test", "lmtp_fallback_relay": "[198.51.100.1]"}
    with scene("", values, lmtp=True) as here:
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
    with scene("") as here:
        here.route("[198.51.100.1]:465")
        assert here.notes[0].startswith("SMTPS wrappermode (TCP port 465) requires")
    with scene("", {"smtp_tls_wrappermode": "yes"}) as here:
        here.route("[198.51.100.1]:465")
        assert here.notes == []


def test_ipv6_server_and_normal_form() -> None:
    with scene("", ALL) as here:
        assert here.servers("[ipv6:2001:DB8:0::1]") == ["2001:DB8:0::1[2001:db8::1]:25"]


@pytest.mark.parametrize(
    "text", ["ns.test", "127.0.0.1:0", "127.0.0.1:x", "[::1", "127.0.0.1:99999", "[]"]
)
def test_bad_name_server(text: str) -> None:
    with scene("", {"trouble_nameserver": text}) as here:
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
    with scene("", {"trouble_nameserver": f"[::1]:{port}"}) as here:
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
