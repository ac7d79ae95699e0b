"""Which protocols and ciphers we offer, in Postfix's words (tls_misc.c).

>=TLSv1.2, <=TLSv1.3      a range
!SSLv3, !TLSv1            all but these
TLSv1.2 TLSv1.3           these only
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.config.parameters import lmtp_name
from postfix_trouble.core.tls import TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.tls import TlsPolicy

# In order; their numbers on the wire are 0x0300 and up. SSLv2 is long gone.
PROTOCOLS = ("SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

_BY_NAME = {name.lower(): number for number, name in enumerate(PROTOCOLS)}

# tls_high_cipherlist and its sisters, defaults of Postfix 3.7, which asks not to touch
# them. Anonymous ciphers stand first: who is not going to be checked need not show a
# certificate.
_GRADES = {
    "high": "aNULL:-aNULL:HIGH:@STRENGTH",
    "medium": "aNULL:-aNULL:HIGH:MEDIUM:+RC4:@STRENGTH",
    "low": "aNULL:-aNULL:HIGH:MEDIUM:LOW:+RC4:@STRENGTH",
    "export": "aNULL:-aNULL:HIGH:MEDIUM:LOW:EXPORT:+RC4:@STRENGTH",
    "null": "eNULL:!aNULL",
}


class Unusable(Value):
    """A list by which nothing can be offered, and what is wrong with it."""

    # Which: "protocols", "ciphers", "exclude", as the attributes of a policy.
    attributes: tuple[str, ...]
    problem: str


class Protocols(Value):
    """Which protocols may be used."""

    # Places in PROTOCOLS, in order.
    numbers: tuple[int, ...]
    # Bounds that no OpenSSL knows, which Postfix takes for none.
    unbounded: tuple[str, ...] = ()


def protocols(listed: str) -> Protocols | Unusable:
    """The protocols that a list allows (tls_proto_mask_lims).

    A bound may be a number on the wire, in hexadecimal digits, with or without 0x; one
    that is zero, missing or unknown to OpenSSL is no bound. SSLv2 is a word that means
    nothing.
    """
    only: set[int] = set()
    never: set[int] = set()
    unbounded = []
    floor, ceiling = 0, len(PROTOCOLS) - 1
    words = iter(_words(listed))
    for word in words:
        sign = next((each for each in ("!", ">=", "<=") if word.startswith(each)), "")
        name = word[len(sign) :]
        if len(sign) == 2 and not name:
            name = next(words, "")
        if sign in ("", "!"):
            number = _BY_NAME.get(name.lower())
            if number is None and name.lower() != "sslv2":
                return Unusable(("protocols",), f'unknown protocol "{name}"')
            if number is not None:
                (never if sign else only).add(number)
            continue
        bound = _bound(name)
        if bound is None:
            return Unusable(("protocols",), f'unknown protocol "{name}"')
        if not 0 <= bound < len(PROTOCOLS):
            if name.strip("0xX"):
                unbounded.append(sign + name)
        elif sign == ">=":
            floor = bound
        else:
            ceiling = bound
    allowed = (only or set(range(len(PROTOCOLS)))) - never
    usable = tuple(n for n in sorted(allowed) if floor <= n <= ceiling)
    if not usable:
        return Unusable(("protocols",), "no protocol is left")
    return Protocols(usable, tuple(unbounded))


def _words(listed: str) -> list[str]:
    """Not by `re`, which takes 3 ms to load and has no other use in a delivery."""
    return listed.replace(",", " ").replace(":", " ").split()


def _bound(name: str) -> int | None:
    """Place of a protocol in PROTOCOLS, or a number that is none; None: no protocol."""
    digits = name[2:] if name[:2] in ("0x", "0X") else name or "0"
    if digits and not digits.strip("0123456789abcdefABCDEF"):
        return int(digits, 16) - 0x0300
    return _BY_NAME.get(name.lower())


def cipher_list(grade: str, exclude: str) -> str | Unusable:
    """OpenSSL's word for a grade without what is excluded (tls_set_ciphers)."""
    words = _words(exclude)
    known = _GRADES.get(grade.lower())
    if known is None:
        return Unusable(("ciphers",), f'unknown grade "{grade}"')
    for word in words:
        # OpenSSL would take the sign as an order to add, or to do something else.
        if word[0] in "!+-@":
            return Unusable(("exclude",), f'"{word}" begins with {word[0]}')
    return ":".join([known, *("!" + word for word in words)])


def source(attribute: str, policy: TlsPolicy, settings: Settings) -> str:
    """Where an attribute of a policy was set, as it stands there; empty: nowhere."""
    mandatory = policy.level > TlsLevel.MAY
    value: str = getattr(policy, attribute)
    if attribute == "exclude":
        # The last one is excluded by the level itself.
        words = value.split()[:-1] if mandatory else value.split()
        names = ["smtp_tls_exclude_ciphers"]
        names += ["smtp_tls_mandatory_exclude_ciphers"] if mandatory else []
    else:
        words = value.split()
        names = [f"smtp_tls_{'mandatory_' if mandatory else ''}{attribute}"]
    given = [(name, settings.text(name)) for name in names]
    if {word for _, text in given for word in text.split()}.issuperset(words):
        shown = ((lmtp_name(x) if settings.lmtp else x, y) for x, y in given if y)
        return ", ".join(f"{name} = {text}" for name, text in shown)
    maps = "smtp_tls_policy_maps"
    maps = lmtp_name(maps) if settings.lmtp else maps
    return f"{maps}: {attribute}={' '.join(words)}"
