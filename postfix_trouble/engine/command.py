"""`postfix-trouble serve`: the engine as a command."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
from typing import TYPE_CHECKING

from postfix_trouble.config.settings import ConfigError
from postfix_trouble.core.sysexits import EX_CONFIG, EX_OK
from postfix_trouble.engine.delivery import Services
from postfix_trouble.engine.lmtp import LmtpSide
from postfix_trouble.engine.server import Engine
from postfix_trouble.lmtp import listener
from postfix_trouble.lmtp.command import listener_for, say_where
from postfix_trouble.lmtp.loading import load_all
from postfix_trouble.pipe import command, options
from postfix_trouble.report.maillog import MailLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.engine.metrics import Metrics
    from postfix_trouble.pipe.options import CommandLine

# Deliveries at once, and seconds that one may take: pipe(8) bounces after 1000.
_MOST = 100
_SECONDS = 900
# Options of the LMTP side; without it they would be without effect.
_LMTP_ONLY = (
    *("--connections", "--mode", "--group", "--nexthop", "--lmtp"),
    "--state-directory",
)
# What systemd calls the socket for lmtp(8) (FileDescriptorName=).
_LMTP = "lmtp"
# malloc.h of glibc.
_M_ARENA_MAX = -8


def run(argv: list[str]) -> int:
    """Serve as the arguments after `serve` say. Returns the exit code."""
    log = MailLog("postfix-trouble")
    listeners: list[listener.Listener] = []
    try:
        line = options.read(argv, options.SERVE_OPTIONS)
        log = MailLog("postfix-trouble", line.value("--log-file"))
        if line.lists or line.switch("--config"):
            log = MailLog.of(command.read_settings(line), line.value("--log-file"))
        if line.recipients:
            raise options.UsageError(f"no such argument: {line.recipients[0]}")
        most = options.number(line, "--deliveries", _MOST)
        seconds = options.number(line, "--time-limit", _SECONDS)
        _few_heaps()
        # Who finds the socket is greeted at once.
        load_all()
        listeners = listener.inherited(os.environ)
        for_lmtp = [each for each in listeners if each.name == _LMTP]
        if line.switch("--listen"):
            listeners.append(_listener(line.value("--listen")))
        if listeners == for_lmtp:
            raise options.UsageError("--listen unix:PATH is missing")
        metrics = _metrics(line)
        services = Services(metrics)
        lmtp = _lmtp(line, services, for_lmtp, log.write)
    except (options.UsageError, ConfigError, ImportError, OSError) as problem:
        for each in listeners:
            each.close()
        text = f"fatal: {problem}"
        log.write(text)
        os.write(2, f"postfix-trouble serve: {text}\n".encode("utf-8", "replace"))
        return EX_CONFIG
    # All that is here now stays: what comes and goes is looked through sooner.
    gc.collect()
    gc.freeze()
    engine = Engine(
        (each for each in listeners if each.name != _LMTP),
        services.deliver,
        most=most,
        seconds=seconds,
        note=log.write,
        reload=services.forget,
        drain=lmtp.drain if lmtp else lambda: None,
        told=metrics.answered if metrics else lambda status, text: None,
    )
    if metrics is not None:
        _show(metrics, engine, services)
    engine.on_signals()
    say_where("serve", line.value("--listen"))
    where = line.value("--listen") or "sockets of the service manager"
    log.write(f"engine: listening on {where}, {most} deliveries at once")
    try:
        if lmtp is not None:
            lmtp.start()
        engine.run()
        if lmtp is not None:
            lmtp.join()
    finally:
        services.forget()
    return EX_OK


def _metrics(line: CommandLine) -> Metrics | None:
    """The figures, if somebody wants them. Raises UsageError."""
    where = line.value("--metrics")
    if not where:
        return None
    try:
        from postfix_trouble.engine.metrics import Metrics
    except ImportError as problem:
        text = f"--metrics {where}: prometheus_client can't be loaded: {problem}"
        raise options.UsageError(text) from problem
    metrics = Metrics()
    metrics.listen(where)
    return metrics


def _show(metrics: Metrics, engine: Engine, services: Services) -> None:
    """Have figures that are what they are at the moment."""
    for name, meaning, value in (
        ("requests_waiting", "Requests that wait for a delivery.", engine.waiting),
        ("requests_running", "Requests that are delivered.", engine.running),
        (
            "destinations_suspended",
            "Destinations in trouble that are left alone, as far as it is known here.",
            services.suspended,
        ),
    ):
        metrics.gauge(name, meaning, value)


def _lmtp(
    line: CommandLine,
    services: Services,
    listeners: list[listener.Listener],
    note: Callable[[str], None],
) -> LmtpSide | None:
    """What serves lmtp(8), if it is wanted. Listens, unless there are listeners. Raises
    UsageError, ConfigError, OSError."""
    if not line.switch("--lmtp-listen") and not listeners:
        for name in _LMTP_ONLY:
            if line.switch(name):
                raise options.UsageError(f"{name}: --lmtp-listen is missing")
        return None
    services.entry(line).service.settings.refuse_unusable()
    most = options.number(line, "--connections", _MOST)
    if line.switch("--lmtp-listen"):
        listeners.append(listener_for(line, "--lmtp-listen"))
    return LmtpSide(listeners, services, line, most=most, note=note)


def _few_heaps() -> None:
    """Have the C library make two heaps at most, as MALLOC_ARENA_MAX=2 does: one for
    each thread would have holes in all of them."""
    # Without ctypes, or where it may not make code, there is more memory in use.
    with contextlib.suppress(ImportError, MemoryError, OSError, AttributeError):
        from ctypes import CDLL

        CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _listener(where: str) -> listener.Listener:
    """A Unix socket that only this account can reach. Raises UsageError."""
    if not where.startswith("unix:/"):
        raise options.UsageError(f"--listen {where}: unix:PATH expected, absolute")
    try:
        return listener.listen(where, 0o600)
    except OSError as problem:
        text = problem.strerror or str(problem)
        if problem.errno == errno.EADDRINUSE:
            text = "another process listens there, or it is no socket"
        raise options.UsageError(f"--listen {where}: {text}") from problem
