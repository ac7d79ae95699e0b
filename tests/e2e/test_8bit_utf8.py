"""What is not ASCII arrives from both clients byte by byte the same, or not at all."""

from __future__ import annotations

import quopri
import socket
from collections.abc import Iterator

import pytest
from both_clients import Case, Result, message, routes, same, under_way
from private_postfix import PrivatePostfix
from text_cases import CASES, HOST, MAILS, OFF, UNTOLD

from scripted_server import ScriptedServer

pytestmark = [pytest.mark.first, pytest.mark.more]

SMTPD = ("127.42.0.2", 2525)


@pytest.fixture(scope="module")
def delivered(postfix: PrivatePostfix) -> Iterator[dict[str, Result]]:
    """All cases, delivered by both clients."""
    with under_way(postfix, {**CASES, **UNTOLD}) as results:
        yield results


@pytest.mark.parametrize("name", CASES)
def test_same_envelope(delivered: dict[str, Result], name: str) -> None:
    same(delivered[name], CASES[name])


@pytest.mark.parametrize(
    "name", [n for n, case in CASES.items() if case.status == "sent"]
)
def test_same_bytes(delivered: dict[str, Result], name: str) -> None:
    (connections,) = delivered[name].heard.values()
    first, second = map(message, connections)
    assert first == second


def test_quoted_printable_where_8bit_is_not_taken(
    delivered: dict[str, Result],
) -> None:
    """Not only alike, but right: what was sent can be read again."""
    (connections,) = delivered["declared-to-plain"].heard.values()
    head, _, body = connections[0].messages[0].partition(b"\r\n\r\n")
    assert b"Content-Transfer-Encoding: quoted-printable" in head
    # Dots at the beginning of a line are doubled on the way (RFC 5321 4.5.2).
    body = body.replace(b"\r\n..", b"\r\n.")
    sent = MAILS["declared"].body.replace(b"\n", b"\r\n")
    assert quopri.decodestring(body).rstrip() == sent


def test_who_was_not_told_that_utf8_was_asked_for(
    delivered: dict[str, Result],
) -> None:
    """pipe(8) keeps it to itself; only addresses tell us then."""
    ours, theirs, _ = delivered["untold-to-plain"]
    assert (theirs.status, theirs.dsn) == ("bounced", "5.6.7")
    assert ours.status == "sent"
    ours, theirs, heard = delivered["untold-to-utf8"]
    assert (ours.status, theirs.status) == ("sent", "sent")
    (connections,) = heard.values()
    first, second = map(message, connections)
    assert first == second


def by_smtp(sender_words: str, recipient: str, subject: str = "x") -> None:
    """Hand in a message at smtpd(8)."""
    with socket.create_connection(SMTPD) as sock, sock.makefile("rb") as replies:
        assert replies.readline().startswith(b"220 ")
        for text in (
            "EHLO x",
            f"MAIL FROM:<s@sender.test>{sender_words}",
            f"RCPT TO:<{recipient}>",
            "DATA",
            f"Subject: {subject}\r\n\r\nx\r\n.",
        ):
            sock.sendall(text.encode() + b"\r\n")
            while (reply := replies.readline())[3:4] == b"-":
                pass
            assert reply[:1] in b"23", reply


# What a client says to smtpd(8), and what comes of it at a server without SMTPUTF8:
# words behind MAIL FROM, local part, subject.
_SENT, _BOUNCED = ("sent", "2.0.0"), ("bounced", "5.6.7")
BY_SMTP = {
    ("", "jürgen", "x"): _SENT,
    (" SMTPUTF8", "jürgen-asks", "x"): _BOUNCED,
    ("", "plain", "ä"): _SENT,
    (" SMTPUTF8", "plain-asks", "ä"): _BOUNCED,
    (" SMTPUTF8", "asks-for-nothing", "x"): _SENT,
}


@pytest.mark.long
def test_who_asked_for_smtputf8_at_smtpd(postfix: PrivatePostfix) -> None:
    """smtpd(8) takes such addresses all the same, and smtp(8) sends them anywhere."""
    place = f"{HOST}:2590"
    cases = {"smtpd": Case("text", f"[{HOST}]:2590", {})}
    entry = f"{SMTPD[0]}:{SMTPD[1]} inet n - n - - smtpd\n"
    with (
        postfix.rearranged(main={}, routes=routes(cases), master=entry),
        ScriptedServer({"keywords": ["8BITMIME"]}, listen=place),
    ):
        for (words, local, subject), end in BY_SMTP.items():
            mails = [f"{local}@smtpd.{client}.test" for client in ("ours", "theirs")]
            for mail in mails:
                by_smtp(words, mail, subject)
            records = postfix.delivered(mails)
            assert [(records[m].status, records[m].dsn) for m in mails] == [end] * 2


@pytest.fixture(scope="module")
def without(postfix: PrivatePostfix) -> Iterator[dict[str, Result]]:
    """Delivered by both clients where nobody knows of SMTPUTF8."""
    settings = {"smtputf8_enable": "no"}
    with (
        postfix.rearranged(main=settings, routes=routes(OFF)),
        under_way(postfix, OFF) as results,
    ):
        yield results


@pytest.mark.long
@pytest.mark.parametrize("name", OFF)
def test_same_without_smtputf8(without: dict[str, Result], name: str) -> None:
    same(without[name], OFF[name])
    (connections,) = without[name].heard.values()
    first, second = map(message, connections)
    assert first == second
