"""How name servers are asked.

One socket per query, connected, with a port that the kernel picks and an identity from
the system's random source; a reply must repeat both and the question. TCP when a reply
was cut off, or resolv.conf says so.
"""

from __future__ import annotations

import socket
import time

from postfix_trouble.config.types import ConfigError
from postfix_trouble.core.hostname import address_family
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.dns.answers import FORMAT_ERROR, NEXT_SERVER
from postfix_trouble.dns.lookup import Packet
from postfix_trouble.dns.packet import answers, question, read, truncated
from postfix_trouble.dns.resolv_conf import parse

if TYPE_CHECKING:
    from collections.abc import Callable

_DNS_PORT = 53


class NameServers:
    """The name servers of this machine, and how they are asked.

    `path`: of resolv.conf; `own`: trouble_nameserver, counts instead of its servers.
    Raises ConfigError if that is no list of addresses.
    """

    def __init__(
        self, path: str, own: str, *, dnssec: bool, below: Callable[[int], int]
    ) -> None:
        try:
            with open(path, "rb") as file:
                text = file.read(65536).decode("utf-8", "replace")
        except OSError:
            # As the C library: there may be a server on this machine.
            text = ""
        self.conf = parse(text)
        self._dnssec = dnssec
        self._below = below
        #: A server that vouches by DNSSEC, and is too far away to be believed.
        self.doubted = ""
        self._servers = [(x, _DNS_PORT) for x in self.conf.nameservers]
        if own:
            self._servers = [address_and_port(x) for x in own.replace(",", " ").split()]
        # What is no address would be looked up in turn.
        self._servers = [
            x for x in self._servers if address_family(x[0].partition("%")[0])
        ]

    def ask(self, name: str, kind: str, left: Callable[[], float]) -> Packet | None:
        """Ask until a server has an answer (res_send(3)); None if none has.

        `left`: seconds.
        """
        servers = self._servers
        if self.conf.rotate and servers:
            first = self._below(len(servers))
            servers = servers[first:] + servers[:first]
        for _ in range(self.conf.attempts):
            silent = False
            for server in servers:
                packet = self._asked(server, name, kind, left)
                if packet is None:
                    silent = True
                    continue
                if packet.rcode in NEXT_SERVER:
                    continue
                if packet.authentic and not self._is_trusted(server[0]):
                    packet = packet._replace(authentic=False)
                    self.doubted = server[0] if self._dnssec else ""
                return packet
            if not silent:
                break
        return None

    def _asked(
        self,
        server: tuple[str, int],
        name: str,
        kind: str,
        left: Callable[[], float],
    ) -> Packet | None:
        """What one server says; None if nothing in time.

        An old one may not know EDNS (RFC 6891 7): it is asked without, then.
        """
        ways = [(self.conf.edns, self._dnssec)]
        if any(ways[0]):
            ways.append((False, False))
        packet = None
        for edns, dnssec in ways:
            identity = self._below(65536)
            asked = question(identity, name, kind, edns=edns, dnssec=dnssec)
            reply = self._exchange(server, asked, min(self.conf.timeout, left()))
            packet = None if reply is None else read(reply)
            if packet is None or packet.rcode != FORMAT_ERROR:
                break
        return packet

    def _is_trusted(self, address: str) -> bool:
        """Whether we asked for DNSSEC, and the way to a server is safe enough."""
        return self._dnssec and (
            self.conf.trust_ad or address.startswith("127.") or address == "::1"
        )

    def _exchange(
        self, server: tuple[str, int], asked: bytes, seconds: float
    ) -> bytes | None:
        """The reply to a query, None if there is none in time."""
        end = time.monotonic() + seconds
        try:
            if self.conf.use_vc:
                return _over_tcp(server, asked, end)
            reply = _over_udp(server, asked, end)
            if reply and truncated(reply):
                return _over_tcp(server, asked, end)
            return reply
        except OSError:
            return None


def address_and_port(text: str) -> tuple[str, int]:
    """Of trouble_nameserver: address, address:port, [address]:port. Raises
    ConfigError."""
    address, _, port = text.rpartition(":")
    if text.startswith("["):
        # Without "]" what is left is no address.
        address, bracket, port = text[1:].partition("]")
        address, port = address if bracket else "", port.removeprefix(":")
    elif address_family(text):
        address, port = text, ""
    number = int(port or _DNS_PORT) if _is_port(port) else 0
    if not address_family(address) or not 0 < number < 65536:
        problem = f"bad name server address: trouble_nameserver = {text}"
        raise ConfigError("trouble_nameserver", problem)
    return address, number


def _is_port(text: str) -> bool:
    return not text or (text.isdecimal() and len(text) < 6)


def _connected(server: tuple[str, int], kind: int, end: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    connection = socket.socket(family, kind)
    try:
        _limit(connection, end)
        connection.connect(server)
    except OSError:
        connection.close()
        raise
    return connection


def _limit(connection: socket.socket, end: float) -> None:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def _over_udp(server: tuple[str, int], asked: bytes, end: float) -> bytes:
    with _connected(server, socket.SOCK_DGRAM, end) as connection:
        connection.send(asked)
        while True:
            _limit(connection, end)
            reply = connection.recv(65535)
            if answers(reply, asked):
                return reply


def _over_tcp(server: tuple[str, int], asked: bytes, end: float) -> bytes | None:
    with _connected(server, socket.SOCK_STREAM, end) as connection:
        connection.sendall(len(asked).to_bytes(2, "big") + asked)
        size = int.from_bytes(_receive(connection, 2, end), "big")
        reply = _receive(connection, size, end)
        return reply if answers(reply, asked) else None


def _receive(connection: socket.socket, size: int, end: float) -> bytes:
    data = b""
    while len(data) < size:
        _limit(connection, end)
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data
