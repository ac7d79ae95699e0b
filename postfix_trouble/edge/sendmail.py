"""sendmail(1): the way by which bounces and notices enter the mail system."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from signal import SIGKILL
from typing import TYPE_CHECKING

from postfix_trouble.policy.replies import printable

if TYPE_CHECKING:
    from subprocess import Popen

# Seconds; then what was started is killed.
TIMEOUT = 60.0
# Bytes of what sendmail has to say that go to the log.
_WORDS = 500


def submit(
    message: bytes,
    sender: str,
    recipients: Sequence[str],
    *,
    sendmail_path: str = "/usr/sbin/sendmail",
    timeout: float = TIMEOUT,
    note: Callable[[str], None],
) -> str:
    """Hand a message over. Returns the problem, empty if it was accepted.

    `message` has its complete header, lines end in LF. `sender`: empty for the null
    sender. `timeout`: seconds. `note` is told of a problem, and of what an accepting
    sendmail had to say. Nothing of ours is inherited but the environment: a process
    that kept our standard output open would have pipe(8) wait, and then bounce.
    """
    problem = _submit(message, sender, recipients, sendmail_path, timeout, note)
    if problem:
        note(f"warning: {sendmail_path}: {problem}")
    return problem


def _submit(
    message: bytes,
    sender: str,
    recipients: Sequence[str],
    path: str,
    timeout: float,
    note: Callable[[str], None],
) -> str:
    from subprocess import PIPE, STDOUT, Popen

    if not os.path.isabs(path):
        return "not an absolute path"
    if not recipients or not all(recipients):
        return "no recipient"
    # -G: a relay, leave the header alone. -i: a line with a dot is not the end.
    argv = [path, "-G", "-i", "-f", sender, "--", *recipients]
    try:
        # A file and no pipe: if we are killed now, half a message is none the less a
        # message to who reads a pipe.
        with open(os.memfd_create("message"), "w+b") as text:
            text.write(message)
            text.seek(0)
            # In a session of its own, to be killed with all that it starts.
            child = Popen(
                argv, stdin=text, stdout=PIPE, stderr=STDOUT, start_new_session=True
            )
    except (OSError, ValueError) as problem:
        return f"can't be run: {problem}"
    with child:
        said, killed = _listen(child, timeout)
    words = printable(b" ".join(said[:_WORDS].split()), utf8=True)
    if child.returncode == 0:
        if words:
            note(f"{path}: {words}")
        return ""
    if killed:
        return f"killed after {timeout:.0f} seconds: {words}"
    return f"exit status {child.returncode}: {words}"


def _listen(child: Popen[bytes], timeout: float) -> tuple[bytes, bool]:
    """What is said, and whether the child was killed."""
    from subprocess import TimeoutExpired

    try:
        return child.communicate(timeout=timeout)[0] or b"", False
    except TimeoutExpired as late:
        # It may have ended, and left its output to a child that goes on.
        killed = child.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(child.pid, SIGKILL)
        child.wait()
        return late.stdout or b"", killed
