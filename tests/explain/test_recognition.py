"""What happened, from the words in which it was written down."""

from __future__ import annotations

import pytest

from postfix_trouble.core.relay import Relay
from postfix_trouble.core.reply import Lost
from postfix_trouble.simulate.recognition import (
    Heard,
    Logged,
    recognise,
    separate_lines,
)

HOST = "mx.example.com[192.0.2.1]"
RELAY = Relay("mx.example.com", "192.0.2.1", 25)
SUBMISSION = RELAY._replace(port=587)


def record(dsn: str, word: str, reason: str, relay: str = f"{HOST}:587") -> str:
    return (
        "Nov 22 11:00:00 h postfix/smtp[12]: 4ABCDEF: to=<u@example.com>,"
        f" relay={relay}, delay=1, delays=0/0/0/1, dsn={dsn}, status={word} ({reason})"
    )


def said(reply: str, command: str) -> str:
    return f"host {HOST} said: {reply} (in reply to {command} command)"


def test_nothing_is_known_of_nothing() -> None:
    assert not any(Heard())
    assert not any(Logged())


# --- a reason alone -----------------------------------------------------------------

REASONS = [
    (said("450 4.7.1 wait", "RCPT TO"), Heard("450 4.7.1 wait", stage="rcpt")),
    (said("450 x", "MAIL FROM"), Heard("450 x", stage="mail")),
    (said("450 x", "DATA"), Heard("450 x", stage="data")),
    (said("450 x", "end of DATA"), Heard("450 x", stage="dot")),
    (said("450 x", "EHLO"), Heard("450 x", stage="ehlo")),
    (said("450 x", "LHLO"), Heard("450 x", stage="lhlo", lmtp=True)),
    (said("450 x", "VRFY"), Heard("450 x")),
    ("Protocol error: " + said("250 x", "DATA"), Heard("250 x", stage="data")),
    (said("550-a 550 b", "RCPT TO"), Heard("550-a\n550 b", stage="rcpt")),
    (said("550-a\n550 b", "RCPT TO"), Heard("550-a\n550 b", stage="rcpt")),
    (
        f"host {HOST} refused to talk to me: 554 5.7.1 no",
        Heard("554 5.7.1 no", stage="greeting"),
    ),
    (
        f"TLS is required, but host {HOST} refused to start TLS: 454 later",
        Heard("454 later", stage="starttls"),
    ),
    (
        f"SASL authentication failed; server {HOST} said: 535 5.7.8 no",
        Heard("535 5.7.8 no", stage="auth"),
    ),
    (
        f"lost connection with {HOST} while sending RCPT TO",
        Heard(lost=Lost.EOF, stage="rcpt"),
    ),
    (
        f"lost connection with {HOST} while performing the LHLO handshake",
        Heard(lost=Lost.EOF, stage="lhlo", lmtp=True),
    ),
    (
        f"conversation with {HOST} timed out while sending message body",
        Heard(lost=Lost.TIME, stage="body"),
    ),
    (
        f"conversation with {HOST} timed out while thinking",
        Heard(lost=Lost.TIME),
    ),
    (f"local data error while talking to {HOST}", Heard(lost=Lost.DATA)),
]


# --- as it stands in delivery reports and in mailq ----------------------------------


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("554 5.7.1 no (in reply to end of DATA command)", ("554 5.7.1 no", "dot")),
        ("554 5.7.1 no (in reply to MAIL FROM command)", ("554 5.7.1 no", "mail")),
        ("550-a 550 b (in reply to RCPT TO command)", ("550-a\n550 b", "rcpt")),
        ("554 no (in reply to VRFY command)", ("554 no", "")),
        ("554 no (in reply to you)", ("554 no (in reply to you)", "")),
        ("Diagnostic-Code: smtp; 554 5.7.1 no", ("554 5.7.1 no", "")),
        ("diagnostic-code:SMTP;554 5.7.1 no", ("554 5.7.1 no", "")),
        ("smtp; 554 5.7.1 no", ("554 5.7.1 no", "")),
        ("Diagnostic-Code: smtp; 554 5.7.1\n    no", ("554 5.7.1 no", "")),
        (
            "smtp; 554 no (in reply to end of DATA command)",
            ("554 no", "dot"),
        ),
    ],
)
def test_replies_alone_tell_their_stage(text: str, heard: tuple[str, str]) -> None:
    assert recognise(text) == Heard(heard[0], stage=heard[1])


