"""A connection of ours is an smtplib.SMTP, and works as documented there."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from postfix_trouble.core.relay import Relay
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.smtp.connection import Connection, TimeLimits
from postfix_trouble.smtp.smtplib_lean import smtplib

# Seconds: for a server that answers at once, on a machine that may be busy.
PATIENCE = 60.0


class Mailbox:
    """Keeps what the server took."""

    def __init__(self) -> None:
        self.messages: list[tuple[str | None, list[str], bytes | str | None]] = []

    async def handle_RCPT(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        _: list[str],
    ) -> str:
        if address.startswith("nobody@"):
            return "550-5.1.1 no\r\n550 5.1.1 such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.messages.append(
            (envelope.mail_from, envelope.rcpt_tos, envelope.original_content)
        )
        return "250 2.0.0 taken"


class Server(Controller):
    """A real SMTP server, with STARTTLS."""

    def __init__(self, certificates: Path) -> None:
        self.mailbox = Mailbox()
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        pem, key = certificates / "good.pem", certificates / "good-key.pem"
        self.tls.load_cert_chain(pem, key)
        super().__init__(
            self.mailbox, hostname="127.0.0.1", port=0, ready_timeout=PATIENCE
        )

    def factory(self) -> SMTP:
        return SMTP(self.mailbox, tls_context=self.tls, hostname="mx.test")

    def _trigger_server(self) -> None:
        # Port 0: the one that the system chose.
        self.port = self.server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        super()._trigger_server()  # type: ignore[no-untyped-call]


@pytest.fixture
def server(certificates: Path) -> Iterator[Server]:
    made = Server(certificates)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    sock = socket.create_connection(("127.0.0.1", server.port))
    made = Connection(
        sock, Relay("localhost", "127.0.0.1", server.port), TimeLimits(lambda: PATIENCE)
    )
    code, text = made.getreply()
    assert (code, text[:7]) == (220, b"mx.test")
    yield made
    made.close()


def test_it_is_one(connection: Connection) -> None:
    assert isinstance(connection, smtplib.SMTP)


def test_commands(connection: Connection) -> None:
    assert connection.ehlo("client.test")[0] == 250
    assert connection.has_extn("size")
    assert connection.has_extn("starttls")
    assert connection.noop()[0] == 250
    assert connection.docmd("VRFY", "a@b.test")[0] == 252
    assert connection.mail("s@a.test") == (250, b"OK")
    assert connection.rcpt("nobody@b.test") == (550, b"5.1.1 no\n5.1.1 such user")
    assert connection.rset() == (250, b"OK")
    assert connection.quit() == (221, b"Bye")
    assert connection.sock is None


def test_message(connection: Connection, server: Server) -> None:
    refused = connection.sendmail(
        "s@a.test", ["nobody@b.test", "r@b.test"], b"Subject: x\r\n\r\n.\r\nend\r\n"
    )
    assert list(refused) == ["nobody@b.test"]
    assert server.mailbox.messages == [
        ("s@a.test", ["r@b.test"], b"Subject: x\r\n\r\n.\r\nend\r\n")
    ]


def test_starttls(connection: Connection, server: Server) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    assert connection.starttls(context=context)[0] == 220
    assert isinstance(connection.sock, ssl.SSLSocket)
    assert connection.ehlo("client.test")[0] == 250
    assert not connection.has_extn("starttls")
    connection.sendmail("s@a.test", ["r@b.test"], b"Subject: y\r\n\r\n")
    assert len(server.mailbox.messages) == 1


def test_commands_are_pipelined(connection: Connection) -> None:
    connection.putcmd("EHLO", "client.test")
    connection.putcmd("NOOP")
    connection.putcmd("RSET")
    assert [connection.getreply()[0] for _ in range(3)] == [250, 250, 250]
    assert ("Out:", "EHLO client.test") in connection.transcript


def test_no_line_ends_in_a_command(connection: Connection) -> None:
    with pytest.raises(ValueError, match="newline"):
        connection.putcmd("RSET\r\nQUIT")
    assert connection.noop()[0] == 250


def test_server_that_leaves(connection: Connection) -> None:
    connection.putcmd("QUIT")
    reply = connection.read("quit", PATIENCE)
    assert isinstance(reply, Reply)
    assert reply.code == 221
    with pytest.raises(smtplib.SMTPServerDisconnected):
        connection.noop()
    assert connection.reply is Lost.EOF
