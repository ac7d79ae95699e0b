"""From the greeting to the log-in, and QUIT: answers in, commands and outcomes out."""

from __future__ import annotations

from typing import Any

import pytest
from script import LOST, PIPELINING, Place, Server, ehlo, offers, run

from postfix_trouble.core.envelope import Recipient
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.steps import LookUp, Pause
from postfix_trouble.core.tls import TlsLevel

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
        ({"smtp_discard_ehlo_keywords": "PIPELINING, x"}, {}, False, "PIPELINING"),
        ({"smtp_discard_ehlo_keywords": "pipelining silent-discard"}, {}, False, ""),
        (
            {},
            {TABLE: "pipelining"},
            False,
            "PIPELINING",
        ),
        (
            {"smtp_discard_ehlo_keywords": "pipelining"},
            {TABLE: "dsn"},
            True,
            "DSN",
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


def test_pix_workarounds_are_told() -> None:
    done = run({"greeting": "220 ****"}, age=501)
    assert done.outside.wires[0].notes == [
        "enabling PIX workarounds: disable_esmtp delay_dotcrlf for"
        " h1.test[192.0.2.1]:2525",
        "waiting 10s before the final dot (PIX workaround)",
    ]


@pytest.mark.parametrize(("age", "delayed"), [(500, False), (500.1, True)])
def test_pix_delay_begins_behind_its_threshold(age: float, delayed: bool) -> None:
    done = run({"greeting": "220 ****"}, age=age)
    assert (Pause(10.0) in done.outside.wires[0].steps) is delayed


def test_pix_delay_is_for_old_mail_only() -> None:
    done = run({"greeting": "220 ****"}, age=500)
    assert not [s for s in done.outside.wires[0].steps if isinstance(s, Pause)]


# --- who waits for the reply to QUIT --------------------------------------------------


@pytest.mark.parametrize("server", [{}, PIPELINING, {"mail": NO}, {"greeting": NO}])
@pytest.mark.parametrize("skip", ["yes", "no"])
def test_reply_to_quit(server: Server, skip: str) -> None:
    done = run(server, settings={"smtp_skip_quit_response": skip})
    phases = [s.phase.name for s in done.outside.wires[0].steps if hasattr(s, "phase")]
    assert ("QUIT" in phases) is (skip == "no")
    assert done.lines[-1] == "QUIT"
    assert done.outside.wires[0].closed == 1


# --- nothing is said to a server that has gone, or that we are done with --------------

PIX, PIX_WORDS = "smtp_pix_workaround_maps", "smtp_pix_workarounds"
KEYWORDS = "smtp_discard_ehlo_keyword_address_maps"
OVER: list[Any] = [
    ("firewall table", {"greeting": "220 ****", PIX: Lost.DATA}, "QUIT"),
    ("EHLO", {"ehlo": Lost.EOF}, "EHLO | hangup"),
    ("HELO", {"ehlo": "500 no", "helo": Lost.TIME}, "EHLO | HELO | hangup"),
    ("keyword table", {KEYWORDS: Lost.DATA}, "EHLO | QUIT"),
    ("AUTH", offers("AUTH PLAIN", auth=Lost.EOF), "EHLO | hangup"),
]


@pytest.mark.parametrize(
    ("server", "sequence"), [row[1:] for row in OVER], ids=[row[0] for row in OVER]
)
def test_a_handshake_that_failed_is_over(server: Server, sequence: str) -> None:
    done = run(server, settings={"smtp_sasl_auth_enable": "yes"}, password=True)
    assert done.sequence == sequence
    assert done.end.startswith("deferred 4.")


def test_a_greeting_may_be_empty() -> None:
    done = run(Place([{"greeting": "220"}], port=25), settings={PIX_WORDS: ""})
    assert done.end == "sent 2.0.0 h1"


@pytest.mark.parametrize(
    ("greeting", "notes"), [("220 X", 0), ("220 x*", 0), ("220 *2 0", 2)]
)
def test_only_stars_and_a_few_others_are_a_firewall(greeting: str, notes: int) -> None:
    done = run({"greeting": greeting}, age=501)
    assert len(done.outside.wires[0].notes) == notes


def test_what_is_not_done_is_not_told() -> None:
    for server in (
        {"greeting": "220 ****", PIX: ""},
        offers("SMTPUTF8", "8BITMIME"),
        offers("STARTTLS"),
    ):
        assert run(server).outside.wires[0].notes == []
    settings = {"smtp_tls_note_starttls_offer": "yes"}
    assert run({}, settings=settings).outside.wires[0].notes == []


def test_keywords_that_are_discarded_are_told_in_order() -> None:
    done = run({}, settings={"smtp_discard_ehlo_keywords": "size, dsn auth"})
    assert done.outside.wires[0].notes == ["discarding EHLO keywords: AUTH, DSN, SIZE"]


def test_own_name_goes_out_as_it_was_configured() -> None:
    done = run({}, settings={"smtp_helo_name": "me\udcff.test"})
    assert done.lines[0] == "EHLO me\udcff.test"


@pytest.mark.parametrize(
    ("version", "ends", "reason"),
    [
        ("3.7", ["bounced 5.6.7 h1"], "SMTPUTF8 is required, but was not offered by"),
        (
            "3.11",
            ["bounced 5.6.7 h2"],
            "message requires SMTPUTF8, but no server was found that supports SMTPUTF8."
            " The last attempted server was",
        ),
    ],
)
def test_smtputf8_at_the_next_host(version: str, ends: list[str], reason: str) -> None:
    settings = {"trouble_postfix_version": version}
    whom = (Recipient("ü@d.test"),)
    able = offers("SMTPUTF8")
    done = run(Place([{}, {}]), rcpts=whom, settings=settings, smtputf8=True)
    assert done.ends == ends
    where = "host h1.test[192.0.2.1]" if version == "3.7" else "h2.test[192.0.2.2]"
    assert done.reason == f"{reason} {where}"
    done = run(Place([{}, able]), rcpts=whom, settings=settings, smtputf8=True)
    assert done.ends == (["sent 2.0.0 h2"] if version == "3.11" else ends)
