"""From MAIL to the final dot: answers in, commands and outcomes out."""

from __future__ import annotations

from typing import Any

import pytest
from script import PIPELINING, Place, Server, offers, recipients, run

from postfix_trouble.core.envelope import Recipient
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.steps import Read, SendBody, Unsendable

H = "h1.test[192.0.2.1]"


# --- course corrections ---------------------------------------------------------------

NO, TRY = "550 5.1.1 no", "450 4.2.0 try"
# What happens, server, recipients, commands without and with PIPELINING.
FINE, FINE_P = (
    "EHLO | MAIL | RCPT | RCPT | DATA | body . | QUIT",
    ("EHLO | MAIL RCPT RCPT DATA | body . QUIT"),
)
RESET_P = "EHLO | MAIL RCPT RCPT DATA | RSET QUIT"
DOT_P = "EHLO | MAIL RCPT RCPT DATA | . QUIT"
COURSES: list[Any] = [
    ("all fine", {}, FINE, FINE_P),
    ("MAIL refused", {"mail": NO}, "EHLO | MAIL | RSET | QUIT", DOT_P),
    (
        "MAIL and DATA refused",
        {"mail": NO, "data": "503 no"},
        "EHLO | MAIL | RSET | QUIT",
        RESET_P,
    ),
    (
        "all recipients refused",
        {"rcpt": [NO, TRY]},
        "EHLO | MAIL | RCPT | RCPT | RSET | QUIT",
        DOT_P,
    ),
    (
        "all recipients and DATA refused",
        {"rcpt": [NO, TRY], "data": "554 no"},
        "EHLO | MAIL | RCPT | RCPT | RSET | QUIT",
        RESET_P,
    ),
    ("one recipient refused", {"rcpt": [NO, "250 ok"]}, FINE, FINE_P),
    (
        "DATA refused",
        {"data": "451 no"},
        "EHLO | MAIL | RCPT | RCPT | DATA | RSET | QUIT",
        RESET_P,
    ),
    (
        "DATA accepted too early",
        {"data": "250 weird"},
        "EHLO | MAIL | RCPT | RCPT | DATA | RSET | QUIT",
        RESET_P,
    ),
    ("DATA answered by another 3xx", {"data": "399 go"}, FINE, FINE_P),
    ("dot refused", {"dot": "552 5.3.4 no"}, FINE, FINE_P),
    (
        "no answer to MAIL",
        {"mail": Lost.EOF},
        "EHLO | MAIL | hangup",
        "EHLO | MAIL RCPT RCPT DATA | hangup",
    ),
    (
        "no answer to RSET",
        {"rcpt": NO, "data": "503 x", "rset": Lost.TIME},
        "EHLO | MAIL | RCPT | RCPT | RSET | hangup",
        "EHLO | MAIL RCPT RCPT DATA | RSET QUIT | hangup",
    ),
    (
        "no answer to the dot",
        {"dot": Lost.TIME},
        "EHLO | MAIL | RCPT | RCPT | DATA | body . | hangup",
        "EHLO | MAIL RCPT RCPT DATA | body . QUIT | hangup",
    ),
    (
        "message that can't be sent",
        {"body": Unsendable("5.6.0", "MIME nesting exceeds safety limit")},
        "EHLO | MAIL | RCPT | RCPT | DATA | body hangup",
        "EHLO | MAIL RCPT RCPT DATA | body hangup",
    ),
]


@pytest.mark.parametrize("pipelining", [False, True], ids=["plain", "pipelining"])
@pytest.mark.parametrize(
    ("server", "plain", "piped"),
    [row[1:] for row in COURSES],
    ids=[row[0] for row in COURSES],
)
def test_course(server: Server, plain: str, piped: str, pipelining: bool) -> None:
    done = run({**server, **(PIPELINING if pipelining else {})}, rcpts=2)
    assert done.sequence == (piped if pipelining else plain)
    # What it means for the recipients does not depend on PIPELINING.
    assert done.ends == run(server, rcpts=2).ends


def test_commands_leave_in_groups_of_4096_bytes() -> None:
    done = run(PIPELINING, rcpts=300)
    groups = [group.split() for group in done.sequence.split(" | ")[1:-1]]
    length = len("RCPT TO:<u100@d.test>\r\n")
    assert len(groups) == 2
    assert len(groups[0]) > 4096 // length
    assert sum(len(group) for group in groups) == 302
    sizes = [len(line) + 2 for line in done.lines[1 : len(groups[0]) + 1]]
    assert sum(sizes) <= 4096 < sum(sizes) + length


def test_group_after_a_refused_mail_is_not_sent() -> None:
    done = run({**PIPELINING, "mail": NO}, rcpts=300)
    assert done.sequence.endswith("RCPT | RSET QUIT")
    assert "DATA" not in done.lines


