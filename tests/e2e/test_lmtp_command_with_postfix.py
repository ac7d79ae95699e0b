"""Mail through lmtp(8) and our LMTP server to a server: nothing lost, nothing twice."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from lmtp_postfix import Lmtpd, LmtpPostfix, Sink
from lmtp_soak import check_ledger, soak
from private_postfix import PATIENCE

from fresh_checkout import open_place
from scripted_server import Script, ScriptedServer
from waiting import wait

pytestmark = [pytest.mark.first, pytest.mark.more]

# An LMTP server and its Postfix, with options of the server, then main.cf.
Start = Callable[..., tuple[LmtpPostfix, Lmtpd]]


@contextmanager
def starter(installed: Path, kind: str) -> Iterator[Start]:
    with ExitStack() as stack:
        place = stack.enter_context(open_place())

        def started(*argv: str, **main: str) -> tuple[LmtpPostfix, Lmtpd]:
            lmtpd = Lmtpd(place, installed, kind == "spawn", *argv)
            postfix = LmtpPostfix(place, lmtpd.transport, lmtpd.master, **main)
            stack.enter_context(lmtpd.open())
            stack.enter_context(postfix.running())
            return postfix, lmtpd

        yield started


@pytest.fixture(params=["listener", "spawn"])
def start(request: pytest.FixtureRequest, installed: Path) -> Iterator[Start]:
    with starter(installed, request.param) as started:
        yield started


class Chain(NamedTuple):
    """Postfix, our LMTP server, and the server."""

    postfix: LmtpPostfix
    lmtpd: Lmtpd
    server: ScriptedServer


@pytest.fixture(scope="module", params=["listener", "spawn"])
def chain(request: pytest.FixtureRequest, installed: Path) -> Iterator[Chain]:
    """What tests share that want nothing special."""
    main = {
        "lmtp_destination_concurrency_limit": "1",
        "in_flow_delay": "0",
        "lmtp_connection_cache_time_limit": "60s",
    }
    keep = ("-o", "smtp_connection_cache_time_limit=60s")
    with ScriptedServer() as server, starter(installed, request.param) as started:
        yield Chain(*started(at(server), *keep, **main), server)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Listens; what happens is up to the test."""
    with ScriptedServer() as listening:
        yield listening
        # What it is still told is no matter here.
        listening.stop(patience=0.0)


def at(server: ScriptedServer | Sink) -> str:
    return f"--nexthop=[127.0.0.1]:{server.port}"


def test_each_recipient_ends_in_its_own_way(chain: Chain) -> None:
    postfix, lmtpd, server = chain
    server.scripts = (
        {
            "stages": {
                "rcpt:full@d.test": "452 4.2.2 full",
                "rcpt:nobody@d.test": "550 5.1.1 who?",
            }
        },
    )
    postfix.submit("ok@d.test", "full@d.test", "nobody@d.test")
    found = postfix.delivered(["ok@d.test", "full@d.test", "nobody@d.test"])
    assert {who.partition("@")[0]: x[4:6] for who, x in found.items()} == {
        "ok": ("2.0.0", "sent"),
        "full": ("4.2.2", "deferred"),
        "nobody": ("5.1.1", "bounced"),
    }
    assert {x.service for x in found.values()} == {"lmtp"}
    assert found["ok@d.test"].reason == "250 2.0.0 Ok: queued as SAMPLE"
    said = "host 127.0.0.1[127.0.0.1] said: 550 5.1.1 who? (in reply to RCPT TO"
    assert f"said: 550 5.1.1 {said}" in found["nobody@d.test"].reason
    # One id for both logs, without XFORWARD.
    record = next(line for line in lmtpd.log() if "to=<ok@d.test>" in line)
    assert f"]: {found['ok@d.test'].queue_id}: to=" in record


def test_dsn_parameters_from_end_to_end(chain: Chain) -> None:
    postfix, _, server = chain
    server.scripts = ({"keywords": ["PIPELINING", "DSN"]},)
    options = ("-N", "success,delay", "-V", "QQ+1", "-R", "hdrs")
    postfix.submit("dsn@d.test", sender="s@d.test", options=options)
    postfix.delivery("dsn@d.test")
    said = next(x.commands for x in server.connections if "<dsn@" in str(x.commands))
    at_mail = said.index("MAIL FROM:<s@d.test> ENVID=QQ+2B1 RET=HDRS")
    assert said[at_mail + 1] == (
        "RCPT TO:<dsn@d.test> ORCPT=rfc822;dsn@d.test NOTIFY=SUCCESS,DELAY"
    )


