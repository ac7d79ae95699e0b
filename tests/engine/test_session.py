"""From the greeting to the log-in, and QUIT: answers in, commands and outcomes out."""

from __future__ import annotations

from typing import Any

import pytest
from script import LOST, PIPELINING, TLS, Server, ehlo, offers, run

from postfix_trouble.model.reply import Lost, Reply
from postfix_trouble.model.status import EnhancedStatus
from postfix_trouble.model.steps import (
    Authenticate,
    Authenticated,
    AuthFailed,
    HandshakeFailed,
    LookUp,
    Pause,
)
from postfix_trouble.model.tls import TlsLevel, TlsPolicy

H = "h1.test[192.0.2.1]"
NO = "550 5.1.1 no"
MAY, ENCRYPT, VERIFY = TlsLevel.MAY, TlsLevel.ENCRYPT, TlsLevel.VERIFY


# --- greeting, EHLO, HELO, LHLO -------------------------------------------------------

HANDSHAKES: list[Any] = [
    # id, server, settings, result, sequence
    ("all fine", {}, {}, "sent 2.0.0", "EHLO | MAIL | RCPT | DATA | body . | QUIT"),
    ("greeting 421", {"greeting": "421 4.3.2 no"}, {}, "deferred 4.3.2", "QUIT"),
    ("greeting 554", {"greeting": "554 5.7.1 no"}, {}, "deferred 4.7.1", "QUIT"),
    (
        "greeting 554 counts",
        {"greeting": "554 5.7.1 no"},
        {"smtp_skip_5xx_greeting": "no"},
        "bounced 5.7.1",
        "QUIT",
    ),
    ("greeting 354", {"greeting": "354 go"}, {}, "bounced 5.5.0", "QUIT"),
    ("greeting 099", {"greeting": "099 go"}, {}, "bounced 5.5.0", "QUIT"),
    ("EHLO 421", {"ehlo": "421 4.3.2 no"}, {}, "deferred 4.3.2", "EHLO | QUIT"),
    *(
        (
            f"EHLO {code}, then HELO",
            {"ehlo": f"{code} no"},
            {},
            "sent 2.0.0",
            "EHLO | HELO | MAIL | RCPT | DATA | body . | QUIT",
        )
        for code in (450, 420, 422, 500, 502, 354, 199)
    ),
    (
        "HELO refused",
        {"ehlo": "502 no", "helo": "550 5.7.1 no"},
        {},
        "bounced 5.7.1",
        "EHLO | HELO | QUIT",
    ),
    (
        "HELO 421",
        {"ehlo": "502 no", "helo": "421 no"},
        {},
        "deferred 4.0.0",
        "EHLO | HELO | QUIT",
    ),
    (
        "never EHLO",
        {},
        {"smtp_never_send_ehlo": "yes"},
        "sent 2.0.0",
        "HELO | MAIL | RCPT | DATA | body . | QUIT",
    ),
    (
        "EHLO only to ESMTP, and it is",
        {"greeting": "220 mx eSmTp"},
        {"smtp_always_send_ehlo": "no"},
        "sent 2.0.0",
        "EHLO | MAIL | RCPT | DATA | body . | QUIT",
    ),
    (
        "EHLO only to ESMTP, and it is not",
        {"greeting": "220 mx XESMTP"},
        {"smtp_always_send_ehlo": "no"},
        "sent 2.0.0",
        "HELO | MAIL | RCPT | DATA | body . | QUIT",
    ),
]


@pytest.mark.parametrize(
    ("server", "settings", "result", "sequence"),
    [row[1:] for row in HANDSHAKES],
    ids=[row[0] for row in HANDSHAKES],
)
def test_handshake(
    server: Server, settings: dict[str, str], result: str, sequence: str
) -> None:
    done = run(server, settings=settings)
    assert done.end == f"{result} h1"
    assert done.sequence == sequence


@pytest.mark.parametrize(
    "server",
    [
        {"greeting": "421-a\n421 b"},
        {"ehlo": "421-a\n421 b"},
        {"ehlo": "500 x", "helo": "421-a\n421 b"},
    ],
)
def test_refusal_is_worded(server: Server) -> None:
    assert run(server).reason == f"host {H} refused to talk to me: 421-a 421 b"


