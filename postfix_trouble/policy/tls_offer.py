"""Which protocols and ciphers we offer, in Postfix's words (tls_misc.c).

>=TLSv1.2, <=TLSv1.3      a range
!SSLv3, !TLSv1            all but these
TLSv1.2 TLSv1.3           these only
"""

from __future__ import annotations

import re

# In order; their numbers on the wire are 0x0300 and up. SSLv2 is long gone.
PROTOCOLS = ("SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

_BY_NAME = {name.lower(): number for number, name in enumerate(PROTOCOLS)}
_BY_NAME["sslv2"] = -1

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


def protocols(listed: str) -> tuple[int, ...] | None:
    """Places in PROTOCOLS of those that may be used; None if it makes no sense."""
    only: set[int] = set()
    never: set[int] = set()
    floor, ceiling = 0, len(PROTOCOLS) - 1
    for word in re.sub(r"[,:\s]+", " ", listed).split():
        _, sign, name = re.split(r"^(!|>=|<=|)", word)
        number = _number(name)
        if number is None:
            return None
        if sign == ">=":
            floor = number
        elif sign == "<=":
            ceiling = number
        elif sign == "!":
            never.add(number)
        else:
            only.add(number)
    allowed = (only or set(range(len(PROTOCOLS)))) - never
    usable = tuple(n for n in sorted(allowed) if n >= 0 and floor <= n <= ceiling)
    return usable or None


def _number(name: str) -> int | None:
    """Place of a protocol in PROTOCOLS, by name or by its number on the wire."""
    if re.fullmatch(r"0[xX][0-9A-Fa-f]{1,4}", name):
        number = int(name, 16) - 0x0300
        return number if 0 <= number < len(PROTOCOLS) else None
    return _BY_NAME.get(name.lower())


def cipher_list(grade: str, exclude: str) -> str | None:
    """OpenSSL's word for a grade without what is excluded; None if there is none."""
    grade = _GRADES.get(grade.lower(), "")
    words = re.sub(r"[,\s]+", " ", exclude).split()
    if not grade or any(re.search(r"[:@!]|^[-+]", word) for word in words):
        return None
    return ":".join([grade, *("!" + word for word in words)])
