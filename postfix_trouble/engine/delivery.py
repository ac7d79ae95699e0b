"""What the engine's workers do: a request of `deliver`, delivered and answered.

Requests with the same options, and the same main.cf behind them, share a delivery
service: connections that stay open, destinations that are throttled, the state
directory.
"""

from __future__ import annotations

import os
import threading
from io import BytesIO
from typing import IO, TYPE_CHECKING

from postfix_trouble.client.connection_cache import Connections
from postfix_trouble.client.service import Service
from postfix_trouble.core.file_stamp import file_stamp
from postfix_trouble.engine.request import RequestDeadline, nothing_known
from postfix_trouble.message.message import Message
from postfix_trouble.pipe import command, options
from postfix_trouble.pipe.deadline import Settled
from postfix_trouble.pipe.deliver import Call, Entry
from postfix_trouble.report import pipe8
from postfix_trouble.report.maillog import MailLog

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from postfix_trouble.engine.metrics import Metrics
    from postfix_trouble.pipe.options import CommandLine

# Sets of options whose services are kept; master.cf has few entries.
_MOST = 100
# Options whose value is a path, and those that make a service what it is.
_PATHS = ("--config", "--state-directory", "--log-file")
_SHARED = (*_PATHS, "--lmtp")


class Services:
    """The delivery services of an engine, by the options of requests."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        """`metrics` is told what is logged, and of connections."""
        self._metrics = metrics
        self._lock = threading.Lock()
        # The youngest last.
        self._known: dict[Hashable, Entry] = {}

    def deliver(
        self, arguments: list[str], file: IO[bytes], deadline: RequestDeadline
    ) -> None:
        """Deliver a request, and answer it by its deadline."""
        try:
            line = options.read(arguments)
            _absolute(line)
        except options.UsageError as problem:
            text = f"command line usage error: {problem}"
            end = pipe8.deferred("4.3.5", text)
            deadline.answer(end.code, end.output)
            return
        message = _message(file)
        call = Call(line, deadline, self.entry, message)
        deadline.conclude = lambda: _concluded(call)
        try:
            end = call.run()
            deadline.answer(end.code, call.text(end))
        finally:
            # A circle: the call has the deadline, which would keep it, and the message.
            deadline.conclude = nothing_known
            message.close()

    def entry(self, line: CommandLine) -> Entry:
        """The log and the service for the options of a request. Raises ConfigError,
        UsageError."""
        key = _key(line)
        with self._lock:
            found = self._known.pop(key, None)
            if found is not None:
                self._known[key] = found
                return found
        settings = command.read_settings(line)
        log = MailLog.of(settings, line.value("--log-file"))
        write: Callable[[str], None] = log.write
        metrics, connections = self._metrics, Connections(settings)
        if metrics is not None:
            connections = Connections(settings, metrics.happened)
            write = _both(log.write, metrics.logged)
        service = Service(
            settings,
            write,
            connections=connections,
            # As in a process for each mail: the queue manager does it, unless somebody
            # asks for more.
            throttles=settings.given("trouble_destination_retry_time"),
        )
        made = Entry(log, service)
        with self._lock:
            # Another worker may have been faster.
            entry = self._known.setdefault(key, made)
            old = [*self._known][: max(0, len(self._known) - _MOST)]
            gone = [self._known.pop(each) for each in old]
        for each in gone:
            # Whoever still delivers by it goes on; what it kept open is closed.
            each.service.close()
        return entry

    def suspended(self) -> int:
        """Destinations in trouble that are left alone now."""
        with self._lock:
            known = [*self._known.values()]
        return sum(each.service.suspended() for each in known)

    def forget(self) -> None:
        """Read everything anew (SIGHUP), or leave: close what stayed open."""
        with self._lock:
            gone, self._known = [*self._known.values()], {}
        for each in gone:
            each.service.close()


def _both(
    first: Callable[[str], None], second: Callable[[str], None]
) -> Callable[[str], None]:
    def write(text: str) -> None:
        first(text)
        second(text)

    return write


def _concluded(call: Call) -> tuple[int, bytes]:
    """The answer of a request all of whose recipients have the message."""
    end = call.after(Settled())
    return end.code, call.text(end)


def _absolute(line: CommandLine) -> None:
    """Refuse paths that mean something else here than for the client. Raises
    UsageError."""
    for name in _PATHS:
        path = line.value(name)
        if path and not os.path.isabs(path):
            raise options.UsageError(f"{name} {path}: not an absolute path")


def _key(line: CommandLine) -> Hashable:
    """Requests with the same key have the same settings. Raises nothing."""
    shared = tuple((name, line.value(name)) for name in _SHARED if line.switch(name))
    config = line.value("--config")
    return shared, tuple(line.lists.get("-o", ())), config and file_stamp(config)


def _message(file: IO[bytes]) -> Message:
    """The message, which is in memory unless it is large. Raises OSError."""
    if isinstance(file, BytesIO):
        return Message.from_bytes(file.getvalue())
    return Message([], os.dup(file.fileno()))
