"""MTA-STS policies found, fetched and kept: real name, web and file system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dns_server import DnsServer, serving
from https_server import HttpsServer, https_serving, page
from postfix_trouble.client.mta_sts import Policies, ProcessMemory
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.tls import StsPolicy
from postfix_trouble.dns.resolver import Resolver
from postfix_trouble.state import State

if TYPE_CHECKING:
    from postfix_trouble.client.mta_sts import Memory

DOMAIN = "wild.test"
WEEK = 7 * 86400
START = 1.8e9


def policy(mode: str = "enforce", age: int = WEEK, name: str = "mx.wild.test") -> bytes:
    text = f"version: STSv1\nmode: {mode}\nmx: {name}\nmax_age: {age}\n"
    return page(text.encode())


class World:
    """A name server, a web server and a clock; one process after the other asks."""

    def __init__(self, dns: DnsServer, web: HttpsServer, certificates: Path) -> None:
        self.dns = dns
        self.web = web
        self.now = START
        self.notes: list[str] = []
        self.memory: Memory = ProcessMemory()
        self.settings = Settings(
            {
                "trouble_nameserver": dns.address,
                "inet_protocols": "ipv4",
                "smtp_tls_CAfile": str(certificates / "ca.pem"),
            }
        )

    def record(self, *texts: str) -> None:
        """What is at _mta-sts.DOMAIN."""
        self.dns.zone[f"_mta-sts.{DOMAIN}"] = {"TXT": [f'"{x}"' for x in texts]}

    def no_answer(self, **data: Any) -> None:
        self.dns.zone[f"_mta-sts.{DOMAIN}"] = data

    def ask(
        self, later: float = 0, domain: str = DOMAIN, left: float = 60
    ) -> StsPolicy:
        """What a delivery finds, `later` seconds after the one before."""
        self.now += later

        def resolver(left: Callable[[], float]) -> Resolver:
            return Resolver(
                self.settings, left, self.notes.append, resolv_conf="/nonexistent"
            )

        return Policies(
            self.settings,
            self.memory,
            resolver,
            time_left=lambda: left,
            note=self.notes.append,
            clock=lambda: self.now,
            port=self.web.port,
        ).of(domain)

    @property
    def fetched(self) -> int:
        return len(self.web.requests)


ZONE: Mapping[str, Mapping[str, Any]] = {
    f"mta-sts.{DOMAIN}": {"A": ["127.0.0.1"]},
    f"_mta-sts.{DOMAIN}": {"TXT": ['"v=STSv1; id=1"']},
}


@pytest.fixture
def world(certificates: Path) -> Iterator[World]:
    with (
        serving(ZONE) as dns,
        https_serving(certificates / "good.pem", policy()) as web,
    ):
        yield World(dns, web, certificates)


@pytest.fixture(params=["memory", "state directory"])
def kept(
    world: World, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[World]:
    if request.param == "memory":
        yield world
        return
    state = opened(tmp_path)
    world.memory = state.sts_policies
    yield world
    state.close()


def opened(place: Path) -> State:
    state = State.open(str(place / "state"), print)
    assert isinstance(state, State)
    return state


def test_found_once_and_kept(kept: World) -> None:
    for later in (0, 60, 3600):
        found = kept.ask(later)
        assert (found.mode, found.mx, found.max_age) == (
            "enforce",
            ("mx.wild.test",),
            WEEK,
        )
    assert kept.fetched == 1
    assert kept.web.names == [f"mta-sts.{DOMAIN}"]
    assert kept.notes == []


def test_one_request_asks_once(world: World) -> None:
    policies = Policies(
        world.settings,
        world.memory,
        lambda left: Resolver(world.settings, left, print, resolv_conf="/nonexistent"),
        time_left=lambda: 60,
        note=print,
        port=world.web.port,
    )
    assert policies.of(DOMAIN) == policies.of("Wild.Test.")
    assert world.dns.asked("TXT") == [f"_mta-sts.{DOMAIN}"]


def test_a_domain_without_a_record(world: World) -> None:
    del world.dns.zone[f"_mta-sts.{DOMAIN}"]
    found = world.ask()
    assert found.mode == ""
    assert found.problem == f"no TXT record at _mta-sts.{DOMAIN}"
    assert world.fetched == 0
    assert world.notes == []


def test_a_new_id_has_a_new_policy_fetched(kept: World) -> None:
    assert kept.ask().mode == "enforce"
    kept.record("v=STSv1; id=2")
    kept.web.answer = policy("none")
    assert kept.ask(1).mode == "none"
    assert kept.ask(1).mode == "none"
    assert kept.fetched == 2


FAILURES = [
    # what the web server says, what the log says
    (page(b"", status="404 Not Found"), "HTTP status 404"),
    (page(b"", status="302 Found"), "HTTP status 302"),
    (policy("nonsense"), "the policy's mode is not"),
    (page(b"<html>", kind="text/html"), "media type"),
    (b"", "closed connection"),
]


@pytest.mark.parametrize(("answer", "why"), FAILURES)
def test_what_can_not_be_fetched_weakens_nothing(
    kept: World, answer: bytes, why: str
) -> None:
    assert kept.ask().mode == "enforce"
    kept.record("v=STSv1; id=2")
    kept.web.answer = answer
    found = kept.ask(60)
    assert (found.mode, found.mx) == ("enforce", ("mx.wild.test",))
    assert why in found.problem
    assert why in kept.notes[0]
    assert kept.notes[0].startswith(f"warning: MTA-STS policy of {DOMAIN}: ")
    # Not with every mail, but after five minutes.
    assert kept.ask(200).mode == "enforce"
    assert kept.fetched == 2
    assert kept.ask(200).mode == "enforce"
    assert kept.fetched == 3
    kept.web.answer = policy("testing")
    assert kept.ask(400).mode == "testing"


def test_a_certificate_that_is_not_good_weakens_nothing(
    world: World, certificates: Path
) -> None:
    assert world.ask().mode == "enforce"
    world.record("v=STSv1; id=2")
    with https_serving(certificates / "wrongname.pem", policy("none")) as web:
        world.web = web
        found = world.ask(60)
    assert found.mode == "enforce"
    assert found.failure == "sts-webpki-invalid"
    assert web.requests == []


RECORDS: list[tuple[str, dict[str, Any]]] = [
    ("gone", {}),
    ("another", {"TXT": ['"v=spf1 -all"']}),
    ("two", {"TXT": ['"v=STSv1; id=1"', '"v=STSv1; id=2"']}),
    ("broken", {"TXT": ['"v=STSv1; id=-"']}),
    ("trouble", {"rcode": "SERVFAIL"}),
    ("refused", {"rcode": "REFUSED"}),
]


@pytest.mark.parametrize("data", [x[1] for x in RECORDS], ids=[x[0] for x in RECORDS])
def test_a_record_that_is_hidden_weakens_nothing(
    kept: World, data: dict[str, Any]
) -> None:
    assert kept.ask().mode == "enforce"
    kept.no_answer(**data)
    for _ in range(3):
        assert kept.ask(400).mode == "enforce"
    assert kept.fetched == 1
    # Once a day it is fetched all the same, so that it does not run out.
    assert kept.ask(86400).mode == "enforce"
    assert kept.fetched == 2
    assert kept.ask(WEEK - 60).mode == "enforce"
    # Too old; and without a record there is nothing to look for.
    kept.web.answer = b""
    kept.ask(60 + WEEK)
    assert kept.ask(400).mode == ""


@pytest.mark.parametrize(
    "data", [x[1] for x in RECORDS[2:]], ids=[x[0] for x in RECORDS[2:]]
)
def test_a_record_that_is_no_good_is_left_alone_for_a_while(
    kept: World, data: dict[str, Any]
) -> None:
    kept.no_answer(**data)
    assert kept.ask().mode == ""
    assert len(kept.notes) == 1
    asked = len(kept.dns.queries)
    assert kept.ask(200).mode == ""
    assert len(kept.dns.queries) == asked
    kept.record("v=STSv1; id=1")
    assert kept.ask(200).mode == "enforce"


def test_a_first_policy_that_can_not_be_had(kept: World) -> None:
    """Mail goes as if there were none, and the web server has its peace."""
    kept.web.answer = page(b"", status="500 Oops")
    assert [kept.ask(x).mode for x in (0, 60, 200)] == ["", "", ""]
    assert kept.fetched == 1
    kept.web.answer = policy()
    assert kept.ask(100).mode == "enforce"


def test_a_policy_ends(kept: World) -> None:
    kept.web.answer = policy(age=600)
    assert kept.ask().mode == "enforce"
    kept.web.answer = b""
    assert kept.ask(599).mode == "enforce"
    assert kept.ask(1).mode == ""


def test_no_address(world: World) -> None:
    del world.dns.zone[f"mta-sts.{DOMAIN}"]
    found = world.ask()
    assert found.mode == ""
    assert f"name=mta-sts.{DOMAIN} type=A" in found.problem
    assert found.failure == "sts-policy-fetch-error"


def test_no_time_for_it(world: World) -> None:
    """A delivery that is late does without, and does not run into its end."""
    assert world.ask(left=0.0).mode == ""


def test_aliases(world: World) -> None:
    """Whoever has the mail may have the policy too (RFC 8461 8.2)."""
    world.dns.zone.update(
        {
            f"_mta-sts.{DOMAIN}": {"CNAME": ["_mta-sts.host.test."]},
            f"mta-sts.{DOMAIN}": {"CNAME": ["web.host.test."]},
            "_mta-sts.host.test": {"TXT": ['"v=STSv1; " "id=7"']},
            "web.host.test": {"A": ["127.0.0.1"]},
        }
    )
    assert world.ask().mode == "enforce"
    assert world.web.names == [f"mta-sts.{DOMAIN}"]


@pytest.mark.parametrize(
    "values", [{"smtp_dns_support_level": "disabled"}, {"disable_dns_lookups": "yes"}]
)
def test_without_dns_nobody_is_asked(world: World, values: dict[str, str]) -> None:
    world.settings = Settings({"trouble_nameserver": world.dns.address, **values})
    assert world.ask().mode == ""
    assert world.dns.queries == []


def test_the_state_directory_outlives_processes(world: World, tmp_path: Path) -> None:
    for _ in range(2):
        state = opened(tmp_path)
        world.memory = state.sts_policies
        assert world.ask(60).mode == "enforce"
        state.close()
    assert world.fetched == 1


def test_what_holds_is_not_forgotten_for_others(tmp_path: Path) -> None:
    """However different their ends are, and however long nobody asked."""
    state = opened(tmp_path)
    policies = state.sts_policies
    policies.put("week.test", "1", START + WEEK, START)
    policies.put("year.test", "2", START + 31_557_600, START)
    policies.put("month.test", "3", START + 30 * 86400, START + WEEK - 1)
    assert policies.get("week.test") == "1"
    policies.put("month.test", "4", START + 30 * 86400, START + 200 * 86400)
    assert policies.get("week.test") == ""
    assert policies.get("year.test") == "2"
    state.close()


def test_memory_of_a_process_has_a_bound() -> None:
    memory = ProcessMemory()
    memory.put("old", "x", 50.0, 0.0)
    memory.put("first", "x", 1e6, 0.0)
    for number in range(9_999):
        memory.put(str(number), "x", 1e6, 100.0)
    # What had ended went first.
    assert memory.get("old") == ""
    assert memory.get("first") == "x"
    memory.put("one more", "x", 1e6, 100.0)
    assert memory.get("first") == ""
    assert memory.get("one more") == "x"
