"""The file behind the state: where it is, how it is made, and what may go wrong.

It is `state-N.sqlite`. A damaged one is set aside, and the next one has a new number:
SQLite deletes `-wal` files by name when it closes a database, so that a new file
under the name of one that others still have open would lose its rows to them.
"""

from __future__ import annotations

import os
import re
import stat
from _thread import RLock, get_ident
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from postfix_trouble.core.value import Value

if TYPE_CHECKING:
    from sqlite3 import Connection

T = TypeVar("T")

# Seconds to wait for another process that is writing.
_BUSY = 10.0
_FILE = re.compile(r"state-([0-9]{1,9})\.sqlite(\.corrupt-.*)?")
_NETWORK = re.compile(r"nfs|cifs|smb|9p|ceph|gluster|lustre|afs|fuse\.sshfs")

# SCHEMA[n] leads from version n to version n + 1.
SCHEMA: tuple[tuple[str, ...], ...] = (
    (
        # The ledger's own clock, and when it was last looked at.
        "CREATE TABLE clock (ticks INTEGER NOT NULL, seen REAL NOT NULL)",
        "INSERT INTO clock VALUES (0, 0)",
        # result: 'open' (being tried), 'sent', 'bounced' or 'reported'.
        # due: when the ledger's clock shows this, the row may be forgotten.
        "CREATE TABLE ledger (id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " request TEXT NOT NULL, recipient BLOB NOT NULL, nth INTEGER NOT NULL,"
        " result TEXT NOT NULL, dsn BLOB NOT NULL, due INTEGER NOT NULL,"
        " UNIQUE (request, recipient, nth))",
        "CREATE INDEX ledger_due ON ledger (due)",
        "CREATE TABLE destination (name BLOB PRIMARY KEY, dsn BLOB NOT NULL,"
        " marked REAL NOT NULL, probed REAL NOT NULL) WITHOUT ROWID",
        "CREATE TABLE memory (kind TEXT NOT NULL, name BLOB NOT NULL,"
        " value BLOB NOT NULL, moment REAL NOT NULL, PRIMARY KEY (kind, name))"
        " WITHOUT ROWID",
    ),
)


class StateProblem(Value):
    """Why the state can't be relied on. For the log: it may name files."""

    text: str


class _NotOurs(Exception):
    """A file that this version must not touch. Never leaves this module."""


def directory_problem(directory: str) -> str:
    """Why a state directory can't be trusted, else empty. Creates a missing one.

    Whoever can write to it can have mail lost, and read tokens.
    """
    try:
        try:
            found = os.lstat(directory)
        except FileNotFoundError:
            # Another process may be faster.
            with suppress(FileExistsError):
                os.mkdir(directory, 0o700)
            found = os.lstat(directory)
    except OSError as problem:
        return reason(problem)
    if not stat.S_ISDIR(found.st_mode):
        return "not a directory"
    if found.st_uid != os.geteuid():
        return f"owned by {account(found.st_uid)}, not by {account(os.geteuid())}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "writable for others than its owner"
    return ""


def account(uid: int) -> str:
    """The name of an account, its number if it has none."""
    from pwd import getpwuid

    try:
        return getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def reason(problem: OSError) -> str:
    """What went wrong, and for whom if that is the question."""
    text = problem.strerror or "not usable"
    if isinstance(problem, PermissionError):
        return f"{text} for account {account(os.geteuid())}"
    return text


