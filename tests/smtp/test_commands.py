"""The command lines of a transaction."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from script import offers, run

from postfix_trouble.core.envelope import Recipient
from postfix_trouble.core.steps import Authenticated

ALL = ("SIZE", "8BITMIME", "DSN", "SMTPUTF8", "AUTH PLAIN")


def line(verb: str, *keywords: str, **facts: Any) -> str:
    done = run(offers(*keywords, auth=Authenticated("PLAIN")), **facts)
    return next(found for found in done.lines if found.startswith(verb))


MAIL: list[Any] = [
    # keywords, facts, settings, parameters of MAIL
    ((), {"size": 5, "encoding": "7bit", "envid": "e", "ret": "full"}, {}, ""),
    (("SIZE",), {"size": 5, "encoding": "7bit"}, {}, "SIZE=5"),
    # The size is not known before conversion.
    (("SIZE",), {"size": 5, "encoding": "8bit"}, {}, ""),
    (
        ("SIZE",),
        {"size": 5, "encoding": "8bit"},
        {"disable_mime_output_conversion": "yes"},
        "SIZE=5",
    ),
    (("8BITMIME",), {"encoding": "8bit"}, {}, "BODY=8BITMIME"),
    (("8BITMIME",), {"encoding": "7bit"}, {}, "BODY=7BIT"),
    (("8BITMIME",), {}, {}, ""),
    (("DSN",), {"envid": "a+b=c d"}, {}, "ENVID=a+2Bb+3Dc+20d"),
    (("DSN",), {"envid": "x\r\nDATA"}, {}, "ENVID=x+0D+0ADATA"),
    (("DSN",), {"ret": "hdrs"}, {}, "RET=HDRS"),
    (("DSN",), {"ret": "full"}, {}, "RET=FULL"),
    (("DSN", "SMTPUTF8"), {"smtputf8": True}, {}, "SMTPUTF8"),
    (("DSN", "SMTPUTF8"), {}, {}, ""),
    (("DSN",), {"smtputf8": True}, {}, ""),
    (("AUTH PLAIN",), {}, {"smtp_sasl_auth_enable": "yes"}, ""),
    (
        ("AUTH PLAIN",),
        {},
        {"smtp_sasl_auth_enable": "yes", "smtp_send_dummy_mail_auth": "yes"},
        "AUTH=<>",
    ),
    (("AUTH PLAIN",), {}, {"smtp_send_dummy_mail_auth": "yes"}, ""),
    (
        ALL,
        {
            "size": 5,
            "encoding": "8bit",
            "envid": "e",
            "ret": "full",
            "smtputf8": True,
        },
        {"smtp_sasl_auth_enable": "yes", "smtp_send_dummy_mail_auth": "yes"},
        "SIZE=5 BODY=8BITMIME ENVID=e RET=FULL SMTPUTF8 AUTH=<>",
    ),
]


@pytest.mark.parametrize(("keywords", "facts", "settings", "parameters"), MAIL)
def test_mail(
    keywords: tuple[str, ...],
    facts: dict[str, Any],
    settings: dict[str, str],
    parameters: str,
) -> None:
    found = line("MAIL", *keywords, settings=settings, **facts)
    assert found == f"MAIL FROM:<s@d.test> {parameters}".rstrip()


@pytest.mark.parametrize(
    ("sender", "quoting", "shown"),
    [
        ("", "yes", "<>"),
        ("a b@d.test", "yes", '<"a b"@d.test>'),
        ("a b@d.test", "no", "<a b@d.test>"),
    ],
)
def test_sender(sender: str, quoting: str, shown: str) -> None:
    settings = {"smtp_quote_rfc821_envelope": quoting}
    assert line("MAIL", sender=sender, settings=settings) == f"MAIL FROM:{shown}"


def test_addresses_are_rewritten_but_for_the_null_sender() -> None:
    done = run({}, sender="", rewrite=lambda text: f"other-{text}")
    assert done.lines[1:3] == ["MAIL FROM:<>", "RCPT TO:<other-u0@d.test>"]


RCPT: list[Any] = [
    # recipient, SMTPUTF8 asked for, parameters of RCPT
    (Recipient("r@d"), False, ""),
    (Recipient("r@d", original="o@d"), False, "ORCPT=rfc822;o@d"),
    (Recipient("r@d", original="o@d"), True, "ORCPT=rfc822;o@d"),
    (Recipient("r@d", original="a b@d"), False, 'ORCPT=rfc822;"a+20b"@d'),
    (Recipient("r@d", "o@d", "rfc822;x+y@d"), False, "ORCPT=rfc822;x+2By@d"),
    (Recipient("r@d", original="\u00fc@d"), False, "ORCPT=rfc822;+C3+BC@d"),
    (Recipient("r@d", original="\u00fc@d"), True, "ORCPT=utf-8;\\x{FC}@d"),
    (Recipient("r@d", orcpt="UTF-8;\u00fc b@d"), True, "ORCPT=UTF-8;\\x{FC}\\x{20}b@d"),
    (Recipient("r@d", orcpt="utf-8;\udcff@d"), True, ""),
    (Recipient("r@d", orcpt="x400;a=b"), False, "ORCPT=x400;a+3Db"),
    (Recipient("r@d", orcpt="x\r\nDATA y;z"), False, "ORCPT=x+0D+0ADATA+20y;z"),
    (Recipient("r@d", notify="SUCCESS,DELAY"), False, "NOTIFY=SUCCESS,DELAY"),
    (
        Recipient("r@d", "o@d", notify="NEVER"),
        False,
        "ORCPT=rfc822;o@d NOTIFY=NEVER",
    ),
]


@pytest.mark.parametrize(("recipient", "smtputf8", "parameters"), RCPT)
def test_rcpt(recipient: Recipient, smtputf8: bool, parameters: str) -> None:
    facts: dict[str, Any] = {"rcpts": (recipient,), "smtputf8": smtputf8}
    keywords = ("DSN", "SMTPUTF8")
    assert line("RCPT", *keywords, **facts) == f"RCPT TO:<r@d> {parameters}".rstrip()
    assert line("RCPT", "SMTPUTF8", **facts) == "RCPT TO:<r@d>"


CLIENT = {
    "log_client_name": "c d.test",
    "log_client_address": "192.0.2.9",
    "log_client_port": "unknown",
    "log_protocol_name": "ESMTP",
    "log_helo_name": "unknown",
    "log_ident": "A=B",
}
XFORWARD: list[Any] = [
    # words offered, attributes, commands
    (
        "NAME ADDR PORT PROTO HELO IDENT SOURCE",
        CLIENT,
        [
            "XFORWARD NAME=c+20d.test ADDR=192.0.2.9",
            "XFORWARD PROTO=ESMTP HELO=unknown IDENT=A=B SOURCE=REMOTE",
        ],
    ),
    ("name helo", CLIENT, ["XFORWARD NAME=c+20d.test", "XFORWARD HELO=unknown"]),
    ("SOURCE", {"rewrite_context": "local"}, ["XFORWARD SOURCE=LOCAL"]),
    ("ADDR", CLIENT, ["XFORWARD ADDR=192.0.2.9"]),
    ("NAME", {"log_client_name": "unknown"}, []),
    ("PORT", {"log_client_port": "25"}, ["XFORWARD PORT=25"]),
    ("ADDR", {"log_client_address": "unknown"}, []),
    ("PROTO", {"log_protocol_name": "unknown"}, []),
    ("IDENT", {"log_ident": "unknown"}, ["XFORWARD IDENT=unknown"]),
    ("NAME", {}, []),
    ("NAME", {"log_client_name": "x\r\nRSET"}, ["XFORWARD NAME=x+0D+0ARSET"]),
]


@pytest.mark.parametrize(("offered", "attributes", "commands"), XFORWARD)
def test_xforward(
    offered: str, attributes: dict[str, str], commands: list[str]
) -> None:
    server = offers(f"XFORWARD {offered}")
    settings = {"smtp_send_xforward_command": "yes"}
    done = run(server, settings=settings, attributes=attributes)
    assert [x for x in done.lines if x.startswith("XFORWARD")] == commands
    silent = run(server, attributes=attributes)
    assert not [x for x in silent.lines if x.startswith("XFORWARD")]


@pytest.mark.parametrize(
    ("stage", "words"),
    [("xforward_name", "name/address"), ("xforward_helo", "helo/protocol")],
)
def test_xforward_refused_is_no_failure(stage: str, words: str) -> None:
    server = offers("XFORWARD NAME HELO", **{stage: "550 no"})
    settings = {"smtp_send_xforward_command": "yes"}
    done = run(server, settings=settings, attributes=CLIENT)
    assert done.end == "sent 2.0.0 h1"
    where = "host h1.test[192.0.2.1]:2525 said: 550 no"
    note = f"{where} (in reply to XFORWARD {words} command)"
    assert done.outside.wires[0].notes == [note]


# What arguments can hold: bytes that are no UTF-8 are kept as these.
KEPT = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
CHARACTERS = st.one_of(st.characters(codec="utf-8"), KEPT)
TEXT = st.text(CHARACTERS, max_size=30).filter(lambda s: not set(s) & set("\0\r\n"))
ANY = st.text(st.one_of(CHARACTERS, st.sampled_from("\r\n\0 ;=+")), max_size=20)


@given(sender=TEXT, address=TEXT.filter(bool), original=TEXT, orcpt=ANY, envid=ANY)
def test_no_line_holds_a_second_command(
    sender: str, address: str, original: str, orcpt: str, envid: str
) -> None:
    rcpt = Recipient(address, original, orcpt)
    done = run(
        offers(*ALL, "XFORWARD NAME HELO IDENT"),
        rcpts=(rcpt,),
        sender=sender,
        smtputf8=True,
        envid=envid,
        attributes={"log_client_name": orcpt, "log_helo_name": envid},
        settings={"smtp_send_xforward_command": "yes"},
    )
    assert done.end == "sent 2.0.0 h1"
    for command in done.lines:
        assert not set(command) & {"\r", "\n", "\0"}
