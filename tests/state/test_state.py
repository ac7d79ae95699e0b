"""The state directory: who may have it, what is in it, and what happens to it."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

import needs
from postfix_trouble.client.throttled import Throttled
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import DSN, Disposition, Report
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.policy.multi_recipient import Finished, Place
from postfix_trouble.policy.throttle import Standing, suspended
from postfix_trouble.state import Lock, Refusal, State, StateProblem, request_key
from postfix_trouble.state.shared import SharedDatabase
from waiting import wait

OK = DSN(EnhancedStatus("2.0.0"), "250 ok", "mx.b.test", "smtp", "250 ok")
GONE = DSN(EnhancedStatus("5.1.1"), "550 gone: \u00fc", "mx.b.test", "smtp", "550 gone")
DEAD = DSN(EnhancedStatus("4.4.1"), "connect to mx.b.test[192.0.2.1]:25: refused")
SENT = Finished(Disposition.SENT, OK)
BOUNCED = Finished(Disposition.BOUNCED, GONE)
REPORTED = Finished(Disposition.BOUNCED, GONE, reported=True)

KEY = request_key("3F2A1", "s@a.test", "digest")
ONE, TWO, TWIN = ("a@b.test", 0), ("c@b.test", 0), ("a@b.test", 1)
PLACES: tuple[Place, ...] = (ONE, TWO, TWIN)
DAY = 86400


class Bench:
    """A state directory, and the notes of all who have opened it."""

    opened: ClassVar[list[State]] = []

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.notes: list[str] = []
        self.now = 1e9
        self.stays = False

    def open(self) -> State:
        state = State.open(
            str(self.directory),
            self.notes.append,
            clock=lambda: self.now,
            stays=self.stays,
        )
        assert isinstance(state, State)
        self.opened.append(state)
        return state

    @property
    def file(self) -> Path:
        (found,) = self.directory.glob("state-*.sqlite")
        return found


@pytest.fixture(autouse=True)
def all_closed() -> Iterator[None]:
    """Nothing that a test has opened is left for the next one."""
    yield
    while Bench.opened:
        Bench.opened.pop().close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "state")


def in_child(work: Callable[[], object]) -> int:
    """Start a process that ends with the truth of the result; its id."""
    child = os.fork()
    if child:
        return child
    code = 2
    signal.alarm(20)
    try:
        code = 0 if work() else 1
    finally:
        os._exit(code)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# --- the directory and the file


def test_directory_is_made_for_us_alone(bench: Bench) -> None:
    before = os.umask(0)
    try:
        state = bench.open()
        state.ledger.lock(KEY, PLACES)
        assert state.ledger.record(KEY, {ONE: SENT}) is None
        found = {path.name: path.stat() for path in bench.directory.iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(bench.directory.stat().st_mode) == 0o700
    assert set(found) == {
        "locks", "state-1.sqlite", "state-1.sqlite-wal", "state-1.sqlite-shm",
    }  # fmt: skip
    assert {stat.S_IMODE(status.st_mode) for status in found.values()} == {0o600}


def symlink(path: Path) -> None:
    (path.parent / "real").mkdir(0o700)
    path.symlink_to(path.parent / "real")


def other_owner(path: Path) -> None:
    path.mkdir(0o700)
    needs.root()
    os.chown(path, 1, 1)


@pytest.mark.attack("state: links, other owners, open modes")
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(symlink, "not a directory", id="symlink"),
        pytest.param(Path.touch, "not a directory", id="file"),
        pytest.param(other_owner, "owned by daemon, not by root", id="other owner"),
        pytest.param(
            lambda path: path.mkdir() or path.chmod(0o770), "writable", id="group"
        ),
        pytest.param(
            lambda path: path.mkdir() or path.chmod(0o1777), "writable", id="world"
        ),
    ],
)
def test_directory_is_refused(
    tmp_path: Path, make: Callable[[Path], object], problem: str
) -> None:
    path = tmp_path / "state"
    make(path)
    found = State.open(str(path), print)
    assert isinstance(found, StateProblem)
    assert problem in found.text
    assert str(path) in found.text


def test_parent_is_not_made(tmp_path: Path) -> None:
    found = State.open(str(tmp_path / "no" / "state"), print)
    assert isinstance(found, StateProblem)
    assert not (tmp_path / "no").exists()


@pytest.mark.usefixtures("unmeasured")
def test_sqlite_is_imported_only_when_used(tmp_path: Path) -> None:
    text = (
        "import sys; from postfix_trouble.state import State;"
        f"state = State.open({str(tmp_path / 'x')!r}, print);"
        "print(sorted({'sqlite3', 'hashlib', 'json'} & set(sys.modules)));"
        "print(state.ledger.finished('x'), 'sqlite3' in sys.modules)"
    )
    command = [sys.executable, "-c", text]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["[]", "{} True"]


@pytest.mark.parametrize("name", ["we?ird #1%20", "\udcff"])
def test_any_directory_name(tmp_path: Path, name: str) -> None:
    bench = Bench(tmp_path / name)
    assert bench.open().ledger.record(KEY, {ONE: SENT}) is None
    assert bench.open().ledger.finished(KEY) == {ONE: SENT}
    assert len(list(tmp_path.iterdir())) == 1


def test_damaged_file_is_set_aside_and_said(bench: Bench) -> None:
    state = bench.open()
    assert state.ledger.record(KEY, {ONE: SENT}) is None
    state.close()
    with bench.file.open("r+b") as file:
        file.write(b"damage" * 100)
    again = bench.open()
    # This request can't know what is finished; later ones start anew.
    assert isinstance(again.ledger.finished(KEY), StateProblem)
    assert len(bench.notes) == 1
    assert "damaged" in bench.notes[0]
    assert again.ledger.finished(KEY) == {}
    assert again.ledger.record(KEY, {TWO: SENT}) is None
    assert bench.open().ledger.finished(KEY) == {TWO: SENT}
    names = {path.name for path in bench.directory.iterdir()}
    assert "state-1.sqlite.corrupt-1000000000" in names
    assert "state-2.sqlite" in names


def test_who_has_a_damaged_file_open_can_not_harm_the_next(bench: Bench) -> None:
    old = bench.open()
    assert old.ledger.record(KEY, {ONE: SENT}) is None
    damaged = bench.file
    with damaged.open("r+b") as file:
        file.write(b"damage" * 100)
    Path(f"{damaged}-wal").write_bytes(b"")
    finder = Bench(bench.directory).open()
    assert isinstance(finder.ledger.finished(KEY), StateProblem)
    assert finder.ledger.record(KEY, {TWO: SENT}) is None
    old.close()
    assert finder.ledger.record(KEY, {TWIN: SENT}) is None
    assert bench.open().ledger.finished(KEY) == {TWO: SENT, TWIN: SENT}


def test_the_number_of_a_damaged_file_is_not_used_again(bench: Bench) -> None:
    bench.directory.mkdir(0o700)
    for name in ("state-1.sqlite", "state-2.sqlite.corrupt-5", "state-x.sqlite"):
        (bench.directory / name).touch()
    assert bench.open().ledger.record(KEY, {ONE: SENT}) is None
    assert (bench.directory / "state-3.sqlite").exists()


@pytest.mark.parametrize(
    ("version", "expected"),
    [pytest.param(99, "version 99", id="newer"), pytest.param(0, "", id="empty")],
)
def test_version(bench: Bench, version: int, expected: str) -> None:
    bench.directory.mkdir(0o700)
    with sqlite3.connect(bench.directory / "state-7.sqlite") as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    found = bench.open().ledger.record(KEY, {ONE: SENT})
    assert (found is None) == (expected == "")
    assert found is None or expected in found.text
    assert bench.file.name == "state-7.sqlite", "a newer version's file is not damaged"


@pytest.mark.fault("43 a database without a write-ahead log")
def test_without_a_write_ahead_log(bench: Bench) -> None:
    state = bench.open()
    state.ledger.finished(KEY)
    state.close()
    connection = sqlite3.connect(bench.file)
    assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    connection.close()
    assert bench.open().ledger.record(KEY, {ONE: SENT}) is None
    assert bench.open().ledger.finished(KEY) == {ONE: SENT}
    assert not list(bench.directory.glob("*-wal"))


def test_inspect(bench: Bench) -> None:
    state = bench.open()
    state.ledger.probe(KEY, PLACES)
    found = state.inspect()
    assert isinstance(found, tuple)
    assert found[0] == f"{bench.file}: version 1, journal wal"
    assert "ledger: 3 rows" in found


# --- the ledger


def test_ledger_remembers(bench: Bench) -> None:
    state = bench.open()
    assert state.ledger.finished(KEY) == {}
    assert state.ledger.probe(KEY, PLACES) is None
    assert state.ledger.finished(KEY) == {}
    results = {ONE: SENT, TWIN: BOUNCED, ("\udcff@b.test", 0): SENT}
    assert state.ledger.record(KEY, results) is None
    assert bench.open().ledger.finished(KEY) == results
    assert state.ledger.record(KEY, {TWIN: REPORTED}) is None
    state.ledger.settled(KEY)
    assert state.ledger.probe(KEY, PLACES) is None
    assert bench.open().ledger.finished(KEY) == {**results, TWIN: REPORTED}
    assert bench.notes == []


@pytest.mark.parametrize(
    "other",
    [
        request_key("3F2A2", "s@a.test", "digest"),
        request_key("3F2A1", "t@a.test", "digest"),
        request_key("3F2A1", "s@a.test", "other"),
        request_key("3F2A1s", "@a.test", "digest"),
    ],
    ids=["queue id", "sender", "message", "borders"],
)
def test_another_mail_is_another_mail(bench: Bench, other: str) -> None:
    assert bench.open().ledger.record(KEY, {ONE: SENT}) is None
    assert bench.open().ledger.finished(other) == {}


def test_lock_is_for_one_process_and_its_life(bench: Bench) -> None:
    told, tell = os.pipe()

    def hold() -> bool:
        held = bench.open()
        held.ledger.lock(KEY, (ONE, TWO))
        os.write(tell, b"x")
        signal.pause()
        return False

    child = in_child(hold)
    os.read(told, 1)
    ledger = bench.open().ledger
    assert ledger.lock(KEY, (TWIN,)) is Lock.HELD, "other recipients may go on"
    assert ledger.lock(KEY, (TWIN, TWO)) is Lock.BUSY
    assert ledger.lock(request_key("B", "", ""), (ONE, TWO)) is Lock.HELD
    os.kill(child, 9)
    ended(child)
    assert ledger.lock(KEY, PLACES) is Lock.HELD
    assert (
        ended(in_child(lambda: bench.open().ledger.lock(KEY, (TWO,)) is Lock.BUSY)) == 0
    )
    ledger.unlock()
    assert (
        ended(in_child(lambda: bench.open().ledger.lock(KEY, (TWO,)) is Lock.HELD)) == 0
    )
    os.close(told)
    os.close(tell)


def stages(state: State) -> Iterator[tuple[str, dict[Place, Finished]]]:
    """A request with several recipients, and what is remembered after each stage."""
    known: dict[Place, Finished] = {}
    yield "start", known
    assert state.ledger.lock(KEY, PLACES) is Lock.HELD
    yield "locked", known
    assert state.ledger.probe(KEY, PLACES) is None
    yield "probed", known
    assert state.ledger.record(KEY, {ONE: SENT, TWO: SENT}) is None
    known = {ONE: SENT, TWO: SENT}
    yield "first group sent", known
    assert state.ledger.record(KEY, {TWIN: BOUNCED}) is None
    yield "bounced", {**known, TWIN: BOUNCED}
    assert state.ledger.record(KEY, {TWIN: REPORTED}) is None
    yield "reported", {**known, TWIN: REPORTED}
    state.ledger.settled(KEY)
    yield "settled", {**known, TWIN: REPORTED}


@pytest.mark.fault("1, 3 kill -9 in the state directory, after each write")
@pytest.mark.parametrize("last", range(7))
def test_killed_after_a_stage(bench: Bench, last: int) -> None:
    told, tell = os.pipe()

    def die() -> bool:
        for number, _ in enumerate(stages(bench.open())):
            if number == last:
                os.write(tell, b"x")
                os.kill(os.getpid(), 9)
        return False

    child = in_child(die)
    # Else the end of the child would not be the end of the pipe.
    os.close(tell)
    assert os.read(told, 1)
    os.close(told)
    assert ended(child) == -9
    expected = list(stages(Bench(bench.directory.parent / "other").open()))[last][1]
    state = bench.open()
    assert state.ledger.finished(KEY) == expected
    # The next attempt is not in the way of the dead one, and nothing is damaged.
    assert [stage for stage, _ in stages(state)][-1] == "settled"
    found = state.inspect()
    assert isinstance(found, tuple)
    assert len(found) == 4
    assert bench.notes == []


@pytest.mark.fault("3 kill -9 of a process that fills the ledger")
def test_killed_at_any_moment_what_was_promised_is_there(bench: Bench) -> None:
    """Processes that write all the time, killed after so many promises."""
    for life in range(1, 40, 6):
        told, tell = os.pipe()
        key = request_key(str(life), "", "")

        def write(key: str = key, tell: int = tell) -> bool:
            ledger = bench.open().ledger
            for nth in range(10_000):
                if ledger.record(key, {("a@b", nth): SENT}) is None:
                    os.write(tell, b"x")
            return False

        child = in_child(write)
        os.close(tell)
        promised = 0
        while promised < life:
            one = os.read(told, 1)
            assert one
            promised += 1
        os.kill(child, 9)
        ended(child)
        promised += sum(len(chunk) for chunk in iter(lambda: os.read(told, 4096), b""))  # noqa: B023
        os.close(told)
        found = bench.open().ledger.finished(key)
        assert isinstance(found, dict)
        # Perhaps one more than was promised: killed between commit and promise.
        assert 0 <= len(found) - promised <= 1
        assert set(found) == {("a@b", nth) for nth in range(len(found))}


def full_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def no_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))


@pytest.mark.fault("14, 16, 18 the state directory without descriptors, disk, patience")
@pytest.mark.parametrize("starve", [full_disk, no_descriptors])
def test_starved(bench: Bench, starve: Callable[[], None]) -> None:
    """Seen before anything is sent, said, and over when it is over."""
    bench.open().ledger.record(KEY, {ONE: SENT})

    def probe() -> bool:
        starve()
        state = bench.open()
        problem = state.ledger.probe(KEY, [(f"{n}@b.test", 0) for n in range(500)])
        state.destinations.mark("b.test", DEAD, 1e9)
        return isinstance(problem, StateProblem) and len(bench.notes) == 1

    assert ended(in_child(probe)) == 0
    assert bench.open().ledger.probe(KEY, PLACES) is None
    assert bench.open().ledger.finished(KEY) == {ONE: SENT}


def test_unusable_file_is_a_problem_for_the_ledger_and_a_note_for_others(
    bench: Bench,
) -> None:
    bench.directory.mkdir(0o700)
    (bench.directory / "state-1.sqlite").mkdir()
    state = bench.open()
    assert isinstance(state.ledger.finished(KEY), StateProblem)
    assert isinstance(state.ledger.probe(KEY, PLACES), StateProblem)
    assert isinstance(state.ledger.record(KEY, {ONE: SENT}), StateProblem)
    assert isinstance(state.inspect(), StateProblem)
    assert bench.notes == []
    state.destinations.mark("b.test", DEAD, 1e9)
    assert state.destinations.check("b.test", 1e9, 300) is Standing.OPEN
    state.destinations.clear("b.test")
    state.logins.put("k", Refusal("4.7.8", "no"), 1e9)
    assert state.logins.get("k", 1e9, 300) is None
    assert state.tokens.get("k", 1e9) == ""
    assert not state.notices.due("b.test", 1e9)
    state.ledger.settled(KEY)
    assert len(bench.notes) == 8
    assert all("state ignored" in note for note in bench.notes)


def rows(bench: Bench) -> int:
    with sqlite3.connect(bench.file) as connection:
        count = connection.execute("SELECT count(*) FROM ledger").fetchone()[0]
    connection.close()
    return int(count)


def test_old_rows_are_forgotten_little_by_little(bench: Bench) -> None:
    ledger = bench.open().ledger
    ledger.probe(KEY, ())
    ledger.probe(KEY, [(f"{n}@b.test", 0) for n in range(3000)])
    # Set back, the clock does not make them younger.
    bench.now -= 400 * DAY
    ledger.probe(KEY, ())
    for _ in range(11 * DAY // 600):
        bench.now += 600
        ledger.probe(KEY, ())
    assert rows(bench) == 3000
    bench.now += 600
    ledger.probe(KEY, ())
    assert rows(bench) == 3000 - 29, "at most one in a hundred"
    for _ in range(200):
        bench.now += 600
        ledger.probe(KEY, ())
    assert 1000 <= rows(bench) < 1100, "never the youngest"


def test_what_is_still_tried_is_remembered_however_long_that_takes(
    bench: Bench,
) -> None:
    """maximal_queue_lifetime may be longer than rows are kept."""
    ledger = bench.open().ledger
    ledger.probe(KEY, PLACES)
    ledger.record(KEY, {ONE: SENT})
    other = request_key("other", "", "")
    ledger.probe(other, [(f"{n}@b.test", 0) for n in range(2000)])
    for tens in range(30 * 24 * 6):
        bench.now += 600
        ledger.probe(*((KEY, PLACES) if tens % 36 == 0 else (other, ())))
    assert rows(bench) < 2003
    assert ledger.finished(KEY) == {ONE: SENT}


@pytest.mark.fault("19 the ledger's clock, 400 days to and fro")
@pytest.mark.parametrize("jump", [400 * DAY, -400 * DAY])
def test_a_clock_that_jumps_makes_nothing_old(bench: Bench, jump: int) -> None:
    ledger = bench.open().ledger
    ledger.probe(KEY, [(f"{n}@b.test", 0) for n in range(3000)])
    for _ in range(20):
        bench.now += jump
        ledger.probe(KEY, ())
        bench.now -= jump
        ledger.probe(KEY, ())
    bench.now += jump
    ledger.probe(KEY, ())
    assert rows(bench) == 3000


def test_settled_rows_go_sooner(bench: Bench) -> None:
    ledger = bench.open().ledger
    ledger.probe(KEY, ())
    other = request_key("other", "", "")
    ledger.probe(other, [(f"{n}@b.test", 0) for n in range(100)])
    ledger.probe(KEY, [(f"{n}@b.test", 0) for n in range(2000)])
    ledger.settled(other)
    for _ in range(3 * DAY // 600):
        bench.now += 600
        ledger.probe(KEY, ())
    assert rows(bench) == 2000


# --- what is advisory


def test_destination_rests_then_one_probes(bench: Bench) -> None:
    found = bench.open().destinations
    assert found.check("b.test", 1000, 300) is Standing.OPEN
    found.mark("b.test", DEAD, 1000)
    assert found.check("b.test", 1001, 300) == suspended(DEAD)
    assert found.check("c.test", 1001, 300) is Standing.OPEN
    assert found.check("b.test", 1300, 300) is Standing.PROBE
    assert found.check("b.test", 1301, 300) == suspended(DEAD)
    assert found.check("b.test", 1600, 300) is Standing.PROBE, "the probe was killed"
    found.mark("b.test", DEAD, 1601)
    assert found.check("b.test", 1700, 300) == suspended(DEAD)
    found.clear("b.test")
    found.clear("b.test")
    assert found.check("b.test", 1700, 300) is Standing.OPEN
    assert bench.notes == []


def at_once(count: int, work: Callable[[int], bool]) -> list[int]:
    """Run it in so many processes that all begin together; how they ended."""
    go, start = os.pipe()

    def wait(number: int) -> bool:
        os.close(start)
        os.read(go, 1)
        return work(number)

    children = [in_child(partial(wait, number)) for number in range(count)]
    os.close(start)
    os.close(go)
    return [ended(child) for child in children]


def test_of_fifty_processes_one_probes(bench: Bench) -> None:
    bench.open().destinations.mark("b.test", DEAD, 1000)

    def ask(_: int) -> bool:
        found = bench.open().destinations.check("b.test", 1400, 300)
        assert bench.notes == []
        return found is Standing.PROBE

    assert sorted(at_once(50, ask)) == [0] + 49 * [1]


def test_fifty_processes_write_at_once_to_a_new_directory(bench: Bench) -> None:
    def work(number: int) -> bool:
        state = bench.open()
        state.destinations.mark("b.test", DEAD, 1000 + number)
        state.destinations.check("b.test", 1400, 300)
        assert state.ledger.record(str(number), {ONE: SENT, TWO: BOUNCED}) is None
        state.destinations.clear("b.test")
        return bench.notes == []

    assert at_once(50, work) == 50 * [0]
    assert bench.open().destinations.check("b.test", 1400, 300) is Standing.OPEN
    assert rows(bench) == 100
    assert {path.name for path in bench.directory.iterdir()} <= {
        "state-1.sqlite",
        "state-1.sqlite-wal",
        "state-1.sqlite-shm",
    }


def test_threads_share_a_state(bench: Bench) -> None:
    state = bench.open()
    results: list[object] = []

    def work(number: int) -> None:
        for nth in range(5):
            results.append(state.ledger.record(str(number), {("a@b", nth): SENT}))
            state.destinations.mark(str(number), DEAD, 1000)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == 40 * [None]
    assert bench.notes == []


def test_logins(bench: Bench) -> None:
    logins = bench.open().logins
    assert logins.get("k", 1000, 300) is None
    refusal = Refusal("5.7.8", "host mx said: 535 5.7.8 no")
    logins.put("k", refusal, 1000)
    assert bench.open().logins.get("k", 1299, 300) == refusal
    assert logins.get("k", 1300, 300) is None
    assert logins.get("k", 900, 300) is None, "from the future"
    logins.drop("k")
    assert logins.get("k", 1000, 300) is None


def test_tokens(bench: Bench) -> None:
    tokens = bench.open().tokens
    tokens.put("k", "secret \udc80", 2000)
    assert bench.open().tokens.get("k", 1999) == "secret \udc80"
    assert tokens.get("k", 2000) == ""
    tokens.drop("k")
    assert tokens.get("k", 1000) == ""


def test_notices_are_rare(bench: Bench) -> None:
    notices = bench.open().notices
    assert notices.due("b.test", 10_000)
    assert not bench.open().notices.due("b.test", 13_599)
    assert notices.due("c.test", 13_599)
    assert notices.due("b.test", 13_600)
    assert notices.due("b.test", 5_000), "the clock was set back"


# --- a process that stays -----------------------------------------------------------


@pytest.fixture
def shared(bench: Bench) -> State:
    bench.stays = True
    return bench.open()


def together(*works: Callable[[], object]) -> list[object]:
    """Do all of it, each in a thread of its own."""
    found: list[object] = [None] * len(works)

    def run(place: int) -> None:
        found[place] = works[place]()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def sent(state: State, key: str) -> Callable[[], object]:
    return lambda: state.new_ledger().record(key, {ONE: SENT})


def test_what_many_threads_record_is_there_for_others(
    shared: State, bench: Bench
) -> None:
    keys = [f"key {number}" for number in range(40)]
    assert together(*(sent(shared, key) for key in keys)) == [None] * 40
    bench.stays = False
    other = bench.open()
    assert all(other.ledger.finished(key) == {ONE: SENT} for key in keys)


def test_who_records_waits_for_the_disk_with_others(
    shared: State, bench: Bench
) -> None:
    """While another process writes, many wait; then they need one transaction."""
    shared.ledger.probe(KEY, [ONE])
    holder = sqlite3.connect(bench.file, isolation_level=None, check_same_thread=False)
    commits: list[str] = []
    database: SharedDatabase = shared.ledger._database  # type: ignore[assignment]
    assert database._connection is not None
    database._connection.set_trace_callback(
        lambda text: commits.append(text) if text == "COMMIT" else None
    )
    holder.execute("BEGIN IMMEDIATE")
    keys = [f"key {number}" for number in range(10)]
    threads = [threading.Thread(target=sent(shared, key)) for key in keys]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while len(database._waiting) < 9 and time.monotonic() < until:
        time.sleep(0.01)
    holder.execute("ROLLBACK")
    holder.close()
    for thread in threads:
        thread.join(30)
    assert all(shared.ledger.finished(key) == {ONE: SENT} for key in keys)
    assert len(commits) == 2


def test_one_that_fails_leaves_the_others(shared: State) -> None:
    """What can't be written is not written; the rest is, each once."""
    database = shared.ledger._database
    started = threading.Barrier(11)

    def bad(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO nowhere VALUES (1)")

    def good(number: int) -> Callable[[], object]:
        def run() -> object:
            started.wait(30)
            return shared.new_ledger().record(f"key {number}", {ONE: SENT})

        return run

    def failing() -> object:
        started.wait(30)
        return database.write(bad)

    for _ in range(5):
        found = together(failing, *(good(number) for number in range(10)))
        assert isinstance(found[0], StateProblem)
        assert found[1:] == [None] * 10
    assert all(
        shared.ledger.finished(f"key {number}") == {ONE: SENT} for number in range(10)
    )


def test_reading_does_not_wait_for_who_writes(shared: State, bench: Bench) -> None:
    shared.ledger.record(KEY, {ONE: SENT})
    with sqlite3.connect(bench.file, isolation_level=None) as holder:
        holder.execute("BEGIN IMMEDIATE")
        writing = threading.Thread(target=sent(shared, "another"))
        writing.start()
        assert shared.ledger.finished(KEY) == {ONE: SENT}
        holder.execute("ROLLBACK")
        writing.join(30)
    holder.close()


def test_what_may_be_written_later_is_written_at_the_end(
    shared: State, bench: Bench
) -> None:
    shared.ledger.record(KEY, {ONE: SENT})
    shared.ledger.settled(KEY)
    shared.close()
    with sqlite3.connect(bench.file) as connection:
        ((due, ticks),) = connection.execute("SELECT due, ticks FROM ledger, clock")
    connection.close()
    assert due - ticks == 2 * DAY


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("how", ["set aside", "removed"])
def test_a_file_that_is_gone_is_not_written_to(
    bench: Bench, stays: bool, how: str
) -> None:
    """Others, who look for it, would not find what is in there."""
    bench.stays = stays
    state = bench.open()
    state.ledger.record(KEY, {ONE: SENT})
    assert state.ledger.finished(KEY) == {ONE: SENT}
    for path in bench.directory.glob("state-1.sqlite*"):
        if how == "removed":
            path.unlink()
        else:
            path.rename(f"{path}.corrupt-1")
    state.ledger.record(KEY, {TWO: SENT})
    assert bench.open().ledger.finished(KEY) == {TWO: SENT}
    assert state.ledger.finished(KEY) == {TWO: SENT}


def test_damage_while_it_is_in_use(shared: State, bench: Bench) -> None:
    shared.ledger.record(KEY, {ONE: SENT})
    assert shared.ledger.finished(KEY) == {ONE: SENT}
    shared.close()
    bench.file.write_bytes(b"no database at all" * 500)
    assert isinstance(shared.ledger.finished(KEY), StateProblem)
    assert together(*(sent(shared, f"{n}") for n in range(8))) == [None] * 8
    assert shared.ledger.finished("7") == {ONE: SENT}


def test_a_mark_of_others_counts_though_there_was_none(bench: Bench) -> None:
    """Who finds none does not look again for a moment."""
    ours = Throttled(300, bench.open())
    assert ours.check("b.test") is None
    bench.open().destinations.mark("b.test", DEAD, time.time())
    wait(lambda: ours.check("b.test") == suspended(DEAD))


def test_a_delivery_takes_back_a_mark_that_others_made_meanwhile(bench: Bench) -> None:
    """Though we have just seen that there was none."""
    ours, theirs = (Throttled(300, bench.open()) for _ in range(2))
    assert ours.check("b.test") is None
    theirs.remember(failed(DEAD))
    ours.remember(failed(None))
    assert Throttled(300, bench.open()).check("b.test") is None


def failed(why: DSN | None) -> Report:
    """What came of a request whose destination was in trouble, or was not."""
    request = DeliveryRequest("s@a.test", (Recipient("r@b.test"),), "b.test")
    return Report(request, (), throttled=why)
