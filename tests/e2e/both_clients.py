"""Mail that both clients of one Postfix deliver with the same settings.

A group is a pair of transports that differ in nothing but the client: ours, which
pipe(8) runs, and smtp(8). A case is a message to each of them, to servers of its own.
All cases of a test file are under way at the same time: that saves minutes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from private_postfix import MESSAGE, PATIENCE, Delivery, PrivatePostfix, deliveries

from scripted_server import Connection, Script, ScriptedServer
from waiting import wait

CLIENTS = ("ours", "theirs")
# For TLS of smtp(8), and for a second attempt.
_SERVICES = """
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
flush     unix  n       -       n       1000?   0       flush
"""
Settings = Mapping[str, str]


class Case(NamedTuple):
    """What both clients are asked to do, and what is to come of it."""

    group: str
    nexthop: str
    # What each server does, by HOST:PORT.
    servers: Mapping[str, Script]
    status: str = "sent"
    dsn: str = "2.0.0"
    # What is in the reason.
    words: str = ""
    # What is in ours, where it says more than smtp(8)'s (docs/deviations.md).
    ours: str = ""
    sender: str = "sender@sender.test"
    local: str = "r"
    message: bytes = MESSAGE


class Result(NamedTuple):
    """How both ended, and what the servers heard of both, in any order."""

    ours: Delivery
    theirs: Delivery
    heard: Mapping[str, list[Connection]]


# --- configuration ------------------------------------------------------------------


def transport_name(group: str, client: str) -> str:
    """The entry in master.cf."""
    return group if client == "ours" else f"{group}-smtp"


def master(
    recipe: str, groups: Mapping[str, Settings], flags: Mapping[str, str]
) -> str:
    """The entries of all groups; ours are made of that in master.cf.example.

    `flags`: what smtp(8) is told by Postfix, and we by the entry of a group.
    """
    entries = [_SERVICES]
    for group, settings in groups.items():
        options = " ".join(f"-o {{{n}={v}}}" for n, v in settings.items())
        entry = re.sub(r"\A\S+", transport_name(group, "ours"), recipe)
        # Before what must be last.
        assert "  -- ${recipient}" in entry
        told = f"  {options} {flags.get(group, '')} -- ${{r"
        entries.append(entry.replace("  -- ${r", told))
        name = transport_name(group, "theirs")
        entries.append(f"{name} unix - - n - - smtp\n  {options}\n")
    return "".join(entries)


def main(groups: Iterable[str]) -> dict[str, str]:
    """What main.cf needs for them: one by one, and no destination taken for dead."""
    found = {}
    for group in groups:
        for client in CLIENTS:
            name = transport_name(group, client)
            found[f"{name}_destination_recipient_limit"] = "1"
            found[f"{name}_destination_concurrency_failed_cohort_limit"] = "0"
    return found


def domain(name: str, client: str) -> str:
    """The recipient domain of a case; the servers' names have nothing to do with it."""
    return f"{name}.{client}.test"


def routes(cases: Mapping[str, Case]) -> str:
    """The transport table for all cases."""
    return "".join(
        f"{domain(name, client)} {transport_name(case.group, client)}:{case.nexthop}\n"
        for name, case in cases.items()
        for client in CLIENTS
    )


# --- delivery -----------------------------------------------------------------------


@contextmanager
def under_way(
    postfix: PrivatePostfix, cases: Mapping[str, Case], certificates: str = ""
) -> Iterator[dict[str, Result]]:
    """Deliver all, wait until all have ended; the servers are up for that long."""
    with ExitStack() as stack:
        servers: dict[str, dict[str, ScriptedServer]] = {}
        for name, case in cases.items():
            servers[name] = {}
            for place, script in case.servers.items():
                server = ScriptedServer(script, listen=place, certificates=certificates)
                servers[name][place] = stack.enter_context(server)
        for name, case in cases.items():
            for client in CLIENTS:
                recipient = f"{case.local}@{domain(name, client)}"
                postfix.submit(recipient, sender=case.sender, message=case.message)
        records = _records(postfix, cases)
        yield {
            name: Result(
                records[domain(name, "ours")],
                records[domain(name, "theirs")],
                {place: s.connections for place, s in servers[name].items()},
            )
            for name in cases
            if all(domain(name, client) in records for client in CLIENTS)
        }


def once_more(
    postfix: PrivatePostfix, results: Mapping[str, Result]
) -> dict[str, Result]:
    """Have what was deferred tried again; the servers must still be up."""
    postfix.retry(*(one.queue_id for result in results.values() for one in result[:2]))
    records = _records(postfix, results, attempt=2)
    return {
        name: Result(
            records[domain(name, "ours")],
            records[domain(name, "theirs")],
            result.heard,
        )
        for name, result in results.items()
    }


def _records(
    postfix: PrivatePostfix, names: Iterable[str], attempt: int = 1
) -> dict[str, Delivery]:
    """The record of an attempt for each domain. Who never ends is missing."""
    wanted = {domain(name, client) for name in names for client in CLIENTS}
    ended: dict[str, Delivery] = {}

    def all_ended() -> bool:
        found: dict[str, list[Delivery]] = {}
        for record in deliveries(postfix.log()):
            where = record.recipient.rpartition("@")[2]
            if where in wanted:
                found.setdefault(where, []).append(record)
        ended.update((w, r[attempt - 1]) for w, r in found.items() if len(r) >= attempt)
        return len(ended) == len(wanted)

    with suppress(AssertionError):
        wait(all_ended, patience=PATIENCE)
    return ended


# --- comparison ---------------------------------------------------------------------


def same(result: Result, case: Case) -> None:
    """Both records say the same, and what was expected."""
    ours, theirs, heard = result
    assert (theirs.status, theirs.dsn) == (case.status, case.dsn), theirs.reason
    assert (ours.status, ours.dsn) == (case.status, case.dsn), ours.reason
    if case.status == "sent":
        # pipe(8) says so in its own words, and a real server has a new id each time.
        assert theirs.reason.partition(" queued as ")[0] in ours.reason
    elif case.ours:
        assert case.ours in ours.reason, ours.reason
    else:
        assert _without_client(ours.reason) == _without_client(theirs.reason)
    assert case.words in theirs.reason
    for connections in heard.values():
        # Each server has heard each dialogue twice.
        dialogues = sorted(map(dialogue, connections))
        assert dialogues[::2] == dialogues[1::2]


def _without_client(text: str) -> str:
    return re.sub(r"\.(ours|theirs)\.test\b", ".client.test", text)


def dialogue(connection: Connection) -> list[str]:
    """What a server heard, less what differs between two messages to two domains."""
    text = _without_client("\n".join(connection.commands))
    return re.sub(r"(SIZE=|<message )\d+", r"\1n", text).split("\n")


def message(connection: Connection) -> bytes:
    """The message as it arrived, less its queue id, date and recipient domain."""
    (text,) = connection.messages
    text = re.sub(rb"\.(ours|theirs)\.test\b", b".client.test", text)
    head, _, body = text.partition(b"\r\n\r\n")
    head = re.sub(rb"\bid \w+(; .*? \(UTC\))?", b"id QUEUEID", head)
    head = re.sub(rb"(?m)^(Date: |Message-Id: |\t).*\d{4}.*$", rb"\1...\r", head)
    return head + b"\r\n\r\n" + body
