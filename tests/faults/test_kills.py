"""Killed at every stage, again and again: the ledger agrees with the server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.first

HARNESS = Path(__file__).with_name("kill_harness.py")


Figures = Callable[[str, object], None]


def kills(number: int, figures: Figures, kind: str = "KILL", *more: str) -> None:
    # A process of its own: it forks, and must have no threads.
    done = subprocess.run(
        [sys.executable, HARNESS, "--kills", str(number), "--signal", kind, *more],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    figures("figures", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^ *(\d+) kills$", done.stdout, re.M)
    assert found
    assert int(found[1]) >= number


@pytest.mark.fault("1, 2, 3, kills kill -9 at every stage (30 kills)")
def test_some_kills() -> None:
    kills(30, lambda name, text: None)


@pytest.mark.fault("3, 38 kill -9 from the last outcome to the answer (40 kills)")
def test_kills_around_a_report() -> None:
    """None is lost, each is reported in time, and once more for a kill at most."""
    stages = "settling,ledger,report,sendmail,answer"
    kills(40, lambda name, text: None, "KILL", "--stages", stages)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kind", "number"), [("KILL", 100), ("BUG", 60)])
def test_more(kind: str, number: int) -> None:
    kills(number, lambda name, text: None, kind)


@pytest.mark.marathon
@pytest.mark.timeout(1800)
@pytest.mark.fault("1, 2, 3, kills kill -9 at every stage (2,000 kills)")
def test_kills(record_property: Figures) -> None:
    kills(2000, record_property)


@pytest.mark.marathon
@pytest.mark.fault("29, kills an exception at any step of any stage (500 bugs)")
def test_bugs(record_property: Figures) -> None:
    kills(500, record_property, "BUG")
