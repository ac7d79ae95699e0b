"""A client without an engine for it: the mail goes out, and the log says so, seldom."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_engine import PATIENCE
from test_serve import Engine

import launchers
import needs
from fresh_checkout import open_place
from scripted_server import ScriptedServer
from syslog_daemon import SyslogDaemon

pytestmark = [needs.as_root, pytest.mark.usefixtures("own_network")]

RECORD = re.compile(
    r"<22>\w{3} [ \d]\d \d\d:\d\d:\d\d postfix-trouble\[\d+\]: "
    r"warning: no engine at (\S+) \((.*)\): one process a mail"
)
MINUTE = 60


@pytest.fixture
def place() -> Iterator[Path]:
    needs.open_to_others(sys.executable)
    with open_place() as path:
        yield path


@pytest.fixture(params=[launchers.C, launchers.SHELL])
def client(request: pytest.FixtureRequest, place: Path) -> str:
    return launchers.beside(launchers.made(request.param, place), place / "top")


@pytest.fixture
def account() -> Iterator[int]:
    """One that has not been warned yet. The mark of the last warning is in /tmp, so it
    is one that no other run of the tests has."""
    made = 60000 + os.getpid() % 1000
    mark(made).unlink(missing_ok=True)
    yield made
    mark(made).unlink(missing_ok=True)


def mark(account: int) -> Path:
    return Path(f"/tmp/postfix-trouble.{account}.warned")


@pytest.fixture
def warnings(
    client: str, account: int, place: Path
) -> Iterator[Callable[[Path], list[tuple[str, str]]]]:
    """Delivers as the account, by the engine at a path: what it is warned of."""
    with SyslogDaemon(place) as daemon, ScriptedServer() as server:
        person = (f"--reuid={account}", f"--regid={account}", "--clear-groups")
        sent = 0

        def deliver(path: Path) -> list[tuple[str, str]]:
            nonlocal sent
            done = subprocess.run(
                [
                    *(*daemon.around, "setpriv", *person, client, "deliver"),
                    *(f"--engine={path}", "--sender", "s@a.test", "--nexthop"),
                    *(f"[127.0.0.1]:{server.port}", "-o", "myhostname=me.test"),
                    *("--", "r@b.test"),
                ],
                input=b"Subject: x\n\nx\n",
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
            sent += 1
            assert done.returncode == 0, done
            assert sum(len(each.messages) for each in server.connections) == sent
            found = [RECORD.fullmatch(record) for record in daemon.records()]
            return [(each[1], each[2]) for each in found if each]

        yield deliver


def test_nobody_there(
    warnings: Callable[[Path], list[tuple[str, str]]], account: int, place: Path
) -> None:
    """The directory has gone with the engine: no place for a mark of the warning."""
    gone = place / "gone/engine"
    assert warnings(gone) == [(str(gone), "No such file or directory")]
    assert warnings(gone) == []
    assert warnings(place / "another") == []
    age(account)
    assert warnings(gone) == [(str(gone), "No such file or directory")]
    assert warnings(gone) == []


def test_engine_of_another_account(
    warnings: Callable[[Path], list[tuple[str, str]]],
    account: int,
    place: Path,
    program: str,
) -> None:
    engine = Engine(program, place)
    try:
        assert warnings(engine.path) == [(str(engine.path), "Permission denied")]
        assert warnings(engine.path) == []
        # As if somebody had opened it: the engine does not serve others.
        engine.path.chmod(0o666)
        age(account)
        assert warnings(engine.path) == [(str(engine.path), "no greeting")]
        assert warnings(engine.path) == []
    finally:
        assert engine.end() == 0


def age(account: int) -> None:
    """A minute goes by since the last warning."""
    last = mark(account).stat().st_mtime
    os.utime(mark(account), (last - MINUTE, last - MINUTE))


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_place_of_the_mark_is_taken(
    warnings: Callable[[Path], list[tuple[str, str]]],
    account: int,
    place: Path,
    kind: str,
) -> None:
    """Anybody can write to /tmp: nothing of the account's is touched there."""
    victim = place / "victim"
    victim.write_text("precious")
    os.chown(victim, account, account)
    if kind == "directory":
        mark(account).mkdir()
    else:
        mark(account).symlink_to(victim)
    try:
        for _ in range(2):
            assert len(warnings(place / "engine")) == 1
    finally:
        mark(account).rmdir() if kind == "directory" else mark(account).unlink()
    assert victim.read_text() == "precious"
