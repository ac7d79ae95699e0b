"""The table of faults, as markdown, from what a test run has left.

usage: pytest tests/faults --junitxml=FILE; fault_table.py FILE...
What a later file says of a test replaces what an earlier one says.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from xml.etree import ElementTree


def table(paths: list[str]) -> str:
    """One row for each fault: how many tests made it, and how they ended."""
    cases = {
        (case.get("classname"), case.get("name")): case
        for path in paths
        for case in ElementTree.parse(path).iter("testcase")
    }
    ends: dict[str, list[str]] = defaultdict(list)
    tests: dict[str, set[str]] = defaultdict(set)
    for case in cases.values():
        for mark in case.iter("property"):
            if mark.get("name") != "fault":
                continue
            fault = mark.get("value", "")
            bad = [e.tag for e in case if e.tag in ("failure", "error", "skipped")]
            ends[fault].append(bad[0] if bad else "passed")
            module = case.get("classname", "").rpartition(".")[2]
            name = case.get("name", "").partition("[")[0]
            tests[fault].add(f"{module}::{name}")
    rows = ["| fault | test | cases | result |", "| --- | --- | ---: | --- |"]
    for fault in sorted(ends, key=_number):
        found = ends[fault]
        result = ", ".join(
            end if len(set(found)) == 1 else f"{found.count(end)} {end}"
            for end in sorted(set(found))
        )
        where = ", ".join(f"`{test}`" for test in sorted(tests[fault]))
        rows.append(f"| {_title(fault)} | {where} | {len(found)} | {result} |")
    return "\n".join(rows)


def _number(fault: str) -> tuple[int, str]:
    found = re.match(r"\d+", fault)
    return (int(found[0]) if found else 1000, fault)


def _title(fault: str) -> str:
    return re.sub(r"^[\d, ]+", "", fault)


if __name__ == "__main__":
    print(table(sys.argv[1:]))
