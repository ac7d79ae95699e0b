"""What is told of a reply, a line of the log, or a broken connection: all of it."""

from __future__ import annotations

from typing import Any

import pytest

from postfix_trouble.simulate.answer import Case, Explanation, NotExplained, explain

HOST = "mx.example.com[192.0.2.1]"
ONE, ALL = "this recipient only", "all recipients that are left"
RECORD = "to=<u@example.com>, relay={}, delay=1, dsn={}, status={} ({})"
OTHER = "mx.example.net[192.0.2.7]:26"
SOFT_BOUNCE = {"soft_bounce": "yes"}
SAID = f"host {HOST} said: 550 5.1.1 no (in reply to RCPT TO command)"


def explained(text: str, **named: Any) -> Explanation:
    found = explain(text, **named)
    assert isinstance(found, Explanation), found
    return found


def shown(case: Case) -> str:
    """What becomes of a recipient, with which status, and what else follows."""
    words = [case.effect, case.status]
    words += ["SOFTBOUNCE"] if case.soft_bounce else []
    words += ["throttled"] if case.throttled else []
    return " ".join(filter(None, words))


STS = "MX name 'mx.else.test' does not match STS MX pattern for 'example.com'"
PASSED_OVER = (
    "no connection is made: the MTA-STS policy of the domain is in force, and names"
    " other hosts (probe shows it)"
)
SKIPPED = "the record is of a host that was skipped for the next one"


