"""Whether an engine can do what the entries in master.cf that use it hand over.

Each pipe(8) process hands over one message, and waits. What the engine does not deliver
at once waits there, as part of the time that pipe(8) gives the program.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterator

from postfix_trouble.check.entry import MARGIN, about
from postfix_trouble.check.findings import Finding, error, fine, warning
from postfix_trouble.config.master_cf import Service
from postfix_trouble.core.value import Value


class User(Value):
    """An entry that uses an engine."""

    service: Service
    # Its process limit; 0: none.
    processes: int
    # <name>_time_limit and trouble_deadline, seconds.
    time_limit: float
    deadline: float


class Engine(Value):
    """What an engine says of itself."""

    path: str
    # That a request may take, and that it may wait for a free delivery.
    seconds: float
    patience: float
    deliveries: int


def judge(engine: Engine, users: list[User], postconf: str) -> Iterator[Finding]:
    """Compare the limits of an engine with those of all entries that use it.

    `postconf`: the command for changes.
    """
    found = [*_processes(engine, users, postconf), *_time(engine, users, postconf)]
    yield from found
    if not found:
        text = f"the engine at {engine.path} delivers {engine.deliveries} at once"
        yield fine(names(users), text)


def names(users: list[User]) -> str:
    """How entries are named."""
    return "; ".join(about(user.service) for user in users)


def _processes(engine: Engine, users: list[User], postconf: str) -> Iterator[Finding]:
    processes = sum(user.processes for user in users)
    unlimited = not all(user.processes for user in users)
    if not unlimited and processes <= engine.deliveries:
        return
    share = max(1, engine.deliveries // len(users))
    edits = " ".join(
        f"{user.service.name}/{user.service.kind}/process_limit={share}"
        for user in users
    )
    remedy = f"{postconf} -F {edits}; {_reload(postconf)}"
    if not unlimited:
        remedy += f" (or give the engine --deliveries {processes})"
    yield warning(
        names(users),
        f"{'any number of' if unlimited else processes} pipe(8) processes hand mail to"
        f" the engine at {engine.path}, which delivers {engine.deliveries} at once",
        f"the others wait, and after {engine.patience:g}s are deferred (4.3.2)",
        remedy,
    )


def _time(engine: Engine, users: list[User], postconf: str) -> Iterator[Finding]:
    for user in users:
        longest = min(engine.seconds, engine.patience + user.deadline)
        if longest + MARGIN <= user.time_limit:
            continue
        limit = f"{user.service.name}_time_limit"
        yield error(
            about(user.service),
            f"the engine may take {longest:g}s, {engine.patience:g}s of waiting"
            f" included, and pipe(8) waits {user.time_limit:g}s",
            "pipe(8) kills the client, and BOUNCES mail that may be delivered",
            f"{postconf} -e '{limit} = {longest + 100:g}s'; {_reload(postconf)}",
        )


def _reload(postconf: str) -> str:
    """For the same files as postconf(1)."""
    return f"postfix{postconf.removeprefix('postconf')} reload"
