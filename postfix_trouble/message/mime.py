"""mime: a message as headers and bodies, while it flows past (Postfix mime_state(3)).

The parser knows message headers, the parts of a multipart and messages in a message.
On the way it converts parts that are declared 8-bit to quoted-printable, for servers
without 8BITMIME (RFC 6152), and shows each header and each body line to whoever wants
to change them. What is not text of a header or declared 8-bit is not converted, with
whatever bytes it has: the structure stays as it is.

Where broken MIME could be read in several ways, it is read in Postfix's way:
a boundary ends all parts inside its own and needs no more than to begin a line, a line
that is no header ends the header (and gets an empty line before it in the message
header), `Name :` becomes `Name:`, and a header beyond header_size_limit is cut.

Memory: one header, the boundaries, and a chunk.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.failure import ContentError
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.message.headers import LIMIT, name_length, says_8bit
from postfix_trouble.message.lines import RECORD_SIZE
from postfix_trouble.message.mime_headers import Kind, content_type, transfer_encoding
from postfix_trouble.message.quoted_printable import LineEncoder, encode_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    # (header with its newlines but the last, where, name in lower case) -> text to
    # send. The name is empty for a header of our own making.
    HeaderStage = Callable[[bytes, "Place", bytes], bytes]
    # (line or piece of one, whether the line ends with it) -> text to send.
    BodyStage = Callable[[bytes, bool], bytes]

# Output is handed on in pieces of about this many bytes.
_PIECE = 65536


class Place(Choice):
    """Where a header is."""

    MESSAGE = "at the start of the message"
    PART = "at the start of a part of a multipart"
    NESTED = "at the start of a message in the message"


def unchanged(header: bytes, _place: Place, _name: bytes) -> bytes:
    """The header stage that changes nothing."""
    return header + b"\n"


class Parser:
    """Takes text in chunks, gives text. One for each message.

    structure: look for parts at all; else the message is one header and one body.
    downgrade: convert what is declared 8-bit.
    nesting_limit: mime_nesting_limit. With downgrade, more than two levels above it
    raise ContentError (5.6.0); else deeper multiparts are taken for text.
    header_limit: header_size_limit, in bytes.
    """

    def __init__(
        self,
        *,
        structure: bool = True,
        downgrade: bool = False,
        nesting_limit: int = 100,
        header_limit: int = LIMIT,
        header: HeaderStage = unchanged,
        body: BodyStage | None = None,
    ) -> None:
        self._structure = structure
        self._downgrade = downgrade
        self._nesting_limit = nesting_limit
        self._header_limit = header_limit
        self._header_stage = header
        self._body_stage = body
        self._place: Place | None = Place.MESSAGE  # None: in a body
        self._kind = Kind.LEAF
        self._eight_bit = False  # as declared
        self._header = bytearray()
        self._continued = False  # the last record did not end its line
        # Boundaries with their dashes, and whether the default is a message.
        self._stack: list[tuple[bytes, bool]] = []
        self._marks: tuple[bytes, ...] = ()
        self._encoder = LineEncoder()
        self._out: list[bytes] = []
        self._pending = 0

    def run(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Parse a whole message."""
        text = b""
        for chunk in chunks:
            text = text + chunk if text else chunk
            at = 0
            while True:
                at = self._whole_lines(text, at)
                newline = text.find(b"\n", at, at + RECORD_SIZE)
                if newline >= 0:
                    self._record(text[at:newline], True)
                    at = newline + 1
                elif len(text) - at >= RECORD_SIZE:
                    self._record(text[at : at + RECORD_SIZE], False)
                    at += RECORD_SIZE
                else:
                    break
                if self._pending >= _PIECE:
                    yield self._flush()
            text = text[at:]
            yield self._flush()
        if text:
            self._record(text, True)
        self._end()
        yield self._flush()

    # Headers.

    def _record(self, text: bytes, complete: bool) -> None:
        if self._place is None or not self._header_record(text, complete):
            self._body_record(text, complete)
        self._continued = not complete

    def _header_record(self, text: bytes, complete: bool) -> bool:
        """Whether the record is part of a header."""
        # Postfix keeps headers as C strings.
        line = text.partition(b"\0")[0]
        if self._header:
            if self._continued or line[:1] in (b" ", b"\t"):
                if len(self._header) < self._header_limit:
                    self._header += line if self._continued else b"\n" + line
                return True
            self._header_done()
            self._continued = False
        length = name_length(line)
        if length:
            self._header += line[:length] + line[length:].lstrip(b" \t")
            return True
        self._headers_done()
        self._enter_body(empty_line=not text)
        return False

    def _header_done(self) -> None:
        header = bytes(self._header)
        self._header.clear()
        name, _, value = header.partition(b":")
        name = name.lower()
        if self._structure:
            if name == b"content-type":
                self._content_type(value)
            elif name == b"content-transfer-encoding":
                eight_bit = transfer_encoding(value)
                if eight_bit is not None:
                    self._eight_bit = eight_bit
                if self._downgrade and self._eight_bit:
                    return  # What replaces it depends on headers to come.
        assert self._place
        self._write(self._header_stage(header, self._place, name))

    def _content_type(self, value: bytes) -> None:
        kind, boundaries, digest = content_type(value)
        if kind:
            self._kind = kind
        for boundary in boundaries:
            # Postfix begins to count below zero.
            if len(self._stack) < self._nesting_limit + 2:
                self._stack.append((b"--" + boundary, digest))
            elif self._downgrade:
                raise ContentError("5.6.0", "MIME nesting exceeds safety limit")
        self._marks = tuple(mark for mark, _ in self._stack)

    def _headers_done(self) -> None:
        """The place for the encoding that results."""
        if self._downgrade and self._eight_bit:
            if self._kind is Kind.GLOBAL:
                # Its headers are 8-bit text, too (RFC 6532 3.7).
                self._kind = Kind.LEAF
            leaf = self._kind is Kind.LEAF
            header = b"Content-Transfer-Encoding: "
            header += b"quoted-printable" if leaf else b"7bit"
            assert self._place
            self._write(self._header_stage(header, self._place, b""))

    def _enter_body(self, *, empty_line: bool) -> None:
        place, self._place = self._place, None
        if not empty_line:
            # Not in a part, where it would break signatures.
            if place is Place.MESSAGE:
                self._write_body(b"", True)
        elif self._kind in (Kind.RFC822, Kind.GLOBAL):
            self._enter(Place.NESTED, Kind.LEAF)
        elif self._kind is Kind.MULTIPART:
            self._enter(None, Kind.LEAF)

    def _enter(self, place: Place | None, kind: Kind) -> None:
        self._place = place
        self._kind = kind
        self._eight_bit = False

    # Bodies.

    def _body_record(self, text: bytes, complete: bool) -> None:
        # Two dashes alone are no boundary, not even the empty one.
        if not self._continued and len(text) > 2 and text.startswith(self._marks):
            self._boundary(text)
        if self._downgrade and self._eight_bit:
            self._write_encoded(self._encoder.encode(text, complete))
        else:
            self._write_body(text, complete)

    def _boundary(self, text: bytes) -> None:
        level = len(self._stack) - 1
        while not text.startswith(self._stack[level][0]):
            level -= 1
        mark, digest = self._stack[level]
        last = text.startswith(b"--", len(mark))
        del self._stack[level if last else level + 1 :]
        self._marks = tuple(mark for mark, _ in self._stack)
        if last:
            self._enter(None, Kind.LEAF)
        else:
            self._enter(Place.PART, Kind.RFC822 if digest else Kind.LEAF)

    def _whole_lines(self, text: bytes, at: int) -> int:
        """Pass on what needs no look at single lines. Returns where that ends."""
        if self._place is not None or self._continued or self._body_stage:
            return at
        end = text.rfind(b"\n", at) + 1
        if end <= at:
            return at
        if self._marks:
            end = self._next_mark(text, at, end)
            if end == at:
                return at
        block = text[at:end]
        if self._downgrade and self._eight_bit:
            block = encode_lines(block)
        self._write(block)
        return end

    def _next_mark(self, text: bytes, at: int, end: int) -> int:
        """The first line that is a boundary, else the end."""
        while not text.startswith(self._marks, at):
            at = text.find(b"\n--", at, end) + 1
            if not at:
                return end
        return at

    def _end(self) -> None:
        if self._continued:
            self._record(b"", True)
        if self._place is not None:
            if self._header:
                self._header_done()
            self._headers_done()

    # Output.

    def _write_body(self, text: bytes, complete: bool) -> None:
        if self._body_stage:
            self._write(self._body_stage(text, complete))
        else:
            self._write(text + b"\n" if complete else text)

    def _write_encoded(self, text: bytes) -> None:
        if self._body_stage:
            for line in text.split(b"\n")[:-1]:
                self._write(self._body_stage(line, True))
        else:
            self._write(text)

    def _write(self, text: bytes) -> None:
        self._out.append(text)
        self._pending += len(text)

    def _flush(self) -> bytes:
        text = b"".join(self._out)
        self._out.clear()
        self._pending = 0
        return text


