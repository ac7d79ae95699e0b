"""The postmaster's transcript: Postfix's layout, and no secrets."""

from __future__ import annotations

import email

import pytest

from postfix_trouble.core.outcome import ServerRecord
from postfix_trouble.core.relay import Relay
from postfix_trouble.report.mail_system import MailSystem
from postfix_trouble.report.notice import build, log_lines, wanted

HERE = MailSystem("client.example.test", "example.test")
RELAY = Relay("mx.b.test", "192.0.2.1", 25)
IN, OUT = "In: ", "Out:"


def record(
    *lines: tuple[str, str], errors: tuple[str, ...] = ("protocol",)
) -> ServerRecord:
    return ServerRecord(RELAY, transcript=lines, errors=errors)


SHORT = record((IN, "220 mx.b.test ESMTP"), (OUT, "EHLO client"), (IN, "nonsense"))


@pytest.mark.parametrize(
    ("found", "classes", "sender", "expected"),
    [
        pytest.param(SHORT, ("resource", "software"), "s@a", False, id="default"),
        pytest.param(SHORT, ("protocol",), "s@a", True, id="protocol"),
        pytest.param(SHORT, ("data",), "s@a", False, id="another class"),
        pytest.param(SHORT, ("protocol",), "", False, id="null sender"),
        pytest.param(SHORT, ("protocol",), "DB@here", False, id="our own notice"),
        pytest.param(
            record((IN, "x"), errors=()), ("protocol",), "s@a", False, id="no error"
        ),
        pytest.param(record(), ("protocol",), "s@a", False, id="no session"),
        pytest.param(
            record((IN, "x"), errors=("data",)), ("data", "protocol"), "s@a", True,
            id="data",
        ),
    ],
)  # fmt: skip
def test_wanted(
    found: ServerRecord, classes: tuple[str, ...], sender: str, expected: bool
) -> None:
    assert wanted(found, classes, sender, "db@here") == expected


def test_layout() -> None:
    found = build(SHORT, HERE, "postmaster", now=1_700_000_000, queue_id="3F2A1")
    mail = email.message_from_bytes(found)
    assert mail["From"] == "Mail Delivery System <MAILER-DAEMON@example.test>"
    assert mail["To"] == "Postmaster <postmaster@example.test>"
    subject = "Postfix SMTP client: errors from mx.b.test[192.0.2.1]:25"
    assert mail["Subject"] == subject
    assert mail["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_payload() == (
        "Unexpected response from mx.b.test[192.0.2.1]:25.\n"
        "\n"
        "Transcript of session follows.\n"
        "\n"
        " In:  220 mx.b.test ESMTP\n"
        " Out: EHLO client\n"
        " In:  nonsense\n"
        "\n"
        "For other details, see the local mail logfile\n"
    )


def test_other_forms() -> None:
    here = HERE._replace(name="Mail X", obsolete_from=True)
    mail = email.message_from_bytes(build(SHORT, here, "pm@c.test", now=0, lmtp=True))
    assert mail["From"] == "MAILER-DAEMON@example.test (Mail Delivery System)"
    assert mail["To"] == "pm@c.test (Postmaster)"
    assert mail["Subject"].startswith("Mail X LMTP client: errors from")


def body(*lines: tuple[str, str]) -> list[str]:
    text = build(record(*lines), HERE, "postmaster", now=0).decode()
    return text.split("follows.\n\n")[1].split("\n\nFor other")[0].split("\n")


def test_wrapping_and_what_can_not_be_printed() -> None:
    found = body((IN, "550 " + "word " * 30), (OUT, "RCPT TO:<\x1b\r\n\udcff@b.test>"))
    assert found[0].startswith(" In:  550 word word")
    assert found[1].startswith("     word")
    assert all(len(line) <= 79 for line in found)
    assert found[-1] == " Out: RCPT TO:<????@b.test>"


def test_utf8_is_declared() -> None:
    mail = email.message_from_bytes(
        build(record((IN, "550 \u00fc")), HERE, "postmaster", now=0)
    )
    assert mail["Content-Transfer-Encoding"] == "8bit"
    text = mail.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert " In:  550 \u00fc\n" in text.decode()


def test_replaced_reply() -> None:
    assert body((IN, "250 yes"), ("Replaced-by:", "550 no"), (OUT, "QUIT")) == [
        " In:  250 yes",
        " Replaced-by:",
        "      550 no",
        " Out: QUIT",
    ]


SECRET = "AGpvZQBzZWNyZXQ="


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([(OUT, f"AUTH PLAIN {SECRET}"), (IN, "235 ok")], id="PLAIN"),
        pytest.param([(OUT, f"auth plain {SECRET}"), (IN, "235 ok")], id="lower case"),
        pytest.param(
            [
                (OUT, "AUTH LOGIN"), (IN, "334 VXNlcm5hbWU6"), (OUT, SECRET),
                (IN, "334 UGFzc3dvcmQ6"), (OUT, SECRET), (IN, "535 no"),
            ],
            id="LOGIN",
        ),
        pytest.param(
            [
                (OUT, "AUTH XOAUTH2"), (IN, f"334-{SECRET}"), (IN, f"334 {SECRET}"),
                (OUT, SECRET), (IN, f"334 {SECRET}"), (OUT, ""), (IN, "535 no"),
            ],
            id="answers of the server",
        ),
        pytest.param(
            [(OUT, "AUTH LOGIN"), (IN, "junk"), (OUT, "QUIT")], id="no exchange"
        ),
    ],
)  # fmt: skip
def test_no_secret_is_shown(lines: list[tuple[str, str]]) -> None:
    tail = ((OUT, "MAIL FROM:<s@a.test>"), (IN, "250 ok"))
    found = record(*lines, *tail)
    shown = build(found, HERE, "postmaster", now=0).decode()
    logged = "\n".join(log_lines(found))
    for text in (shown, logged):
        assert SECRET not in text
        assert "<hidden>" in text
        assert "Out: MAIL FROM:<s@a.test>" in text, "only the exchange is hidden"


def test_a_long_session_keeps_both_ends() -> None:
    found = body(*((IN, f"line {number} {'x' * 2000}") for number in range(1000)))
    assert found[0].startswith(" In:  line 0")
    assert any("line 999" in line for line in found)
    assert " (800 lines left out)" in found
    assert sum(map(len, found)) < 202 * 1010


def test_log_lines_are_single_lines() -> None:
    found = log_lines(record((IN, "220 x\nfake: to=<a>, status=sent"), (OUT, "QUIT")))
    assert found == (
        "protocol error: transcript of session with mx.b.test[192.0.2.1]:25 follows",
        "In:  220 x?fake: to=<a>, status=sent",
        "Out: QUIT",
    )
