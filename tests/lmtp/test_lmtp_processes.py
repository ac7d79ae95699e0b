"""`lmtp --processes`: several processes behind one socket are one service."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lmtp_client import Process
from processes import alive
from scripted_server import ScriptedServer
from waiting import wait

MOST = 6
OK = "250 2.0.0 Ok: queued as SAMPLE"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def start(tmp_path: Path, server: ScriptedServer) -> Iterator[Callable[[int], Process]]:
    with ExitStack() as stack:

        def make(count: int) -> Process:
            process = Process(
                tmp_path,
                f"--nexthop=[127.0.0.1]:{server.port}",
                f"--listen=unix:{tmp_path}/lmtpd",
                f"--connections={MOST}",
                f"--processes={count}",
            )
            stack.callback(end, process)
            return process

        yield make


def end(process: Process) -> None:
    process.process.kill()
    process.end()


def children(process: Process) -> set[int]:
    pid = process.process.pid
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_all_of_them_serve(
    start: Callable[[int], Process], server: ScriptedServer
) -> None:
    """Each has its share of the connections; the six clients hold on to theirs."""
    process = start(3)
    with ExitStack() as stack:
        clients = [stack.enter_context(process.connect()) for _ in range(MOST)]
        them = children(process)
        for client in clients:
            assert client.send("a@d.test", "b@d.test") == [OK] * 2
    assert sum(len(each.messages) for each in server.connections) == MOST
    found = re.findall(r"\[(\d+)\]: .* status=sent ", process.log.read_text())
    assert {int(pid): found.count(pid) for pid in found} == dict.fromkeys(them, 4)


@pytest.mark.fault("2, LMTP one of several processes is killed")
def test_one_that_is_killed_is_replaced(start: Callable[[int], Process]) -> None:
    process = start(2)
    with process.connect() as client:
        assert client.send("a@d.test") == [OK]
    before = children(process)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait(lambda: len(children(process) - {victim}) == 2)
    with process.connect() as client:
        assert client.send("a@d.test") == [OK]
    assert "warning: a process of the service ended (-9)" in process.log.read_text()


def test_sigterm_ends_them_all(start: Callable[[int], Process]) -> None:
    process = start(2)
    with process.connect() as first, process.connect() as second:
        them = children(process)
        process.process.send_signal(signal.SIGTERM)
        for client in (first, second):
            assert client.text() == "421 4.3.2 Service is shutting down"
    assert process.end() == (0, "")
    assert not any(map(alive, them))
    assert not process.path.exists()


def test_signals_are_not_for_them(start: Callable[[int], Process]) -> None:
    """But what they start, sendmail(1) say, can be ended."""
    process = start(2)
    with process.connect() as client:
        them = children(process)
        for number in them:
            os.kill(number, signal.SIGTERM)
        assert client.send("a@d.test") == [OK]
    assert children(process) == them
    for number in them:
        status = Path(f"/proc/{number}/status").read_text()
        ignored = re.search(r"^SigIgn:\s*(\w+)$", status, re.M)
        assert ignored
        assert not int(ignored[1], 16) & 1 << signal.SIGTERM - 1


@pytest.mark.fault("2, LMTP the process that has started the others is killed")
def test_nobody_serves_for_a_service_that_is_dead(
    start: Callable[[int], Process],
) -> None:
    process = start(2)
    with process.connect() as client:
        them = children(process)
        process.process.kill()
        assert client.text() == "421 4.3.2 Service is shutting down"
    wait(lambda: not any(map(alive, them)))


@pytest.mark.parametrize("count", ["0", "-1", "two"])
def test_number_that_is_none(tmp_path: Path, count: str) -> None:
    listen = f"--listen=unix:{tmp_path}/lmtpd"
    code, text = Process(tmp_path, listen, f"--processes={count}").end()
    assert code == 78
    assert f"--processes {count}" in text
