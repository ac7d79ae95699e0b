"""lines: from text lines to records, and to what goes over the wire after DATA.

Every line ends in CRLF, a dot at the start of a line is doubled, a line over the
limit is broken with CRLF SPACE, and a missing last newline is supplied (RFC 5321
4.5.2 and 2.3.8, Postfix smtp_text_out). The lone dot that ends the message is not
part of it. NUL and all other bytes pass.

A stray CR, one that is no part of a line end, passes too, as it does from Postfix's
own client: its cleanup(8) has replaced them all unless the postmaster said not to
(cleanup_replace_stray_cr_lf). To let no server that takes CR alone for a line end
see the end of the message where there is none, a CR before a dot becomes a space
(and before a NUL, which some servers drop). No bare LF is ever sent.

Time is linear in the size of the text, however it is cut into lines and chunks, and
memory is a few chunks. Where nothing has to be broken it is all done by
bytes.replace and bytes.rfind, a chunk at a time.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


# line_length_limit: not in the list of what smtp(8) reads, always 2048 in practice.
RECORD_SIZE = 2048


def nobody(_text: str) -> None:
    """Where notes go that nobody wants."""


def unix_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Make line ends LF, for a text that does not come from pipe(8).

    A CR that is no part of a line end becomes a space, as in Postfix cleanup(8).
    """
    for text in _settled(chunks):
        yield text.replace(b"\r\n", b"\n").replace(b"\r", b" ")


def outgoing(
    chunks: Iterable[bytes],
    limit: int = 998,
    *,
    note: Callable[[str], object] = nobody,
) -> Iterator[bytes]:
    """Make the wire form of a text, without the final dot.

    limit: bytes of a line, line end not counted; 0 for no limit. The break heeds
    neither characters nor header syntax (smtp_line_length_limit).
    note: told once if a line was broken.

    Postfix sends one more line with nothing but a space where a line of exactly
    n * 2048 bytes, or a last line that was handed in without its line end, also ends
    exactly at a break; that trace of its queue file records is not copied.
    """
    limit = max(limit, 2) if limit else 0
    column = 0  # of the output line that the next byte comes to
    noted = False
    for chunk in _settled(chunks):
        text = chunk.replace(b"\r.", b" .").replace(b"\r\0", b" \0")
        at_start = not column
        if limit:
            folded, column = _fold(text, column, limit)
            if not noted and folded is not text:
                noted = True
                note(f"breaking line > {limit} bytes with <CR><LF>SPACE")
        else:
            # All that counts without a limit is whether a line is open.
            folded, column = text, int(not text.endswith(b"\n"))
        stuffed = folded.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
        yield b"." + stuffed if at_start and folded[0] == 46 else stuffed
    if column:
        yield b"\r\n"


def _settled(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Never end a chunk with a CR: what becomes of it depends on the byte after it.

    Yields no empty chunk.
    """
    held = b""
    for chunk in chunks:
        text = held + chunk if held else chunk
        held = b""
        if text.endswith(b"\r"):
            text, held = text[:-1], b"\r"
        if text:
            yield text
    if held:
        yield held


def _fold(text: bytes, column: int, limit: int) -> tuple[bytes, int]:
    """Break long lines with LF SPACE. Returns the text and the column at its end.

    A line is broken when the first byte too many is seen, not before: the next
    chunk may begin with the line's end. Text without long lines comes back as the
    very same object.
    """
    pieces = []
    copied = at = 0
    while at < len(text):
        # The last line end that can be reached within the limit: whole short lines
        # are taken together.
        window = limit - column + 1
        newline = text.rfind(b"\n", at, at + window)
        if newline >= 0:
            at, column = newline + 1, 0
        elif len(text) - at < window:
            column += len(text) - at
            break
        else:
            at += window - 1
            pieces += [text[copied:at], b"\n "]
            copied, column = at, 1
    if not pieces:
        return text, column
    pieces.append(text[copied:])
    return b"".join(pieces), column


def records(
    chunks: Iterable[bytes], size: int = RECORD_SIZE
) -> Iterator[tuple[bytes, bool]]:
    """Cut a text into records of at most `size` bytes (Postfix rec_streamlf(3)).

    Postfix looks at a message in the records of its queue file: a line, or a piece of
    one where it is longer than line_length_limit. Header and body checks and the MIME
    parser see these pieces, so ours must be the same.

    Yields pairs of the text without its newline, and whether the line ends with it.
    A line of exactly `size` bytes is followed by an empty record, as in Postfix. A
    last line without newline is taken as complete.
    """
    held = b""
    for chunk in chunks:
        text = held + chunk if held else chunk
        at = 0
        while True:
            newline = text.find(b"\n", at, at + size)
            if newline >= 0:
                yield text[at:newline], True
                at = newline + 1
            elif len(text) - at >= size:
                yield text[at : at + size], False
                at += size
            else:
                break
        held = text[at:]
    if held:
        yield held, True
