"""send: the message that a person asked for, and to whom it goes."""

from __future__ import annotations

import json
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from by_hand import LOCAL, output

from postfix_trouble.cli import own_message
from scripted_server import ScriptedServer

TO = ("--to", "you@example.com")


def sent(*argv: str, text: str = "", script: Any = None) -> tuple[list[str], bytes]:
    """The envelope, and the message with LF."""
    with ScriptedServer(script or {"keywords": ("8BITMIME",)}) as server:
        done = output("send", "--server", f"{LOCAL}:{server.port}", *argv, text=text)
    assert done.returncode == 0, done.stderr + done.stdout
    (connection,) = server.connections
    envelope = [x for x in connection.commands if x.startswith(("MAIL", "RCPT"))]
    return envelope, connection.messages[0].replace(b"\r\n", b"\n")


def parsed(content: bytes) -> EmailMessage:
    found = message_from_bytes(content, policy=policy.default)
    assert isinstance(found, EmailMessage)
    assert not found.defects
    return found


def test_header_text_and_attachments(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"a,b\r\n1,2\r\n")
    (tmp_path / "raw").write_bytes(bytes(range(256)))
    argv = ["--header", "Subject: Grüße aus Köln", "--header", "X-Test: a\n b"]
    argv += ["--body", "Schönen Tag!", "--attach", str(tmp_path / "list.csv")]
    _, content = sent(*TO, *argv, "--attach", str(tmp_path / "raw"))
    message = parsed(content)
    assert content.isascii()
    assert message.get_all("Subject") == ["Grüße aus Köln"]
    assert message["X-Test"] == "a b"
    assert message["To"] == "you@example.com"
    body, first, second = message.iter_parts()
    assert body.get_content() == "Schönen Tag!\n"
    assert (first.get_filename(), first.get_content_type()) == ("list.csv", "text/csv")
    assert first.get_payload(decode=True) == b"a,b\r\n1,2\r\n"
    assert second.get_content() == bytes(range(256))


MAIL = """\
DKIM-Signature:  v=1;  a=b
Subject: x
To: Bob <bob@example.com>, "a,b"@example.com,
\tc@example.com (the third)
CC: us: d@example.com, BOB@example.com;
bcc: hidden@example.com,
 too@example.com
Bcc:

Bcc: not a header
"""


def test_recipients_from_the_header(tmp_path: Path) -> None:
    envelope, content = sent("--message", "-", text=MAIL)
    assert envelope[1:] == [
        f"RCPT TO:<{one}@example.com>"
        for one in ("bob", '"a,b"', "c", "d", "BOB", "hidden", "too")
    ]
    # All else is as it was, or signatures break.
    blind = "bcc: hidden@example.com,\n too@example.com\nBcc:\n"
    assert content == MAIL.replace(blind, "").encode()


def test_recipients_on_the_command_line_are_all_there_are() -> None:
    envelope, content = sent(*TO, "--message", "-", text=MAIL)
    assert envelope[1:] == ["RCPT TO:<you@example.com>"]
    assert content == MAIL.encode()


def test_message_that_was_sent_again_goes_to_those_in_its_resent_fields() -> None:
    fields = (
        "Resent-From: me@example.org\nResent-To: new@example.com\nResent-BCC: b@x.org\n"
    )
    envelope, content = sent("--message", "-", text=fields + MAIL)
    assert [x[8:] for x in envelope[1:]] == ["<new@example.com>", "<b@x.org>"]
    assert b"b@x.org" not in content


def test_recipients_from_header_options() -> None:
    argv = ["--header", "To: a@example.com", "--header", "Bcc: b@example.com"]
    envelope, content = sent(*argv)
    assert [x[8:] for x in envelope[1:]] == ["<a@example.com>", "<b@example.com>"]
    assert parsed(content).get_all("To") == ["a@example.com"]
    assert "Bcc" not in parsed(content)


def test_header_of_a_message_of_ones_own() -> None:
    _, content = sent(*TO, "--message", "-", "--header", "subject: new", text=MAIL)
    assert (
        content
        == MAIL.replace("Subject: x\n", "")
        .replace("\n\n", "\nsubject: new\n\n", 1)
        .encode()
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b"X: y\n"),
        (b"\nbody", b"X: y\n\nbody"),
        (b"body: no\nbody\n", b"body: no\nX: y\n\nbody\n"),
        (b"no header at all\n", b"X: y\n\nno header at all\n"),
        (b"A: b", b"A: b\nX: y\n"),
        (b"A: b\nX: z\n\tw\nx: v\n\nX: 1\n", b"A: b\nX: y\n\nX: 1\n"),
    ],
)
def test_field_in_a_header(content: bytes, expected: bytes) -> None:
    assert own_message.with_fields(content, ("X: y",), utf8=False) == expected


def test_smtputf8_if_wanted() -> None:
    utf8 = {"keywords": ("8BITMIME", "SMTPUTF8")}
    argv = [*TO, "--header", "Subject: Grüße"]
    envelope, content = sent(*argv, "--smtputf8", script=utf8)
    assert envelope[0].endswith(" SMTPUTF8")
    assert "Subject: Grüße\n".encode() in content
    envelope, content = sent(*argv, script=utf8)
    assert "SMTPUTF8" not in envelope[0]
    assert b"Subject: =?utf-8?" in content


def test_message_without_a_header_is_sent_with_a_warning() -> None:
    with ScriptedServer({}) as server:
        argv = ["send", *TO, "--server", f"{LOCAL}:{server.port}", "--message", "-"]
        done = output(*argv, text="Hello\n")
        told = json.loads(output(*argv, "--json", text="Hello\n").stdout)
    assert done.returncode == 0
    assert "warning: the message has no header" in done.stderr
    assert told["warnings"] == ["the message has no header"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "no recipient given: add --to ADDRESS"),
        (("--message", "/dev/null"), "no recipient given"),
        (("--header", "To: nobody"), "in the header: nobody: not an address"),
        ((*TO, "--header", "Subject"), "--header Subject: 'Name: value' expected"),
        ((*TO, "--header", "A: b\nC: d"), "'Name: value' expected"),
        ((*TO, "--attach", "/no/such"), "--attach /no/such: No such file"),
        ((*TO, "--message", "x", "--body", "y"), "--body is for the test message"),
        ((*TO, "--message", "x", "--attach", "y"), "--attach is for the test message"),
    ],
    ids=str,
)
def test_mistakes(argv: tuple[str, ...], words: str) -> None:
    done = output("send", *argv)
    assert done.returncode == 64
    assert words in " ".join(done.stderr.split())