# Text, stage and the like; where it happened, whom it hits, who decides, with another
# host left, at the last one, remarks.
SITUATIONS: list[Any] = [
    ("450 4.7.1 wait", {}, "rcpt", ONE, "rcpt_fail", "keep 4.7.1", "defer 4.7.1", ()),
    ("450 no", {"stage": "."}, "dot", ALL, "mesg_fail", "keep 4.0.0", "defer 4.0.0",
     ()),
    ("450 no", {"stage": "dot", "lmtp": True}, "dot", ONE, "rcpt_fail", "keep 4.0.0",
     "defer 4.0.0", ()),
    ("550 5.1.1 no", {"values": SOFT_BOUNCE}, "rcpt", ONE, "rcpt_fail", "keep 5.1.1",
     "defer 4.1.1 SOFTBOUNCE", ()),
    ("550 4.1.1 no", {"stage": "banner"}, "greeting", ALL, "site_fail", "keep 4.0.0",
     "defer 4.0.0 throttled",
     ("the status 4.1.1 does not fit the code 550: not believed",)),
    ("550-5.7.1 a\n550  5.7.2 b", {"stage": "greeting"}, "greeting", ALL, "site_fail",
     "keep 4.7.2", "defer 4.7.2 throttled",
     ("5xx counts as soft here (smtp_skip_5xx_greeting)",)),
    ("550 5.7.1 no", {"stage": "rcpt"}, "rcpt", ONE, "rcpt_fail", "bounce 5.7.1",
     "bounce 5.7.1", ()),
    ("250 2.1.5 ok", {"stage": "rcpt"}, "rcpt", "", "", "continue 2.0.0",
     "continue 2.0.0", ()),
    ("250 2.7.7 queued", {"stage": "eod"}, "dot", "", "", "sent 2.7.7", "sent 2.7.7",
     ()),
    ("250 what", {"stage": "data"}, "data", ALL, "mesg_fail", "bounce 5.5.0",
     "bounce 5.5.0",
     ("success where it makes no sense: the server is out of step, 5.5.0",)),
    ("099 what", {"stage": "mail"}, "mail", ALL, "mesg_fail", "bounce 5.5.0",
     "bounce 5.5.0", ("099 is neither success nor failure here: 5.5.0",)),
    ("503 5.5.1 no", {"stage": "mail"}, "mail", ALL, "mesg_fail", "bounce 5.5.1",
     "bounce 5.5.1", ("a reply that nobody gets who keeps to the protocol",)),
    ("450 no", {"stage": "ehlo"}, "ehlo", "", "", "continue 2.0.0", "continue 2.0.0",
     ("EHLO refused: HELO is tried",)),
    # Neither success nor failure, and no trouble comes of it.
    ("354 go on", {"stage": "data"}, "data", "", "", "continue 2.0.0",
     "continue 2.0.0", ()),
    ("199 what", {"stage": "xforward_name"}, "xforward_name", "", "",
     "continue 2.0.0", "continue 2.0.0", ()),
    ("354 what", {"stage": "ehlo"}, "ehlo", "", "", "continue 2.0.0",
     "continue 2.0.0", ("EHLO refused: HELO is tried",)),
    ("450 no", {"stage": "greeting"}, "greeting", ALL, "site_fail", "keep 4.0.0",
     "defer 4.0.0 throttled", ()),
    # It comes to nothing because of TLS, which HELO can't offer.
    ("500 no", {"stage": "ehlo", "values": {"smtp_tls_security_level": "encrypt"}},
     "ehlo", ALL, "site_fail", "keep 4.7.4", "defer 4.7.4 throttled", ()),
    # No status, but a word.
    ("550 X4.1.1 no", {"stage": "rcpt"}, "rcpt", ONE, "rcpt_fail", "bounce 5.0.0",
     "bounce 5.0.0", ()),
    ("250 mx", {"stage": "ehlo"}, "ehlo", "", "", "continue 2.0.0", "continue 2.0.0",
     ()),
    ("421 no", {"stage": "ehlo"}, "ehlo", ALL, "site_fail", "keep 4.0.0",
     "defer 4.0.0 throttled", ()),
    ("450 no", {"stage": "ehlo", "lmtp": True}, "lhlo", ALL, "site_fail",
     "keep 4.0.0", "defer 4.0.0 throttled", ()),
    ("450 no", {"stage": "helo", "lmtp": True}, "lhlo", ALL, "site_fail",
     "keep 4.0.0", "defer 4.0.0 throttled", ()),
    ("535 5.7.8 no", {"stage": "auth"}, "auth", ALL, "sess_fail", "keep 4.7.8",
     "defer 4.7.8 throttled",
     ("5xx counts as soft here (smtp_sasl_auth_soft_bounce)",)),
    ("535 5.7.8 no", {"stage": "auth", "values": {"smtp_sasl_auth_soft_bounce": "no"}},
     "auth", ALL, "sess_fail", "bounce 5.7.8", "bounce 5.7.8", ()),
    ("lost connection", {"stage": "mail"}, "mail", ALL, "stream_except", "keep 4.4.2",
     "defer 4.4.2 throttled", ()),
    ("lost connection", {"stage": "body"}, "body", ALL, "stream_except", "keep 4.4.2",
     "defer 4.4.2 throttled", ()),
    ("lost connection", {}, "rcpt", ALL, "stream_except", "keep 4.4.2",
     "defer 4.4.2 throttled", ()),
    # Nobody was reached: whoever comes next is tried, and only then has it a status.
    ("lost connection", {"stage": "lookup"}, "lookup", ALL, "sess_fail", "keep",
     "defer 4.4.1 throttled", ()),
    ("timeout", {"stage": "connect"}, "connect", ALL, "sess_fail", "keep",
     "defer 4.4.1 throttled", ()),
    ("timeout", {"stage": "handshake"}, "handshake", ALL, "misc_fail", "keep 4.7.5",
     "defer 4.7.5 throttled", ()),
    ("timeout", {"stage": "handshake", "age": 300.0,
                 "values": {"smtp_tls_security_level": "may"}},
     "handshake", ALL, "misc_fail", "plaintext 4.7.5", "plaintext 4.7.5", ()),
    # --- what stands in the log
    (RECORD.format(OTHER, "4.7.5", "deferred", "Cannot start TLS: handshake failure"),
     {}, "handshake", ALL, "misc_fail", "keep 4.7.5", "defer 4.7.5 throttled", ()),
    (RECORD.format(OTHER, "5.3.4", "bounced",
                   f"message size 9 exceeds size limit 1 of server {HOST}"),
     {}, "rcpt", ALL, "mesg_fail", "bounce 5.3.4", "bounce 5.3.4", ()),
    (RECORD.format(OTHER, "4.7.4", "deferred",
                   f"TLS is required, but was not offered by host {HOST}"),
     {}, "rcpt", ALL, "site_fail", "keep 4.7.4", "defer 4.7.4 throttled", ()),
    (RECORD.format(OTHER, "5.9.9", "bounced", "something new"),
     {}, "rcpt", ALL, "mesg_fail", "bounce 5.9.9", "bounce 5.9.9",
     ("a reason unknown here: whether it throttles can't be told",)),
    (RECORD.format("none", "4.4.3", "deferred", "Name service error for x"),
     {}, "lookup", ALL, "sess_fail", "keep", "defer 4.4.3 throttled", ()),
    (RECORD.format(OTHER, "4.4.3", "deferred", f"connect to {OTHER}: refused"),
     {}, "connect", ALL, "sess_fail", "keep", "defer 4.4.3 throttled", ()),
    (f"connect to {HOST}:25: refused", {}, "connect", ALL, "sess_fail", "keep",
     "defer 4.4.1 throttled", ()),
    (f"postfix/smtp[1]: 4ABCDEF: host {HOST} said: 450 no (in reply to DATA command)",
     {}, "data", ALL, "mesg_fail", "keep 4.0.0", "defer 4.0.0", (SKIPPED,)),
    (f"lost connection with {HOST} while performing the LHLO handshake", {}, "lhlo",
     ALL, "stream_except", "keep 4.4.2", "defer 4.4.2 throttled", ()),
    (f"postfix/smtp[1]: 4ABCDEF: warning: {STS}", {}, "lookup", ALL, "sess_fail",
     "keep", "defer 4.3.0 throttled", (PASSED_OVER, SKIPPED)),
    (STS, {}, "lookup", ALL, "sess_fail", "keep", "defer 4.3.0 throttled",
     (PASSED_OVER,)),
    (RECORD.format(OTHER, "4.7.5", "deferred", "Server certificate not verified"),
     {}, "rcpt", ALL, "site_fail", "keep 4.7.5", "defer 4.7.5 throttled",
     ("the certificate is not for this name, or from nobody that is trusted; the TLS"
      " level demands it, or the domain's MTA-STS policy (probe shows which)",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "named", "stage", "scope", "entry", "another", "last", "remarks"),
    SITUATIONS,
)
def test_what_follows(
    text: str,
    named: dict[str, Any],
    stage: str,
    scope: str,
    entry: str,
    another: str,
    last: str,
    remarks: tuple[str, ...],
) -> None:
    found = explained(text, **named)
    assert (found.stage, found.scope, found.entry) == (stage, scope, entry)
    assert [shown(case) for case in found.cases] == [another, last]
    assert [case.final_server for case in found.cases] == [False, True]
    assert found.remarks == remarks
    for case in found.cases:
        assert case.next_host_tried is (case.effect == "keep")
        ends = case.effect not in ("keep", "plaintext")
        assert (case.outcome is not None) is ends
        failed = case.effect not in ("sent", "continue")
        assert bool(case.rule) is failed


def test_a_message_is_fresh_unless_its_age_is_told() -> None:
    values = {"smtp_tls_security_level": "may", "minimal_backoff_time": "1s"}
    found = explained("timeout", stage="handshake", values=values)
    assert shown(found.cases[0]) == "keep 4.7.5"


def test_server_of_the_log_may_have_our_own_name() -> None:
    """Which says something about another day."""
    found = explained(SAID, values={"myhostname": "mx.example.com"})
    assert found.entry == "rcpt_fail"


@pytest.mark.parametrize("name", [{}, {"myhostname": "Me.test"}])
def test_mail_that_loops(name: dict[str, str]) -> None:
    me = name.get("myhostname", "client.example.org")
    found = explained(f"250 {me}", stage="ehlo", values=name)
    assert [shown(case) for case in found.cases] == [
        "bounce 5.4.6",
        "bounce 5.4.6",
    ]
    assert found.cases[1].reason == "mail for example.com loops back to myself"


def test_reply_may_be_of_any_bytes() -> None:
    assert explained("450 \udcff", stage="mail").subject == "450 ?"


def test_name_in_the_greeting_may_matter() -> None:
    """Where ESMTP is spoken only to those who say so, our server says so."""
    values = {"smtp_always_send_ehlo": "no"}
    found = explained("421 no", stage="ehlo", values=values)
    assert found.entry == "site_fail"


@pytest.mark.parametrize(
    ("text", "stage", "reason"),
    [
        ("450 no", "rcpt", f"host {HOST} said: 450 no (in reply to RCPT TO command)"),
        ("250 ok", "rcpt", "250 2.0.0 Ok: queued as SAMPLE"),
        (
            "lost connection",
            "body",
            f"lost connection with {HOST} while sending message body",
        ),
        # AUTH has no words of its own.
        (
            "lost connection",
            "auth",
            f"lost connection with {HOST} while performing the EHLO handshake",
        ),
    ],
)
def test_reason_is_what_the_log_would_say(text: str, stage: str, reason: str) -> None:
    assert explained(text, stage=stage).cases[1].reason == reason


RULES = [
    ("450 no", {}, 0, "rcpt_fail: soft, another host left, next host"),
    ("450 no", {}, 1, "rcpt_fail: soft, last host, deferred"),
    ("550 no", {}, 0, "rcpt_fail: hard, bounced"),
    (
        "550 no",
        {"values": SOFT_BOUNCE},
        0,
        "rcpt_fail: hard, soft_bounce, another host left, next host",
    ),
    (
        "550 no",
        {"values": SOFT_BOUNCE},
        1,
        "rcpt_fail: hard, soft_bounce, last host, deferred",
    ),
    (
        "timeout",
        {"stage": "connect"},
        0,
        "no server was reached: the next one is tried, whatever the status",
    ),
    (
        "timeout",
        {
            "stage": "handshake",
            "age": 300.0,
            "values": {"smtp_tls_security_level": "may"},
        },
        1,
        "TLS failed at level may, no password, no fresh message: plaintext",
    ),
]


@pytest.mark.parametrize(("text", "named", "number", "rule"), RULES)
def test_rule(text: str, named: dict[str, Any], number: int, rule: str) -> None:
    assert explained(text, **named).cases[number].rule == rule


@pytest.mark.parametrize(
    ("text", "stage", "subject"),
    [
        ("450 no", "mail", "450 no"),
        ("lost connection", "mail", "the connection is lost"),
        ("timeout", "mail", "no answer within the time limit"),
        ("local data error", "mail", "a table of our own can't be searched"),
        ("timeout", "handshake", "the TLS handshake fails"),
        ("timeout", "connect", "timeout"),
        ("something new", "connect", "something new"),
    ],
)
def test_subject(text: str, stage: str, subject: str) -> None:
    if text == "something new":
        text = RECORD.format(OTHER, "4.4.1", "deferred", text)
    assert explained(text, stage=stage).subject == subject


@pytest.mark.parametrize(
    ("text", "stage", "assumed"),
    [
        ("450 no", "", True),
        ("450 no", "rcpt", False),
        ("timeout", "", True),
        (f"host {HOST} said: 450 no (in reply to DATA command)", "", False),
        (f"host {HOST} said: 450 no (in reply to DATA command)", "data", False),
        (RECORD.format("none", "4.4.3", "deferred", "Name service error"), "", False),
    ],
)
def test_stage_that_nobody_told_is_assumed(
    text: str, stage: str, assumed: bool
) -> None:
    assert explained(text, stage=stage).stage_assumed is assumed


@pytest.mark.parametrize(
    ("text", "stage", "notices"),
    [
        ("250 what", "data", ("protocol",)),
        ("503 no", "mail", ("protocol",)),
        ("local data error", "mail", ("data",)),
        ("450 no", "mail", ()),
    ],
)
def test_postmaster_hears_of_it(
    text: str, stage: str, notices: tuple[str, ...]
) -> None:
    assert explained(text, stage=stage).notices == notices


@pytest.mark.parametrize(
    ("dsn", "word", "values", "agrees"),
    [
        ("5.1.1", "bounced", {}, True),
        ("5.1.2", "bounced", {}, False),
        ("5.1.1", "deferred", {}, False),
        # The word says what the setting was.
        ("4.1.1", "SOFTBOUNCE", {}, True),
        ("5.1.1", "SOFTBOUNCE", {}, False),
        ("4.1.1", "deferred", SOFT_BOUNCE, False),
    ],
)
def test_log_agrees_or_does_not(
    dsn: str, word: str, values: dict[str, str], agrees: bool
) -> None:
    text = RECORD.format(OTHER, dsn, word, SAID)
    assert explained(text, values=values).agrees is agrees


def test_nothing_to_agree_with() -> None:
    assert explained(SAID).agrees is None
    assert explained(f"postfix/smtp[1]: 4ABCDEF: {SAID}").agrees is None


def test_server_of_the_log_is_the_one_that_is_spoken_of() -> None:
    other = SAID.replace(HOST, "mx.example.net[192.0.2.7]")
    text = RECORD.format(OTHER, "5.1.1", "bounced", other)
    outcome = explained(text).cases[1].outcome
    assert outcome is not None
    assert outcome.relay == OTHER
    assert explained(text).cases[1].reason == other


def test_lmtp_is_told_by_the_log() -> None:
    line = RECORD.format(OTHER, "4.0.0", "deferred", SAID.replace("550 5.1.1", "450"))
    assert explained(f"postfix/lmtp[1]: 4ABCDEF: {line}").lmtp
    assert not explained(f"postfix/smtp[1]: 4ABCDEF: {line}").lmtp


STAGES = (
    "lookup, connect, greeting, ehlo, helo, lhlo, starttls, handshake, auth,"
    " xforward_name, xforward_helo, mail, rcpt, data, body, dot"
)
NO_REPLY = "there is no reply to {}: try a stage that has one"
NOT_KNOWN = (
    "is no reply (three digits and text), no log line of an SMTP client, and neither"
    ' "lost connection" nor "timeout"'
)


@pytest.mark.parametrize(
    ("text", "named", "problem"),
    [
        ("hello", {}, f'"hello" {NOT_KNOWN}'),
        ("y" * 60, {}, f'"{"y" * 60}" {NOT_KNOWN}'),
        ("x\x01" + "y" * 59, {}, f'"x?{"y" * 58}..." {NOT_KNOWN}'),
        ("450-a\n450-b", {}, '"450-a?450-b" is not a complete reply'),
        ("450 x", {"stage": "lookup"}, NO_REPLY.format("finding a server")),
        ("450 x", {"stage": "connect"}, NO_REPLY.format("connecting")),
        ("450 x", {"stage": "handshake"}, NO_REPLY.format("TLS handshake")),
        ("450 x", {"stage": "body"}, NO_REPLY.format("message text")),
        ("450 x", {"stage": "noon"}, f"no such stage: noon; there are {STAGES}"),
        ("450 x", {"stage": "lhlo"}, "LHLO is a command of LMTP: add --lmtp"),
        (
            "450 x",
            {"stage": "starttls", "values": {"smtp_never_send_ehlo": "yes"}},
            "with these settings the session never comes to starttls",
        ),
    ],
)
def test_what_is_not_understood(text: str, named: dict[str, Any], problem: str) -> None:
    found = explain(text, **named)
    assert isinstance(found, NotExplained)
    assert str(found) == problem


def test_a_setting_of_ours_that_stopped_the_handshake_is_repeated() -> None:
    why = 'Cannot start TLS: smtp_tls_protocols = TLSv9: unknown protocol "TLSv9"'
    found = explain(RECORD.format(OTHER, "4.7.5", "deferred", why))
    assert isinstance(found, Explanation)
    assert found.stage == "handshake"
    assert {case.outcome.dsn.reason for case in found.cases if case.outcome} == {why}