def test_command_longer_than_the_window_leaves_alone() -> None:
    whom = (Recipient("x" * 5000 + "@d.test"), *recipients(2)[1:])
    done = run(PIPELINING, rcpts=whom)
    assert done.sequence == "EHLO | MAIL | RCPT | RCPT DATA | body . QUIT"


# --- what replies mean ----------------------------------------------------------------


@pytest.mark.parametrize("code", [250, 251, 252, 299])
def test_any_2xx_accepts(code: int) -> None:
    line = f"{code} fine"
    assert run({"mail": line, "rcpt": line, "dot": line}).end == "sent 2.0.0 h1"


REJECTED = [
    ("mail", "354 what", "bounced 5.5.0", "354 what (in reply to MAIL FROM command)"),
    ("mail", "421 bye", "deferred 4.0.0", "421 bye (in reply to MAIL FROM command)"),
    ("rcpt", "421 bye", "deferred 4.0.0", "421 bye (in reply to RCPT TO command)"),
    ("rcpt", "452 many", "deferred 4.0.0", "452 many (in reply to RCPT TO command)"),
    ("rcpt", "552 many", "bounced 5.0.0", "552 many (in reply to RCPT TO command)"),
    (
        "rcpt",
        "551 4.1.1 x",
        "bounced 5.0.0",
        "551 4.1.1 x (in reply to RCPT TO command)",
    ),
    ("rcpt", "354 x", "bounced 5.5.0", "354 x (in reply to RCPT TO command)"),
    ("data", "451 x", "deferred 4.0.0", "451 x (in reply to DATA command)"),
    ("dot", "450-a\n450 b", "deferred 4.0.0", "450-a 450 b (in reply to end of DATA"),
    ("dot", "354 x", "bounced 5.5.0", "354 x (in reply to end of DATA command)"),
]


@pytest.mark.parametrize(("stage", "line", "end", "text"), REJECTED)
def test_rejection(stage: str, line: str, end: str, text: str) -> None:
    done = run({stage: line})
    assert done.end == f"{end} h1"
    assert done.reason.startswith(f"host {H} said: {text}")
    assert done.throttled == "", "a refused message is no trouble of the destination"


def test_2xx_to_data_is_a_protocol_error() -> None:
    done = run({"data": "250 2.0.0 weird"})
    assert done.end == "bounced 5.5.0 h1"
    assert done.reason == (
        f"Protocol error: host {H} said: 250 2.0.0 weird (in reply to DATA command)"
    )
    assert done.errors == [("protocol",)]


def test_data_refused_after_all_recipients_is_no_news() -> None:
    done = run({**PIPELINING, "rcpt": "550 5.1.1 no", "data": "250 weird"})
    assert done.end == "bounced 5.1.1 h1"
    assert done.errors == [()]


def test_dot_of_nobody_is_no_news() -> None:
    done = run({**PIPELINING, "rcpt": "550 5.1.1 no", "dot": "503 no recipients"})
    assert done.end == "bounced 5.1.1 h1"
    assert done.errors == [()]


def test_garbage_before_a_reply_is_noted_for_the_postmaster() -> None:
    done = run({"mail": "25 x\n2500 y\n250 ok"})
    assert (done.end, done.errors) == ("sent 2.0.0 h1", [("protocol",)])


def test_replies_of_recipients_stay_theirs() -> None:
    done = run({"rcpt": ["250 ok", "550 5.1.1 no", "450 4.2.1 try"]}, rcpts=3)
    assert done.ends == ["sent 2.0.0 h1", "bounced 5.1.1 h1", "deferred 4.2.1 h1"]


def test_disconnect_hits_only_those_without_a_reply() -> None:
    server = {**PIPELINING, "rcpt": ["550 5.1.1 no", "250 ok", Lost.EOF]}
    ends = run(server, rcpts=4).ends
    assert ends == ["bounced 5.1.1 h1", *["deferred 4.4.2 h1"] * 3]


def test_equal_addresses_are_different_recipients() -> None:
    twice = (Recipient("u@d.test", position=0), Recipient("u@d.test", position=1))
    done = run({"rcpt": ["250 ok", "550 5.1.1 no"]}, rcpts=twice)
    assert done.ends == ["sent 2.0.0 h1", "bounced 5.1.1 h1"]


# --- the message ----------------------------------------------------------------------


def test_reply_before_the_hang_up_counts_as_the_reply_to_the_dot() -> None:
    done = run({"body": Lost.EOF, "dot": "552 5.3.4 too much"})
    assert done.end == "bounced 5.3.4 h1"
    assert done.reason.endswith("552 5.3.4 too much (in reply to end of DATA command)")
    assert done.sequence.endswith("body | hangup")


def test_success_before_the_hang_up_is_believed() -> None:
    assert run({"body": Lost.EOF}).end == "sent 2.0.0 h1"


