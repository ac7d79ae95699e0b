"""What is right and wrong about the LMTP server in a master.cf: spawn(8) and lmtp(8).

Whoever kills us, or gives up waiting, while we still deliver has the message delivered
twice. So the times must be in order: a transaction is shorter than the patience of
lmtp(8), and the last one over a connection ends before spawn(8)'s limit.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.check.findings import error, fine, warning
from postfix_trouble.check.pipe_entry import MARGIN, about, chrooted, misplaced
from postfix_trouble.config.master_cf import NULL_SENDER
from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postfix_trouble.check.findings import Finding
    from postfix_trouble.config.master_cf import PipeEntry, Service

_FATAL = "spawn(8) does not start: all mail for the LMTP server is deferred"
_REMEDY = "compare with master.cf.example"


class ServerEntry(Value):
    """What is known of a spawn(8) entry besides itself."""

    # <name>_time_limit, seconds.
    time_limit: float = 1000.0
    # Seconds that one message may take us.
    deadline: float = 540.0
    # Why the command line can't be used; empty if it can.
    problem: str = ""
    # What `-` in the column chroot means.
    chroot_default: bool = False


class ClientEntry(Value):
    """An lmtp(8) entry. Times are seconds, with the -o of the entry."""

    service: Service
    # lmtp_data_done_timeout
    patience: float = 600.0
    # lmtp_connection_reuse_time_limit
    reuse: float = 300.0
    # <name>_destination_recipient_limit
    recipient_limit: int = 50


def judge(
    entry: PipeEntry, now: ServerEntry, clients: tuple[ClientEntry, ...]
) -> Iterator[Finding]:
    """Look at a server, and at those that may be its clients: it is the transport table
    that says who is."""
    found = [
        *_columns(entry, now),
        *_arguments(entry, now),
        *_time(entry, now, clients),
        *(finding for each in clients for finding in _client(each, entry, now)),
    ]
    yield from found
    if not found:
        yield fine(about(entry), "the entry is as it should be")


def _columns(entry: PipeEntry, now: ServerEntry) -> Iterator[Finding]:
    service, name = entry.service, about(entry)
    if service.kind == "inet":
        yield warning(
            name,
            "type inet",
            "spawn(8) leaves Nagle's algorithm on: each message waits for it",
            "make it unix",
        )
    if service.unprivileged != "n":
        yield error(
            name,
            f"column unpriv is {service.unprivileged}",
            "spawn(8) can't become the user: all mail for the LMTP server is deferred",
            "make it n",
        )
    yield from chrooted(entry, now.chroot_default)
    yield from misplaced(entry)


def _arguments(entry: PipeEntry, now: ServerEntry) -> Iterator[Finding]:
    name = about(entry)
    unknown = [
        *entry.unknown,
        *(
            word
            for word in ("flags", "size", "directory", "chroot")
            if _has(entry, word)
        ),
        *(["null_sender"] if entry.null_sender != NULL_SENDER else []),
        *(["eol"] if entry.eol != "\\n" else []),
    ]
    for word in unknown:
        problem = f"spawn(8) knows no attribute {word}"
        yield error(name, problem, _FATAL, _REMEDY)
    if not entry.user:
        yield error(name, "user= is missing", _FATAL, "add user=nobody, or another")
    if now.problem:
        consequence = "all mail for the LMTP server is deferred (4.3.5)"
        yield error(name, now.problem, consequence, _REMEDY)


def _has(entry: PipeEntry, attribute: str) -> bool:
    return bool(getattr(entry, attribute))


def _time(
    entry: PipeEntry, now: ServerEntry, clients: tuple[ClientEntry, ...]
) -> Iterator[Finding]:
    reuse = max((each.reuse for each in clients), default=300.0)
    needed = reuse + now.deadline + MARGIN
    if needed > now.time_limit:
        yield error(
            about(entry),
            f"spawn(8) ends a connection after {now.time_limit:g}s; lmtp(8) uses it for"
            f" {reuse:g}s, and the last message may take {now.deadline:g}s more",
            "killed at a wrong moment, mail is delivered twice",
            f"set {entry.service.name}_time_limit = 3600s in main.cf",
        )


def _client(
    client: ClientEntry, server: PipeEntry, now: ServerEntry
) -> Iterator[Finding]:
    service = client.service
    name = f"{service.name}, line {service.line}"
    if now.deadline + MARGIN > client.patience:
        yield error(
            name,
            f"lmtp_data_done_timeout is {client.patience:g}s, and a message may take"
            f" {now.deadline:g}s",
            "lmtp(8) tries again while we deliver: mail is delivered twice",
            f"set it to {now.deadline + 60:g}s, or trouble_deadline to"
            f" {max(client.patience - 60, 1):g}s in {about(server)}",
        )
    limit = f"{service.name}_destination_recipient_limit"
    if client.recipient_limit == 1:
        yield warning(
            name,
            f"{limit} is 1",
            "lmtp(8) keeps no connection: a process for each message",
            f"take {limit} out of main.cf, if this is for the LMTP server",
        )
    ours, theirs = server.service.process_limit, service.process_limit
    if (
        ours.isdigit()
        and int(ours)
        and (not theirs.isdigit() or not int(theirs) or int(theirs) > int(ours))
    ):
        yield warning(
            name,
            f"maxproc is {theirs}, that of {server.service.name} {ours}",
            "some lmtp(8) wait for a busy LMTP server, and defer mail",
            f"write {ours} here, too, if this is for the LMTP server",
        )