@pytest.mark.parametrize(
    "before",
    [
        "<u@example.com>: ",
        "<u@example.com> (expanded from <v@example.com>): ",
        "Diagnostic-Code: X-Postfix; ",
        "(",
    ],
)
@pytest.mark.parametrize(("reason", "heard"), [REASONS[0], REASONS[3], REASONS[13]])
def test_reasons_in_reports(before: str, reason: str, heard: Heard) -> None:
    text = before + reason + (")" if before == "(" else "")
    assert recognise(text) == heard._replace(relay=RELAY)
    if before != "(":
        # bounce(8) breaks lines.
        assert recognise(text.replace(" (in", "\n    (in")) == recognise(text)


def test_a_report_without_a_failure_of_a_server_is_not_recognised() -> None:
    assert recognise("<u@example.com>: unknown user") is None
    assert recognise("Diagnostic-Code: X-Unix; exit 1") is None


@pytest.mark.parametrize(("reason", "heard"), REASONS)
def test_reasons(reason: str, heard: Heard) -> None:
    heard = heard._replace(relay=RELAY)
    assert recognise(reason) == heard
    # Behind what the log has before it, it is of a server that was skipped.
    for before in (
        "Nov 22 11:00:00 h postfix/smtp[12]: 4ABCDEF: ",
        "h postfix-trouble[12]: ",
        "lmtp[1]: 4ZZZZZZZ: ",
    ):
        assert recognise(before + reason) == heard._replace(logged=Logged())
    # The end of a record, without server.
    logged = Logged("deferred", "4.0.0")
    end = f"dsn=4.0.0, status=deferred ({reason})"
    assert recognise(end) == heard._replace(logged=logged)
    suspended = f"dsn=4.0.0, status=deferred (delivery temporarily suspended: {reason})"
    assert recognise(suspended) == heard._replace(logged=logged)


@pytest.mark.parametrize(
    ("reason", "stage"),
    [
        (f"connect to {HOST}:25: Connection refused", "connect"),
        ("Cannot start TLS: handshake failure", "handshake"),
    ],
)
def test_reasons_of_our_own_that_tell_the_stage(reason: str, stage: str) -> None:
    heard = Heard(own_reason=reason, stage=stage)
    assert recognise(reason) == heard
    assert recognise(f"postfix/smtp[1]: {reason}") == heard._replace(logged=Logged())


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("lost connection", Lost.EOF),
        ("connection lost", Lost.EOF),
        ("EOF", Lost.EOF),
        ("Timeout", Lost.TIME),
        ("timed out", Lost.TIME),
        ("local data error", Lost.DATA),
    ],
)
def test_plain_words(text: str, lost: Lost) -> None:
    assert recognise(f" {text}\n") == Heard(lost=lost)


@pytest.mark.parametrize("text", ["", " \n", "hello", "45 x", "4500 x", "450x"])
def test_what_tells_of_nothing(text: str) -> None:
    assert recognise(text) is None


def test_a_reply_alone() -> None:
    assert recognise("450 4.7.1 wait") == Heard("450 4.7.1 wait")
    assert recognise("450-a 450 b") == Heard("450-a\n450 b")


# --- records ------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["deferred", "bounced", "SOFTBOUNCE"])
def test_the_server_is_that_of_the_record(word: str) -> None:
    heard = Heard("450 x", stage="rcpt", relay=SUBMISSION)
    found = recognise(record("4.0.0", word, said("450 x", "RCPT TO")))
    assert found == heard._replace(logged=Logged(word, "4.0.0"))
    found = recognise(record("4.0.0", word, said("450 x", "RCPT TO"), "none"))
    assert found == heard._replace(logged=Logged(word, "4.0.0"), relay=RELAY)


def test_lmtp_by_the_name_of_the_client() -> None:
    text = record("4.0.0", "deferred", said("450 x", "RCPT TO"))
    found = recognise(text.replace("/smtp[", "/lmtp["))
    assert found is not None
    assert found.lmtp


