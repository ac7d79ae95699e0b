"""Several processes behind the same sockets.

An interpreter runs one thread at a time, and hands over at every system call: with many
clients that costs as much as the work. Two processes on two processors do twice as much
as one.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class Stopping(Protocol):
        """Told once that the service is to end."""

        def fileno(self) -> int:
            """Descriptor that becomes readable then."""

        def is_set(self) -> bool:
            """Whether it was told."""

        def follow(self) -> None:
            """What a process that was forked has to do."""


# Seconds before a process that ended, or could not be made, is followed by another.
_BREATH = 0.5


def run(
    count: int,
    work: Callable[[], None],
    stop: Stopping,
    retire: Callable[[], None],
    note: Callable[[str], None] = lambda text: None,
) -> None:
    """Have so many processes do `work`, and others in place of those that end.

    Each has a copy of all that is there by now, and sees `stop`, which it also sees
    when this process is no more. Returns when `stop` is set and all have ended; `work`
    has to see to it that they do. `retire` is called in between, when nothing new is to
    begin. There must be no threads before.
    """
    # Pipes that are closed at the other end when a process is no more, and its number.
    running: dict[int, int] = {}
    while not stop.is_set():
        missing = count - len(running)
        made = [_start(work, stop, running, note) for _ in range(missing)]
        ended = _wait(running, stop, None if all(made) else _BREATH)
        for alive in ended:
            status = _bury(alive, running)
            if not stop.is_set():
                note(f"warning: a process of the service ended ({status})")
        if ended:
            _wait({}, stop, _BREATH)
    retire()
    # What is under way has its own limits of time.
    for alive in list(running):
        _bury(alive, running)


def _start(
    work: Callable[[], None],
    stop: Stopping,
    running: dict[int, int],
    note: Callable[[str], None],
) -> bool:
    """Start a process. False if the system has none."""
    alive, mine = os.pipe()
    try:
        process = os.fork()
    except OSError as problem:
        note(f"warning: no more processes: {problem}")
        os.close(alive)
        os.close(mine)
        return False
    if process:
        os.close(mine)
        running[alive] = process
        return True
    code = 1
    try:
        for number in (alive, *running):
            os.close(number)
        stop.follow()
        work()
        code = 0
    except BaseException as bug:  # noqa: BLE001  what started us is not ours to go on in
        note(f"internal error: {type(bug).__name__}: {bug}")
    finally:
        os._exit(code)


def _wait(running: dict[int, int], stop: Stopping, seconds: float | None) -> list[int]:
    """Wait until some end, `stop` is set, or the time is over. Those that ended."""
    poll = select.poll()
    for number in (stop.fileno(), *running):
        poll.register(number, select.POLLIN)
    ready = poll.poll(None if seconds is None else seconds * 1000)
    return [number for number, _ in ready if number in running]


def _bury(alive: int, running: dict[int, int]) -> int:
    """Wait for the end of a process. Its exit status; minus a signal."""
    os.close(alive)
    _, status = os.waitpid(running.pop(alive), 0)
    return os.waitstatus_to_exitcode(status)
