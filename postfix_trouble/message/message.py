"""message: the message as it comes on standard input, and as it goes to servers.

It is read to its end before anything else is done: a client that has said DATA must
not wait for somebody else, and a message that is cut short must not be delivered. It
is kept in memory up to a limit, in an unlinked file above that, since a backup server
may need it again.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time

from postfix_trouble.core.failure import ContentError
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.message.headers import Facts, facts
from postfix_trouble.message.lines import nobody, outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from postfix_trouble.message.stages import Stages

# Bytes per read; what a pipe holds, and the most that is written in one go.
CHUNK = 65536

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Late(Exception):
    """The message did not come in time."""


class Message:
    """A complete message. Made by `read` or `from_bytes`."""

    def __init__(self, pieces: list[bytes], spool: int = -1) -> None:
        self._pieces = pieces
        self._spool = spool
        self._facts: Facts | None = None
        self._digest = ""
        self._break_noted = False
        if spool < 0:
            #: Bytes, as read.
            self.size = sum(map(len, pieces))
        else:
            self.size = os.fstat(spool).st_size

    @classmethod
    def from_bytes(cls, content: bytes) -> Message:
        """A message that is in memory already."""
        view = memoryview(content)
        return cls([bytes(view[i : i + CHUNK]) for i in range(0, len(view), CHUNK)])

    @classmethod
    def read(
        cls,
        fd: int = 0,
        *,
        limit_in_memory: int = 1 << 20,
        directory: str | None = None,
        timeout: float | None = None,
        answer_fd: int | None = 1,
    ) -> Message | DSN:
        """Read a message to its end. What goes wrong is returned, and is always soft.

        limit_in_memory: bytes; a longer message goes to an unlinked file.
        directory: for that file; None for the system's temporary directory.
        timeout: seconds for all of it.
        answer_fd: where pipe(8) waits for our answer. If it is gone after the last
        byte, then that was not the last byte. None: don't look.
        """
        pieces: list[bytes] = []
        spool, size = -1, 0
        try:
            for chunk in _incoming(fd, timeout):
                size += len(chunk)
                pieces.append(chunk)
                if size > limit_in_memory:
                    if spool < 0:
                        spool = _temporary_file(directory)
                    _write(spool, pieces)
                    pieces.clear()
        except (OSError, _Late) as problem:
            if spool >= 0:
                os.close(spool)
            return _why_unread(problem)
        if answer_fd is not None and parent_gone(answer_fd):
            if spool >= 0:
                os.close(spool)
            return _deferred("4.3.0", "message is incomplete: its sender has gone")
        return cls(pieces, spool)

    def chunks(self) -> Iterator[bytes]:
        """The message as read, from its start; as often as wanted.

        Raises ContentError (4.3.0) if the file can't be read.
        """
        if self._spool < 0:
            yield from self._pieces
            return
        at = 0
        while at < self.size:
            try:
                chunk = os.pread(self._spool, CHUNK, at)
            except OSError as problem:
                raise ContentError("4.3.0", "error reading message") from problem
            if not chunk:
                raise ContentError("4.3.0", "error reading message")
            yield chunk
            at += len(chunk)

    def encoding(self, structure: bool = True, nesting_limit: int = 100) -> str:
        """ "8bit" if the header of the message or of a part says so, else empty.

        structure: look for parts at all. nesting_limit: mime_nesting_limit. Looks at
        the whole message if it has parts. Raises ContentError.
        """
        header = self._header
        if header.encoding or not (structure and header.structured):
            return header.encoding
        if not self._mentions_8bit():
            return ""
        from postfix_trouble.message.mime import declared_8bit

        return "8bit" if declared_8bit(self.chunks(), nesting_limit) else ""

    def utf8_header(self, structure: bool = True, nesting_limit: int = 100) -> bool:
        """Whether a header has bytes that are not ASCII, those of parts included.

        structure, nesting_limit: as above. Looks at the whole message if its own header
        has none. Raises ContentError.
        """
        if self._header.utf8 or not structure:
            return self._header.utf8
        if all(map(bytes.isascii, self.chunks())):
            return False
        from postfix_trouble.message.mime import utf8_headers

        return utf8_headers(self.chunks(), nesting_limit)

    def tls_optional(self) -> bool:
        """Whether the header says `TLS-Required: no` (RFC 8689)."""
        return self._header.tls_optional

    def received(self) -> float | None:
        """When the message came to this system: its topmost Received: header.

        Seconds since 1970, None if there is none or it has no date.
        """
        return self._header.received()

    def queue_id(self) -> str:
        """Queue id by the topmost Received: header, empty if that does not tell."""
        return self._header.queue_id()

    def protocol(self) -> str:
        """How it came, by the same header: ESMTP, UTF8SMTP; empty: not by SMTP."""
        return self._header.protocol()

    def digest(self) -> str:
        """SHA-256 of the message as read, in hexadecimal."""
        if not self._digest:
            from postfix_trouble.core.sha256 import sha256

            total = sha256()
            for chunk in self.chunks():
                total.update(chunk)
            self._digest = total.hexdigest()
        return self._digest

    def outgoing(
        self,
        limit: int = 998,
        *,
        stages: Stages | None = None,
        note: Callable[[str], object] = nobody,
    ) -> Iterator[bytes]:
        """The message as it goes over the wire, without the final dot.

        limit: smtp_line_length_limit. stages: conversion, checks, address rewriting.
        note: is told what Postfix logs, of a broken line only once however many
        servers there are. Raises ContentError, and what tables in the stages raise.
        """

        def note_break(text: str) -> None:
            if not self._break_noted:
                self._break_noted = True
                note(text)

        text = self.chunks()
        if stages:
            from postfix_trouble.message.stages import transformed

            text = transformed(text, stages, note)
        return outgoing(text, limit, note=note_break)

    def close(self) -> None:
        """Give the file back. The message can't be used any more."""
        self._pieces = []
        if self._spool >= 0:
            os.close(self._spool)
            self._spool = -1

    def _mentions_8bit(self) -> bool:
        """Whether it is worth the milliseconds that the MIME parser takes to load."""
        tail = b""
        for chunk in self.chunks():
            text = tail + chunk.lower()
            if b"8bit" in text or b"binary" in text:
                return True
            tail = text[-5:]
        return False

    @property
    def _header(self) -> Facts:
        if self._facts is None:
            self._facts = facts(self.chunks())
        return self._facts


