"""Looking at the entries of a master.cf, and at them as the account that they name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from postfix_trouble.check import account, engine_limits, entry, run_as
from postfix_trouble.check.argv import Line
from postfix_trouble.check.findings import Finding, error, note, warning
from postfix_trouble.config import master_cf
from postfix_trouble.config.expansion import ExpansionError, expand
from postfix_trouble.config.master_cf import PipeEntry, Service
from postfix_trouble.config.parameters import TABLE
from postfix_trouble.config.settings import Settings
from postfix_trouble.config.types import ConfigError, row, to_integer, to_seconds
from postfix_trouble.core.value import Value
from postfix_trouble.lmtp.delivery import DEADLINE
from postfix_trouble.pipe import options
from postfix_trouble.report.maillog import SYSLOG
from postfix_trouble.terminal.parameters import make_settings, read_config, read_text

_PROGRAM = "postfix-trouble"
# What runs it, and the command that it has to run.
_COMMANDS = {"pipe": "deliver", "spawn": "lmtp"}
_OPTIONS = {"pipe": options.OPTIONS, "spawn": options.LMTP_OPTIONS}
# How Postfix reads its limits.
_NUMBER, _TIME = row("I", "0"), row("T", "0s")
# Options that are settings, too.
_NAMED = (
    ("--state-directory", "trouble_state_directory"),
    ("--log-file", "trouble_log_file"),
)


def look(path: str, postconf: str) -> Iterator[Finding]:
    """Check the entries that run the program. `postconf`: the command for changes."""
    try:
        services = master_cf.parse(read_text(path), path)
    except OSError as problem:
        lost = "the entries were not looked at"
        refused = account.denied(path, path, account.current(), lost)
        yield refused or error(path, str(problem), lost, "name another file")
        return
    except ConfigError as problem:
        consequence = "Postfix does not start, or not with this entry"
        yield error(path, problem.problem, consequence, "correct this line of the file")
        return
    try:
        values = read_config(os.path.join(os.path.dirname(path), "main.cf"))[0]
    except ConfigError:
        # Limits are the defaults then.
        values = {}
    found = [
        each
        for command in _COMMANDS
        for each in master_cf.entries(services, command, _PROGRAM)
    ]
    if not found:
        text = f"no entry runs {_PROGRAM}"
        yield note(path, text, remedy="copy one from master.cf.example")
    read = [_read(each) for each in found]
    for each in read:
        try:
            yield from _entry(each, services, values, postconf)
        except ConfigError as problem:
            service = each.entry.service
            consequence = f"{service.command}(8), or lmtp(8), does not start"
            remedy = "correct it in main.cf (postconf(5))"
            yield error(entry.about(service), problem.problem, consequence, remedy)
    for engine, users in _engines(read, values).items():
        from postfix_trouble.check.engine_inspection import compared

        yield from compared(engine, users, postconf)


class _Read(Value):
    """An entry, and its command line as the program reads it."""

    entry: PipeEntry
    line: options.CommandLine
    settings: Settings | None
    # trouble_deadline
    deadline: float = 900.0
    # Why the command line, or a setting on it, can't be used.
    problem: str = ""


def _read(each: PipeEntry) -> _Read:
    line, settings = options.CommandLine(), None
    try:
        line = _line(each)
        settings = _settings(line)
        return _Read(each, line, settings, settings.seconds("trouble_deadline"))
    except (ConfigError, options.UsageError) as problem:
        return _Read(each, line, settings, problem=str(problem))


def _entry(
    read: _Read, services: list[Service], values: Mapping[str, str], postconf: str
) -> Iterator[Finding]:
    """One entry. Raises ConfigError for limits of Postfix that can't be read."""
    each, given, settings, deadline, problem = read
    lists = {name: " ".join(words) for name, words in given.lists.items()}
    line = Line({**given.values, **lists}, tuple(given.recipients), problem)
    spawn = each.service.command == "spawn"
    name = each.service.name
    known = _overridden(values, each.overrides)
    now = entry.Circumstances(
        _seconds(known, f"{name}_time_limit", "$command_time_limit"),
        _recipient_limit(values, name),
        min(DEADLINE, deadline) if spawn else deadline,
        settings.text("trouble_state_directory") if settings else "",
        _chroot_default(values),
        settings.text("relayhost") if settings else "",
        postconf,
    )
    clients = tuple(_clients(services, values)) if spawn else ()
    yield from entry.judge(each, line, now, clients)
    if settings and not settings.text("trouble_log_file"):
        yield from _syslog(each, postconf)
    if not line.problem:
        before = master_cf.place(each, _PROGRAM) or 0
        wanted = run_as.Wanted(
            each.argv[: before + 1], _own_arguments(given), now.state_directory
        )
        yield from run_as.look(each, values, wanted)


def _syslog(each: PipeEntry, postconf: str) -> Iterator[Finding]:
    """Postfix's maillog_file is for its own programs."""
    if not os.path.exists(SYSLOG):
        path = "/var/log/postfix-trouble.log"
        yield warning(
            "syslog",
            f"{SYSLOG} does not exist, and trouble_log_file is empty",
            "the program's records are lost (which server, what it said)",
            f"install -o {each.user} -m 640 /dev/null {path};"
            f" {postconf} -e 'trouble_log_file = {path}'",
        )


