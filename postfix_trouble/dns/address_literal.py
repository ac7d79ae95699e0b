"""Destinations that say all by themselves: an address in brackets, or a socket.

The rules are those of routing.py, for the cases in which none of them applies; that
module and its look-ups are then not even loaded.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.hostname import IPV4, address_family
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Relay
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from postfix_trouble.core.relay import Destination

# Where mail may loop: the server's address must be compared with our own.
_SMTP_PORT = 25


class OneServer:
    """A Route with one server on it."""

    failure = DSN()
    last_resort = False
    addressless: tuple[tuple[Relay, DSN], ...] = ()

    def __init__(self, relay: Relay) -> None:
        self._relay: Relay | None = relay

    def next(self) -> Relay | None:
        """The server, once."""
        relay, self._relay = self._relay, None
        return relay

    def more(self) -> bool:
        """Whether next() has not given it yet."""
        return self._relay is not None


def find_server(destination: Destination, hostname: str) -> OneServer | None:
    """The server of a destination, if there is nothing to look up and to compare.

    `hostname`: ours, as which a server on a UNIX-domain socket is known. Only where
    IPv4 is enabled (inet_protocols); IPv6 is left to routing.py.
    """
    if destination.socket:
        return OneServer(Relay(hostname, destination.socket, 0))
    host, port = destination.host, destination.port
    bracketed = destination.text.startswith("[")
    if bracketed and port != _SMTP_PORT and address_family(host) == IPV4:
        return OneServer(Relay(host, host, port))
    return None
