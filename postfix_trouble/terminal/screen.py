"""Where the output of commands for people goes: its width, its colours, its end."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from typing import TextIO

from postfix_trouble.terminal.columns import Paint

_NARROWEST, _WIDEST, _UNBROKEN = 40, 100, 1 << 30
_CODES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def width() -> int:
    """Columns to write in: those of the terminal, or of COLUMNS, within reason."""
    columns = shutil.get_terminal_size((80, 24)).columns
    return max(_NARROWEST, min(columns, _WIDEST))


def line_width() -> int:
    """Columns that a line of results may have: what goes to a file or a program is not
    broken into lines."""
    return width() if sys.stdout.isatty() else _UNBROKEN


def painter(stream: TextIO | None = None) -> Paint:
    """What colours text for a stream (standard output): on a terminal only, and not
    where NO_COLOR is set (no-color.org)."""
    from postfix_trouble.terminal.columns import plain

    stream = stream or sys.stdout
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return _paint if wanted and stream.isatty() else plain


def _paint(colour: str, text: str) -> str:
    code = _CODES.get(colour)
    return f"\x1b[{code}m{text}\x1b[0m" if code and text.strip() else text


def write(text: str) -> None:
    """Write to standard output. If nobody reads on, or there is no room, the command
    goes on all the same, for its exit code."""
    try:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except OSError as problem:
        if not isinstance(problem, BrokenPipeError):
            complain(f"postfix-trouble: standard output: {problem.strerror}")
        drop_output()


def write_lines(lines: Iterable[str]) -> None:
    """Write lines; nothing where there are none."""
    if text := "".join(f"{line}\n" for line in lines):
        write(text)


def write_json(shown: object) -> None:
    """Write an object, in one line."""
    import json

    write(f"{json.dumps(shown)}\n")


def drop_output() -> None:
    """Nobody reads standard output any more: what is still to come goes nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def complain(text: str) -> None:
    """Write a line to standard error, best effort."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        pass
