"""Tables behind a socket: socketmap_table(5), tcp_table(5)."""

from __future__ import annotations

import time

from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.tables.base import Table, TableUnusable
from postfix_trouble.tables.text import fold_case

if TYPE_CHECKING:
    import socket

# Seconds, for a whole look-up.
TIME_LIMIT = 100.0
# Bytes of a reply.
SIZE_LIMIT = 100_000

_COMPLAINTS = {
    b"TEMP": "temporary error",
    b"TIMEOUT": "timeout",
    b"PERM": "permanent error",
}


class _LostError(OSError):
    """A connection was lost that had been made."""


class _Refused(TableUnusable):
    """The server's reply is whole, but no answer: the connection is still good."""


class Connection:
    """A socket with a limit for all reads and writes together."""

    def __init__(self, address: tuple[str, str] | str, deadline: float) -> None:
        self._address = address
        self._socket = _connect(address, deadline)
        self.deadline = deadline
        self._buffer = b""

    def ask(self, request: bytes) -> None:
        """Send a request; what an earlier one left unread is gone."""
        self._buffer = b""
        self._socket.settimeout(self._left())
        self._socket.sendall(request)

    def until(self, end: bytes, limit: int) -> bytes:
        """Read up to and without `end`, which must come within `limit` bytes."""
        while end not in self._buffer:
            if len(self._buffer) > limit:
                raise TableUnusable(f"{_shown(self._address)}: reply is too long")
            self._more()
        found, _, self._buffer = self._buffer.partition(end)
        return found

    def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _more(self) -> None:
        self._socket.settimeout(self._left())
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionResetError(0, "lost connection")
        self._buffer += data

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(0, "timed out")
        return left


def _connect(address: tuple[str, str] | str, deadline: float) -> socket.socket:
    import socket

    left = max(0.01, deadline - time.monotonic())
    if isinstance(address, tuple):
        return socket.create_connection(address, timeout=left)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(left)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _shown(address: tuple[str, str] | str) -> str:
    return address if isinstance(address, str) else ":".join(address)


class SocketTable(Table):
    """A table whose keys are looked up by a server. One connection is kept."""

    def __init__(
        self, address: tuple[str, str] | str, time_limit: float = TIME_LIMIT
    ) -> None:
        self._address = address
        self._time_limit = time_limit
        self._connection: Connection | None = None

    def find(self, key: str, fold: bool) -> str | None:
        """Ask the server, once more over a new connection if one is lost.

        Postfix leaves a connection that was lost twice where it is, so that the next
        look-up has one try less (dict_sockmap_lookup).
        """
        text = fold_case(key, self.utf8) if fold else key
        deadline = time.monotonic() + self._time_limit
        try:
            try:
                return self._ask(text, deadline)
            except _LostError:
                self.close()
            return self._ask(text, deadline)
        except _Refused:
            raise
        except _LostError as lost:
            raise self._problem(lost) from None
        except OSError as error:
            self.close()
            raise self._problem(error) from None
        except TableUnusable:
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def _ask(self, key: str, deadline: float) -> str | None:
        if self._connection is None:
            self._connection = Connection(self._address, deadline)
        self._connection.deadline = deadline
        try:
            return self.converse(
                self._connection, key.encode("utf-8", "surrogateescape")
            )
        except ConnectionError as error:
            raise _LostError(error.errno, error.strerror) from None

    def _problem(self, error: OSError) -> TableUnusable:
        problem = error.strerror or str(error) or "timed out"
        return TableUnusable(f"{_shown(self._address)}: {problem}")

    def converse(self, stream: Connection, key: bytes) -> str | None:
        """One request and its reply."""
        raise NotImplementedError


class SocketMapTable(SocketTable):
    """socketmap: sendmail's protocol, in netstrings."""

    def __init__(
        self, address: tuple[str, str] | str, name: str, time_limit: float = TIME_LIMIT
    ) -> None:
        super().__init__(address, time_limit)
        self._name = name.encode("utf-8", "surrogateescape")

    def converse(self, stream: Connection, key: bytes) -> str | None:
        """Ask `name key`; OK and NOTFOUND are answers, all else is an error."""
        request = self._name + b" " + key
        stream.ask(b"%d:%s," % (len(request), request))
        size = stream.until(b":", 10)
        if not size.isdigit() or int(size) > SIZE_LIMIT:
            raise TableUnusable("socketmap server sent a malformed or too long reply")
        reply = stream.exactly(int(size) + 1)
        if reply[-1:] != b",":
            raise TableUnusable("socketmap server sent a malformed reply")
        word, _, data = reply[:-1].partition(b" ")
        if word == b"OK":
            return data.decode("utf-8", "surrogateescape")
        if word == b"NOTFOUND":
            return None
        kind = _COMPLAINTS.get(word, "unexpected reply")
        said = data.decode("utf-8", "replace")[:100]
        raise _Refused(f"socketmap server: {kind}: {said}")


class TcpTable(SocketTable):
    """tcp: one line with the key, one with the reply; both in %XX form."""

    def converse(self, stream: Connection, key: bytes) -> str | None:
        """Ask `get key`; 200 and 500 are answers, all else is an error."""
        quoted = b"".join(
            b"%c" % byte if 32 < byte < 127 and byte != 37 else b"%%%02X" % byte
            for byte in key
        )
        stream.ask(b"get " + quoted + b"\n")
        reply = stream.until(b"\n", SIZE_LIMIT).rstrip(b"\r")
        code, _, data = reply.partition(b" ")
        if code == b"500":
            return None
        text = _unquoted(data.lstrip())
        if code == b"200":
            return text.decode("utf-8", "surrogateescape")
        raise _Refused(f"tcp server: {text.decode('utf-8', 'replace')[:100]}")


def _unquoted(data: bytes) -> bytes:
    head, *parts = data.split(b"%")
    try:
        return head + b"".join(
            bytes.fromhex(part[:2].decode("ascii")) + part[2:] for part in parts
        )
    except ValueError:
        raise TableUnusable("tcp server sent a malformed reply") from None
