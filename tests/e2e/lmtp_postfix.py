"""A private Postfix whose mail all goes to our LMTP server, and a sink behind it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from private_postfix import MAIN, MASTER, PATIENCE, PrivatePostfix

HERE = Path(__file__).parent
ACCOUNT = "nobody"
TOGETHER = """
scache    unix  -       -       n       -       1       scache
lmtp      unix  -       -       n       -       -       lmtp
"""


class LmtpPostfix(PrivatePostfix):
    """Found by its directory and not by /etc/postfix: several can run at a time."""

    def __init__(self, directory: Path, lmtpd: Lmtpd, **main: str) -> None:
        self.directory = directory
        self.log_file = directory / "mail.log"
        self.etc = directory / "etc"
        self.port = free_port()
        for name in ("etc", "queue", "data"):
            (directory / name).mkdir()
        shutil.chown(directory / "data", "postfix")
        daemons = subprocess.check_output(["postconf", "-dh", "daemon_directory"])
        settings = {
            **MAIN,
            "daemon_directory": daemons.decode().strip(),
            "command_directory": "/usr/sbin",
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "queue_directory": str(directory / "queue"),
            "data_directory": str(directory / "data"),
            "maillog_file": str(self.log_file),
            "maillog_file_prefixes": str(directory),
            "default_transport": lmtpd.transport,
            "local_recipient_maps": "",
            "smtpd_peername_lookup": "no",
            "minimal_backoff_time": "1s",
            "queue_run_delay": "1s",
            **main,
        }
        text = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (self.etc / "main.cf").write_text(text)
        incoming = f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
        (self.etc / "master.cf").write_text(MASTER + TOGETHER + incoming + lmtpd.master)

    def start(self) -> None:
        """Start the master daemon."""
        self._command("postfix", "-c", str(self.etc), "start")

    def stop(self) -> None:
        """Stop it, and wait until it has gone."""
        self._command("postfix", "-c", str(self.etc), "abort")

    def send(self, *argv: str, message: bytes = b"Subject: x\n\nhello\n") -> None:
        """Hand in a message; arguments are those of sendmail(1)."""
        command = ("sendmail", "-C", str(self.etc), "-i", "-f", "s@d.test")
        self._command(*command, *argv, message=message)

    def inject(self, messages: int) -> None:
        """Many messages, each to a recipient with a number; no bounces."""
        command = ("smtp-source", "-N", "-s", "10", "-m", str(messages), "-l", "4096")
        self._command(*command, "-f", "", "-t", "r@d.test", f"127.0.0.1:{self.port}")

    def injected(self, messages: int) -> set[str]:
        """The recipients of inject(), as this Postfix's smtp-source numbers them."""
        if "<r0@d.test>" in self.log():
            return {f"r{number}@d.test" for number in range(messages)}
        return {f"{number}r@d.test" for number in range(1, messages + 1)}

    def flush(self, queue_id: str = "") -> None:
        """Try again all that is in the queue, or one message."""
        what = ("-i", queue_id) if queue_id else ("-f",)
        self._command("postqueue", "-c", str(self.etc), *what)

    def queued(self) -> int:
        """Messages in the queue."""
        queue = self.directory / "queue"
        places = ("maildrop", "incoming", "active", "deferred")
        return sum(
            len(files) for place in places for _, _, files in os.walk(queue / place)
        )

    def emptied(self, patience: float = PATIENCE) -> None:
        """Try until nothing is in the queue."""
        until = time.monotonic() + patience
        while self.queued():
            assert time.monotonic() < until, self.log()[-3000:]
            self.flush()
            time.sleep(0.2)

    def _command(self, *argv: str, message: bytes = b"") -> None:
        done = subprocess.run(
            argv, input=message, capture_output=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{argv}: {done.stderr.decode()}"


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
            until = time.monotonic() + PATIENCE
            while not self.path.exists():
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.01)
            # lmtp(8) is the user postfix.
            self.path.chmod(0o666)
            yield process.pid
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
            [sys.executable, program, *argv], stdout=subprocess.PIPE
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
        return Counter(who.strip("<>") for who, what in words if what == "taken")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
