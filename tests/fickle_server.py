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

import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from servers.dialogue import SUCCESS, Connection, address
from servers.listener import Listener
from servers.turn import poll

TAKE_AND_CLOSE = "take and close"
SCRIPT = {
    "host": "mx.fickle.test",
    "keywords": ("PIPELINING", "SIZE 102400000", "8BITMIME", "ENHANCEDSTATUSCODES"),
}
# As a script has it, where that is another word.
STAGES = {"banner": "connect", "eod": "dot", "connect": ""}
ENDINGS: dict[str, Any] = {
    "close": {"then": "close"},
    "reset": {"then": "reset"},
    TAKE_AND_CLOSE: {"then": "close"},
}

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


def accept_all(_stage: str, _subject: str, _times: int) -> str | None:
    return None


class FickleServer(Listener):
    """Listens at HOST:PORT; serves from entering to leaving."""

    def __init__(
        self,
        judge: Judge = accept_all,
        *,
        listen: str = "127.0.0.1:0",
        interfere: Callable[[str], object] = lambda stage: None,
    ) -> None:
        super().__init__(listen)
        self.judge = judge
        self.interfere = interfere
        self.journal: list[Copy] = []
        self._asked: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()
        self._count = 0
        self.bind()

    @property
    def connections(self) -> int:
        """How many were made."""
        self._turn.settle()
        return self._count

    def copies(self, recipient: str) -> int:
        """How many messages were taken for a recipient."""
        return sum(copy.recipients.count(recipient) for copy in self.journal)

    def verdict(self, stage: str, subject: str) -> str | None:
        """Ask the judge, and count that."""
        self.interfere(stage)
        with self._counting:
            times = self._asked[stage, subject]
            self._asked[stage, subject] += 1
        return self.judge(stage, subject, times)

    def begin(self, peer: socket.socket) -> Connection:
        """Judged at each stage."""
        self._count += 1
        return _Judged(self, peer)


class _Judged(Connection):
    """One connection."""

    def __init__(self, server: FickleServer, peer: socket.socket) -> None:
        super().__init__(SCRIPT, peer, False, "", {})
        self._server = server
        self._subject = ""

    def _command(self, line: bytes) -> None:
        self._subject = address(line)
        verb = line[:4].upper()
        if verb == b"RCPT" and self._sender is None:
            self._play("503 5.5.1 need MAIL")
        elif verb == b"DATA" and not self._accepted:
            self._play("554 5.5.1 no valid recipients")
        else:
            super()._command(line)

    def _judgement(self, stage: str, subject: str) -> str | None:
        return self._turn.pause(partial(self._server.verdict, stage, subject))

    def _choose(self, *stages: str) -> Any:
        stage = STAGES.get(stages[-1], stages[-1])
        subject = self._accepted[0][1] if stage == "body" else self._subject
        said = self._judgement(stage, subject) if stage else None
        return None if said is None else ENDINGS.get(said, said)

    def _answer_the_dot(self) -> None:
        at = time.monotonic()
        recipients = tuple(address for _, address in self._accepted)
        said = self._judgement("dot", recipients[0]) or SUCCESS["eod"]
        if said.startswith("2") or said == TAKE_AND_CLOSE:
            # Not if it did not wait for the answer.
            told = not poll((self._peer.fileno(), select.POLLRDHUP), 0)
            told = told and said != TAKE_AND_CLOSE
            copy = Copy(self._sender or "", recipients, self._messages.pop(), at, told)
            self._server.journal.append(copy)
        self._play(ENDINGS.get(said, said))
        self._server.interfere("told")
