"""Whose a file is that an account can't use, and the command that helps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import needs
from postfix_trouble.check import account
from postfix_trouble.check.account import ENTER, Account, denied, state_directory

pytestmark = needs.as_root
# Numbers that nobody has.
WHO = Account("trouble", 64242, 64243)
STAYS = "all mail is deferred"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account may enter."""
    with TemporaryDirectory(prefix="postfix-trouble-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def closed(path: Path, mode: int, uid: int = 0, gid: int = 0) -> Path:
    path.touch()
    path.chmod(mode)
    os.chown(path, uid, gid)
    return path


def test_files(place: Path) -> None:
    path = closed(place / "main.cf", 0o640)
    found = denied("x", str(path), WHO, STAYS)
    assert found
    assert found.problem == f"{path} is root:root's, mode 0640, closed to trouble"
    assert found.remedy == f"chgrp 64243 {path}; chmod g+r {path}"
    os.chown(path, 0, WHO.gid)
    assert denied("x", str(path), WHO, STAYS) is None
    found = denied("x", str(closed(path, 0o044, WHO.uid)), WHO, STAYS)
    assert found
    assert found.remedy == f"chmod u+r {path}"


def test_directories(place: Path) -> None:
    above = place / "above"
    above.mkdir(mode=0o700)
    path = closed(above / "a b", 0o644)
    found = denied("x", str(path), WHO, STAYS)
    assert found
    assert found.problem.startswith(f"{path} can't be used: {above} is root:root's")
    assert found.remedy == f"chmod a+x {above}"
    found = denied("x", str(above), WHO, STAYS, ENTER)
    assert found
    assert found.remedy == f"chgrp 64243 {above}; chmod g+rx {above}"
    above.chmod(0o755)
    path.chmod(0o600)
    found = denied("x", str(path), WHO, STAYS)
    assert found
    assert found.remedy == f"chgrp 64243 '{path}'; chmod g+r '{path}'"
    found = denied("x", str(above / "none"), WHO, STAYS)
    assert found
    assert found.problem == f"{above}/none does not exist"


def test_state_directories(place: Path) -> None:
    path = place / "state"
    make = f"install -d -o trouble -g 64243 -m 700 {path}"

    def remedy() -> str:
        found = state_directory("x", str(path), WHO)
        return found.remedy if found else ""

    assert remedy() == make
    path.touch()
    assert remedy() == f"mv {path} {path}.old; {make}"
    path.unlink()
    path.mkdir(mode=0o700)
    assert remedy() == f"chown trouble {path}"
    (path / "state-1.sqlite").touch()
    assert remedy() == f"chown -R trouble {path}"
    os.chown(path, WHO.uid, WHO.gid)
    found = state_directory("x", str(path), WHO)
    assert found
    assert "has state-1.sqlite, which is root:root's" in found.problem
    assert found.remedy == f"chown -R trouble {path}"
    os.chown(path / "state-1.sqlite", WHO.uid, WHO.gid)
    assert remedy() == ""
    path.chmod(0o770)
    assert remedy() == f"chmod go-w {path}"
    path.chmod(0o600)
    assert remedy() == f"chmod u+rx {path}"
    place.chmod(0o700)
    path.chmod(0o700)
    assert remedy() == f"chmod a+x {place}"
    # It may be made where the account may make it.
    inner = closed_directory(place)
    assert state_directory("x", str(inner / "state"), WHO) is None


def closed_directory(place: Path) -> Path:
    place.chmod(0o755)
    inner = place / "inner"
    inner.mkdir(mode=0o700)
    os.chown(inner, WHO.uid, WHO.gid)
    return inner


def test_what_a_text_names_is_readable_for_root(place: Path) -> None:
    path = closed(place / "passwords", 0o600)
    assert account.to_read(f"open {path}: Permission denied") == ""
