"""mime_headers: what Content-Type and Content-Transfer-Encoding say of an entity.

They are read with the eyes of Postfix header_token(3) and mime_state(3), not with
those of the RFC: what becomes of broken MIME must be what Postfix makes of it, since
others have come to rely on that. The email package reads broken headers otherwise.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

# mime_boundary_length_limit.
BOUNDARY_LENGTH = 2048

_WHITE = b" \t\r\n"
# RFC 2045 tspecials, and RFC 822 specials.
_TSPECIALS = b'()<>@,;:\\"/[]?='
_SPECIALS = b'()<>@,;:\\".[]'
_CONTROLS = bytes((*range(32), 127))
# What means something in a comment, and in quotes.
_COMMENT = frozenset(b"()\\")
_QUOTED = frozenset(b'"\\\n')


class Kind(Choice):
    """Sorts of entities that are treated differently."""

    LEAF = "leaf"
    # message/rfc822: begins with a header of its own.
    RFC822 = "rfc822"
    # message/global (RFC 6532): the same, but encoded as a whole.
    GLOBAL = "global"
    # message/partial and the like: its body is left alone.
    MESSAGE = "message"
    MULTIPART = "multipart"


_MESSAGES = {b"rfc822": Kind.RFC822, b"global": Kind.GLOBAL}


class ContentType(Value):
    """What a Content-Type header says."""

    # None: nothing of interest, the default remains.
    kind: Kind | None
    # Several are against the RFC, and all are heeded, lest one hides a part.
    boundaries: tuple[bytes, ...] = ()
    # Parts are messages by default (multipart/digest).
    digest: bool = False


class _Lexer:
    """Tokens of a header value; comments and white space are skipped.

    A token is a pair of its kind and its text: "word", "quoted" or "special". No
    regular expressions here either: the module for them costs 5 ms.
    """

    def __init__(self, text: bytes, specials: bytes) -> None:
        self._text = text
        self._at = 0
        self._ends = frozenset(specials + _WHITE + _CONTROLS)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        while self._at < len(self._text):
            word = self._run(self._ends)
            if word:
                yield "word", word
                continue
            byte = self._byte()
            if byte == b"(":
                self._skip_comment()
            elif byte == b'"':
                yield "quoted", self._quoted()
            elif byte not in _WHITE:
                yield "special", byte

    def _run(self, ends: frozenset[int]) -> bytes:
        """What comes before any of these bytes, or the end."""
        text, start = self._text, self._at
        at = start
        while at < len(text) and text[at] not in ends:
            at += 1
        self._at = at
        return text[start:at]

    def _byte(self) -> bytes:
        """The next one, empty at the end."""
        byte = self._text[self._at : self._at + 1]
        self._at += 1
        return byte

    def _skip_comment(self) -> None:
        depth = 1
        while depth and self._at < len(self._text):
            self._run(_COMMENT)
            byte = self._byte()
            if byte == b"(":
                depth += 1
            elif byte == b")":
                depth -= 1
            elif byte == b"\\":
                self._at += 1

    def _quoted(self) -> bytes:
        value = bytearray()
        while self._at < len(self._text):
            value += self._run(_QUOTED)
            byte = self._byte()
            if byte == b'"':
                break
            if byte == b"\n":
                while value and value[-1] in _WHITE:
                    del value[-1]
            elif byte == b"\\":
                value += self._byte()
        return bytes(value)


def _parameters(value: bytes) -> Iterator[list[tuple[str, bytes]]]:
    """The first three tokens of each part of a header value, parts ended by `;`."""
    tokens: list[tuple[str, bytes]] = []
    for token in _Lexer(value, _TSPECIALS):
        if token == ("special", b";"):
            yield tokens
            tokens = []
        elif len(tokens) < 3:
            tokens.append(token)
    if tokens:
        yield tokens


def _is(token: tuple[str, bytes], word: bytes) -> bool:
    return token[0] == "word" and token[1].lower() == word


def content_type(value: bytes) -> ContentType:
    """Read the value of a Content-Type header (Postfix mime_state_content_type)."""
    parts = _parameters(value)
    first = next(parts, [])
    if not first or _is(first[0], b"text"):
        return ContentType(Kind.LEAF)
    slash = len(first) > 2 and first[1] == ("special", b"/")
    if _is(first[0], b"message"):
        subtype = first[2][1].lower() if slash and first[2][0] == "word" else b""
        return ContentType(_MESSAGES.get(subtype, Kind.MESSAGE))
    if not _is(first[0], b"multipart"):
        return ContentType(None)
    boundaries = tuple(
        part[2][1][:BOUNDARY_LENGTH]
        for part in parts
        if len(part) > 2 and _is(part[0], b"boundary") and part[1] == ("special", b"=")
    )
    digest = slash and _is(first[2], b"digest")
    return ContentType(Kind.MULTIPART, boundaries, digest)


def transfer_encoding(value: bytes) -> bool | None:
    """Whether a Content-Transfer-Encoding allows 8-bit bytes; None: nothing known.

    After Postfix mime_state_content_encoding: only the first word counts.
    """
    kind, word = next(iter(_Lexer(value, _SPECIALS)), ("", b""))
    if kind != "word":
        return None
    return {
        b"7bit": False,
        b"8bit": True,
        b"binary": True,
        b"base64": False,
        b"quoted-printable": False,
    }.get(word.lower())
