"""Which request is delivered next.

In the order in which they came, but no nexthop gets more than its share of the
deliveries that are made at once: a server that never answers must not keep the mail of
all others waiting. With the recipient limit at 1 the queue manager does not see that it
is one destination.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

# The part of all deliveries that one nexthop may have.
_SHARE = 0.5


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
        self._workers = 0
        self._idle = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, request: T) -> None:
        """A request has come."""
        with self._changed:
            self._waiting.append(request)
            ready = sum(1 for one in self._waiting if self._may_run(one))
            if ready > self._idle and self._workers < self._most:
                try:
                    self._start_worker()
                    self._workers += 1
                except RuntimeError:
                    # No room for a thread: those that are there will do, or nobody.
                    pass
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

    def done(self, request: T) -> None:
        """It is delivered, or given up."""
        with self._changed:
            left = self._running[request.nexthop] - 1
            if left:
                self._running[request.nexthop] = left
            else:
                del self._running[request.nexthop]
            self._changed.notify()

    def close(self) -> None:
        """No more will come: workers that have nothing to do get None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _may_run(self, request: T) -> bool:
        return self._running.get(request.nexthop, 0) < self._share