@pytest.mark.parametrize("lost", [Lost.EOF, Lost.TIME])
def test_hang_up_in_the_body_without_a_reply(lost: Lost) -> None:
    done = run({"body": Lost.EOF, "dot": lost})
    assert done.reason == f"lost connection with {H} while sending message body"


def test_lmtp_reads_what_is_left_after_a_hang_up_in_the_body() -> None:
    server = {"body": Lost.EOF, "dot": ["250 ok", "550 5.2.2 full", Lost.EOF]}
    ends = run(server, lmtp=True, rcpts=3).ends
    assert ends == ["sent 2.0.0 h1", "bounced 5.2.2 h1", "deferred 4.4.2 h1"]


def test_message_that_cannot_be_sent_is_our_own_decision() -> None:
    done = run({"body": Unsendable("5.6.0", "MIME nesting exceeds safety limit")})
    assert (done.end, done.reason) == (
        "bounced 5.6.0 h1",
        "MIME nesting exceeds safety limit",
    )
    assert done.report.outcomes[0].dsn.remote_mta == ""


@pytest.mark.parametrize(
    ("keyword", "encoding", "off", "converted"),
    [
        ("", "8bit", "no", True),
        ("", "", "no", True),
        ("", "7bit", "no", False),
        ("", "8bit", "yes", False),
        ("8BITMIME", "8bit", "no", False),
    ],
)
def test_who_needs_seven_bits(
    keyword: str, encoding: str, off: str, converted: bool
) -> None:
    settings = {"disable_mime_output_conversion": off}
    done = run(offers(keyword), encoding=encoding, settings=settings)
    assert SendBody(converted) in done.outside.wires[0].steps


# --- LMTP -----------------------------------------------------------------------------


def test_lmtp_has_a_reply_for_each_accepted_recipient() -> None:
    server = {
        "rcpt": ["250 ok", "550 5.1.1 no", "250 ok", "250 ok"],
        "dot": ["250 2.1.5 ok", "452 4.2.2 full", "552 5.2.2 full"],
    }
    done = run(server, lmtp=True, rcpts=4)
    assert done.ends == [
        "sent 2.1.5 h1",
        "bounced 5.1.1 h1",
        "deferred 4.2.2 h1",
        "bounced 5.2.2 h1",
    ]
    last = done.report.outcomes[3].dsn
    assert (
        last.reason
        == f"host {H} said: 552 5.2.2 full (in reply to end of DATA command)"
    )


def test_lmtp_reads_one_reply_if_nobody_was_accepted() -> None:
    done = run({"rcpt": NO, "dot": "250 ok"}, lmtp=True, rcpts=2)
    assert done.ends == ["bounced 5.1.1 h1"] * 2
    assert done.sequence == "LHLO | MAIL RCPT RCPT DATA | . QUIT"


def test_lmtp_connection_lost_after_some_replies() -> None:
    done = run({"dot": ["250 ok", Lost.TIME]}, lmtp=True, rcpts=3)
    assert done.ends == ["sent 2.0.0 h1", "deferred 4.4.2 h1", "deferred 4.4.2 h1"]


@pytest.mark.parametrize(
    ("keyword", "final", "lmtp", "action"),
    [
        ("", "yes", True, "delivered"),
        ("DSN", "yes", True, "relayed"),
        ("", "no", True, "relayed"),
        ("", "yes", False, "relayed"),
    ],
)
def test_delivered_or_relayed(
    keyword: str, final: str, lmtp: bool, action: str
) -> None:
    done = run(offers(keyword), settings={"lmtp_assume_final": final}, lmtp=lmtp)
    assert done.report.outcomes[0].action == action


# --- SIZE, SMTPUTF8, myself -----------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "size", "fits"),
    [
        ("SIZE 10", 10, True),
        ("SIZE 10", 11, False),
        ("SIZE 0", 11, True),
        ("SIZE", 11, True),
        ("SIZE ten", 11, True),
    ],
)
def test_size_is_looked_at_before_anything_is_said(
    keyword: str, size: int, fits: bool
) -> None:
    done = run(offers(keyword), size=size)
    if fits:
        assert done.end == "sent 2.0.0 h1"
        return
    assert done.end == "bounced 5.3.4 h1"
    assert done.reason == f"message size 11 exceeds size limit 10 of server {H}"
    assert done.sequence == "EHLO | hangup"


@pytest.mark.parametrize("version", ["3.7", "3.12"])
def test_server_without_smtputf8(version: str) -> None:
    settings = {"trouble_postfix_version": version}
    facts: dict[str, Any] = {"smtputf8": True, "sender": "\u00fc@d.test"}
    done = run({}, settings=settings, **facts)
    assert done.end == "bounced 5.6.7 h1"
    assert done.sequence == "EHLO | QUIT"
    assert "SMTPUTF8" in done.reason
    assert run(offers("SMTPUTF8"), **facts).end == "sent 2.0.0 h1"


