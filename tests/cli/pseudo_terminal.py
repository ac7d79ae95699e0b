"""Commands as a person runs them: on a terminal of a given width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

GOLDEN = Path(__file__).parent / "golden"
# Set to write golden files anew; look at what `git diff` then shows.
RENEW = "POSTFIX_TROUBLE_RENEW_GOLDEN"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Screen(NamedTuple):
    """What was to be seen, line ends as \\n, and the exit code."""

    text: str
    code: int

    @property
    def plain(self) -> str:
        """Without colours."""
        return COLOUR.sub("", self.text)


def run(
    *argv: str,
    columns: int = 80,
    environ: Mapping[str, str] = {},
    typed: str = "",
    given: str = "",
    seconds: float = 20.0,
    start: Sequence[str] = ("-m", "postfix_trouble"),
) -> Screen:
    """Run the program on a terminal. `typed`: what the person types at once; `given`:
    what a pipe gives it as standard input."""
    ours, theirs = pty.openpty()
    size = struct.pack("HHHH", 24, columns, 0, 0)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    shell = {**_environment(), "TERM": "xterm", **environ}
    child = subprocess.Popen(
        [sys.executable, *start, *argv],
        stdin=subprocess.PIPE if given else theirs,
        stdout=theirs,
        stderr=theirs,
        env=shell,
        start_new_session=True,
    )
    os.close(theirs)
    if child.stdin:
        with child.stdin:
            child.stdin.write(given.encode())
    if typed:
        os.write(ours, typed.encode())
    text = _read(ours, time.monotonic() + seconds)
    os.close(ours)
    return Screen(text.replace("\r\n", "\n"), child.wait(seconds))


def _environment() -> dict[str, str]:
    """Nothing that might change what is shown; coverage wants to be let in."""
    found = {k: v for k, v in os.environ.items() if k.startswith("COVERAGE")}
    return {**found, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


def _read(descriptor: int, end: float) -> str:
    """All that comes until the program lets go of the terminal."""
    data = b""
    while select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:
            break
        if not piece:
            break
        data += piece
    return data.decode("utf-8", "replace")


def piped(
    *argv: str, text: str = "", environ: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run the program without a terminal."""
    shell = {**_environment(), **environ}
    return subprocess.run(
        [sys.executable, "-m", "postfix_trouble", *argv],
        input=text,
        capture_output=True,
        text=True,
        env=shell,
        check=False,
    )


def assert_golden(name: str, text: str) -> None:
    """Compare with a golden file."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get(RENEW):
        path.write_text(text)
    assert text == path.read_text(), f"not as in {path.name}; see {RENEW}"


def widest(lines: Sequence[str]) -> int:
    """Columns of the longest line."""
    return max(map(len, lines), default=0)
