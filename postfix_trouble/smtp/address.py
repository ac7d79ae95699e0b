"""Addresses on the wire: quoting, and the encodings of RFC 3461 and RFC 6533.

smtplib's quoteaddr is not used: it parses what it should send, and so mails a message
for "a;b@example" to "a".
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

# What an atom of a Dot-string can't hold (RFC 5321 4.1.2); 8-bit characters it can
# (RFC 6531).
_NO_ATOM = frozenset('<>()[]\\,;:@"\x7f' + "".join(map(chr, range(33))))
_BACKSLASHED = str.maketrans({c: "\\" + c for c in '"\\\r\n'})


def to_bytes(text: str) -> bytes:
    """The bytes an address came as; what was no UTF-8 was kept by surrogates."""
    return text.encode("utf-8", "surrogateescape")


def unsendable(address: str) -> bool:
    """Whether the address would break the protocol, quoted or not."""
    return any(c in address for c in "\0\r\n")


def quote_local(address: str) -> str:
    """Quote the local part for SMTP if it needs to be (Postfix quote_821_local).

    The local part is everything left of the last "@".
    """
    local, at, domain = address.rpartition("@")
    if not at:
        local, domain = domain, ""
    if not local and not at:
        return address
    if not _is_dot_string(local):
        local = '"' + local.translate(_BACKSLASHED) + '"'
    return local + at + domain


def _is_dot_string(local: str) -> bool:
    return all(local.split(".")) and _NO_ATOM.isdisjoint(local)


def unquote_local(address: str) -> str:
    """Internal form of an address with a quoted local part (Postfix unquote_822)."""
    if not address.startswith('"'):
        return address
    out = []
    rest = iter(address[1:])
    for char in rest:
        if char == '"':
            break
        # A backslash at the very end stands for itself.
        out.append(next(rest, char) if char == "\\" else char)
    return "".join(out) + "".join(rest)


def xtext(text: str) -> str:
    """RFC 3461 section 4: `+` and two hex digits for what can't stand for itself."""
    return "".join(
        chr(b) if 32 < b < 127 and b not in b"+=" else f"+{b:02X}"
        for b in to_bytes(text)
    )


def uxtext(text: str) -> str | None:
    """RFC 6533 section 3: `\\x{HEX}` for what can't stand for itself, or is not ASCII.

    So it goes to servers without SMTPUTF8, too. None if the address is not valid UTF-8.
    """
    out = []
    for char in text:
        point = ord(char)
        if 0xD800 <= point <= 0xDFFF:
            return None
        if 32 < point < 127 and char not in "\\+=":
            out.append(char)
        else:
            out.append(f"\\x{{{point:02X}}}")
    return "".join(out)
