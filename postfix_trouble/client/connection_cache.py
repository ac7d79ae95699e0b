"""Connections to next hops that stay open between messages (Postfix scache(8)).

Off unless a destination is listed in smtp_connection_cache_destinations, or mail for it
is waiting (smtp_connection_cache_on_demand). Which session may be kept is decided by
its dialogue; here is how long, how often, and for whom. A connection is found by its
nexthop, so that a backup is used on while better servers are in trouble, and by the
address of its server, whatever name leads there; never with another TLS policy or
log-in. One that died in the meantime is nobody's failure: the probe finds out, and a
new one is made.
"""

from __future__ import annotations

import threading
import time

from postfix_trouble.client.mta_sts import ProcessMemory
from postfix_trouble.core.outcome import DSN, Skipped
from postfix_trouble.core.tls import TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.dns.kept import KeptReplies
from postfix_trouble.tls.kept import KeptTls

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from postfix_trouble.client.smtp_connection import SmtpConnection
    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.envelope import DeliveryRequest
    from postfix_trouble.core.relay import Destination, Relay
    from postfix_trouble.core.tls import TlsPolicy
    from postfix_trouble.smtp.session import Kept

# Seconds between two looks for connections that have been idle for too long.
_SWEEP = 0.5
# Nexthops whose meaning is remembered.
_NEXTHOPS = 1000


class _Idle(Value):
    """A connection that waits for another message."""

    endpoint: Hashable
    server: SmtpConnection
    kept: Kept
    # When it was made, and since when it waits (seconds, monotonic).
    made: float
    since: float


class Connections:
    """The connections of one process. Used by several threads."""

    def __init__(
        self,
        settings: Settings,
        happened: Callable[[str, str], None] = lambda what, kind: None,
    ) -> None:
        """`happened` is told of connections ("connection", and new or reused) and TLS
        handshakes (KeptTls)."""
        self.happened = happened
        self._idle_limit = settings.seconds("smtp_connection_cache_time_limit")
        self._on_demand = settings.flag("smtp_connection_cache_on_demand")
        self._listed = settings.words("smtp_connection_cache_destinations")
        self.time_limit = settings.seconds("smtp_connection_reuse_time_limit")
        #: What nexthops mean; it depends on settings alone.
        self.destinations: dict[str, tuple[Destination, ...]] = {}
        self.count_limit = settings.integer("smtp_connection_reuse_count_limit")
        #: What makes new ones cheap.
        timeout = settings.seconds("smtp_tls_session_cache_timeout")
        self.tls = KeptTls(timeout, happened=happened)
        self.replies = KeptReplies()
        self.sts = ProcessMemory()
        self._idle: list[_Idle] = []
        # Whose connection serves a nexthop, and since when: endpoint, server, seconds.
        self._bound: dict[Hashable, tuple[Hashable, Relay, float]] = {}
        # Messages under way, by nexthop.
        self._busy: dict[str, int] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sweeper: threading.Thread | None = None

    def use(self, nexthop: str, stream: bool) -> _Use:
        """A message for a nexthop is under way while this context lasts.

        `stream`: it comes close behind another one. The context's value tells,
        whenever it is called, whether more mail for the nexthop is waiting.
        """
        return _Use(self, nexthop, stream)

    def lease(
        self, settings: Settings, request: DeliveryRequest, wanted: Callable[[], bool]
    ) -> Lease:
        """What a request may take, and leave."""
        return Lease(self, settings, request, wanted)

    def begin(self, nexthop: str) -> None:
        """Count a message."""
        with self._lock:
            self._busy[nexthop] = self._busy.get(nexthop, 0) + 1

    def end(self, nexthop: str) -> None:
        """The message is done."""
        with self._lock:
            left = self._busy[nexthop] - 1
            if left:
                self._busy[nexthop] = left
            else:
                del self._busy[nexthop]

    def wanted(self, nexthop: str, stream: bool) -> bool:
        """Whether more mail for a nexthop is likely to come; see use()."""
        if stream or not self._on_demand:
            return self._on_demand
        with self._lock:
            return self._busy.get(nexthop, 0) > 1

    def listed(self, destination: Destination) -> bool:
        """Whether connections to a destination are always to be kept."""
        if not self._listed:
            return False
        from postfix_trouble.tables import match_list

        return match_list(
            self._listed,
            destination.socket or destination.host,
            "smtp_connection_cache_destinations",
        )

    def bind(self, nexthop: Hashable, endpoint: Hashable, relay: Relay) -> None:
        """Connections to this endpoint serve the nexthop for a while."""
        with self._lock:
            self._bound[nexthop] = endpoint, relay, time.monotonic()

    def bound(self, nexthop: Hashable) -> tuple[Hashable, Relay] | None:
        """The endpoint whose connections serve a nexthop, and its server."""
        with self._lock:
            found = self._bound.get(nexthop)
            return None if found is None else found[:2]

    def take(self, endpoint: Hashable) -> _Idle | None:
        """The youngest idle connection to an endpoint."""
        with self._lock:
            for idle in reversed(self._idle):
                if idle.endpoint == endpoint:
                    self._idle.remove(idle)
                    return idle
        return None

    def put(self, idle: _Idle) -> None:
        """Keep a connection for a while."""
        with self._lock:
            if not self._closing.is_set():
                self._idle.append(idle)
                if self._sweeper is None:
                    self._sweeper = threading.Thread(target=self._sweep, daemon=True)
                    self._sweeper.start()
                return
        idle.server.quit()

    def close(self) -> None:
        """Say goodbye on all of them."""
        self._closing.set()
        for idle in self._expired(float("inf")):
            idle.server.quit()

    def _sweep(self) -> None:
        while not self._closing.wait(_SWEEP):
            for idle in self._expired(time.monotonic() - self._idle_limit):
                idle.server.quit()

    def _expired(self, before: float) -> list[_Idle]:
        with self._lock:
            old = [idle for idle in self._idle if idle.since < before]
            self._idle = [idle for idle in self._idle if idle.since >= before]
            self._bound = {k: v for k, v in self._bound.items() if v[2] >= before}
        return old


