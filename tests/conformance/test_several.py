"""A connection is used again when Postfix uses it again, and said to what it says."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded import Placeholders, Scenario, scenarios, zone
from several import ByEngine, ByLmtp, play

import private_network
from dns_server import serving
from waiting import listening, wait

pytestmark = [pytest.mark.usefixtures("own_network")]

# What `make test` has of them: one in so many.
SAMPLE = 8


def cases(*, one_nexthop: bool) -> list[object]:
    """`one_nexthop`: without those that are for several."""
    found: list[object] = []
    for number, scenario in enumerate(scenarios("reuse", "several")):
        marks: list[pytest.MarkDecorator] = []
        if scenario.get("slow", 0) > 1:
            marks.append(pytest.mark.long)
        if number % SAMPLE:
            marks.append(pytest.mark.more)
        if not one_nexthop or not any("nexthop" in one for one in scenario["more"]):
            found.append(pytest.param(scenario, id=scenario["name"], marks=marks))
    return found


@pytest.fixture
def places(certificates: Path) -> Iterator[Placeholders]:
    # Not tmp_path: the path of a Unix socket has to be short.
    run = tempfile.mkdtemp(prefix="postfix-trouble-")
    yield Placeholders(certificates, Path(run))
    shutil.rmtree(run)


class Running:
    """One engine for all scenarios."""

    def __init__(self, program: str, place: Path) -> None:
        self.path, self.log = place / "engine", place / "log"
        self.process = subprocess.Popen(
            [program, "serve", f"--listen=unix:{self.path}", "--log-file", self.log]
        )
        wait(lambda: listening(self.path))

    def let_go(self) -> None:
        """Have it close the connections that it keeps."""
        self.process.send_signal(signal.SIGHUP)


@pytest.fixture(scope="module")
def engine(
    own_network: None, program: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    running = Running(program, tmp_path_factory.mktemp("engine"))
    yield running
    running.process.terminate()
    assert running.process.wait(30) == 0


@pytest.mark.parametrize("scenario", cases(one_nexthop=False))
def test_by_the_engine(
    scenario: Scenario, places: Placeholders, engine: Running
) -> None:
    way = ByEngine(engine.path, engine.log, places)
    with serving(zone(scenario, places), private_network.NAME_SERVER, 53):
        assert play(scenario, places, way.step, engine.let_go) == []
    assert way.notices == scenario["expected"].get("notices", [])


@pytest.mark.parametrize("scenario", cases(one_nexthop=True))
def test_by_the_lmtp_server(
    scenario: Scenario, places: Placeholders, tmp_path: Path
) -> None:
    with serving(zone(scenario, places), private_network.NAME_SERVER, 53):
        way = ByLmtp(tmp_path / "log", scenario, places)
        assert play(scenario, places, way.step, way.close) == []
