"""Findings as text, each sentence of them, compared with a golden file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from postfix_trouble.check.findings import Finding

GOLDEN = Path(__file__).parent / "golden"
# Set it to write the files anew; look at the difference then.
RENEW = "POSTFIX_TROUBLE_RENEW_GOLDEN"


def spelled_out(case: str, findings: Iterable[Finding]) -> str:
    """A case, and all that is found."""
    lines = [f"[{case}]"]
    for each in findings:
        lines.append(f"{each.severity.value}: {each.about}: {each.problem}")
        lines += [f"    so: {each.consequence}"] if each.consequence else []
        lines += [f"    do: {each.remedy}"] if each.remedy else []
    return "\n".join(lines) + "\n\n"


def assert_as_written_down(name: str, text: str) -> None:
    """Compare with a golden file."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get(RENEW):
        path.write_text(text)
    assert text == path.read_text(), f"not as in {path.name}; see {RENEW}"
