"""What all tables have in common."""

from __future__ import annotations

from typing import Protocol


class TableProblem(Exception):
    """Why one table can't be searched. Becomes a TableError in Maps."""


def shown(spec: str) -> str:
    """A table's type:name for messages: what is in braces may be a password."""
    kind, _, name = spec.partition(":")
    return f"{kind}:{{...}}" if name.lstrip().startswith("{") else spec


class Table(Protocol):
    """One table of a list."""

    # Of keys as they are, not of patterns: parts of an address are keys, too.
    fixed: bool

    def find(self, key: str, fold: bool) -> str | None:
        """The value of a key, None if there is none. Raises TableProblem."""
        ...