def parent_gone(fd: int = 1) -> bool:
    """Whether nobody will read what we write to a pipe. False if it is no pipe."""
    try:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return False
    except OSError:
        return False
    watch = select.poll()
    watch.register(fd, 0)
    return any(event & select.POLLERR for _, event in watch.poll(0))


def _incoming(fd: int, timeout: float | None) -> Iterator[bytes]:
    """Read to the end. Raises OSError, or _Late when `timeout` seconds are over."""
    watch = select.poll()
    watch.register(fd, select.POLLIN)
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if end is None else end - time.monotonic()
        if left is not None and (left <= 0 or not watch.poll(left * 1000)):
            raise _Late
        try:
            chunk = os.read(fd, CHUNK)
        except BlockingIOError:
            watch.poll(None if left is None else left * 1000)
            continue
        if not chunk:
            return
        yield chunk


def _temporary_file(directory: str | None) -> int:
    from tempfile import TemporaryFile

    try:
        with TemporaryFile(dir=directory, buffering=0) as file:
            return os.dup(file.fileno())
    except FileNotFoundError as problem:
        # Without a directory given, this is how tempfile says that all are full.
        if directory is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from problem
        raise


def _write(fd: int, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        left = memoryview(piece)
        while left:
            left = left[os.write(fd, left) :]


def _why_unread(problem: Exception) -> DSN:
    if isinstance(problem, _Late):
        return _deferred("4.3.0", "timeout reading message")
    if isinstance(problem, OSError) and problem.errno in _FULL:
        return _deferred("4.3.1", "insufficient system storage")
    text = problem.strerror if isinstance(problem, OSError) else str(problem)
    return _deferred("4.3.0", f"error reading message: {text}")


def _deferred(status: str, reason: str) -> DSN:
    return DSN(EnhancedStatus(status), reason)
