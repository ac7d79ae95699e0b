"""The parsers once more, in the slow and obvious way: whole texts, line by line."""

from __future__ import annotations

import re

from postfix_trouble.message.headers import LIMIT
from postfix_trouble.message.mime_headers import Kind, content_type, transfer_encoding


def shown(line: bytes, *, utf8: bool) -> str:
    """A line as it may be shown: up to a NUL, without anything unprintable."""
    line = line.split(b"\0")[0]
    out = ""
    while line:
        for size in (1, 2, 3, 4) if utf8 else (1,):
            try:
                letter = line[:size].decode("utf-8" if utf8 else "ascii")
            except UnicodeDecodeError:
                continue
            line = line[size:]
            break
        else:
            letter, line = "?", line[1:]
        out += "?" if letter < " " or letter == "\x7f" else letter
    return out


def replies_of(data: bytes, limit: int, *, utf8: bool) -> list[tuple[int, str, bool]]:
    """Code and text of all replies, and whether something else came before the end.

    For lines below the limit.
    """
    found = []
    kept: list[str] = []
    garbled = False
    for raw in data.split(b"\n")[:-1]:
        line = shown(raw.rstrip(b"\r"), utf8=utf8)
        # What is kept may exceed the limit by the last line.
        if len("\n".join(kept).encode()) < limit:
            kept.append(line)
        if re.fullmatch(r"[0-9]{3}( .*)?", line, re.DOTALL):
            found.append((int(line[:3]), "\n".join(kept), garbled))
            kept, garbled = [], False
        elif not re.match(r"[0-9]{3}-", line):
            garbled = True
    return found


def wire_text(text: bytes, limit: int, *, crlf: bool) -> bytes:
    """What goes over the wire after DATA, without the dot."""
    if crlf:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    else:
        text = re.sub(rb"\r(?=[.\0])", b" ", text)
    found = text.split(b"\n")
    if not found[-1]:
        found.pop()
    out = b""
    for line in found:
        pieces = [line]
        while limit and len(pieces[-1]) > limit:
            last = pieces.pop()
            pieces += [last[:limit], b" " + last[limit:]]
        if line.startswith(b"."):
            out += b"."
        out += b"".join(piece + b"\r\n" for piece in pieces)
    return out


def lmtp_text(wire: bytes) -> tuple[bytes, bytes | None]:
    """The text of a message, and what follows it; None if its end did not come."""
    text, rest = b"", wire
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            # A part of the last line may have been handed on.
            line = line[1:] if line.startswith(b".") else line
            return text + line.replace(b"\n", b" "), None
        if line == b".":
            return text, rest
        line = line[1:] if line.startswith(b".") else line
        text += line.replace(b"\n", b" ") + b"\n"


# --- MIME ---------------------------------------------------------------------------


def quoted_printable(line: bytes) -> bytes:
    """One line, byte by byte."""
    rows = [b""]
    for place, byte in enumerate(line):
        last = place == len(line) - 1
        plain = 32 < byte < 127 and byte != 61
        if byte in b" \t":
            plain = not last
        if len(rows[-1]) >= 73:
            rows.append(b"")
        rows[-1] += bytes([byte]) if plain else b"=%02X" % byte
    return b"=\n".join(rows) + b"\n"


class _Deep(Exception):
    """Too many boundaries."""


def mime_converted(text: bytes, *, downgrade: bool, nesting_limit: int) -> bytes | None:
    """A message with its 8-bit parts converted; None if that can't be done.

    For lines shorter than a record. What a Content-Type means is not modelled.
    """
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    try:
        return _Message(lines, downgrade, nesting_limit).out
    except _Deep:
        return None


class _Message:
    """Takes a message from its first line to its last."""

    def __init__(self, lines: list[bytes], downgrade: bool, limit: int) -> None:
        self.out = b""
        self._lines = lines
        self._downgrade = downgrade
        self._limit = limit
        # Boundary, and whether parts are messages by default.
        self._open: list[tuple[bytes, bool]] = []
        self._entity("message", Kind.LEAF)

    def _entity(self, place: str, kind: Kind) -> None:
        """A header and what it is the header of."""
        while True:
            kind, eight_bit = self._header(kind)
            line = self._lines[0] if self._lines else None
            if self._lines and not line:
                # The empty line.
                if kind in (Kind.RFC822, Kind.GLOBAL):
                    self._put(b"", eight_bit)
                    self._lines.pop(0)
                    place, kind = "nested", Kind.LEAF
                    continue
                if kind is Kind.MULTIPART:
                    # The text before the first part is not encoded; the line is.
                    eight_bit = False
            elif line is not None and place == "message":
                self.out += b"\n"
            following = self._body(eight_bit)
            if following is None:
                return
            place, kind = following

    def _header(self, kind: Kind) -> tuple[Kind, bool]:
        eight_bit = False
        while self._lines:
            line = self._lines[0].split(b"\0")[0]
            name = re.match(rb"([!-9;-~]+)[ \t]*:", line)
            if name is None:
                break
            self._lines.pop(0)
            header = name[1] + b":" + line[name.end() :]
            while self._lines and self._lines[0].split(b"\0")[0][:1] in (b" ", b"\t"):
                folded = b"\n" + self._lines.pop(0).split(b"\0")[0]
                if len(header) < LIMIT:
                    header += folded
            value = header.split(b":", 1)[1]
            word = name[1].lower()
            if word == b"content-type":
                kind = self._content_type(value, kind)
            if word == b"content-transfer-encoding":
                said = transfer_encoding(value)
                eight_bit = eight_bit if said is None else said
                if self._downgrade and eight_bit:
                    continue
            self.out += header + b"\n"
        if self._downgrade and eight_bit:
            kind = Kind.LEAF if kind is Kind.GLOBAL else kind
            encoding = b"quoted-printable" if kind is Kind.LEAF else b"7bit"
            self.out += b"Content-Transfer-Encoding: " + encoding + b"\n"
        return kind, eight_bit

    def _content_type(self, value: bytes, kind: Kind) -> Kind:
        found, boundaries, digest = content_type(value)
        for boundary in boundaries:
            if len(self._open) <= self._limit + 1:
                self._open.append((b"--" + boundary, digest))
            elif self._downgrade:
                raise _Deep
        return found or kind

    def _body(self, eight_bit: bool) -> tuple[str, Kind] | None:
        """Up to a boundary behind which a part begins. None at the end."""
        while self._lines:
            line = self._lines.pop(0)
            # A boundary of an outer part ends all parts in it.
            inner = [
                at
                for at, (mark, _) in enumerate(self._open)
                if len(line) > 2 and line.startswith(mark)
            ]
            if not inner:
                self._put(line, eight_bit)
                continue
            mark, digest = self._open[inner[-1]]
            last = line[len(mark) : len(mark) + 2] == b"--"
            del self._open[inner[-1] + (not last) :]
            eight_bit = False
            self._put(line, eight_bit)
            if not last:
                return "part", Kind.RFC822 if digest else Kind.LEAF
        return None

    def _put(self, line: bytes, eight_bit: bool) -> None:
        if self._downgrade and eight_bit:
            self.out += quoted_printable(line)
        else:
            self.out += line + b"\n"
