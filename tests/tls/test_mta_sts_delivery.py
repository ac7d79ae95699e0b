"""trouble_mta_sts, from the command line to the servers' logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dns_server import DnsServer, serving
from https_server import HttpsServer, https_serving, page
from lmtp_client import Service
from private_network import NAME_SERVER, impatient
from scripted_server import KEYWORDS, ScriptedServer

MESSAGE = b"Subject: x\n\nhow are you\n"
PATIENCE = 60.0
ZONE: dict[str, dict[str, Any]] = {
    "wild.test": {"MX": ["10 mx.else.test.", "20 mx.wild.test."]},
    # Nobody listens there.
    "mx.else.test": {"A": ["127.0.0.2"]},
    "mx.wild.test": {"A": ["127.0.0.1"]},
    "_mta-sts.wild.test": {"TXT": ['"v=STSv1; id=1"']},
    "mta-sts.wild.test": {"A": ["127.0.0.1"]},
}
STARTTLS = {"keywords": (*KEYWORDS, "STARTTLS")}
NOT_NAMED = "MX name 'mx.else.test' does not match STS MX pattern for 'wild.test'"


def policy(mode: str = "enforce", name: str = "mx.wild.test") -> bytes:
    text = f"version: STSv1\nmode: {mode}\nmx: {name}\nmax_age: 86400\n"
    return page(text.encode())


class Place:
    """Name server, web server, and how to deliver."""

    def __init__(
        self, program: str, place: Path, certificates: Path, dns: DnsServer
    ) -> None:
        self.program = program
        self.place = place
        self.certificates = certificates
        self.dns = dns
        self.web: HttpsServer
        self.log = place / "log"
        self.count = 0

    def server(self, certificate: str = "good", **script: Any) -> ScriptedServer:
        tls = {"cert": certificate, "sni": True}
        return ScriptedServer(
            {**STARTTLS, "tls": tls, **script}, certificates=str(self.certificates)
        )

    def values(self, server: ScriptedServer) -> dict[str, str]:
        return {
            "myhostname": "me.test",
            "inet_protocols": "ipv4",
            "smtp_tcp_port": str(server.port),
            "smtp_tls_CAfile": str(self.certificates / "ca.pem"),
            "smtp_randomize_addresses": "no",
            "trouble_mta_sts": "yes",
        }

    def run(
        self,
        command: str,
        server: ScriptedServer,
        *more: str,
        first: Sequence[str] = (),
        end: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[bytes]:
        options = [
            x
            for name, value in self.values(server).items()
            for x in ("-o", f"{name}={value}")
        ]
        return subprocess.run(
            [self.program, command, *first, *options, *more, *end],
            input=MESSAGE,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    def deliver(
        self, server: ScriptedServer, *more: str, first: Sequence[str] = ()
    ) -> tuple[int, str]:
        self.count += 1
        done = self.run(
            "deliver",
            server,
            *more,
            *("--sender", "s@a.test", "--nexthop", "wild.test"),
            *("--queue-id", f"4E{self.count}", "--log-file", str(self.log)),
            first=first,
            end=("--", "r@wild.test"),
        )
        assert done.stderr == b""
        return done.returncode, done.stdout.decode().strip()


@pytest.fixture
def here(
    own_network: None, program: str, tmp_path: Path, certificates: Path
) -> Iterator[Place]:
    with (
        serving(ZONE, NAME_SERVER, 53) as dns,
        https_serving(certificates / "good.pem", policy(), port=443) as web,
    ):
        place = Place(program, tmp_path, certificates, dns)
        place.web = web
        yield place


def test_enforced(here: Place) -> None:
    """The server that is not named is passed over, the other asked for by its name."""
    with here.server() as server:
        code, text = here.deliver(server)
    assert (code, text) == (0, "250 2.0.0 Ok: queued as SAMPLE")
    assert "<TLS mx.wild.test>" in server.connections[0].commands
    assert f"4E1: {NOT_NAMED}" in here.log.read_text()
    assert "tls=secure" in here.log.read_text()


def test_nobody_is_named(here: Place) -> None:
    here.web.answer = policy(name="*.wild.test")
    here.dns.zone["wild.test"] = {"MX": ["10 mx.else.test."]}
    with here.server() as server:
        code, text = here.deliver(server)
    assert code == 75
    assert text == "4.3.0 server unavailable or unable to receive mail"
    assert server.connections == []


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("untrusted", {}, "4.7.5 Server certificate not verified"),
    ("wrongname", {}, "4.7.5 Server certificate not verified"),
    ("selfsigned", {}, "4.7.5 Server certificate not verified"),
    ("good", {"keywords": KEYWORDS}, "4.7.4 TLS is required, but was not offered"),
]


@pytest.mark.parametrize(("certificate", "script", "why"), BAD)
def test_tls_that_is_not_good_enough(
    here: Place, certificate: str, script: dict[str, Any], why: str
) -> None:
    for mode, code in (("enforce", 75), ("testing", 0), ("none", 0)):
        here.web.answer = policy(mode)
        with here.server(certificate, **script) as server:
            ended, text = here.deliver(server)
        assert ended == code
        assert text.startswith(why if code else "250 2.0.0")


def test_an_entry_of_a_table_goes_first(here: Place) -> None:
    with here.server("selfsigned") as server:
        table = "smtp_tls_policy_maps=inline:{wild.test=encrypt}"
        code, _ = here.deliver(server, "-o", table)
    assert code == 0
    assert here.web.requests == []
    assert here.dns.asked("TXT") == []


@pytest.mark.fault("MTA-STS the web server has no such page")
def test_without_a_policy_mail_goes_as_before(here: Place) -> None:
    here.web.answer = page(b"", status="404 Not Found")
    with here.server("selfsigned") as server:
        code, _ = here.deliver(server)
    assert code == 0
    assert "warning: MTA-STS policy of wild.test: https:" in here.log.read_text()
    assert "HTTP status 404" in here.log.read_text()


@pytest.mark.fault("MTA-STS the web server is silent")
@pytest.mark.long
def test_a_web_server_that_is_silent(here: Place) -> None:
    """It gets half of the time that is left, and the delivery the other half."""
    here.web.answer = b"HTTP/1.1 200 OK\r\n"
    here.web.then = "hang"
    with here.server("selfsigned") as server:
        code, text = here.deliver(server, "-o", "trouble_deadline=20s")
    assert (code, text) == (0, "250 2.0.0 Ok: queued as SAMPLE")
    assert "at 127.0.0.1: The read operation timed out" in here.log.read_text()


@pytest.mark.fault("MTA-STS the name server is silent")
def test_a_name_server_that_does_not_know_txt(here: Place) -> None:
    """Its silence takes nothing from the time for the servers' addresses."""
    here.dns.zone["_mta-sts.wild.test"] = {"drop": True}
    with impatient(), here.server("selfsigned") as server:
        code, _ = here.deliver(server, "-o", "trouble_resolver_time_limit=2s")
    assert code == 0
    assert "name=_mta-sts.wild.test type=TXT" in here.log.read_text()


