"""What a check finds: how bad it is, what it means for mail, and how to fix it."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.sysexits import EX_CONFIG, EX_OK
from postfix_trouble.core.value import Value
from postfix_trouble.report.log import printable
from postfix_trouble.terminal.columns import Paint, plain, wrapped


class Severity(Choice):
    """How bad it is."""

    # Mail is deferred, returned or goes a wrong way because of this.
    ERROR = "error"
    # It may, some day.
    WARNING = "warning"
    # Worth knowing.
    NOTE = "note"
    # Looked at, and found to be in order.
    OK = "ok"


class Finding(Value):
    """One thing that was looked at."""

    severity: Severity
    # File, line and service, parameter, or whatever was looked at.
    about: str
    problem: str
    # What happens to mail.
    consequence: str = ""
    remedy: str = ""
    # The entries of master.cf whose account sees it so; empty: it is so for all.
    seen_by: str = ""


def error(about: str, problem: str, consequence: str, remedy: str) -> Finding:
    """Mail suffers."""
    return Finding(Severity.ERROR, about, problem, consequence, remedy)


def warning(about: str, problem: str, consequence: str, remedy: str) -> Finding:
    """Mail may suffer."""
    return Finding(Severity.WARNING, about, problem, consequence, remedy)


def note(about: str, text: str, consequence: str = "", remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(Severity.NOTE, about, text, consequence, remedy)


def fine(about: str, text: str) -> Finding:
    """In order."""
    return Finding(Severity.OK, about, text)


def once(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once, with all entries that see it so in front."""
    seen: dict[Finding, list[str]] = {}
    for each in findings:
        seen.setdefault(each._replace(seen_by=""), []).append(each.seen_by)
    return [
        each if "" in by else each._replace(about=f"{'; '.join(by)}: {each.about}")
        for each, by in seen.items()
    ]


def exit_code(findings: Iterable[Finding]) -> int:
    """0, or 78 if there is an error."""
    bad = any(finding.severity is Severity.ERROR for finding in findings)
    return EX_CONFIG if bad else EX_OK


# --- for people and for programs ----------------------------------------------------

VERSION = 1
_COLOURS = {
    Severity.ERROR: "red",
    Severity.WARNING: "yellow",
    Severity.NOTE: "cyan",
    Severity.OK: "green",
}
_WIDTH = max(len(severity.value) for severity in Severity) + 1


def text_lines(
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
