"""The engine as a process: requests of `deliver --engine`, alone and at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from engine_client import DirectClient
from scripted_server import Script, ScriptedServer
from waiting import PATIENCE, listening, wait

MESSAGE = b"Subject: x\n\nhow are you\n"


class Engine:
    """`postfix-trouble serve` on a socket in a directory."""

    def __init__(self, program: str, place: Path, *options: str) -> None:
        self.program = program
        self.path = place / "engine"
        self.log = place / "log"
        self.process = subprocess.Popen(
            [
                *(program, "serve", "--listen", f"unix:{self.path}"),
                *("--log-file", str(self.log), *options),
            ],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait(lambda: listening(self.path))

    def words(
        self, nexthop: str, options: tuple[str, ...], to: tuple[str, ...]
    ) -> list[str]:
        return [
            *("--sender", "s@a.test", "--nexthop", nexthop, "--queue-id", "4E1"),
            *("-o", "myhostname=me.test", "--log-file", str(self.log), *options),
            *("--", *to),
        ]

    def start(
        self, nexthop: str, *options: str, recipients: tuple[str, ...] = ("r@b.test",)
    ) -> subprocess.Popen[bytes]:
        words = self.words(nexthop, options, recipients)
        return subprocess.Popen(
            [self.program, "deliver", f"--engine={self.path}", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def begin(
        self, nexthop: str, *options: str, recipients: tuple[str, ...] = ("r@b.test",)
    ) -> subprocess.Popen[bytes]:
        """Start it, and give it the whole message."""
        client = self.start(nexthop, *options, recipients=recipients)
        assert client.stdin is not None
        client.stdin.write(MESSAGE)
        client.stdin.close()
        client.stdin = None
        return client

    def deliver(
        self, nexthop: str, *options: str, recipients: tuple[str, ...] = ("r@b.test",)
    ) -> tuple[int, bytes]:
        """Have it deliver, however long it takes to greet."""
        with DirectClient(self.path) as client:
            words = self.words(nexthop, options, recipients)
            client.ask(*words, message=MESSAGE)
            return client.answer()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@pytest.fixture
def engine(program: str, tmp_path: Path) -> Iterator[Engine]:
    made = Engine(program, tmp_path)
    yield made
    with contextlib.suppress(ProcessLookupError):
        os.killpg(made.process.pid, signal.SIGKILL)
    made.process.wait()


def at(server: ScriptedServer) -> str:
    return f"[127.0.0.1]:{server.port}"


def held(reply: threading.Event) -> Script:
    """The server says nothing to DATA until then."""
    delay = partial(reply.wait, PATIENCE)
    return {"stages": {"data": {"delay": delay, "reply": "354 go on"}}}


def copies(server: ScriptedServer) -> int:
    return sum(len(each.messages) for each in server.connections)


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        ({}, 0, b"250 2.0.0 Ok: queued as SAMPLE"),
        ({"stages": {"rcpt": "450 4.2.0 later"}}, 75, b"4.2.0 host 127.0.0.1"),
        ({"stages": {"rcpt": "550 5.1.1 no"}}, 67, b"5.1.1 host 127.0.0.1"),
    ],
    ids=["sent", "deferred", "bounced"],
)
def test_outcomes(engine: Engine, script: Script, code: int, text: bytes) -> None:
    with ScriptedServer(script) as server:
        ended, output = engine.deliver(at(server))
    assert (ended, output[: len(text)]) == (code, text)
    assert "status=" in engine.log.read_text()


def test_it_was_the_engine_that_delivered(engine: Engine) -> None:
    with ScriptedServer() as server:
        engine.deliver(at(server))
    pid = f"[{engine.process.pid}]"
    assert any(
        pid in line and "status=sent" in line
        for line in engine.log.read_text().splitlines()
    )


def test_several_at_once(engine: Engine) -> None:
    """While one waits for its server another one is delivered."""
    with ScriptedServer({"stages": {"mail": {"then": "hang"}}}) as slow:
        waiting = engine.begin(at(slow))
        wait(lambda: slow.connections)
        with ScriptedServer() as server:
            assert engine.deliver(at(server))[0] == 0
        waiting.kill()
        waiting.communicate()


def test_settings_are_those_of_the_request(engine: Engine) -> None:
    with ScriptedServer() as server:
        engine.deliver(at(server), "-o", "smtp_helo_name=one.test")
        engine.deliver(at(server), "-o", "smtp_helo_name=two.test")
        said = [connection.commands[0] for connection in server.connections]
    assert said == ["EHLO one.test", "EHLO two.test"]


def test_main_cf_that_changes(engine: Engine, tmp_path: Path) -> None:
    config = tmp_path / "main.cf"
    with ScriptedServer() as server:
        for name in ("one.test", "another.test"):
            config.write_text(f"smtp_helo_name = {name}\n")
            engine.deliver(at(server), "--config", str(config))
        said = [connection.commands[0] for connection in server.connections]
    assert said == ["EHLO one.test", "EHLO another.test"]


def test_ledger(engine: Engine, tmp_path: Path) -> None:
    """Who has the message does not get it again, also from the same process."""
    two = ("ok@b.test", "later@b.test")
    state = ("--state-directory", str(tmp_path / "state"))
    later = {"stages": {"rcpt:later@b.test": "450 4.2.0 later"}}
    with ScriptedServer(later, {}) as server:
        options = (*state, "-o", "trouble_destination_retry_time=0")
        assert engine.deliver(at(server), *options, recipients=two)[0] == 75
        assert engine.deliver(at(server), *options, recipients=two)[0] == 0
        told = [c.commands for c in server.connections]
    assert "RCPT TO:<ok@b.test>" in told[0]
    assert "RCPT TO:<ok@b.test>" not in told[1]


def test_a_recipient_that_another_request_has_in_hand(
    engine: Engine, tmp_path: Path
) -> None:
    """Two threads of one process are kept apart as two processes are."""
    two = ("a@b.test", "b@b.test")
    options = ("--state-directory", str(tmp_path / "state"))
    with ScriptedServer({"stages": {"mail": {"then": "hang"}}}) as server:
        first = engine.begin(at(server), *options, recipients=two)
        wait(lambda: server.connections and len(server.connections[0].commands) > 1)
        code, output = engine.deliver(at(server), *options, recipients=two)
        first.kill()
        first.communicate()
    assert (code, output) == (75, b"4.3.0 delivery in progress")


@pytest.mark.parametrize("path", ["main.cf", "./x"])
def test_relative_paths_are_refused(engine: Engine, path: str) -> None:
    code, output = engine.deliver("[127.0.0.1]:9", "--config", path)
    assert code == 75
    assert output.startswith(b"4.3.5 command line usage error: --config")


def test_client_gone_before_the_dot(engine: Engine) -> None:
    gone = threading.Event()
    with ScriptedServer(held(gone)) as s:
        client = engine.begin(at(s))
        wait(lambda: s.connections and "DATA" in s.connections[0].commands)
        client.kill()
        client.communicate()
        gone.set()
        wait(lambda: "nobody waits" in engine.log.read_text())
        assert copies(s) == 0


def test_signal_before_the_dot(engine: Engine) -> None:
    with ScriptedServer({"stages": {"mail": {"then": "hang"}}}) as server:
        client = engine.begin(at(server))
        wait(lambda: server.connections and len(server.connections[0].commands) > 1)
        client.send_signal(signal.SIGTERM)
        output, _ = client.communicate(timeout=PATIENCE)
    assert (client.returncode, output) == (75, b"4.3.0 terminated by signal")


def test_engine_killed(engine: Engine) -> None:
    with ScriptedServer({"stages": {"mail": {"then": "hang"}}}) as server:
        client = engine.begin(at(server))
        wait(lambda: server.connections and len(server.connections[0].commands) > 1)
        os.killpg(engine.process.pid, signal.SIGKILL)
        output, _ = client.communicate(timeout=PATIENCE)
    assert client.returncode == 75
    assert output.startswith(b"4.3.0 lost connection with the engine")


def test_sigterm_finishes_what_has_begun(engine: Engine) -> None:
    signalled = threading.Event()
    with ScriptedServer(held(signalled)) as server:
        client = engine.begin(at(server))
        wait(lambda: server.connections and "DATA" in server.connections[0].commands)
        engine.process.send_signal(signal.SIGTERM)
        signalled.set()
        output, _ = client.communicate(timeout=PATIENCE)
        assert client.returncode == 0, output
        assert copies(server) == 1
    assert engine.process.wait(PATIENCE) == 0
    assert not engine.path.exists()


def test_sighup(engine: Engine) -> None:
    with ScriptedServer() as server:
        assert engine.deliver(at(server))[0] == 0
        engine.process.send_signal(signal.SIGHUP)
        assert engine.deliver(at(server))[0] == 0
    assert engine.process.poll() is None
    assert engine.end() == 0


def test_more_than_it_delivers_at_once_wait(program: str, tmp_path: Path) -> None:
    engine = Engine(program, tmp_path, "--deliveries", "1")
    with ScriptedServer() as server:
        clients = [engine.start(at(server)) for _ in range(4)]
        for client in clients:
            assert client.communicate(MESSAGE, timeout=PATIENCE)[0]
        assert [client.returncode for client in clients] == [0] * 4
        assert copies(server) == 4
    assert engine.end() == 0


def test_a_silent_server_leaves_room_for_others(program: str, tmp_path: Path) -> None:
    engine = Engine(program, tmp_path, "--deliveries", "4")
    with ScriptedServer({"stages": {"mail": {"then": "hang"}}}) as silent:
        stuck = [engine.begin(at(silent)) for _ in range(8)]
        wait(lambda: len(silent.connections) == 2)
        with ScriptedServer() as server:
            assert engine.deliver(at(server))[0] == 0
        for client in stuck:
            client.send_signal(signal.SIGTERM)
            assert client.communicate(timeout=PATIENCE)[0]
        assert {client.returncode for client in stuck} == {75}
    assert engine.end() == 0


def test_connections_to_listed_destinations_are_kept(engine: Engine) -> None:
    with ScriptedServer() as server:
        listed = ("-o", "smtp_connection_cache_destinations=127.0.0.1")
        long = ("-o", "smtp_connection_cache_time_limit=60s")
        for _ in range(3):
            assert engine.deliver(at(server), *listed, *long)[0] == 0
        assert len(server.connections) == 1
        assert copies(server) == 3
    assert engine.end() == 0


WRONG = [
    ((), "--listen unix:PATH is missing"),
    (("--listen", "inet:25"), "unix:PATH expected"),
    (("--listen", "unix:relative"), "unix:PATH expected"),
    (("--listen", "unix:/nonexistent/x"), "/nonexistent/x"),
    (("--listen", "unix:/tmp/x", "--deliveries", "0"), "a number from 1"),
    (("--listen", "unix:/tmp/x", "--time-limit", "1000000"), "a number from 1"),
]


@pytest.mark.parametrize(("options", "text"), WRONG)
def test_cannot_serve(program: str, options: tuple[str, ...], text: str) -> None:
    done = subprocess.run(
        [program, "serve", *options, "--log-file", "/dev/null"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 78
    assert text in done.stderr


def test_a_second_engine_on_the_same_socket_ends(engine: Engine) -> None:
    done = subprocess.run(
        [
            engine.program,
            "serve",
            f"--listen=unix:{engine.path}",
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 78
    assert f"unix:{engine.path}: another process listens there" in done.stderr
    with ScriptedServer() as server:
        assert engine.deliver(at(server))[0] == 0
    assert engine.end() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="peers are known on Linux only")
def test_socket_is_for_its_account_only(engine: Engine) -> None:
    assert engine.path.stat().st_mode & 0o777 == 0o600
