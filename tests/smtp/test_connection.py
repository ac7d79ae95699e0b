"""One connection over real sockets, whatever the server does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postfix_trouble.core.relay import Relay
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.smtp.connection import Connection, TimeLimits
from postfix_trouble.smtp.smtplib_lean import smtplib

RELAY = Relay("mx.test", "127.0.0.1", 25)
# Seconds that a test waits for what must not come.
SHORT = 0.2


class Peer:
    """Our connection, and the socket of the server at its other end."""

    def __init__(self, **options: Any) -> None:
        ours, self.server = socket.socketpair()
        self.notes: list[str] = []
        limits = options.pop("limits", None) or TimeLimits(lambda: 60.0)
        self.connection = Connection(
            ours, RELAY, limits, note=self.notes.append, **options
        )

    def says(self, data: bytes) -> None:
        self.server.sendall(data)

    def read(self, limit: float = 60.0) -> Reply | Lost:
        return self.connection.read("phase", limit)

    def close(self) -> None:
        self.connection.drop()
        self.server.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


@contextlib.contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    """Have the server do something meanwhile."""

    def quietly() -> None:
        with contextlib.suppress(OSError):
            work()

    thread = threading.Thread(target=quietly)
    thread.start()
    yield
    thread.join()


def code(answer: Reply | Lost) -> int:
    assert isinstance(answer, Reply), answer
    return answer.code


# --- reading --------------------------------------------------------------------------


def test_replies_one_by_one(peer: Peer) -> None:
    peer.says(b"220-a\r\n220 b\r\n250 c\r\n")
    assert [code(peer.read()), code(peer.read())] == [220, 250]
    assert peer.read(SHORT) is Lost.TIME


def test_end_of_file(peer: Peer) -> None:
    peer.server.close()
    assert peer.read() is Lost.EOF


def test_end_of_file_within_a_reply(peer: Peer) -> None:
    peer.says(b"250-half\r\n250")
    peer.server.close()
    assert peer.read() is Lost.EOF


def test_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    connection = Connection(ours, RELAY, TimeLimits(lambda: 60.0))
    assert connection.read("phase", 60.0) is Lost.EOF
    connection.drop()


def test_silence(peer: Peer) -> None:
    begun = time.monotonic()
    assert peer.read(0.05) is Lost.TIME
    assert time.monotonic() - begun < 10


@pytest.mark.more
def test_limit_is_for_each_byte(peer: Peer) -> None:
    def drip() -> None:
        for octet in b"220 slow but steady\r\n":
            peer.says(bytes([octet]))
            time.sleep(0.5)

    with in_thread(drip):
        assert code(peer.read(10.0)) == 220


def test_budget_is_for_the_whole_phase() -> None:
    peer = Peer(limits=TimeLimits(lambda: 60.0, budgets=True))

    def drip() -> None:
        for octet in b"220 slow but steady\r\n":
            peer.says(bytes([octet]))
            time.sleep(0.02)

    with in_thread(drip):
        assert peer.read(0.1) is Lost.TIME
        peer.connection.drop()
    peer.close()


def test_phases_share_a_budget_by_name() -> None:
    limits = TimeLimits(lambda: 900.0, budgets=True)
    limits.arm("handshake", 100.0)
    first = limits.seconds()
    limits.arm("handshake", 200.0)
    assert limits.seconds() <= first
    limits.arm("mail", 200.0)
    assert limits.seconds() > 190


def test_progress_earns_time() -> None:
    limits = TimeLimits(lambda: 60.0, budgets=True, min_rate=500)
    limits.arm("body", 10.0)
    limits.wrote(500)
    assert limits.seconds() <= 10.0, "never more than the limit"
    limits.arm("other", 0.0)
    limits.arm("body", 0.5)
    limits._limit = 10.0
    limits.wrote(500)
    assert 1.0 < limits.seconds() <= 1.5


@pytest.mark.parametrize("left", [0.0, -5.0])
def test_nothing_is_waited_for_after_the_deadline(left: float) -> None:
    peer = Peer(limits=TimeLimits(lambda: left))
    assert peer.read(60.0) is Lost.TIME
    peer.connection.putcmd("NOOP")
    assert peer.read(60.0) is Lost.TIME
    peer.close()


def test_deadline_ends_a_drip() -> None:
    end = time.monotonic() + 0.15
    peer = Peer(limits=TimeLimits(lambda: end - time.monotonic()))

    def drip() -> None:
        while True:
            peer.says(b"2")
            time.sleep(0.01)

    with in_thread(drip):
        assert peer.read(60.0) is Lost.TIME
        peer.connection.drop()
    assert time.monotonic() - end < 10
    peer.close()


@pytest.mark.parametrize("line", [b"220-AAAA\r\n", b"\n", b"x" * 1000, b"junk\r\n"])
def test_endless_reply(peer: Peer, line: bytes) -> None:
    def pour() -> None:
        chunk = line * (65536 // len(line))
        while True:
            peer.says(chunk)

    with in_thread(pour):
        assert peer.read() is Lost.EOF
        peer.connection.drop()
        peer.server.shutdown(socket.SHUT_RDWR)
    kept = sum(len(text) + 64 for _, text in peer.connection.transcript)
    assert kept < 5 << 20


def test_transcript_of_another_request_is_its_own(peer: Peer) -> None:
    peer.says(b"junk\r\n220 a\r\n")
    peer.read()
    assert peer.connection.garbage
    assert peer.connection.transcript == [("In: ", "junk"), ("In: ", "220 a")]
    peer.connection.start_over(lambda: 60.0)
    assert not peer.connection.garbage
    assert peer.connection.transcript == []


def test_notes_name_the_server(peer: Peer) -> None:
    peer.says(b"220 " + b"x" * 3000 + b"\r\n")
    peer.read()
    where = "mx.test[127.0.0.1]:25"
    assert peer.notes[0].startswith(f"{where}: response longer than 2048: 220 xxx")


def test_reply_filter() -> None:
    peer = Peer(reply_filter=lambda line: "421 no" if "x" in line else None)
    peer.says(b"220 x\r\n")
    assert code(peer.read()) == 421
    peer.close()


def test_reply_in_the_form_of_smtplib(peer: Peer) -> None:
    peer.connection.limits.arm("auth", 60.0)
    peer.says(b"334-a\r\n334 b\r\n")
    assert peer.connection.getreply() == (334, b"a\nb")
    peer.server.close()
    with pytest.raises(smtplib.SMTPServerDisconnected):
        peer.connection.getreply()
    assert peer.connection.reply is Lost.EOF


# --- writing --------------------------------------------------------------------------


def test_commands_leave_together_with_the_next_read(peer: Peer) -> None:
    peer.connection.putcmd("MAIL FROM:<>")
    peer.connection.putcmd("DATA")
    peer.server.settimeout(0.05)
    with pytest.raises(TimeoutError):
        peer.server.recv(100)
    peer.says(b"250 ok\r\n")
    peer.read()
    assert peer.server.recv(100) == b"MAIL FROM:<>\r\nDATA\r\n"


def test_last_piece_of_the_message_leaves_with_the_dot(peer: Peer) -> None:
    for chunk in (b"a\r\n", b"b\r\n"):
        assert peer.connection.write(chunk, 60.0) is None
    assert peer.server.recv(100) == b"a\r\n"
    peer.connection.putcmd(".")
    peer.says(b"250 ok\r\n")
    peer.read()
    assert peer.server.recv(100) == b"b\r\n.\r\n"


def test_early_reply_while_a_large_message_is_written(peer: Peer) -> None:
    def refuse() -> None:
        peer.server.recv(1000)
        peer.says(b"552 5.3.4 too much\r\n")
        peer.server.shutdown(socket.SHUT_RDWR)

    lost = None
    with in_thread(refuse):
        for _ in range(1000):
            lost = peer.connection.write(b"x" * 60000, 2.0)
            if lost is not None:
                break
    assert lost is Lost.EOF
    answer = peer.read()
    assert code(answer) == 552, "it is still there to be read"


def test_server_that_does_not_read(peer: Peer) -> None:
    lost = None
    for _ in range(1000):
        lost = peer.connection.write(b"x" * 60000, 0.05)
        if lost is not None:
            break
    assert lost is Lost.TIME


def test_slow_but_steady_receiver(peer: Peer) -> None:
    def sip() -> None:
        while peer.server.recv(40000):
            time.sleep(0.05)

    with in_thread(sip):
        for _ in range(40):
            assert peer.connection.write(b"x" * 60000, 60.0) is None
        peer.connection.hang_up()


def test_hanging_up_says_goodbye(peer: Peer) -> None:
    peer.connection.putcmd("QUIT")
    peer.connection.hang_up()
    assert peer.server.recv(100) == b"QUIT\r\n"
    assert peer.connection.read("phase", SHORT) in (Lost.EOF, Lost.TIME)
    assert not peer.connection.pending()


def test_dropping_says_nothing(peer: Peer) -> None:
    peer.connection.putcmd("QUIT")
    peer.connection.drop()
    assert peer.server.recv(100) == b""


def test_something_unasked(peer: Peer) -> None:
    assert not peer.connection.pending()
    peer.says(b"250 ok\r\n421 bye\r\n")
    peer.read()
    assert peer.connection.pending(), "read already, not used yet"
    peer.read()
    assert not peer.connection.pending()
    peer.says(b"4")
    assert peer.connection.pending(), "still in the socket"


def test_secrets_are_not_in_the_transcript(peer: Peer) -> None:
    peer.connection.secret = True
    peer.connection.putcmd("AUTH PLAIN c2VjcmV0")
    peer.connection.putcmd("c2VjcmV0")
    peer.says(b"334 c2VjcmV0\r\n235 ok\r\n")
    peer.read()
    peer.read()
    shown = "\n".join(line for _, line in peer.connection.transcript)
    assert "c2Vj" not in shown
    assert "AUTH PLAIN" in shown
    assert "235" in shown


# --- TLS ------------------------------------------------------------------------------


def test_words_in_the_clear_do_not_count_under_tls(
    certificates: Path, peer: Peer
) -> None:
    peer.says(b"220 go\r\n250 injected\r\n250-EHLO")
    assert code(peer.read()) == 220
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "good.pem", certificates / "good-key.pem")

    def serve() -> None:
        with context.wrap_socket(peer.server, server_side=True) as server:
            server.sendall(b"250 real\r\n")
            server.recv(10)

    with in_thread(serve):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        assert peer.connection.sock is not None
        peer.connection.sock.settimeout(60)
        peer.connection.secured(client.wrap_socket(peer.connection.sock))
        answer = peer.read()
        peer.connection.drop()
    assert isinstance(answer, Reply)
    assert answer.text == "250 real"
