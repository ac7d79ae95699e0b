"""A player for the engine: servers made of plain values, no sockets, no time.

A server is a dict from stage to what it answers there; it succeeds where nothing is
said:

    {"rcpt": ["250 ok", "550 5.1.1 no"], "dot": Lost.EOF}

Stages are the phases in lower case (greeting, ehlo, mail, dot ...), and handshake,
auth, body, pending, pause and the names of look-up parameters. A list has one entry
for each time, the last one again and again. An answer is a reply as the server writes
it, or the value that the step is answered with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import (
    DSN,
    Outcome,
    Report,
    ServerRecord,
    Skipped,
)
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import (
    Authenticate,
    Hangup,
    LookUp,
    Note,
    Pending,
    Read,
    Send,
    SendBody,
    StartTls,
)
from postfix_trouble.core.tls import TlsFacts, TlsLevel, TlsPolicy
from postfix_trouble.smtp.delivery import deliver
from postfix_trouble.smtp.replies import ReplyReader
from postfix_trouble.smtp.session import Kept

Server = Mapping[str, Any]

TLS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, matched=True)
SUCCESS: dict[str, Any] = {
    "greeting": "220 mx ESMTP",
    "ehlo": "250 mx",
    "helo": "250 mx",
    "lhlo": "250-mx\n250 PIPELINING",
    "starttls": "220 go",
    "mail": "250 2.1.0 ok",
    "rcpt": "250 2.1.5 ok",
    "data": "354 go",
    "dot": "250 2.0.0 queued",
    "rset": "250 ok",
    "probe": "250 ok",
    "quit": "221 bye",
    "xforward_name": "250 ok",
    "xforward_helo": "250 ok",
    "handshake": TLS,
    "pending": False,
}
PIPELINING = {"ehlo": "250-mx\n250 PIPELINING"}


def reply(text: str) -> Reply:
    """A reply as the reader makes it of what a server writes."""
    reader = ReplyReader()
    reader.feed(text.encode() + b"\n")
    read = reader.next()
    assert read is not None, text
    return read


class FakeWire:
    """A connection to a server of the kind above."""

    def __init__(self, server: Server, relay: Relay) -> None:
        self.server = server
        self.relay = relay
        # Commands; a new group begins once a reply was waited for.
        self.groups: list[list[str]] = []
        self.lines: list[str] = []
        self.steps: list[Any] = []
        self.closed = 0
        self._waited = True
        self._times: dict[str, int] = {}

    @property
    def sequence(self) -> str:
        """`EHLO | MAIL | RCPT`: what went out together, and where we waited."""
        return " | ".join(" ".join(group) for group in self.groups)

    def play(self, step: Any) -> Any:
        self.steps.append(step)
        if isinstance(step, Send):
            for line in step.lines:
                self.lines.append(line.decode("utf-8", "surrogateescape"))
                self._out(self.lines[-1].partition(" ")[0])
            return None
        if isinstance(step, Read):
            self._waited = True
            return self._answer(step.phase.name.lower())
        if isinstance(step, StartTls):
            self._waited = True
            return self._answer("handshake")
        if isinstance(step, SendBody):
            self._out("body")
            return self._answer("body")
        if isinstance(step, Hangup):
            self._out("hangup")
            return None
        if isinstance(step, Authenticate):
            return self._answer("auth")
        if isinstance(step, LookUp):
            return self._answer(step.parameter, raw=True)
        if isinstance(step, Note):
            return None
        return self._answer("pending" if isinstance(step, Pending) else "pause")

    def _out(self, word: str) -> None:
        if self._waited:
            self.groups.append([])
            self._waited = False
        self.groups[-1].append(word)

    def _answer(self, stage: str, raw: bool = False) -> Any:
        answer = self.server.get(stage, SUCCESS.get(stage))
        if isinstance(answer, list):
            time = self._times.get(stage, 0)
            self._times[stage] = time + 1
            answer = answer[min(time, len(answer) - 1)]
        return reply(answer) if isinstance(answer, str) and not raw else answer

    def close(self) -> None:
        self.closed += 1

    def record(self) -> ServerRecord:
        return ServerRecord(self.relay)

    @property
    def notes(self) -> list[str]:
        return [step.text for step in self.steps if isinstance(step, Note)]


class FakeRoute:
    """The servers of a destination, from a list."""

    def __init__(self, relays: Sequence[Relay], failure: DSN, last: bool) -> None:
        self.relays = list(relays)
        self.failure = failure
        self.last_resort = last
        self.addressless: Sequence[tuple[Relay, DSN]] = ()
        self.asked = 0

    def next(self) -> Relay | None:
        return self.relays.pop(0) if self.relays else None

    def more(self) -> bool:
        self.asked += 1
        return bool(self.relays)


class Place(NamedTuple):
    """A destination: its servers in order, or why there are none.

    A server is a dict as above, a DSN (it can't be connected to), or a list of these,
    one for each connection.
    """

    servers: Sequence[Server | DSN | Sequence[Server | DSN]] = ()
    failure: DSN = DSN()
    last_resort: bool = False
    fallback: bool = False
    port: int = 2525
    best: bool = True


class Outside:
    """DeliveryEnvironment made of plain values."""

    def __init__(
        self,
        places: Sequence[Place],
        tls: TlsPolicy | DSN | Mapping[int, TlsPolicy | DSN],
        password: bool,
    ) -> None:
        self.places = places
        self.tls = tls
        self.password = password
        self.now = 1000.0
        self.clock = self._tick
        self.routes: list[FakeRoute] = []
        self.wires: list[FakeWire] = []
        self.connects: list[tuple[str, TlsLevel]] = []
        self.finished: list[Outcome] = []
        # A connection from an earlier message, whether to keep this one, and what was.
        self.stock: tuple[Server, Kept] | None = None
        # Whom that connection is to, if it is found by the nexthop.
        self.stock_of: Relay | None = None
        self.served = 0
        self.keep_open = False
        self.stored: list[tuple[FakeWire, Kept]] = []
        self.notes: list[str] = []
        self._relays: dict[Relay, list[Any]] = {}

    def _tick(self) -> float:
        self.now += 1
        return self.now

    def destinations(self) -> tuple[Destination, ...]:
        return tuple(
            Destination(f"d{i}.test", f"d{i}.test", place.port, fallback=place.fallback)
            for i, place in enumerate(self.places, 1)
        )

    def route(self, destination: Destination) -> FakeRoute:
        place = self.places[int(destination.host[1:-5]) - 1]
        relays = []
        for server in place.servers:
            number = len(self._relays) + 1
            relay = Relay(
                f"h{number}.test", f"192.0.2.{number}", place.port, best=place.best
            )
            once = isinstance(server, Mapping | DSN)
            self._relays[relay] = [server] if once else list(server)
            relays.append(relay)
        self.routes.append(FakeRoute(relays, place.failure, place.last_resort))
        return self.routes[-1]

    def tls_policy(self, destination: Destination, relay: Relay) -> TlsPolicy | Skipped:
        found = self.tls
        if not isinstance(found, TlsPolicy | DSN):
            found = found.get(int(relay.host[1:-5]), TlsPolicy())
        return Skipped(found) if isinstance(found, DSN) else found

    def connect(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> FakeWire | DSN:
        self.connects.append((relay.host, tls.level))
        servers = self._relays[relay]
        server = servers.pop(0) if len(servers) > 1 else servers[0]
        if isinstance(server, DSN):
            return server
        self.wires.append(FakeWire(server, relay))
        return self.wires[-1]

    def keeps(self, destination: Destination, relay: Relay, use: int) -> bool:
        return self.keep_open

    def kept(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> tuple[FakeWire, Kept] | None:
        if self.stock is None:
            return None
        (server, kept), self.stock = self.stock, None
        self.wires.append(FakeWire(server, relay))
        return self.wires[-1], kept

    def kept_for_nexthop(
        self, destination: Destination
    ) -> tuple[FakeWire, Kept, Relay, TlsPolicy] | None:
        if self.stock_of is None:
            return None
        relay, self.stock_of = self.stock_of, None
        policy = self.tls_policy(destination, relay)
        found = self.kept(destination, relay, TlsPolicy())
        assert found
        assert isinstance(policy, TlsPolicy)
        return *found, relay, policy

    def keep(self, wire: Any, kept: Kept) -> None:
        self.stored.append((wire, kept))

    def nexthop_served(self) -> None:
        self.served += 1

    def credentials(self, destination: Destination, relay: Relay) -> bool:
        return self.password

    def rewrite(self, address: str) -> str:
        return address

    def on_outcomes(self, outcomes: tuple[Outcome, ...]) -> None:
        self.finished += outcomes

    def note(self, text: str) -> None:
        self.notes.append(text)


class Run(NamedTuple):
    """A delivery that is over."""

    report: Report
    outside: Outside

    @property
    def ends(self) -> list[str]:
        """`status dsn host` of each recipient."""
        return [
            f"{'SOFTBOUNCE' if end.soft_bounce else end.disposition.value}"
            f" {end.dsn.status} {end.relay.partition('.')[0]}"
            for end in self.report.outcomes
        ]

    @property
    def end(self) -> str:
        assert len(self.ends) == 1
        return self.ends[0]

    @property
    def reason(self) -> str:
        return self.report.outcomes[0].dsn.reason

    @property
    def sequence(self) -> str:
        return self.outside.wires[0].sequence

    @property
    def lines(self) -> list[str]:
        return self.outside.wires[0].lines

    @property
    def hosts(self) -> list[str]:
        return [host.partition(".")[0] for host, _ in self.outside.connects]

    @property
    def throttled(self) -> str:
        return self.report.throttled.status if self.report.throttled else ""

    @property
    def errors(self) -> list[tuple[str, ...]]:
        return [server.errors for server in self.report.servers]


def recipients(count: int) -> tuple[Recipient, ...]:
    return tuple(Recipient(f"u{i}@d.test", position=i) for i in range(count))


def run(
    *places: Place | Server,
    rcpts: int | tuple[Recipient, ...] = 1,
    settings: Mapping[str, str] | None = None,
    tls: TlsLevel | TlsPolicy | DSN | Mapping[int, TlsPolicy | DSN] = TlsLevel.NONE,
    password: bool = False,
    destinations: DSN | tuple[()] | None = None,
    status_filter: Any = None,
    stock: tuple[Server, Kept] | None = None,
    stock_of: Relay | None = None,
    keep: bool = False,
    rewrite: Callable[[str], str] | None = None,
    **facts: Any,
) -> Run:
    """Deliver to places (a single server may be given as such); `facts` of the mail."""
    whom = recipients(rcpts) if isinstance(rcpts, int) else rcpts
    request = DeliveryRequest("s@d.test", whom, "d1.test", "QID")._replace(**facts)
    policy = TlsPolicy(tls) if isinstance(tls, TlsLevel) else tls
    where = [p if isinstance(p, Place) else Place([p]) for p in places]
    outside = Outside(where, policy, password)
    outside.stock, outside.keep_open = stock, keep
    outside.stock_of = stock_of
    if rewrite is not None:
        outside.rewrite = rewrite  # type: ignore[method-assign, assignment]
    values = {"myhostname": "me.test", **(settings or {})}
    report = deliver(
        request,
        outside.destinations() if destinations is None else destinations,
        Settings(overrides=values, lmtp=request.lmtp),
        outside,
        status_filter,
    )
    return Run(report, outside)


REFUSED = DSN(EnhancedStatus("4.4.1"), "connect to it: Connection refused")
LOST = (Lost.EOF, Lost.TIME, Lost.DATA)


def ehlo(*keywords: str) -> str:
    """A reply to EHLO that offers these."""
    lines = ["mx.test", *keywords]
    marks = ["-"] * (len(lines) - 1) + [" "]
    return "\n".join(f"250{m}{w}" for m, w in zip(marks, lines, strict=True))


def offers(*keywords: str, **more: Any) -> dict[str, Any]:
    """A server that offers these keywords."""
    return {"ehlo": ehlo(*keywords), "lhlo": ehlo(*keywords), **more}
