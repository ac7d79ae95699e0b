"""Whether the account that pipe(8) or spawn(8) becomes can do what it has to.

As root it is tried: the program is run as that account, with the environment that
pipe(8) gives it, and checks itself. As anybody else it is worked out from the owners
and modes of files.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from postfix_trouble.check import account as accounts
from postfix_trouble.check.account import Account
from postfix_trouble.check.entry import DEFERRED, about
from postfix_trouble.check.findings import Finding, Severity, error, fine, note
from postfix_trouble.config.master_cf import PipeEntry
from postfix_trouble.core.value import Value

_RUN = accounts.READ | accounts.ENTER
# Seconds for a run of the program.
_PATIENCE = 60
# Where it may be; as `make install`, pipx and Debian's package have it.
_PLACES = "/usr/local/bin:/usr/bin:/opt/postfix-trouble/bin"


class Wanted(Value):
    """What the account has to be able to do."""

    # The program, and what stands before it in argv.
    program: tuple[str, ...]
    # Options of `postfix-trouble check`, to see what the entry sees.
    arguments: list[str]
    state_directory: str


def look(
    entry: PipeEntry, values: Mapping[str, str], wanted: Wanted
) -> Iterator[Finding]:
    """Check an entry as its account. `values`: Postfix's main.cf."""
    name, directory = about(entry.service), entry.directory
    account = _account(entry, values, wanted.state_directory)
    if isinstance(account, Finding):
        yield account
        return
    if directory:
        consequence = f"pipe(8) can't go there: {DEFERRED}"
        enter = accounts.ENTER
        if refused := accounts.denied(name, directory, account, consequence, enter):
            yield refused
            return
    missing = next((w for w in wanted.program if _is_missing(w)), "")
    if missing:
        found = shutil.which("postfix-trouble", path=f"{os.environ['PATH']}:{_PLACES}")
        remedy = f"write {os.path.abspath(found)} there" if found else "make install"
        yield error(name, f"argv={missing} does not exist", DEFERRED, remedy)
    elif os.geteuid() == 0:
        yield from _tried(entry, values, account, wanted)
    else:
        yield from _worked_out(name, account, wanted)


def _is_missing(word: str) -> bool:
    """Whether it is the path of a program that does not exist."""
    return word.startswith("/") and not os.path.exists(word)


def _account(
    entry: PipeEntry, values: Mapping[str, str], home: str
) -> Account | Finding:
    """The account, or why pipe(8) will not become it (get_service_attr)."""

    def refused(problem: str, remedy: str) -> Finding:
        fatal = f"{entry.service.command}(8) does not start: {DEFERRED}"
        return error(about(entry.service), problem, fatal, remedy)

    other = "write user=nobody, or an account of its own"
    try:
        user = pwd.getpwnam(entry.user)
    except KeyError:
        if not entry.user:
            # Said already.
            return note(about(entry.service), "no account, so it was not tried")
        problem = f"there is no user {entry.user}"
        return refused(problem, accounts.to_make(entry.user, home))
    gid = user.pw_gid
    if entry.group:
        try:
            gid = grp.getgrnam(entry.group).gr_gid
        except KeyError:
            problem = f"there is no group {entry.group}"
            return refused(problem, f"addgroup --system {entry.group}")
    if user.pw_uid == 0 or gid == 0:
        return refused("user= has root privileges", other)
    owner = values.get("mail_owner", "postfix")
    setgid = values.get("setgid_group", "postdrop")
    taken = {*_ids(pwd.getpwnam, owner, 2), *_ids(pwd.getpwnam, owner, 3)}
    if user.pw_uid in taken or gid in {*taken, *_ids(grp.getgrnam, setgid, 2)}:
        return refused("user= is an account of Postfix itself", other)
    return accounts.Account(entry.user, user.pw_uid, gid)


def _ids(find: Any, name: str, place: int) -> set[int]:
    try:
        return {find(name)[place]}
    except KeyError:
        return set()


# --- as root: trying ----------------------------------------------------------------


def _tried(
    entry: PipeEntry, values: Mapping[str, str], account: Account, wanted: Wanted
) -> Iterator[Finding]:
    program = [*wanted.program]
    name = about(entry.service)
    queue = values.get("queue_directory", "/var/spool/postfix")
    directory = entry.directory or queue
    if not os.path.isdir(directory):
        directory = "/"
    done = _run([*program, "--version"], account, directory)
    code, output = done if isinstance(done, tuple) else (None, done)
    if code != 0 or not output.startswith("postfix-trouble "):
        shown = " ".join(program)
        how = "" if code is None else f"ends with {code}: "
        yield accounts.denied(name, program[-1], account, DEFERRED, _RUN) or error(
            name,
            f"{shown}, as {account.name}: {how}{output[:200] or 'no output'}",
            DEFERRED,
            f"make interpreter and library readable for {account.name}: none of them"
            " below a home directory (make install, as root)",
        )
        return
    yield fine(name, f"the program runs as {account.name} ({output.strip()})")
    more = [*program, "check", "--json", "--no-dns", *wanted.arguments]
    yield from _reported(name, account.name, more, _run(more, account, directory))


def _run(argv: list[str], account: Account, directory: str) -> tuple[int, str] | str:
    """Run something as pipe(8) would; exit code and output, or what went wrong."""
    import subprocess

    environ = {"PATH": os.confstr("CS_PATH") or "/usr/bin:/bin", "LANG": "C"}
    if config := os.environ.get("MAIL_CONFIG"):
        environ["MAIL_CONFIG"] = config
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environ,
            cwd=directory,
            user=account.uid,
            group=account.gid,
            extra_groups=[account.gid],
            umask=0o077,
            start_new_session=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer for {_PATIENCE} seconds"
    except OSError as problem:
        return problem.strerror or "can't be run"
    output = done.stdout or done.stderr
    return done.returncode, output.decode("utf-8", "replace")


def _reported(
    name: str, account: str, argv: list[str], done: tuple[int, str] | str
) -> Iterator[Finding]:
    """The findings of the program about itself, but for what is fine."""
    import json
    import shlex

    try:
        assert not isinstance(done, str)
        found = json.loads(done[1])["findings"]
    except (AssertionError, ValueError, KeyError, TypeError):
        text = done if isinstance(done, str) else f"exit {done[0]}: {done[1][:200]}"
        yield error(
            name,
            f"the self-check could not run as {account}: {text}",
            "it is not known what happens to mail",
            f"setpriv --reuid={account} --clear-groups {shlex.join(argv)}",
        )
        return
    bad = [each for each in found if each["severity"] in ("error", "warning")]
    for each in bad:
        severity = Severity(each.pop("severity"))
        yield Finding(severity, **each, seen_by=f"{name}, as {account}")
    if not bad:
        yield fine(name, "configuration, tables and state directory are usable")


# --- as anybody else: working it out ------------------------------------------------


def _worked_out(name: str, account: Account, wanted: Wanted) -> Iterator[Finding]:
    """By owners and modes."""
    yield note(name, f"run check as root to try the program as {account.name}")
    found = [accounts.denied(name, wanted.program[-1], account, DEFERRED, _RUN)]
    for option, path in pairwise(wanted.arguments):
        if option == "--config" and path:
            found.append(accounts.denied(name, path, account, DEFERRED))
    if wanted.state_directory:
        found.append(accounts.state_directory(name, wanted.state_directory, account))
    yield from filter(None, found)
