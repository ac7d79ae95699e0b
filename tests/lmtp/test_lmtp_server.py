"""The LMTP server on a real socket: what the client hears, what is delivered."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.core.envelope import DeliveryRequest
from postfix_trouble.lmtp.dialogue import Limits, Lines
from postfix_trouble.lmtp.listener import Stop
from postfix_trouble.lmtp.server import Deliver, Transaction, serve

PATIENCE = 60.0
SHORT = 0.2
ENVELOPE = b"LHLO x\r\nMAIL FROM:<s@d>\r\nRCPT TO:<a@d>\r\nRCPT TO:<b@d>\r\nDATA\r\n"
MESSAGE = b"Subject: x\r\n\r\n..dot\r\n.\r\n"


class Deliveries:
    """Notes what was to be delivered; the local part says how it ends."""

    def __init__(self) -> None:
        self.requests: list[DeliveryRequest] = []
        self.messages: list[bytes] = []
        self.on_disk: list[bool] = []

    def __call__(
        self, transaction: Transaction, gone: Callable[[], bool]
    ) -> Sequence[Lines]:
        self.requests.append(transaction.request)
        self.messages.append(transaction.message.read())
        self.on_disk.append(not hasattr(transaction.message, "getvalue"))
        return [
            (b"550-5.1.1 no such", b"550 5.1.1 user")
            if recipient.address.startswith("b@")
            else (b"250 2.0.0 Ok",)
            for recipient in transaction.request.recipients
        ]


def converse(said: bytes, deliver: Deliver, **options: object) -> list[bytes]:
    """All the lines that a client gets that says all this, and then hangs up."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(PATIENCE)
        writer = threading.Thread(target=_send, args=(ours, said))
        writer.start()
        served = threading.Thread(
            target=serve, args=(theirs, deliver), kwargs=options, daemon=True
        )
        served.start()
        with ours.makefile("rb") as replies:
            lines = replies.read().splitlines()
        writer.join(PATIENCE)
        served.join(PATIENCE)
        assert not served.is_alive()
    return lines


def _send(connection: socket.socket, said: bytes) -> None:
    try:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it was sent away


class Client:
    """A client that waits for replies."""

    def __init__(self, deliver: Deliver, **options: object) -> None:
        self.connection, theirs = socket.socketpair()
        self.connection.settimeout(PATIENCE)
        self.server = threading.Thread(
            target=serve, args=(theirs, deliver), kwargs=options, daemon=True
        )
        self.server.start()
        self.replies = self.connection.makefile("rb")
        assert self.line().startswith(b"220 ")

    def close(self) -> None:
        self.replies.close()
        self.connection.close()
        self.server.join(PATIENCE)

    def say(self, said: bytes) -> None:
        self.connection.sendall(said)

    def line(self) -> bytes:
        return self.replies.readline().removesuffix(b"\r\n")

    def reply(self) -> bytes:
        while (line := self.line())[3:4] == b"-":
            pass
        return line

    def ask(self, said: bytes) -> bytes:
        self.say(said)
        return self.reply()

    def ended(self) -> bool:
        self.server.join(PATIENCE)
        return self.replies.read() == b"" and not self.server.is_alive()


