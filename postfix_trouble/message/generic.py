"""generic: smtp_generic_maps in the addresses of a message header.

The header is taken apart and put together as by Postfix tok822(3), which changes more
than the address: it puts in missing commas, moves comments behind the address and
folds anew. The email package would do neither, and would refuse what Postfix lets pass.
So a header in which no address changes keeps its bytes.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.value import Value
from postfix_trouble.message.mime import Place

# Changes an address, in internal form (not quoted); the same address: no change.
Rewrite = Callable[[str], str]

# Headers with the addresses of senders or recipients (Postfix header_opts.c).
_ADDRESS_HEADERS = frozenset(
    (
        b"apparently-to",
        b"bcc",
        b"cc",
        b"disposition-notification-to",
        b"errors-to",
        b"from",
        b"mail-followup-to",
        b"reply-to",
        b"resent-bcc",
        b"resent-cc",
        b"resent-from",
        b"resent-reply-to",
        b"resent-sender",
        b"resent-to",
        b"return-path",
        b"return-receipt-to",
        b"sender",
        b"to",
    )
)
# Operators: besides those of RFC 822, three of other address forms.
_OPERATORS = b'|%!()<>@,;:\\".[]'
_WHITE = b" \t\r\n"
_LINE = 70


class _Sort(Choice):
    OPERATOR = "operator"
    ATOM = "atom"
    QUOTED = "quoted string"
    LITERAL = "domain literal"
    COMMENT = "comment"
    # The colon behind the name of a group.
    GROUP = "group"
    ADDRESS = "address"


class _Token(Value):
    sort: _Sort
    # Without quotes or brackets; a comment with its parentheses; an address unquoted.
    text: bytes

    @property
    def is_word(self) -> bool:
        return self.sort not in (_Sort.OPERATOR, _Sort.GROUP)


_COMMA = _Token(_Sort.OPERATOR, b",")


def rewrite_header(header: bytes, place: Place, name: bytes, rewrite: Rewrite) -> bytes:
    """Rewrite the addresses of a header, if it is one that has some.

    header: with its newlines but the last. Only the header of the message itself is
    rewritten, not those of messages in it.
    """
    if place is not Place.MESSAGE or name not in _ADDRESS_HEADERS:
        return header
    label, _, value = header.partition(b":")
    tokens = _parse(list(_tokens(value)))
    changed = False
    for at, token in enumerate(tokens):
        if token.sort is _Sort.ADDRESS:
            old = token.text.decode("utf-8", "surrogateescape")
            new = rewrite(old)
            if new != old:
                changed = True
                address = new.encode("utf-8", "surrogateescape")
                tokens[at] = _Token(_Sort.ADDRESS, address)
    return _fold(label + b": " + _text(tokens)) if changed else header


# Text to tokens.


def _tokens(text: bytes) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        byte = text[at : at + 1]
        if byte in _WHITE:
            at += 1
        elif byte == b"(":
            end = _comment_end(text, at)
            yield _Token(_Sort.COMMENT, text[at:end])
            at = end
        elif byte in b'["':
            word, end = _collect(text, at + 1, _UNTIL[byte])
            yield _Token(_Sort.LITERAL if byte == b"[" else _Sort.QUOTED, word)
            at = end + 1
        elif byte in _OPERATORS and byte != b"\\":
            yield _Token(_Sort.OPERATOR, byte)
            at += 1
        else:
            word, at = _collect(text, at, _UNTIL[b""])
            plain = not _NOT_PLAIN.search(word)
            yield _Token(_Sort.ATOM if plain else _Sort.QUOTED, word)


_UNTIL = {
    b"[": re.compile(rb"[^]\\]*"),
    b'"': re.compile(rb'[^"\\]*'),
    b"": re.compile(rb"[^" + re.escape(_OPERATORS + _WHITE) + rb"]*"),
}
_NOT_PLAIN = re.compile(rb"[\x00-\x20\x7f" + re.escape(_OPERATORS) + rb"]")
_TO_BLANK = bytes.maketrans(b"\t\r\n", b"   ")
_COMMENT_RUN = re.compile(rb"[^()\\]*")


def _collect(text: bytes, at: int, run: re.Pattern[bytes]) -> tuple[bytes, int]:
    """A word up to what ends it, backslashes resolved. Returns it and its end."""
    word = bytearray()
    while True:
        found = run.match(text, at)
        assert found
        word += found[0]
        at = found.end()
        if text[at : at + 1] != b"\\":
            break
        word += text[at + 1 : at + 2]
        at = min(at + 2, len(text))
    return bytes(word.translate(_TO_BLANK)), at


def _comment_end(text: bytes, at: int) -> int:
    depth = 0
    while at < len(text):
        byte = text[at]
        at += 2 if byte == 92 else 1
        depth += (byte == 40) - (byte == 41)
        if not depth:
            break
        run = _COMMENT_RUN.match(text, at)
        at = run.end() if run else at
    return min(at, len(text))


# Tokens to addresses.


def _parse(tokens: list[_Token]) -> list[_Token]:
    """Find the addresses, from right to left (Postfix tok822_parse).

    Tokens that are no part of an address stay as they are: display names, groups,
    and whatever can't be understood.
    """
    done: list[_Token] = []  # in reverse order, as is `open`
    open_: list[_Token] = []  # may become an address with what is left of it

    def close(comma: bool = False) -> None:
        if open_:
            text = b"".join(map(_inside, reversed(open_)))
            done.append(_Token(_Sort.ADDRESS, text))
            open_.clear()
            if comma:
                done.append(_COMMA)

    def skip(stop: bytes) -> None:
        while tokens and not _operator(tokens[-1], stop):
            done.append(tokens.pop())

    word_fits, in_group = True, False
    settled = False  # the next token is the border of what is open
    while tokens:
        token = tokens.pop()
        border, settled = settled, False
        if token.sort is _Sort.COMMENT:
            done.append(token)
        elif _operator(token, b";"):
            close(comma=True)
            done.append(token)
            word_fits = in_group = True
        elif _operator(token, b":") and in_group:
            close()
            done.append(_Token(_Sort.GROUP, b":"))
            skip(b",")
            settled = True
        elif _operator(token, b">"):
            close(comma=True)
            done.append(token)
            _open_angle(tokens, done, open_)
            close()
            skip(b">;,:")
            word_fits = settled = True
        elif _operator(token, b","):
            close()
            done.append(token)
            word_fits = True
        else:
            if token.is_word:
                if not word_fits:
                    close(comma=True)
                word_fits = False
            else:
                word_fits = True
            (done if border else open_).append(token)
    close()
    return done[::-1]


def _open_angle(tokens: list[_Token], done: list[_Token], open_: list[_Token]) -> None:
    """Collect what is between `<` and `>`; comments go to the right of it."""
    while tokens and not _operator(tokens[-1], b"<"):
        token = tokens.pop()
        (done if token.sort is _Sort.COMMENT else open_).append(token)


def _operator(token: _Token, which: bytes) -> bool:
    return token.sort is _Sort.OPERATOR and token.text in which


# Tokens to text.


def _inside(token: _Token) -> bytes:
    """A token as part of an address, not quoted."""
    return b"[" + token.text + b"]" if token.sort is _Sort.LITERAL else token.text


def _text(tokens: list[_Token]) -> bytes:
    """Header text, with a newline behind each comma."""
    out = bytearray()
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        out += _outside(token)
        if token == _COMMA:
            out += b"\n"
        elif following and (
            token.sort is _Sort.GROUP
            or _operator(following, b"<")
            or (token.is_word and following.is_word)
        ):
            out += b" "
    return bytes(out)


def _outside(token: _Token) -> bytes:
    match token.sort:
        case _Sort.QUOTED:
            return b'"' + re.sub(rb'(["\\\r\n])', rb"\\\1", token.text) + b'"'
        case _Sort.LITERAL:
            return b"[" + re.sub(rb"([\\\r\n])", rb"\\\1", token.text) + b"]"
        case _Sort.ADDRESS:
            return quote(token.text)
        case _:
            return token.text


_DOT_STRING = re.compile(rb'[^\x00-\x20\x7f()<>@,;:\\"\[\].]+')


def quote(address: bytes) -> bytes:
    """An address as headers show it: the local part quoted where it must be.

    The local part ends at the last `@`; a source route before it is kept, and bytes
    above 127 pass (Postfix quote_822_local).
    """
    route = address.find(b":") + 1 if address.startswith(b"@") else 0
    at = address.rfind(b"@", route)
    end = len(address) if at < 0 else at
    local = address[route:end]
    if all(map(_DOT_STRING.fullmatch, local.split(b"."))):
        return address
    quoted = re.sub(rb'(["\\\r])', rb"\\\1", local)
    return address[:route] + b'"' + quoted + b'"' + address[end:]


def _fold(header: bytes) -> bytes:
    """As many addresses on a line as fit, continuation lines begin with a tab."""
    first, *rest = header.split(b"\n")
    lines = [first]
    for line in rest:
        if len(lines[-1]) + 1 + len(line) < _LINE:
            lines[-1] += b" " + line
        else:
            lines.append(line)
    return b"\n".join(
        line if not at or line[:1] in (b" ", b"\t") else b"\t" + line
        for at, line in enumerate(lines)
    )