@pytest.mark.parametrize(("code", "end"), [(500, "bounced 5.0.0"), (421, "deferred")])
def test_lhlo_is_not_followed_by_helo(code: int, end: str) -> None:
    done = run({"lhlo": f"{code} no"}, lmtp=True)
    assert done.end.startswith(end)
    assert done.sequence == "LHLO | QUIT"


@pytest.mark.parametrize(
    "settings",
    [
        {"lmtp_lhlo_name": "other.test"},
        {"lmtp_lhlo_name": "other.test", "smtp_always_send_ehlo": "no"},
    ],
)
def test_lmtp_says_lhlo(settings: dict[str, str]) -> None:
    done = run({"greeting": "220 x"}, lmtp=True, settings=settings)
    assert done.lines[0] == "LHLO other.test"


def test_name_of_our_own() -> None:
    done = run({"ehlo": "500 x"}, settings={"smtp_helo_name": "x.$myhostname"})
    assert done.lines[:2] == ["EHLO x.me.test", "HELO x.me.test"]


# --- a connection that breaks ---------------------------------------------------------

STAGES: list[tuple[str, Server, dict[str, Any]]] = [
    ("receiving the initial server greeting", {"greeting": "{}"}, {}),
    ("performing the EHLO handshake", {"ehlo": "{}"}, {}),
    ("performing the HELO handshake", {"ehlo": "500 no", "helo": "{}"}, {}),
    ("performing the LHLO handshake", {"lhlo": "{}"}, {"lmtp": True}),
    (
        "receiving the STARTTLS response",
        offers("STARTTLS", starttls="{}"),
        {"tls": MAY},
    ),
    (
        "performing the EHLO handshake",
        offers("STARTTLS", ehlo=[ehlo("STARTTLS"), "{}"]),
        {"tls": ENCRYPT},
    ),
    (
        "sending XFORWARD name/address",
        offers("XFORWARD NAME HELO", xforward_name="{}"),
        {"attributes": {"log_client_name": "c.test", "log_helo_name": "h"}},
    ),
    (
        "sending XFORWARD protocol/helo_name",
        offers("XFORWARD NAME HELO", xforward_helo="{}"),
        {"attributes": {"log_client_name": "c.test", "log_helo_name": "h"}},
    ),
    ("sending MAIL FROM", {"mail": "{}"}, {}),
    ("sending RCPT TO", {"rcpt": "{}"}, {}),
    ("sending DATA command", {"data": "{}"}, {}),
    ("sending message body", {"body": "{}", "dot": Lost.EOF}, {}),
    (
        "sending end of data -- message may be sent more than once",
        {"dot": "{}"},
        {},
    ),
    ("sending MAIL FROM", {**PIPELINING, "mail": "{}"}, {}),
    ("sending RCPT TO", {**PIPELINING, "rcpt": "{}"}, {}),
    ("sending DATA command", {**PIPELINING, "data": "{}"}, {}),
]


def breaking(server: Server, lost: Lost) -> dict[str, Any]:
    def put(answer: Any) -> Any:
        if isinstance(answer, list):
            return [put(one) for one in answer]
        return lost if answer == "{}" else answer

    return {stage: put(answer) for stage, answer in server.items()}


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: lost.name)
@pytest.mark.parametrize(("stage", "server", "facts"), STAGES)
def test_lost_at_every_stage(
    stage: str, server: Server, facts: dict[str, Any], lost: Lost
) -> None:
    settings = {"smtp_send_xforward_command": "yes"}
    done = run(breaking(server, lost), settings=settings, **facts)
    status = "4.3.0" if lost is Lost.DATA else "4.4.2"
    assert done.end == f"deferred {status} h1"
    assert done.reason == lost.value.format(H, stage)
    assert done.throttled == status
    handshake = "greeting" in stage or "shake" in stage or "STARTTLS" in stage
    last = done.lines[-1] if done.lines else ""
    assert (last == "QUIT") is (lost is Lost.DATA and handshake)
    assert done.errors == [("data",) if lost is Lost.DATA else ()]