class Database:
    """One connection to the newest file, opened when it is first needed.

    A process that stays has a SharedDatabase.
    """

    # Processes that end without closing leave the log to the next one, that has to read
    # it: keep it short.
    log_pages = 100
    # Seconds between two looks for what may be forgotten.
    sweep_interval = 0.0

    def __init__(
        self, directory: str, note: Callable[[str], None], clock: Callable[[], float]
    ) -> None:
        self.clock = clock
        self._directory = directory
        self._note = note
        self._connection: Connection | None = None
        # When that was looked for.
        self.swept = float("-inf")
        self._path = ""
        self._identity = (0, 0)
        self._durable: bool | None = None
        # A transaction is more than one statement; threads take turns.
        self.turn = RLock()

    def read(self, work: Callable[[Connection], T]) -> T | StateProblem:
        """Run one SELECT; it waits for nobody."""
        return self._guarded(work)

    def write(
        self, work: Callable[[Connection], T], *, durable: bool = False
    ) -> T | StateProblem:
        """Run a transaction. If durable, it is on the disk when this returns."""
        return self.transact(work, durable=durable)

    def later(self, work: Callable[[Connection], None]) -> StateProblem | None:
        """Run a transaction on which nothing hangs; it need not be now."""
        return self.write(work)

    def transact(
        self, work: Callable[[Connection], T], *, durable: bool
    ) -> T | StateProblem:
        """Run a transaction now."""

        def transaction(connection: Connection) -> T:
            self._set_durable(connection, durable)
            # Not deferred: a transaction that starts with a SELECT can't wait for
            # another writer.
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.rollback()
            return result

        return self._guarded(transaction)

    def advise(self, result: T | StateProblem, otherwise: T) -> T:
        """Take a result, or note what was wrong and go on without it."""
        if isinstance(result, StateProblem):
            self._note(f"warning: state ignored: {result.text}")
            return otherwise
        return result

    def file(self, name: str) -> int:
        """Open a file of the directory, and create it if there is none.

        Its mode does not depend on the umask. Raises OSError.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(os.path.join(self._directory, name), flags, 0o600)

    def describe(self, connection: Connection) -> tuple[str, ...]:
        """Damage, then what is there, one line each."""
        damage = connection.execute("PRAGMA quick_check(5)").fetchall()
        lines = [str(line) for (line,) in damage if line != "ok"]
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        lines.append(f"{self._path}: version {len(SCHEMA)}, journal {mode}")
        tables = connection.execute(
            "SELECT 'ledger', count(*) FROM ledger"
            " UNION ALL SELECT 'destination', count(*) FROM destination"
            " UNION ALL SELECT 'memory', count(*) FROM memory"
        )
        lines += [f"{table}: {rows} rows" for table, rows in tables]
        return tuple(lines)

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        self.close_connection()

    def close_connection(self) -> None:
        """As close(), whatever else that may do."""
        with self.turn:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _guarded(self, work: Callable[[Connection], T]) -> T | StateProblem:
        """Run it, and turn all that may go wrong into a value."""
        import sqlite3

        with self.turn:
            try:
                if self._connection is not None and self._replaced():
                    self.close_connection()
                if self._connection is None:
                    self._connection = self._connect()
                return work(self._connection)
            except sqlite3.Error as problem:
                name = getattr(problem, "sqlite_errorname", type(problem).__name__)
                if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
                    self._set_aside()
                whose = ""
                if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
                    whose = f" (account {account(os.geteuid())})"
                where = self._path or self._directory
                return StateProblem(f"{where}: {problem}{whose}")
            except _NotOurs as problem:
                return StateProblem(str(problem))
            except OSError as problem:
                where = problem.filename or self._directory
                return StateProblem(f"{where}: {reason(problem)}")
            except (ValueError, TypeError, MemoryError) as problem:
                # Rows that nobody of us wrote, or no memory left.
                return StateProblem(f"{self._path}: {type(problem).__name__}")

    def _connect(self) -> Connection:
        number, exists = _newest(self._directory)
        self._path = os.path.join(self._directory, f"state-{number}.sqlite")
        if not exists:
            self._create()
        connection = _opened(self._path)
        try:
            connection.execute(f"PRAGMA wal_autocheckpoint = {self.log_pages}")
            _migrate(connection)
            self._identity = _identity(self._path)
        except BaseException:
            connection.close()
            raise
        self._durable = None
        return connection

    def _replaced(self) -> bool:
        """Whether others have set the file aside, or somebody has removed it: what is
        written there now, nobody would ever read."""
        try:
            return _identity(self._path) != self._identity
        except OSError:
            return True

    def _create(self) -> None:
        """Make the file elsewhere and link it into place: nobody sees half of it."""
        part = f"{self._path[:-7]}.new-{os.getpid()}-{get_ident()}"
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            connection = _opened(part)
            try:
                _prefer_log(connection, self._directory)
                _migrate(connection)
            finally:
                connection.close()
            # If another process was faster, its file is as good.
            with suppress(FileExistsError):
                os.link(part, self._path)
        finally:
            os.unlink(part)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _set_aside(self) -> None:
        """Keep a damaged file for whoever wants to know, and start anew next time."""
        kept = f"{self._path}.corrupt-{int(self.clock())}"
        for suffix in ("", "-wal", "-shm"):
            # Another process may have been faster.
            with suppress(FileNotFoundError):
                os.rename(self._path + suffix, kept + suffix)
        self.close_connection()
        self._note(f"warning: {self._path} is damaged: kept as {kept}")

    def _set_durable(self, connection: Connection, durable: bool) -> None:
        # EXTRA is FULL, and without a write-ahead log it also has the directory on
        # the disk, without which a power failure could undo a commit.
        if durable is not self._durable:
            level = "EXTRA" if durable else "NORMAL"
            connection.execute(f"PRAGMA synchronous = {level}")
            self._durable = durable


def _identity(path: str) -> tuple[int, int]:
    """Which file it is. Raises OSError."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _newest(directory: str) -> tuple[int, bool]:
    """The number of the file to use, and whether it exists."""
    usable, damaged = 0, 0
    for name in os.listdir(directory):
        found = _FILE.fullmatch(name)
        if found and found[2]:
            damaged = max(damaged, int(found[1]))
        elif found:
            usable = max(usable, int(found[1]))
    if usable > damaged:
        return usable, True
    return max(usable, damaged) + 1, False


def _opened(path: str) -> Connection:
    """Open a file that exists. SQLite must not create one: its mode would be loose."""
    from sqlite3 import connect

    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return connect(
        f"file:{quoted}?mode=rw",
        uri=True,
        timeout=_BUSY,
        isolation_level=None,
        check_same_thread=False,
    )


def _prefer_log(connection: Connection, directory: str) -> None:
    """Use a write-ahead log, where all processes are sure to share memory.

    The mode is a property of the file, so it is set only when that is made.
    """
    from sqlite3 import OperationalError

    if not _on_network(directory):
        with suppress(OperationalError):
            connection.execute("PRAGMA journal_mode = WAL")


def _on_network(directory: str) -> bool:
    """Whether the file system is one that several hosts may share."""
    device = os.stat(directory).st_dev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                before, _, after = line.partition(" - ")
                if before.split()[2] == numbers:
                    return bool(_NETWORK.match(after))
    except (OSError, IndexError):
        pass  # not Linux: the administrator has to know
    return False


def _migrate(connection: Connection) -> None:
    """Bring a file to this version."""
    version = _version(connection)
    if version == len(SCHEMA):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        if version > len(SCHEMA):
            raise _NotOurs(f"state file has version {version}, we know {len(SCHEMA)}")
        for step in SCHEMA[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(SCHEMA)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.rollback()


def _version(connection: Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
