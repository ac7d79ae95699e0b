"""Time and signals: a delivery ends by itself, and with the truth.

pipe(8) bounces the mail of a program that it has to kill, so the program must not
get there: all waits together stay below a deadline, and an alarm stands behind that.
A signal ends the delivery as deferred, unless the final dot is out: then the reply is
waited for a little longer, since nobody else will ever know.
"""

from __future__ import annotations

import os
import time

from postfix_trouble.core.sysexits import EX_TEMPFAIL
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.message.message import parent_gone

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
else:
    # The half that is written in C: the other one makes enumerations, for 5 ms.
    import _signal as signal

# Seconds for the reply to the final dot, once a signal has come.
_GRACE = 10
# Seconds more, when that time or all time is over: the reply may be here just now.
_RESPITE = 1
# Seconds by which the alarm comes after the deadline, for what does not look at it.
_AFTER = 5

_TERMINATED = b"4.3.0 terminated by signal"
_TIME_LIMIT = b"4.4.2 delivery time limit exceeded"
_NOBODY = b"4.3.0 nobody waits for the answer"
_UNKNOWN = (
    b"4.4.2 terminated by signal while sending end of data"
    b" -- message may be sent more than once"
)


class Settled(BaseException):
    """Everybody has the message: a signal or the alarm only says to come to an end.

    Raised by one signal only, and by the alarm: what is done about it is not disturbed.
    """


if TYPE_CHECKING:
    from typing import Protocol

    class Waiting(Protocol):
        """Who waits for a delivery: how long, and whether he still does."""

        def time_left(self) -> float:
            """Seconds until the deadline."""

        def start(self, deadline: float) -> None:
            """The deadline is so many seconds from now."""

        def abandoned(self) -> bool:
            """Asked right before the final dot: whether nobody waits any more."""

        def abandon(self) -> None:
            """End without an answer, and without a word about the server."""

        def on_final_dot(self, begun: bool) -> None:
            """The final dot goes out, or what came of it is written down."""

        def settled(self) -> None:
            """All recipients have the message, whatever comes now."""

        def finished(self) -> None:
            """The outcome is known; nothing may come between it and the answer."""


class Deadline:
    """Deadline and signals of one delivery by a process of its own."""

    def __init__(self, leave: Callable[[int], None], parent: int) -> None:
        """`leave` ends the process with an exit code, at once. `parent`: process id of
        the one who waits for that."""
        self._leave = leave
        self._parent = parent
        self._end = time.monotonic() + 900.0
        self._critical = False
        self._settled = False
        self._alive = [True]
        # The end is near: one signal, or the alarm while the dot was out, was seen.
        self._ending = False

    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self._end - time.monotonic()

    def start(self, deadline: float) -> None:
        """The deadline is so many seconds from now. Signals are answered."""
        self._end = time.monotonic() + deadline
        signal.signal(signal.SIGALRM, self._alarm)
        signal.setitimer(signal.ITIMER_REAL, deadline + _AFTER)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._signal)

    def abandoned(self) -> bool:
        """Whether nobody waits for the answer: the launcher, or pipe(8), is dead."""
        return os.getppid() != self._parent or parent_gone()

    def abandon(self) -> None:
        """End without an answer, and without a word about the server."""
        self._die(_NOBODY)

    def on_final_dot(self, begun: bool) -> None:
        """The final dot goes out, or what came of it is written down."""
        self._critical = begun

    def settled(self) -> None:
        """All recipients have the message: from now on an interrupt raises Settled."""
        self._settled = True

    def finished(self) -> None:
        """The outcome is known; nothing may come between it and the answer."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def _signal(self, _number: int, _frame: object) -> None:
        if self._settled:
            if not self._ending:
                self._ending = True
                signal.setitimer(signal.ITIMER_REAL, _AFTER)
                raise Settled
        elif self._critical:
            signal.setitimer(signal.ITIMER_REAL, _GRACE)
        else:
            self._die(_TERMINATED)

    def _alarm(self, _number: int, _frame: object) -> None:
        if self._settled:
            self._ending = True
            signal.setitimer(signal.ITIMER_REAL, _AFTER)
            raise Settled
        if self._critical and not self._ending:
            self._ending = True
            signal.setitimer(signal.ITIMER_REAL, _RESPITE)
            return
        self._die(_UNKNOWN if self._critical else _TIME_LIMIT)

    def _die(self, line: bytes) -> None:
        try:
            # A signal for the whole group comes twice: once more from the launcher.
            self._alive.pop()
        except IndexError:
            return
        try:
            os.write(1, line)
        finally:
            self._leave(EX_TEMPFAIL)
