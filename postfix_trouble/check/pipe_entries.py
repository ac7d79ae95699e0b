"""Looking at the entries of a master.cf, and at them as the account that they name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from postfix_trouble.check import lmtp_entries, pipe_entry
from postfix_trouble.check.entry_settings import (
    PROGRAM,
    chroot_default,
    overridden,
    own_arguments,
    own_settings,
    value,
)
from postfix_trouble.check.findings import error, note
from postfix_trouble.config import master_cf
from postfix_trouble.config.types import ConfigError, to_integer, to_seconds
from postfix_trouble.pipe import options
from postfix_trouble.terminal.parameters import read_config, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from postfix_trouble.check.findings import Finding
    from postfix_trouble.config.master_cf import PipeEntry
    from postfix_trouble.config.settings import Settings


def look(path: str) -> Iterator[Finding]:
    """Check all entries of a master.cf that run the program."""
    try:
        services = master_cf.parse(read_text(path), path)
    except (OSError, ConfigError) as problem:
        text = problem.strerror if isinstance(problem, OSError) else problem
        yield error(path, str(text), "nothing is known of Postfix's side", "see there")
        return
    values = _main_cf(os.path.join(os.path.dirname(path), "main.cf"))
    found = list(master_cf.entries(services, "pipe", PROGRAM))
    servers = list(lmtp_entries.look(services, values))
    if not found and not servers:
        text = f"no pipe(8) entry runs {PROGRAM}"
        yield note(path, text, remedy="see master.cf.example")
    for entry in found:
        yield from _entry(entry, values)
    yield from servers


def _main_cf(path: str) -> dict[str, str]:
    """Postfix's own settings, for the limits of transports; none if unreadable."""
    try:
        return read_config(path)[0]
    except ConfigError:
        return {}


def _entry(entry: PipeEntry, values: Mapping[str, str]) -> Iterator[Finding]:
    name = pipe_entry.about(entry)
    line, command = _line(entry)
    settings = None
    try:
        settings = own_settings(command)
    except (ConfigError, options.UsageError) as problem:
        line = line._replace(problem=line.problem or str(problem))
    try:
        now = _circumstances(entry, values, settings)
    except ConfigError as problem:
        yield error(name, problem.problem, "see postconf(5)", "fix it in main.cf")
        now = pipe_entry.Circumstances()
    yield from pipe_entry.judge(entry, line, now)
    if not line.problem:
        from postfix_trouble.check import run_as

        arguments = own_arguments(command)
        before = master_cf.place(entry, PROGRAM) or 0
        program = entry.argv[: before + 1]
        wanted = run_as.Wanted(program, arguments, now.state_directory)
        yield from run_as.look(entry, values, wanted)


# --- the command line ---------------------------------------------------------------


def _line(entry: PipeEntry) -> tuple[pipe_entry.Line, options.CommandLine]:
    """The command line as `deliver` would read it, macros and all."""
    empty = options.CommandLine()
    before = master_cf.place(entry, PROGRAM) or 0
    command, *rest = entry.argv[before + 1 :] or ("",)
    if command != "deliver":
        problem = f"argv runs {PROGRAM} {command or 'without a command'}, not deliver"
        return pipe_entry.Line({}, (), problem), empty
    try:
        line = options.read(rest)
    except options.UsageError as problem:
        return pipe_entry.Line({}, (), str(problem)), empty
    values = {**line.values, **{name: " ".join(x) for name, x in line.lists.items()}}
    return pipe_entry.Line(values, tuple(line.recipients)), line


# --- limits of the transport --------------------------------------------------------


def _circumstances(
    entry: PipeEntry, values: Mapping[str, str], settings: Settings | None
) -> pipe_entry.Circumstances:
    name = entry.service.name
    limit = f"{name}_time_limit"
    known = overridden(values, entry.overrides)
    seconds = value(known, limit, "$command_time_limit")
    recipients = f"{name}_destination_recipient_limit"
    count = value(values, recipients, "$default_destination_recipient_limit")
    return pipe_entry.Circumstances(
        to_seconds(limit, seconds, "s"),
        to_integer(recipients, count),
        settings.seconds("trouble_deadline") if settings else 900.0,
        settings.text("trouble_state_directory") if settings else "",
        chroot_default(values),
    )
