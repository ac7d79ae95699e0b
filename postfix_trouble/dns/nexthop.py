"""Take a nexthop apart into destinations (Postfix smtp_connect_inet, host_port(3))."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.hostname import (
    IPV6,
    address_family,
    hostname_problem,
    idn_to_ascii,
)
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class BadDestination(Destination):
    """An element that can't be understood, but is not the first of its list.

    Postfix dies when it gets there, not before: the servers of earlier elements are
    tried, and if none takes the mail it is deferred. `host` is empty.
    """

    __slots__ = ()

    @classmethod
    def because(cls, text: str, problem: str) -> BadDestination:
        """An element, and what is wrong with it."""
        return cls(text, "", 0, service=problem)

    @property
    def problem(self) -> DSN:
        """Why no server can be found for it."""
        return _misconfigured(self.service)


def destinations(
    nexthop: str,
    *,
    fallback: str = "",
    default_port: str,
    lmtp: bool = False,
    known_ports: Iterable[str] = (),
    service_port: Callable[[str], int | None],
) -> tuple[Destination, ...] | DSN:
    """All destinations of a request, in the order in which they are tried.

    `default_port`: smtp_tcp_port or lmtp_tcp_port. `known_ports`: the words of
    known_tcp_ports. `service_port`: port of a TCP service in the system's database,
    None if it is not there. A DSN if the first one can't be understood (4.3.5), or has
    no name in the DNS (4.1.2): where Postfix's client dies, and the mail stays in the
    queue.

    Only LMTP knows sockets: an SMTP nexthop never selects a file.
    """
    if lmtp and nexthop.startswith("unix:"):
        # The whole rest is the path; fallback relays don't apply.
        path = nexthop[5:]
        return (Destination(path, "", 0, no_mx=True, socket=path),)
    if lmtp:
        nexthop = nexthop.removeprefix("inet:")
    parse = _Parser(default_port, lmtp, _known(known_ports), service_port)
    primary = _elements(nexthop)
    if not primary:
        return _misconfigured(f'null destination: "{nexthop}"')
    found = [parse(text) for text in primary]
    found += [parse(text, fallback=True) for text in _elements(fallback)]
    if isinstance(found[0], BadDestination):
        return found[0].problem
    return tuple(found)


# Of what a recipient's address may have; all else is our own configuration's.
_NO_NAME = "domain without an A-label (UTS #46)"


def _misconfigured(problem: str) -> DSN:
    status = "4.1.2" if problem.startswith(_NO_NAME) else "4.3.5"
    return DSN(EnhancedStatus(status), problem)


def _elements(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _known(words: Iterable[str]) -> dict[str, str]:
    """known_tcp_ports: `name=port` or `name=name=port`, blanks around "=" allowed."""
    ports = {}
    text = " ".join(words).replace(" =", "=").replace("= ", "=")
    for entry in text.split():
        *names, port = entry.split("=")
        ports.update(dict.fromkeys(names, port))
    return ports


class _Parser:
    """smtp_parse_destination, with its arguments."""

    __slots__ = ("_default_port", "_known", "_lmtp", "_service_port")

    def __init__(
        self,
        default_port: str,
        lmtp: bool,
        known: dict[str, str],
        service_port: Callable[[str], int | None],
    ) -> None:
        self._default_port = default_port
        self._lmtp = lmtp
        self._known = known
        self._service_port = service_port

    def __call__(self, text: str, fallback: bool = False) -> Destination:
        found = _host_and_service(text, self._default_port)
        if isinstance(found, str):
            return BadDestination.because(
                text, f"{found} in server description: {text}"
            )
        host, service = found
        port = self._port(service, text)
        if isinstance(port, str):
            return BadDestination.because(text, port)
        return Destination(
            text,
            host,
            port,
            no_mx=self._lmtp or text.startswith("["),
            service="" if _numeric(service) else service,
            fallback=fallback,
        )

    def _port(self, service: str, text: str) -> int | str:
        """Port number, or what is wrong with the service."""
        service = self._known.get(service, service)
        if not _numeric(service):
            number = self._service_port(service)
            return number if number else f"unknown service: {service}/tcp"
        # Python refuses to convert thousands of digits.
        number = int(service) if len(service.lstrip("0")) < 6 else 0
        if 0 < number < 65536:
            return number
        return f"bad network port: {service} for destination: {text}"


def _host_and_service(text: str, default: str) -> tuple[str, str] | str:
    """Host (A-label form) and service, or what is wrong with them: host_port(3)."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        ipv6 = host[:5].lower() == "ipv6:"
        if not bracket:
            return 'missing "]"'
        if rest and not rest.startswith(":"):
            return 'garbage after "]"'
        host = host[5:] if ipv6 else host
        if ipv6 and address_family(host) != IPV6:
            return "malformed IPv6 address"
        service = rest[1:]
    else:
        # The right-most colon, so that [address] is needed for IPv6 with a port.
        host, colon, service = text.rpartition(":")
        host = host if colon else service
        service = service if colon else ""
        if not host:
            return "missing host information"
    given, service = service, service or default
    if not service:
        return "missing service information"
    if not address_family(host):
        shown, host = host, idn_to_ascii(host)
        if shown and not host:
            return _NO_NAME
        if hostname_problem(host):
            return "valid hostname or network address required"
    if _numeric(given[:1]) and not _numeric(given):
        return "garbage after numerical service"
    return host, service


def _numeric(service: str) -> bool:
    return service.isascii() and service.isdigit()
