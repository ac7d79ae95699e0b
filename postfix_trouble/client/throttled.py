"""Destinations in trouble, as one process remembers them (qmgr_queue_throttle).

In memory, and in the state directory as well if there is one, so that other processes
know too.
"""

from __future__ import annotations

import threading
import time

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.policy.throttle import Mark, Standing, judge

if TYPE_CHECKING:
    from postfix_trouble.core.outcome import Report
    from postfix_trouble.state import State

# Destinations that are remembered at most.
_MOST = 10_000
# Seconds for which it counts that the state directory has no mark: of many mails for
# a destination, not each has to ask.
_UNMARKED = 1.0


class Throttled:
    """Which destinations are suspended. Used by several threads."""

    def __init__(self, retry_time: float, state: State | None) -> None:
        """`retry_time`: seconds; 0: no destination is suspended."""
        self._retry_time = retry_time
        self._state = state
        self._marks: dict[str, Mark] = {}
        # Those without a mark in the state directory, and when that was seen.
        self._unmarked: dict[str, float] = {}
        self._lock = threading.Lock()

    def check(self, name: str) -> DSN | None:
        """Why a destination is suspended, None if it may be tried."""
        if not self._retry_time:
            return None
        now = time.time()
        with self._lock:
            mark = self._marks.get(name)
            standing = judge(mark, now, self._retry_time)
            if standing is Standing.PROBE and mark is not None:
                self._marks[name] = mark._replace(probed=now)
        if self._state is None or isinstance(standing, DSN) or self._is_unmarked(name):
            return standing if isinstance(standing, DSN) else None
        seen = time.monotonic()
        standing = self._state.destinations.check(name, now, self._retry_time)
        if standing is Standing.OPEN:
            with self._lock:
                if len(self._unmarked) >= _MOST:
                    self._unmarked.clear()
                self._unmarked[name] = seen
        return standing if isinstance(standing, DSN) else None

    def _is_unmarked(self, name: str) -> bool:
        seen = self._unmarked.get(name)
        return seen is not None and time.monotonic() - seen < _UNMARKED

    def suspended(self) -> int:
        """How many destinations are suspended now, as far as this process knows."""
        now = time.time()
        with self._lock:
            return sum(
                isinstance(judge(mark, now, self._retry_time), DSN)
                for mark in self._marks.values()
            )

    def remember(self, report: Report) -> None:
        """Note how an attempt ended."""
        if not self._retry_time or report.suspended:
            return
        name, now = report.request.nexthop, time.time()
        with self._lock:
            if report.throttled is None:
                self._marks.pop(name, None)
            else:
                if len(self._marks) >= _MOST:
                    self._marks.pop(next(iter(self._marks)))
                self._marks[name] = Mark(report.throttled, now)
        if self._state is None:
            return
        if report.throttled is None:
            # Another process may have marked it since it was looked for.
            self._state.destinations.clear(name)
        else:
            self._unmarked.pop(name, None)
            self._state.destinations.mark(name, report.throttled, now)
