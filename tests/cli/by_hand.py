"""Commands that talk to servers, against servers of ours, on a terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

from pseudo_terminal import Screen, run

from postfix_trouble.cli.main import main
from scripted_server import ScriptedServer

# As wide as a port that the system gives.
PORT = "12345"
_TIME = re.compile(r"\d+\.\d{3}(?= s|,|$)", re.MULTILINE)
_CLOCK = re.compile(r"^((?:\x1b\[[0-9;]*m)?) *\d+\.\d{3} ", re.MULTILINE)
_BAR = re.compile(r"\|[ =]{8,}\|")

US = ("-o", "myhostname=client.example.org", "--from", "me@example.org")
LOCAL = "127.0.0.1"


def normal(text: str, *servers: ScriptedServer) -> str:
    """Without what is different each time: times and ports."""
    for server in servers:
        text = text.replace(f":{server.port}", f":{PORT}")
    text = _TIME.sub("0.000", text)
    text = _CLOCK.sub(r"\1  0.000 ", text)
    return _BAR.sub(lambda bar: f"|{'.' * (len(bar[0]) - 2)}|", text)


def screen(*argv: str, columns: int = 80, colours: bool = False) -> tuple[str, int]:
    """What is to be seen on a terminal, and the exit code."""
    environ = {} if colours else {"NO_COLOR": "1"}
    found: Screen = run(*argv, columns=columns, environ=environ)
    return found.text, found.code


class Output(NamedTuple):
    """What came out, and the exit code."""

    returncode: int
    stdout: str
    stderr: str


def output(*argv: str, text: str = "") -> Output:
    """What comes out where there is no terminal; in this process, which is faster."""
    out, errors = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)
    )
    given = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline="")
    before, sys.stdin = sys.stdin, given
    try:
        with redirect_stdout(out), redirect_stderr(errors):
            code = main(list(argv))
    finally:
        sys.stdin = before
    shown = (stream.buffer.getvalue().decode() for stream in (out, errors))
    return Output(code, *shown)


def converse(argv: Sequence[str], prompt: str, answer: str) -> tuple[str, int]:
    """Answer a prompt on the terminal: all that was to be seen, and the exit code."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "postfix_trouble", *argv],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": os.environ["PATH"], "NO_COLOR": "1"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    data, asked = b"", False
    while select.select([ours], [], [], 20.0)[0]:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        data += piece
        if not asked and prompt.encode() in data and not _echoes(ours):
            asked = True
            os.write(ours, answer.encode())
    os.close(ours)
    return data.decode().replace("\r\n", "\n"), child.wait(60)


def _echoes(descriptor: int) -> bool:
    return bool(termios.tcgetattr(descriptor)[3] & termios.ECHO)
