"""sendmail(1): the way by which bounces and notices enter the mail system."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from signal import SIGKILL
from typing import TYPE_CHECKING

from postfix_trouble.smtp.replies import reply_text

if TYPE_CHECKING:
    from subprocess import Popen
    from typing import BinaryIO

SENDMAIL = "/usr/sbin/sendmail"
# Seconds; then what was started is killed.
TIMEOUT = 60.0
# Bytes of what sendmail has to say that go to the log.
_WORDS = 500
# Bytes of output at which sendmail is killed; seconds between looks at them.
_LONGEST = 1 << 20
_LOOK = 0.02


def submit(
    message: bytes,
    sender: str,
    recipients: Sequence[str],
    *,
    sendmail_path: str = "",
    timeout: float = TIMEOUT,
    note: Callable[[str], None],
) -> str:
    """Hand a message over. Returns the problem, empty if it was accepted.

    `message` has its complete header, lines end in LF. `sender`: empty for the null
    sender. `timeout`: seconds. `note` is told of a problem, and of what an accepting
    sendmail had to say. Nothing of ours is inherited but the environment: a process
    that kept our standard output open would have pipe(8) wait, and then bounce.
    """
    # Postfix's own main.cf.proto leaves it empty.
    sendmail_path = sendmail_path or SENDMAIL
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
    from subprocess import STDOUT, Popen

    if not os.path.isabs(path):
        return "not an absolute path"
    if not recipients or not all(recipients):
        return "no recipient"
    # -G: a relay, leave the header alone. -i: a line with a dot is not the end.
    argv = [path, "-G", "-i", "-f", sender, "--", *recipients]
    # Files and no pipes. If we are killed now, half a message is none the less a
    # message to who reads a pipe; and what the child leaves running may keep the other
    # end of one for ever.
    try:
        with _file(message) as text, _file(b"") as output:
            # In a session of its own, to be killed with all that it starts.
            child = Popen(
                argv, stdin=text, stdout=output, stderr=STDOUT, start_new_session=True
            )
            killed = _killed(child, output.fileno(), timeout)
            output.seek(0)
            said = output.read(_WORDS)
    except (OSError, ValueError) as problem:
        return f"can't be run: {problem}"
    words = reply_text(b" ".join(said.split()), utf8=True)
    if child.returncode == 0:
        if words:
            note(f"{path}: {words}")
        return ""
    if killed:
        return f"killed after {killed}: {words}"
    return f"exit status {child.returncode}: {words}"


def _file(content: bytes) -> BinaryIO:
    """A file without a name, at its start."""
    file = open(os.memfd_create("sendmail"), "w+b")  # noqa: SIM115
    file.write(content)
    file.seek(0)
    return file


def _killed(child: Popen[bytes], output: int, timeout: float) -> str:
    """Wait for the end of the child, and kill it if it does not come, or if it says
    more than we have memory for. After what it was killed, empty if it was not."""
    from subprocess import TimeoutExpired

    end = time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        try:
            child.wait(max(0.0, min(left, _LOOK)))
        except TimeoutExpired:
            pass
        else:
            return ""
        if os.fstat(output).st_size > _LONGEST:
            why = f"{_LONGEST} bytes of output"
        elif left <= _LOOK:
            why = f"{timeout:.0f} seconds"
        else:
            continue
        with suppress(ProcessLookupError):
            os.killpg(child.pid, SIGKILL)
        child.wait()
        return why
