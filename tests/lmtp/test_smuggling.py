"""However a server ends its lines: a message of ours is one message to it."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmtp_client import MakeService, services
from scripted_server import ScriptedServer

PROGRAM = [sys.executable, "-I", "-m", "postfix_trouble", "deliver"]

# Line ends around a dot that some server takes for the end of a message.
ENDS = [b"\n", b"\r\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r"]
SEQUENCES = [
    *(first + b"." + last for first, last in itertools.product(ENDS, ENDS)),
    b"\r\n.\0\r\n",
    b"\r\n\0.\r\n",
    b"\n.\0\n",
    b"\r\n.\x0b\r\n",
    b"\x0b.\x0b",
    b"\x0c.\x0c",
    b"\r\n\x85.\x85\r\n",
    "\u2028.\u2028".encode(),
    b"\r\n. \r\n",
    b"\r\n .\r\n",
    b"\r\n..\r\n",
]
ONE_MESSAGE = ["EHLO", "MAIL", "RCPT", "DATA", "<message", "QUIT"]
EVIL = b"MAIL FROM:<evil@d.test>\r\nRCPT TO:<evil@d.test>\r\nDATA\r\nowned\r\n.\r\n"


def sink_with(end: bytes) -> ScriptedServer:
    """A server with an idea of its own of where a line ends."""
    return ScriptedServer({"line_end": end})


def verbs(sink: ScriptedServer) -> list[str]:
    (connection,) = sink.connections
    return [line.partition(" ")[0] for line in connection.commands]


def deliver(sink: ScriptedServer, message: bytes) -> subprocess.CompletedProcess[bytes]:
    nexthop = f"[127.0.0.1]:{sink.port}"
    options = ["--nexthop", nexthop, "-o", "myhostname=me.test", "--log-file"]
    argv = [*PROGRAM, *options, "/dev/null", "--sender", "s@d.test", "--", "r@d.test"]
    return subprocess.run(argv, input=message, capture_output=True, check=False)


def held(sink: ScriptedServer, message: bytes) -> None:
    done = deliver(sink, message)
    assert (done.returncode, done.stderr) == (0, b""), done.stdout


LINE_ENDS = [b"\r\n", b"\n", b"\r"]


@pytest.mark.attack(
    "smuggling: 47 ends of data, servers that end lines at CRLF, LF or CR"
)
@pytest.mark.parametrize("end", LINE_ENDS, ids=["CRLF", "LF", "CR"])
def test_message_stays_one_message(end: bytes) -> None:
    text = b"Subject: smuggled\n\n" + b"".join(
        b"text %d" % number + sequence + EVIL
        for number, sequence in enumerate(SEQUENCES)
    )
    with sink_with(end) as sink:
        held(sink, text)
    assert verbs(sink) == ONE_MESSAGE
    data = sink.connections[0].octets.partition(b"DATA\r\n")[2]
    assert data.count(b"\r\n.\r\n") == 1
    assert data.endswith(b"\r\n.\r\nQUIT\r\n")
    # Other stray CRs pass, as they do from Postfix.
    assert not re.search(rb"(?<!\r)\n|\r[.\0]", data)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[MakeService]:
    yield from services(str(tmp_path / "log"))


@pytest.mark.attack("smuggling, LMTP: the same 47, as they come from lmtp(8)")
@pytest.mark.parametrize("end", LINE_ENDS, ids=["CRLF", "LF", "CR"])
def test_message_through_the_lmtp_server(serve: MakeService, end: bytes) -> None:
    """The other direction: a client of ours ends the data with one sequence only."""
    text = b"Subject: smuggled\r\n\r\n" + b"".join(
        b"text %d" % number + sequence + EVIL
        for number, sequence in enumerate(SEQUENCES)
    )
    # As a client must: a dot that begins a line is doubled.
    wire = text.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n"
    with sink_with(end) as sink, serve(f"[127.0.0.1]:{sink.port}").connect() as client:
        client.envelope("r@d.test")
        client.connection.sendall(wire + b"NOOP\r\n")
        assert client.reply() == "250"
        assert client.text() == "250 2.0.0 Ok"
        # Nothing that was in the message has been answered.
        assert client.ask("QUIT").startswith("221 ")
    assert verbs(sink) == ONE_MESSAGE
    data = sink.connections[0].octets.partition(b"DATA\r\n")[2]
    assert data.count(b"\r\n.\r\n") == 1


ENDINGS: list[Any] = [b"", b"\n", b"a", b"a\r", b"a\n.", b"a\n.\r", b".", b"a\r\n.\r\n"]


@pytest.mark.attack("smuggling: ends of messages")
@pytest.mark.parametrize("text", ENDINGS)
def test_end_of_a_message(text: bytes) -> None:
    with sink_with(b"\r\n") as sink:
        held(sink, b"Subject: x\n\n" + text)
    assert verbs(sink) == ONE_MESSAGE


@pytest.mark.attack("smuggling: ends of data across the pieces that are read")
@pytest.mark.parametrize("before", range(65536 - 40, 65536 - 20, 3))
def test_sequences_across_the_pieces_in_which_text_is_read(before: int) -> None:
    head = b"Subject: x\n\n"
    lines = b"y" * 60 + b"\n"
    fill = (lines * 1200)[: before - len(head)]
    text = head + fill + b"".join(b"." + end for end in ENDS) + EVIL
    with sink_with(b"\r") as sink:
        held(sink, text)
    assert verbs(sink) == ONE_MESSAGE
