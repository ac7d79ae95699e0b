"""The thread that watches, in one process with its clients."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine_client import DirectClient
from postfix_trouble.engine.request import RequestDeadline
from postfix_trouble.engine.server import Engine
from postfix_trouble.lmtp import listener
from waiting import PATIENCE


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """As they were, afterwards."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [(each, signal.getsignal(each)) for each in numbers]
    yield
    for number, handler in before:
        signal.signal(number, handler)


class Serving:
    """An engine that answers everything, and notes nothing strange."""

    def __init__(
        self,
        path: Path,
        deliver: Callable[[], None] = lambda: None,
        reload: Callable[[], None] = lambda: None,
    ) -> None:
        def answer(_: list[str], message: object, deadline: RequestDeadline) -> None:
            deliver()
            deadline.answer(0, b"taken")

        self.notes: list[str] = []
        self.path = path
        self._engine = Engine(
            [listener.listen(f"unix:{path}", 0o600)],
            answer,
            most=1,
            seconds=PATIENCE,
            note=self.notes.append,
            reload=reload,
        )

    def run(self, clients: Callable[[], None]) -> None:
        """Serve until these have ended."""

        def then_stop() -> None:
            try:
                clients()
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=then_stop)
        self._engine.on_signals()
        thread.start()
        self._engine.run()
        thread.join()
        assert self.notes == []

    def ask(self) -> tuple[int, bytes]:
        with DirectClient(self.path) as client:
            client.ask("--", "r@b.test")
            return client.answer()


def test_another_process_has_the_connections_too(tmp_path: Path) -> None:
    """As between fork(2) and exec(2) of what a delivery starts."""
    held: list[socket.socket] = []
    path = tmp_path / "socket"

    def fork() -> None:
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                copy = socket.socket(fileno=os.dup(int(name)))
                held.append(copy)
                if copy.getsockname() != str(path):
                    held.pop().close()

    looked = threading.Semaphore(0)
    serving = Serving(path, deliver=fork, reload=looked.release)
    answers: list[tuple[int, bytes]] = []

    def clients() -> None:
        for _ in range(3):
            answers.append(serving.ask())
            os.kill(os.getpid(), signal.SIGHUP)
            assert looked.acquire(timeout=PATIENCE)

    serving.run(clients)
    for copy in held:
        copy.close()
    assert answers == [(0, b"taken")] * 3


def test_a_client_comes_with_the_signal_to_end(tmp_path: Path) -> None:
    """It finds nobody; those that are there are served."""
    late = socket.socket(socket.AF_UNIX)

    told = threading.Event()

    def reload() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        late.connect(str(tmp_path / "socket"))
        told.set()

    serving = Serving(tmp_path / "socket", reload=reload)
    answers: list[tuple[int, bytes]] = []

    def clients() -> None:
        with DirectClient(serving.path) as client:
            os.kill(os.getpid(), signal.SIGHUP)
            assert told.wait(PATIENCE)
            client.ask("--", "r@b.test")
            answers.append(client.answer())

    with late:
        serving.run(clients)
        with contextlib.suppress(ConnectionResetError):
            assert late.recv(1) == b""
    assert answers == [(0, b"taken")]
