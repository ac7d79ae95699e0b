"""Connections that stay open for another message."""

from __future__ import annotations

from typing import Any

import pytest
from script import PIPELINING, REFUSED, TLS, Place, Server, offers, run

from postfix_trouble.core.relay import Relay
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.steps import Unsendable
from postfix_trouble.core.tls import TlsLevel
from postfix_trouble.smtp.capabilities import Capabilities
from postfix_trouble.smtp.session import Kept

KEPT = Kept(Capabilities("mx", True, size=True, size_limit=5), None, 1)
PIPED = Kept(Capabilities("mx", True, pipelining=True), None, 1)


def test_kept_connection_is_asked_first_and_used() -> None:
    done = run({}, stock=({}, KEPT), size=10, encoding="7bit")
    assert done.sequence == "RSET | MAIL | RCPT | DATA | body . | QUIT"
    assert done.outside.connects == []
    # The limit is not remembered; that SIZE was offered is.
    assert "SIZE=10" in done.lines[1]
    assert done.report.outcomes[0].connection_use == 2
    assert done.report.servers[0].reused


@pytest.mark.parametrize("probe", ["421 no", "500 no", "354 what", Lost.EOF, Lost.TIME])
def test_kept_connection_that_is_dead_leaves_no_trace(probe: Any) -> None:
    done = run({"rcpt": "450 no"}, stock=({"probe": probe}, PIPED))
    assert done.outside.wires[0].sequence == "RSET"
    assert done.outside.wires[0].closed == 1
    assert done.outside.wires[1].sequence == "EHLO | MAIL | RCPT | RSET | QUIT"
    assert done.end == "deferred 4.0.0 h1"
    assert len(done.report.servers) == 1
    assert not done.report.servers[0].reused
    assert done.outside.notes == []


def test_kept_connection_counts_as_a_session() -> None:
    settings = {"smtp_mx_session_limit": "1"}
    hosts: list[Any] = [REFUSED, {}]
    done = run(Place(hosts), stock=({"mail": "450 no"}, KEPT), settings=settings)
    assert done.end == "deferred 4.0.0 h1"


@pytest.mark.parametrize("use", [1, 2])
def test_failure_on_a_kept_connection_is_told_as_such(use: int) -> None:
    done = run({}, stock=({"rcpt": "550 no"}, KEPT._replace(use=use)))
    assert done.report.outcomes[0].connection_use == use + 1


def test_kept_connection_that_stumbles_is_used_and_then_not_kept() -> None:
    done = run({}, stock=({"probe": "what\n250 ok"}, KEPT), keep=True)
    assert (done.end, done.outside.connects) == ("sent 2.0.0 h1", [])
    assert done.outside.stored == []


def test_use_of_a_connection_is_not_told_of_the_next_server() -> None:
    done = run(Place([{}, REFUSED]), stock=({"rcpt": "450 no"}, KEPT))
    assert (done.end, done.report.outcomes[0].connection_use) == (
        "deferred 4.4.1 none",
        1,
    )


KEEPING: list[Any] = [
    # server, kept open, sequence
    ({}, True, "EHLO | MAIL | RCPT | DATA | body ."),
    (PIPELINING, True, "EHLO | MAIL RCPT DATA | body ."),
    ({"rcpt": "450 no"}, True, "EHLO | MAIL | RCPT | RSET"),
    # Whatever is said to the RSET: another one comes before the next message.
    ({"rcpt": "421 no", "rset": "500 no"}, True, "EHLO | MAIL | RCPT | RSET"),
    ({**PIPELINING, "rcpt": "450 no"}, True, "EHLO | MAIL RCPT DATA | ."),
    (
        {**PIPELINING, "rcpt": "450 no", "data": "503 no"},
        True,
        "EHLO | MAIL RCPT DATA | RSET",
    ),
    ({"dot": "451 no"}, True, "EHLO | MAIL | RCPT | DATA | body ."),
    ({"dot": "500 no"}, False, "EHLO | MAIL | RCPT | DATA | body . | hangup"),
    ({"dot": "what\n250 ok"}, False, "EHLO | MAIL | RCPT | DATA | body . | hangup"),
    ({"mail": "354 no"}, False, "EHLO | MAIL | RSET | hangup"),
    ({"rcpt": "what\n450 no"}, False, "EHLO | MAIL | RCPT | RSET | hangup"),
    ({"mail": Lost.EOF}, False, "EHLO | MAIL | hangup"),
    # A table of ours failed in the middle: the server is not to be blamed.
    ({"mail": Lost.DATA}, False, "EHLO | MAIL"),
    # Garbled before: no need to keep it, so it is left in good form.
    (
        {"greeting": "x\n220 mx"},
        False,
        "EHLO | MAIL | RCPT | DATA | body . | QUIT",
    ),
    ({"greeting": "421 no"}, False, "QUIT"),
    (offers("SIZE 1"), True, "EHLO"),
]


