"""What is good to know from earlier requests. Without it all works, only slower."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.value import Value
from postfix_trouble.policy.throttle import Mark, Standing, judge
from postfix_trouble.state.columns import blob, packed, text, unpacked
from postfix_trouble.state.database import Database

if TYPE_CHECKING:
    from sqlite3 import Connection

# Seconds after which something that nobody asked for is dropped.
_FORGET = 100 * 86400
_OPEN: Standing | DSN = Standing.OPEN


class Refusal(Value):
    """A log-in that a server refused, to be refused again without asking it."""

    status: str
    text: str


class Destinations:
    """Destinations in trouble. `name` is the nexthop, `now` the wall clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self, name: str, now: float, retry_time: float) -> Standing | DSN:
        """Whether to connect, else why not. Of many that ask, one is to PROBE.

        After PROBE, mark() or clear() is due; if neither comes, the next probe goes
        after another `retry_time` (seconds; 0: never wait).
        """

        def look(connection: Connection) -> Standing | DSN:
            return judge(_mark(connection, name), now, retry_time)

        def claim(connection: Connection) -> Standing | DSN:
            found = look(connection)
            if found is Standing.PROBE:
                connection.execute(
                    "UPDATE destination SET probed = ? WHERE name = ?",
                    (now, blob(name)),
                )
            return found

        if retry_time <= 0:
            return Standing.OPEN
        # Nearly all requests find no mark or a fresh one, and need no lock.
        database = self._database
        found = database.advise(database.read(look), _OPEN)
        if found is Standing.PROBE:
            found = database.advise(database.write(claim), _OPEN)
        return found

    def mark(self, name: str, dsn: DSN, now: float) -> None:
        """The destination is in trouble; who comes next need not find out."""

        def work(connection: Connection) -> None:
            connection.execute(
                "DELETE FROM destination WHERE marked < ?", (now - _FORGET,)
            )
            connection.execute(
                "INSERT OR REPLACE INTO destination VALUES (?, ?, ?, 0)",
                (blob(name), packed(dsn), now),
            )

        self._database.advise(self._database.write(work), None)

    def clear(self, name: str) -> None:
        """The destination answers."""

        def known(connection: Connection) -> bool:
            return _mark(connection, name) is not None

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM destination WHERE name = ?", (blob(name),))

        if self._database.advise(self._database.read(known), False):
            self._database.advise(self._database.write(work), None)


def _mark(connection: Connection, name: str) -> Mark | None:
    row = connection.execute(
        "SELECT dsn, marked, probed FROM destination WHERE name = ?", (blob(name),)
    ).fetchone()
    return Mark(unpacked(row[0]), row[1], row[2]) if row else None


class Logins:
    """Refused log-ins (Postfix: smtp_sasl_auth_cache). The key is the caller's."""

    def __init__(self, database: Database) -> None:
        self._memory = _Memory(database, "login")

    def get(self, key: str, now: float, cache_time: float) -> Refusal | None:
        """A refusal that is not older than `cache_time` (seconds)."""
        found = self._memory.get(key)
        if found is None or not 0 <= now - found[1] < cache_time:
            return None
        status, _, words = found[0].partition(" ")
        return Refusal(status, words)

    def put(self, key: str, refusal: Refusal, now: float) -> None:
        """Remember a refusal."""
        self._memory.put(key, f"{refusal.status} {refusal.text}", now)

    def drop(self, key: str) -> None:
        """The log-in works."""
        self._memory.drop(key)


class Tokens:
    """Short-lived secrets that took time to get. The file is for our eyes only."""

    def __init__(self, database: Database) -> None:
        self._memory = _Memory(database, "token")

    def get(self, key: str, now: float) -> str:
        """A token that has not expired, or empty."""
        found = self._memory.get(key)
        return found[0] if found is not None and now < found[1] else ""

    def put(self, key: str, token: str, expires: float) -> None:
        """Keep a token until the wall clock shows `expires`."""
        self._memory.put(key, token, expires)

    def drop(self, key: str) -> None:
        """The token is of no use."""
        self._memory.drop(key)


class Notices:
    """Keeps notices about one destination rare."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._memory = _Memory(database, "notice")

    def due(self, name: str, now: float, interval: float = 3600.0) -> bool:
        """Whether one may be sent now; if so, the next waits for `interval` seconds.

        If that can't be remembered none is sent: the log has it all, and a disk that
        is full is no place to put mail.
        """

        def work(connection: Connection) -> bool:
            found = self._memory.select(connection, name)
            if found is not None and 0 <= now - found[1] < interval:
                return False
            self._memory.store(connection, name, "", now, now - _FORGET)
            return True

        return self._database.advise(self._database.write(work), False)


class StsPolicies:
    """What is known of MTA-STS policies, by domain, as text that is the caller's.

    An unexpired one is kept, however long nobody asked for it.
    """

    def __init__(self, database: Database) -> None:
        self._memory = _Memory(database, "mta-sts")

    def get(self, domain: str) -> str:
        """What put() was told, else empty."""
        found = self._memory.get(domain)
        return found[0] if found is not None else ""

    def put(self, domain: str, text: str, expires: float, now: float) -> None:
        """Keep it until the wall clock shows `expires`; forget others for which it
        does."""
        self._memory.put(domain, text, expires, forget=now)


class _Memory:
    """Texts of one kind, each with a moment of the wall clock."""

    def __init__(self, database: Database, kind: str) -> None:
        self._database = database
        self._kind = kind

    def get(self, name: str) -> tuple[str, float] | None:
        found = self._database.read(lambda connection: self.select(connection, name))
        return self._database.advise(found, None)

    def put(
        self, name: str, value: str, moment: float, forget: float | None = None
    ) -> None:
        before = moment - _FORGET if forget is None else forget
        done = self._database.write(
            lambda connection: self.store(connection, name, value, moment, before)
        )
        self._database.advise(done, None)

    def drop(self, name: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                "DELETE FROM memory WHERE kind = ? AND name = ?",
                (self._kind, blob(name)),
            )

        if self.get(name) is not None:
            self._database.advise(self._database.write(work), None)

    def select(self, connection: Connection, name: str) -> tuple[str, float] | None:
        row = connection.execute(
            "SELECT value, moment FROM memory WHERE kind = ? AND name = ?",
            (self._kind, blob(name)),
        ).fetchone()
        return (text(row[0]), row[1]) if row else None

    def store(
        self,
        connection: Connection,
        name: str,
        value: str,
        moment: float,
        forget: float,
    ) -> None:
        """Also drops all whose moment is before `forget`."""
        connection.execute(
            "DELETE FROM memory WHERE kind = ? AND moment < ?", (self._kind, forget)
        )
        connection.execute(
            "INSERT OR REPLACE INTO memory VALUES (?, ?, ?, ?)",
            (self._kind, blob(name), blob(value), moment),
        )
