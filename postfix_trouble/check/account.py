"""What an account may do with files, by their owners and modes, and the command that
gives it what it lacks. What access lists say beyond that is not seen."""

from __future__ import annotations

import grp
import os
import re
import shlex
import stat

from postfix_trouble.check.findings import Finding, error
from postfix_trouble.core.value import Value
from postfix_trouble.state.database import account as user

READ, WRITE, ENTER = 4, 2, 1
_PATH = re.compile(r"/[^\s:,;\"'{}]+")
UNUSED = "requests with several recipients are deferred, dead servers tried each time"


class Account(Value):
    """Whom pipe(8) becomes: one user, one group, no others."""

    name: str
    uid: int
    gid: int


def current() -> Account:
    """Who we are."""
    return Account(user(os.geteuid()), os.geteuid(), os.getegid())


def _group(gid: int) -> str:
    """The name of a group, the number if there is none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def to_make(name: str, home: str) -> str:
    """The command that makes an account that nobody can log in to."""
    home = home or "/var/lib/postfix-trouble"
    return f"adduser --system --group --no-create-home --home {home} {name}"


def refusing(path: str, who: Account, mode: int) -> str:
    """What is in the way of using a file: it, or a directory above it; empty if nothing
    is. `mode`: READ, WRITE, ENTER, or several of them."""
    path = os.path.realpath(path)
    parent = os.path.dirname(path)
    if parent != path and (above := refusing(parent, who, ENTER)):
        return above
    try:
        found = os.stat(path)
    except OSError:
        return path
    shift = 0
    if found.st_uid == who.uid:
        shift = 6
    elif found.st_gid == who.gid:
        shift = 3
    allowed = who.uid == 0 or found.st_mode >> shift & mode == mode
    return "" if allowed else path


def denied(
    about: str, path: str, who: Account, consequence: str, mode: int = READ
) -> Finding | None:
    """A file that an account may not use, whose it is, and the command that helps."""
    at = refusing(path, who, mode)
    if not at:
        return None
    where = "" if at == path else f"{path} can't be used: "
    if not os.path.exists(at):
        remedy = "correct the path, or make the file"
        return error(about, f"{where}{at} does not exist", consequence, remedy)
    problem = f"{where}{at} {whose(at)}, closed to {who.name}"
    return error(about, problem, consequence, _to_open(path, at, who))


def _to_open(path: str, at: str, who: Account) -> str:
    quoted = shlex.quote(at)
    if at != os.path.realpath(path):
        return f"chmod a+x {quoted}"
    more = "rx" if os.path.isdir(at) or os.access(at, os.X_OK) else "r"
    if os.stat(at).st_uid == who.uid:
        return f"chmod u+{more} {quoted}"
    return f"chgrp {_group(who.gid)} {quoted}; chmod g+{more} {quoted}"


def to_read(text: str) -> str:
    """The command that lets us read a file that a text names; empty if we can."""
    who = current()
    for path in _PATH.findall(text):
        at = refusing(path, who, READ)
        if at and os.path.exists(at):
            return _to_open(path, at, who)
    return ""


def whose(path: str) -> str:
    """Owner, group and mode in words."""
    found = os.stat(path)
    mode = stat.S_IMODE(found.st_mode)
    return f"is {user(found.st_uid)}:{_group(found.st_gid)}'s, mode {mode:04o}"


def state_directory(about: str, path: str, who: Account) -> Finding | None:
    """What keeps an account from using a state directory, that may not exist yet."""
    quoted, name = shlex.quote(path), who.name
    problem, remedy = "", f"install -d -o {name} -g {_group(who.gid)} -m 700 {quoted}"
    if not os.path.lexists(path):
        parent = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(parent):
            problem = f"can't be made: {parent} does not exist"
        elif refusing(parent, who, WRITE | ENTER):
            problem = f"does not exist, and {name} can't make it"
    elif not os.path.isdir(path) or os.path.islink(path):
        problem = "is not a directory"
        remedy = f"mv {quoted} {quoted}.old; {remedy}"
    elif (found := os.stat(path)).st_uid != who.uid:
        some = "-R " if _others_files(path, who) else ""
        problem, remedy = f"{whose(path)}, not {name}'s", f"chown {some}{name} {quoted}"
    elif refused := denied(about, path, who, UNUSED, ENTER):
        return refused
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"is writable for others than {name}"
        remedy = f"chmod go-w {quoted}"
    elif other := _others_files(path, who):
        problem = f"has {other}, not {name}'s"
        remedy = f"chown -R {name} {quoted}"
    return error(about, f"{path} {problem}", UNUSED, remedy) if problem else None


def _others_files(path: str, who: Account) -> str:
    """A file in it that belongs to another account; empty if there is none."""
    try:
        for name in os.listdir(path):
            each = os.path.join(path, name)
            if os.lstat(each).st_uid != who.uid:
                return f"{name}, which {whose(each)}"
    except OSError:
        pass  # Not readable: that is another finding.
    return ""