@pytest.mark.parametrize(("server", "kept", "sequence"), KEEPING)
def test_who_is_kept(server: Server, kept: bool, sequence: str) -> None:
    done = run(server, keep=True, size=2)
    assert done.sequence == sequence
    assert [wire for wire, _ in done.outside.stored] == done.outside.wires * kept
    assert [wire.closed for wire in done.outside.wires] == [0 if kept else 1]


def test_what_is_remembered() -> None:
    done = run(offers("DSN"), stock=None, keep=True)
    capabilities = done.outside.stored[0][1].capabilities
    assert (capabilities.dsn, done.outside.stored[0][1].use) == (True, 1)


@pytest.mark.parametrize("setting", ["yes", "no"])
def test_tls_sessions_are_kept_if_that_is_wanted(setting: str) -> None:
    settings = {"smtp_tls_connection_reuse": setting}
    done = run(offers("STARTTLS"), tls=TlsLevel.MAY, keep=True, settings=settings)
    assert [kept.tls for _, kept in done.outside.stored] == [TLS] * (setting == "yes")


def test_tls_of_a_kept_connection_is_known() -> None:
    stock = ({"mail": Lost.EOF}, KEPT._replace(tls=TLS))
    done = run(Place([{}], best=False), stock=stock, tls=TlsLevel.MAY, age=1000.0)
    # So it may be tried once more without.
    assert (done.end, done.outside.connects) == (
        "sent 2.0.0 h1",
        [("h1.test", TlsLevel.NONE)],
    )
    assert [server.tls for server in done.report.servers] == [TLS, None]


def test_tls_of_a_dead_connection_does_not_count_for_the_next() -> None:
    kept = KEPT._replace(tls=TLS)
    server = offers("STARTTLS")
    done = run(server, stock=({"probe": Lost.EOF}, kept), tls=TlsLevel.ENCRYPT)
    assert done.outside.wires[1].sequence.startswith("EHLO | STARTTLS | EHLO | MAIL")
    assert done.report.outcomes[0].connection_use == 1


def test_stumbling_of_a_dead_connection_does_not_count_for_the_next() -> None:
    done = run({}, stock=({"probe": "what\n421 no"}, KEPT), keep=True)
    assert done.errors == [()]
    assert [wire for wire, _ in done.outside.stored] == done.outside.wires[1:]


def test_stumbling_before_tls_counts() -> None:
    settings = {"smtp_tls_connection_reuse": "yes"}
    server = offers("STARTTLS", greeting="what\n220 mx")
    done = run(server, tls=TlsLevel.MAY, keep=True, settings=settings)
    assert (done.end, done.outside.stored) == ("sent 2.0.0 h1", [])


def test_connection_with_half_a_message_is_not_kept() -> None:
    done = run({"body": Unsendable("5.6.0", "no")}, keep=True)
    assert done.outside.stored == []
    assert done.outside.wires[0].closed == 1


BACKUP = Relay("h2.test", "192.0.2.2", 2525, best=False)


@pytest.mark.parametrize(
    ("kept", "level", "of", "told"),
    [
        (KEPT, TlsLevel.NONE, BACKUP, ""),
        (KEPT, TlsLevel.NONE, None, "none?"),
        (KEPT._replace(tls=TLS), TlsLevel.MAY, None, "may?"),
    ],
)
def test_log_tells_of_tls_on_a_kept_connection_what_postfix_does(
    kept: Kept, level: TlsLevel, of: Relay | None, told: str
) -> None:
    done = run({}, stock=({}, kept), stock_of=of, tls=level)
    assert done.report.outcomes[0].tls == told


def test_connection_of_the_nexthop_comes_before_better_servers() -> None:
    done = run(Place([REFUSED, {}]), stock=({}, KEPT), stock_of=BACKUP)
    assert (done.end, done.hosts) == ("sent 2.0.0 h2", [])
    assert done.outside.routes[0].asked == 0


def test_server_of_the_nexthop_is_tried_once_and_not_final() -> None:
    later: Server = {"rcpt": "450 no"}
    done = run(Place([REFUSED, {}, later]), stock=(later, KEPT), stock_of=BACKUP)
    assert (done.end, done.hosts) == ("deferred 4.0.0 h3", ["h1", "h3"])


def test_dead_connection_of_the_nexthop_is_no_try() -> None:
    dead: Server = {"probe": Lost.EOF}
    done = run(Place([REFUSED, {}]), stock=(dead, KEPT), stock_of=BACKUP)
    assert (done.end, done.hosts) == ("sent 2.0.0 h2", ["h1", "h2"])


@pytest.mark.parametrize(
    ("server", "version", "served"),
    [
        ({"greeting": "421 no"}, "3.12", 1),
        ({"mail": Lost.EOF}, "3.12", 2),
        ({"mail": Lost.EOF}, "3.10", 1),
        ({"rcpt": "450 no"}, "3.10", 2),
    ],
)
def test_backup_stands_for_the_nexthop_while_better_servers_are_in_trouble(
    server: Server, version: str, served: int
) -> None:
    settings = {"trouble_postfix_version": version}
    done = run(Place([server, {}]), keep=True, settings=settings)
    assert (done.end, done.outside.served) == ("sent 2.0.0 h2", served)
