"""Bounces, as readers and programs understand them."""

from __future__ import annotations

import email
import email.policy
import json
import re
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from flufl.bounce import all_failures
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import DSN, Disposition, Outcome
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.report.bounce import build, returned
from postfix_trouble.report.mail_system import MailSystem

HERE = MailSystem("client.example.test", "example.test")
RECORDED = json.loads((Path(__file__).parent / "data" / "bounces.json").read_text())
ORIGINAL = b"From: me\nMessage-ID: <1@a.test>\nSubject: x\n\nbody\n"
NOW, ARRIVAL = 1_700_000_000.0, 1_600_000_000.0

GONE = DSN(
    EnhancedStatus("5.1.1"),
    "host mx.b.test[192.0.2.1] said: 550 5.1.1 gone (in reply to RCPT TO command)",
    "mx.b.test",
    "smtp",
    "550 5.1.1 gone",
)
LATER = DSN(EnhancedStatus("4.4.1"), "connect to mx.c.test[192.0.2.2]:25: refused")


def failed(address: str, dsn: DSN = GONE, **more: str) -> Outcome:
    return Outcome(Recipient(address, **more), Disposition.BOUNCED, dsn)  # type: ignore[arg-type]


def request(sender: str = "me@a.test", **more: object) -> DeliveryRequest:
    return DeliveryRequest(sender, (), "b.test", "3F2A1", **more)  # type: ignore[arg-type]


def bounce(
    *outcomes: Outcome,
    asked: DeliveryRequest | None = None,
    original: bytes = ORIGINAL,
    **more: object,
) -> bytes:
    return build(
        asked or request(),
        outcomes or (failed("r@b.test"),),
        iter([original]),
        HERE,
        now=NOW,
        arrival=ARRIVAL,
        **more,  # type: ignore[arg-type]
    )


def pieces(mail: Message) -> list[Message]:
    found = mail.get_payload()
    assert isinstance(found, list)
    return [part for part in found if isinstance(part, Message)]


def parts(mail: bytes) -> tuple[Message, str, str, Message]:
    """The whole, the notification, the delivery status as text, the returned part."""
    whole = email.message_from_bytes(mail)
    assert whole.defects == []
    text, _, copy = pieces(whole)
    assert text.defects == []
    content = text.get_payload(decode=True)
    assert isinstance(content, bytes)
    status = mail.split(b"Content-Description: Delivery report\n")[1].split(b"\n\n", 1)
    boundary = f"\n--{whole.get_boundary()}".encode()
    return (
        whole,
        content.decode(str(text.get_content_charset())),
        status[1].split(boundary)[0].decode(),
        copy,
    )


def blocks(mail: bytes) -> list[dict[str, str]]:
    """Fields of the delivery status, unfolded: of the message, of each recipient."""
    return [
        dict(
            re.sub(r"\n\s+", " ", field).split(": ", 1)
            for field in re.split(r"\n(?! )", block.strip("\n"))
        )
        for block in parts(mail)[2].split("\n\n")
        if block.strip()
    ]


