"""Full disks, lost directories, no descriptors, a broken installation, a silent syslog.

With one recipient what is remembered is a convenience: the mail goes out without it.
With several it is a promise: without it nothing is sent, and the mail stays queued.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deliveries import LONG, MESSAGE, ONE, TWO, Client, Done
from installation import install

import needs
from fickle_server import FickleServer
from scripted_server import Script, ScriptedServer
from syslog_daemon import OTHER_DEV

ACCOUNT = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def server() -> Iterator[FickleServer]:
    with FickleServer() as server:
        yield server


@pytest.fixture
def client(program: str, tmp_path: Path, server: FickleServer) -> Client:
    return Client(program, tmp_path, server)


@pytest.fixture
def small(own_network: None, tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kbytes."""
    place = tmp_path / "small"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place))
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def mount(*what: str) -> None:
    subprocess.run(["mount", *what], check=True)


def fill(place: Path) -> None:
    """Leave no room, not for a byte."""
    with (place / "filler").open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


# --- the message ----------------------------------------------------------------------


@pytest.mark.fault("12 disk full (ENOSPC) while the message comes")
def test_no_room_for_the_message(
    client: Client, small: Path, server: FickleServer
) -> None:
    done = client.run(message=LONG, environment={"TMPDIR": str(small)})
    assert done == (75, b"4.3.1 insufficient system storage")
    assert server.connections == 0
    assert client.run(message=LONG).code == 0


@pytest.mark.fault("12 file too large (EFBIG) while the message comes")
def test_file_size_limit(client: Client, server: FickleServer) -> None:
    done = client.run(message=LONG, around=("prlimit", "--fsize=100000"))
    assert done == (75, b"4.3.1 insufficient system storage")
    assert server.connections == 0


# --- the state directory --------------------------------------------------------------


def no_ledger(done: Done, reason: str) -> bool:
    """Deferred, and the queue says why."""
    begins = done.output.startswith(b"4.3.0 ledger unavailable: ")
    return done.code == 75 and begins and done.output.decode().endswith(reason)


def not_there(state: Path) -> None:
    state.parent.joinpath("lost").mkdir(exist_ok=True)
    state.symlink_to("lost/nothing/here")


def of_others(state: Path) -> None:
    state.mkdir(mode=0o700)
    needs.root()
    shutil.chown(state, "nobody")


def writable_for_all(state: Path) -> None:
    state.mkdir()
    state.chmod(0o777)


def a_file(state: Path) -> None:
    state.write_text("")


def garbage(state: Path) -> None:
    state.mkdir(mode=0o700)
    (state / "state-1.sqlite").write_bytes(b"this is no database\n" * 500)


def a_directory_inside(state: Path) -> None:
    state.mkdir(mode=0o700)
    (state / "state-1.sqlite").mkdir()


def half_a_database(state: Path) -> None:
    state.mkdir(mode=0o700)
    path = state / "state-1.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 100,)] * 1000)
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    os.truncate(path, 20_000)


# What is wrong, and what the queue says of it.
BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (not_there, "state directory STATE: not a directory"),
    (of_others, "state directory STATE: owned by nobody, not by root"),
    (writable_for_all, "state directory STATE: writable for others than its owner"),
    (a_file, "state directory STATE: not a directory"),
    (garbage, "STATE/state-1.sqlite: file is not a database"),
    (
        a_directory_inside,
        f"STATE/state-1.sqlite: unable to open database file (account {ACCOUNT})",
    ),
    (half_a_database, "STATE/state-1.sqlite: database disk image is malformed"),
]


@pytest.mark.fault("13, 17 state directory or database unusable")
@pytest.mark.parametrize(
    ("broken", "reason"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN]
)
def test_unusable_state(
    client: Client,
    server: FickleServer,
    broken: Callable[[Path], None],
    reason: str,
) -> None:
    broken(client.state)
    done = client.run(*client.with_state(), recipients=TWO)
    assert no_ledger(done, reason.replace("STATE", str(client.state)))
    assert server.connections == 0
    assert "warning: " in client.log()
    if client.state.is_dir() and list(client.state.glob("*.corrupt-*")):
        shutil.rmtree(client.state)
        broken(client.state)
    assert client.run(*client.with_state()).code == 0
    assert server.copies("r@b.test") == 1