def test_connections_are_used_again(chain: Chain) -> None:
    """lmtp(8)'s to us, and ours to the next hop."""
    postfix, lmtpd, server = chain
    all_are_there = threading.Event()
    delay = partial(all_are_there.wait, PATIENCE)
    server.scripts = ({"stages": {"eod": {"reply": "250 2.0.0 Ok", "delay": delay}}},)
    recipients = [f"{n}@d.test" for n in range(10)]
    for recipient in recipients:
        postfix.submit(recipient)
    all_are_there.set()
    found = postfix.delivered(recipients)
    assert {x.status for x in found.values()} == {"sent"}
    for log in (postfix.log(), "\n".join(lmtpd.log())):
        assert max(map(int, re.findall(r"conn_use=(\d+)", log))) >= 3


# --- nothing lost, nothing twice ------------------------------------------------------


@pytest.mark.fault("23, 24, soak the server killed twice, through lmtp(8)")
@pytest.mark.long
def test_server_that_is_killed_in_mid_run(start: Start, tmp_path: Path) -> None:
    count = 300
    sink = Sink(tmp_path, delay=0.01)
    postfix, lmtpd = start(at(sink), "-o", "trouble_destination_retry_time=1s")

    def taken(least: int) -> bool:
        return sum(sink.taken().values()) >= least

    with sink:
        postfix.inject(count)
        for wanted in (60, 150):
            wait(partial(taken, wanted), postfix.log)
            sink.kill()
            sink.start()
        postfix.run_queue()
    check_ledger(postfix, lmtpd, sink, count)


@pytest.mark.fault("soak 1,000 messages through lmtp(8), a listener and spawn(8)")
@pytest.mark.long
@pytest.mark.parametrize("kind", ["listener", "spawn"])
def test_soak(installed: Path, kind: str) -> None:
    with open_place() as place:
        found = soak(installed, place, 1000, kind == "spawn")
    assert found.sent == 900
    assert found.bounced == 100


def held(reply: threading.Event) -> Script:
    """The server says nothing to DATA until then."""
    wait_for = partial(reply.wait, PATIENCE)
    return {"stages": {"data": {"reply": "354 go", "delay": wait_for}}}


@pytest.mark.fault("7 time limits of lmtp(8) and of ours, the message once")
@pytest.mark.long
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param("10s", "60s", id="we give up first"),
        pytest.param("60s", "10s", id="lmtp(8) gives up first"),
    ],
)
def test_time_limits_make_no_duplicates(
    start: Start, server: ScriptedServer, ours: str, theirs: str
) -> None:
    """When our reply is late, lmtp(8) sends a message again: once is enough."""
    too_late = threading.Event()
    server.scripts = (held(too_late), {})
    postfix, _ = start(
        at(server),
        *("-o", f"trouble_deadline={ours}"),
        *("-o", "trouble_destination_retry_time=0"),
        lmtp_data_done_timeout=theirs,
    )
    postfix.submit("a@d.test")
    first = postfix.delivery("a@d.test")
    assert (first.status, first.dsn) == ("deferred", "4.4.2")
    too_late.set()
    postfix.run_queue()
    assert postfix.delivered(["a@d.test"], "sent")
    # The first session has ended, in whatever way.
    wait(lambda: server.connections[0].end)
    assert [len(each.messages) for each in server.connections] == [0, 1]


@pytest.mark.fault("7, spawn the time limit of spawn(8)")
@pytest.mark.long
def test_time_limit_of_spawn_makes_no_duplicates(
    installed: Path, server: ScriptedServer
) -> None:
    """It warns; to kill a process of another account it has no right (3.7)."""
    too_late = threading.Event()
    server.scripts = (held(too_late), {})
    with starter(installed, "spawn") as start:
        postfix, _ = start(at(server), lmtpd_time_limit="2s")
        postfix.submit("a@d.test")
        wait(lambda: "command time limit exceeded" in postfix.log(), postfix.log)
        too_late.set()
        postfix.delivery("a@d.test")
        postfix.run_queue()
        assert postfix.delivered(["a@d.test"], "sent")
    assert sum(len(each.messages) for each in server.connections) == 1
