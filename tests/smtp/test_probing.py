"""A probe says what a delivery says, up to a depth, and never sends a message."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from script import (
    LOST,
    PIPELINING,
    REFUSED,
    Outside,
    Place,
    Server,
    offers,
    recipients,
    run,
)

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import DSN, Report
from postfix_trouble.core.relay import Relay
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import (
    Authenticated,
    AuthFailed,
    HandshakeFailed,
    Phase,
    Read,
)
from postfix_trouble.core.tls import TlsFacts, TlsLevel, TlsPolicy
from postfix_trouble.simulate.rule import rule, rule_of
from postfix_trouble.smtp.probing import Depth, Probe, ProbeResult


class Probed(NamedTuple):
    report: Report | None
    findings: list[ProbeResult]
    outside: Outside

    @property
    def sequences(self) -> list[str]:
        return [wire.sequence for wire in self.outside.wires]

    @property
    def rules(self) -> list[str]:
        """Of all decisions that were made in a session."""
        assert self.report is not None
        verdicts = self.report.verdicts
        return [
            rule(verdict) for verdict in verdicts if verdict.now and verdict.now.relay
        ]

    @property
    def ends(self) -> list[str]:
        assert self.report is not None
        return [f"{e.disposition.value} {e.dsn.status}" for e in self.report.outcomes]


def probe(
    *places: Place | Server,
    depth: Depth = Depth.RCPT,
    rcpts: int = 1,
    tls: TlsLevel | DSN | dict[int, TlsPolicy | DSN] = TlsLevel.NONE,
    every: bool = False,
    lmtp: bool = False,
    settings: dict[str, str] | None = None,
    destinations: DSN | None = None,
    status_filter: Any = None,
    **facts: Any,
) -> Probed:
    """`facts` of the mail that there is not."""
    where = [p if isinstance(p, Place) else Place([p]) for p in places]
    policy = TlsPolicy(tls) if isinstance(tls, TlsLevel) else tls
    outside = Outside(where, policy, False)
    request = DeliveryRequest("s@d.test", recipients(rcpts), "d1.test", lmtp=lmtp)
    request = request._replace(**facts)
    findings: list[ProbeResult] = []
    listed: list[Relay] = []
    values = {"myhostname": "me.test", **(settings or {})}
    asked = Probe(
        request,
        outside.destinations() if destinations is None else destinations,
        Settings(overrides=values, lmtp=lmtp),
        outside,
        depth=depth,
        found=findings.append,
        listed=lambda _destination, relays, _without: listed.extend(relays),
        status_filter=status_filter,
    )
    report = asked.run()
    if every:
        asked.rest()
    # None is asked of whom nobody was told.
    assert {one.relay for one in findings} <= set(listed)
    return Probed(report, findings, outside)


TLS_SERVER = offers("STARTTLS", "AUTH PLAIN", "PIPELINING")

DEPTHS: list[Any] = [
    # depth, without pipelining; with TLS and pipelining
    (Depth.CONNECT, "", ""),
    (Depth.GREETING, "QUIT", "QUIT"),
    (Depth.EHLO, "EHLO | QUIT", "EHLO | QUIT"),
    (Depth.TLS, "EHLO | QUIT", "EHLO | STARTTLS | EHLO | QUIT"),
    (Depth.AUTH, "EHLO | QUIT", "EHLO | STARTTLS | EHLO | QUIT"),
    (Depth.MAIL, "EHLO | MAIL | QUIT", "EHLO | STARTTLS | EHLO | MAIL | QUIT"),
]


@pytest.mark.parametrize(("depth", "plain", "over_tls"), DEPTHS)
def test_goes_no_deeper_than_asked(depth: Depth, plain: str, over_tls: str) -> None:
    simple = probe({}, depth=depth)
    assert simple.sequences == [plain]
    assert simple.report is None
    assert simple.outside.wires[0].closed == 1
    if plain:
        # What was sent leaves the house when a reply is waited for.
        assert simple.outside.wires[0].steps[-1] == Read(Phase.QUIT)
    assert probe(TLS_SERVER, depth=depth, tls=TlsLevel.MAY).sequences == [over_tls]


@pytest.mark.parametrize(
    ("server", "sequence"),
    [
        ({}, "EHLO | MAIL | RCPT | RCPT | RSET | QUIT"),
        (PIPELINING, "EHLO | MAIL RCPT RCPT | RSET QUIT"),
        ({"rcpt": "450 no"}, "EHLO | MAIL | RCPT | RCPT | RSET | QUIT"),
        ({**PIPELINING, "rcpt": "550 no"}, "EHLO | MAIL RCPT RCPT | RSET QUIT"),
        ({"mail": "550 no"}, "EHLO | MAIL | RSET | QUIT"),
        ({**PIPELINING, "mail": "550 no"}, "EHLO | MAIL RCPT RCPT | RSET QUIT"),
    ],
)
def test_recipients_are_asked_for_and_forgotten(server: Server, sequence: str) -> None:
    done = probe(server, rcpts=2)
    assert done.sequences == [sequence]


def test_each_recipient_has_a_verdict() -> None:
    done = probe({"rcpt": ["250 ok", "550 5.1.1 no", "450 4.2.0 later"]}, rcpts=3)
    assert done.ends == ["sent 2.1.5", "bounced 5.1.1", "deferred 4.2.0"]
    rules = done.rules
    assert rules == [
        "rcpt_fail: hard, bounced",
        "rcpt_fail: soft, last host, deferred",
    ]
    assert [reply.code for _, reply in done.findings[0].recipients] == [250, 550, 450]


def test_lmtp_has_a_verdict_for_each_too() -> None:
    done = probe({"rcpt": ["250 ok", "250 ok", "550 no"]}, rcpts=3, lmtp=True)
    assert done.ends == ["sent 2.1.5", "sent 2.1.5", "bounced 5.0.0"]
    assert done.sequences == ["LHLO | MAIL RCPT RCPT RCPT | RSET QUIT"]
    assert done.outside.wires[0].steps.count(Read(Phase.RSET)) == 1
    assert done.report is not None
    assert done.report.outcomes[0].dsn.reason == "accepted; nothing was sent"


VERSION = "trouble_postfix_version"
STAGES = ("greeting", "ehlo", "mail", "rcpt")
REPLIES = ("450 no", "421 4.3.2 busy", "550 5.7.1 no", "354 what", *LOST)


@pytest.mark.parametrize("soft_bounce", ["no", "yes"])
@pytest.mark.parametrize("answer", REPLIES, ids=str)
@pytest.mark.parametrize("stage", STAGES)
def test_failures_are_those_of_a_delivery(
    stage: str, answer: Any, soft_bounce: str
) -> None:
    servers = Place([{stage: answer, "helo": answer}, {"greeting": "450 4.9.9 no"}])
    settings = {"soft_bounce": soft_bounce}
    real = run(servers, rcpts=2, settings=settings).report
    asked = probe(servers, rcpts=2, settings=settings).report
    assert asked is not None
    assert [(e.dsn, e.disposition) for e in asked.outcomes] == [
        (e.dsn, e.disposition) for e in real.outcomes
    ]
    assert asked.skipped == real.skipped


def test_next_server_is_asked_where_a_delivery_would() -> None:
    done = probe(Place([REFUSED, {"greeting": "421 busy"}, {}]), depth=Depth.AUTH)
    assert done.report is None
    assert [bool(f.problem) for f in done.findings] == [True, False, False]
    assert done.findings[1].greeting is not None
    assert done.findings[1].greeting.code == 421


def test_nobody_more_is_asked_once_one_is_willing() -> None:
    assert len(probe(Place([{}, {}]), Place([{}])).findings) == 1


def test_all_asks_the_others_too_and_changes_no_verdict() -> None:
    places = Place([{}, {"rcpt": "550 no"}]), Place([REFUSED, {}])
    done = probe(*places, every=True)
    assert done.ends == ["sent 2.1.5"]
    assert [f.relay.host for f in done.findings] == [f"h{n}.test" for n in range(1, 5)]
    assert len(done.outside.finished) == 1
    assert done.findings[2].problem == REFUSED.reason


def test_bad_destination_is_told_and_there_are_no_others() -> None:
    why = DSN(EnhancedStatus("4.3.5"), "null destination")
    done = probe(destinations=why, every=True)
    assert done.ends == ["deferred 4.3.5"]


def test_finding_tells_what_was_before_and_in_tls() -> None:
    facts = TlsFacts("TLSv1.3", "X", 256)
    server = {**TLS_SERVER, "handshake": facts}
    server["ehlo"] = [TLS_SERVER["ehlo"], offers("AUTH LOGIN")["ehlo"]]
    found = probe(server, depth=Depth.AUTH, tls=TlsLevel.MAY).findings[0]
    assert found.tls == facts
    assert found.hello is not None
    assert "LOGIN" in found.hello.text
    assert found.hello_in_clear is not None
    assert "PLAIN" in found.hello_in_clear.text


def test_finding_tells_what_each_said() -> None:
    server = {**TLS_SERVER, "rcpt": ["250 ok", "450 4.2.1 no"], "quit": Lost.EOF}
    whom = (Recipient("u\udcff@d.test"), Recipient("v@d.test", position=1))
    settings = {
        "smtp_skip_quit_response": "no",
        "smtp_tls_block_early_mail_reply": "yes",
    }
    done = probe(server, tls=TlsLevel.MAY, recipients=whom, settings=settings)
    found = done.findings[0]
    assert found.policy == TlsPolicy(TlsLevel.MAY)
    said = (found.greeting, found.starttls, found.mail)
    assert [reply and reply.text for reply in said] == [
        "220 mx ESMTP",
        "220 go",
        "250 2.1.0 ok",
    ]
    assert [(line, reply.code) for line, reply in found.recipients] == [
        ("RCPT TO:<u\ufffd@d.test>", 250),
        ("RCPT TO:<v@d.test>", 450),
    ]
    assert found.login is None
    # That QUIT has no answer is nobody's trouble.
    assert found.lost == ""


@pytest.mark.parametrize(
    ("server", "lmtp", "text"),
    [
        ({"ehlo": "250 mx a"}, False, "250 mx a"),
        ({"ehlo": "500 no", "helo": "250 mx b"}, False, "250 mx b"),
        ({"lhlo": "250 mx c"}, True, "250 mx c"),
    ],
)
def test_hello_that_counts_is_found(server: Server, lmtp: bool, text: str) -> None:
    hello = probe(server, lmtp=lmtp, depth=Depth.EHLO).findings[0].hello
    assert hello is not None
    assert hello.text == text


@pytest.mark.parametrize("answer", [Authenticated("PLAIN"), AuthFailed(None, "4.7.0")])
def test_log_in_is_found_where_it_was_tried(answer: Any) -> None:
    server = offers("AUTH PLAIN", auth=answer)
    settings = {"smtp_sasl_auth_enable": "yes"}
    for depth, login in ((Depth.TLS, None), (Depth.AUTH, answer), (Depth.MAIL, answer)):
        done = probe(server, depth=depth, settings=settings)
        assert done.findings[0].login == login
        assert done.sequences[0].startswith("EHLO | ")


@pytest.mark.parametrize(
    ("settings", "lmtp"), [({"smtp_never_send_ehlo": "yes"}, False), ({}, True)]
)
def test_no_form_of_hello_goes_out_for_a_greeting(
    settings: dict[str, str], lmtp: bool
) -> None:
    done = probe({}, depth=Depth.GREETING, settings=settings, lmtp=lmtp)
    assert done.sequences == ["QUIT"]


@pytest.mark.parametrize(
    ("depth", "sequence"),
    [
        (Depth.AUTH, "EHLO | QUIT"),
        (Depth.MAIL, "EHLO | XFORWARD | MAIL | QUIT"),
    ],
)
def test_client_is_told_of_together_with_the_sender(
    depth: Depth, sequence: str
) -> None:
    settings = {"smtp_send_xforward_command": "yes"}
    who = {"log_client_name": "c.test"}
    server = offers("XFORWARD NAME")
    done = probe(server, depth=depth, settings=settings, attributes=who)
    assert done.sequences == [sequence]


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        (DSN(EnhancedStatus("4.7.5"), "TLS configuration problem"),
         "TLS configuration problem"),
        (DSN(), "skipped: no TLS policy for it"),
    ],
)  # fmt: skip
def test_server_without_a_tls_policy_is_found(policy: DSN, problem: str) -> None:
    found = probe({}, tls=policy).findings
    assert [(each.problem, each.policy) for each in found] == [(problem, None)]


def test_server_that_is_passed_over_without_a_word_is_found_among_the_others() -> None:
    done = probe(Place([{}, {}]), tls={2: DSN()}, every=True)
    assert [found.relay.host for found in done.findings] == ["h1.test", "h2.test"]
    assert done.findings[1].problem == "skipped: no TLS policy for it"


def test_sender_who_is_refused_is_told_where_no_recipient_was_asked_for() -> None:
    done = probe({**PIPELINING, "mail": "550 no"}, depth=Depth.MAIL, rcpts=2)
    assert done.ends == ["bounced 5.0.0"] * 2
    assert done.sequences == ["EHLO | MAIL | RSET QUIT"]


def test_server_is_asked_again_without_tls_as_in_a_delivery() -> None:
    failed = offers("STARTTLS", handshake=HandshakeFailed("no"))
    done = probe(failed, tls=TlsLevel.MAY, age=1000.0)
    assert done.sequences == [
        "EHLO | STARTTLS | hangup",
        "EHLO | MAIL | RCPT | RSET | QUIT",
    ]
    assert [found.problem for found in done.findings] == ["", ""]


def test_status_filter_counts() -> None:
    done = probe({"rcpt": "450 no"}, status_filter=lambda text: "5.9.9 never")
    assert done.ends == ["bounced 5.9.9"]


def test_failed_handshake_and_lost_connection_are_found() -> None:
    failed = {**TLS_SERVER, "handshake": HandshakeFailed("no shared cipher")}
    found = probe(failed, tls=TlsLevel.ENCRYPT).findings[0]
    assert found.tls == HandshakeFailed("no shared cipher")
    gone = probe({"mail": Lost.EOF}).findings[0]
    assert gone.lost == (
        "lost connection with h1.test[192.0.2.1] while sending MAIL FROM"
    )


ANSWERS = st.sampled_from(
    ["250 ok", "450 no", "550 5.1.1 no", "354 what", "421 bye", Lost.EOF, Lost.TIME]
)


@given(
    st.dictionaries(st.sampled_from([*STAGES, "rset", "quit", "helo"]), ANSWERS),
    st.booleans(),
    st.sampled_from(list(Depth)),
    st.integers(1, 3),
)
def test_no_message_ever_goes_out(
    answers: dict[str, Any], pipelining: bool, depth: Depth, rcpts: int
) -> None:
    server = {**(PIPELINING if pipelining else {}), **answers}
    done = probe(Place([server, server]), depth=depth, rcpts=rcpts, every=True)
    for wire in done.outside.wires:
        assert not {"DATA", ".", "body"} & set(wire.sequence.split())
        # Nor is an answer waited for that will not come.
        assert Read(Phase.DATA) not in wire.steps
        assert Read(Phase.DOT) not in wire.steps
        assert wire.closed == 1
    if done.report is not None:
        assert len(done.report.outcomes) == rcpts


# --- who decided --------------------------------------------------------------------

RULES: list[Any] = [
    ({"greeting": "554 no"}, {}, "site_fail: soft, last host, deferred"),
    ({"mail": "550 no"}, {}, "mesg_fail: hard, bounced"),
    ({"rcpt": "550 no"}, {"soft_bounce": "yes"},
     "rcpt_fail: hard, soft_bounce, last host, deferred"),
    ({"mail": Lost.EOF}, {}, "stream_except: soft, last host, deferred"),
    (offers("AUTH PLAIN", auth=AuthFailed(None, "4.7.0", "no mechanism")),
     {"smtp_sasl_auth_enable": "yes"}, "sess_fail: soft, last host, deferred"),
    ({}, {}, "2xx"),
]  # fmt: skip


@pytest.mark.parametrize(("server", "settings", "rule"), RULES, ids=lambda x: str(x))
def test_rule_of_an_outcome(server: Server, settings: Any, rule: str) -> None:
    done = probe(server, settings=settings)
    assert done.report is not None
    assert rule_of(done.report.outcomes[0]) == rule


@pytest.mark.parametrize(
    ("status", "soft_bounce", "rule"),
    [
        ("4.4.3", "no", "sess_fail: soft, no host left, deferred"),
        ("5.4.4", "no", "sess_fail: hard, no host left, bounced"),
        ("5.4.4", "yes", "sess_fail: hard, soft_bounce, no host left, deferred"),
    ],
)
def test_rule_where_no_server_was_found(
    status: str, soft_bounce: str, rule: str
) -> None:
    why = DSN(EnhancedStatus(status), "not found")
    done = probe(Place(failure=why), settings={"soft_bounce": soft_bounce})
    assert done.report is not None
    assert rule_of(done.report.outcomes[0]) == rule


def test_recipient_kept_for_the_next_host_is_told_as_such() -> None:
    done = probe(Place([{"rcpt": "450 no"}, {"rcpt": "550 no"}]))
    assert done.rules == [
        "rcpt_fail: soft, another host left, next host",
        "rcpt_fail: hard, bounced",
    ]


def test_hard_error_under_soft_bounce_is_told_as_such() -> None:
    servers = Place([{"rcpt": "550 no"}, {}])
    done = probe(servers, settings={"soft_bounce": "yes"})
    assert done.rules == ["rcpt_fail: hard, soft_bounce, another host left, next host"]


def test_who_was_kept_ends_without_a_host() -> None:
    done = probe(Place([{"rcpt": "450 no"}, REFUSED]))
    assert done.report is not None
    rule = rule_of(done.report.outcomes[0])
    assert rule == "sess_fail: soft, no host left, deferred"


def test_misc_fail_is_told() -> None:
    failed = {**TLS_SERVER, "handshake": HandshakeFailed("no")}
    done = probe(failed, tls=TlsLevel.MAY)
    assert done.report is not None
    assert done.report.verdicts[0].entry == "misc_fail"
    facts: dict[str, Any] = {"sender": "\u00fc@d.test", "smtputf8": True}
    done = probe({}, settings={VERSION: "3.12"}, **facts)
    assert done.rules == ["misc_fail: hard, bounced"]


def test_server_that_is_looked_on_at_is_found_out_too() -> None:
    done = probe({"mail": "503 no"})
    assert done.report is not None
    assert done.report.servers[0].errors == ("protocol",)
