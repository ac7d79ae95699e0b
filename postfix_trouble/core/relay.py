"""Where mail goes: destinations, and the servers found for them."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.value import Value


class Destination(Value):
    """One element of a nexthop, taken apart (Postfix smtp_parse_destination).

    `text` is the element as given: TLS policies and passwords are searched by it.
    """

    text: str
    host: str
    # 0 for a UNIX-domain socket.
    port: int
    # Brackets, LMTP or a socket: the host is not looked up as a mail domain.
    no_mx: bool = False
    # Path of a UNIX-domain socket, else empty.
    socket: str = ""
    # The service name where the port was given as one, or by default ("smtp").
    service: str = ""
    # Came from smtp_fallback_relay.
    fallback: bool = False


class Exchange(Value):
    """The MX or SRV answer that named a server."""

    # The name that was asked for, and, behind an alias, the one that has the records.
    names: tuple[str, ...]
    # DNSSEC vouches for all of it.
    authentic: bool = False


class Relay(Value):
    """One server at one address."""

    host: str
    # Address literal without brackets; path of a UNIX-domain socket.
    address: str
    # 0 for a UNIX-domain socket.
    port: int
    preference: int = 0
    # No host of this destination is better: "best MX", or found by address look-up.
    best: bool = True
    # The answer that named the address was validated by DNSSEC, aliases included.
    authentic: bool = False
    # Where the host is an alias: it, and the name that has the address. Else empty.
    alias: tuple[str, ...] = ()
    # None: the host itself was given, or found without MX and SRV.
    exchange: Exchange | None = None

    @property
    def namaddr(self) -> str:
        """`host[address]`, as reasons name a server."""
        return f"{self.host}[{self.address}]"

    @property
    def namaddrport(self) -> str:
        """`host[address]:port`, as `relay=` names a server."""
        return f"{self.namaddr}:{self.port}" if self.port else self.namaddr
