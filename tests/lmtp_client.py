"""An LMTP client as Postfix's lmtp(8) is one: a message, and a reply for each rcpt."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from postfix_trouble.config.settings import Settings
from postfix_trouble.lmtp import server as lmtp_server
from postfix_trouble.lmtp.delivery import LmtpService
from postfix_trouble.report.maillog import MailLog
from waiting import PATIENCE, wait

GIVEN = {"myhostname": "me.test"}
PROGRAM = [sys.executable, "-I", "-m", "postfix_trouble", "lmtp"]
MESSAGE = (
    b"Received: by client.test (Postfix, from userid 0)\n"
    b"\tid 4SAMPLE; Mon,  1 Jan 2024 00:00:00 +0000 (UTC)\n"
    b"Subject: hello\n\nhow are you\n"
)


class Client:
    """Speaks LMTP over a connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self.connection = connection
        self.replies = connection.makefile("rb")
        assert self.reply() == "220"
        self.ask("LHLO client.test")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Leave without a word."""
        self.replies.close()
        self.connection.close()

    def text(self) -> str:
        """One reply, its lines joined by newlines; empty at the end."""
        lines = []
        while line := self.replies.readline():
            lines.append(line.decode().removesuffix("\r\n"))
            if lines[-1][3:4] != "-":
                break
        return "\n".join(lines)

    def reply(self) -> str:
        """The code of one reply."""
        return self.text()[:3]

    def ask(self, line: str) -> str:
        """Say something; the reply to it."""
        self.connection.sendall(line.encode() + b"\r\n")
        return self.text()

    def envelope(self, *recipients: str, sender: str = "<s@d.test>") -> None:
        """Everything up to DATA. Parameters may stand behind an address."""
        assert self.ask(f"MAIL FROM:{sender}")[:3] == "250"
        for recipient in recipients:
            path = recipient if recipient.startswith("<") else f"<{recipient}>"
            assert self.ask(f"RCPT TO:{path}")[:3] == "250"
        assert self.ask("DATA")[:3] == "354"

    def end(self, message: bytes = MESSAGE) -> None:
        """Send the message, dot included."""
        self.connection.sendall(message.replace(b"\n", b"\r\n") + b".\r\n")

    def send(
        self, *recipients: str, sender: str = "<s@d.test>", message: bytes = MESSAGE
    ) -> list[str]:
        """One message. The reply for each recipient."""
        self.envelope(*recipients, sender=sender)
        self.end(message)
        return [self.text() for _ in recipients]


class Service:
    """An LMTP service in this process, and its log."""

    def __init__(self, log: str, nexthop: str = "", **settings: str) -> None:
        self._start(log, nexthop, Settings(overrides={**GIVEN, **settings}))

    @classmethod
    def of(cls, log: str, nexthop: str, settings: Settings) -> Service:
        """One with all settings given."""
        made = cls.__new__(cls)
        made._start(log, nexthop, settings)
        return made

    def _start(self, log: str, nexthop: str, settings: Settings) -> None:
        self._log = log
        self.service = LmtpService(settings, MailLog("trouble", log), nexthop=nexthop)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_exc: object) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
        self.service.__exit__()

    def connect(self) -> Client:
        """Somebody who is served by it."""
        ours, theirs = socket.socketpair()

        def serve() -> None:
            deliver = self.service.client().deliver
            lmtp_server.serve(theirs, deliver, note=self.service.log.write)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self._threads.append(thread)
        return Client(ours)

    def send(self, *recipients: str, sender: str = "<s@d.test>") -> list[str]:
        """One message over a connection of its own."""
        with self.connect() as client:
            return client.send(*recipients, sender=sender)

    def log(self) -> list[str]:
        """The records so far, without what a log puts before them."""
        with contextlib.suppress(FileNotFoundError), open(self._log) as file:
            return [line.rstrip("\n").partition("]: ")[2] for line in file]
        return []


class Process:
    """`lmtp` as its administrator starts it."""

    def __init__(
        self, directory: Path, *argv: str, program: Sequence[str] = PROGRAM
    ) -> None:
        self.log = directory / "log"
        self.path = directory / "lmtpd"
        self.process = subprocess.Popen(
            [*program, "-o", "myhostname=me.test", f"--log-file={self.log}", *argv],
            stderr=subprocess.PIPE,
        )

    def connect(self) -> Client:
        connection = socket.socket(socket.AF_UNIX)
        wait(lambda: connection.connect_ex(str(self.path)) == 0)
        return Client(connection)

    def end(self) -> tuple[int, str]:
        """Exit code, and what it said."""
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said.decode()


MakeService = Callable[..., Service]


def services(log: str) -> Iterator[MakeService]:
    """For a fixture: makes services, and ends them."""
    with contextlib.ExitStack() as stack:
        yield lambda nexthop="", **settings: stack.enter_context(
            Service(log, nexthop, **settings)
        )
