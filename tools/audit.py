"""Known holes in what is installed beside the program, by pip-audit.

usage: python tools/audit.py    (or `make audit`)

Ends with 1 if there is one. No network, or a package index that knows nothing of holes,
is no reason to fail, but none for a green light either: what was not checked is said.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

LIMIT = 300
COMMAND = ("pip_audit", "--skip-editable", "--progress-spinner=off", "--format=json")
# Not from the index: there is nothing to be looked up.
OURS = "postfix-trouble"


def findings(report: dict[str, Any]) -> tuple[list[str], list[str], int]:
    """Holes, names of packages that were not checked, and how many were."""
    holes, unchecked, checked = [], [], 0
    for package in report["dependencies"]:
        name = package["name"]
        if "skip_reason" in package:
            unchecked += [] if name == OURS else [name]
            continue
        checked += 1
        for hole in package["vulns"]:
            fixed = ", ".join(hole["fix_versions"]) or "no version"
            holes.append(f"{name} {package['version']}: {hole['id']}, fixed in {fixed}")
    return holes, unchecked, checked


def report() -> dict[str, Any] | str:
    """What pip-audit says; a text if there is no answer."""
    command = [sys.executable, "-m", *COMMAND]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {LIMIT} seconds"
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["no output"]
        return lines[-1]
    return found


def main() -> int:
    """Say what was found."""
    found = report()
    if isinstance(found, str):
        print(f"!!! NOT CHECKED for known holes: {found}")
        return 0
    holes, unchecked, checked = findings(found)
    for hole in holes:
        print(hole)
    if unchecked:
        names = ", ".join(unchecked)
        print(f"!!! NOT CHECKED, the package index knows no holes of: {names}")
    print(f"{checked} packages checked, {len(holes)} known holes")
    return bool(holes)


if __name__ == "__main__":
    sys.exit(main())
