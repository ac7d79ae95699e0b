"""`postfix-trouble lmtp`: an LMTP server for lmtp(8).

lmtp(8) speaks to us, over a socket of ours or through spawn(8), and gets one reply for
each recipient: what pipe(8) can't pass on (different outcomes, NOTIFY, ENVID) comes
through here. Same engine, same policy; connections to next hops are kept as smtp(8)
keeps them, and destinations in trouble are remembered while we live.
"""

from __future__ import annotations

import errno
import io
import os
import sys

from postfix_trouble.config.settings import ConfigError
from postfix_trouble.core.sysexits import EX_CONFIG, EX_OK, EX_TEMPFAIL
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.lmtp import listener
from postfix_trouble.lmtp import processes as lmtp_processes
from postfix_trouble.lmtp import server as lmtp_server
from postfix_trouble.lmtp.delivery import LmtpClient, LmtpService
from postfix_trouble.lmtp.dialogue import DEFAULT_LIMITS
from postfix_trouble.pipe import command, options
from postfix_trouble.report.maillog import MailLog

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.pipe.options import CommandLine

# Clients that are served at once.
_MOST = 100


def run(argv: list[str]) -> int:
    """Serve as the arguments after `lmtp` say. Returns the exit code."""
    connection: socket.socket | None = None
    log = MailLog("postfix-trouble")
    try:
        listeners = listener.inherited(os.environ)
        if not listeners and not any(word.startswith("--listen") for word in argv):
            # Before anything can be written to descriptors 1 and 2.
            try:
                connection = listener.take_descriptor_0()
            except OSError:
                # A mistyped --listen is what a person wants to hear of.
                options.read(argv, options.LMTP_OPTIONS)
                raise
        line = options.read(argv, options.LMTP_OPTIONS)
        log = MailLog("postfix-trouble", line.value("--log-file"))
        settings = _settings(line)
        log = MailLog.of(settings, line.value("--log-file"))
        most = options.number(line, "--connections", _MOST)
        processes = options.number(line, "--processes", 1)
        if connection is None:
            from postfix_trouble.lmtp.loading import load_all

            # Who finds the socket is greeted at once.
            load_all()
        if line.switch("--listen"):
            listeners.append(listener_for(line, "--listen"))
        elif line.switch("--mode") or line.switch("--group"):
            raise options.UsageError("--mode, --group: --listen unix:PATH is missing")
    except (options.UsageError, ConfigError, ImportError, OSError) as problem:
        return _refuse(log, connection, problem)
    if connection is not None:
        _print_to(log)
    stop = listener.Stop()
    stop.on_signals()
    if connection is None:
        say_where("lmtp", line.value("--listen"))

    def start() -> LmtpService:
        return LmtpService(settings, log, nexthop=line.value("--nexthop"))

    if connection is not None:
        with start() as service:
            client_of(lambda: service, stop)(connection)
    elif processes == 1:
        _accept(listeners, start, stop, most)
    else:
        _share(listeners, start, stop, most, processes, log)
    return EX_OK


def say_where(command: str, where: str) -> None:
    """Tell a person at a terminal where it listens."""
    if os.isatty(2):
        where = where or "sockets of the service manager"
        text = f"postfix-trouble {command}: listening on {where}; ^C ends.\n"
        os.write(2, text.encode("utf-8", "replace"))


def _accept(
    listeners: list[listener.Listener],
    start: Callable[[], LmtpService],
    stop: listener.Stop,
    most: int,
) -> None:
    """Serve whoever comes, in this process."""
    with start() as service:
        serve = client_of(lambda: service, stop)
        listener.accept_all(listeners, serve, stop, most=most, note=service.log.write)


def _share(
    listeners: list[listener.Listener],
    start: Callable[[], LmtpService],
    stop: listener.Stop,
    most: int,
    processes: int,
    log: MailLog,
) -> None:
    """Serve whoever comes, in several processes, each with its own LmtpService."""
    # The file of a socket is removed by the one process that made it.
    shared = [each._replace(path="") for each in listeners]
    share = -(-most // processes)

    def retire() -> None:
        for each in listeners:
            each.close()

    try:
        lmtp_processes.run(
            processes,
            lambda: _accept(shared, start, stop, share),
            stop,
            retire,
            log.write,
        )
    finally:
        retire()


def client_of(
    find: Callable[[], LmtpService], stop: listener.Stop
) -> Callable[[socket.socket], None]:
    """What is done with a connection. `find`: the service of now."""

    def serve(client: socket.socket) -> None:
        service = find()
        settings = service.settings
        requiretls = settings.flag("requiretls_enable") and settings.follows("3.11")
        limits = DEFAULT_LIMITS._replace(requiretls=requiretls)
        lmtp_server.serve(
            client,
            LmtpClient(find).deliver,
            hostname=settings.text("myhostname"),
            limits=limits,
            stop=stop,
            note=service.log.write,
        )

    return serve


class _Printed(io.TextIOBase):
    """What is printed by whoever does not know where it runs, as log records."""

    def __init__(self, log: MailLog) -> None:
        self._log = log

    def write(self, text: str) -> int:
        """Log each line."""
        for line in text.splitlines():
            if line.strip():
                self._log.write(f"warning: {line}")
        return len(text)


def _print_to(log: MailLog) -> None:
    """Standard output and error, where they were the connection, become the log."""
    nowhere = os.stat(os.devnull)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if os.path.samestat(os.fstat(number), nowhere):
            setattr(sys, name, _Printed(log))


def _settings(line: CommandLine) -> Settings:
    if line.recipients:
        raise options.UsageError(f"no such argument: {line.recipients[0]}")
    settings = command.read_settings(line)
    settings.refuse_unusable()
    return settings


def listener_for(line: CommandLine, option: str) -> listener.Listener:
    """The socket that the options ask for. Raises UsageError, OSError."""
    where, mode = line.value(option), line.value("--mode")
    if not where.startswith("unix:") and (mode or line.switch("--group")):
        raise options.UsageError(f"--mode, --group: {where} is not unix:PATH")
    if mode and not (len(mode) <= 4 and set(mode) <= set("01234567")):
        raise options.UsageError(f"--mode {mode}: octal number expected, as 0660")
    group = _group(line.value("--group")) if line.switch("--group") else -1
    try:
        return listener.listen(where, int(mode, 8) & 0o777 if mode else None, group)
    except OSError as problem:
        text = problem.strerror or str(problem)
        raise OSError(problem.errno, text, where) from problem


def _group(name: str) -> int:
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise options.UsageError(f"--group {name}: there is no such group") from None


def _refuse(log: MailLog, connection: socket.socket | None, problem: Exception) -> int:
    """Say why there is no service: to a client that it should try again."""
    text = f"fatal: {_worded(problem)}"
    log.write(text)
    if connection is not None:
        with connection:
            connection.sendall(b"421 4.3.5 Mail system configuration error\r\n")
        return EX_TEMPFAIL
    os.write(2, f"postfix-trouble lmtp: {text}\n".encode("utf-8", "replace"))
    return EX_CONFIG


def _worded(problem: Exception) -> str:
    """The problem, and for a person what to do about it."""
    if not isinstance(problem, OSError):
        return str(problem)
    text = problem.strerror or str(problem)
    if problem.errno == errno.ENOTSOCK:
        text += ": this runs under spawn(8) or systemd, or with --listen"
    return f"{problem.filename}: {text}" if problem.filename else text
