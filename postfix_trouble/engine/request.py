"""The deadline of one request of the engine, and who may answer the client.

A worker delivers. Meanwhile the engine's own thread looks for the end of the client,
for that of the time, and for signals, and answers when the worker can't. Which of the
two it is, and whether the end of the message may still be sent, is decided under one
lock, once:

    waiting    nothing is sent yet: whoever interrupts, answers
    critical   the end of the message is out: its outcome is waited for
    settled    all recipients have the message: that is the answer, whatever comes
    answered   the client has been told, or is not there any more
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from postfix_trouble.core.sysexits import EX_TEMPFAIL

if TYPE_CHECKING:
    from collections.abc import Callable

WAITING, CRITICAL, SETTLED, ANSWERED = "waiting", "critical", "settled", "answered"

#: Seconds for the reply to the end of the message, once the client wants an end.
GRACE = 10.0
#: Seconds beyond the deadline, for what does not look at it.
AFTER = 5.0

TERMINATED = b"4.3.0 terminated by signal"
TIME_LIMIT = b"4.4.2 delivery time limit exceeded"
UNKNOWN = (
    b"4.4.2 terminated by signal while sending end of data"
    b" -- message may be sent more than once"
)


class Abandoned(Exception):
    """The client has gone. Ends the delivery; caught by the engine."""


def nothing_known() -> tuple[int, bytes]:
    """The answer when the end of the message is out, and no reply has come."""
    return EX_TEMPFAIL, UNKNOWN


class RequestDeadline:
    """Deadline, interruptions and the answer of one request. For two threads."""

    def __init__(
        self,
        answer: Callable[[int, bytes], None],
        answered: Callable[[], None],
        left: Callable[[], bool],
    ) -> None:
        """`answer` sends an exit status and the text for pipe(8); it is called once,
        by either thread, and must not block. `answered` is called after that. `left`:
        whether the client has closed its connection, by a look at it."""
        self._answer = answer
        self._answered = answered
        self._left = left
        self._lock = threading.Lock()
        self._state = WAITING
        self._gone = False
        # Answered, or the client has gone.
        self._told = False
        self._end = time.monotonic() + 900.0
        #: What to answer when all have the message, but the worker hangs.
        self.conclude: Callable[[], tuple[int, bytes]] = nothing_known

    # --- for the worker

    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self._end - time.monotonic()

    def start(self, deadline: float) -> None:
        """The deadline is so many seconds from now."""
        self._end = time.monotonic() + deadline

    def abandoned(self) -> bool:
        """Asked right before the end of the message: must it not be sent?

        False also means that from now on nobody but the server's reply decides.
        """
        with self._lock:
            # The engine's thread may not have seen it yet.
            if self._state == ANSWERED or self._gone or self._left():
                return True
            self._state = CRITICAL
            return False

    def abandon(self) -> None:
        """There is nobody to answer. Raises Abandoned."""
        raise Abandoned

    def on_final_dot(self, begun: bool) -> None:
        """The end of the message goes out, or what came of it is written down."""
        if begun or self._state != CRITICAL:
            # Nobody but this worker makes it critical.
            return
        with self._lock:
            if self._state == CRITICAL:
                self._state = WAITING

    def settled(self) -> None:
        """All recipients have the message, whatever comes now."""
        with self._lock:
            if self._state != ANSWERED:
                self._state = SETTLED

    def finished(self) -> None:
        """The outcome is known, and the answer comes next."""

    def answer(self, status: int, text: bytes) -> None:
        """Answer, unless that is done."""
        with self._lock:
            if self._state == ANSWERED:
                return
            self._state = ANSWERED
        self._tell(status, text)

    def _tell(self, status: int, text: bytes) -> None:
        self._answer(status, text)
        self._told = True
        # Who is woken by this looks at that.
        self._answered()

    # --- for the engine's own thread

    def client_gone(self) -> None:
        """The client has closed its connection: pipe(8) knows what that means."""
        with self._lock:
            self._gone = True
            if self._state == WAITING:
                self._state = ANSWERED
                self._told = True

    def signalled(self) -> float | None:
        """The client got a signal. Seconds until given_up() is due; None: answered."""
        return self._interrupt(TERMINATED)

    def expired(self) -> float | None:
        """The time is over. As signalled()."""
        return self._interrupt(TIME_LIMIT)

    def given_up(self) -> None:
        """The grace is over, too."""
        with self._lock:
            settled = self._state == SETTLED
            if self._state == ANSWERED:
                return
            self._state = ANSWERED
        self._tell(*(self.conclude() if settled else (EX_TEMPFAIL, UNKNOWN)))

    @property
    def over(self) -> bool:
        """Whether it is answered, or the client has gone."""
        return self._told

    def _interrupt(self, text: bytes) -> float | None:
        with self._lock:
            if self._state == ANSWERED:
                return None
            if self._state != WAITING:
                return GRACE
            self._state = ANSWERED
        self._tell(EX_TEMPFAIL, text)
        return None