Connect = Callable[..., Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    clients: list[Client] = []

    def make(deliver: Deliver, **options: object) -> Client:
        clients.append(Client(deliver, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_each_recipient_gets_the_reply_of_its_own() -> None:
    deliver = Deliveries()
    lines = converse(ENVELOPE + MESSAGE + b"QUIT\r\n", deliver, hostname="mx.example")
    assert lines[0] == b"220 mx.example LMTP postfix-trouble"
    assert lines[1] == b"250-mx.example"
    assert lines[9:] == [
        b"250 2.1.0 Ok",
        b"250 2.1.5 Ok",
        b"250 2.1.5 Ok",
        b"354 End data with <CR><LF>.<CR><LF>",
        b"250 2.0.0 Ok",
        b"550-5.1.1 no such",
        b"550 5.1.1 user",
        b"221 2.0.0 Bye",
    ]
    assert deliver.messages == [b"Subject: x\n\n.dot\n"]
    [request] = deliver.requests
    assert request.sender == "s@d"
    assert [each.address for each in request.recipients] == ["a@d", "b@d"]
    assert request.size == len(b"Subject: x\r\n\r\n.dot\r\n")


def test_size_is_what_the_client_says() -> None:
    deliver = Deliveries()
    converse(ENVELOPE.replace(b"<s@d>", b"<s@d> SIZE=999") + MESSAGE, deliver)
    assert deliver.requests[0].size == 999


def test_a_pipelined_group_is_answered_by_one_write(connect: Connect) -> None:
    client = connect(Deliveries())
    client.ask(b"LHLO x\r\n")
    client.say(ENVELOPE.partition(b"\r\n")[2])
    assert client.connection.recv(4096).count(b"\r\n") == 4


def test_several_messages_over_one_connection() -> None:
    deliver = Deliveries()
    again = ENVELOPE.partition(b"\r\n")[2] + MESSAGE
    lines = converse(ENVELOPE + MESSAGE + b"RSET\r\n" + again + again, deliver)
    assert lines.count(b"250 2.0.0 Ok") == 1 + 3
    assert len(deliver.messages) == 3
    assert {request.recipients for request in deliver.requests} == {
        deliver.requests[0].recipients
    }


@pytest.mark.fault("LMTP a bug, no memory, an exit, endless recursion")
@pytest.mark.parametrize(
    "bug", [RuntimeError("oops"), SystemExit(1), MemoryError(), RecursionError()]
)
def test_a_bug_defers_and_the_connection_lives(bug: BaseException) -> None:
    def deliver(_: Transaction, gone: Callable[[], bool]) -> Sequence[Lines]:
        raise bug

    notes: list[str] = []
    lines = converse(ENVELOPE + MESSAGE + b"QUIT\r\n", deliver, note=notes.append)
    assert [line[:9] for line in lines[-3:-1]] == [b"451 4.3.0"] * 2
    assert lines[-1].startswith(b"221 ")
    assert len(notes) == 1
    assert type(bug).__name__ in notes[0]


@pytest.mark.parametrize(
    "replies", [[], [(b"250 Ok",)], [(b"250 Ok",)] * 3, [(b"250 Ok",), ()]], ids=repr
)
def test_replies_that_do_not_fit_the_recipients_defer(replies: list[Lines]) -> None:
    lines = converse(ENVELOPE + MESSAGE, lambda *_: replies)
    assert [line[:9] for line in lines[-2:]] == [b"451 4.3.0"] * 2


def test_a_large_message_goes_to_disk(tmp_path: Path) -> None:
    deliver = Deliveries()
    text = b"0123456789abcde\r\n" * 100_000
    converse(ENVELOPE + text + b".\r\n", deliver, spool_directory=str(tmp_path))
    assert deliver.messages == [text.replace(b"\r\n", b"\n")]
    assert deliver.on_disk == [True]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("12, LMTP no room for the message")
def test_a_message_that_cannot_be_kept_is_deferred(tmp_path: Path) -> None:
    deliver = Deliveries()
    text = b"0123456789abcde\r\n" * 100_000 + b".\r\nQUIT\r\n"
    missing = str(tmp_path / "missing")
    lines = converse(ENVELOPE + text, deliver, spool_directory=missing)
    assert [line[:9] for line in lines[-3:-1]] == [b"452 4.3.1"] * 2
    assert lines[-1].startswith(b"221 ")
    assert deliver.requests == []


@pytest.mark.attack("LMTP: more than was said")
def test_size_limit_holds_for_what_really_comes() -> None:
    deliver = Deliveries()
    text = b"x" * 1000 + b"\r\n.\r\nQUIT\r\n"
    lines = converse(ENVELOPE + text, deliver, limits=Limits(message=1000))
    assert [line[:9] for line in lines[-3:-1]] == [b"552 5.3.4"] * 2
    assert lines[-1].startswith(b"221 ")
    assert deliver.requests == []


@pytest.mark.attack("LMTP: half a message")
@pytest.mark.parametrize(
    "said",
    [
        ENVELOPE + MESSAGE[:-1],
        ENVELOPE + b"half a li",
        ENVELOPE,
        ENVELOPE[:-2],
        b"",
    ],
    ids=["the last byte", "in a line", "before data", "in DATA", "at once"],
)
def test_half_a_message_is_no_message(said: bytes) -> None:
    deliver = Deliveries()
    converse(said, deliver)
    assert deliver.requests == []


@pytest.mark.attack("LMTP: endless lines")
def test_a_line_may_be_long_but_not_endless() -> None:
    limits = Limits(line=5000)
    fits = b"NOOP " + b"x" * 4995 + b"\r\n"
    long = b"NOOP " + b"x" * 300_000 + b"\r\n"
    lines = converse(fits + long + b"NOOP\r\nQUIT\r\n", Deliveries(), limits=limits)
    assert [line[:9] for line in lines[1:]] == [
        b"250 2.0.0",
        b"500 5.5.2",
        b"250 2.0.0",
        b"221 2.0.0",
    ]


@pytest.mark.attack("LMTP, smuggling: line ends in addresses")
def test_a_line_end_in_an_address_does_not_smuggle_a_command() -> None:
    """lmtp(8) sends what stands between quotes as it is."""
    deliver = Deliveries()
    evil = b'RCPT TO:<"a\\\nRCPT TO:<victim@d>\nRCPT TO:<x"@d>\r\n'
    said = ENVELOPE.replace(b"RCPT TO:<a@d>\r\n", evil) + MESSAGE
    lines = converse(said, deliver)
    assert [line for line in lines if line.startswith(b"501 5.1.3 ")]
    assert [each.address for each in deliver.requests[0].recipients] == ["b@d"]


def test_silence_ends_the_session(connect: Connect) -> None:
    client = connect(Deliveries(), limits=Limits(idle=SHORT))
    assert client.line() == b"421 4.4.2 Timeout exceeded"
    assert client.ended()


@pytest.mark.attack("LMTP, deadlines: a client that drips")
def test_a_client_that_drips_is_no_longer_waited_for(connect: Connect) -> None:
    client = connect(Deliveries(), limits=Limits(data=SHORT))
    client.say(ENVELOPE)
    client.reply()
    for _ in range(4):
        client.reply()
    client.say(b"drip")
    assert client.line() == b"421 4.4.2 Timeout exceeded"
    assert client.ended()


def test_stop_sends_an_idle_client_away(connect: Connect) -> None:
    stop = Stop()
    client = connect(Deliveries(), stop=stop)
    client.ask(b"LHLO x\r\n")
    stop.set()
    assert client.line() == b"421 4.3.2 Service is shutting down"
    assert client.ended()


def test_stop_lets_a_transaction_end(connect: Connect) -> None:
    stop, deliver = Stop(), Deliveries()
    client = connect(deliver, stop=stop)
    client.say(ENVELOPE)
    for _ in range(5):
        client.reply()
    stop.set()
    assert client.ask(MESSAGE) == b"250 2.0.0 Ok"
    assert client.reply() == b"550 5.1.1 user"
    assert client.line().startswith(b"421 4.3.2 ")
    assert client.ended()


def test_stop_does_not_wait_for_ever(connect: Connect) -> None:
    stop = Stop()
    client = connect(Deliveries(), stop=stop, limits=Limits(grace=SHORT))
    client.say(ENVELOPE)
    for _ in range(5):
        client.reply()
    stop.set()
    assert client.line().startswith(b"421 ")
    assert client.ended()


def test_whether_the_client_has_gone(connect: Connect) -> None:
    """A delivery can see it, and whoever reads the log can see that too."""
    hung_up = threading.Event()
    seen: list[bool] = []
    notes: list[str] = []

    def deliver(transaction: Transaction, gone: Callable[[], bool]) -> Sequence[Lines]:
        seen.append(gone())
        client.connection.shutdown(socket.SHUT_RDWR)
        hung_up.set()
        seen.append(gone())
        return [(b"250 2.0.0 Ok",)] * len(transaction.request.recipients)

    client = connect(deliver, note=notes.append)
    client.say(ENVELOPE + MESSAGE)
    assert hung_up.wait(PATIENCE)
    client.server.join(PATIENCE)
    assert seen == [False, True]
    assert notes == ["client hung up before the reply: it may send the message again"]


def test_over_tcp_small_replies_do_not_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours:
        thread = threading.Thread(target=serve, args=(theirs, Deliveries()))
        thread.start()
        ours.settimeout(PATIENCE)
        assert ours.recv(100).startswith(b"220 ")
        assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        ours.shutdown(socket.SHUT_WR)
        thread.join(PATIENCE)
        assert ours.recv(1) == b""


PIECES = st.sampled_from(
    [
        b"LHLO x\r\n",
        b"MAIL FROM:<s@d>\r\n",
        b"RCPT TO:<a@d>\r\n",
        b"RCPT TO:<b@d>\r\n",
        b"DATA\r\n",
        b"\r\n.\r\n",
        b".\r\n",
        b"RSET\r\n",
        b"QUIT\r\n",
        b"XFORWARD NAME=x\r\n",
        b"\r",
        b"\n",
    ]
)
REPLY = re.compile(rb"[2345][0-9][0-9][ -][\x20-\x7e]*")


@pytest.mark.attack("LMTP: any bytes (hypothesis)")
@given(st.lists(PIECES | st.binary(max_size=20), max_size=20).map(b"".join))
def test_any_bytes_are_served(said: bytes) -> None:
    """No thread: what fits the socket's buffers is served in one go."""
    ours, theirs = socket.socketpair()
    deliver = Deliveries()
    with ours:
        ours.sendall(said)
        ours.shutdown(socket.SHUT_WR)
        serve(theirs, deliver)
        with ours.makefile("rb") as replies:
            lines = replies.read().split(b"\r\n")
    assert lines.pop() == b""
    assert all(REPLY.fullmatch(line) for line in lines)
    ends = sum(len(request.recipients) for request in deliver.requests)
    told = [line for line in lines if line in (b"250 2.0.0 Ok", b"550 5.1.1 user")]
    assert len(told) >= ends


def test_import_is_cheap() -> None:
    script = (
        "import sys, socket, threading, select\n"
        "before = set(sys.modules)\n"
        "import postfix_trouble.lmtp.server, postfix_trouble.lmtp.listener\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))\n"
    )
    command = [sys.executable, "-I", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    heavy = {"asyncio", "email", "json", "logging", "shutil", "ssl", "tempfile"}
    assert not heavy & set(done.stdout.split())