def utf8_headers(chunks: Iterable[bytes], nesting_limit: int = 100) -> bool:
    """Whether any header has non-ASCII bytes, be it in a part or a nested message.

    Postfix marks a message with such a header as one that needs SMTPUTF8, if the
    sender asked for that (cleanup_out_header).
    """
    return _any_header(chunks, nesting_limit, lambda header, _: not header.isascii())


def declared_8bit(chunks: Iterable[bytes], nesting_limit: int = 100) -> bool:
    """Whether any header declares 8-bit text, be it in a part or a nested message.

    Postfix marks such a message as one for BODY=8BITMIME (cleanup_header_callback).
    """

    def declares(header: bytes, name: bytes) -> bool:
        encoding = name == b"content-transfer-encoding"
        return encoding and says_8bit(header.partition(b":")[2])

    return _any_header(chunks, nesting_limit, declares)


def _any_header(
    chunks: Iterable[bytes], nesting_limit: int, wanted: Callable[[bytes, bytes], bool]
) -> bool:
    """Whether one is wanted, by its text and its name in lower case."""
    found = False

    def look(header: bytes, _place: Place, name: bytes) -> bytes:
        nonlocal found
        found = found or wanted(header, name)
        return b""

    parser = Parser(nesting_limit=nesting_limit, header=look)
    return any(found for _ in parser.run(chunks)) or found