@pytest.mark.fault("17 damaged database: set aside, the next attempt is fine")
def test_damaged_database(client: Client, server: FickleServer) -> None:
    garbage(client.state)
    done = client.run(*client.with_state(), recipients=TWO)
    assert no_ledger(done, "file is not a database")
    assert client.run(*client.with_state(), recipients=TWO).code == 0
    assert client.run(*client.with_state(), recipients=TWO).code == 0
    assert [server.copies(recipient) for recipient in TWO] == [1, 1]
    assert len(list(client.state.glob("*.corrupt-*"))) == 1


@pytest.mark.fault("13 state directory on a read-only file system")
def test_read_only_state(client: Client, server: FickleServer, small: Path) -> None:
    client.state = small / "state"
    assert client.run(*client.with_state(), recipients=TWO).code == 0
    mount("-o", "remount,ro", str(small))
    other = MESSAGE + b"another\n"
    done = client.run(*client.with_state(), recipients=TWO, message=other)
    assert no_ledger(done, "/locks: Read-only file system")
    assert server.connections == 1
    assert client.run(*client.with_state(), message=other).code == 0


@pytest.mark.fault("14 disk of the state directory full, before MAIL")
@pytest.mark.parametrize("before", [False, True], ids=["new", "used before"])
def test_full_state(
    client: Client, server: FickleServer, small: Path, before: bool
) -> None:
    client.state = small / "state"
    if before:
        client.run(*client.with_state(), recipients=TWO)
    fill(small)
    other = MESSAGE + b"another\n"
    done = client.run(*client.with_state(), recipients=TWO, message=other)
    assert no_ledger(done, "database or disk is full")
    assert server.connections == before
    assert client.run(*client.with_state(), message=other).code == 0
    (small / "filler").unlink()
    assert client.run(*client.with_state(), recipients=TWO, message=other).code == 0


@pytest.mark.fault("15 disk of the state directory full after the dot")
@pytest.mark.parametrize("kind", ["all-sent", "one-put-off"])
def test_full_state_after_the_dot(
    program: str, tmp_path: Path, small: Path, kind: str
) -> None:
    def judge(stage: str, subject: str, times: int) -> str | None:
        if stage == "rcpt" and subject == "r@b.test" and kind == "one-put-off":
            return "450 4.2.0 later" if times == 0 else None
        return None

    def interfere(stage: str) -> None:
        if stage == "dot" and not (small / "filler").exists():
            fill(small)

    with FickleServer(judge, interfere=interfere) as server:
        client = Client(program, tmp_path, server)
        client.state = small / "state"
        done = client.run(*client.with_state(), recipients=TWO)
        if kind == "all-sent":
            assert done.code == 0
            assert [server.copies(recipient) for recipient in TWO] == [1, 1]
            return
        assert done.answer == (75, "4.2.0")
        (small / "filler").unlink()
        assert client.run(*client.with_state(), recipients=TWO).code == 0
    assert server.copies("r@b.test") == 1
    # The probe row has kept a place, so that even this is mostly 1.
    assert server.copies("ok@b.test") in (1, 2)


@pytest.mark.fault("16 database locked for a while")
def test_busy_for_a_while(client: Client, server: FickleServer) -> None:
    client.run(*client.with_state())
    with locked(client.state):
        timer = threading.Timer(1.0, server.interfere, [""])
        timer.start()
        threading.Timer(1.0, release.set).start()
        done = client.run(*client.with_state(), recipients=TWO, message=MESSAGE * 2)
        timer.join()
    assert done.code == 0


@pytest.mark.long
@pytest.mark.fault("16 database locked for longer")
def test_busy_for_longer(client: Client, server: FickleServer) -> None:
    client.run(*client.with_state())
    with locked(client.state):
        other = MESSAGE * 2
        done = client.run(*client.with_state(), recipients=TWO, message=other)
        assert no_ledger(done, "database is locked")
        assert client.run(*client.with_state(), message=other).code == 0
        release.set()


release = threading.Event()


