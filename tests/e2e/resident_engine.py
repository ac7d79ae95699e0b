"""An engine (`postfix-trouble serve`) that a test starts, stops and kills."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import launchers
import needs
from waiting import PATIENCE, wait


class ResidentEngine:
    """Listens on a socket in a directory of its account, whenever it is running."""

    def __init__(self, program: Path, directory: Path, account: str) -> None:
        directory.mkdir(mode=0o700)
        shutil.chown(directory, account)
        self.path = directory / "socket"
        self.log = directory / "log"
        self.account = account
        self.program = program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str, account: str = "", ready: bool = True) -> None:
        """Start it, and wait until it greets."""
        assert self._process is None
        self._process = subprocess.Popen(
            [
                *(self.program, "serve", f"--listen=unix:{self.path}"),
                *(f"--log-file={self.log}", *options),
            ],
            stdin=subprocess.DEVNULL,
            user=account or self.account,
            group="nogroup",
            extra_groups=[],
            start_new_session=True,
        )
        if ready:
            wait(lambda: self.greets() or self._process_ended(), lambda: "is silent")
            assert not self._process_ended(), "it did not start"

    def _process_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def greets(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.settimeout(PATIENCE)
            sock.connect(str(self.path))
            return bool(sock.recv(1))
        return False

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """At once; the socket stays where it is."""
        self._end(signal.SIGKILL)

    def drain(self) -> int:
        """Let it finish what it has begun. Its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        status = self._process.wait(PATIENCE)
        self._process = None
        return status


def clients(program: Path) -> dict[str, Path]:
    """The launcher of each kind, in the installation of a program that is there."""
    script = program.with_name("postfix-trouble-sh")
    shutil.copy(launchers.made(launchers.SHELL, script), script)
    found = {"python": script}
    if needs.find("cc"):
        found["c"] = launchers.compiled(program.with_name("postfix-trouble-c"))
    return found
