"""Many messages through a real Postfix, with kills and a mad server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

pytestmark = pytest.mark.first

SOAK = Path(__file__).with_name("soak.py")


Figures = Callable[[str, object], None]


# Who is killed in the turns of an engine.
ALL = ("engine", "launcher", r"pipe\(8\)", "nobody: restarted")


def soak(
    figures: Figures, messages: int, victims: Iterable[str], *options: str
) -> None:
    done = subprocess.run(
        [sys.executable, SOAK, "--messages", str(messages), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(done.stdout.strip().removeprefix("not shown: "))
    print(done.stdout, done.stderr)
    figures("figures", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^ *(\d+) messages$", done.stdout, re.M)
    assert found
    assert int(found[1]) == messages
    # It would show nothing if nobody was refused, or killed.
    assert re.search(r"^ *[1-9]\d* reported at once$", done.stdout, re.M)
    for victim in victims:
        assert re.search(rf"^ *[1-9]\d* killed: {victim}$", done.stdout, re.M)


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.fault(
    "soak, kills 2,000 messages through a real pipe(8), processes killed"
)
def test_messages(record_property: Figures) -> None:
    soak(record_property, 2000, ("launcher", "interpreter", r"pipe\(8\)"))


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.fault(
    "soak, engine 2,000 messages; engines, clients, pipe(8)s killed, engines restarted"
)
def test_engine(record_property: Figures) -> None:
    soak(record_property, 2000, ALL, "--engine")


@pytest.mark.e2e
@pytest.mark.more
@pytest.mark.timeout(600)
def test_engine_quickly(record_property: Figures) -> None:
    soak(record_property, 100, ["engine"], "--engine", "--kills", "6")
