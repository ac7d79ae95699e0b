"""The launcher in its two kinds: a shell script, and compiled from C.

Each is put into an installation of its own, beside the interpreter and the package that
are tested.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import needs

ROOT = Path(__file__).parent.parent
SHELL, C = "shell", "c"
WARNINGS = (
    *("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wpedantic", "-Wshadow"),
    *("-Wconversion", "-Wformat=2", "-Wstrict-prototypes"),
)


def compiled(output: Path, *options: str) -> Path:
    """The launcher in C; options are the compiler's."""
    needs.compiler()
    done = subprocess.run(
        [ROOT / "launcher/compile", output, *WARNINGS, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return output


def made(kind: str, folder: Path) -> Path:
    """The launcher of a kind."""
    return ROOT / "bin/postfix-trouble" if kind == SHELL else compiled(folder / "made")


def beside(launcher: Path, folder: Path) -> str:
    """An installation in a new folder, with a launcher in it; the path of that."""
    venv, python = Path(sys.prefix), f"lib/python3.{sys.version_info[1]}"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python3").symlink_to(venv / "bin/python3")
    program = folder / "bin/postfix-trouble"
    shutil.copy(launcher, program)
    program.chmod(0o755)
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        # Without site, as the launcher has it, coverage would find no way in. With
        # nothing but the program beside it, it does not leave out site.
        theirs, ours = (
            venv / python / "site-packages",
            folder / python / "site-packages",
        )
        ours.mkdir(parents=True)
        (ours / "postfix_trouble").symlink_to(theirs / "postfix_trouble")
        path = f"import site; site.addsitedir({str(theirs)!r})\n"
        (ours / "all.pth").write_text(path)
        shutil.copy(venv / "pyvenv.cfg", folder)
    else:
        (folder / "lib").symlink_to(venv / "lib")
    # Others may run it, as they may the real one.
    open_to_others(folder / "bin")
    return str(program)


def open_to_others(folder: Path) -> None:
    """Let all accounts look into a directory of pytest's, which closes them."""
    for each in (folder, *folder.parents):
        mode = each.stat().st_mode
        if mode & 0o055 != 0o055:
            each.chmod(mode | 0o055)
