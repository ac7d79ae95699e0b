"""docs/tls.md: each row of the table is shown by a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/tls.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.count("|") == 10 and not line.startswith(("| what |", "| ---"))
]


def test_there_are_rows() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_row_is_shown_by_a_test(row: list[str]) -> None:
    *_, here, shown = row
    if here == "no":
        assert not shown
        return
    assert re.fullmatch(r"tests/[\w/]+\.py::test_\w+", shown)
    path, _, name = shown.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    names = [x.name for x in tree.body if isinstance(x, ast.FunctionDef)]
    assert name in names
