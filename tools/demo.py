"""`make demo`: what the program does, shown on servers that take mail and that do not.

Starts an SMTP server on loopback for each case (aiosmtpd, one of the test extras) and
runs the installed program against it as pipe(8) would. Ends with 0 if all went as told.

usage: python tools/demo.py PATH-OF-POSTFIX-TROUBLE
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from postfix_trouble.core.sysexits import EX_USAGE, NAMES
from postfix_trouble.core.value import Value
from postfix_trouble.terminal import columns, screen
from postfix_trouble.terminal.columns import Field, wrapped
from postfix_trouble.terminal.help_text import continued

if TYPE_CHECKING:
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
CLOSE = "it says nothing, and hangs up"
MEANING = (
    "Exit status, and what Postfix's pipe(8) makes of it: all but 0, 71 and 75 bounce."
    " The script is smtplib as it comes: an exception ends it with 1."
)
COLOURS = {"sent": "green", "deferred": "yellow", "bounced": "red"}


class Case(Value):
    """A server, by its answer to RCPT TO, and what becomes of the mail."""

    title: str
    reply: str
    # Our exit status, and what Postfix makes of it.
    code: int
    outcome: str
    consequence: str
    # The same of msmtp, and of a script with smtplib that catches nothing.
    msmtp: str
    script: str


CASES = (
    Case(
        "a server that takes the message",
        "250 2.1.5 Ok",
        0,
        "sent",
        "Postfix takes it from the queue: delivered.",
        "0  sent",
        "0  sent",
    ),
    Case(
        "a server that is not ready (greylisting, say)",
        "450 4.2.0 Greylisted, come back later",
        75,
        "deferred",
        "Postfix keeps it in the queue and tries again later.",
        "69 bounced",
        "1  bounced",
    ),
    Case(
        "a server that refuses for good",
        "550 5.1.1 No such user",
        67,
        "bounced 5.1.1",
        "Postfix returns it to the sender.",
        "65 bounced 5.6.0",
        "1  bounced 5.3.0",
    ),
    Case(
        "a server that hangs up in the middle",
        CLOSE,
        75,
        "deferred",
        "Postfix keeps it in the queue: the outcome is unknown.",
        "76 bounced",
        "1  bounced",
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
    nexthop = f"[127.0.0.1]:{server.port}"
    try:
        command = [program, "deliver", "--sender", SENDER]
        command += ["--nexthop", nexthop, "--", RECIPIENT]
        done = subprocess.run(
            command, input=MESSAGE.encode(), capture_output=True, check=False
        )
    finally:
        server.stop(no_assert=True)
    paint, width = screen.painter(), screen.width()
    says = case.reply if case.reply == CLOSE else f"it answers {case.reply}"
    print()
    for line in wrapped(f"== {case.title}", width):
        print(paint("bold", line))
    for line in wrapped(f"to RCPT TO {says}", width - 3):
        print(f"   {line}")
    command = ["postfix-trouble deliver --sender", SENDER, "--nexthop", f"'{nexthop}'"]
    line = " ".join([*command, "--", RECIPIENT, "< message"])
    print(f"\n$ {continued(line, width - 4)}")
    colour = COLOURS[case.outcome.partition(" ")[0]]
    name = NAMES.get(done.returncode, "unknown")
    show("status line", done.stdout.decode(), width)
    show("exit status", paint(colour, f"{done.returncode} ({name})"))
    show("consequence", case.consequence, width)
    if sink.received is None:
        show("server has", "nothing")
    else:
        envelope = sink.received
        whom = f"<{envelope.mail_from}> to <{'> <'.join(envelope.rcpt_tos)}>"
        show("server has", f"from {whom}:", width)
        content = envelope.content or b""
        text = content.decode() if isinstance(content, bytes) else content
        for line in text.splitlines():
            show("", f"| {line}", width)
    return done.returncode == case.code and (sink.received is not None) == (
        not case.code
    )


def show(title: str, text: str, width: int = 0) -> None:
    """Print a line of a case, broken where it is too long."""
    lines = wrapped(text, width - 15) if width else [text]
    for number, line in enumerate(lines):
        print(f"{'' if number else title:15}{line}".rstrip())


def table() -> None:
    """Print what becomes of the four messages with this program, and with others."""
    titles = ("the server", "postfix-trouble", "msmtp", "a script")
    rows = []
    for case in CASES:
        code, _, words = case.reply.partition(",")[0].split(" ", 2)
        says = "hangs up" if case.reply == CLOSE else f"{code} {words}"
        right = case.outcome.partition(" ")[0]
        row = [Field(titles[0], says)]
        texts = (f"{case.code:<2} {case.outcome}", case.msmtp, case.script)
        for title, text in zip(titles[1:], texts, strict=True):
            known = text[3:].partition(" ")[0]
            row.append(Field(title, text, "green" if known == right else "red"))
        rows.append(row)
    width = screen.width()
    print()
    print("\n".join(columns.table(titles, rows, width, screen.painter())))
    print()
    print("\n".join(wrapped(MEANING, width)))


def main(argv: list[str]) -> int:
    """Show all cases. Returns an exit status."""
    if len(argv) != 1:
        print("usage: python tools/demo.py PATH", file=sys.stderr)
        return EX_USAGE
    width = screen.width()
    text = (
        "Postfix's pipe(8) runs this program for each message, and goes by its answer."
    )
    print("\n".join(wrapped(text, width)))
    wrong = [case.title for case in CASES if not play(argv[0], case)]
    table()
    if wrong:
        print(f"\nNot as it should be: {', '.join(wrong)}")
        return 1
    text = "All results as expected. `make test` shows the rest; next: README.md."
    print("\n" + "\n".join(wrapped(text, width)))
    return 0


if __name__ == "__main__":
    from signal import SIG_DFL, SIGPIPE, signal

    # Who reads it may stop.
    signal(SIGPIPE, SIG_DFL)
    sys.exit(main(sys.argv[1:]))
