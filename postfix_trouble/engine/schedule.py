"""Which request is delivered next.

In the order in which they came, but no nexthop gets more than its share of the
deliveries that are made at once: a server that never answers must not keep the mail of
all others waiting. And a nexthop that has not answered yet gets few, and one more
with each answer, as from the queue manager (initial_destination_concurrency). With the
recipient limit at 1 that one does not see that it is one destination.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

# The part of all deliveries that one nexthop may have.
_SHARE = 0.5
# What one gets before it has answered (Postfix's initial_destination_concurrency).
_FIRST = 5


class _Wanted(Protocol):
    @property
    def nexthop(self) -> str: ...


T = TypeVar("T", bound=_Wanted)


class Schedule(Generic[T]):
    """Requests that wait, and how many of each nexthop are under way. Thread-safe."""

    def __init__(self, most: int, start_worker: Callable[[], None]) -> None:
        """`most`: deliveries at once. `start_worker` is called for each of them when it
        is first needed; the worker calls next() and done()."""
        self._most = most
        self._share = max(1, int(most * _SHARE))
        self._start_worker = start_worker
        self._waiting: list[T] = []
        self._running: dict[str, int] = {}
        # How many a nexthop may have; those that are not here have not answered.
        self._allowed: dict[str, int] = {}
        self._workers = 0
        self._idle = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, request: T) -> None:
        """A request has come."""
        with self._changed:
            self._waiting.append(request)
            self._staff(self._idle)
            self._changed.notify()

    def next(self) -> T | None:
        """Wait for a request that may be delivered; None: there won't be any."""
        with self._changed:
            self._idle += 1
            try:
                while True:
                    for place, one in enumerate(self._waiting):
                        if self._may_run(one):
                            running = self._running.get(one.nexthop, 0)
                            self._running[one.nexthop] = running + 1
                            return self._waiting.pop(place)
                    if self._closed:
                        return None
                    self._changed.wait()
            finally:
                self._idle -= 1

    def done(self, request: T, answered: bool = True) -> None:
        """It is delivered, or given up. `answered`: its nexthop is alive."""
        with self._changed:
            name = request.nexthop
            self._running[name] -= 1
            if not self._running[name]:
                del self._running[name]
                self._allowed.pop(name, None)
            elif answered:
                self._allowed[name] = self._allowed.get(name, _FIRST) + 1
            # This worker is about to look for another one.
            self._staff(self._idle + 1)
            self._changed.notify()

    def close(self) -> None:
        """No more will come: workers that have nothing to do get None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _staff(self, idle: int) -> None:
        """Start a worker if a request could be delivered that no idle one takes."""
        if self._workers == self._most or len(self._waiting) <= idle:
            return
        room: dict[str, int] = {}
        ready = 0
        for one in self._waiting:
            left = room.setdefault(one.nexthop, self._room(one.nexthop))
            ready += left > 0
            room[one.nexthop] -= 1
        if ready > idle:
            try:
                self._start_worker()
                self._workers += 1
            except RuntimeError:
                # No room for a thread: those that are there will do, or nobody.
                pass

    def _may_run(self, request: T) -> bool:
        return self._room(request.nexthop) > 0

    def _room(self, nexthop: str) -> int:
        allowed = min(self._share, self._allowed.get(nexthop, _FIRST))
        return allowed - self._running.get(nexthop, 0)
