"""A private Postfix whose mail all goes to our LMTP server, and a sink behind it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from private_postfix import Postfix

from waiting import listening, wait

HERE = Path(__file__).parent
ACCOUNT = "nobody"
TOGETHER = """
scache    unix  -       -       n       -       1       scache
lmtp      unix  -       -       n       -       -       lmtp
"""


class LmtpPostfix(Postfix):
    """All its mail goes to our LMTP server."""

    def __init__(self, directory: Path, transport: str, master: str, **main: str):
        self.port = free_port()
        settings = {
            "default_transport": transport,
            "local_recipient_maps": "",
            "smtpd_peername_lookup": "no",
            "minimal_backoff_time": "1s",
            "queue_run_delay": "1s",
            **main,
        }
        incoming = f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
        super().__init__(directory, settings, TOGETHER + incoming + master)

    def inject(self, messages: int) -> None:
        """Many messages, each to a recipient with a number; no bounces."""
        command = ("smtp-source", "-N", "-s", "10", "-m", str(messages), "-l", "4096")
        where = ("-f", "", "-t", "r@d.test", f"127.0.0.1:{self.port}")
        subprocess.run([*command, *where], check=True, timeout=300)

    def injected(self, messages: int) -> set[str]:
        """The recipients of inject(), as this Postfix's smtp-source numbers them."""
        if "<r0@d.test>" in self.log():
            return {f"r{number}@d.test" for number in range(messages)}
        return {f"{number}r@d.test" for number in range(1, messages + 1)}


class Lmtpd:
    """Our program, under spawn(8) or as a listener."""

    def __init__(self, directory: Path, program: Path, spawn: bool, *argv: str) -> None:
        self.path = directory / "lmtpd"
        self.log_file = directory / "lmtpd.log"
        self.log_file.touch()
        shutil.chown(self.log_file, ACCOUNT)
        self.command = [str(program), "lmtp", f"--log-file={self.log_file}"]
        self.command += ["-o", "myhostname=me.test", *argv]
        self.spawn = spawn
        self.transport = (
            "lmtp:unix:private/lmtpd" if spawn else f"lmtp:unix:{self.path}"
        )
        words = " ".join(self.command)
        self.master = (
            f"lmtpd unix - n n - - spawn\n  user={ACCOUNT} argv={words}\n"
            if spawn
            else ""
        )

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        """The listener runs while this lasts; its process id (0 under spawn(8))."""
        if self.spawn:
            yield 0
            return
        command = [*self.command, f"--listen=unix:{self.path}"]
        with subprocess.Popen(command) as process:
            wait(lambda: listening(self.path) or process.poll() is not None)
            # lmtp(8) is the user postfix.
            self.path.chmod(0o666)
            try:
                yield process.pid
            finally:
                process.terminate()
        assert process.returncode == 0

    def log(self) -> list[str]:
        """Our own records."""
        return self.log_file.read_text().splitlines()


class Sink:
    """recording_sink.py: killed and started again, it goes on with its record."""

    def __init__(self, directory: Path, delay: float = 0.0) -> None:
        self.port = free_port()
        self._file = directory / "sink"
        self._delay = delay
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listen, at the same port each time."""
        program = str(HERE / "recording_sink.py")
        argv = [str(self.port), str(self._file), str(self._delay)]
        self._process = subprocess.Popen(
            [sys.executable, program, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline()

    def kill(self) -> None:
        """At once, whatever it is doing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    def __enter__(self) -> Sink:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def taken(self) -> Counter[str]:
        """How often mail was taken for each recipient."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        words = (line.split() for line in lines)
        return Counter(who for who, what in words if what == "taken")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
