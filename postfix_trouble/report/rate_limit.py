"""Notices to the postmaster are an hour apart, whatever a server does."""

from __future__ import annotations

import threading
import time

from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from postfix_trouble.state import State

# Seconds between two notices about one destination; destinations that are remembered.
_INTERVAL = 3600.0
_MOST = 10_000


class RareNotices:
    """At most one notice an hour about a destination, as far as is remembered: in a
    process that stays, and in the state directory if there is one."""

    def __init__(self, state: State | None) -> None:
        self._state = state
        # When the last one went out (seconds, monotonic).
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()

    def due(self, name: str) -> bool:
        """Whether one may be sent now; if so, the next one has to wait."""
        moment = time.monotonic()
        with self._lock:
            if moment - self._last.get(name, float("-inf")) < _INTERVAL:
                return False
            if len(self._last) >= _MOST:
                self._last.pop(next(iter(self._last)))
            self._last[name] = moment
        return self._state is None or self._state.notices.due(name, time.time())
