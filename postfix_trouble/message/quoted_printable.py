"""quoted_printable: RFC 2045 6.7, line by line, in Postfix's form of it.

A soft line break comes where 73 bytes or more are written and more are to follow
(Postfix mime_state_downgrade). Everything but printable ASCII and tab is encoded, CR
and NUL too, and the blank or tab that ends a line. binascii.b2a_qp and email.quoprimime
break lines elsewhere, so neither can be used.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

# A line is ended as soon as it is as long as this; the last character may exceed it.
WIDTH = 73

_ESCAPED = frozenset(range(256)) - frozenset(b"\t\n" + bytes(range(32, 127))) | {61}
_ESCAPES = {byte: b"=%02X" % byte for byte in _ESCAPED}


def _escape(text: bytes) -> bytes:
    """Encode all but line ends and what stands before them."""
    if b"=" in text:
        text = text.replace(b"=", b"=3D")
    # One pass for each byte that occurs; re.sub costs a call for each occurrence.
    for byte in _ESCAPED.intersection(text) - {61}:
        text = text.replace(b"%c" % byte, _ESCAPES[byte])
    return text


def _break(line: bytes) -> tuple[list[bytes], bytes]:
    """Cut off output lines from an encoded line while more than one is there.

    Returns them with their soft line breaks, and the rest.
    """
    pieces = []
    at = 0
    while len(line) - at > WIDTH:
        end = at + WIDTH
        # Not within =HH.
        if line[end - 1] == 61:
            end += 2
        elif line[end - 2] == 61:
            end += 1
        if end >= len(line):
            break
        pieces.append(line[at:end] + b"=\n")
        at = end
    return pieces, line[at:]


def _end_visibly(text: bytes) -> bytes:
    return text.replace(b" \n", b"=20\n").replace(b"\t\n", b"=09\n")


def encode_lines(text: bytes) -> bytes:
    """Encode complete lines, each with its newline."""
    text = _escape(text)
    lines = text.split(b"\n")
    if max(map(len, lines)) > WIDTH:
        whole: list[bytes] = []
        for line in lines:
            pieces, rest = _break(line)
            whole.append(b"".join(pieces) + rest)
        text = b"\n".join(whole)
    return _end_visibly(text)


class LineEncoder:
    """Encodes lines that come in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def encode(self, text: bytes, complete: bool) -> bytes:
        """Encode a piece of a line, without newline; `complete`: it ends the line.

        Returns what is certain of the output.
        """
        pieces, self._rest = _break(self._rest + _escape(text))
        if complete:
            pieces.append(_end_visibly(self._rest + b"\n"))
            self._rest = b""
        return b"".join(pieces)
