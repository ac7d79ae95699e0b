"""Whose turn it is, the server's or its clients'."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
# Seconds that a server waits for a client, whatever it is to do.
PATIENCE = 60.0


class Turn:
    """Whose turn it is: what is told of a server has all that its clients have done.

    A client that has ended may have said something last that is still to be read, which
    nobody waits for: QUIT, or that it is gone. So who looks waits until the server has
    nothing left to do but wait for the client.
    """

    def __init__(self) -> None:
        # What the thread waits for: descriptor and events, or nothing for a pause.
        self._waiting: list[tuple[int, int]] | None = None
        self._over = False

    def wait(self, peer: socket.socket, events: int, seconds: float | None) -> None:
        """Wait until the client has done something; TimeoutError if it has not."""
        if isinstance(peer, ssl.SSLSocket) and peer.pending():
            return
        self._waiting = [(peer.fileno(), events)]
        happened = poll(self._waiting[0], seconds)
        self._waiting = None
        if not happened:
            raise TimeoutError

    def pause(self, until: Callable[[], Found]) -> Found:
        """Wait for something else, whatever the client does."""
        self._waiting = []
        found = until()
        self._waiting = None
        return found

    def over(self) -> None:
        """Nothing more is done."""
        self._over = True

    def settle(self) -> None:
        """Wait until it is the clients' turn, or all is over."""
        until = time.monotonic() + PATIENCE
        while not self._settled() and time.monotonic() < until:
            time.sleep(0.001)

    def _settled(self) -> bool:
        waiting = self._waiting
        if self._over or waiting is None:
            return self._over
        # In this order: what was there before is read only after it has gone on.
        return not any(poll(each, 0) for each in waiting) and waiting is self._waiting


def poll(what: tuple[int, int], seconds: float | None) -> bool:
    """Whether one of the events happens to a descriptor within so many seconds."""
    polling = select.poll()
    polling.register(*what)
    return bool(polling.poll(None if seconds is None else seconds * 1000))
