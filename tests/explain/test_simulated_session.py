"""What is tried out in a session without a network: one thing goes wrong in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import HandshakeFailed
from postfix_trouble.core.tls import TlsFacts
from postfix_trouble.simulate.session import (
    STAGES,
    Ending,
    NotOffered,
    Setting,
    read_reply,
    simulate,
)

NOBODY = DSN(EnhancedStatus("5.4.4"), "Host or domain name not found")
LOOPS = DSN(EnhancedStatus("5.4.6"), "mail for example.com loops back to myself")
NOT_THEIRS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, matched=False)
LAST = Setting(final_server=True)
SASL = {"smtp_sasl_auth_enable": "yes"}
SOON = {"smtp_tls_security_level": "may", "minimal_backoff_time": "1s"}


def level(word: str) -> Setting:
    return LAST._replace(values={"smtp_tls_security_level": word})


def shown(end: Ending) -> str:
    """Status and what becomes of the recipient, who decided, and what else follows."""
    assert end.reached
    words = ["kept", end.entry]
    if end.outcome is not None:
        dsn = end.outcome.dsn
        words = [end.outcome.disposition.value, dsn.status, end.entry]
    words += ["throttled"] if end.throttled else []
    words += ["again"] if end.retry_plaintext else []
    return " ".join(filter(None, words))


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
        ("mail", "450 no", Setting(SASL), "kept mesg_fail"),
        ("handshake", HandshakeFailed(""), Setting(SOON), "kept misc_fail"),
        (
            "handshake",
            HandshakeFailed(""),
            Setting(SOON, age=1.0),
            "kept misc_fail again",
        ),
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
    assert shown(simulate(stage, happening, setting)) == ending


def test_stages_have_their_names_in_the_manual() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
    titles = re.findall(r"^(?:#+ )?([^|,(:\n]+)(?:[,(:].*)?$", page, re.MULTILINE)
    words = {word.lower() for word in STAGES.values()}
    # XFORWARD is the same twice.
    assert words - {title.lower() for title in titles} == {"xforward helo/protocol"}


def test_settings_of_the_protocol_are_those_that_count() -> None:
    values = {"lmtp_sasl_auth_soft_bounce": "no", "smtp_sasl_auth_soft_bounce": "yes"}
    reply = read_reply("535 5.7.8 no")
    assert reply is not None
    for lmtp, status in ((True, "5.7.8"), (False, "4.7.8")):
        end = simulate("auth", reply, Setting(values, final_server=True, lmtp=lmtp))
        assert end.outcome is not None
        assert end.outcome.dsn.status == status


def test_a_stage_that_is_not_come_to() -> None:
    reply = read_reply("450 no")
    assert reply is not None
    assert not simulate("helo", reply, Setting(lmtp=True)).reached