def test_layout() -> None:
    mail = bounce()
    whole, text, _, copy = parts(mail)
    assert whole["From"] == "Mail Delivery System <MAILER-DAEMON@example.test>"
    assert whole["To"] == "me@a.test"
    assert whole["Subject"] == "Undelivered Mail Returned to Sender"
    assert whole["Auto-Submitted"] == "auto-replied"
    assert whole["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert whole["MIME-Version"] == "1.0"
    assert whole["Content-Transfer-Encoding"] == "7bit"
    assert whole["References"] is None
    assert whole.get_content_type() == "multipart/report"
    assert whole.get_param("report-type") == "delivery-status"
    assert whole.preamble == "This is a MIME-encapsulated message.\n"
    kinds = [part.get_content_type() for part in pieces(whole)]
    assert kinds == ["text/plain", "message/delivery-status", "message/rfc822"]
    names = [part["Content-Description"] for part in pieces(whole)]
    assert names == ["Notification", "Delivery report", "Undelivered Message"]
    assert "This is the mail system at host client.example.test." in text
    assert text.endswith(
        "\n\n<r@b.test>: host mx.b.test[192.0.2.1] said: 550 5.1.1 gone"
        " (in reply to RCPT TO\n    command)\n"
    )
    assert pieces(copy)[0]["Subject"] == "x"
    assert b"\n\nReturn-Path: <me@a.test>\n" + ORIGINAL in mail
    assert b"\r" not in mail


def test_delivery_status() -> None:
    found = blocks(
        bounce(
            failed("r@b.test", orcpt="rfc822;R@b.test"),
            failed("q@b.test", original="alias@b.test"),
            failed("c@c.test", LATER, original="C@C.test"),
            asked=request(envid="id-1"),
        )
    )
    assert found == [
        {
            "Reporting-MTA": "dns; client.example.test",
            "Original-Envelope-Id": "id-1",
            "X-Postfix-Queue-ID": "3F2A1",
            "X-Postfix-Sender": "rfc822; me@a.test",
            "Arrival-Date": "Sun, 13 Sep 2020 12:26:40 +0000",
        },
        {
            "Final-Recipient": "rfc822; r@b.test",
            "Original-Recipient": "rfc822;R@b.test",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.b.test",
            "Diagnostic-Code": "smtp; 550 5.1.1 gone",
        },
        {
            "Final-Recipient": "rfc822; q@b.test",
            "Original-Recipient": "rfc822; alias@b.test",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.b.test",
            "Diagnostic-Code": "smtp; 550 5.1.1 gone",
        },
        {
            "Final-Recipient": "rfc822; c@c.test",
            "Action": "failed",
            "Status": "4.4.1",
            "Diagnostic-Code": "X-Postfix; connect to mx.c.test[192.0.2.2]:25: refused",
        },
    ]


def squeezed(found: list[dict[str, str]]) -> list[dict[str, str]]:
    """Without blanks: on its way, a recorded line of 1000 bytes was broken."""
    return [{k: "".join(v.split()) for k, v in block.items()} for block in found]


@pytest.mark.parametrize("case", RECORDED, ids=[case["name"] for case in RECORDED])
def test_fields_are_those_of_postfix(case: dict) -> None:  # type: ignore[type-arg]
    """Recorded bounces of a real Postfix, whose smtp(8) had these outcomes."""
    outcomes = []
    for row, block in zip(case["recipients"], case["blocks"], strict=True):
        kind, _, text = row["diagnostic"].partition("; ")
        status = EnhancedStatus(row["status"])
        dsn = DSN(status, row["reason"], row["remote_mta"], kind, text)
        outcomes.append(failed(row["address"], dsn, orcpt=block["Original-Recipient"]))
    mail = bounce(*outcomes, asked=request(case["sender"]))
    found = blocks(mail)
    assert found[0]["X-Postfix-Sender"] == f"rfc822; {case['sender']}"
    assert squeezed(found[1:]) == squeezed(case["blocks"])
    assert (
        max(len(line) for line in parts(mail)[1].split("\n") if " " in line.strip())
        <= 79
    )


def test_the_detector_of_mailing_lists_finds_just_the_refused() -> None:
    mail = bounce(
        failed("r@b.test"),
        failed("c@c.test", LATER),
        original=b"To: x@y.test\n\nz@z.test\n",
    )
    temporary, permanent = all_failures(email.message_from_bytes(mail))
    assert permanent == {b"r@b.test", b"c@c.test"}
    assert temporary == set()


@pytest.mark.parametrize(
    ("asked", "whole"),
    [
        pytest.param({}, True, id="as it came"),
        pytest.param({"ret": "full"}, True, id="full"),
        pytest.param({"ret": "hdrs"}, False, id="header"),
    ],
)
def test_ret(asked: dict[str, str], whole: bool) -> None:
    mail = bounce(asked=request(**asked))
    copy = parts(mail)[3]
    if whole:
        assert copy.get_content_type() == "message/rfc822"
        assert b"\n\nbody\n" in mail
    else:
        assert copy.get_content_type() == "text/rfc822-headers"
        assert copy["Content-Description"] == "Undelivered Message Headers"
        assert (
            copy.get_payload() == f"Return-Path: <me@a.test>\n{ORIGINAL[:-6].decode()}"
        )


@pytest.mark.parametrize(
    ("content", "limit", "whole", "expected"),
    [
        pytest.param(b"A: b\n\nxx\n", 9, True, b"A: b\n\nxx\n", id="at the limit"),
        pytest.param(b"A: b\n\nxxx\n", 9, False, b"A: b\n", id="above"),
        pytest.param(b"A: b\n\nxxx\n", 0, True, b"A: b\n\nxxx\n", id="no limit"),
        pytest.param(b"A: b\r\n\r\nx\r\n", 99, True, b"A: b\n\nx\n", id="CRLF"),
        pytest.param(b"\nA: b\n\nx\n", 3, False, b"\n", id="no header"),
        pytest.param(b"A: b\nC: d\n", 3, False, b"A: b\nC: d\n", id="no body"),
        pytest.param(b"", 9, True, b"", id="nothing"),
        pytest.param(
            b"A: b\n" * 30_000, 9, False, b"A: b\n" * 20_480, id="endless header"
        ),
    ],
)
def test_returned(content: bytes, limit: int, whole: bool, expected: bytes) -> None:
    found = returned([content], limit)
    assert found.whole == whole
    assert found.content == expected


def test_no_more_is_read_than_needed() -> None:
    read = []

    def chunks() -> Iterator[bytes]:
        for number in range(1000):
            read.append(number)
            yield b"A: b\n\n" if not number else b"x" * 65536

    assert returned(chunks(), 50_000).content == b"A: b\n"
    assert len(read) == 3
    read.clear()
    returned(chunks(), 0, headers_only=True)
    assert len(read) == 1


def test_utf8() -> None:
    """RFC 6533, where the sender has asked for SMTPUTF8."""
    asked = request("j\u00f6rg@a.test", smtputf8=True)
    mail = bounce(failed("\u00fc@b.test"), failed("r@b.test"), asked=asked)
    whole = email.message_from_bytes(mail)
    kinds = [part.get_content_type() for part in pieces(whole)]
    assert kinds == ["text/plain", "message/global-delivery-status", "message/global"]
    assert "\nTo: j\u00f6rg@a.test\n".encode() in mail
    assert whole["Content-Transfer-Encoding"] == "8bit"
    found = blocks(mail)
    assert found[0]["X-Postfix-Sender"] == "utf-8; j\u00f6rg@a.test"
    assert found[1]["Final-Recipient"] == "utf-8; \u00fc@b.test"
    assert found[2]["Final-Recipient"] == "rfc822; r@b.test"
    short = bounce(asked=asked._replace(ret="hdrs"))
    assert parts(short)[3].get_content_type() == "message/global-headers"


def test_quoted_addresses() -> None:
    mail = bounce(failed('a "b@b.test'), asked=request("c d@a.test"))
    assert email.message_from_bytes(mail)["To"] == '"c d"@a.test'
    assert blocks(mail)[1]["Final-Recipient"] == 'rfc822; "a \\"b"@b.test'
    assert '<"a \\"b"@b.test>: ' in parts(mail)[1]
    assert b'\nReturn-Path: <"c d"@a.test>\n' in mail


def test_threaded() -> None:
    whole = email.message_from_bytes(bounce(threaded=True))
    assert whole["References"] == whole["In-Reply-To"] == "<1@a.test>"
    assert (
        email.message_from_bytes(bounce(threaded=True, original=b"\n"))["References"]
        is None
    )


def test_two_requests_of_one_message_have_two_ids() -> None:
    ids = {
        email.message_from_bytes(bounce(failed(address)))["Message-ID"]
        for address in ("r@b.test", "q@b.test")
    }
    assert len(ids) == 2
    assert all("3F2A1" in identity for identity in ids)


def test_the_message_can_not_end_the_part() -> None:
    boundary = email.message_from_bytes(bounce()).get_boundary()
    original = f"Subject: x\n\n--{boundary}\nPart: no\n\n--{boundary}--\n".encode()
    mail = bounce(original=original)
    whole = email.message_from_bytes(mail)
    assert len(whole.get_payload()) == 3
    assert original in mail


@given(
    st.text(st.characters(), max_size=60),
    st.text(st.characters(), max_size=300),
    st.text(st.characters(), max_size=60),
    st.binary(max_size=200),
)
def test_nobody_adds_fields_or_parts(
    address: str, reason: str, diagnostic: str, original: bytes
) -> None:
    dsn = DSN(EnhancedStatus("5.0.0"), reason, diagnostic, "smtp", diagnostic)
    mail = bounce(
        failed(address, dsn, orcpt=address, original=reason),
        asked=request(address, envid=diagnostic),
        original=original,
    )
    whole = email.message_from_bytes(mail)
    assert len(whole.get_payload()) == 3
    assert set(whole) == {
        "Message-ID", "Date", "From", "Subject", "To", "Auto-Submitted",
        "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    }  # fmt: skip
    status = mail.split(b"Content-Description: Delivery report\n")[1].split(b"\n--")[0]
    assert status.count(b"\n\n") <= 2
    names = re.findall(rb"(?m)^([A-Za-z-]+): ", status.split(b"\n\n", 1)[1])
    assert len(names) == len(set(names))