def test_success() -> None:
    assert recognise(record("2.0.0", "sent", "250 2.0.0 Ok")) == Heard(
        "250 2.0.0 Ok",
        stage="dot",
        relay=SUBMISSION,
        logged=Logged("sent", "2.0.0"),
    )
    # Of another agent, whatever it is.
    for relay in ("local", "none", HOST):
        assert recognise(record("2.0.0", "sent", "to mailbox", relay)) is None


@pytest.mark.parametrize(
    ("dsn", "reply", "stage"),
    [
        # A greeting with 5xx does not bounce mail, a refused HELO does.
        ("4.7.1", "554 5.7.1 no", "greeting"),
        ("5.7.1", "554 5.7.1 no", "helo"),
        ("4.7.1", "421 4.7.1 busy", "greeting"),
    ],
)
def test_who_refused_to_talk(dsn: str, reply: str, stage: str) -> None:
    reason = f"host {HOST} refused to talk to me: {reply}"
    found = recognise(record(dsn, "deferred", reason))
    assert found is not None
    assert (found.reply, found.stage) == (reply, stage)


OWN = [
    (f"message size 9 exceeds size limit 1 of server {HOST}", "mesg_fail"),
    (f"SMTPUTF8 is required, but was not offered by host {HOST}", "mesg_fail"),
    (f"TLS is required, but was not offered by host {HOST}", "site_fail"),
    ("Server certificate not trusted", "site_fail"),
    ("mail for example.com loops back to myself", "site_fail"),
    ("unexpected server message", "site_fail"),
    ("Host or domain name not found. Name service error for name=x", ""),
    ("Name service error for name=x type=MX: Malformed reply", ""),
    ("Domain example.com does not accept mail (nullMX)", ""),
    ("unable to look up host x: Name or service not known", ""),
    ("server unavailable or unable to receive mail", ""),
    ("all network protocols are disabled", ""),
]


@pytest.mark.parametrize(("reason", "entry"), OWN)
@pytest.mark.parametrize("relay", ["none", "[192.0.2.1]:25", f"{HOST}:587"])
def test_decisions_of_the_client_itself(reason: str, entry: str, relay: str) -> None:
    """How a relay is named does not matter then: others than Postfix do it, too."""
    assert recognise(record("5.0.0", "bounced", reason, relay)) == Heard(
        own_reason=reason,
        entry=entry,
        relay=SUBMISSION if HOST in relay else None,
        logged=Logged("bounced", "5.0.0"),
    )


def test_connecting() -> None:
    reason = f"connect to {HOST}:25: Connection refused"
    assert recognise(record("4.4.1", "deferred", reason, "anything")) == Heard(
        own_reason=reason, stage="connect", logged=Logged("deferred", "4.4.1")
    )


def test_reasons_that_nobody_knows() -> None:
    heard = Heard(own_reason="who knows", logged=Logged("deferred", "4.0.0"))
    assert recognise(record("4.0.0", "deferred", "who knows", "none")) == heard
    assert recognise("dsn=4.0.0, status=deferred (who knows)") == heard
    known = recognise(record("4.0.0", "deferred", "who knows"))
    assert known == heard._replace(relay=SUBMISSION)
    # That is no SMTP client.
    assert recognise(record("4.0.0", "deferred", "who knows", "local")) is None


# --- lines --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("joined", "apart"),
    [
        ("450 a", "450 a"),
        ("450 a 450 b", "450 a 450 b"),
        ("450-a\n450 b", "450-a\n450 b"),
        ("450-a 450 b\n450 c", "450-a 450 b\n450 c"),
        ("450-a 450-b 450 c", "450-a\n450-b\n450 c"),
        ("450-a 450", "450-a\n450"),
        # Another code at the end, or no end.
        ("450-a 451 b 452 c", "450-a 451 b\n452 c"),
        ("450-a b", "450 a b"),
        ("450-", "450 "),
        # No code at the beginning.
        ("hello", "hello"),
        ("hello 450 x", "hello\n450 x"),
    ],
)
def test_lines_of_a_reply(joined: str, apart: str) -> None:
    assert separate_lines(joined) == apart
