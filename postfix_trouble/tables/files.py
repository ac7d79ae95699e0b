"""Tables that are files in text form, or stand in the configuration itself."""

from __future__ import annotations

import os
import stat

from postfix_trouble.config.lines import logical_lines
from postfix_trouble.config.masking import shown
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.tables.base import Table, TableUnusable
from postfix_trouble.tables.text import (
    SyntaxProblem,
    fold_case,
    inline_lines,
    inline_table,
    is_utf8,
    numbered,
    text_table,
)

if TYPE_CHECKING:
    from postfix_trouble.tables.patterns import PatternTable

# The largest file that is taken for a table in text form, in bytes.
SIZE_LIMIT = 100_000_000


def read_text(path: str, secret: bool = False) -> str:
    """A whole file. Raises TableUnusable, also for a secret that others may read."""
    try:
        # A pipe or a device must not make us wait for somebody to open its other end.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if secret:
                refuse_open_to_others(path, status)
            if not stat.S_ISREG(status.st_mode):
                raise TableUnusable(f"open {path}: not a regular file")
            if status.st_size > SIZE_LIMIT:
                raise TableUnusable(f"open {path}: larger than {SIZE_LIMIT} bytes")
            return file.read().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise TableUnusable(f"open {path}: {error.strerror}") from None


def refuse_open_to_others(path: str, status: os.stat_result | None = None) -> None:
    """Raise TableUnusable when more than owner and group may read a file."""
    try:
        mode = (status or os.stat(path)).st_mode
    except OSError as error:
        raise TableUnusable(f"open {path}: {error.strerror}") from None
    if mode & stat.S_IROTH:
        raise TableUnusable(
            f"{path} holds passwords, but anyone can read it; run: chmod o= {path}"
        )


class FixedTable(Table):
    """texthash and inline: keys and values in memory."""

    def __init__(self, entries: dict[str, str], last_counts: bool = False) -> None:
        self._entries = entries
        self._folded: dict[str, str] | None = None
        self._last_counts = last_counts

    def find(self, key: str, fold: bool) -> str | None:
        """The value of a key."""
        if not fold:
            return self._entries.get(key)
        if self._folded is None:
            pairs = list(self._entries.items())
            # Of two keys that differ in case only, the one that comes last in here.
            ordered = pairs if self._last_counts else reversed(pairs)
            folded = ((fold_case(name, self.utf8), value) for name, value in ordered)
            self._folded = dict(folded)
        return self._folded.get(fold_case(key, self.utf8))


def open_text(name: str, secret: bool, utf8: bool) -> tuple[FixedTable, list[str]]:
    """Read a texthash file; and what to warn of."""
    entries, warnings = text_table(read_text(name, secret), name, utf8)
    return FixedTable(entries), warnings


def open_inline(name: str, utf8: bool) -> FixedTable:
    """Take an inline table from its name."""
    if utf8 and not is_utf8(name):
        raise TableUnusable("bad UTF-8 syntax")
    try:
        return FixedTable(inline_table(name), last_counts=True)
    except SyntaxProblem as problem:
        raise TableUnusable(str(problem)) from None


def open_rules(kind: str, name: str, secret: bool) -> tuple[PatternTable, list[str]]:
    """Read a table of patterns, from a file or from its own name.

    Raises NoLibraryError where the library for its expressions is not installed.
    """
    from postfix_trouble.tables.patterns import parse

    compile_expression = None
    if kind != "cidr":
        from postfix_trouble.tables.expressions import perl, posix

        compile_expression = posix if kind == "regexp" else perl

    if not name.startswith("{"):
        lines = logical_lines(read_text(name, secret))
    else:
        try:
            lines = iter(numbered(inline_lines(name)))
        except SyntaxProblem as problem:
            raise TableUnusable(str(problem)) from None
    place = shown(f"{kind} map:{name}").replace(":", " ", 1)
    table = parse(lines, place, kind, compile_expression)
    return table, table.warnings