def test_a_state_directory_that_can_not_be_used(here: Place) -> None:
    """The policy counts all the same."""
    (here.place / "state").write_text("no directory")
    with here.server("selfsigned") as server:
        state = ("--state-directory", str(here.place / "state"))
        code, text = here.deliver(server, *state)
    assert (code, text) == (75, "4.7.5 Server certificate not verified")


def test_off_by_default(here: Place) -> None:
    with here.server("selfsigned") as server:
        code, _ = here.deliver(server, "-o", "trouble_mta_sts=no")
    assert code == 0
    assert here.dns.asked("TXT") == []


def test_the_state_directory_remembers(here: Place) -> None:
    """Later deliveries know the policy, though nobody can be asked any more."""
    state = ("--state-directory", str(here.place / "state"))
    with here.server() as server:
        assert here.deliver(server, *state)[0] == 0
    here.web.answer = b""
    del here.dns.zone["_mta-sts.wild.test"]
    with here.server("selfsigned") as server:
        code, text = here.deliver(server, *state)
    assert (code, text) == (75, "4.7.5 Server certificate not verified")
    assert len(here.web.requests) == 1


def test_what_is_known_costs_no_web_client() -> None:
    """http.client takes longer to load than the rest of a delivery to run."""
    code = (
        "import sys, postfix_trouble.client.mta_sts; "
        "print('http.client' in sys.modules, 'ssl' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, check=True
    )
    assert done.stdout == b"False False\n"


