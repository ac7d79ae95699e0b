"""MTA-STS policies by HTTPS (RFC 8461 3.3).

By http.client of the standard library: it follows no redirects and keeps nothing in a
cache, as the RFC wants it, and a policy needs no more than one GET. The connection is
made here, so that names are looked up by our own resolver and one limit holds for all
of it: http.client only knows one for each wait.
"""

from __future__ import annotations

import io
import socket
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

from postfix_trouble.tls.mta_sts import (
    MOST_BYTES,
    NOT_FETCHED,
    NOT_TRUSTED,
    NoPolicy,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from postfix_trouble.config.settings import Settings

_PATH = "/.well-known/mta-sts.txt"
# More addresses of a web server are not tried.
_ADDRESSES = 4


def fetch(
    host: str,
    addresses: Sequence[str],
    settings: Settings,
    seconds: float,
    port: int = 443,
) -> bytes | NoPolicy:
    """The policy at a web server, or why it can't be had; never raises.

    `host`: mta-sts.DOMAIN, for which its certificate must be good, by the authorities
    that count for mail servers too (smtp_tls_CAfile). `seconds`: for all of it.
    """
    end = time.monotonic() + seconds
    found: bytes | NoPolicy = NoPolicy(f"{host} has no address", NOT_FETCHED)
    try:
        context = _context(settings)
    except (OSError, ValueError) as problem:
        return NoPolicy(f"authorities can't be loaded: {problem}", NOT_TRUSTED)
    for address in addresses[:_ADDRESSES]:
        found = _fetched(host, (address, port), context, end)
        if isinstance(found, bytes):
            break
    return found


def _context(settings: Settings) -> ssl.SSLContext:
    import ssl

    from postfix_trouble.tls.trust import load_authorities

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    # An end without TLS's own word for it may be a policy cut short.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    load_authorities(context, settings)
    return context


def _fetched(
    host: str, place: tuple[str, int], context: ssl.SSLContext, end: float
) -> bytes | NoPolicy:
    import ssl

    where = f"https://{host}{_PATH} at {place[0]}"
    try:
        with socket.create_connection(place, _left(end)) as plain:
            plain.settimeout(_left(end))
            with context.wrap_socket(
                plain, server_hostname=host, suppress_ragged_eofs=False
            ) as secured:
                found = _got(host, _Bounded(secured, end))
    except ssl.SSLCertVerificationError as problem:
        return NoPolicy(f"{where}: {problem.verify_message}", NOT_TRUSTED)
    except ssl.SSLError as problem:
        why = (problem.reason or str(problem)).replace("_", " ").lower()
        return NoPolicy(f"{where}: {why}", NOT_FETCHED)
    except (HTTPException, OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or str(problem)
        return NoPolicy(f"{where}: {why or type(problem).__name__}", NOT_FETCHED)
    if isinstance(found, str):
        return NoPolicy(f"{where}: {found}", NOT_FETCHED)
    return found


def _got(host: str, sock: _Bounded) -> bytes | str:
    """The body of the answer, or what is wrong with it."""
    with closing(HTTPConnection(host)) as connection:
        connection.sock = sock
        headers = {"Accept": "text/plain", "Connection": "close"}
        connection.request("GET", _PATH, headers=headers)
        with connection.getresponse() as response:
            if response.status != 200:
                return f"HTTP status {response.status}"
            kind = response.getheader("Content-Type", "").partition(";")[0]
            if kind.strip().lower() != "text/plain":
                return "the media type is not text/plain"
            body = response.read(MOST_BYTES + 1)
            if len(body) > MOST_BYTES:
                return f"the policy has more than {MOST_BYTES} bytes"
            # What Content-Length told us to expect, less what came.
            return "the policy is cut short" if response.length else body


class _Bounded(io.RawIOBase):
    """A connection, as http.client uses it, whose waits all end at one moment."""

    def __init__(self, secured: ssl.SSLSocket, end: float) -> None:
        self._secured = secured
        self._end = end

    def sendall(self, data: Any) -> None:
        self._secured.settimeout(_left(self._end))
        self._secured.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._secured.settimeout(_left(self._end))
        return self._secured.recv_into(buffer)

    def close(self) -> None:
        """The socket is not ours to close, and http.client does it before reading."""


def _left(end: float) -> float:
    """Seconds; raises TimeoutError if there are none."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("time limit exceeded")
    return left
