"""What is waited for, on a terminal: a line on standard error that erases itself."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_ERASE = "\r\x1b[K"


class Waiting:
    """Shows `waiting for the greeting, 12 s of 300 s` from the first second on.

    Where standard error is no terminal nothing is shown.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        self._shown = False
        self._what = ""
        self._begin = self._limit = 0.0
        self._lock = threading.Lock()
        if wanted and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            threading.Thread(target=self._tick, daemon=True).start()

    @contextmanager
    def on(self, what: str, limit: float = 0.0) -> Iterator[None]:
        """Wait for something; `limit`: seconds that it may take, 0: not known."""
        with self._lock:
            self._what, self._limit = what, limit
            self._begin = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._what = ""
                self._erase()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Something else is written meanwhile."""
        with self._lock:
            self._erase()
            yield

    def _tick(self) -> None:
        pause = threading.Event()
        while not pause.wait(1.0):
            with self._lock:
                spent = int(time.monotonic() - self._begin)
                if self._what and spent:
                    self._show(spent)

    def _show(self, spent: int) -> None:
        text = f"waiting for {self._what}, {spent} s"
        if self._limit:
            text += f" of {self._limit:.0f} s"
        try:
            width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except OSError:
            return
        self._write(f"{_ERASE}{text[: width - 1]}")
        self._shown = True

    def _erase(self) -> None:
        if self._shown:
            self._write(_ERASE)
            self._shown = False

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            pass
