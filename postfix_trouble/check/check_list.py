"""The findings of a check, for a person and for a program."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from postfix_trouble.check.findings import Finding, Severity, exit_code
from postfix_trouble.report.log import printable
from postfix_trouble.terminal.columns import Paint, plain, wrapped

VERSION = 1
_COLOURS = {
    Severity.ERROR: "red",
    Severity.WARNING: "yellow",
    Severity.NOTE: "cyan",
    Severity.OK: "green",
}
_WIDTH = max(len(severity.value) for severity in Severity) + 1


def text(
    findings: Iterable[Finding], width: int, paint: Paint = plain
) -> Iterator[str]:
    """The lines: what was found, what it means for mail, how to fix it."""
    for finding in findings:
        severity = finding.severity
        head = f"{finding.about}: {finding.problem}"
        lines = wrapped(printable(head), width - _WIDTH)
        word = paint(_COLOURS[severity], severity.value.ljust(_WIDTH))
        yield f"{word}{lines[0]}"
        rest = lines[1:]
        for label, words in (
            ("mail: ", finding.consequence),
            ("fix: ", finding.remedy),
        ):
            if words:
                room = width - _WIDTH - len(label)
                first, *others = wrapped(printable(words), room)
                rest.append(f"{label}{first}")
                rest += (" " * len(label) + line for line in others)
        yield from (" " * _WIDTH + line for line in rest)


def summary(findings: Sequence[Finding]) -> str:
    """How many there are of what."""
    counts = [
        (sum(f.severity is severity for f in findings), severity.value)
        for severity in (Severity.ERROR, Severity.WARNING)
    ]
    words = [f"{n or 'no'} {word}{'' if n == 1 else 's'}" for n, word in counts]
    return ", ".join(words)


def as_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as a JSON object: public, and versioned."""
    return {
        "version": VERSION,
        "exit_status": exit_code(findings),
        "findings": [
            {"severity": word.value, "about": about, "problem": problem,
             "consequence": consequence, "remedy": remedy}
            for word, about, problem, consequence, remedy, _ in findings
        ],
    }  # fmt: skip
