"""However a server ends its lines: a message of ours is one message to it."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmtp_client import MakeService, services

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
EVIL = b"MAIL FROM:<evil@d.test>\r\nRCPT TO:<evil@d.test>\r\nDATA\r\nowned\r\n.\r\n"


class Sink:
    """A server with an idea of its own of where a line ends."""

    def __init__(self, end: bytes) -> None:
        self.end = end
        self.commands: list[bytes] = []
        self.messages: list[list[bytes]] = []
        self.octets = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._thread.join(60)
        self._listener.close()

    def _serve(self) -> None:
        peer, _ = self._listener.accept()
        # The client does not wait for the reply to QUIT, so that may find nobody.
        with peer, contextlib.suppress(ConnectionError):
            peer.settimeout(60)
            peer.sendall(b"220 sink\r\n")
            pending = b""
            message: list[bytes] | None = None
            while octets := peer.recv(65536):
                self.octets += octets
                *lines, pending = (pending + octets).split(self.end)
                for line in lines:
                    # What is left of CRLF, where half of it is enough.
                    bare = line.strip(b"\r\n")
                    if message is None:
                        message = self._command(peer, bare)
                    elif bare == b".":
                        self.messages.append(message)
                        message = None
                        peer.sendall(b"250 taken\r\n")
                    else:
                        message.append(bare)

    def _command(self, peer: socket.socket, line: bytes) -> list[bytes] | None:
        verb = line.partition(b" ")[0]
        self.commands.append(verb)
        peer.sendall(b"354 go\r\n" if verb == b"DATA" else b"250 ok\r\n")
        return [] if verb == b"DATA" else None


def deliver(sink: Sink, message: bytes) -> subprocess.CompletedProcess[bytes]:
    nexthop = f"[127.0.0.1]:{sink.port}"
    options = ["--nexthop", nexthop, "-o", "myhostname=me.test", "--log-file"]
    argv = [*PROGRAM, *options, "/dev/null", "--sender", "s@d.test", "--", "r@d.test"]
    return subprocess.run(
        argv, input=message, capture_output=True, check=False, timeout=30
    )


def held(sink: Sink, message: bytes) -> None:
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
    with Sink(end) as sink:
        held(sink, text)
    assert sink.commands == [b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]
    assert len(sink.messages) == 1
    data = sink.octets.partition(b"DATA\r\n")[2]
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
    with Sink(end) as sink, serve(f"[127.0.0.1]:{sink.port}").connect() as client:
        client.envelope("r@d.test")
        client.connection.sendall(wire + b"NOOP\r\n")
        assert client.reply() == "250"
        assert client.text() == "250 2.0.0 Ok"
        # Nothing that was in the message has been answered.
        assert client.ask("QUIT").startswith("221 ")
    assert sink.commands == [b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]
    assert len(sink.messages) == 1
    data = sink.octets.partition(b"DATA\r\n")[2]
    assert data.count(b"\r\n.\r\n") == 1


ENDINGS: list[Any] = [b"", b"\n", b"a", b"a\r", b"a\n.", b"a\n.\r", b".", b"a\r\n.\r\n"]


@pytest.mark.attack("smuggling: ends of messages")
@pytest.mark.parametrize("text", ENDINGS)
def test_end_of_a_message(text: bytes) -> None:
    with Sink(b"\r\n") as sink:
        held(sink, b"Subject: x\n\n" + text)
    assert (len(sink.messages), sink.commands[-1]) == (1, b"QUIT")


@pytest.mark.attack("smuggling: ends of data across the pieces that are read")
@pytest.mark.parametrize("before", range(65536 - 40, 65536 - 20, 3))
def test_sequences_across_the_pieces_in_which_text_is_read(before: int) -> None:
    head = b"Subject: x\n\n"
    lines = b"y" * 60 + b"\n"
    fill = (lines * 1200)[: before - len(head)]
    text = head + fill + b"".join(b"." + end for end in ENDS) + EVIL
    with Sink(b"\r") as sink:
        held(sink, text)
    assert len(sink.messages) == 1
    assert sink.commands.count(b"MAIL") == 1
