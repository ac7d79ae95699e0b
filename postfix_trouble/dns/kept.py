"""Replies of name servers, in a process that stays.

Each is kept for as long as it says itself, and no longer than an hour, so that a wrong
one does not outlive its correction by much; that there is nothing, for a minute. What a
server can't say (SERVFAIL, silence, a damaged reply) is asked again each time.
"""

from __future__ import annotations

import threading
import time

from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.dns.lookup import Packet

    Question = tuple[str, str]

# Seconds.
_LONGEST = 3600.0
_LONGEST_NOTHING = 60.0
# Replies; the oldest goes.
_MOST = 1000


class KeptReplies:
    """Replies by name (lower case) and kind. Used by several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        # And until when.
        self._known: dict[Question, tuple[Packet, float]] = {}

    def find(self, question: Question) -> Packet | None:
        """A reply that still counts."""
        with self._lock:
            found = self._known.get(question)
            if found is None:
                return None
            if found[1] <= self._clock():
                del self._known[question]
                return None
            return found[0]

    def keep(self, question: Question, reply: Packet) -> None:
        """Keep a reply, if it may be."""
        longest = _LONGEST_NOTHING if reply.nothing else _LONGEST
        if reply.ttl <= 0:
            return
        with self._lock:
            self._known.pop(question, None)
            end = self._clock() + min(reply.ttl, longest)
            self._known[question] = reply, end
            if len(self._known) > _MOST:
                del self._known[next(iter(self._known))]
