"""We decide what Postfix decided, and say to each server what Postfix said to it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from recorded import (
    Placeholders,
    Scenario,
    families,
    needs_own_network,
    play,
    scenarios,
    zone,
)

import private_network
from dns_server import serving

pytestmark = pytest.mark.first

# What is not built yet: the beginning of a scenario's name (a family, most often), and
# the reason. They run all the same, and one that passes is an error here.
NOT_YET: dict[str, str] = {}

# Seconds that a scenario takes by itself, beyond which `make test` leaves it out.
# Of the others it has one in four.
QUICK = 1.0
SAMPLE = 4


def _cases() -> list[object]:
    cases: list[object] = []
    for family in families():
        for number, scenario in enumerate(scenarios(family)):
            marks = []
            if scenario.get("slow", 0) > QUICK:
                marks.append(pytest.mark.long)
            elif number % SAMPLE:
                marks.append(pytest.mark.more)
            for beginning, reason in NOT_YET.items():
                if scenario["name"].startswith(beginning):
                    marks.append(pytest.mark.xfail(reason=reason, strict=True))
            cases.append(pytest.param(scenario, id=scenario["name"], marks=marks))
    return cases


@pytest.fixture
def places(certificates: Path) -> Iterator[Placeholders]:
    # Not tmp_path: the path of a Unix socket has to be short.
    run = tempfile.mkdtemp(prefix="postfix-trouble-")
    yield Placeholders(certificates, Path(run))
    shutil.rmtree(run)


@pytest.mark.parametrize("scenario", _cases())
def test_same_as_postfix(
    scenario: Scenario,
    places: Placeholders,
    program: str,
    request: pytest.FixtureRequest,
) -> None:
    if needs_own_network(scenario):
        request.getfixturevalue("own_network")
        names = zone(scenario, places)
        silent = any(key.startswith("drop") for name in names.values() for key in name)
        with (
            private_network.impatient() if silent else nullcontext(),
            serving(names, private_network.NAME_SERVER, 53),
        ):
            assert play([program], scenario, places) == []
    else:
        assert play([program], scenario, places) == []
