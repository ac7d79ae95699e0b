"""What comes after a verdict: it may fail, and nothing that is known may change.

When the server has taken a message, everything that follows is less than that: the log,
the ledger, what is remembered of the destination, a notice, QUIT, the answer's form. So
how a recipient ended is recorded first, as a value. Whoever does the rest catches what
it raises, in one place for each way in, and goes on with the values.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.failure import TableError
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Functions of a traceback that are shown, the innermost, and characters of a message.
_FRAMES = 8
_TEXT = 200


def told(bug: BaseException) -> str:
    """An exception for the log: what it is, and where, from the inside out.

    One line, whatever it says and however deep it was: `KeyError: 'x' (find
    tables.py:40 < deliver delivery.py:61)`. Not the traceback module: that takes 10 ms
    to import.
    """
    places: list[str] = []
    trace = bug.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        file = code.co_filename.rpartition("/")[2]
        places.append(f"{code.co_name} {file}:{trace.tb_lineno}")
        trace = trace.tb_next
    text = f"{type(bug).__name__}: {bug}"[:_TEXT]
    shown = " < ".join(reversed(places[-_FRAMES:]))
    return f"{text} ({shown})" if shown else text


def warn(note: Callable[[str], None], what: str, bug: BaseException) -> None:
    """Log that something went wrong that changes nothing. Never raises an Exception."""
    try:
        known = isinstance(bug, TableError)
        note(f"warning: {what}: {bug if known else f'internal error: {told(bug)}'}")
    except Exception:  # noqa: BLE001  a log that fails changes nothing either
        return
