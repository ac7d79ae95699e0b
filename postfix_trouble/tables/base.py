"""What all tables have in common."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations


class TableUnusable(Exception):
    """Why one table can't be searched. Becomes a TableError in Maps."""


class NoLibraryError(Exception):
    """A library for regular expressions is not there, or not one that is known."""


class Table:
    """One table of a list."""

    # Of keys as they are, not of patterns: parts of an address are keys, too.
    fixed = True
    # Under smtputf8_enable = yes: letters beyond ASCII have two cases, too.
    utf8 = False

    def find(self, key: str, fold: bool) -> str | None:
        """The value of a key, None if there is none. Raises TableUnusable."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what is held open, if anything."""
