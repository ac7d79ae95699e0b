"""`serve --metrics`: figures for Prometheus. Loaded only then.

What is counted here is told by others as it happens; what has a value at any moment is
asked for when somebody reads the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)

from postfix_trouble.core.sysexits import EX_OK, EX_TEMPFAIL
from postfix_trouble.pipe.options import UsageError
from postfix_trouble.report.log import Record

if TYPE_CHECKING:
    from collections.abc import Callable

_STAGES = ("before_queue_manager", "queue_manager", "connection", "transmission")
_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86400)


class Metrics:
    """All figures of an engine. Used by several threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter(
            "requests",
            "Requests of pipe(8), by what it was answered.",
            "result",
            "class",
        )
        self._recipients = self._counter(
            "recipients", "Recipients, as in the log.", "status", "class"
        )
        self._events = {
            "connection": self._counter(
                "connections", "Connections used: new, or reused.", "kind"
            ),
            "tls": self._counter(
                "tls_handshakes", "TLS handshakes: full, resumed, failed.", "kind"
            ),
        }
        self._delays = Histogram(
            "postfix_trouble_delay_seconds",
            "What a recipient waited for, as delays= in the log.",
            ["stage"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        # Memory, processor time, descriptors.
        ProcessCollector(registry=self._registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        name = f"postfix_trouble_{name}"
        return Counter(name, meaning, labels, registry=self._registry)

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Show a value of the moment."""
        made = Gauge(f"postfix_trouble_{name}", meaning, registry=self._registry)
        made.set_function(value)

    def answered(self, status: int, text: bytes) -> None:
        """A request of pipe(8) was answered: exit status and text."""
        result = "bounced"
        if status in (EX_OK, EX_TEMPFAIL):
            result = "deferred" if status else "sent"
        klass = {"sent": "2", "deferred": "4"}.get(result, "5")
        if text[1:2] == b"." and text[:1] in (b"2", b"4", b"5"):
            klass = text[:1].decode("ascii")
        self._requests.labels(result, klass).inc()

    def logged(self, text: str) -> None:
        """A log record was written."""
        if not isinstance(text, Record):
            return
        fields = text.fields
        self._recipients.labels(fields["status"], fields["dsn"][:1]).inc()
        for stage, seconds in zip(_STAGES, fields["delays"], strict=True):
            self._delays.labels(stage).observe(seconds)

    def happened(self, what: str, kind: str) -> None:
        """A connection was made or used again, a TLS handshake ended."""
        self._events[what].labels(kind).inc()

    def listen(self, where: str) -> None:
        """Answer at `inet:HOST:PORT`. Raises UsageError, OSError."""
        kind, _, rest = where.partition(":")
        host, _, port = rest.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if kind != "inet" or not host or not (port.isascii() and port.isdigit()):
            raise UsageError(f"--metrics {where}: inet:HOST:PORT expected")
        if not 0 < int(port[:6]) < 65536:
            raise UsageError(f"--metrics {where}: no such port")
        try:
            start_http_server(int(port), host, registry=self._registry)
        except OSError as problem:
            text = problem.strerror or str(problem)
            raise UsageError(f"--metrics {where}: {text}") from problem
