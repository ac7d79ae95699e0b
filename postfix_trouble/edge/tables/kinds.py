"""What all tables have in common."""

from __future__ import annotations

from typing import Protocol


class TableError(Exception):
    """A look-up could not be made, or gave nothing that can be used.

    Always soft: what was asked for may well be in the table. One line, which starts
    with the name of the parameter once it has left Maps.
    """


class Table(Protocol):
    """One table of a list."""

    # Of keys as they are, not of patterns: parts of an address are keys, too.
    fixed: bool

    def find(self, key: str, fold: bool) -> str | None:
        """The value of a key, None if there is none. Raises TableError."""
        ...
