"""The answer to pipe(8): an exit code and one line that begins with the status.

What pipe(8) makes of it: a status of class 4 at byte 0 defers, of class 5 bounces,
whatever the exit code; without one the exit code decides, and only 71 and 75 defer. So
code and status always agree, and there is text behind every status: Postfix 3.7 shows
what an earlier command said where there is none.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core import sysexits
from postfix_trouble.core.outcome import DSN, Disposition, Outcome
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.report.log import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

# pipe(8) reads 4096 bytes; what is longer is cut here, between characters.
LIMIT = 4000

_BY_STATUS = {
    "5.1.1": sysexits.EX_NOUSER,
    "5.1.2": sysexits.EX_NOHOST,
    "5.4.4": sysexits.EX_NOHOST,
}
_BY_SUBJECT = {
    "5.5": sysexits.EX_PROTOCOL,
    "5.6": sysexits.EX_DATAERR,
    "5.7": sysexits.EX_NOPERM,
}


class Exit(Value):
    """What the program leaves behind."""

    code: int
    line: str

    @property
    def output(self) -> bytes:
        """The line as it is written: one line, no newline, not too long."""
        data = printable(self.line).encode("utf-8", "replace")
        if len(data) > LIMIT:
            data = data[:LIMIT].decode("utf-8", "ignore").encode("utf-8")
        return data.strip(b" ")


def exit_code(status: str) -> int:
    """The exit code for an enhanced status, the same class as the status."""
    if status.startswith("2"):
        return sysexits.EX_OK
    if not status.startswith("5"):
        return sysexits.EX_TEMPFAIL
    subject = status.rpartition(".")[0]
    return _BY_STATUS.get(status, _BY_SUBJECT.get(subject, sysexits.EX_UNAVAILABLE))


def answer(dsn: DSN) -> Exit:
    """The answer that passes on one report.

    What was delivered is answered without a status: if we were killed after this is
    written, pipe(8) would take it and any exit code but 0 for a bounce. Then the text
    must not look like one either.
    """
    reason = dsn.reason.strip() or "no reason given"
    if not dsn.status.startswith("2"):
        return Exit(exit_code(dsn.status), f"{dsn.status} {reason}")
    if EnhancedStatus.leading(reason) is not None:
        reason = f"said: {reason}"
    return Exit(sysexits.EX_OK, reason)


def deferred(status: str, reason: str) -> Exit:
    """The answer to an internal problem: always a deferral."""
    assert status.startswith("4")
    return Exit(sysexits.EX_TEMPFAIL, f"{status} {reason}")


def result(outcomes: Sequence[Outcome]) -> Exit:
    """One answer for all recipients: deferred if any is, else bounced if any is.

    For one recipient it is the truth. For several it is what pipe(8) can't do better;
    policy/multi_recipient.py says when it may be given.
    """
    for word in (Disposition.DEFERRED, Disposition.BOUNCED):
        for outcome in outcomes:
            if outcome.disposition is word:
                return answer(outcome.dsn)
    return answer(outcomes[0].dsn)
