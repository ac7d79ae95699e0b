"""What a check finds: how bad it is, what it means for mail, and how to fix it."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterable

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.sysexits import EX_CONFIG, EX_OK
from postfix_trouble.core.value import Value


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
