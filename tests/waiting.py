"""Waiting for what is about to happen, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")
# Seconds after which something is wrong.
PATIENCE = 120.0
# The flag of a socket that listens.
_ACCEPTS = "00010000"


def wait(
    until: Callable[[], Found],
    said: Callable[[], object] = lambda: "",
    *,
    patience: float = PATIENCE,
    pause: float = 0.01,
) -> Found:
    """Wait until something is so; returns it. `said`: what tells why it is not."""
    end = time.monotonic() + patience
    while not (found := until()):
        assert time.monotonic() < end, said()
        time.sleep(pause)
    return found


def listening(path: Path) -> bool:
    """Whether a process listens on a Unix socket, so that who connects is not refused.

    The file is there a moment before. Nobody connects to find out.
    """
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as sockets:
        return any(
            f" {_ACCEPTS} " in line and line.endswith(f" {path}\n") for line in sockets
        )
