"""docs/reliability.md has all that is tested, and all that may happen is tested."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from reliability_rows import ATTACKS, FAULTS, done, key

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/reliability.md").read_text()
ROWS: dict[str, Any] = {"fault": FAULTS, "attack": ATTACKS}


def marks(kind: str) -> set[str]:
    """What the tests are marked with."""
    pattern = rf'mark\.{kind}\(\s*"([^"]*)"'
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return {m for file in files for m in re.findall(pattern, file.read_text())}


@pytest.mark.parametrize("kind", ROWS)
def test_every_row_is_shown_by_a_test(kind: str) -> None:
    shown = {name for mark in marks(kind) for name in key(mark)}
    assert shown == set(ROWS[kind])


@pytest.mark.parametrize("kind", ROWS)
def test_every_test_is_in_the_page(kind: str) -> None:
    missing = {m for m in marks(kind) if f" | {done(m)} | " not in PAGE}
    assert missing == set(), "run `make reliability`"


def test_what_is_in_the_page_has_passed() -> None:
    results = re.findall(r"(?m)^\|.*\| (\d+) \| ([\w, ]+) \|$", PAGE)
    assert len(results) > len(FAULTS)
    assert {result for _, result in results} == {"passed"}
