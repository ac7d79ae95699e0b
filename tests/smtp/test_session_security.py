"""STARTTLS and AUTH: which way the dialogue goes."""

from __future__ import annotations

from typing import Any

import pytest
from script import TLS, Place, Server, ehlo, offers, run

from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import (
    Authenticate,
    Authenticated,
    AuthFailed,
    HandshakeFailed,
    Pending,
)
from postfix_trouble.core.tls import TlsLevel, TlsPolicy

H = "h1.test[192.0.2.1]"
MAY, ENCRYPT, VERIFY = TlsLevel.MAY, TlsLevel.ENCRYPT, TlsLevel.VERIFY


# --- STARTTLS -------------------------------------------------------------------------

TLS_OK = "EHLO | STARTTLS | EHLO | MAIL | RCPT | DATA | body . | QUIT"
PLAIN = "EHLO | MAIL | RCPT | DATA | body . | QUIT"
FAILED = HandshakeFailed("whatever")
UNMATCHED = TLS._replace(matched=False)
FORKS: list[Any] = [
    # level, server, result, sequence, throttled
    (TlsLevel.NONE, offers("STARTTLS"), "sent 2.0.0", PLAIN, ""),
    (MAY, offers(), "sent 2.0.0", PLAIN, ""),
    (MAY, offers("STARTTLS"), "sent 2.0.0", TLS_OK, ""),
    (
        MAY,
        offers("STARTTLS", starttls="454 4.7.0 no"),
        "sent 2.0.0",
        "EHLO | STARTTLS | MAIL | RCPT | DATA | body . | QUIT",
        "",
    ),
    (
        MAY,
        offers("STARTTLS", handshake=FAILED),
        "deferred 4.7.5",
        "EHLO | STARTTLS | hangup",
        "",
    ),
    (ENCRYPT, offers(), "deferred 4.7.4", "EHLO | QUIT", "4.7.4"),
    (ENCRYPT, {"ehlo": "500 no"}, "deferred 4.7.4", "EHLO | HELO | QUIT", "4.7.4"),
    (
        ENCRYPT,
        offers("STARTTLS", starttls="454 4.7.0 no"),
        "deferred 4.7.0",
        "EHLO | STARTTLS | QUIT",
        "4.7.0",
    ),
    (
        ENCRYPT,
        offers("STARTTLS", starttls="550 no"),
        "bounced 5.0.0",
        "EHLO | STARTTLS | QUIT",
        "",
    ),
    (
        ENCRYPT,
        offers("STARTTLS", starttls="354 no"),
        "bounced 5.5.0",
        "EHLO | STARTTLS | QUIT",
        "",
    ),
    (
        ENCRYPT,
        offers("STARTTLS", handshake=FAILED),
        "deferred 4.7.5",
        "EHLO | STARTTLS | hangup",
        "4.7.5",
    ),
    (ENCRYPT, offers("STARTTLS", handshake=UNMATCHED), "sent 2.0.0", TLS_OK, ""),
    (
        VERIFY,
        offers("STARTTLS", handshake=UNMATCHED),
        "deferred 4.7.5",
        "EHLO | STARTTLS | QUIT",
        "4.7.5",
    ),
    (VERIFY, offers("STARTTLS"), "sent 2.0.0", TLS_OK, ""),
]


@pytest.mark.parametrize(("level", "server", "result", "sequence", "throttled"), FORKS)
def test_starttls(
    level: TlsLevel, server: Server, result: str, sequence: str, throttled: str
) -> None:
    done = run(server, tls=level)
    assert done.end == f"{result} h1"
    assert done.sequence == sequence
    assert done.throttled == throttled


def test_starttls_reasons() -> None:
    refused = run(offers("STARTTLS", starttls="454 no"), tls=ENCRYPT)
    assert (
        refused.reason == f"TLS is required, but host {H} refused to start TLS: 454 no"
    )
    missing = run(offers(), tls=ENCRYPT)
    assert missing.reason == f"TLS is required, but was not offered by host {H}"
    failed = run(offers("STARTTLS", handshake=FAILED), tls=MAY)
    assert failed.reason == "Cannot start TLS: handshake failure"


def test_what_was_offered_in_the_clear_is_forgotten() -> None:
    server = offers(ehlo=[ehlo("STARTTLS", "PIPELINING", "SIZE 1"), ehlo("DSN")])
    done = run(server, tls=MAY, envid="x", size=5)
    assert done.lines[3] == "MAIL FROM:<s@d.test> ENVID=x"
    assert done.sequence == TLS_OK


def test_helo_is_possible_again_after_starttls() -> None:
    server = offers(ehlo=[ehlo("STARTTLS", "PIPELINING", "SIZE 1"), "500 no"])
    done = run(server, tls=MAY, size=2)
    assert done.sequence.startswith("EHLO | STARTTLS | EHLO | HELO | MAIL")


def test_starttls_offer_is_noted_where_tls_is_off() -> None:
    settings = {"smtp_tls_note_starttls_offer": "yes"}
    done = run(offers("STARTTLS"), settings=settings)
    assert done.outside.wires[0].notes == ["Host offered STARTTLS: [h1.test]"]


def test_tls_comes_before_the_greeting_in_wrapper_mode() -> None:
    policy = TlsPolicy(ENCRYPT, wrappermode=True)
    done = run(offers("STARTTLS"), tls=policy)
    assert done.sequence == PLAIN
    assert done.report.servers[0].tls == TLS
    failed = run({"handshake": FAILED}, tls=policy)
    assert (failed.end, failed.sequence) == ("deferred 4.7.5 h1", "hangup")


