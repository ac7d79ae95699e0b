"""Servers that both clients of one Postfix are sent to: ours and its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from scripted_server import Connection, ScriptedServer
from waiting import wait

PORT = 2525
CLOSE = {"action": "close"}
HANG = {"action": "hang"}
Stages = dict[str, Any]
# Nobody listens there.
DOWN: Stages = {"down": True}


class Case(NamedTuple):
    """The stages of each server's script, in the order in which they are tried."""

    servers: Sequence[Stages]
    # Status word, and dsn if it is not that of a sent message.
    status: str
    dsn: str = "2.0.0"


def _at_each_stage() -> dict[str, Case]:
    """4xx, 5xx, lost and silent, at each stage of the dialogue."""
    cases = {}
    hello: Stages = {"ehlo": "502 5.5.1 no EHLO"}
    stages: dict[str, tuple[str, Stages]] = {
        "banner": ("banner", {}),
        "ehlo": ("ehlo", {}),
        "helo": ("helo", hello),
        "mail": ("mail", {}),
        "rcpt": ("rcpt", {}),
        "data": ("data", {}),
        "dot": ("eod", {}),
    }
    soft, hard = "450 4.2.0 greylisted", "550 5.7.1 refused"
    for name, (stage, others) in stages.items():
        greeting = name == "banner"
        cases[f"{name}-4xx"] = Case([{**others, stage: soft}], "deferred", "4.2.0")
        if name == "ehlo":
            # A refused EHLO is followed by HELO.
            cases["ehlo-5xx"] = Case([{stage: hard}], "sent")
        else:
            # smtp_skip_5xx_greeting makes a refused greeting soft.
            status, dsn = ("deferred", "4.7.1") if greeting else ("bounced", "5.7.1")
            cases[f"{name}-5xx"] = Case([{**others, stage: hard}], status, dsn)
        cases[f"{name}-lost"] = Case([{**others, stage: CLOSE}], "deferred", "4.4.2")
        cases[f"{name}-silent"] = Case([{**others, stage: HANG}], "deferred", "4.4.2")
    cases["ehlo-4xx"] = Case([{"ehlo": soft}], "sent")
    return cases


CASES: dict[str, Case] = {
    "sent": Case([{}], "sent"),
    **_at_each_stage(),
    "banner-421": Case([{"banner": "421 4.3.2 busy"}], "deferred", "4.3.2"),
    "banner-554": Case([{"banner": "554 5.7.1 go away"}], "deferred", "4.7.1"),
    "lost-at-connect": Case([{"connect": CLOSE}], "deferred", "4.4.2"),
    "mail-451": Case([{"mail": "451 4.3.0 later"}], "deferred", "4.3.0"),
    "data-451": Case([{"data": "451 4.3.0 later"}], "deferred", "4.3.0"),
    "dot-451": Case([{"eod": "451 4.3.0 later"}], "deferred", "4.3.0"),
    "dot-554": Case([{"eod": "554 5.6.0 spam"}], "bounced", "5.6.0"),
    "quit-421": Case([{"quit": "421 4.3.2 too late"}], "sent"),
    "quit-lost": Case([{"quit": CLOSE}], "sent"),
    "refused": Case([DOWN], "deferred", "4.4.1"),
    "reply-of-some-lines": Case(
        [{"rcpt": "550-5.1.1 no such\n550 5.1.1 user"}], "bounced", "5.1.1"
    ),
    "reply-without-status": Case([{"rcpt": "550 no"}], "bounced", "5.0.0"),
    "reply-of-wrong-class": Case([{"rcpt": "350 what"}], "bounced", "5.5.0"),
    "reply-with-wrong-status": Case([{"rcpt": "550 4.2.0 odd"}], "bounced", "5.0.0"),
    "backup-after-down": Case([DOWN, {}], "sent"),
    "backup-after-421": Case([{"banner": "421 4.3.2 busy"}, {}], "sent"),
    "backup-after-mail-4xx": Case([{"mail": "450 4.2.0 later"}, {}], "sent"),
    "backup-after-rcpt-4xx": Case([{"rcpt": "450 4.2.0 later"}, {}], "sent"),
    "backup-after-rcpt-5xx": Case(
        [{"rcpt": "550 5.1.1 no such user"}, {}], "bounced", "5.1.1"
    ),
    "backup-after-lost-dot": Case([{"eod": CLOSE}, {}], "sent"),
    "backup-down-too": Case([DOWN, DOWN], "deferred", "4.4.1"),
    "backup-refuses": Case(
        [{"rcpt": "450 4.2.0 later"}, {"rcpt": "550 5.1.1 no such user"}],
        "bounced",
        "5.1.1",
    ),
}

# Peers' table of outcomes: what a program for pipe(8) has to get right.
OUTCOMES = {
    "ok": "sent",
    "greeting 421": "banner-421",
    "greeting 554": "banner-554",
    "closed at connect": "lost-at-connect",
    "MAIL 451": "mail-451",
    "MAIL 550": "mail-5xx",
    "RCPT 450": "rcpt-4xx",
    "RCPT 550": "rcpt-5xx",
    "DATA 451": "data-451",
    "dot 451": "dot-451",
    "dot 554": "dot-554",
    "lost after dot": "dot-lost",
    "QUIT 421 after ok": "quit-421",
    "connection refused": "refused",
}


def addresses(case: str) -> list[str]:
    """Where the servers of a case listen; nobody else uses these."""
    number = list(CASES).index(case)
    return [f"127.30.{number}.{n + 1}:{PORT}" for n in range(len(CASES[case].servers))]


def recipient(case: str, client: str, local: str = "r") -> str:
    """A recipient whose mail goes to the servers of a case, through a transport."""
    return f"{local}@{case}.{client}.test"


def routes() -> str:
    """The transport table for all cases and clients."""
    lines = []
    for case in CASES:
        places = [place.rpartition(":") for place in addresses(case)]
        nexthop = ", ".join(f"[{host}]:{port}" for host, _, port in places)
        for client in ("trouble", "troubles", "smtp"):
            lines.append(f"{case}.{client}.test {client}:{nexthop}\n")
    return "".join(lines)


def next_taken(server: ScriptedServer, before: int) -> Connection:
    """The connection after so many others, once it has brought a message."""
    wait(lambda: any(c.messages for c in server.connections[before:]))
    return server.connections[before]
