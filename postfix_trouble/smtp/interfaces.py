"""What a delivery asks of the outside, as protocols. It knows nothing else of it."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from postfix_trouble.core.outcome import DSN, Outcome, ServerRecord, Skipped
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.steps import Answer, Step
from postfix_trouble.core.tls import TlsPolicy

if TYPE_CHECKING:
    from postfix_trouble.smtp.session import Kept


class Wire(Protocol):
    """A connection to one server, on which a session's steps are played."""

    def play(self, step: Step) -> Answer:
        """Carry out one step. Never raises for what the peer or the network does."""

    def close(self) -> None:
        """Hang up, whatever state the connection is in."""

    def record(self) -> ServerRecord:
        """What was said so far."""


# MX and SRV hosts without an address, each with why.
Addressless = Sequence[tuple[Relay, DSN]]


class Route(Protocol):
    """The servers of one destination, in the order in which they are to be tried.

    Looking ahead may cost name service queries, so it is done only when asked for:
    whether a server is the last one matters only once it has failed.
    """

    def next(self) -> Relay | None:
        """The next server, None after the last one."""

    def more(self) -> bool:
        """Whether next() will find another one."""

    @property
    def failure(self) -> DSN:
        """Why there is no server at all; empty if there is one."""

    @property
    def addressless(self) -> Addressless:
        """Hosts that mail can't go to, as far as was looked."""

    @property
    def last_resort(self) -> bool:
        """No later destination may be tried: we are a mail exchanger for this one."""


class DeliveryEnvironment(Protocol):
    """The outside, as one delivery request sees it."""

    clock: Callable[[], float]

    def route(self, destination: Destination) -> Route:
        """Find the servers of a destination."""

    def tls_policy(self, destination: Destination, relay: Relay) -> TlsPolicy | Skipped:
        """The TLS policy for a server, or why it must be skipped."""

    def connect(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> Wire | DSN:
        """Open a connection, or say why not. Reads nothing yet."""

    def keeps(self, destination: Destination, relay: Relay, use: int) -> bool:
        """Whether a connection is to stay open after this use of it."""

    def kept(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> tuple[Wire, Kept] | None:
        """A connection to this server that stayed open. It may be dead."""

    def kept_for_nexthop(
        self, destination: Destination
    ) -> tuple[Wire, Kept, Relay, TlsPolicy] | None:
        """One that stayed open for the request's nexthop, whatever server it is to.

        Only without TLS, and for the first destination that has servers.
        """

    def keep(self, wire: Wire, kept: Kept) -> None:
        """Keep this connection open."""

    def nexthop_served(self) -> None:
        """The nexthop has a server that talks to us: others don't stand for it."""

    def credentials(self, destination: Destination, relay: Relay) -> bool:
        """Whether a user name and password are known for this server."""

    def rewrite(self, address: str) -> str:
        """An envelope address as the next server is to see it (smtp_generic_maps)."""

    def on_outcomes(self, outcomes: tuple[Outcome, ...]) -> None:
        """Recipients are finished. What must outlive a crash is written down now."""

    def note(self, text: str) -> None:
        """Log something about this request."""
