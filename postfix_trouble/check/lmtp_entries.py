"""Looking at the entries of a master.cf that make an LMTP server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postfix_trouble.check import lmtp_entry
from postfix_trouble.check.entry_settings import (
    PROGRAM,
    chroot_default,
    overridden,
    own_arguments,
    own_settings,
    value,
)
from postfix_trouble.check.findings import error
from postfix_trouble.check.pipe_entry import about
from postfix_trouble.config import master_cf
from postfix_trouble.config.types import ConfigError, to_integer, to_seconds
from postfix_trouble.lmtp.delivery import DEADLINE
from postfix_trouble.pipe import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from postfix_trouble.check.findings import Finding
    from postfix_trouble.config.master_cf import PipeEntry, Service


def look(services: list[Service], values: Mapping[str, str]) -> Iterator[Finding]:
    """Check the spawn(8) entries that run us, and the lmtp(8) entries beside them."""
    servers = list(master_cf.entries(services, "spawn", PROGRAM))
    if not servers:
        return
    clients = []
    for service in _clients(services):
        try:
            clients.append(_client(service, values))
        except ConfigError as problem:
            yield error(service.name, problem.problem, "see postconf(5)", "fix it")
    for entry in servers:
        yield from _server(entry, values, tuple(clients))


def _clients(services: list[Service]) -> list[Service]:
    """Those of lmtp(8), without the one that every Postfix has, if there are others."""
    found = [service for service in services if service.command == "lmtp"]
    return [each for each in found if each.name != "lmtp"] or found


def _client(service: Service, values: Mapping[str, str]) -> lmtp_entry.ClientEntry:
    # pipe(8)'s -o are read in the same way.
    known = overridden(values, master_cf.pipe_entry(service).overrides)
    limit = f"{service.name}_destination_recipient_limit"
    count = value(values, limit, "$default_destination_recipient_limit")

    def seconds(name: str, default: str) -> float:
        return to_seconds(name, value(known, name, default), "s")

    return lmtp_entry.ClientEntry(
        service,
        seconds("lmtp_data_done_timeout", "600s"),
        seconds("lmtp_connection_reuse_time_limit", "300s"),
        to_integer(limit, count),
    )


def _server(
    entry: PipeEntry,
    values: Mapping[str, str],
    clients: tuple[lmtp_entry.ClientEntry, ...],
) -> Iterator[Finding]:
    line, now = options.CommandLine(), lmtp_entry.ServerEntry()
    try:
        line = _line(entry)
        deadline = own_settings(line).seconds("trouble_deadline")
        now = now._replace(deadline=min(DEADLINE, deadline))
    except (ConfigError, options.UsageError) as problem:
        now = now._replace(problem=str(problem))
    limit = f"{entry.service.name}_time_limit"
    try:
        now = now._replace(chroot_default=chroot_default(values))
        known = overridden(values, entry.overrides)
        text = value(known, limit, "$command_time_limit")
        now = now._replace(time_limit=to_seconds(limit, text, "s"))
    except ConfigError as problem:
        yield error(about(entry), problem.problem, "see postconf(5)", "fix it")
    yield from lmtp_entry.judge(entry, now, clients)
    if not now.problem:
        from postfix_trouble.check import run_as

        before = master_cf.place(entry, PROGRAM) or 0
        wanted = run_as.Wanted(entry.argv[: before + 1], own_arguments(line), "")
        yield from run_as.look(entry, values, wanted)


def _line(entry: PipeEntry) -> options.CommandLine:
    """The command line as `lmtp` would read it. Raises UsageError."""
    before = master_cf.place(entry, PROGRAM) or 0
    command, *rest = entry.argv[before + 1 :] or ("",)
    if command != "lmtp":
        problem = f"argv runs {PROGRAM} {command or 'without a command'}, not lmtp"
        raise options.UsageError(problem)
    line = options.read(rest, options.LMTP_OPTIONS)
    if line.switch("--listen") or line.recipients:
        where = "--listen" if line.switch("--listen") else line.recipients[0]
        raise options.UsageError(f"{where}: spawn(8) has the connection already")
    return line
