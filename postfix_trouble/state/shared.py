"""The file behind the state, in a process that stays: many threads, one connection.

What several of them have to write at the same time goes into one transaction, so that
they wait for the disk together: whoever finds the file free writes for all that wait.
Reading has a connection of its own, and waits for nobody.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from postfix_trouble.state.database import Database, StateProblem

if TYPE_CHECKING:
    from sqlite3 import Connection
    from typing import TypeVar

    T = TypeVar("T")

_LOST = StateProblem("the transaction was not carried out")


class _Job:
    """What one thread wants written, and what came of it."""

    def __init__(self, work: Callable[[Connection], Any], durable: bool) -> None:
        self.work = work
        self.durable = durable
        self.done = False
        self.result: Any = _LOST


class SharedDatabase(Database):
    """One connection to write by, and one to read by."""

    # Nobody has to read the log of a process that goes on.
    log_pages = 1000
    sweep_interval = 1.0

    def __init__(
        self, directory: str, note: Callable[[str], None], clock: Callable[[], float]
    ) -> None:
        super().__init__(directory, note, clock)
        self._reader = Database(directory, note, clock)
        self._waiting: list[_Job] = []
        self._waiting_lock = allocate_lock()

    def read(self, work: Callable[[Connection], T]) -> T | StateProblem:
        """Run one SELECT; it waits for nobody who writes."""
        return self._reader.read(work)

    def write(
        self, work: Callable[[Connection], T], *, durable: bool = False
    ) -> T | StateProblem:
        """Run a transaction, maybe together with those of others. If durable, it is on
        the disk when this returns. `work` may be called twice."""
        job = _Job(work, durable)
        with self._waiting_lock:
            self._waiting.append(job)
        with self.turn:
            if not job.done:
                self._write_all()
        result: T | StateProblem = job.result
        return result

    def later(self, work: Callable[[Connection], None]) -> StateProblem | None:
        """Run a transaction together with the next one of somebody, or at the end."""
        with self._waiting_lock:
            self._waiting.append(_Job(work, durable=False))
        return None

    def close(self) -> None:
        """Write what waits, and close both connections; the next use opens them."""
        with self.turn:
            self._write_all()
            self.close_connection()
        self._reader.close()

    def _write_all(self) -> None:
        """Write what everybody waits for: together, or else each for itself."""
        with self._waiting_lock:
            jobs, self._waiting = self._waiting, []
        if len(jobs) > 1 and self._together(jobs):
            return
        for job in jobs:
            try:
                job.result = self.transact(job.work, durable=job.durable)
            finally:
                job.done = True

    def _together(self, jobs: list[_Job]) -> bool:
        def work(connection: Connection) -> list[Any]:
            return [job.work(connection) for job in jobs]

        durable = any(job.durable for job in jobs)
        results = self.transact(work, durable=durable)
        if isinstance(results, StateProblem):
            # One of them may be to blame, and the others not.
            return False
        for job, result in zip(jobs, results, strict=True):
            job.result, job.done = result, True
        return True
