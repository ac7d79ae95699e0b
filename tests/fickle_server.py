"""A mail server with a memory: what it says depends on how often it was asked.

    def judge(stage, subject, times):
        if stage == "rcpt" and subject.startswith("later") and times < 2:
            return "450 4.2.0 not now"
    with FickleServer(judge) as server:
        ...
    assert server.copies("later@b.test") == 1

The judge is asked at each stage (connect, ehlo, mail, rcpt, data, body, dot, quit) with
its subject (an address; at dot the first recipient) and how often the same was asked
before, on any connection. It returns what happens: nothing for success, the text of a
reply, "close" (orderly, without a word) or "reset". At dot also "take and close": the
message is kept, and nobody hears of it. `interfere` is called at each stage before
the judge.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

PATIENCE = 60.0
TAKE_AND_CLOSE = "take and close"
GREETING = (
    "250-mx.fickle.test\n250-PIPELINING\n250-SIZE 102400000\n250-8BITMIME\n"
    "250 ENHANCEDSTATUSCODES"
)
SUCCESS = {
    "connect": "220 mx.fickle.test ESMTP",
    "ehlo": GREETING,
    "mail": "250 2.1.0 Ok",
    "rcpt": "250 2.1.5 Ok",
    "data": "354 go ahead",
    "dot": "250 2.0.0 Ok: queued",
    "quit": "221 2.0.0 Bye",
    "rset": "250 2.0.0 Ok",
}
VERBS = {"EHLO": "ehlo", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data"}
VERBS |= {"QUIT": "quit", "RSET": "rset"}

Judge: TypeAlias = Callable[[str, str, int], str | None]


class Copy(NamedTuple):
    """A message that the server has taken."""

    sender: str
    recipients: tuple[str, ...]
    # As it came, up to the final dot, dots still doubled.
    text: bytes
    # When it was complete (monotonic), and whether the client was there to be told.
    at: float
    told: bool


class _Over(Exception):
    """The connection has ended."""


def accept_all(_stage: str, _subject: str, _times: int) -> str | None:
    return None


class FickleServer:
    """Listens at HOST:PORT from entering to leaving."""

    def __init__(
        self,
        judge: Judge = accept_all,
        *,
        listen: str = "127.0.0.1:0",
        interfere: Callable[[str], object] = lambda stage: None,
    ) -> None:
        self.judge = judge
        self.interfere = interfere
        self.journal: list[Copy] = []
        self.connections = 0
        self._asked: Counter[tuple[str, str]] = Counter()
        self._turn = threading.Lock()
        host, _, port = listen.rpartition(":")
        self._listener = socket.create_server((host, int(port)), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> FickleServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def copies(self, recipient: str) -> int:
        """How many messages were taken for a recipient."""
        return sum(copy.recipients.count(recipient) for copy in self.journal)

    def verdict(self, stage: str, subject: str) -> str:
        """Ask the judge, and count that."""
        self.interfere(stage)
        with self._turn:
            times = self._asked[stage, subject]
            self._asked[stage, subject] += 1
        return self.judge(stage, subject, times) or SUCCESS.get(stage, "500 5.5.2 what")

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.settimeout(PATIENCE)
            session = _Session(self, peer)
            threading.Thread(target=session.serve, daemon=True).start()


class _Session:
    """One connection."""

    def __init__(self, server: FickleServer, peer: socket.socket) -> None:
        self._server = server
        self._peer = peer
        self._pending = b""
        self._sender: str | None = None
        self._recipients: list[str] = []

    def serve(self) -> None:
        try:
            self._say("connect", "")
            while True:
                self._command(self._line().decode("utf-8", "replace"))
        except (OSError, _Over):
            pass
        finally:
            self._peer.close()

    def _command(self, line: str) -> None:
        stage = VERBS.get(line[:4].upper(), "unknown")
        subject = line.partition("<")[2].rpartition(">")[0]
        if stage == "rcpt" and self._sender is None:
            self._obey("503 5.5.1 need MAIL")
            return
        if stage == "data" and not self._recipients:
            self._obey("554 5.5.1 no valid recipients")
            return
        said = self._say(stage, subject)
        if stage in ("mail", "rset"):
            begun = stage == "mail" and said.startswith("2")
            self._sender, self._recipients = subject if begun else None, []
        elif stage == "rcpt" and said.startswith("2"):
            self._recipients.append(subject)
        elif stage == "data" and said.startswith("3"):
            self._message()
        elif stage == "quit":
            raise _Over

    def _message(self) -> None:
        self._obey(self._server.verdict("body", self._recipients[0]), quiet=True)
        while b"\r\n.\r\n" not in b"\r\n" + self._pending:
            self._pending += self._receive()
        text, _, self._pending = (b"\r\n" + self._pending).partition(b"\r\n.\r\n")
        at = time.monotonic()
        verdict = self._server.verdict("dot", self._recipients[0])
        if verdict.startswith("2") or verdict == TAKE_AND_CLOSE:
            told = verdict != TAKE_AND_CLOSE and not self._left_alone()
            recipients = tuple(self._recipients)
            copy = Copy(self._sender or "", recipients, text[2:] + b"\r\n", at, told)
            self._server.journal.append(copy)
        self._sender, self._recipients = None, []
        self._obey(verdict)
        self._server.interfere("told")

    def _left_alone(self) -> bool:
        """Whether the client did not wait for the answer."""
        poll = select.poll()
        poll.register(self._peer.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def _say(self, stage: str, subject: str) -> str:
        verdict = self._server.verdict(stage, subject)
        self._obey(verdict)
        return verdict

    def _obey(self, verdict: str, *, quiet: bool = False) -> None:
        if verdict == "reset":
            linger = struct.pack("ii", 1, 0)
            self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if verdict in ("close", "reset", TAKE_AND_CLOSE):
            raise _Over
        if not quiet:
            self._peer.sendall(verdict.replace("\n", "\r\n").encode() + b"\r\n")

    def _line(self) -> bytes:
        while b"\n" not in self._pending:
            self._pending += self._receive()
        line, _, self._pending = self._pending.partition(b"\n")
        return line.removesuffix(b"\r")

    def _receive(self) -> bytes:
        octets = self._peer.recv(65536)
        if not octets:
            raise _Over
        return octets
