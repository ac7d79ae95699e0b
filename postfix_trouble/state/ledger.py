"""The ledger: for whom nothing is left to try, in requests that are not finished.

The order of things, for a request with several recipients: lock(), finished(),
probe(), deliver; record() what was sent before anything else happens, then what
bounced; report that to the sender, record() that it is reported; settled(), and
answer Postfix. Killed anywhere, the next attempt goes on from what is recorded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.outcome import Disposition
from postfix_trouble.policy.multi_recipient import Finished, Place
from postfix_trouble.state.columns import blob, packed, text, unpacked
from postfix_trouble.state.database import Database, StateProblem, reason

if TYPE_CHECKING:
    from sqlite3 import Connection

# Seconds that rows are kept after the last attempt of their request: longer than any
# pause between two of them. Once Postfix is told, it asks again only if we are killed
# while telling.
_KEEP = 11 * 86400
_KEEP_SETTLED = 2 * 86400
# The youngest rows are never forgotten, whatever the clocks say.
_YOUNGEST = 1000
# The ledger's clock goes on by at most so many seconds from one request to the next:
# a jump of the system's clock does not make rows old.
_LONGEST_STEP = 600


class Lock(Choice):
    """Whether these recipients are ours alone."""

    HELD = "held"
    BUSY = "busy"


def request_key(queue_id: str, sender: str, digest: str) -> str:
    """Name a message so that a queue id used again can't be taken for it.

    `digest` is that of the message, less what differs from attempt to attempt.
    """
    return _hash(blob(queue_id), blob(sender), blob(digest)).hex()


class Ledger:
    """See the module. Keys are those of request_key()."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._file = -1

    def lock(self, key: str, places: Iterable[Place]) -> Lock | StateProblem:
        """Keep other requests away from these recipients until unlock().

        One byte of one file stands for each of them: other recipients of the same
        message may be delivered meanwhile, the kernel lets go when we die, and
        nothing needs cleaning up. (A file per request can't be removed safely.) The
        locks belong to the open file, not to the process, so that they hold between
        threads; each request has a Ledger of its own.
        """
        from fcntl import F_OFD_SETLK, F_WRLCK, fcntl
        from struct import pack

        try:
            if self._file < 0:
                self._file = self._database.file("locks")
        except OSError as problem:
            return StateProblem(f"{problem.filename}: {reason(problem)}")
        try:
            for name, nth in places:
                hashed = _hash(blob(key), blob(name), b"%d" % nth)
                # Offsets are signed, with 64 bits.
                offset = int.from_bytes(hashed[:8], "big") >> 2
                # struct flock: type, whence (from the start), offset, length, pid.
                fcntl(self._file, F_OFD_SETLK, pack("hhqqi", F_WRLCK, 0, offset, 1, 0))
        except (BlockingIOError, PermissionError):
            self.unlock()
            return Lock.BUSY
        except (OSError, ValueError) as problem:
            return StateProblem(f"locks: {problem}")
        return Lock.HELD

    def unlock(self) -> None:
        """Let others have all recipients that were locked."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def finished(self, key: str) -> dict[Place, Finished] | StateProblem:
        """What is remembered of a message's recipients."""

        def work(connection: Connection) -> dict[Place, Finished]:
            rows = connection.execute(
                "SELECT recipient, nth, result, dsn FROM ledger"
                " WHERE request = ? AND result <> 'open'",
                (key,),
            )
            return {(text(row[0]), row[1]): _finished(*row[2:]) for row in rows}

        return self._database.read(work)

    def probe(
        self, key: str, places: Iterable[Place], *, known: bool = True
    ) -> StateProblem | None:
        """Write rows for what is going to be tried: a full disk shows before MAIL.

        `known`: whether somebody is finished, by finished(). Old rows are forgotten, at
        most one in a hundred.
        """
        named = [(key, blob(name), nth, _KEEP) for name, nth in places]
        database = self._database

        def work(connection: Connection) -> None:
            now = database.clock()
            if not 0 <= now - database.swept < database.sweep_interval:
                database.swept = now
                ticks = _advance(connection, now)
            else:
                ticks = None
            if named and known:
                # Still tried: no one who is finished may be forgotten before that ends.
                connection.execute(
                    "UPDATE ledger SET due = max(due, (SELECT ticks FROM clock) + ?)"
                    " WHERE request = ?",
                    (_KEEP, key),
                )
            if ticks is not None:
                _forget(connection, ticks)
            connection.executemany(
                "INSERT INTO ledger (request, recipient, nth, result, dsn, due)"
                " VALUES (?, ?, ?, 'open', x'', (SELECT ticks FROM clock) + ?)"
                " ON CONFLICT DO UPDATE SET due = max(due, excluded.due)",
                named,
            )

        return database.write(work)

    def record(
        self, key: str, results: Mapping[Place, Finished]
    ) -> StateProblem | None:
        """Remember results. They are on the disk when this returns None."""

        rows = [
            (key, blob(name), nth, _word(result), packed(result.dsn), _KEEP)
            for (name, nth), result in results.items()
        ]

        def work(connection: Connection) -> None:
            connection.executemany(
                "INSERT INTO ledger (request, recipient, nth, result, dsn, due)"
                " VALUES (?, ?, ?, ?, ?, (SELECT ticks FROM clock) + ?)"
                " ON CONFLICT DO UPDATE SET result = excluded.result,"
                " dsn = excluded.dsn, due = excluded.due",
                rows,
            )

        return self._database.write(work, durable=True)

    def settled(self, key: str) -> None:
        """Postfix is told now that all are done. Advisory: the rows may go sooner."""

        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE ledger SET due = (SELECT ticks FROM clock) + ?"
                " WHERE request = ?",
                (_KEEP_SETTLED, key),
            )

        self._database.advise(self._database.later(work), None)


def _hash(*parts: bytes) -> bytes:
    """Hash parts so that their borders count."""
    from postfix_trouble.core.sha256 import sha256

    return sha256(b"".join(sha256(part).digest() for part in parts)).digest()


def _word(result: Finished) -> str:
    if result.disposition is Disposition.SENT:
        return "sent"
    return "reported" if result.reported else "bounced"


def _finished(word: str, dsn: bytes) -> Finished:
    sent = word == "sent"
    disposition = Disposition.SENT if sent else Disposition.BOUNCED
    return Finished(disposition, unpacked(dsn), reported=word == "reported")


def _advance(connection: Connection, now: float) -> int:
    """Let the ledger's clock follow the system's, but never far and never back."""
    ticks, seen = connection.execute("SELECT ticks, seen FROM clock").fetchone()
    ticks += int(min(max(now - seen, 0), _LONGEST_STEP))
    connection.execute("UPDATE clock SET ticks = ?, seen = ?", (ticks, now))
    return int(ticks)


def _forget(connection: Connection, ticks: int) -> None:
    """Delete rows that are due, if they are not among the youngest."""
    low, high = connection.execute(
        "SELECT (SELECT min(id) FROM ledger), (SELECT max(id) FROM ledger)"
    ).fetchone()
    if low is None or high - low < _YOUNGEST:
        return
    connection.execute(
        "DELETE FROM ledger WHERE id IN (SELECT id FROM ledger"
        " WHERE due < ? AND id <= ? ORDER BY due LIMIT ?)",
        (ticks, high - _YOUNGEST, (high - low) // 100),
    )