def _engines(
    found: list[_Read], values: Mapping[str, str]
) -> dict[str, list[engine_limits.User]]:
    """Engines by their sockets, and the entries that use them."""
    engines: dict[str, list[engine_limits.User]] = {}
    for each, line, _, deadline, problem in found:
        path, service = line.value("--engine"), each.service
        if problem or not path:
            continue
        limit, known = service.process_limit, _overridden(values, each.overrides)
        try:
            if not limit.isdigit():
                limit = _value(values, "default_process_limit", "100")
            processes = to_integer("default_process_limit", limit, _NUMBER)
            seconds = _seconds(
                known, f"{service.name}_time_limit", "$command_time_limit"
            )
        except ConfigError:
            # The look at the entry has said so.
            continue
        user = engine_limits.User(service, processes, seconds, deadline)
        engines.setdefault(path, []).append(user)
    return engines


# --- the command line ---------------------------------------------------------------


def _line(each: PipeEntry) -> options.CommandLine:
    """The command line as the program would read it, macros and all.

    Raises UsageError.
    """
    before = master_cf.place(each, _PROGRAM) or 0
    command, *rest = each.argv[before + 1 :] or ("",)
    by = each.service.command
    if command != _COMMANDS[by]:
        shown = f"{_PROGRAM} {command or 'without a command'}"
        raise options.UsageError(f"argv runs {shown}, not {_COMMANDS[by]}")
    line = options.read(rest, _OPTIONS[by])
    if by == "spawn" and (line.switch("--listen") or line.recipients):
        where = "--listen" if line.switch("--listen") else line.recipients[0]
        raise options.UsageError(f"{where}: spawn(8) has the connection already")
    return line


def _settings(line: options.CommandLine) -> Settings:
    """The program's settings under an entry. Raises ConfigError, UsageError."""
    path = line.value("--config")
    values: dict[str, str] = {}
    if path and os.access(path, os.R_OK):
        # What the account can't read is another finding.
        values = read_config(path)[0]
    overrides = _overrides(line)
    lmtp = line.switch("--lmtp")
    return make_settings(values, config=path, overrides=overrides, lmtp=lmtp)


def _overrides(line: options.CommandLine) -> dict[str, str]:
    """The settings on the command line. Raises UsageError."""
    given = {name: line.value(option) for option, name in _NAMED if line.switch(option)}
    return {**line.pairs("-o"), **given}


def _own_arguments(line: options.CommandLine) -> list[str]:
    """The options of `check` that make it see what the entry sees."""
    # Without a file it is none, and not Postfix's.
    found = ["--config", line.value("--config")]
    for name, text in _overrides(line).items():
        found += ["-o", f"{name}={text}"]
    if line.switch("--engine"):
        found += ["--engine", line.value("--engine")]
    return [*found, *(["--lmtp"] if line.switch("--lmtp") else [])]


# --- what main.cf says about the transport -------------------------------------------


def _clients(
    services: list[Service], values: Mapping[str, str]
) -> Iterator[entry.Client]:
    """The entries of lmtp(8), without the one that every Postfix has, if there are
    others."""
    found = [service for service in services if service.command == "lmtp"]
    for service in [each for each in found if each.name != "lmtp"] or found:
        # pipe(8)'s -o are read in the same way.
        known = _overridden(values, master_cf.pipe_entry(service).overrides)
        yield entry.Client(
            service,
            _seconds(known, "lmtp_data_done_timeout", "600s"),
            _seconds(known, "lmtp_connection_reuse_time_limit", "300s"),
            _recipient_limit(values, service.name),
        )


def _recipient_limit(values: Mapping[str, str], name: str) -> int:
    limit = f"{name}_destination_recipient_limit"
    default = "$default_destination_recipient_limit"
    return to_integer(limit, _value(values, limit, default), _NUMBER)


def _seconds(values: Mapping[str, str], name: str, default: str) -> float:
    return to_seconds(name, _value(values, name, default), _TIME)


def _overridden(values: Mapping[str, str], pairs: Iterable[str]) -> dict[str, str]:
    """Postfix's settings with those that `-o` in an entry has in their place."""
    own = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return {**values, **{key.strip(): value.strip() for key, value in own.items()}}


def _value(values: Mapping[str, str], name: str, default: str) -> str:
    """A parameter of Postfix that is not in our table, expanded. Raises ConfigError."""

    def raw(key: str) -> str | None:
        row = TABLE.get(key)
        return values.get(key, row.default if row else None)

    try:
        return expand(values.get(name, default), raw)
    except ExpansionError as problem:
        raise ConfigError(name, f"parameter {name}: {problem}") from None


def _chroot_default(values: Mapping[str, str]) -> bool:
    """What `-` in the column chroot means. `values`: Postfix's, empty if unknown."""
    known = {"compatibility_level": "0", **values}
    level = "${{$compatibility_level} <level {1} ? {y} : {n}}"
    return bool(values) and _value(known, "", level) == "y"
