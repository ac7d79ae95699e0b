"""resolv.conf(5): which name servers to ask, and how."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.value import Value

# Limits of the GNU C library (MAXNS, RES_MAXRETRANS, RES_MAXRETRY).
_MAX_SERVERS = 3
_MAX_TIMEOUT = 30
_MAX_ATTEMPTS = 5
_MAX_NDOTS = 15


class ResolvConf(Value):
    """What the resolver of the C library would make of the file."""

    nameservers: tuple[str, ...] = ("127.0.0.1",)
    search: tuple[str, ...] = ()
    # Seconds that a server gets per attempt.
    timeout: int = 5
    attempts: int = 2
    # Names with at least so many dots are tried as they are first.
    ndots: int = 1
    rotate: bool = False
    use_vc: bool = False
    edns: bool = False
    # The server's word on DNSSEC is good.
    trust_ad: bool = False


def parse(text: str) -> ResolvConf:
    """Read the text of a resolv.conf. What can't be understood is ignored."""
    found = ResolvConf()
    servers: list[str] = []
    for line in text.split("\n"):
        # Nothing else separates words to the C library.
        pieces = line.rstrip("\r").replace("\t", " ").split(" ")
        keyword, *words = [piece for piece in pieces if piece][:65] or [""]
        if keyword == "nameserver" and words:
            servers.append(words[0])
        elif keyword in ("search", "domain"):
            # The last one of either counts.
            wanted = words if keyword == "search" else words[:1]
            names = (x.rstrip(".") for x in wanted)
            found = found._replace(search=tuple(x for x in names if x))
        elif keyword == "options":
            for option in words:
                found = _option(found, option)
    if servers:
        found = found._replace(nameservers=tuple(servers[:_MAX_SERVERS]))
    return found


def _option(conf: ResolvConf, option: str) -> ResolvConf:
    name, _, value = option.partition(":")
    number = int(value[:4]) if value.isascii() and value.isdigit() else None
    if number is not None:
        match name:
            case "timeout":
                return conf._replace(timeout=max(1, min(number, _MAX_TIMEOUT)))
            case "attempts":
                return conf._replace(attempts=max(1, min(number, _MAX_ATTEMPTS)))
            case "ndots":
                return conf._replace(ndots=min(number, _MAX_NDOTS))
    match option:
        case "rotate":
            return conf._replace(rotate=True)
        case "use-vc":
            return conf._replace(use_vc=True)
        case "edns0":
            return conf._replace(edns=True)
        case "trust-ad":
            return conf._replace(trust_ad=True)
    return conf