class locked:
    """Another process is writing, until `release` is set."""

    def __init__(self, state: Path) -> None:
        (self._path,) = state.glob("state-*.sqlite")
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._hold)

    def _hold(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        self._ready.set()
        release.wait(30)
        connection.execute("ROLLBACK")
        connection.close()

    def __enter__(self) -> None:
        release.clear()
        self._thread.start()
        assert self._ready.wait(60)

    def __exit__(self, *_exc: object) -> None:
        release.set()
        self._thread.join()


@pytest.mark.fault("43 a file system that calls itself NFS")
def test_network_file_system(client: Client, server: FickleServer) -> None:
    """Processes of several hosts share no memory, which a write-ahead log needs."""
    needs.root()
    client.state.mkdir(mode=0o700)
    device = os.stat(client.state).st_dev
    mounts = client.place / "mountinfo"
    numbers = f"{os.major(device)}:{os.minor(device)}"
    mounts.write_text(f"1 1 {numbers} / / rw - nfs4 host:/there rw\n")
    covered = 'mount --bind "$0" /proc/$$/mountinfo; exec "$@"'
    around = ("unshare", "-m", "sh", "-ec", covered, str(mounts))
    client.program = str(client.place / "program")
    # No launcher, which would have the interpreter be another process.
    text = f'#!/bin/sh\nexec {sys.executable} -m postfix_trouble "$@"\n'
    Path(client.program).write_text(text)
    os.chmod(client.program, 0o755)
    for _ in range(2):
        done = client.run(*client.with_state(), recipients=TWO, around=around)
        assert done.code == 0
    assert [server.copies(recipient) for recipient in TWO] == [1, 1]
    (file,) = client.state.glob("*.sqlite")
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


# --- descriptors and memory -----------------------------------------------------------


@pytest.mark.fault("18 no file descriptors (RLIMIT_NOFILE)")
@pytest.mark.parametrize("recipients", [ONE, TWO], ids=["one", "two"])
# With less than 12 the shell that runs the launcher can't read it, but nor could
# pipe(8), which leaves its own limit to us, have come so far.
@pytest.mark.parametrize("limit", range(12, 18))
def test_no_descriptors(
    client: Client, server: FickleServer, limit: int, recipients: tuple[str, ...]
) -> None:
    around = ("prlimit", f"--nofile={limit}")
    done = client.run(*client.with_state(), recipients=recipients, around=around)
    check_deferred_or_done(done, server, recipients)


@pytest.mark.fault("18 no memory (RLIMIT_AS)")
@pytest.mark.parametrize("mebibytes", [8, 12, 16, 20, 24, 32, 48])
def test_no_memory(client: Client, server: FickleServer, mebibytes: int) -> None:
    around = ("prlimit", f"--as={mebibytes << 20}")
    done = client.run(*client.with_state(), message=LONG, around=around)
    check_deferred_or_done(done, server, ONE)


def check_deferred_or_done(
    done: tuple[int, bytes], server: FickleServer, recipients: tuple[str, ...]
) -> None:
    assert done[0] in (0, 75), done
    assert done[0] == 0 or done[1].startswith(b"4."), done
    assert b"Traceback" not in done[1]
    copies = [server.copies(recipient) for recipient in recipients]
    assert copies == [int(done[0] == 0)] * len(recipients), done


# --- the answer -----------------------------------------------------------------------

OUTPUTS = {
    "closed": 'exec "$@" >&-',
    "full": 'exec "$@" >/dev/full',
    "closed-both": 'exec "$@" >&- 2>&-',
}


@pytest.mark.fault("11 standard output closed or full")
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    ("said", "code"), [(None, 0), ("450 4.2.0 later", 75), ("550 5.7.1 no", 77)]
)
def test_nobody_hears_the_answer(
    program: str, tmp_path: Path, output: str, said: str | None, code: int
) -> None:
    def judge(stage: str, _subject: str, _times: int) -> str | None:
        return said if stage == "rcpt" else None

    with FickleServer(judge) as server:
        around = ("sh", "-c", OUTPUTS[output], "sh")
        assert Client(program, tmp_path, server).run(around=around).code == code


@pytest.mark.fault("11 standard output full, not blocking (EAGAIN)")
def test_full_pipe(client: Client, server: FickleServer) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        pass
    done = subprocess.run(client.command(), input=MESSAGE, stdout=writer, check=False)
    os.close(reader)
    os.close(writer)
    assert done.returncode == 0
    assert server.copies("r@b.test") == 1


# --- the log --------------------------------------------------------------------------


@pytest.mark.fault("30 a log that can't be written")
@pytest.mark.parametrize("log", ["/nonexistent/log", "/dev/full", "/"])
def test_no_log(client: Client, server: FickleServer, log: str) -> None:
    assert client.run("--log-file", log).code == 0
    assert server.copies("r@b.test") == 1


