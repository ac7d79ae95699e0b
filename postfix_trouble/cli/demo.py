"""`make demo`: what the program does, shown on servers that take mail and that do not.

Starts an SMTP server on loopback for each case (aiosmtpd, one of the test extras) and
runs the installed program against it as pipe(8) would. Ends with 0 if all went as told.

usage: python -m postfix_trouble.cli.demo PATH-OF-POSTFIX-TROUBLE
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from postfix_trouble.core.sysexits import EX_OK, EX_TEMPFAIL, NAMES
from postfix_trouble.core.value import Value

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from aiosmtpd.smtp import SMTP, Envelope, Session

SENDER = "alice@example.org"
RECIPIENT = "bob@example.net"
MESSAGE = f"""\
From: Alice <{SENDER}>
To: Bob <{RECIPIENT}>
Subject: A sample message

Hello Bob,
.this line begins with a dot.
"""
CLOSE = "(hangs up)"


class Case(Value):
    """A server, by its answer to RCPT TO, and what Postfix will do about the mail."""

    title: str
    reply: str
    # Exit statuses begin so: 0 is success, 75 another try, all others are final.
    ends_well: bool
    tried_again: bool
    consequence: str


CASES = (
    Case(
        "a server that takes the message",
        "250 2.1.5 Ok",
        True,
        False,
        "Postfix takes it from the queue: delivered.",
    ),
    Case(
        "a server that is not ready (greylisting, say)",
        "450 4.2.0 Greylisted, come back later",
        False,
        True,
        "Postfix keeps it in the queue and tries again later.",
    ),
    Case(
        "a server that refuses for good",
        "550 5.1.1 No such user",
        False,
        False,
        "Postfix returns it to the sender.",
    ),
    Case(
        "a server that hangs up in the middle",
        CLOSE,
        False,
        True,
        "Postfix keeps it in the queue: the outcome is unknown.",
    ),
)


class Sink:
    """What the server does with a message, and what it got."""

    def __init__(self, reply: str) -> None:
        self.reply = reply
        self.received: Envelope | None = None

    async def handle_RCPT(
        self,
        server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        """Answer as the case wants it."""
        if self.reply == CLOSE and server.transport is not None:
            server.transport.close()
        elif self.reply.startswith("2"):
            envelope.rcpt_tos.append(address)
        return self.reply

    async def handle_DATA(
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Keep the message."""
        self.received = envelope
        return "250 2.0.0 Ok: queued as DEMO"


def free_port() -> int:
    """A port of loopback that nobody uses at the moment."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def play(program: str, case: Case) -> bool:
    """Show one case. Returns whether it ended as it should."""
    import subprocess

    from aiosmtpd.controller import Controller

    sink = Sink(case.reply)
    server = Controller(sink, hostname="127.0.0.1", port=free_port(), ident="Demo")
    server.start()
    try:
        command = [program, "deliver", "--sender", SENDER]
        command += ["--nexthop", f"[127.0.0.1]:{server.port}", "--", RECIPIENT]
        done = subprocess.run(
            command, input=MESSAGE.encode(), capture_output=True, check=False
        )
    finally:
        server.stop(no_assert=True)
    print(f"\n== {case.title}: it answers {case.reply!r} to RCPT TO\n")
    print(f"$ {' '.join(command)}")
    show(done, case, sink)
    if case.ends_well:
        return done.returncode == EX_OK and sink.received is not None
    if case.tried_again:
        return done.returncode == EX_TEMPFAIL
    return done.returncode not in (EX_OK, EX_TEMPFAIL)


def show(done: CompletedProcess[bytes], case: Case, sink: Sink) -> None:
    """Print how the program ended, and what the server has."""
    name = NAMES.get(done.returncode, "unknown")
    print(f"status line    {done.stdout.decode()}")
    print(f"exit status    {done.returncode} ({name})")
    print(f"consequence    {case.consequence}")
    if sink.received is None:
        print("server has     nothing")
        return
    envelope = sink.received
    print(f"server has     from <{envelope.mail_from}> to {envelope.rcpt_tos}:")
    content = envelope.content or b""
    text = content.decode() if isinstance(content, bytes) else content
    for line in text.splitlines():
        print(f"               | {line}")


def main(argv: list[str]) -> int:
    """Show all cases. Returns an exit status."""
    if len(argv) != 1:
        print("usage: python -m postfix_trouble.cli.demo PATH", file=sys.stderr)
        return 64
    print(
        "Postfix's pipe(8) runs this program for each message, and goes by its answer."
    )
    wrong = [case.title for case in CASES if not play(argv[0], case)]
    if wrong:
        print(f"\nNot as it should be: {', '.join(wrong)}")
        return 1
    print("\nAll results as expected. `make test` shows the rest; next: README.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