@pytest.mark.parametrize(
    "parameter", ["discard_ehlo_keyword_address", "pix_workaround"]
)
def test_table_that_cannot_be_read_during_the_handshake(parameter: str) -> None:
    no_workaround = {"smtp_pix_workaround_maps": ""}
    lost = {f"smtp_{parameter}_maps": Lost.DATA}
    done = run({"greeting": "220 ****", **no_workaround, **lost})
    assert done.reason == f"local data error while talking to {H}"
    assert done.sequence.endswith("QUIT")


@pytest.mark.parametrize("server", [{}, PIPELINING, {"rcpt": "550 no"}])
@pytest.mark.parametrize("lost", [Lost.EOF, Lost.TIME])
def test_losing_the_connection_afterwards_changes_nothing(
    server: Server, lost: Lost
) -> None:
    settings = {"smtp_skip_quit_response": "no"}
    clean = run(server, settings=settings)
    done = run({**server, "rset": lost, "quit": lost}, settings=settings)
    assert done.ends == clean.ends
    assert done.reason == clean.reason


# --- keywords -------------------------------------------------------------------------

TABLE = "smtp_discard_ehlo_keyword_address_maps"


@pytest.mark.parametrize(
    ("settings", "tables", "used", "note"),
    [
        ({}, {}, True, ""),
        ({"smtp_discard_ehlo_keywords": "PIPELINING, x"}, {}, False, "pipelining"),
        ({"smtp_discard_ehlo_keywords": "pipelining silent-discard"}, {}, False, ""),
        (
            {},
            {"smtp_discard_ehlo_keyword_address_maps": "pipelining"},
            False,
            "pipelining",
        ),
        (
            {"smtp_discard_ehlo_keywords": "pipelining"},
            {"smtp_discard_ehlo_keyword_address_maps": "dsn"},
            True,
            "dsn",
        ),
    ],
)
def test_discarded_keywords(
    settings: dict[str, str], tables: dict[str, str], used: bool, note: str
) -> None:
    done = run({**PIPELINING, **tables}, settings=settings)
    assert ("MAIL RCPT" in done.sequence) is used
    listed = [f"discarding EHLO keywords: {note}"] if note else []
    assert done.outside.wires[0].notes == listed
    asked = [s for s in done.outside.wires[0].steps if isinstance(s, LookUp)]
    assert asked[0].key == "192.0.2.1"


# --- PIX firewalls --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("greeting", "server", "verb"),
    [
        ("220 ****", {}, "HELO"),
        ("220 **2*0*", {}, "HELO"),
        ("220 mx", {}, "EHLO"),
        ("220 ****", {"smtp_pix_workaround_maps": "delay_dotcrlf"}, "EHLO"),
        ("220 ****", {"smtp_pix_workaround_maps": ""}, "EHLO"),
    ],
)
def test_pix_firewall(greeting: str, server: Server, verb: str) -> None:
    done = run({"greeting": greeting, **server}, age=501)
    assert done.lines[0].startswith(verb)
    delayed = Pause(10.0) in done.outside.wires[0].steps
    wanted = "****" in greeting and server != {"smtp_pix_workaround_maps": ""}
    assert delayed is (wanted or greeting == "220 **2*0*")


def test_pix_delay_is_for_old_mail_only() -> None:
    done = run({"greeting": "220 ****"}, age=500)
    assert not [s for s in done.outside.wires[0].steps if isinstance(s, Pause)]


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
    server = offers(ehlo=[ehlo("STARTTLS"), "500 no"])
    done = run(server, tls=MAY)
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


# --- who waits for the reply to QUIT --------------------------------------------------


@pytest.mark.parametrize("server", [{}, PIPELINING, {"mail": NO}, {"greeting": NO}])
@pytest.mark.parametrize("skip", ["yes", "no"])
def test_reply_to_quit(server: Server, skip: str) -> None:
    done = run(server, settings={"smtp_skip_quit_response": skip})
    phases = [s.phase.name for s in done.outside.wires[0].steps if hasattr(s, "phase")]
    assert ("QUIT" in phases) is (skip == "no")
    assert done.lines[-1] == "QUIT"
    assert done.outside.wires[0].closed == 1
