"""What an engine may use, and what one destination may take of it."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import memory
import pytest

from engine_client import DirectClient
from fickle_server import FickleServer
from postfix_trouble.engine import protocol
from scripted_server import ScriptedServer
from waiting import PATIENCE

MIB = 1 << 20
SILENT = {"stages": {"mail": {"then": "hang"}}}


class Served:
    """`postfix-trouble serve` with some options."""

    def __init__(self, program: str, place: Path, *options: str, most: int = 0) -> None:
        self.path = place / "engine"
        self.spool = place / "spool"
        self.spool.mkdir()

        def limit() -> None:
            if most:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        self.process = subprocess.Popen(
            [
                *(program, "serve", f"--listen=unix:{self.path}"),
                *("--log-file=/dev/null", *options),
            ],
            env={**os.environ, "TMPDIR": str(self.spool)},
            preexec_fn=limit,
        )
        wait(self.greets)

    def greets(self) -> bool:
        with contextlib.suppress(OSError), DirectClient(self.path):
            return True
        return False

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0

    def spooled(self) -> list[int]:
        """Sizes of the files without a name that it has open."""
        found = []
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(link).startswith(str(self.spool)):
                    found.append(link.stat().st_size)
        return found


def wait(what: Callable[[], object]) -> None:
    """Until something is so."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def words(port: int, *options: str, recipient: str = "r@b.test") -> list[str]:
    return [
        *("--sender", "s@a.test", "--nexthop", f"[127.0.0.1]:{port}"),
        *("--queue-id", "4E1", "-o", "myhostname=me.test", "--log-file", "/dev/null"),
        *options,
        *("--", recipient),
    ]


@pytest.fixture
def served(program: str, tmp_path: Path) -> Iterator[Served]:
    with Served(program, tmp_path) as served:
        yield served


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.fault("engine 6,000 messages: no more memory than after 2,000")
def test_memory_is_flat(program: str, tmp_path: Path) -> None:
    found, codes = memory.measure(program, tmp_path, 6000)
    assert codes == {0: 4800, 67: 300, 75: 900}
    # At each tenth, so the fourth is the first one after 2,000.
    assert found[-1] - found[3] <= memory.FLAT, found
    assert max(found) <= memory.MOST


@pytest.mark.more
@pytest.mark.fault("engine 200 clients for a server that never answers")
def test_a_server_that_never_answers(program: str, tmp_path: Path) -> None:
    """The mail of all others goes out, and theirs is deferred in time."""
    with ExitStack() as stack:
        served = stack.enter_context(Served(program, tmp_path, "--time-limit=20"))
        silent = stack.enter_context(ScriptedServer(SILENT))
        server = stack.enter_context(FickleServer())
        waiting = [stack.enter_context(DirectClient(served.path)) for _ in range(200)]
        begun = time.monotonic()
        for number, client in enumerate(waiting):
            client.ask(*words(silent.port, recipient=f"{number}@b.test"))
        # It has not answered yet, so it gets few.
        wait(lambda: len(silent.connections) == 5)
        for number in range(30):
            with DirectClient(served.path) as client:
                client.ask(*words(server.port, recipient=f"{number}@c.test"))
                assert client.answer()[0] == 0
        assert len(server.journal) == 30
        answers = [client.answer() for client in waiting]
        assert time.monotonic() - begun < 20 + 15
        assert {code for code, _ in answers} == {75}
        found = [text for _, text in answers]
        busy = [text for text in found if text.startswith(b"4.3.2 all deliveries")]
        assert len(busy) == 195
        assert {text[:6] for text in found} == {b"4.3.2 ", b"4.4.2 "}


def test_a_crowd_finds_room(served: Served) -> None:
    """Who finds none delivers by itself, each with a Python of its own."""
    os.kill(served.process.pid, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(300)]
        for sock in crowd:
            sock.setblocking(False)
            sock.connect(str(served.path))
        os.kill(served.process.pid, signal.SIGCONT)
        for sock in crowd:
            sock.settimeout(PATIENCE)
            assert sock.recv(100).startswith(protocol.GREETING)


@pytest.mark.parametrize(
    ("size", "files"), [(MIB // 2, 0), (3 * MIB, 1)], ids=["small", "large"]
)
def test_a_large_message_is_on_the_disk(served: Served, size: int, files: int) -> None:
    """And has no name there, so that nothing is left of it, whatever happens."""
    line = b"0123456789" * 7 + b"\n"
    message = b"Subject: x\n\n" + line * (size // len(line))
    with FickleServer() as server, DirectClient(served.path) as client:
        client.ask(*words(server.port), message=message, end=False)
        wait(lambda: sum(served.spooled()) >= len(message) * files)
        assert len(served.spooled()) == files
        assert [*served.spool.iterdir()] == []
        client.ask()
        assert client.answer()[0] == 0
        (copy,) = server.journal
        assert copy.text == message.replace(b"\n", b"\r\n")
        wait(lambda: served.spooled() == [])


@pytest.mark.fault("engine no room for a large message")
def test_no_room_for_a_large_message(program: str, tmp_path: Path) -> None:
    with Served(program, tmp_path, most=2 * MIB) as served, FickleServer() as server:
        # Much too long, and a little.
        for size in (4 * MIB, 2 * MIB + 100):
            with DirectClient(served.path) as client:
                with contextlib.suppress(BrokenPipeError):
                    client.ask(*words(server.port), message=b"x" * size)
                code, text = client.answer()
            assert (code, text[:6]) == (75, b"4.3.1 ")
        assert server.connections == 0
        # Others are delivered as before.
        with DirectClient(served.path) as client:
            client.ask(*words(server.port), message=b"Subject: x\n\nx\n")
            assert client.answer()[0] == 0


def test_time_limit_is_told(program: str, tmp_path: Path) -> None:
    with (
        Served(program, tmp_path, "--time-limit=7") as served,
        DirectClient(served.path) as client,
    ):
        assert re.search(rb" 0*7 \d+\n$", client.greeting)


@pytest.mark.fault("engine the limit of the engine is over: the deadline")
def test_time_limit(program: str, tmp_path: Path) -> None:
    with (
        Served(program, tmp_path, "--time-limit=1") as served,
        ScriptedServer(SILENT) as silent,
        DirectClient(served.path) as client,
    ):
        client.ask(*words(silent.port))
        assert client.answer() == (75, b"4.4.2 delivery time limit exceeded")
