"""Many messages through a real Postfix, with kills and a mad server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).with_name("soak.py")


def soak(messages: int, seconds: int) -> None:
    done = subprocess.run(
        [sys.executable, SOAK, "--messages", str(messages), "--seconds", str(seconds)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(done.stdout.strip().removeprefix("not shown: "))
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^ *(\d+) messages$", done.stdout, re.M)
    assert found
    assert int(found[1]) == messages


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.fault("soak through a real pipe(8), processes killed (300 messages)")
def test_messages() -> None:
    soak(300, 180)
