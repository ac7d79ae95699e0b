"""`postfix-trouble check`: is everything as it should be?"""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from postfix_trouble.check import account, configuration, inspection
from postfix_trouble.check.configuration import ParameterRow, effective
from postfix_trouble.check.findings import (
    Finding,
    Severity,
    as_dict,
    error,
    exit_code,
    fine,
    note,
    once,
    summary,
    text_lines,
)
from postfix_trouble.config.settings import ConfigError, Settings
from postfix_trouble.core.sysexits import EX_CONFIG, EX_OK
from postfix_trouble.terminal import screen
from postfix_trouble.terminal.help_text import ExplainedCommand, override_option
from postfix_trouble.terminal.parameters import make_settings, overriding, read_config

# What can't be read is a finding.
_ANY = click.Path(readable=False)
_DEFAULT = "/etc/postfix"
EXAMPLES = [
    ("Everything; best as root, so that it is tried as the account in master.cf",
     "postfix-trouble check"),
    ("In a script", "postfix-trouble check -q || exit"),
    ("What is in force", "postfix-trouble check --show"),
    ("Another instance",
     "postfix-trouble check --config /etc/postfix-out/main.cf"
     " --master-cf /etc/postfix-out/master.cf"),
]  # fmt: skip


@click.command("check", cls=ExplainedCommand, examples=EXAMPLES)
@click.option(
    "--config",
    metavar="FILE",
    type=_ANY,
    help="Read parameters from this main.cf. Without this option and -o, --master-cf"
    " and --state-directory: main.cf and master.cf of Postfix's own config_directory.",
)
@override_option
@click.option("--lmtp", is_flag=True, help="The lmtp_ parameters are those that count.")
@click.option(
    "--master-cf",
    metavar="FILE",
    type=_ANY,
    help="Look at the entries that run this program. Limits come from the main.cf "
    "beside it.",
)
@click.option(
    "--state-directory",
    metavar="DIR",
    type=click.Path(file_okay=False, readable=False),
    help="Look into it.",
)
@click.option(
    "--engine",
    metavar="PATH",
    help="See whether the engine at this socket answers this account.",
)
@click.option("--no-dns", is_flag=True, help="Ask no name server.")
@click.option("--show", is_flag=True, help="Print all parameters that are in force.")
@click.option("--show-changed", is_flag=True, help="Those that are not as by default.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    config: str | None,
    overrides: tuple[str, ...],
    lmtp: bool,
    master_cf: str | None,
    state_directory: str | None,
    engine: str | None,
    no_dns: bool,
    show: bool,
    show_changed: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Check the configuration, the entries in master.cf, tables, secrets, the state
    directory, the engine, name servers and sendmail(1). For each problem it says what
    happens to mail, and how to fix it.

    Exit status: 0, or 78 if there is an error.
    """
    chosen = overriding(overrides)
    without = ""
    if state_directory:
        chosen["trouble_state_directory"] = state_directory
    if config is None and not (chosen or master_cf):
        directory = _config_directory()
        config = _existing(os.path.join(directory, "main.cf"))
        without = "" if config else directory
        if not (show or show_changed):
            master_cf = _existing(os.path.join(directory, "master.cf"))
    try:
        values, warnings = read_config(config) if config else ({}, [])
        settings = make_settings(values, config=config, overrides=chosen, lmtp=lmtp)
    except ConfigError as problem:
        values, settings, unusable = {}, None, _unusable(config, problem)
        warnings = []
    if show or show_changed:
        if settings is None:
            screen.complain(f"postfix-trouble check: {unusable.problem}")
            return EX_CONFIG
        return _show(settings, changed_only=not show, as_json=as_json)
    if settings is None:
        found = [unusable]
    else:
        given = {*values, *chosen}
        # Of a look at master.cf alone only the name servers are part.
        found = (
            list(_configured(settings, given, warnings, config, lmtp))
            if given or not master_cf
            else []
        )
        found += [] if no_dns else inspection.answered(settings)
    found += _outside(engine, master_cf)
    if without and not master_cf:
        found.append(note(without, "no main.cf there: only defaults were checked"))
    elif not (master_cf or as_json):
        found.append(note("master.cf", "not looked at (--master-cf FILE)"))
    found = once(found)
    _print(found, quiet, as_json)
    return exit_code(found)


def _config_directory() -> str:
    """Postfix's own: that of $MAIL_CONFIG, or what postconf(1) says."""
    import shutil
    import subprocess

    if named := os.environ.get("MAIL_CONFIG"):
        return named
    postconf = shutil.which("postconf", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not postconf:
        return _DEFAULT
    asked = [postconf, "-d", "-h", "config_directory"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or _DEFAULT


def _outside(engine: str | None, master_cf: str | None) -> Iterator[Finding]:
    """What others are to us: the engine, and Postfix."""
    if engine:
        from postfix_trouble.check.engine_inspection import answered

        yield from answered(engine)
    if master_cf:
        from postfix_trouble.check.entries import look

        path = os.path.abspath(master_cf)
        yield from look(path, _postconf(os.path.dirname(path)))


def _existing(path: str) -> str | None:
    return path if os.path.lexists(path) else None


def _postconf(directory: str) -> str:
    """The command that changes the files of a directory."""
    own = os.environ.get("MAIL_CONFIG", _DEFAULT)
    return "postconf" if directory == own else f"postconf -c {directory}"


def _unusable(config: str | None, problem: ConfigError) -> Finding:
    deferred = "all mail is deferred (4.3.5)"
    refused = None
    if config and not problem.parameter:
        refused = account.denied(config, config, account.current(), deferred)
    about = problem.parameter or config or "configuration"
    remedy = "correct it, or take it out"
    return refused or error(about, problem.problem, deferred, remedy)


def _configured(
    settings: Settings,
    given: set[str],
    warnings: list[str],
    config: str | None,
    lmtp: bool,
) -> Iterator[Finding]:
    found = list(configuration.judge(settings, sorted(given), warnings, lmtp=lmtp))
    yield from found
    bad = any(f.severity in (Severity.ERROR, Severity.WARNING) for f in found)
    if not bad:
        yield fine(config or "configuration", f"{len(given)} parameters are set")
    yield from inspection.inspect(settings, lmtp)


def _print(found: list[Finding], quiet: bool, as_json: bool) -> None:
    if as_json:
        screen.write_json(as_dict(found))
        return
    shown = [
        finding
        for finding in found
        if not quiet or finding.severity in (Severity.ERROR, Severity.WARNING)
    ]
    lines = list(text_lines(shown, screen.line_width(), screen.painter()))
    if not quiet:
        lines.append(summary(found))
    screen.write_lines(lines)


def _show(settings: Settings, *, changed_only: bool, as_json: bool) -> int:
    """Print parameters as postconf(1) does, with the default where that differs."""
    rows = [row for row in effective(settings) if row.differs or not changed_only]
    if as_json:
        shown = {"version": 1, "parameters": [row._asdict() for row in rows]}
        screen.write_json(shown)
        return EX_OK
    paint = screen.painter()
    lines = []
    for row in rows:
        if row.differs:
            lines.append(paint("cyan", f"# default: {row.default}".rstrip()))
        lines += [paint("yellow", f"# {text}") for text in _remarks(row)]
        line = f"{row.name} = {row.given if row.problem else row.value}".rstrip()
        lines.append(paint("bold" if row.differs else "", line))
    screen.write_lines(lines)
    return EX_OK


def _remarks(row: ParameterRow) -> list[str]:
    said = [row.problem] if row.problem else []
    if row.unsupported and row.differs:
        said.append(f"not supported: {row.unsupported}")
    return said
