"""What is remembered between delivery requests: one SQLite file in one directory.

- the ledger: recipients of unfinished requests for whom nothing is left to try. A
  promise hangs on it, so its rows are on the disk when record() returns;
- destinations in trouble, refused log-ins, OAuth tokens, MTA-STS policies, notices
  sent: advisory.
  Without them things are slower, never wrong, so any problem is noted and ignored.

No method raises for what the file system or SQLite do: the ledger returns a
StateProblem, all others go on as if nothing were known. Not to be carried over a
fork(); threads may share a State. Locks are those of a ledger: see new_ledger().
"""

from __future__ import annotations

import time
from collections.abc import Callable

from postfix_trouble.state.database import Database, StateProblem, directory_problem
from postfix_trouble.state.ledger import Ledger, Lock, request_key
from postfix_trouble.state.memory import (
    Destinations,
    Logins,
    Notices,
    Refusal,
    StsPolicies,
    Tokens,
)

__all__ = [
    "Destinations",
    "Ledger",
    "Lock",
    "Logins",
    "Notices",
    "Refusal",
    "State",
    "StateProblem",
    "StsPolicies",
    "Tokens",
    "request_key",
]


class State:
    """The state directory. Cheap to open: the database is opened at the first use."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.ledger = Ledger(database)
        self.destinations = Destinations(database)
        self.logins = Logins(database)
        self.tokens = Tokens(database)
        self.notices = Notices(database)
        self.sts_policies = StsPolicies(database)

    @classmethod
    def open(
        cls,
        directory: str,
        note: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.time,
        stays: bool = False,
    ) -> State | StateProblem:
        """Check the directory, and create it if there is none (mode 0700).

        `note` is told of problems that are ignored, one line each. `clock` counts
        seconds since 1970. `stays`: it is used by many threads, for a long time.
        """
        problem = directory_problem(directory)
        if problem:
            return StateProblem(f"state directory {directory}: {problem}")
        if not stays:
            return cls(Database(directory, note, clock))
        from postfix_trouble.state.shared import SharedDatabase

        return cls(SharedDatabase(directory, note, clock))

    def new_ledger(self) -> Ledger:
        """The ledger for one request: its locks are its own."""
        return Ledger(self._database)

    def inspect(self) -> tuple[str, ...] | StateProblem:
        """Look for damage, and describe what is there, for an administrator."""
        return self._database.read(self._database.describe)

    def close(self) -> None:
        """Let go of the database and of all locks."""
        self.ledger.unlock()
        self._database.close()
