"""What Prometheus reads of an engine."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from test_serve import Engine, at

from lmtp_client import Client
from scripted_server import KEYWORDS, Script, ScriptedServer
from waiting import PATIENCE, wait

Read = Callable[[], dict[str, float]]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


class Watched:
    """An engine and its figures."""

    def __init__(self, program: str, place: Path, *options: str) -> None:
        self.port = free_port()
        where = f"inet:127.0.0.1:{self.port}"
        self.engine = Engine(program, place, "--metrics", where, *options)

    def figures(self) -> dict[str, float]:
        """By name and labels, without what all names begin with; none that is 0."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE) as page:
            text = page.read().decode()
        found = re.findall(r"^(?:postfix_trouble_)?(\S+) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found if float(value)}

    def after(self, requests: int) -> dict[str, float]:
        """Once so many requests are counted, which comes after their answers."""

        def total() -> float:
            found = self.figures().items()
            return sum(v for k, v in found if k.startswith("requests_total"))

        wait(lambda: total() == requests)
        return self.figures()


@pytest.fixture
def watched(program: str, tmp_path: Path) -> Iterator[Watched]:
    options = ("--lmtp-listen", f"unix:{tmp_path}/lmtp", "-o", "myhostname=me.test")
    made = Watched(program, tmp_path, *options)
    yield made
    with contextlib.suppress(ProcessLookupError):
        os.killpg(made.engine.process.pid, signal.SIGKILL)
    made.engine.process.wait()


def test_requests_and_recipients(watched: Watched) -> None:
    scripts: tuple[Script, ...] = (
        {},
        {"stages": {"rcpt": "450 4.2.0 later"}},
        {"stages": {"rcpt": "550 5.1.1 no"}},
    )
    with ScriptedServer(*scripts) as server:
        for code in (0, 75, 67):
            assert watched.engine.deliver(at(server))[0] == code
    assert watched.engine.deliver("[127.0.0.1]:9", "--config", "x")[0] == 75
    found = watched.after(4)
    assert found['requests_total{class="2",result="sent"}'] == 1
    assert found['requests_total{class="4",result="deferred"}'] == 2
    assert found['requests_total{class="5",result="bounced"}'] == 1
    assert found['recipients_total{class="2",status="sent"}'] == 1
    assert found['recipients_total{class="4",status="deferred"}'] == 1
    assert found['recipients_total{class="5",status="bounced"}'] == 1
    assert found['delay_seconds_count{stage="transmission"}'] == 3
    assert found["process_resident_memory_bytes"] > 1 << 20


def test_connections_of_both_sides(watched: Watched, tmp_path: Path) -> None:
    keep = (
        *("-o", "smtp_connection_cache_destinations=static:all"),
        *("-o", "smtp_connection_cache_time_limit=1h"),
    )
    with ScriptedServer() as server:
        for _ in range(3):
            assert watched.engine.deliver(at(server), *keep)[0] == 0
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(tmp_path / "lmtp"))
            Client(connection).send(f"r@[127.0.0.1]:{server.port}")
    # Mail by LMTP is counted with its recipients; pipe(8) alone has requests.
    found = watched.after(3)
    assert found['connections_total{kind="new"}'] >= 1
    assert found['connections_total{kind="reused"}'] == 2
    assert sum(v for k, v in found.items() if k.startswith("recipients_total")) == 4


def test_tls(watched: Watched, certificates: Path) -> None:
    script: Script = {"keywords": (*KEYWORDS, "STARTTLS"), "tls": {"resume": True}}
    broken: Script = {
        "keywords": (*KEYWORDS, "STARTTLS"),
        "tls": {"handshake": "close"},
    }
    options = ("-o", "smtp_tls_security_level=encrypt")
    with ScriptedServer(
        script, script, broken, certificates=str(certificates)
    ) as server:
        for code in (0, 0, 75):
            assert watched.engine.deliver(at(server), *options)[0] == code
    found = watched.figures()
    assert {
        kind: found[f'tls_handshakes_total{{kind="{kind}"}}']
        for kind in ("full", "resumed", "failed")
    } == {"full": 1, "resumed": 1, "failed": 1}


def test_what_waits_and_what_rests(program: str, tmp_path: Path) -> None:
    watched = Watched(program, tmp_path, "--deliveries", "1")
    rest = ("-o", "trouble_destination_retry_time=300")
    with ScriptedServer({"stages": {"banner": "421 4.3.2 no"}}) as down:
        assert watched.engine.deliver(at(down), *rest)[0] == 75
    assert watched.figures()["destinations_suspended"] == 1
    with ScriptedServer({"stages": {"mail": {"then": "hang"}}}) as silent:
        stuck = [watched.engine.begin(at(silent)) for _ in range(3)]
        wait(lambda: watched.figures().get("requests_waiting") == 2)
        assert watched.figures()["requests_running"] == 1
        for client in stuck:
            client.kill()
            client.communicate()
        wait(lambda: "requests_waiting" not in watched.figures())
    assert watched.engine.end() == 0


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("9100", "inet:HOST:PORT expected"),
        ("inet:9100", "inet:HOST:PORT expected"),
        ("inet:127.0.0.1:0", "no such port"),
        ("inet:127.0.0.1:99999", "no such port"),
        ("inet:192.0.2.1:9100", "--metrics inet:192.0.2.1:9100: "),
    ],
)
def test_cannot_listen(program: str, tmp_path: Path, where: str, text: str) -> None:
    path = tmp_path / "engine"
    done = subprocess.run(
        [program, "serve", f"--listen=unix:{path}", "--metrics", where],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 78
    assert text in done.stderr
    assert not path.exists()


def test_the_library_is_loaded_only_then() -> None:
    script = (
        "import sys, postfix_trouble.engine.command as c; c.load_all();"
        " sys.exit('prometheus_client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