class _Use:
    """See Connections.use()."""

    def __init__(self, connections: Connections, nexthop: str, stream: bool) -> None:
        self._connections = connections
        self._nexthop = nexthop
        self._stream = stream

    def __enter__(self) -> Callable[[], bool]:
        self._connections.begin(self._nexthop)
        return lambda: self._connections.wanted(self._nexthop, self._stream)

    def __exit__(self, *_: object) -> None:
        self._connections.end(self._nexthop)


class Lease:
    """What one request takes from the connections that others left, and leaves them."""

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        request: DeliveryRequest,
        wanted: Callable[[], bool],
    ) -> None:
        """`wanted`: whether more mail for the nexthop is likely to come."""
        self._connections = connections
        self.tls = connections.tls
        self.replies = connections.replies
        self.sts = connections.sts
        self._nexthop = request.nexthop
        by_sender = settings.flag("smtp_sender_dependent_authentication")
        self._login = settings.flag("smtp_sasl_auth_enable")
        self._sender = request.sender if by_sender and self._login else ""
        # A server that does not offer SMTPUTF8 is found out by EHLO only.
        self._utf8 = request.needs_smtputf8 and settings.follows("3.11")
        self._wanted = wanted
        # What connections of the nexthop are found by, until a server has talked to us.
        requiretls = request.requiretls
        self._for_nexthop: Hashable = (
            self._nexthop,
            self._sender,
            self._utf8,
            requiretls,
        )
        # Postfix asks it alone whether connections are kept: the first with servers.
        self._first: Destination | None = None
        # Of the present connection.
        self._made = 0.0
        self._relay: Relay
        self._endpoint: Hashable = None

    def destinations(
        self, find: Callable[[], tuple[Destination, ...] | DSN]
    ) -> tuple[Destination, ...] | DSN:
        """Where the nexthop leads; found out only if nobody has yet."""
        known = self._connections.destinations
        if self._nexthop in known:
            return known[self._nexthop]
        found = find()
        # Domains come from envelopes: there is no end of them.
        if not isinstance(found, DSN) and len(known) < _NEXTHOPS:
            known[self._nexthop] = found
        return found

    def opens(self, destination: Destination, relay: Relay, tls: TlsPolicy) -> None:
        """A connection of this request's own is made now."""
        self._connections.happened("connection", "new")
        self._relay, self._made = relay, time.monotonic()
        self._endpoint = self._identity(destination, relay, tls)

    def keeps(self, destination: Destination, use: int) -> bool:
        """Whether the connection stays open after this use (session count, age)."""
        limits = self._connections
        if 0 < limits.count_limit < use:
            return False
        if time.monotonic() - self._made >= limits.time_limit:
            return False
        return limits.listed(self._first or destination) or self._wanted()

    def take(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> tuple[SmtpConnection, Kept] | None:
        """A connection to this server that somebody left open."""
        endpoint = self._identity(destination, relay, tls)
        found = self._connections.take(endpoint)
        if found is None:
            return None
        self._connections.happened("connection", "reused")
        self._relay, self._made, self._endpoint = relay, found.made, endpoint
        return found.server, found.kept

    def take_for_nexthop(
        self,
        destination: Destination,
        policy: Callable[[Relay], TlsPolicy | Skipped],
    ) -> tuple[SmtpConnection, Kept, Relay, TlsPolicy] | None:
        """A connection that somebody left open for the nexthop, to any server.

        `policy`: what TLS must be with a server today.
        """
        if self._first is not None:
            return None
        self._first = destination
        bound = self._connections.bound(self._for_nexthop)
        if bound is None:
            return None
        endpoint, relay = bound
        tls = policy(relay)
        if isinstance(tls, Skipped) or tls.level is not TlsLevel.NONE:
            return None
        if endpoint != self._identity(destination, relay, tls):
            return None
        found = self.take(destination, relay, tls)
        return None if found is None else (*found, relay, tls)

    def put(self, server: SmtpConnection, kept: Kept) -> None:
        """Leave the connection to others."""
        now = time.monotonic()
        self._connections.put(_Idle(self._endpoint, server, kept, self._made, now))
        if self._for_nexthop is not None:
            self._connections.bind(self._for_nexthop, self._endpoint, self._relay)

    def nexthop_served(self) -> None:
        """A server has talked to us: worse ones don't stand for the nexthop."""
        self._for_nexthop = None

    def _identity(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> Hashable:
        """Connections that may stand for one another (Postfix's endpoint label)."""
        named = self._login or tls.level > TlsLevel.ENCRYPT
        names = (destination.text, relay.host) if named else ()
        return relay.address, relay.port, tls, self._sender, self._utf8, names
