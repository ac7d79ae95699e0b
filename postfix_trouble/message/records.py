"""records: text as pieces of lines, of bounded length (Postfix rec_streamlf(3)).

Postfix looks at a message in the records of its queue file: a line, or a piece of
one where it is longer than line_length_limit. Header and body checks and the MIME
parser see these pieces, so ours must be the same.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


# line_length_limit: not in the list of what smtp(8) reads, always 2048 in practice.
SIZE = 2048


def records(chunks: Iterable[bytes], size: int = SIZE) -> Iterator[tuple[bytes, bool]]:
    """Cut a text into records of at most `size` bytes.

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
