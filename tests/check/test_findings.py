"""What a check's findings are worth."""

from __future__ import annotations

import pytest

from postfix_trouble.check.findings import (
    Finding,
    Severity,
    error,
    exit_code,
    fine,
    note,
    once,
    warning,
)

ERROR = error("a", "b", "c", "d")
WARNING = warning("a", "b", "c", "d")
NOTE = note("a", "b", "c", "d")
FINE = fine("a", "b")


def test_what_is_told() -> None:
    every = [ERROR, WARNING, NOTE]
    assert [x.severity.value for x in every] == ["error", "warning", "note"]
    assert {x[1:5] for x in every} == {("a", "b", "c", "d")}
    assert tuple(FINE) == (Severity.OK, "a", "b", "", "", "")
    assert FINE.severity.value == "ok"
    assert tuple(note("a", "b")) == (Severity.NOTE, "a", "b", "", "", "")


@pytest.mark.parametrize(
    ("findings", "code"),
    [((), 0), ((FINE, NOTE, WARNING), 0), ((FINE, ERROR, WARNING), 78)],
)
def test_only_errors_make_it_fail(findings: tuple[Finding, ...], code: int) -> None:
    assert exit_code(findings) == code


def test_each_finding_once() -> None:
    one = error("a", "b", "c", "d")
    seen = [one._replace(seen_by="x, as me"), one._replace(seen_by="y, as me")]
    other = error("a", "b", "c", "chown me")._replace(seen_by="x, as me")
    assert once([*seen, other]) == [
        one._replace(about="x, as me; y, as me: a"),
        error("x, as me: a", "b", "c", "chown me"),
    ]
    assert once([*seen, one, one]) == [one]
