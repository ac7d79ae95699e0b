"""What the tests of faults share: a marker for the fault, and the program run raw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The private Postfix and the installation are those of the tests there.
sys.path.append(str(Path(__file__).parents[1] / "e2e"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "fault(title): the row that this test is in the table of faults"
        " (fault_table.py)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("fault"):
            item.user_properties.append(("fault", mark.args[0]))
