"""The system's own look-ups, and the addresses of this machine."""

from __future__ import annotations

import socket

from postfix_trouble.config.types import ConfigError
from postfix_trouble.core.hostname import IPV4, IPV6, address_family
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.dns.lookup import NativeAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.config.settings import Settings

FAMILIES = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}

_ANY_PORT = 9

# Errors of getaddrinfo that another try may cure, and those that are about the name.
# EAI_NODATA is not one of these: Postfix is built without it on Linux.
_AGAIN = (socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM)
_LATE = "Temporary failure in name resolution"
_UNKNOWN = (socket.EAI_AGAIN, socket.EAI_NONAME)


def enabled_families(words: tuple[str, ...]) -> tuple[int, ...]:
    """The families of inet_protocols, less what this machine does not have."""
    wanted = [x for x, word in ((IPV4, "ipv4"), (IPV6, "ipv6")) if word in words]
    if "all" in words:
        wanted = [IPV4, IPV6]
    return tuple(x for x in wanted if _supported(FAMILIES[x]))


def _supported(family: int) -> bool:
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def address_text(address: str) -> str:
    """The usual form of a numeric address."""
    family = FAMILIES[address_family(address)]
    return socket.inet_ntop(family, socket.inet_pton(family, address))


def look_up(host: str, families: tuple[int, ...], seconds: float) -> NativeAnswer:
    """Addresses of a host by getaddrinfo(3), within a time limit."""
    import threading  # getaddrinfo has no time limit of its own

    answers: list[NativeAnswer] = []
    family = FAMILIES[families[0]] if len(families) == 1 else socket.AF_UNSPEC
    thread = threading.Thread(
        target=lambda: answers.append(_getaddrinfo(host, family)), daemon=True
    )
    thread.start()
    thread.join(seconds)
    late = NativeAnswer((), _LATE, soft=True, unknown_name=True)
    return answers[0] if answers else late


def _getaddrinfo(host: str, family: int) -> NativeAnswer:
    try:
        found = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
    except socket.gaierror as error:
        code = error.errno
        return NativeAnswer((), error.strerror or "", code in _AGAIN, code in _UNKNOWN)
    except (OSError, ValueError) as error:
        return NativeAnswer((), str(error), soft=True)
    known = (socket.AF_INET, socket.AF_INET6)
    addresses = (str(x[4][0]).partition("%")[0] for x in found if x[0] in known)
    return NativeAnswer(tuple(dict.fromkeys(addresses)))


class OwnAddresses:
    """The addresses at which this mail system receives mail."""

    def __init__(
        self, settings: Settings, native: Callable[[str], NativeAnswer]
    ) -> None:
        self._all = False
        self._interfaces: set[str] = set()
        self._proxies: set[str] = set()
        for word in settings.words("inet_interfaces"):
            if word.lower() == "all":
                self._all = True
            elif word == "loopback-only":
                self._interfaces |= {"127.0.0.1", "::1"}
            else:
                found = self._resolved("inet_interfaces", word, native)
                self._interfaces.update(found)
        for word in settings.words("proxy_interfaces"):
            self._proxies.update(self._resolved("proxy_interfaces", word, native))

    @staticmethod
    def _resolved(
        parameter: str, word: str, native: Callable[[str], NativeAnswer]
    ) -> tuple[str, ...]:
        host = word[1:-1] if word.startswith("[") and word.endswith("]") else word
        if address_family(host):
            return (address_text(host),)
        found = native(host)
        if not found.addresses:
            problem = f"config variable {parameter}: host not found: {host}"
            raise ConfigError(parameter, problem)
        return found.addresses

    def __contains__(self, address: str) -> bool:
        listed = address in self._interfaces or address in self._proxies
        return listed or (self._all and _is_local(address))

    def only(self, family: int) -> str:
        """The only one of a family, unless that is loopback; else empty."""
        found = [x for x in self._interfaces if address_family(x) == family]
        if self._all or len(found) != 1 or found[0].startswith("127."):
            return ""
        return "" if found[0] == "::1" else found[0]


def _is_local(address: str) -> bool:
    """Whether an interface of this machine has an address.

    Asked of the routing table: only what is sent to such an address has it as source
    too. Nothing is sent. Trying to bind the address would say yes to all of 127.0.0.0/8
    and, with ip_nonlocal_bind, to the whole world; and mail that loops is bounced.
    """
    family = FAMILIES[address_family(address)]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _ANY_PORT))
            return str(probe.getsockname()[0]) == address
    except OSError:
        return False
