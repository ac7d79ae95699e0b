"""What is a host name, what is an address (after Postfix valid_hostname(3)).

Without regular expressions: compiling them costs every mail a millisecond.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

IPV4 = 4
IPV6 = 6

_OCTETS = frozenset(map(str, range(256)))
_HEX = frozenset("0123456789abcdefABCDEF")
_NAME = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.-")
_MAX_LABEL = 63
_MAX_NAME = 255


def address_family(text: str) -> int:
    """IPV4 or IPV6 if the text is a numeric address (no brackets), else 0.

    Stricter than Postfix in one way: leading zeros in IPv4 are refused, since
    resolvers disagree on whether they mean octal.
    """
    if ":" in text:
        return IPV6 if _is_ipv6(text) else 0
    return IPV4 if _is_ipv4(text) else 0


def _is_ipv4(text: str) -> bool:
    octets = text.split(".")
    return len(octets) == 4 and _OCTETS.issuperset(octets)


def _is_ipv6(text: str) -> bool:
    """RFC 4291 section 2.2, without zone. (ipaddress costs 4 ms to import.)"""
    head, gap, tail = text.partition("::")
    groups = [g for part in (head, tail) if part for g in part.split(":")]
    width = len(groups)
    # The last 32 bits may be written as IPv4. (Without groups it is "::".)
    if not text.endswith(":") and _is_ipv4(groups[-1]):
        groups.pop()
        width += 1
    if not all(0 < len(x) < 5 and _HEX.issuperset(x) for x in groups):
        return False
    return width <= 7 if gap else width == 8


def hostname_problem(name: str) -> str:
    """Why this is no host name, in Postfix's words; empty if it is one.

    Underscores are allowed, a last dot and all-numeric names are not
    (valid_hostname(3)).
    """
    if not name:
        return "empty hostname"
    # Postfix reports the first thing that it meets; we, the same for what matters.
    if not _NAME.issuperset(name):
        strange = next(x for x in name if x not in _NAME)
        byte = strange.encode("utf-8", "surrogateescape")[0]
        return f"invalid character {byte}(decimal): {name[:100]}"
    for label in name.split("."):
        if not label:
            return f"misplaced delimiter: {name[:100]}"
        if len(label) > _MAX_LABEL:
            return f"hostname label too long: {name[:100]}"
        if label[0] == "-" or label[-1] == "-":
            return f"misplaced hyphen: {name[:100]}"
    if not name.strip("0123456789."):
        return f"numeric hostname: {name[:100]}"
    if len(name) > _MAX_NAME:
        return f"bad length {len(name)} for {name[:100]}..."
    return ""


def idn_to_ascii(domain: str) -> str:
    """The A-label form of a domain, empty if it has none.

    UTS #46, not transitional, without the rules of context and direction of IDNA2008:
    as Postfix has it from ICU (midna_domain_to_ascii). Names that break those rules,
    and emoji, are in use.
    """
    if domain.isascii():
        return domain
    import idna  # only mail for such domains pays for it

    try:
        labels = idna.uts46_remap(domain, std3_rules=False).split(".")
        return ".".join(map(_a_label, labels))
    except (idna.IDNAError, UnicodeError):
        return ""


def _a_label(label: str) -> str:
    """One label, mapped already. Raises UnicodeError, idna.IDNAError (UTS #46 4)."""
    shown = label
    if label.startswith("xn--"):
        import idna

        # What it stands for must be what it is mapped to, or it is no A-label.
        shown = label[4:].encode("ascii").decode("punycode")
        if shown.isascii() or idna.uts46_remap(shown, std3_rules=False) != shown:
            raise UnicodeError
    if not shown.isascii():
        import unicodedata

        hyphens = shown[0] == "-" or shown[-1] == "-" or shown[2:4] == "--"
        if hyphens or unicodedata.category(shown[0])[0] == "M":
            raise UnicodeError
        label = "xn--" + shown.encode("punycode").decode("ascii")
    if len(label) > _MAX_LABEL:
        raise UnicodeError
    return label
