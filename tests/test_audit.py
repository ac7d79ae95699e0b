"""What `make audit` says of what it has found, and of what it could not find."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import audit

WELL = {"name": "click", "version": "8.1", "vulns": []}
HOLE = {
    "name": "idna",
    "version": "3.3",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.7"]}],
}
UNKNOWN = {"name": "scramp", "skip_reason": "Dependency not found"}
OURS = {"name": "postfix-trouble", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ({"dependencies": [WELL, OURS]}, 0, ["1 packages checked, 0 known holes"]),
        (
            {"dependencies": [WELL, HOLE]},
            1,
            ["idna 3.3: PYSEC-1, fixed in 3.7", "2 packages checked, 1 known holes"],
        ),
        (
            {"dependencies": [UNKNOWN]},
            0,
            [
                "!!! NOT CHECKED, the package index knows no holes of: scramp",
                "0 packages checked, 0 known holes",
            ],
        ),
        ("no network", 0, ["!!! NOT CHECKED for known holes: no network"]),
    ],
    ids=["well", "a hole", "unknown to the index", "no network"],
)
def test_what_is_said(
    found: object,
    code: int,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(audit, "report", lambda: found)
    assert audit.main() == code
    assert capsys.readouterr().out.splitlines() == words
