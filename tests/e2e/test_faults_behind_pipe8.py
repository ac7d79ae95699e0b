"""Faults around a real pipe(8): it is killed or stopped, the disk is full, ...

Whatever is wrong, the mail stays in the queue, and goes out once when all is well.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fault_pieces import AT_ONCE, HOLD, processes
from private_postfix import MESSAGE, Delivery, PrivatePostfix, transport

from fickle_server import FickleServer
from waiting import wait

pytestmark = pytest.mark.more

SERVER = "127.60.0.1:2525"
ACCOUNT = "nobody"
# More than a pipe holds; more than is kept in memory.
LONG = MESSAGE + b"0123456789\n" * 20_000
LONGER = MESSAGE + b"0123456789\n" * 150_000
# Accepts the mail, and leaves a process that holds all it has got.
LINGERING = "#!/bin/sh\ncat >/dev/null\nsleep 20 &\nexit 0\n"
MAIN = {
    **AT_ONCE,
    # What would bounce is seen soon, and our own deadline is not.
    "lingering_time_limit": "10s",
    **{f"smtp_{stage}_timeout": "20s" for stage in ("data_xfer", "data_done")},
}
SINGLE = ("held", "late", "full", "crowded")


class World(NamedTuple):
    """Postfix with these transports, and a place for what they need."""

    postfix: PrivatePostfix
    place: Path
    log: Path

    def held(self, name: str) -> None:
        """Wait until a held transport has been started."""
        wait(lambda: (self.place / f"{name}.here").exists())

    def let_go(self, name: str) -> None:
        (self.place / name).touch()

    def sent_at_last(self, recipient: str) -> Delivery:
        """Try again, now that all is well."""
        self.postfix.run_queue()
        return self.postfix.delivered([recipient], status="sent")[recipient]


def process(*words: bytes) -> int:
    """One of ours with these words on its command line; 0 if there is none."""
    return next((pid for pid, _ in processes(*words)), 0)


def fill(place: Path) -> Path:
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler


def entries(example: str, program: Path, place: Path) -> str:
    """The two of master.cf.example, with a fault in each."""
    one, many = transport(example, "trouble"), transport(example, "troubles")
    run = f"argv={program} deliver"
    state = many.partition("--state-directory ")[2].split()[0]
    assert run in one
    assert run in many
    faulty = {
        "held": one.replace(run, f"argv=/bin/sh {place}/hold {place}/held {run[5:]}"),
        "late": one.replace(
            run,
            f"argv=/bin/sh {place}/hold {place}/late {run[5:]} -o trouble_deadline=2s",
        ),
        "full": one.replace(run, f"argv=/usr/bin/env TMPDIR={place}/small {run[5:]}"),
        "crowded": one.replace(run, f"argv=/usr/bin/prlimit --nproc=1 {run[5:]}"),
        "lingering": many.replace(run, f"{run} -o sendmail_path={place}/lingering"),
        "ledger": many.replace(state, f"{place}/small/state"),
    }
    return "".join(
        name + text.removeprefix("troubles").removeprefix("trouble")
        for name, text in faulty.items()
    )


@pytest.fixture(scope="module")
def world(
    postfix: PrivatePostfix, example: str, installed: Path, place: Path, our_log: Path
) -> Iterator[World]:
    here = place / "faults"
    here.mkdir()
    for name, text in {"hold": HOLD, "lingering": LINGERING}.items():
        (here / name).write_text(text)
        (here / name).chmod(0o755)
    small = here / "small"
    small.mkdir()
    options = "size=256k,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", small], check=True)
    shutil.chown(small, ACCOUNT)
    # The held one makes a note.
    here.chmod(0o777)
    names = ("held", "late", "full", "crowded", "lingering", "ledger")
    routes = "".join(f"{n}.fault.test {n}:[127.60.0.1]:2525\n" for n in names)
    main = MAIN | {f"{name}_destination_recipient_limit": "1" for name in SINGLE}
    master = entries(example, installed, here)
    with postfix.rearranged(main=main, routes=routes, master=master):
        yield World(postfix, here, our_log)
    subprocess.run(["umount", "-l", small], check=True)


@pytest.fixture
def server(world: World) -> Iterator[FickleServer]:
    with FickleServer(listen=SERVER) as server:
        yield server
    world.postfix.empty_queue()


@pytest.mark.fault("9 pipe(8) killed while it copies the message")
def test_pipe8_killed_in_mid_copy(world: World, server: FickleServer) -> None:
    recipient = "half@held.fault.test"
    world.postfix.submit(recipient, message=LONG)
    world.held("held")
    held = process(b"pipe", b"held")
    # 0 would be everybody here.
    assert held
    os.kill(held, signal.SIGKILL)
    before = len(world.log.read_text())
    world.let_go("held")
    wait(lambda: "incomplete" in world.log.read_text()[before:])
    assert server.connections == 0
    world.sent_at_last(recipient)
    (copy,) = server.journal
    assert copy.text.endswith(b"0123456789\r\n" * 1000)
    assert len(copy.text) > len(LONG)


@pytest.mark.fault("8 pipe(8) stopped (SIGSTOP) while it copies the message")
def test_pipe8_stopped_in_mid_copy(world: World, server: FickleServer) -> None:
    recipient = "slow@late.fault.test"
    world.postfix.submit(recipient, message=LONG)
    world.held("late")
    stopped = process(b"pipe", b"late")
    assert stopped
    os.kill(stopped, signal.SIGSTOP)
    try:
        world.let_go("late")
        wait(lambda: not process(b"--nexthop", recipient.encode()))
    finally:
        os.kill(stopped, signal.SIGCONT)
    record = world.postfix.delivery(recipient)
    assert (record.status, record.dsn) == ("deferred", "4.3.0")
    assert record.reason.startswith("timeout reading message")
    assert server.connections == 0
    world.sent_at_last(recipient)
    assert server.copies(recipient) == 1


@pytest.mark.fault("3, 10 pipe(8) killed during the dialogue")
def test_pipe8_killed_in_the_dialogue(world: World, server: FickleServer) -> None:
    """Nobody waits for the answer: the message is not ended. The next attempt is."""
    both = ("one@ledger.fault.test", "two@ledger.fault.test")
    killed: list[int] = []

    def kill(stage: str) -> None:
        if stage == "mail" and not killed and (pipe8 := process(b"pipe", b"ledger")):
            os.kill(pipe8, signal.SIGKILL)
            killed.append(pipe8)

    server.interfere = kill
    world.postfix.submit(*both)
    wait(lambda: killed)
    wait(lambda: not process(b"--nexthop", both[0].encode()))
    for recipient in both:
        world.sent_at_last(recipient)
    assert [server.copies(recipient) for recipient in both] == [1, 1]


@pytest.mark.fault("12 disk full (ENOSPC), behind pipe(8)")
def test_no_room_for_the_message(world: World, server: FickleServer) -> None:
    recipient = "r@full.fault.test"
    world.postfix.submit(recipient, message=LONGER)
    record = world.postfix.delivery(recipient)
    assert (record.status, record.dsn) == ("deferred", "4.3.1")
    assert server.connections == 0


@pytest.mark.fault("18 no process for the interpreter (RLIMIT_NPROC), behind pipe(8)")
def test_no_process(world: World, server: FickleServer) -> None:
    """The shell that should start it ends with a code that pipe(8) would bounce."""
    recipient = "r@crowded.fault.test"
    world.postfix.submit(recipient)
    record = world.postfix.delivery(recipient)
    assert (record.status, record.dsn) == ("deferred", "4.3.0")
    assert record.reason.startswith("postfix-trouble ended unexpectedly")
    assert server.connections == 0


@pytest.mark.fault("13, 14 state directory full, then read-only, behind pipe(8)")
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_state_directory(world: World, server: FickleServer, kind: str) -> None:
    both = tuple(f"{kind}-{n}@ledger.fault.test" for n in (1, 2))
    alone = f"{kind}-alone@ledger.fault.test"
    small = world.place / "small"
    filler = fill(small) if kind == "full" else None
    if filler is None:
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    try:
        world.postfix.submit(*both)
        records = world.postfix.delivered(both)
        assert server.connections == 0
        world.postfix.submit(alone)
        assert world.postfix.delivery(alone).status == "sent"
    finally:
        if filler is None:
            subprocess.run(["mount", "-o", "remount,rw", small], check=True)
        else:
            filler.unlink()
    for record in records.values():
        assert (record.status, record.dsn) == ("deferred", "4.3.0")
        assert record.reason.startswith(f"ledger unavailable: {small}/")
    for recipient in both:
        world.sent_at_last(recipient)
    assert [server.copies(recipient) for recipient in (*both, alone)] == [1, 1, 1]


@pytest.mark.fault("41 sendmail leaves a process, behind pipe(8)")
def test_process_that_is_left(world: World, server: FickleServer) -> None:
    """If it held the output, pipe(8) would wait for its limit, and bounce both."""

    def refuse(stage: str, subject: str, _times: int) -> str | None:
        bad = stage == "rcpt" and subject.startswith("bad")
        return "550 5.1.1 no such user" if bad else None

    server.judge = refuse
    both = ("good@lingering.fault.test", "bad@lingering.fault.test")
    world.postfix.submit(*both)
    records = world.postfix.delivered(both)
    assert {record.status for record in records.values()} == {"sent"}
    assert process(b"sleep", b"20")
