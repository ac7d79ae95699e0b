"""Whether the account that pipe(8) or spawn(8) becomes can do what it has to.

As root it is tried: the program is run as that account, with the environment that
pipe(8) gives it, and checks itself. As anybody else it is worked out from the owners
and modes of files.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from postfix_trouble.check.findings import Finding, Severity, error, fine, note
from postfix_trouble.check.pipe_entry import about
from postfix_trouble.core.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from postfix_trouble.config.master_cf import PipeEntry

_DEFERRED = "all mail of this transport is deferred"
# Seconds for a run of the program.
_PATIENCE = 60


class Wanted(Value):
    """What the account has to be able to do."""

    # The program, and what stands before it in argv.
    program: tuple[str, ...]
    # Options of `postfix-trouble check`, to see what the entry sees.
    arguments: list[str]
    state_directory: str


class Account(Value):
    """Whom pipe(8) becomes: one user, one group, no others."""

    name: str
    uid: int
    gid: int


def look(
    entry: PipeEntry,
    values: Mapping[str, str],
    wanted: Wanted,
) -> Iterator[Finding]:
    """Check an entry as its account. `values`: Postfix's main.cf."""
    account = _account(entry, values)
    if isinstance(account, Finding):
        yield account
        return
    if entry.directory and not os.path.isdir(entry.directory):
        yield error(
            about(entry),
            f"directory={entry.directory} is not there",
            f"pipe(8) can't go there: {_DEFERRED}",
            "make it, or take directory= out",
        )
        return
    if entry.directory and not permitted(entry.directory, account, 1):
        yield error(
            about(entry),
            f"directory={entry.directory} is closed to {account.name}",
            f"pipe(8) can't go there: {_DEFERRED}",
            f"make it accessible for {account.name}, or take directory= out",
        )
        return
    if os.geteuid() == 0:
        yield from _tried(entry, values, account, wanted)
        return
    yield note(about(entry), f"run this as root to try it as {account.name}")
    needed = [(wanted.program[-1], 5)]
    for option, path in pairwise(wanted.arguments):
        needed += [(path, 4)] if option == "--config" else []
    for path, mode in needed:
        if not permitted(path, account, mode):
            yield _denied(entry, account, path)
    if wanted.state_directory:
        yield from _owned(entry, account, wanted.state_directory)


def _account(entry: PipeEntry, values: Mapping[str, str]) -> Account | Finding:
    """The account, or why pipe(8) will not become it (get_service_attr)."""

    def refused(problem: str, remedy: str) -> Finding:
        fatal = f"{entry.service.command}(8) does not start: {_DEFERRED}"
        return error(about(entry), problem, fatal, remedy)

    other = "take an account of its own, or nobody"
    try:
        user = pwd.getpwnam(entry.user)
    except KeyError:
        return refused(f"there is no user {entry.user}", f"adduser {entry.user}")
    gid = user.pw_gid
    if entry.group:
        try:
            gid = grp.getgrnam(entry.group).gr_gid
        except KeyError:
            return refused(f"there is no group {entry.group}", "name another")
    if user.pw_uid == 0 or gid == 0:
        return refused("user= has root privileges", other)
    owner = values.get("mail_owner", "postfix")
    setgid = values.get("setgid_group", "postdrop")
    taken = {*_ids(pwd.getpwnam, owner, 2), *_ids(pwd.getpwnam, owner, 3)}
    if user.pw_uid in taken or gid in {*taken, *_ids(grp.getgrnam, setgid, 2)}:
        return refused("user= is an account of Postfix itself", other)
    return Account(entry.user, user.pw_uid, gid)


def _ids(find: Any, name: str, place: int) -> set[int]:
    try:
        return {find(name)[place]}
    except KeyError:
        return set()


# --- as root: trying ----------------------------------------------------------------


def _tried(
    entry: PipeEntry,
    values: Mapping[str, str],
    account: Account,
    wanted: Wanted,
) -> Iterator[Finding]:
    program = [*wanted.program]
    name = f"{about(entry)}, as {account.name}"
    queue = values.get("queue_directory", "/var/spool/postfix")
    directory = entry.directory or queue
    if not os.path.isdir(directory):
        directory = "/"
    done = _run([*program, "--version"], account, directory)
    if isinstance(done, str):
        yield error(name, f"{program[0]}: {done}", _DEFERRED, _readable(account))
        return
    code, output = done
    if code != 0 or not output.startswith("postfix-trouble "):
        yield error(
            name,
            f"{' '.join(program)} ends with {code}: {output[:200] or 'no output'}",
            _DEFERRED,
            _readable(account),
        )
        return
    yield fine(name, f"the program runs ({output.strip()})")
    more = [*program, "check", "--json", "--no-dns", *wanted.arguments]
    yield from _reported(name, _run(more, account, directory))


def _readable(account: Account) -> str:
    return (
        f"the program, its interpreter and its library must be readable for"
        f" {account.name}: none of them below a home directory"
    )


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


def _reported(name: str, done: tuple[int, str] | str) -> Iterator[Finding]:
    """The findings of the program about itself, but for what is fine."""
    import json

    try:
        assert not isinstance(done, str)
        found = json.loads(done[1])["findings"]
    except (AssertionError, ValueError, KeyError, TypeError):
        text = done if isinstance(done, str) else f"exit {done[0]}: {done[1][:200]}"
        yield error(
            name, f"the self-check could not run: {text}", "not known", "run it by hand"
        )
        return
    shown = 0
    for each in found:
        if each["severity"] in ("error", "warning"):
            shown += 1
            severity = Severity(each.pop("severity"))
            where = f"{name}: {each.pop('about')}"
            yield Finding(severity, where, **each)
    if not shown:
        yield fine(name, "configuration, tables and state directory are usable")


# --- as anybody else: working it out ------------------------------------------------


def permitted(path: str, account: Account, mode: int) -> bool:
    """Whether the account may use a file: 4 read, 5 read and run. By owners and modes;
    what access lists say beyond that is not seen."""
    path = os.path.realpath(path)
    try:
        parent = os.path.dirname(path)
        if parent != path and not permitted(parent, account, 1):
            return False
        return _allows(os.stat(path), account, mode)
    except OSError:
        return False


def _allows(found: os.stat_result, account: Account, mode: int) -> bool:
    if found.st_uid == account.uid:
        return found.st_mode >> 6 & mode == mode
    if found.st_gid == account.gid:
        return found.st_mode >> 3 & mode == mode
    return found.st_mode & mode == mode


def _denied(entry: PipeEntry, account: Account, path: str) -> Finding:
    why = "can't be read" if os.path.exists(path) else "is not there"
    return error(
        about(entry),
        f"{path} {why} (by {account.name})",
        _DEFERRED,
        f"make it readable for {account.name}, and all directories above it",
    )


def _owned(entry: PipeEntry, account: Account, directory: str) -> Iterator[Finding]:
    remedy = f"install -d -o {account.name} -m 700 {directory}"
    consequence = "requests with several recipients are deferred"
    try:
        found = os.lstat(directory)
    except OSError as problem:
        parent = os.path.dirname(directory.rstrip("/"))
        if not permitted(parent, account, 3):
            text = f"{directory}: {problem.strerror}"
            yield error(about(entry), text, consequence, remedy)
        return
    if found.st_uid != account.uid:
        text = f"{directory} belongs to user {found.st_uid}, not to {account.name}"
        yield error(about(entry), text, consequence, remedy)
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"{directory} is writable for others than {account.name}"
        yield error(about(entry), text, consequence, f"chmod go-w {directory}")