@pytest.mark.parametrize("block", ["yes", "no"])
@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("piped", [True, False])
def test_words_before_mail_under_tls(block: str, tls: bool, piped: bool) -> None:
    keywords = ("STARTTLS", *(["PIPELINING"] if piped else []))
    settings = {"smtp_tls_block_early_mail_reply": block}
    done = run(
        offers(*keywords, pending=True),
        tls=MAY if tls else TlsLevel.NONE,
        settings=settings,
    )
    if tls and block == "yes":
        assert (done.end, done.reason) == (
            "deferred 4.7.0 h1",
            "unexpected server message",
        )
        assert not any("body" in group for group in done.outside.wires[0].groups)
    else:
        assert done.end == "sent 2.0.0 h1"


def test_nothing_pending_before_mail() -> None:
    settings = {"smtp_tls_block_early_mail_reply": "yes"}
    done = run(offers("STARTTLS"), tls=MAY, settings=settings)
    assert done.end == "sent 2.0.0 h1"


# --- AUTH -----------------------------------------------------------------------------

AUTH_ON = {"smtp_sasl_auth_enable": "yes"}


def said(code: int, status: str, text: str) -> AuthFailed:
    return AuthFailed(Reply(code, EnhancedStatus(status), text))


@pytest.mark.parametrize(
    ("soft", "answer", "end"),
    [
        ("yes", said(535, "5.7.8", "535-5.7.8 bad\n535 5.7.8 creds"), "deferred 4.7.8"),
        ("no", said(535, "5.7.8", "535-5.7.8 bad\n535 5.7.8 creds"), "bounced 5.7.8"),
        ("yes", said(454, "4.7.0", "454 4.7.0 later"), "deferred 4.7.0"),
        ("yes", said(135, "5.5.0", "135 what"), "bounced 5.5.0"),
    ],
)
def test_authentication_refused(soft: str, answer: AuthFailed, end: str) -> None:
    settings = {**AUTH_ON, "smtp_sasl_auth_soft_bounce": soft}
    done = run(offers("AUTH PLAIN", auth=answer), settings=settings)
    assert done.end == f"{end} h1"
    assert done.sequence == "EHLO | QUIT"
    assert answer.reply is not None
    assert done.reason == (
        f"SASL authentication failed; server {H} said: {answer.reply.text}"
    )
    dsn = done.report.outcomes[0].dsn
    assert (dsn.remote_mta, dsn.diagnostic_type) == ("h1.test", "smtp")


def test_authentication_refused_by_lmtp() -> None:
    settings = {"lmtp_sasl_auth_enable": "yes"}
    server = offers("AUTH PLAIN", auth=said(454, "4.7.0", "454 no"))
    done = run(server, settings=settings, lmtp=True)
    assert done.report.outcomes[0].dsn.diagnostic_type == "lmtp"


def test_authentication_failed_on_our_side() -> None:
    text = "SASL authentication failed; cannot authenticate to server x: no mechanism"
    answer = AuthFailed(None, "4.7.0", text, "x-sasl; no mechanism")
    done = run(offers("AUTH GSSAPI", auth=answer), settings=AUTH_ON)
    dsn = done.report.outcomes[0].dsn
    assert done.end == "deferred 4.7.0 h1"
    assert dsn == (EnhancedStatus("4.7.0"), text, "", "x-sasl", "no mechanism")


@pytest.mark.parametrize("answer", [None, Authenticated("PLAIN")])
def test_authentication_or_none_needed(answer: Authenticated | None) -> None:
    done = run(offers("AUTH PLAIN LOGIN", auth=answer), settings=AUTH_ON)
    assert done.end == "sent 2.0.0 h1"
    step = next(s for s in done.outside.wires[0].steps if isinstance(s, Authenticate))
    assert step.mechanisms == ("PLAIN", "LOGIN")


@pytest.mark.parametrize("keywords", [("AUTH PLAIN",), ()])
def test_authentication_not_wanted_or_not_offered(keywords: tuple[str, ...]) -> None:
    settings = {} if keywords else AUTH_ON
    done = run(offers(*keywords, auth=said(535, "5.7.8", "535 no")), settings=settings)
    assert done.end == "sent 2.0.0 h1"


@pytest.mark.parametrize(
    ("server", "facts", "stage"),
    [
        (offers("AUTH PLAIN"), {}, "performing the EHLO handshake"),
        (
            offers("STARTTLS", "AUTH PLAIN", starttls="454 no"),
            {"tls": MAY},
            "receiving the STARTTLS response",
        ),
    ],
)
def test_connection_lost_during_authentication(
    server: dict[str, Any], facts: dict[str, Any], stage: str
) -> None:
    done = run({**server, "auth": Lost.EOF}, settings=AUTH_ON, **facts)
    assert done.reason == f"lost connection with {H} while {stage}"
    assert done.lines[-1] != "QUIT"


# --- words before MAIL: once, and for once ------------------------------------------


def test_words_before_mail_are_looked_for_once() -> None:
    settings = {"smtp_tls_block_early_mail_reply": "yes"}
    server = offers("STARTTLS", pending=[False, True])
    done = run(server, tls=MAY, settings=settings)
    assert done.end == "sent 2.0.0 h1"
    steps = done.outside.wires[0].steps
    assert sum(isinstance(step, Pending) for step in steps) == 1


def test_words_before_mail_are_noted_once() -> None:
    settings = {"smtp_tls_block_early_mail_reply": "yes"}
    server = offers("STARTTLS", "PIPELINING", pending=True)
    done = run(Place([server, {}]), tls=MAY, settings=settings, rcpts=2)
    assert done.report.skipped == ("unexpected server message",)
    assert done.outside.wires[0].notes == [
        f"server {H} violates smtp_tls_block_early_mail_reply policy"
    ]
