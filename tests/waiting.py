"""Waiting for what is about to happen, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
# Seconds after which something is wrong.
PATIENCE = 120.0


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
