"""Looking at engines: do they answer this account, and are their limits right?"""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Iterator

from postfix_trouble.check import engine_limits
from postfix_trouble.check.findings import Finding, fine, note, warning
from postfix_trouble.engine import client, protocol

_UNIT = "postfix-trouble-engine"
_ABSENT = (os.strerror(errno.ENOENT), os.strerror(errno.ECONNREFUSED))
_OTHERS = (os.strerror(errno.EACCES), client.OTHER_ACCOUNT)


def answered(path: str) -> Iterator[Finding]:
    """Be greeted by an engine, as `deliver` of this account is."""
    try:
        _, deliveries = client.look(path)
    except client.NoEngine as problem:
        yield warning(
            path,
            f"no engine: {problem}",
            "one process a mail, and a warning in the log once a minute",
            _remedy(path, str(problem)),
        )
    else:
        yield fine(path, f"the engine answers: {deliveries} deliveries at once")


def _remedy(path: str, why: str) -> str:
    account = pwd.getpwuid(os.geteuid()).pw_name
    run = f"runuser -u {account} -- postfix-trouble serve --listen unix:{path}"
    if why in _ABSENT:
        return f"systemctl start {_UNIT}, or {run}"
    if why in _OTHERS:
        return f"run it as this account: User={account} in its unit, or {run}"
    return f"systemctl restart {_UNIT}; it has to run as {account}"


def compared(
    path: str, users: list[engine_limits.User], postconf: str
) -> Iterator[Finding]:
    """Compare an engine with the entries that use it. `postconf`: for changes."""
    try:
        seconds, deliveries = client.look(path)
    except client.NoEngine as problem:
        # Root has tried it as the account.
        if os.geteuid():
            text = f"the engine at {path} can't be asked: {problem}"
            yield note(engine_limits.names(users), text, remedy="run this as root")
        return
    patience = seconds * protocol.PATIENCE
    engine = engine_limits.Engine(path, seconds, patience, deliveries)
    yield from engine_limits.judge(engine, users, postconf)
