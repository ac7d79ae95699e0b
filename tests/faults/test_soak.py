"""Many messages through a real Postfix, with kills and a mad server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SOAK = Path(__file__).with_name("soak.py")


Figures = Callable[[str, object], None]


def soak(messages: int, seconds: int, figures: Figures) -> None:
    done = subprocess.run(
        [sys.executable, SOAK, "--messages", str(messages), "--seconds", str(seconds)],
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
    for victim in ("launcher", "interpreter", r"pipe\(8\)"):
        assert re.search(rf"^ *[1-9]\d* killed: {victim}$", done.stdout, re.M)


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.fault(
    "soak, kills 2,000 messages through a real pipe(8), processes killed"
)
def test_messages(record_property: Figures) -> None:
    soak(2000, 600, record_property)
