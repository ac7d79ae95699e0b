"""A wait shows itself on a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from by_hand import LOCAL

ERASED = "\r\x1b[K"
GENEROUS = 30.0


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts, and then says nothing."""
    with socket.create_server((LOCAL, 0)) as server:
        server.settimeout(GENEROUS)
        yield server


def command(name: str, server: socket.socket, *more: str) -> list[str]:
    place = f"{LOCAL}:{server.getsockname()[1]}"
    argv = [sys.executable, "-m", "postfix_trouble", name, "--to", "you@example.com"]
    return [*argv, "--server", place, *more]


def read_until(descriptor: int, wanted: str) -> str:
    """All that is to be seen until `wanted` is, or the program ends."""
    text, end = "", time.monotonic() + GENEROUS
    while not re.search(wanted, text):
        left = max(0.0, end - time.monotonic())
        assert select.select([descriptor], [], [], left)[0], text
        try:
            text += os.read(descriptor, 65536).decode()
        except OSError:
            break
    return text


def seen(text: str) -> str:
    """What is left on the screen."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition(ERASED)[2] for line in lines)


@pytest.mark.parametrize("name", ["send", "probe"])
def test_wait_is_shown_and_erased(name: str, silent: socket.socket) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        command(name, silent),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": os.environ["PATH"], "TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(theirs)
    with child:
        connection, _ = silent.accept()
        with connection:
            waits = read_until(ours, r"waiting for the greeting, \d+ s of 300 s")
            assert "waiting" in seen(waits)
            connection.sendall(b"220 mx ESMTP\r\n")
            waits += read_until(ours, r"waiting for the reply to EHLO, \d+ s of 300 s")
        shown = waits + read_until(ours, "(?!)")
    os.close(ours)
    assert child.returncode == 75
    assert "lost connection" in seen(shown)
    assert "waiting" not in seen(shown)


@pytest.mark.parametrize("name", ["send", "probe"])
def test_wait_is_not_shown_in_a_pipe(name: str, silent: socket.socket) -> None:
    done = subprocess.run(
        command(name, silent, "--timeout", "3"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 75
    assert "timed out" in done.stdout
    assert "waiting" not in done.stdout + done.stderr
