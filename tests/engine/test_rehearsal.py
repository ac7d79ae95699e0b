"""What is tried out in a session without a network: one thing goes wrong in it."""

from __future__ import annotations

from typing import Any

import pytest

from postfix_trouble.engine.rehearsal import (
    Ending,
    NotOffered,
    Setting,
    read_reply,
    rehearse,
)
from postfix_trouble.model.reply import Lost
from postfix_trouble.model.status import EnhancedStatus
from postfix_trouble.model.steps import HandshakeFailed
from postfix_trouble.model.tls import TlsFacts
from postfix_trouble.model.verdict import DSN

NOBODY = DSN(EnhancedStatus("5.4.4"), "Host or domain name not found")
LOOPS = DSN(EnhancedStatus("5.4.6"), "mail for example.com loops back to myself")
NOT_THEIRS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, matched=False)
LAST = Setting(final_server=True)


def level(word: str) -> Setting:
    return LAST._replace(values={"smtp_tls_security_level": word})


def shown(end: Ending) -> str:
    """Status and what becomes of the recipient, who decided, and what else follows."""
    assert end.reached
    if end.outcome is None:
        return f"kept {end.entry}".rstrip()
    dsn = end.outcome.dsn
    words = [end.outcome.disposition.value, dsn.status, end.entry]
    return " ".join([*filter(None, words), *(["throttled"] if end.throttled else [])])


@pytest.mark.parametrize(
    ("stage", "happening", "setting", "ending"),
    [
        ("connect", NOBODY, Setting(), "kept"),
        ("connect", NOBODY, LAST, "bounced 5.4.4 sess_fail"),
        # No other destination is tried after that.
        ("connect", LOOPS, Setting(), "bounced 5.4.6 sess_fail"),
        ("starttls", NotOffered(), LAST, "deferred 4.7.4 site_fail throttled"),
        ("starttls", NotOffered(), level("may"), "sent 2.0.0"),
        (
            "starttls",
            NotOffered(),
            LAST._replace(lmtp=True),
            "deferred 4.7.4 site_fail throttled",
        ),
        ("handshake", NOT_THEIRS, LAST, "sent 2.0.0"),
        (
            "handshake",
            NOT_THEIRS,
            level("verify"),
            "deferred 4.7.5 site_fail throttled",
        ),
        (
            "handshake",
            HandshakeFailed(""),
            level("may"),
            "deferred 4.7.5 misc_fail",
        ),
        ("mail", Lost.TIME, level("verify"), "deferred 4.4.2 stream_except throttled"),
        ("auth", Lost.EOF, LAST, "deferred 4.4.2 stream_except throttled"),
        ("mail", "450 no", Setting(), "kept mesg_fail"),
        ("auth", "235 ok", LAST, "sent 2.0.0"),
        (
            "auth",
            "454 no",
            LAST._replace(lmtp=True),
            "deferred 4.0.0 sess_fail throttled",
        ),
        ("xforward_name", "550 no", LAST, "sent 2.0.0"),
        ("xforward_helo", "550 no", LAST, "sent 2.0.0"),
        ("xforward_helo", "550 no", LAST._replace(lmtp=True), "sent 2.0.0"),
        ("xforward_name", Lost.EOF, LAST, "deferred 4.4.2 stream_except throttled"),
        ("helo", "550 no", LAST, "bounced 5.0.0 site_fail"),
        ("dot", "250 2.1.1 ok", LAST, "sent 2.1.1"),
    ],
)
def test_ending(stage: str, happening: Any, setting: Setting, ending: str) -> None:
    if isinstance(happening, str):
        happening = read_reply(happening)
    assert shown(rehearse(stage, happening, setting)) == ending


def test_settings_of_the_protocol_are_those_that_count() -> None:
    values = {"lmtp_sasl_auth_soft_bounce": "no", "smtp_sasl_auth_soft_bounce": "yes"}
    reply = read_reply("535 5.7.8 no")
    assert reply is not None
    for lmtp, status in ((True, "5.7.8"), (False, "4.7.8")):
        end = rehearse("auth", reply, Setting(values, final_server=True, lmtp=lmtp))
        assert end.outcome is not None
        assert end.outcome.dsn.status == status


def test_a_stage_that_is_not_come_to() -> None:
    reply = read_reply("450 no")
    assert reply is not None
    assert not rehearse("helo", reply, Setting(lmtp=True)).reached