def test_the_lmtp_server_remembers(here: Place) -> None:
    with here.server() as server:
        values = {**here.values(server), "trouble_destination_retry_time": "0"}
        with Service(str(here.log), "wild.test", **values) as service:
            assert service.send("<r@wild.test>")[0].startswith("250")
            here.web.answer = b""
            del here.dns.zone["_mta-sts.wild.test"]
            assert service.send("<r@wild.test>")[0].startswith("250")
    assert len(here.web.requests) == 1
    commands = [x.commands for x in server.connections]
    assert all("<TLS mx.wild.test>" in x for x in commands)


def test_the_engine_remembers(here: Place) -> None:
    path = here.place / "engine"
    engine = subprocess.Popen(
        [
            *(here.program, "serve", "--listen", f"unix:{path}"),
            *("--log-file", str(here.log)),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + PATIENCE
        while not path.exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        with here.server() as server:
            for _ in range(2):
                assert here.deliver(server, first=[f"--engine={path}"])[0] == 0
                here.web.answer = b""
        assert len(here.web.requests) == 1
    finally:
        engine.terminate()
        engine.wait(PATIENCE)


def probed(here: Place, server: ScriptedServer, *more: str) -> tuple[int, str]:
    done = here.run("probe", server, *more, end=("wild.test",))
    return done.returncode, " ".join(done.stdout.decode().split())


def test_probe_says_what_the_policy_is(here: Place) -> None:
    with here.server() as server:
        code, text = probed(here, server)
    assert code == 0
    assert (
        "MTA-STS enforce; max_age 86400 s; mx mx.wild.test; this server is not among "
        f"them problem {NOT_NAMED}"
    ) in text
    assert "MTA-STS enforce; max_age 86400 s; mx mx.wild.test greeting" in text
    assert "trusted, the name matches at secure" in text


def test_probe_knows_the_policies_of_deliveries(here: Place, tmp_path: Path) -> None:
    state = tmp_path / "state"
    kept = ("-o", f"trouble_state_directory={state}")
    with here.server() as server:
        assert here.deliver(server, *kept)[0] == 0
        here.web.answer = b""
        code, text = probed(here, server, *kept)
        assert code == 0
        assert "MTA-STS enforce; max_age 86400 s; mx mx.wild.test greeting" in text
        # Files of root in it would stop the deliveries of its own account.
        os.chown(state, 65534, -1)
        code, text = probed(here, server, "-v", *kept)
    assert "not read: it belongs to another account (user id 65534)" in text
    assert "MTA-STS enforce" not in text


def test_probe_says_why_there_is_none(here: Place) -> None:
    here.web.answer = page(b"", status="301 Moved")
    with here.server() as server:
        code, text = probed(here, server, "-o", "smtp_connect_timeout=2s")
    assert code == 0
    assert "MTA-STS no policy: https://mta-sts.wild.test/.well-known/" in text
    assert "HTTP status 301" in text


def test_probe_for_programs(here: Place) -> None:
    with here.server() as server:
        done = here.run("probe", server, "--json", end=("wild.test",))
    first, second = json.loads(done.stdout)["servers"]
    assert first["problem"] == NOT_NAMED
    for each in (first, second):
        assert each["mta_sts"]["mode"] == "enforce"
        assert each["mta_sts"]["mx"] == ["mx.wild.test"]
