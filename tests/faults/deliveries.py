"""The installed program as pipe(8) runs it, with something wrong around it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from fickle_server import FickleServer

MESSAGE = b"Subject: hello\n\nhow are you\n"
# More than is kept in memory.
LONG = b"Subject: long\n\n" + b"0123456789\n" * 150_000
PATIENCE = 60.0
ONE = ("r@b.test",)
QUEUE_ID = "3F2A1"
TWO = ("ok@b.test", "r@b.test")


class Done(NamedTuple):
    code: int
    output: bytes

    @property
    def answer(self) -> tuple[int, str]:
        """Exit code and status."""
        return self.code, self.output.partition(b" ")[0].decode()


class Client:
    """Makes deliveries to a server. `place` has the log and the state directory."""

    def __init__(self, program: str, place: Path, server: FickleServer | str) -> None:
        self.program = program
        self.place = place
        self.state = place / "state"
        if isinstance(server, FickleServer):
            server = f"[127.0.0.1]:{server.port}"
        self.nexthop = server

    def command(self, *options: str, recipients: tuple[str, ...] = ONE) -> list[str]:
        return [
            *(self.program, "deliver", "--sender", "s@a.test"),
            *("--nexthop", self.nexthop, "--queue-id", QUEUE_ID),
            *("-o", "myhostname=me.test", *self._log(options), *options),
            *("--", *recipients),
        ]

    def _log(self, options: tuple[str, ...]) -> list[str]:
        given = "--log-file" in options
        return [] if given else ["--log-file", str(self.place / "log")]

    def with_state(self, *options: str) -> tuple[str, ...]:
        return ("--state-directory", str(self.state), *options)

    def run(
        self,
        *options: str,
        recipients: tuple[str, ...] = ONE,
        message: bytes = MESSAGE,
        around: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> Done:
        """Run it. `around`: a command that runs the command that follows it."""
        done = subprocess.run(
            [*around, *self.command(*options, recipients=recipients)],
            input=message,
            capture_output=True,
            check=False,
            env={**os.environ, **(environment or {})},
        )
        assert done.stderr == b"", done
        return Done(done.returncode, done.stdout)

    def start(
        self, *options: str, recipients: tuple[str, ...] = ONE, message: bytes = MESSAGE
    ) -> subprocess.Popen[bytes]:
        """Have it run. Its input is open if there is no message."""
        process = subprocess.Popen(
            self.command(*options, recipients=recipients),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        if message:
            assert process.stdin
            process.stdin.write(message)
            process.stdin.close()
            process.stdin = None
        return process

    def log(self) -> str:
        path = self.place / "log"
        return path.read_text() if path.exists() else ""


def end_of(process: subprocess.Popen[bytes]) -> Done:
    output, _ = process.communicate(timeout=PATIENCE * 2)
    return Done(process.returncode, output)


def python_below(launcher: int) -> int:
    """The process of the interpreter that a launcher has started."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        if found:
            return int(found[0])
    raise AssertionError("no interpreter")


def kill_python(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    os.kill(python_below(process.pid), number)