def test_smtputf8_asked_for_but_not_used() -> None:
    assert run({}, smtputf8=True).end == "sent 2.0.0 h1"


def test_smtputf8_implies_8bitmime() -> None:
    done = run(offers("SMTPUTF8"), smtputf8=True, encoding="8bit")
    assert done.lines[1] == "MAIL FROM:<s@d.test> BODY=8BITMIME SMTPUTF8"
    note = f"host {H} offers SMTPUTF8 support, but not 8BITMIME"
    assert note in done.outside.wires[0].notes


def test_wrong_size_limit_is_logged() -> None:
    done = run(offers("SIZE ten"))
    assert f'bad EHLO SIZE limit "ten" from {H}:2525' in done.outside.wires[0].notes


# --- what the next server, and the destination, hear of it ----------------------------

BUSY = {"greeting": "421 4.3.2 busy"}
# How the first of two sessions goes: its server, and whether it ran to its end. If it
# did, a second server that is busy does not throttle the destination.
COMPLETE: list[Any] = [
    ("refused at RCPT", {"rcpt": TRY}, True),
    ("refused at the dot", {"dot": TRY}, True),
    ("can't be sent", {"body": Unsendable("4.6.0", "not now")}, True),
    ("no answer to RSET", {"rcpt": TRY, "rset": Lost.EOF}, False),
    ("no answer to the dot", {"dot": Lost.EOF}, False),
    ("our own tables failed", {"body": Lost.DATA}, False),
    ("stuck in the body", {"body": Lost.TIME}, False),
    ("hung up in the body", {"body": Lost.EOF, "dot": Lost.EOF}, False),
]


@pytest.mark.parametrize(
    ("server", "complete"), [r[1:] for r in COMPLETE], ids=[r[0] for r in COMPLETE]
)
def test_a_session_that_ran_to_its_end_spares_the_destination(
    server: Server, complete: bool
) -> None:
    done = run(Place([server, BUSY]))
    assert done.end == "deferred 4.3.2 h2"
    assert done.throttled == ("" if complete else "4.3.2")


@pytest.mark.parametrize("server", [{"rcpt": TRY}, {"dot": TRY}])
def test_and_so_does_one_that_is_kept_open(server: Server) -> None:
    done = run(Place([server, BUSY]), keep=True)
    assert len(done.outside.stored) == 1
    assert (done.end, done.throttled) == ("deferred 4.3.2 h2", "")


def test_and_goes_on_to_do_so() -> None:
    """Also when a later session breaks."""
    done = run(
        Place([{"rcpt": TRY}, {"dot": Lost.EOF}, BUSY]),
        settings={"smtp_mx_session_limit": "0"},
    )
    assert (done.end, done.throttled) == ("deferred 4.3.2 h3", "")


@pytest.mark.parametrize("body", [Lost.DATA, Lost.TIME, Lost.EOF])
def test_half_a_message_is_followed_by_nothing(body: Lost) -> None:
    done = run({"body": body}, settings={"smtp_skip_quit_response": "no"})
    assert done.sequence.split()[-1] == "hangup"
    assert "." not in done.lines
    assert "QUIT" not in done.lines


def test_window_is_4096_bytes_and_not_one_more() -> None:
    fixed = sum(len(x) + 2 for x in run(PIPELINING).lines[1:4])
    room = 4096 - fixed - len("RCPT TO:<@d.test>\r\n")
    for more, groups in ((0, 1), (1, 2)):
        whom = (
            Recipient("u0@d.test"),
            Recipient("x" * (room + more) + "@d.test", position=1),
        )
        done = run(PIPELINING, rcpts=whom)
        commands = done.sequence.split(" | ")[1:-1]
        sizes = [len(line) + 2 for line in done.lines[1:5]]
        assert sum(sizes) == 4096 + more
        assert len(commands) == groups, commands


def test_lone_dot_of_lmtp_has_its_reply() -> None:
    done = run({"rcpt": NO}, lmtp=True, rcpts=2)
    phases = [s.phase.name for s in done.outside.wires[0].steps if isinstance(s, Read)]
    assert phases[-2:] == ["DOT", "QUIT"]
    assert phases.count("DOT") == 1


@pytest.mark.parametrize("lmtp", [False, True])
def test_delivery_ends_with_the_reply(lmtp: bool) -> None:
    """Not when its record is written: the clock goes on by one when it is looked at."""
    done = run({}, lmtp=lmtp, rcpts=2)
    delays = [end.delays.transmission for end in done.report.outcomes]
    assert delays == ([1.0, 3.0] if lmtp else [1.0, 1.0])
