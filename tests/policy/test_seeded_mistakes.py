"""The tests of the heart notice mistakes: each of a list of seeded ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

import seeded_mistakes
from seeded_mistakes import MISTAKES, PACKAGE

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def results() -> dict[int, str]:
    """For each mistake: noticed, missed, or broken (the edit does not fit any more)."""
    done = subprocess.run(
        [sys.executable, seeded_mistakes.__file__],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = (line.split() for line in done.stdout.splitlines())
    return {int(number): word for number, word in lines}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "number",
    range(len(MISTAKES)),
    ids=[f"{m.file}-{m.text.strip()[:40]}" for m in MISTAKES],
)
def test_mistake_is_noticed(results: dict[int, str], number: int) -> None:
    mistake = MISTAKES[number]
    source = (PACKAGE / mistake.file).read_text()
    assert source.count(mistake.text) == 1, "the mistake does not fit the source"
    assert results[number] == "noticed"
