"""What an LMTP client may say, and what becomes of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.lmtp import dialogue as lmtp_dialogue
from postfix_trouble.lmtp import syntax as lmtp_syntax
from postfix_trouble.lmtp.dialogue import Dialogue, Limits, Then
from postfix_trouble.smtp.address import quote_local, to_bytes, uxtext, xtext

REPLY = re.compile(rb"[2345][0-9][0-9][ -][\x20-\x7e]*")


def talk(*lines: bytes, limits: Limits | None = None) -> tuple[list[bytes], Dialogue]:
    """The last line of each reply, and the dialogue afterwards."""
    dialogue = Dialogue("mx.example", limits or Limits())
    return [dialogue.answer(line)[0][-1] for line in lines], dialogue


def envelope(*lines: bytes, notes: list[str] | None = None) -> DeliveryRequest:
    said: list[str] = [] if notes is None else notes
    dialogue = Dialogue("mx.example", note=said.append)
    for line in (b"LHLO client.example", *lines):
        assert dialogue.answer(line)[0][-1].startswith(b"250 ")
    return dialogue.request


def test_lhlo_offers_what_lmtp8_makes_use_of() -> None:
    lines, then = Dialogue("mx.example").answer(b"lhlo client.example")
    assert lines == (
        b"250-mx.example",
        b"250-PIPELINING",
        b"250-ENHANCEDSTATUSCODES",
        b"250-8BITMIME",
        b"250-SIZE",
        b"250-SMTPUTF8",
        b"250-DSN",
        b"250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
    )
    assert then is Then.COMMAND


def test_greeting() -> None:
    greeting = Dialogue("m\u00fcller.example").greeting()
    assert greeting == (b"220 m?ller.example LMTP postfix-trouble",)


def test_nobody_has_said_anything_yet() -> None:
    dialogue = Dialogue("mx.example")
    assert not dialogue.busy
    assert dialogue.request == DeliveryRequest("", (), "")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (lmtp_dialogue.BUG, b"451 4.3.0 Internal error, the message is deferred"),
        (lmtp_dialogue.STORAGE_FULL, b"452 4.3.1 Insufficient system storage"),
        (lmtp_dialogue.STOPPING, b"421 4.3.2 Service is shutting down"),
        (lmtp_dialogue.IDLE, b"421 4.4.2 Timeout exceeded"),
    ],
)
def test_an_internal_problem_defers(reply: lmtp_dialogue.Lines, text: bytes) -> None:
    assert reply == (text,)


def test_what_one_client_may_ask_of_us() -> None:
    assert Limits()._asdict() == {
        # An address of 4 kB, three times as long in xtext.
        "line": 12288,
        "recipients": 1000,
        # Postfix has a limit of its own.
        "message": 0,
        "requiretls": False,
        "bad_commands": 20,
        "idle": 300.0,
        "data": 1800.0,
        "grace": 30.0,
    }


def test_size_limit_is_announced() -> None:
    dialogue = Dialogue("mx.example", Limits(message=1000))
    assert b"250-SIZE 1000" in dialogue.answer(b"LHLO x")[0]


@pytest.mark.parametrize(
    ("wire", "internal"),
    [
        (b"<a@d>", "a@d"),
        (b"<>", ""),
        (b'<"a b"@d>', "a b@d"),
        (b'<"a@b"@d>', "a@b@d"),
        (b"<a@b@d>", "a@b@d"),
        (rb'<"a\"b\\c"@d>', 'a"b\\c@d'),
        (b'<"<x>"@d>', "<x>@d"),
        (b'<""@d>', "@d"),
        (b'<a."b c".e@d>', "a.b c.e@d"),
        (rb"<a\ b@d>", "a b@d"),
        (b"<a@d.>", "a@d."),
        (b"<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        (b"<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
        (b"<@relay.example,@other.example:a@d>", "a@d"),
        (b"<postmaster>", "postmaster"),
        (b'<"a\x01b"@d>', "a\x01b@d"),
        ("<jörg@müller.example>".encode(), "jörg@müller.example"),
        (b"<a\xff@d>", "a\udcff@d"),
    ],
    ids=repr,
)
def test_addresses(wire: bytes, internal: str) -> None:
    request = envelope(b"MAIL FROM:" + wire)
    assert request.sender == internal
    if internal:
        request = envelope(b"MAIL FROM:<>", b"RCPT TO:" + wire)
        assert request.recipients == (Recipient(internal),)


@pytest.mark.parametrize(
    "wire",
    [
        b"a@d",
        b"<a@d",
        b"a@d>",
        b"<a@d>x",
        b"<a<b@d>",
        b'<"a@d>',
        b'<"a@b">',
        b'<"a\0b"@d>',
        b'<"a\rb"@d>',
        b'<"a\nb"@d>',
        b"",
    ],
    ids=repr,
)
def test_addresses_that_cannot_be_handed_on(wire: bytes) -> None:
    replies, _ = talk(b"LHLO x", b"MAIL FROM:" + wire)
    assert replies[-1] == b"501 5.1.7 Bad sender address syntax"
    replies, dialogue = talk(b"LHLO x", b"MAIL FROM:<>", b"RCPT TO:" + wire)
    assert replies[-1] == b"501 5.1.3 Bad recipient address syntax"
    assert dialogue.request.recipients == ()


def test_empty_recipient_is_no_recipient() -> None:
    replies, _ = talk(b"LHLO x", b"MAIL FROM:<>", b"RCPT TO:<>")
    assert replies[-1].startswith(b"501 5.1.3 ")


def test_mail_parameters_reach_the_request() -> None:
    line = b"mail from: <s@d> SIZE=1234 BODY=8BITMIME ENVID=QQ+2B1 RET=HDRS SMTPUTF8"
    notes: list[str] = []
    assert (
        envelope(line + b" AUTH=<>", notes=notes)[:-2]
        == DeliveryRequest(
            "s@d",
            (),
            "",
            size=1234,
            envid="QQ+1",
            ret="hdrs",
            encoding="8bit",
            smtputf8=True,
        )[:-2]
    )
    assert not notes
    other = envelope(b"MAIL FROM:<s@d> body=7bit ret=full SIZE=999999999999999999")
    assert (other.encoding, other.ret, other.size) == ("7bit", "full", 10**18 - 1)
    # Characters that would be dangerous in a log.
    odd = envelope(b"MAIL FROM:<s@d> ENVID=a+20b+0A+1F+7F+C3+BCX")
    assert odd.envid == "a b???\u00fcX"


def test_rcpt_parameters_reach_the_recipient() -> None:
    request = envelope(
        b"MAIL FROM:<s@d>",
        b"RCPT TO:<a@d> ORCPT=rfc822;orig+2Ba@d NOTIFY=SUCCESS,FAILURE,DELAY",
        b"RCPT TO:<b@d> notify=never",
        b"RCPT TO:<a@d>",
        rb"RCPT TO:<c@d> ORCPT=utf-8;j\x{5C}x{F6}rg@d",
        rb"RCPT TO:<e@d> ORCPT=utf-8;\x{D7FF}\x{E000}\x{10FFFF}@d",
    )
    assert request.recipients == (
        Recipient(
            "a@d", orcpt="rfc822;orig+a@d", notify="SUCCESS,FAILURE,DELAY", position=0
        ),
        Recipient("b@d", notify="NEVER", position=1),
        Recipient("a@d", position=2),
        Recipient("c@d", orcpt=r"utf-8;j\x{F6}rg@d", position=3),
        Recipient("e@d", orcpt="utf-8;\ud7ff\ue000\U0010ffff@d", position=4),
    )


@pytest.mark.parametrize(
    ("parameter", "shown"),
    [
        (b"REQUIRETLS", "REQUIRETLS"),
        (b"SIZE=big", "SIZE=big"),
        (b"SIZE=" + b"9" * 19, "SIZE=" + "9" * 19),
        (b"BODY=BINARYMIME", "BODY=BINARYMIME"),
        (b"RET=none", "RET=none"),
        (b"ENVID=+ZZ", "ENVID=+ZZ"),
        (b"X-\x1b[2J=\x7f", "X-?[2J=?"),
        (b"X-LONG=" + b"z" * 300, "X-LONG=" + "z" * 193),
    ],
)
def test_unknown_parameters_do_not_bounce_mail(parameter: bytes, shown: str) -> None:
    notes: list[str] = []
    request = envelope(b"MAIL FROM:<s@d> " + parameter, notes=notes)
    assert request == DeliveryRequest("s@d", (), "")
    assert notes == [f"MAIL parameter ignored: {shown}"]


@pytest.mark.parametrize("word", [b"REQUIRETLS", b"requiretls"])
def test_requiretls_is_passed_on_where_it_is_on(word: bytes) -> None:
    dialogue = Dialogue("mx.example", Limits(requiretls=True))
    assert dialogue.answer(b"LHLO client.example")[0][-1] == b"250 REQUIRETLS"
    dialogue.answer(b"MAIL FROM:<s@d> " + word)
    assert dialogue.request.requiretls


@pytest.mark.parametrize(
    "parameter",
    [
        b"ORCPT=rfc822",
        b"ORCPT=rfc822;",
        b"ORCPT=;a@d",
        b"ORCPT=rfc822;a+0D+0ARCPT",
        b"ORCPT=rfc822;+G0",
        rb"ORCPT=utf-8;\x{110000}",
        rb"ORCPT=utf-8;\x{D800}",
        rb"ORCPT=utf-8;\x{DFFF}",
        rb"ORCPT=utf-8;\y",
        b"NOTIFY=",
        b"NOTIFY=SOMETIMES",
        b"NOTIFY=SUCCESS,SOMETIMES",
        b"NOTIFY=NEVER,SUCCESS",
        b"RRVS=2014",
    ],
    ids=repr,
)
def test_odd_rcpt_parameters_do_not_bounce_mail(parameter: bytes) -> None:
    notes: list[str] = []
    request = envelope(b"MAIL FROM:<>", b"RCPT TO:<a@d> " + parameter, notes=notes)
    assert request.recipients == (Recipient("a@d"),)
    shown = parameter.decode().removesuffix("=")
    assert notes == [f"RCPT parameter ignored: {shown}"]


def test_xforward() -> None:
    request = envelope(
        b"XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.17 PORT=40001",
        b"XFORWARD PROTO=[TEMPUNAVAIL] HELO=a+20b IDENT=4XyZ1 SOURCE=REMOTE",
        b"MAIL FROM:<>",
        b"RCPT TO:<a@d>",
    )
    assert request.queue_id == "4XyZ1"
    assert request.attributes == {
        "log_client_name": "",
        "log_client_address": "192.0.2.17",
        "log_client_port": "40001",
        "log_protocol_name": "",
        "log_helo_name": "a b",
        "log_ident": "4XyZ1",
        "rewrite_context": "remote",
    }


def test_attributes_are_for_one_message() -> None:
    _, dialogue = talk(b"LHLO x", b"XFORWARD IDENT=1", b"RSET", b"MAIL FROM:<>")
    assert dialogue.request.attributes == {}
    assert dialogue.request.queue_id == ""


L, M, R = b"LHLO x", b"MAIL FROM:<>", b"RCPT TO:<a@d>"


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        ([M], b"503 5.5.1 Send LHLO first"),
        ([R], b"503 5.5.1 Send LHLO first"),
        ([b"DATA"], b"503 5.5.1 Send LHLO first"),
        ([b"XFORWARD NAME=x"], b"503 5.5.1 Send LHLO first"),
        ([b"EHLO x"], b"500 5.5.1 This is LMTP: send LHLO"),
        ([b"HELO x"], b"500 5.5.1 This is LMTP: send LHLO"),
        ([b"LHLO"], b"501 5.5.4 Syntax: LHLO hostname"),
        ([L, b"MAIL FORM:<a@b>"], b"501 5.1.7 Bad sender address syntax"),
        ([L, b"MAIL XFROM:<a@b>"], b"501 5.1.7 Bad sender address syntax"),
        ([L, R], b"503 5.5.1 Need MAIL command"),
        ([L, b"DATA"], b"503 5.5.1 Need MAIL command"),
        ([L, M, b"DATA"], b"503 5.5.1 No valid recipients"),
        ([L, M, M], b"503 5.5.1 Nested MAIL command"),
        ([L, M, b"XFORWARD NAME=x"], b"503 5.5.1 XFORWARD after MAIL"),
        ([L, b"XFORWARD FOO=x"], b"501 5.5.4 Bad XFORWARD attribute"),
        ([L, b"XFORWARD NAME=+"], b"501 5.5.4 Bad XFORWARD attribute"),
        ([L, b"XFORWARD NAME=x"], b"250 2.0.0 Ok"),
        ([L, M, R], b"250 2.1.5 Ok"),
        ([L, M, R, b"DATA"], b"354 End data with <CR><LF>.<CR><LF>"),
        ([L, M, L, M], b"250 2.1.0 Ok"),
        ([L, M, b"RSET", M], b"250 2.1.0 Ok"),
        ([b"RSET"], b"250 2.0.0 Ok"),
        ([b"NOOP"], b"250 2.0.0 Ok"),
        ([b"VRFY a"], b"252 2.0.0 Send the message and you will know"),
        ([b"HELP"], b"214 2.0.0 See RFC 2033 and postfix-trouble(1)"),
        ([b"QUIT"], b"221 2.0.0 Bye"),
        ([b"STARTTLS"], b"502 5.5.2 Command not recognized"),
        ([b""], b"502 5.5.2 Command not recognized"),
    ],
    ids=repr,
)
def test_sequence(lines: list[bytes], last: bytes) -> None:
    assert talk(*lines)[0][-1] == last


def test_too_many_recipients_come_back_later() -> None:
    replies, dialogue = talk(
        b"LHLO x",
        b"MAIL FROM:<>",
        *[b"RCPT TO:<a@d>"] * 3,
        limits=Limits(recipients=2),
    )
    assert replies[2:] == [*[b"250 2.1.5 Ok"] * 2, b"452 4.5.3 Too many recipients"]
    assert len(dialogue.request.recipients) == 2


@pytest.mark.parametrize(
    ("limit", "size", "reply"),
    [
        (0, 10**9, b"250 2.1.0 Ok"),
        (1000, 1000, b"250 2.1.0 Ok"),
        (1000, 1001, b"552 5.3.4 Message size exceeds limit of 1000 bytes"),
        (1, 2, b"552 5.3.4 Message size exceeds limit of 1 bytes"),
    ],
)
def test_declared_size_and_the_limit(limit: int, size: int, reply: bytes) -> None:
    line = b"MAIL FROM:<> SIZE=%d" % size
    replies, dialogue = talk(b"LHLO x", line, limits=Limits(message=limit))
    assert replies[-1] == reply
    assert dialogue.busy == reply.startswith(b"250")


def test_a_client_that_makes_no_sense_is_sent_away() -> None:
    dialogue = Dialogue("mx.example", Limits(bad_commands=3))
    said = [dialogue.answer(b"GET / HTTP/1.1") for _ in range(2)]
    said += [dialogue.too_long() for _ in range(2)]
    assert said == [
        *[((b"502 5.5.2 Command not recognized",), Then.COMMAND)] * 2,
        ((b"500 5.5.2 Line too long",), Then.COMMAND),
        ((b"421 4.7.0 Too many errors",), Then.CLOSE),
    ]


def test_a_message_makes_good_for_what_was_before() -> None:
    dialogue = Dialogue("mx.example", Limits(bad_commands=2))
    for _ in range(3):
        thens = [dialogue.answer(line)[1] for line in (b"X", b"X", L, M, R, b"DATA")]
        assert thens == [*[Then.COMMAND] * 5, Then.DATA]
        dialogue.reset()


def test_what_follows_a_refused_mail_is_not_held_against_the_client() -> None:
    lines = [b"LHLO x", b"MAIL FROM:<", *[b"RCPT TO:<a@d>"] * 100, b"DATA"]
    dialogue = Dialogue("mx.example")
    assert {dialogue.answer(line)[1] for line in lines} == {Then.COMMAND}


LINES = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda command, rest: command + rest,
        st.sampled_from(
            [
                b"LHLO x",
                b"MAIL FROM:<",
                b"MAIL FROM:<a@d> ",
                b"RCPT TO:<",
                b"RCPT TO:<a@d> ORCPT=",
                b"RCPT TO:<a@d> NOTIFY=",
                b"XFORWARD NAME=",
                b"XFORWARD ",
                b"DATA",
            ]
        ),
        st.binary(max_size=40)
        | st.lists(
            st.sampled_from([b'"', b"\\", b"<", b">", b"@", b"+", b"a", b" "])
        ).map(b"".join),
    ),
)


@given(st.lists(LINES, max_size=12))
def test_any_bytes_have_an_answer(lines: list[bytes]) -> None:
    dialogue = Dialogue("mx.example")
    for line in [b"LHLO x", *lines]:
        reply, _ = dialogue.answer(line)
        assert all(REPLY.fullmatch(each) for each in reply)
        assert len({each[:3] for each in reply}) == 1
    for recipient in dialogue.request.recipients:
        assert recipient.address
        assert not set("\0\r\n") & set(recipient.address + recipient.orcpt)


def test_a_long_line_of_quotes_is_read_in_no_time() -> None:
    for line in (b'<"' + b'\\"' * 5000, b"<" + b'"a"' * 4000, b"<" + b"\\<" * 6000):
        assert lmtp_syntax.path(line) is None


ADDRESSES = st.builds(
    "{}@{}".format,
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n")),
    st.sampled_from(["d", "d.example", "[192.0.2.1]"]),
)


@given(ADDRESSES)
def test_addresses_come_back_as_they_were_quoted(address: str) -> None:
    quoted = to_bytes(quote_local(address))
    found = lmtp_syntax.path(b"<" + quoted + b"> SIZE=1")
    assert found == (quoted, b"SIZE=1")
    assert lmtp_syntax.internal_form(quoted) == address


@given(st.text(st.characters(codec="utf-8")))
def test_xtext_and_uxtext_come_back(text: str) -> None:
    assert lmtp_syntax.from_xtext(xtext(text).encode()) == text
    assert lmtp_syntax.from_uxtext((uxtext(text) or "").encode()) == text
