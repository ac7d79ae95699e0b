"""Write the tables of docs/reliability.md from what test runs have left.

usage: python tools/reliability.py FILE...    (`make reliability` does it all)

FILE.xml: what pytest --junitxml has written. FILE.txt: what the long soak has printed.
Between `<!-- made: NAME -->` and `<!-- end -->`: the tables, and the figures. A part of
which no file tells anything stays as it is.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reliability.md"
sys.path.insert(0, str(ROOT / "tests"))

from reliability_rows import ATTACKS, FAULTS, done, key  # noqa: E402

_PART = re.compile(r"(?s)<!-- made: (\w+) -->\n.*?<!-- end -->")
_BAD = ("failure", "error", "skipped")


class Case(NamedTuple):
    """One test of a run."""

    # Its file, from the root, and its name without parameters.
    path: str
    name: str
    # "passed", or how it ended otherwise.
    end: str
    # Kind and text: fault, attack, figures.
    properties: tuple[tuple[str, str], ...]


def cases(paths: Iterable[Path]) -> list[Case]:
    """All tests. What a later file says of one replaces what an earlier one says."""
    found = {
        (case.get("classname", ""), case.get("name", "")): case
        for path in paths
        for case in ElementTree.parse(path).iter("testcase")
    }
    return [_case(*where, case) for where, case in found.items()]


def _case(where: str, name: str, case: ElementTree.Element) -> Case:
    words = where.split(".")
    last = max(n for n, word in enumerate(words) if word.startswith("test_"))
    bad = [element.tag for element in case if element.tag in _BAD]
    return Case(
        "/".join(words[: last + 1]) + ".py",
        ".".join([*words[last + 1 :], name.partition("[")[0]]),
        bad[0] if bad else "passed",
        tuple(
            (mark.get("name", ""), mark.get("value", ""))
            for mark in case.iter("property")
        ),
    )


def ends(found: list[Case]) -> str:
    """How some tests ended, in a word if all ended in the same way."""
    all_ends = [case.end for case in found]
    counts = {end: all_ends.count(end) for end in sorted(set(all_ends))}
    if len(counts) == 1:
        return all_ends[0]
    return ", ".join(f"{count} {end}" for end, count in counts.items())


def _tests(found: list[Case]) -> str:
    where = sorted({(case.path, case.name) for case in found})
    links = [f"[{name}](../{path})" for path, name in where]
    return ", ".join(links)


def by_mark(kind: str, all_cases: list[Case]) -> dict[str, list[Case]]:
    """The tests that have each mark of a kind."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in all_cases:
        for name, mark in case.properties:
            if name == kind:
                found[mark].append(case)
    return dict(found)


def faults(all_cases: list[Case]) -> Iterator[str]:
    """One row for each fault and way to make it."""
    marks = by_mark("fault", all_cases)
    yield "| | fault | must end as | what was done | by | times | result |"
    yield "| ---: | --- | --- | --- | --- | ---: | --- |"
    for number, (fault, end) in FAULTS.items():
        for mark in sorted(mark for mark in marks if number in key(mark)):
            found = marks[mark]
            yield (
                f"| {number} | {fault} | {end} | {done(mark)} | {_tests(found)}"
                f" | {len(found)} | {ends(found)} |"
            )


def attacks(all_cases: list[Case]) -> Iterator[str]:
    """The same for attacks."""
    marks = by_mark("attack", all_cases)
    yield "| attack on | must end as | what was done | by | times | result |"
    yield "| --- | --- | --- | --- | ---: | --- |"
    for name, end in ATTACKS.items():
        for mark in sorted(mark for mark in marks if name in key(mark)):
            found = marks[mark]
            yield (
                f"| {name} | {end} | {done(mark)} | {_tests(found)}"
                f" | {len(found)} | {ends(found)} |"
            )


def figures(all_cases: list[Case]) -> Iterator[str]:
    """What harness and soak have printed."""
    for case in all_cases:
        for name, text in case.properties:
            if name == "figures":
                yield from (f"[{case.name}](../{case.path}), {case.end}:", "")
                yield from (f"    {line}" for line in text.rstrip().splitlines())
                yield ""


def when() -> str:
    """Where and when it was measured."""
    command = ["/usr/sbin/postconf", "-dh", "mail_version"]
    version = subprocess.run(command, capture_output=True, text=True, check=False)
    return (
        f"{time.strftime('%Y-%m-%d')}, Postfix {version.stdout.strip()},"
        f" Python {platform.python_version()}, {os.cpu_count()} processors"
    )


def updated(page: str, made: dict[str, list[str]]) -> str:
    """The page with those parts made anew."""

    def part(found: re.Match[str]) -> str:
        lines = made.get(found[1])
        if lines is None:
            return found[0]
        text = "\n".join(lines).strip()
        return f"<!-- made: {found[1]} -->\n\n{text}\n\n<!-- end -->"

    return _PART.sub(part, page)


def main(paths: list[Path]) -> int:
    """Write the page. 1 if not all has passed, or a row has no test."""
    made: dict[str, list[str]] = {}
    all_cases = cases(path for path in paths if path.suffix == ".xml")
    if all_cases:
        made["faults"] = [f"{when()}.", "", *faults(all_cases)]
        made["attacks"] = list(attacks(all_cases))
        made["figures"] = list(figures(all_cases))
    for path in paths:
        if path.suffix == ".txt":
            lines = path.read_text().rstrip().splitlines()
            made["soak"] = [f"{when()}:", "", *(f"    {line}" for line in lines)]
    PAGE.write_text(updated(PAGE.read_text(), made))
    bad = [case for case in all_cases if case.end != "passed"]
    for case in bad:
        print(f"{case.end}: {case.path} {case.name}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
