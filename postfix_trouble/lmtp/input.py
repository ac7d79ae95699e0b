"""Message data as LMTP carries it: dots undone, the end found, lines ended by LF."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re

_END = b"\r\n.\r\n"
# Ends of a chunk that may go on to be the end of data, or a doubled dot.
_UNDECIDED = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
_BARE_LF = re.compile(rb"(?<!\r)\n")


class DataReader:
    """The text between DATA and CR LF . CR LF, as pipe(8) would feed it.

    Nothing but CR LF ends a line, and nothing but CR LF . CR LF the data (RFC 5321
    4.1.1.4), or a message could smuggle another one in behind it. A bare CR is
    content, and is kept as smtp(8) keeps it. A bare LF can't be kept where LF ends
    a line: it becomes a blank, as in cleanup(8) (cleanup_replace_stray_cr_lf); Postfix
    has none in its queue files. Memory is bounded by the size of the chunks.
    """

    def __init__(self) -> None:
        # What was not decided yet. The first line may be the dot: as if a line
        # had ended before it, which must not come out again.
        self._held = b"\r\n"
        self._first = True
        self.ended = False
        # What the client sent behind the end of data.
        self.rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Text that this chunk completes. Nothing may be fed after the end."""
        data = self._held + chunk
        end = data.find(_END)
        if end >= 0:
            self.ended = True
            self.rest = data[end + len(_END) :]
            data = data[: end + 2]
            self._held = b""
        else:
            tail = next((tail for tail in _UNDECIDED if data.endswith(tail)), b"")
            data = data[: len(data) - len(tail)]
            self._held = tail
        return self._decoded(data)

    def _decoded(self, data: bytes) -> bytes:
        if not data:
            return b""
        data = data.replace(b"\r\n.", b"\r\n")
        if data.count(b"\n") != data.count(b"\r\n"):
            data = _BARE_LF.sub(b" ", data)
        data = data.replace(b"\r\n", b"\n")
        if self._first:
            self._first = False
            data = data[1:]
        return data