@pytest.mark.fault("31 no /dev/log, and a daemon that does not read from it")
@pytest.mark.parametrize("kind", ["missing", "not reading", "a file"])
def test_no_syslog(
    own_network: None, client: Client, server: FickleServer, kind: str
) -> None:
    dev = client.place / "dev"
    dev.mkdir()
    around = ("unshare", "-m", "sh", "-ec", OTHER_DEV, str(dev))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        if kind == "not reading":
            daemon.bind(str(dev / "log"))
            fill_up(dev / "log")
        elif kind == "a file":
            (dev / "log").touch()
        # An empty name is syslog.
        done = client.run("--log-file", "", "-v", around=around)
    assert done.code == 0
    assert server.copies("r@b.test") == 1


def fill_up(path: Path) -> None:
    """Send what a socket takes while nobody reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.connect(str(path))
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.send(b"x" * 1000)


@pytest.mark.fault("30 a notice that can't be sent")
def test_no_notice(program: str, tmp_path: Path) -> None:
    def judge(stage: str, _subject: str, _times: int) -> str | None:
        return "garbage\n450 4.2.0 later" if stage == "rcpt" else None

    with FickleServer(judge) as server:
        done = Client(program, tmp_path, server).run(
            *("-o", "notify_classes=protocol"),
            *("-o", "sendmail_path=/nonexistent/sendmail"),
        )
    assert done.answer == (75, "4.2.0")
    assert "/nonexistent/sendmail: can't be run" in (tmp_path / "log").read_text()


# --- the installation -----------------------------------------------------------------


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("installation") / "program")


def removed_package(top: Path) -> None:
    shutil.rmtree(next(top.glob("lib/python3*/site-packages/postfix_trouble")))


def removed_part(top: Path) -> None:
    shutil.rmtree(next(top.glob("lib/python3*/site-packages/postfix_trouble/smtp")))


def removed_interpreter(top: Path) -> None:
    for path in top.glob("bin/python*"):
        path.unlink()
        path.write_text("#!/nonexistent\n")
        path.chmod(0o755)


def killed_interpreter(top: Path) -> None:
    (top / "bin/python3").unlink()
    (top / "bin/python3").write_text("#!/bin/sh\nkill -9 $$\n")
    (top / "bin/python3").chmod(0o755)


def damaged_code(top: Path) -> None:
    for path in top.glob("lib/python3*/site-packages/postfix_trouble/client/*.py"):
        path.write_text("this is no Python\n")


@pytest.mark.fault("32 broken environment: package, interpreter, code")
@pytest.mark.parametrize(
    "broken",
    [
        removed_package,
        removed_part,
        removed_interpreter,
        killed_interpreter,
        damaged_code,
    ],
    ids=lambda function: function.__name__,
)
def test_broken_installation(
    installation: Path,
    tmp_path: Path,
    server: FickleServer,
    broken: Callable[[Path], None],
) -> None:
    top = tmp_path / "program"
    shutil.copytree(installation.parent.parent, top, symlinks=True)
    client = Client(str(top / "bin" / installation.name), tmp_path, server)
    broken(top)
    assert client.run().answer == (75, "4.3.0")
    assert server.connections == 0


@pytest.mark.fault("42 an upgrade in mid-run: all files of the program replaced")
@pytest.mark.parametrize("stage", ["connect", "rcpt", "dot"])
@pytest.mark.parametrize("recipients", [ONE, TWO], ids=["one", "two"])
def test_upgraded_in_mid_run(
    installation: Path, tmp_path: Path, stage: str, recipients: tuple[str, ...]
) -> None:
    """Nothing is lost, and what the server has is not sent again."""
    top = tmp_path / "program"
    shutil.copytree(installation.parent.parent, top, symlinks=True)

    def judge(stage: str, subject: str, _times: int) -> str | None:
        refused = stage == "rcpt" and subject == "ok@b.test"
        return "550 5.1.1 no such user" if refused else None

    def interfere(now: str) -> None:
        if now == stage and top.exists():
            top.rename(tmp_path / "gone")

    sendmail = tmp_path / "sendmail"
    sendmail.write_text(f"#!/bin/sh\ncat >{tmp_path}/report\n")
    sendmail.chmod(0o755)
    options = ("-o", f"sendmail_path={sendmail}")
    with FickleServer(judge, interfere=interfere) as server:
        client = Client(str(top / "bin" / installation.name), tmp_path, server)
        done = client.run(*client.with_state(*options), recipients=recipients)
        assert done.code in (0, 75), done
        if done.code:
            (tmp_path / "gone").rename(top)
            again = client.run(*client.with_state(*options), recipients=recipients)
            assert again.code == 0
    assert server.copies("r@b.test") == 1
    assert (tmp_path / "report").exists() == (len(recipients) == 2)


@pytest.mark.fault("32 broken environment: code that is needed after the dot")
@pytest.mark.parametrize("state", [True, False], ids=["state", "no state"])
def test_damaged_part_that_is_needed_after_the_dot(
    installation: Path, tmp_path: Path, state: bool
) -> None:
    """Who has the message does not get it again and again."""
    top = tmp_path / "program"
    shutil.copytree(installation.parent.parent, top, symlinks=True)
    package = next(top.glob("lib/python3*/site-packages/postfix_trouble"))
    (package / "report/postmaster.py").write_text("this is no Python\n")
    # What the server says gives cause for a notice.
    script: Script = {"stages": {"eod": "what\n250 2.0.0 Ok"}}
    with ScriptedServer(script) as server:
        where = f"[127.0.0.1]:{server.port}"
        client = Client(str(top / "bin" / installation.name), tmp_path, where)
        done = client.run(*(client.with_state() if state else ()))
    assert done == (0, b"what 250 2.0.0 Ok")
    assert "internal error: SyntaxError" in client.log()


@pytest.mark.fault("32 broken environment: code that is needed after the dot")
def test_damaged_part_and_several_recipients_by_hand(
    installation: Path, tmp_path: Path
) -> None:
    top = tmp_path / "program"
    shutil.copytree(installation.parent.parent, top, symlinks=True)
    package = next(top.glob("lib/python3*/site-packages/postfix_trouble"))
    (package / "report/postmaster.py").write_text("this is no Python\n")
    script: Script = {"stages": {"eod": "what\n250 2.0.0 Ok", "rcpt#2": "450 later"}}
    with ScriptedServer(script) as server:
        where = f"[127.0.0.1]:{server.port}"
        client = Client(str(top / "bin" / installation.name), tmp_path, where)
        done = client.run("--json", recipients=TWO)
    ends = [each["status"] for each in json.loads(done.output)["recipients"]]
    assert (done.code, ends) == (75, ["sent", "deferred"])


# --- the configuration ----------------------------------------------------------------

CONFIGURATIONS = {
    "missing": None,
    "no parameter": b"what is this\n",
    "bad value": b"soft_bounce = maybe\n",
    # Asked for when the message is out: it must not come to that.
    "bad value, after the dot": b"smtp_data_done_timeout = soon\n",
    "bad value, for QUIT": b"smtp_skip_quit_response = maybe\n",
    "bad value, for the log": b"delay_logging_resolution_limit = many\n",
    "unclosed": b"smtp_helo_name = ${myhostname\n",
    "recursion": b"smtp_helo_name = $smtp_helo_name\n",
    "zeros": b"\0" * 4096,
}


@pytest.mark.fault("33 configuration missing, unreadable or wrong")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration(client: Client, server: FickleServer, name: str) -> None:
    path = client.place / "main.cf"
    content = CONFIGURATIONS[name]
    if content is not None:
        path.write_bytes(content)
    done = client.run("--config", str(path))
    assert done.answer in ((75, "4.3.5"), (75, "4.3.0")), done
    assert server.connections == 0


@pytest.mark.fault("34, 35 wrong use in master.cf")
@pytest.mark.parametrize(
    "options",
    [("--nosuch",), ("-o", "nosuch=1"), ("--size", "x"), ("--help",), ("-o",)],
)
def test_wrong_use(
    client: Client, server: FickleServer, options: tuple[str, ...]
) -> None:
    assert client.run(*options).answer == (75, "4.3.5")
    assert server.connections == 0


@pytest.mark.fault("36 a recipient that can't be sent")
def test_recipient_that_can_not_be_sent(client: Client, server: FickleServer) -> None:
    done = client.run(recipients=("a\nb@b.test",))
    assert (done.code, done.output[:5]) == (69, b"5.1.3")
    assert server.connections == 0
