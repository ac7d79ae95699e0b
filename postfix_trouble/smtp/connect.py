"""Connecting to a server: a socket, or why there is none (Postfix smtp_connect)."""

from __future__ import annotations

import os

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from postfix_trouble.core.relay import Relay
else:
    # The half of the socket module that is written in C. The other half, which makes
    # enumerations of all constants, takes 8 ms; ssl, where it is used, needs it not.
    import _socket as socket


def connect(
    relay: Relay,
    *,
    timeout: float | None,
    bind_address: str = "",
    bind_enforce: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> socket.socket | DSN:
    """Connect to a server, or say why not (Postfix smtp_connect_addr, _unix).

    timeout: seconds; None for as long as the system tries.
    """
    if not relay.port:
        return _dial(relay, socket.AF_UNIX, relay.address, timeout, None)
    family = socket.AF_INET6 if ":" in relay.address else socket.AF_INET

    def bind(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not bind_address:
            return
        try:
            sock.bind((bind_address, 0))
        except OSError as problem:
            note(f"bind {bind_address}: {problem.strerror}")
            if bind_enforce:
                raise _Unbound from None

    # Not through getaddrinfo: it imports the IDNA codec (4 ms) for a literal.
    return _dial(relay, family, (relay.address, relay.port), timeout, bind)


class _Unbound(Exception):
    """smtp_bind_address_enforce is on, and binding failed."""


def _dial(
    relay: Relay,
    family: int,
    target: object,
    timeout: float | None,
    prepare: Callable[[socket.socket], None] | None,
) -> socket.socket | DSN:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as problem:
        return DSN(EnhancedStatus("4.3.0"), f"cannot make a socket: {problem.strerror}")
    try:
        if prepare is not None:
            prepare(sock)
        sock.settimeout(timeout)
        sock.connect(target)  # type: ignore[arg-type]
    except _Unbound:
        sock.close()
        return DSN(EnhancedStatus("4.4.0"), "server configuration error")
    except socket.gaierror as problem:
        sock.close()
        text = f"network address conversion failed: {problem.strerror}"
        return DSN(EnhancedStatus("4.4.0"), text)
    except OSError as problem:
        sock.close()
        if problem.errno is None and not isinstance(problem, TimeoutError):
            # The path of a UNIX-domain socket is too long for the system.
            return DSN(EnhancedStatus("4.3.5"), "Server configuration error")
        text = _system_text(problem)
        return DSN(EnhancedStatus("4.4.1"), f"connect to {relay.namaddrport}: {text}")
    return sock


def _system_text(problem: OSError) -> str:
    if problem.errno is None:
        return "Connection timed out"
    return os.strerror(problem.errno)


def service_port(name: str) -> int | None:
    """Port of a TCP service in the system's database, None if it is not there."""
    try:
        return socket.getservbyname(name, "tcp")
    except (OSError, ValueError):
        return None
