"""LMTP command lines taken apart: paths, parameters, xtext.

What Postfix's lmtp(8) sends is well-formed, so all is read as RFC 5321 4.1.2 and RFC
3461 4 have it. What can't be read is None; what becomes of it is decided in
lmtp/dialogue.py.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re

from postfix_trouble.smtp.address import unsendable

# A quoted string may hold anything, brackets too. Possessive: the line is the
# client's, and must not be able to make us search for long.
_PATH = re.compile(
    rb'[ \t]*<((?:[^"\\<>]|\\.|"(?:[^"\\]|\\.)*+")*+)>(?:[ \t]+(.*))?\Z', re.DOTALL
)
# Obsolete (RFC 5321 appendix C): to be accepted, and ignored.
_SOURCE_ROUTE = re.compile(r'\A@[^":<>]*:(?=.)')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"|\\(.)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_HEX = re.compile(rb"\+([0-9A-Fa-f]{2})")
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


def text(raw: bytes) -> str:
    """Bytes as addresses carry them: UTF-8, anything else kept by surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def path(argument: bytes) -> tuple[bytes, bytes] | None:
    """What stands in `<...>`, and the parameters behind it; None if malformed."""
    found = _PATH.match(argument)
    return (found[1], found[2] or b"") if found else None


def internal_form(mailbox: bytes) -> str | None:
    """The address without quotes: `"a b"@d` is `a b@d` (Postfix unquote_822_local).

    None for what has no internal form: NUL, CR or LF in it, or a quoted "@" without
    a domain, since everything right of the last "@" would be taken for one.
    """
    quoted = _SOURCE_ROUTE.sub("", text(mailbox))
    bare = _QUOTED.sub(lambda m: m[2] or _ESCAPED.sub(r"\1", m[1]), quoted)
    if unsendable(bare) or ("@" in bare and "@" not in _QUOTED.sub("", quoted)):
        return None
    return bare


def parameters(rest: bytes) -> tuple[tuple[str, bytes], ...]:
    """`KEY=value` words, keys in upper case; a word without `=` has no value."""
    pairs = (word.partition(b"=") for word in rest.split())
    return tuple((text(key).upper(), value) for key, _, value in pairs)


def from_xtext(raw: bytes) -> str | None:
    """RFC 3461 section 4 decoded, None if a `+` is not followed by two hex digits."""
    if raw.count(b"+") != len(_HEX.findall(raw)):
        return None
    return text(_HEX.sub(lambda m: bytes([int(m[1], 16)]), raw))


def from_uxtext(raw: bytes) -> str | None:
    """RFC 6533 section 3 decoded (`\\x{HEX}`), None if malformed."""
    coded = text(raw)
    points = [int(digits, 16) for digits in _EMBEDDED.findall(coded)]
    if coded.count("\\") != len(points):
        return None
    if any(point > 0x10FFFF or 0xD800 <= point <= 0xDFFF for point in points):
        return None
    return _EMBEDDED.sub(lambda m: chr(int(m[1], 16)), coded)


def original_recipient(raw: bytes) -> str | None:
    """ORCPT decoded to `type;address` as Postfix keeps it, None if malformed."""
    kind, _, address = raw.partition(b";")
    if not kind or not address:
        return None
    decode = from_uxtext if kind.lower() == b"utf-8" else from_xtext
    decoded = decode(address)
    # A line end in it would end the command in which it is passed on.
    if decoded is None or unsendable(decoded):
        return None
    return f"{text(kind)};{decoded}"
