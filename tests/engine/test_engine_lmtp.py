"""lmtp(8) and pipe(8) served by one engine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_serve import Engine, at, copies

from engine_client import DirectClient
from lmtp_client import Client
from scripted_server import ScriptedServer
from waiting import PATIENCE, listening, wait

KEEP = (
    *("-o", "smtp_connection_cache_destinations=static:all"),
    *("-o", "smtp_connection_cache_time_limit=1h"),
)


class Both:
    """An engine with a second socket."""

    def __init__(self, program: str, place: Path) -> None:
        self.place = place
        self.path = place / "lmtp"
        self.program = program
        self.engine: Engine | None = None

    def start(self, *options: str) -> Engine:
        where = f"--lmtp-listen=unix:{self.path}"
        self.engine = Engine(
            self.program, self.place, where, "-o", "myhostname=me.test", *options
        )
        wait(lambda: listening(self.path))
        return self.engine

    def client(self) -> Client:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        return Client(connection)

    def send(self, *recipients: str) -> list[str]:
        with self.client() as client:
            return client.send(*recipients)


@pytest.fixture
def both(program: str, tmp_path: Path) -> Iterator[Both]:
    made = Both(program, tmp_path)
    yield made
    if made.engine is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(made.engine.process.pid, signal.SIGKILL)
        made.engine.process.wait()


def test_a_reply_for_each_recipient(both: Both) -> None:
    with ScriptedServer({"stages": {"rcpt:no@b.test": "550 5.1.1 no"}}) as server:
        both.start("--nexthop", at(server))
        replies = both.send("r@b.test", "no@b.test")
    assert [reply[:9] for reply in replies] == ["250 2.0.0", "550 5.1.1"]


def test_what_is_kept_is_shared(both: Both) -> None:
    """A connection that lmtp(8)'s mail was sent over serves pipe(8)'s, and back."""
    with ScriptedServer() as server:
        engine = both.start("--nexthop", at(server), *KEEP)
        for _ in range(2):
            assert both.send("r@b.test")[0].startswith("250 ")
            assert engine.deliver(at(server), *KEEP)[0] == 0
        assert len(server.connections) == 1
        assert copies(server) == 4
        assert engine.end() == 0


def test_destinations_in_trouble_rest_for_lmtp_alone(both: Both) -> None:
    """For pipe(8) the queue manager sees to it."""
    down = {"stages": {"banner": "421 4.3.2 no"}}
    with ScriptedServer(down) as server:
        engine = both.start("--nexthop", at(server))
        for _ in range(2):
            assert both.send("r@b.test")[0].startswith("450 4.3.2 ")
            assert len(server.connections) == 1
        for count in (2, 3):
            assert engine.deliver(at(server))[0] == 75
            assert len(server.connections) == count


def test_a_changed_main_cf_counts_for_the_next_message(both: Both) -> None:
    config = both.place / "main.cf"
    config.write_text("smtp_helo_name = one.test\n")
    with ScriptedServer() as server:
        both.start("--nexthop", at(server), "--config", str(config))
        with both.client() as client:
            assert client.send("r@b.test")[0].startswith("250 ")
            config.write_text("smtp_helo_name = another.test\n")
            assert client.send("r@b.test")[0].startswith("250 ")
        said = [connection.commands[0] for connection in server.connections]
    assert said == ["EHLO one.test", "EHLO another.test"]


def test_a_main_cf_that_has_become_wrong(both: Both) -> None:
    config = both.place / "main.cf"
    config.write_text("")
    both.start("--config", str(config))
    config.write_text("trouble_deadline = soon\n")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(both.path))
        assert connection.recv(100).startswith(b"421 4.3.5 ")
        assert connection.recv(100) == b""


def test_sigterm_finishes_a_transaction_of_lmtp(both: Both) -> None:
    slow = {"stages": {"data": {"delay": 1, "reply": "354 go on"}}}
    with ScriptedServer(slow) as server:
        engine = both.start("--nexthop", at(server))
        with both.client() as client:
            client.envelope("r@b.test")
            client.end()
            wait(
                lambda: server.connections and "DATA" in server.connections[0].commands
            )
            engine.process.send_signal(signal.SIGTERM)
            assert client.text().startswith("250 ")
        assert copies(server) == 1
    assert engine.process.wait(PATIENCE) == 0
    assert not both.path.exists()
    assert not engine.path.exists()


def test_who_may_connect(both: Both) -> None:
    """The engine's own socket is for its account; that for lmtp(8) as it is said."""
    engine = both.start("--mode", "0660")
    assert both.path.stat().st_mode & 0o777 == 0o660
    assert engine.path.stat().st_mode & 0o777 == 0o600


def test_both_sockets_of_systemd(program: str, tmp_path: Path) -> None:
    """The one that is called lmtp is for lmtp(8), whichever comes first."""
    paths = [tmp_path / "lmtp", tmp_path / "engine"]
    with ScriptedServer() as server, contextlib.ExitStack() as stack:
        numbers = []
        for path in paths:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(str(path))
            listening.listen()
            numbers.append(listening.fileno())
        nexthop = f"[127.0.0.1]:{server.port}"
        start = (
            "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=lmtp:engine"
            f' exec "$@" 3<&{numbers[0]} 4<&{numbers[1]}'
        )
        words = ("serve", "--nexthop", nexthop, f"--log-file={tmp_path}/log")
        process = subprocess.Popen(
            ["bash", "-c", start, "bash", program, *words, "-o", "myhostname=me.test"],
            pass_fds=numbers,
        )
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(paths[0]))
        with Client(connection) as lmtp:
            assert len(lmtp.send("a@d.test")) == 1
        with DirectClient(paths[1]) as client:
            client.ask("--sender", "", "--nexthop", nexthop, "--", "b@d.test")
            assert client.answer()[0] == 0
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert sum(len(each.messages) for each in server.connections) == 2
    # They are systemd's.
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--nexthop", "b.test"), "--nexthop: --lmtp-listen is missing"),
        (("--state-directory", "/x"), "--state-directory: --lmtp-listen is missing"),
        (("-o", "trouble_log_format=xml"), "trouble_log_format"),
        (("--lmtp-listen", "unix:/nonexistent/x"), "/nonexistent/x"),
        (("--lmtp-listen", "inet:x"), "neither unix:PATH nor inet:HOST:PORT"),
        (
            ("--lmtp-listen", "inet:0", "-o", "trouble_deadline=soon"),
            "trouble_deadline",
        ),
    ],
)
def test_cannot_serve(
    program: str, tmp_path: Path, options: tuple[str, ...], text: str
) -> None:
    path = tmp_path / "engine"
    done = subprocess.run(
        [program, "serve", f"--listen=unix:{path}", *options, "--log-file=/dev/null"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 78
    assert text in done.stderr
    assert not path.exists()
