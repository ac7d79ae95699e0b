"""What a process that stays keeps of TLS: contexts, and sessions to resume.

A context is used as long as the files behind it are the same, so that a renewed
certificate counts from the next handshake on. A session is resumed only with the same
server and under the same policy (Postfix tls_serverid_digest), by the context that it
was made with, so never with another certificate of ours; and who the server is, is
judged anew each time, by the certificates that it showed when the session began.
"""

from __future__ import annotations

import threading
import time

from postfix_trouble.core.file_stamp import file_stamp
from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Hashable, Iterable
    from typing import TypeVar

    T = TypeVar("T")

# Contexts, and sessions, that are kept at most: the oldest goes.
_CONTEXTS = 100
_SESSIONS = 500


class Resumable(Value):
    """A session that a server gave us."""

    session: ssl.SSLSession
    context: ssl.SSLContext
    # Certificates that the server showed: DER, its own first.
    chain: tuple[bytes, ...]
    # When it must be forgotten (seconds, monotonic).
    end: float


class KeptTls:
    """Contexts and sessions of one set of settings. Used by several threads."""

    def __init__(
        self,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        happened: Callable[[str, str], None] = lambda what, kind: None,
    ) -> None:
        """`timeout`: seconds that a session may be resumed; 0: none is. `clock` counts
        seconds. `happened` is told of handshakes: "tls", and full, resumed or failed.
        """
        self.happened = happened
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._made: dict[Hashable, tuple[Hashable, object]] = {}
        self._sessions: dict[Hashable, Resumable] = {}

    def made(self, key: Hashable, files: Iterable[str], make: Callable[[], T]) -> T:
        """What `make` returns; called again only when one of the files has changed.

        One at a time: filters for warnings belong to the whole process. Raises what
        `make` raises, and nothing is kept then.
        """
        with self._lock:
            stamps = tuple(map(file_stamp, files))
            found = self._made.pop(key, None)
            if found is None or found[0] != stamps:
                found = stamps, make()
            self._made[key] = found
            _shorten(self._made, _CONTEXTS)
        result: T = found[1]  # type: ignore[assignment]
        return result

    def resumption(self, key: Hashable) -> Resumption:
        """For one handshake. `key`: server and policy."""
        return Resumption(self, key)

    def find(self, key: Hashable, context: ssl.SSLContext) -> Resumable | None:
        """A session that may be resumed by this context."""
        with self._lock:
            found = self._sessions.get(key)
            if found is None or found.context is not context:
                return None
            if found.end <= self._clock():
                del self._sessions[key]
                return None
            return found

    def put(
        self, key: Hashable, secured: ssl.SSLSocket, chain: tuple[bytes, ...]
    ) -> None:
        """Keep the session of a socket."""
        session = secured.session
        if session is None or not self._timeout:
            return
        hint = session.ticket_lifetime_hint if session.has_ticket else 0
        end = self._clock() + min(self._timeout, hint or self._timeout)
        with self._lock:
            self._sessions.pop(key, None)
            self._sessions[key] = Resumable(session, secured.context, chain, end)
            _shorten(self._sessions, _SESSIONS)

    def forget(self, key: Hashable) -> None:
        """The next handshake with this server is a full one."""
        with self._lock:
            self._sessions.pop(key, None)


class Resumption:
    """What one handshake has to do with sessions."""

    def __init__(self, kept: KeptTls, key: Hashable) -> None:
        self.kept = kept
        self._key = key
        self._chain: tuple[bytes, ...] = ()

    def session(self, context: ssl.SSLContext) -> ssl.SSLSession | None:
        """A session to ask the server to resume."""
        found = self.kept.find(self._key, context)
        if found is None:
            return None
        self._chain = found.chain
        return found.session

    def chain(self, shown: list[bytes], *, reused: bool) -> list[bytes]:
        """The certificates of the server, DER: a session that is resumed has those of
        its beginning."""
        self.kept.happened("tls", "resumed" if reused else "full")
        if not reused:
            self._chain = tuple(shown)
        return [*self._chain]

    def keep(self, secured: ssl.SSLSocket) -> None:
        """Leave the session to the next handshake. Call it when the server has spoken:
        under TLS 1.3 it is told then. Not for a server that was found wanting."""
        self.kept.put(self._key, secured, self._chain)

    def failed(self) -> None:
        """The handshake failed, for which the session may be to blame."""
        self.kept.happened("tls", "failed")
        self.kept.forget(self._key)


def _shorten(known: dict[Hashable, T], most: int) -> None:
    while len(known) > most:
        del known[next(iter(known))]
