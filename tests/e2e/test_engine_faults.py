"""Faults around the engine, behind a real pipe(8), with each of the clients.

It, its client or pipe(8) is killed or stopped; there is none, or another one. The mail
stays in the queue, or a process of its own delivers it; and nothing is sent twice but
in the moment between the final dot and its reply.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fault_pieces import AT_ONCE, HOLD, processes
from private_postfix import MESSAGE, PATIENCE, Delivery, PrivatePostfix, transport
from resident_engine import ResidentEngine, clients

import needs
from fickle_server import FickleServer
from postfix_trouble.engine import protocol
from waiting import wait

pytestmark = pytest.mark.more

# By two names: the second one is a fallback relay.
SERVER = "0.0.0.0:2525"
ACCOUNT, STRANGER = "nobody", "daemon"
# More than a pipe holds.
LONG = MESSAGE + b"0123456789\n" * 20_000
MAIN = {
    **AT_ONCE,
    **{f"smtp_{stage}_timeout": "25s" for stage in ("mail", "data_xfer", "data_done")},
}
NUMBERS = itertools.count()
# Greets whoever comes first, and says how much that one sends.
LISTENER = """
import os, socket, sys
path, greeting = sys.argv[1], bytes.fromhex(sys.argv[2])
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
os.chmod(path, 0o666)
listener.listen()
print(flush=True)
client, _ = listener.accept()
try:
    client.send(greeting)
    print(len(client.recv(9)))
except OSError:
    print(0)
"""
NOBODY = "nobody waits for the answer"
DOUBT = "lost connection with the engine -- message may be sent more than once"
UNKNOWN = (
    "terminated by signal while sending end of data -- message may be sent more than"
    " once"
)
# What pipe(8) starts for a client: itself, or a shell that starts it.
CLIENTS = ("c", "python")
VICTIMS = ("c", "python", "launcher")


class Server(FickleServer):
    """Stops at a stage, the first time, until it may go on."""

    def __init__(self) -> None:
        super().__init__(listen=SERVER, interfere=self._look)
        self.hold_at = ""
        self.here = threading.Event()
        self.go_on = threading.Event()
        self.stages: list[str] = []

    def _look(self, stage: str) -> None:
        self.stages.append(stage)
        if stage == self.hold_at:
            self.hold_at = ""
            self.here.set()
            assert self.go_on.wait(PATIENCE)

    @contextlib.contextmanager
    def holding(self, stage: str) -> Iterator[Callable[[], bool]]:
        """It stops there, until the end of the block; what is given waits for that."""
        self.here.clear()
        self.go_on.clear()
        self.hold_at = stage
        try:
            yield lambda: self.here.wait(PATIENCE)
        finally:
            self.go_on.set()


class World(NamedTuple):
    """Postfix with these transports, and an engine that listens."""

    postfix: PrivatePostfix
    engine: ResidentEngine
    place: Path
    log: Path

    def submit(self, how: str, *names: str, message: bytes = MESSAGE) -> list[str]:
        """A message by one of the transports; its recipients."""
        recipients = [f"{name}@{how}.engine.test" for name in names]
        self.postfix.submit(*recipients, message=message)
        return recipients

    def deferred(self, recipient: str) -> Delivery:
        found = self.postfix.delivery(recipient)
        assert found.status == "deferred", found
        return found

    def noted(self, text: str, before: int) -> None:
        """Wait for something in the program's log, from there on."""
        wait(lambda: text in self.log.read_text()[before:])

    def sent_at_last(self, *recipients: str) -> None:
        """Try again, now that all is well."""
        self.postfix.run_queue()
        self.postfix.delivered(recipients, status="sent")


def client(recipient: str, which: str) -> int:
    """The process that talks to the engine, or the launcher that has started it."""
    for pid, argv in processes(b"--nexthop", recipient.encode()):
        behind = any(word.startswith(b"@launcher=") for word in argv)
        if behind == (which == "python"):
            return pid
    raise AssertionError(f"no {which} for {recipient}")


def strike(recipient: str, which: str, number: signal.Signals) -> None:
    os.kill(client(recipient, which), number)


def gone(recipient: str) -> bool:
    return not processes(b"--nexthop", recipient.encode())


def transports(
    example: str, programs: dict[str, Path], engine: Path, here: Path
) -> str:
    """Those of master.cf.example, with an engine, for each client, and a few more."""
    entries = ""
    for name, program in programs.items():
        for kind in ("trouble", "troubles"):
            entry = transport(example, kind)
            start = entry.index("argv=") + 5
            standing = entry[start : entry.index(" deliver")]
            run = f"argv={standing} deliver"
            ours = f"argv={program} deliver --engine={engine}"
            text = entry.replace(run, ours)
            one = f"{name}-{'one' if kind == 'trouble' else 'many'}"
            more = {one: text}
            if kind == "troubles":
                second = f"{ours} -o smtp_fallback_relay=[127.61.0.2]:2525"
                more[f"{name}-fallback"] = entry.replace(run, second)
            if kind == "trouble":
                held = f"argv=/bin/sh {here}/hold {here}/{name} {ours[5:]}"
                more[f"{name}-held"] = entry.replace(run, held)
                soon = f"{ours} -o trouble_deadline=2s"
                more[f"{name}-soon"] = entry.replace(run, soon)
                for most in (5, 8, 12):
                    few = f"argv=/usr/bin/prlimit --nofile={most} {ours[5:]}"
                    more[f"{name}-{most}"] = entry.replace(run, few)
                away = ours.replace(f"{engine}", f"{here}/nowhere")
                more[f"{name}-away"] = entry.replace(run, away)
                close = text.replace("--config /etc/postfix/", "--config ")
                more[f"{name}-relative"] = close
            entries += "".join(
                name + text.removeprefix(kind) for name, text in more.items()
            )
    return entries


@pytest.fixture(scope="module")
def world(
    postfix: PrivatePostfix, example: str, installed: Path, place: Path, our_log: Path
) -> Iterator[World]:
    here = place / "engines"
    here.mkdir()
    (here / "hold").write_text(HOLD)
    # The held one makes a note.
    here.chmod(0o777)
    engine = ResidentEngine(installed, here / "run", ACCOUNT)
    master = transports(example, clients(installed), engine.path, here)
    names = [line.split()[0] for line in master.splitlines() if line[:1].isalpha()]
    routes = "".join(f"{n}.engine.test {n}:[127.61.0.1]:2525\n" for n in names)
    single = [name for name in names if "many" not in name and "fallback" not in name]
    main = MAIN | {f"{name}_destination_recipient_limit": "1" for name in single}
    with postfix.rearranged(main=main, routes=routes, master=master):
        yield World(postfix, engine, here, our_log)


@pytest.fixture
def server(world: World) -> Iterator[Server]:
    """The server, and an engine that runs."""
    world.engine.start()
    held = Server()
    with held:
        yield held
    with contextlib.suppress(ProcessLookupError):
        world.engine.kill()
    world.postfix.empty_queue()


@pytest.fixture(params=CLIENTS)
def way(request: pytest.FixtureRequest) -> str:
    """The client."""
    return known(str(request.param))


@pytest.fixture(params=VICTIMS)
def victim(request: pytest.FixtureRequest) -> str:
    """The process of a client that it hits."""
    known(str(request.param))
    return str(request.param)


def known(name: str) -> str:
    if name == "c":
        needs.compiler()
    return name


def way_of(victim: str) -> str:
    return "python" if victim == "launcher" else victim


# --- all is well


def test_engine_delivers(world: World, server: Server, way: str) -> None:
    (recipient,) = world.submit(f"{way}-one", "r", message=LONG)
    assert world.postfix.delivery(recipient).status == "sent"
    pid = f"[{world.engine.pid}]"
    assert any(
        pid in line and recipient in line and "status=sent" in line
        for line in world.log.read_text().splitlines()
    )
    assert len(server.journal[0].text) > len(LONG)


# --- the client, or pipe(8)


@pytest.mark.fault("engine its client killed before the final dot")
def test_client_killed_before_the_dot(
    world: World, server: Server, victim: str
) -> None:
    before = len(world.log.read_text())
    with server.holding("data") as here:
        (recipient,) = world.submit(f"{way_of(victim)}-one", f"before-{victim}")
        assert here()
        strike(recipient, victim, signal.SIGKILL)
        assert world.deferred(recipient).dsn == "4.3.0"
        wait(lambda: gone(recipient))
    world.noted(NOBODY, before)
    assert server.journal == []
    world.sent_at_last(recipient)
    assert server.copies(recipient) == 1


@pytest.mark.fault("engine its client killed after the dot: not sent again")
def test_client_killed_after_the_dot(world: World, server: Server, victim: str) -> None:
    """The engine waits for the reply, and has it in the ledger; whoever asks meanwhile
    is told that it is in hand."""
    with server.holding("dot") as here:
        both = world.submit(f"{way_of(victim)}-many", f"a-{victim}", f"b-{victim}")
        assert here()
        strike(both[0], victim, signal.SIGKILL)
        assert world.deferred(both[0]).dsn == "4.3.0"
        world.postfix.retry()
        wait(lambda: "delivery in progress" in world.postfix.log())
        assert server.connections == 1
    world.sent_at_last(*both)
    assert [server.copies(recipient) for recipient in both] == [1, 1]


@pytest.mark.fault("engine SIGTERM for its client before the final dot")
def test_signal_before_the_dot(world: World, server: Server, victim: str) -> None:
    with server.holding("data") as here:
        (recipient,) = world.submit(f"{way_of(victim)}-one", f"term-{victim}")
        assert here()
        strike(recipient, victim, signal.SIGTERM)
        found = world.deferred(recipient)
        assert (found.dsn, found.reason) == ("4.3.0", "terminated by signal")
    world.sent_at_last(recipient)
    assert server.copies(recipient) == 1


@pytest.mark.fault("engine SIGTERM for its client after the dot, a reply in time")
def test_signal_after_the_dot(world: World, server: Server, victim: str) -> None:
    with server.holding("dot") as here:
        (recipient,) = world.submit(f"{way_of(victim)}-one", f"reply-{victim}")
        assert here()
        strike(recipient, victim, signal.SIGTERM)
        # That it does not answer now can't be waited for.
        time.sleep(1)
    assert world.postfix.delivery(recipient).status == "sent"
    assert server.copies(recipient) == 1


@pytest.mark.long
@pytest.mark.fault("engine SIGTERM for its client after the dot, and no reply")
def test_signal_after_the_dot_no_reply(world: World, server: Server, way: str) -> None:
    with server.holding("dot") as here:
        (recipient,) = world.submit(f"{way}-one", "silence")
        assert here()
        begun = time.monotonic()
        strike(recipient, way, signal.SIGTERM)
        found = world.deferred(recipient)
        assert time.monotonic() > begun + 9
        assert (found.dsn, found.reason) == ("4.4.2", UNKNOWN)


@pytest.mark.fault("engine pipe(8) killed before the final dot")
def test_pipe8_killed(world: World, server: Server, way: str) -> None:
    before = len(world.log.read_text())
    with server.holding("data") as here:
        (recipient,) = world.submit(f"{way}-one", "pipe8")
        assert here()
        for pid, _ in processes(b"pipe", f"{way}-one".encode()):
            os.kill(pid, signal.SIGKILL)
        wait(lambda: gone(recipient))
    world.noted(NOBODY, before)
    assert server.journal == []
    world.sent_at_last(recipient)
    assert server.copies(recipient) == 1


@pytest.mark.fault("engine pipe(8) killed while it copies the message")
def test_pipe8_killed_in_mid_copy(world: World, server: Server, way: str) -> None:
    (recipient,) = world.submit(f"{way}-held", "half", message=LONG)
    wait(lambda: (world.place / f"{way}.here").exists())
    for pid, _ in processes(b"pipe", f"{way}-held".encode()):
        os.kill(pid, signal.SIGKILL)
    (world.place / way).touch()
    wait(lambda: gone(recipient))
    assert server.connections == 0
    world.sent_at_last(recipient)
    (copy,) = server.journal
    assert copy.text.endswith(b"0123456789\r\n" * 1000)
    assert len(copy.text) > len(LONG)


@pytest.mark.fault("engine a client with few descriptors: 5, 8; 12 for the shell")
@pytest.mark.parametrize(
    ("name", "most"), [("c", 5), ("c", 8), ("python", 12)], ids=["c-5", "c-8", "shell"]
)
def test_few_descriptors(world: World, server: Server, name: str, most: int) -> None:
    (recipient,) = world.submit(f"{known(name)}-{most}", "few")
    assert world.postfix.delivery(recipient).status == "sent"
    assert server.copies(recipient) == 1


@pytest.mark.fault("engine a server that is silent: the deadline of the request")
def test_deadline(world: World, server: Server, way: str) -> None:
    with server.holding("mail") as here:
        (recipient,) = world.submit(f"{way}-soon", "slow")
        assert here()
        found = world.deferred(recipient)
    assert found.dsn == "4.4.2"
    assert server.journal == []


@pytest.mark.fault("engine a request with a relative path")
def test_relative_path(world: World, server: Server, way: str) -> None:
    (recipient,) = world.submit(f"{way}-relative", "r")
    found = world.deferred(recipient)
    assert (found.dsn, server.connections) == ("4.3.5", 0)


# --- the engine


@pytest.mark.fault("engine killed before the final dot")
def test_engine_killed_before_the_dot(world: World, server: Server, way: str) -> None:
    with server.holding("data") as here:
        (recipient,) = world.submit(f"{way}-one", "dead")
        assert here()
        world.engine.kill()
        found = world.deferred(recipient)
        # Nothing is tried a second time in the same run.
        assert (found.dsn, found.reason) == ("4.3.0", DOUBT)
        assert server.connections == 1
    assert server.journal == []
    world.engine.start()
    world.sent_at_last(recipient)
    assert server.copies(recipient) == 1


@pytest.mark.fault("engine killed after the dot, before the reply: the window")
def test_engine_killed_after_the_dot(world: World, server: Server, way: str) -> None:
    with server.holding("dot") as here:
        (recipient,) = world.submit(f"{way}-one", "window")
        assert here()
        world.engine.kill()
        found = world.deferred(recipient)
        assert (found.dsn, found.reason) == ("4.3.0", DOUBT)
    world.engine.start()
    world.sent_at_last(recipient)
    assert server.copies(recipient) == 2


@pytest.mark.fault("engine killed with an outcome in the ledger: not sent again")
def test_engine_killed_after_the_commit(world: World, server: Server, way: str) -> None:
    """One of two has it when the engine dies, and does not get it again."""

    def later(stage: str, subject: str, times: int) -> str | None:
        if stage == "rcpt" and subject.startswith("later") and not times:
            server.hold_at = "connect"
            return "450 4.2.0 for the fallback relay"
        return None

    server.judge = later
    both = world.submit(f"{way}-fallback", "ok", "later")
    assert server.here.wait(PATIENCE)
    world.engine.kill()
    world.deferred(both[0])
    server.go_on.set()
    world.engine.start()
    world.sent_at_last(*both)
    assert [server.copies(recipient) for recipient in both] == [1, 1]


@pytest.mark.fault("engine stopped (SIGSTOP): one process a mail after two seconds")
def test_engine_stopped(world: World, server: Server, way: str) -> None:
    """And pipe(8) is not kept waiting for the answer's end by whoever is stopped."""
    world.engine.send(signal.SIGSTOP)
    try:
        (recipient,) = world.submit(f"{way}-one", "stopped")
        assert world.postfix.delivery(recipient).status == "sent"
    finally:
        world.engine.send(signal.SIGCONT)
    assert server.copies(recipient) == 1
    # It goes on as if nothing had been.
    (recipient,) = world.submit(f"{way}-one", "continued")
    assert world.postfix.delivery(recipient).status == "sent"
    assert server.copies(recipient) == 1


@pytest.mark.long
@pytest.mark.fault("engine stopped (SIGSTOP) with a request, and its client SIGTERM")
def test_engine_stopped_with_a_request(world: World, server: Server, way: str) -> None:
    with server.holding("data") as here:
        (recipient,) = world.submit(f"{way}-one", "stuck")
        assert here()
        world.engine.send(signal.SIGSTOP)
        strike(recipient, way, signal.SIGTERM)
        found = world.deferred(recipient)
        assert found.reason == "no answer from the engine in time"
    world.engine.send(signal.SIGCONT)
    world.sent_at_last(recipient)
    assert server.copies(recipient) == 1


@pytest.mark.fault("engine that leaves (SIGTERM): what is begun is finished")
def test_engine_drains(world: World, server: Server, way: str) -> None:
    with server.holding("data") as here:
        (recipient,) = world.submit(f"{way}-one", "begun")
        assert here()
        world.engine.send(signal.SIGTERM)
        wait(lambda: not world.engine.path.exists())
        (other,) = world.submit(f"{way}-one", "alone")
        assert world.postfix.delivery(other).status == "sent"
    assert world.postfix.delivery(recipient).status == "sent"
    assert world.engine.drain() == 0
    assert [server.copies(each) for each in (recipient, other)] == [1, 1]


@pytest.mark.fault("engine not there, or a socket that a dead one has left")
@pytest.mark.parametrize("left", ["nothing", "socket"])
def test_no_engine(world: World, server: Server, way: str, left: str) -> None:
    world.engine.kill()
    if left == "nothing":
        world.engine.path.unlink()
    (recipient,) = world.submit(f"{way}-one", left)
    assert world.postfix.delivery(recipient).status == "sent"
    assert server.copies(recipient) == 1
    # The next one takes the place of the dead one.
    world.engine.start()
    (recipient,) = world.submit(f"{way}-one", f"{left}-again")
    assert world.postfix.delivery(recipient).status == "sent"


@contextlib.contextmanager
def other_engine(world: World, account: str, greeting: bytes) -> Iterator[list[str]]:
    """Somebody who listens in its place, greets and waits. What the client sent him."""
    world.engine.kill()
    world.engine.path.unlink()
    heard: list[str] = []
    directory = world.engine.path.parent
    directory.chmod(0o777)
    python = str(world.engine.program.with_name("python3"))
    command = [python, "-I", "-c", LISTENER, str(world.engine.path), greeting.hex()]
    try:
        with subprocess.Popen(
            command, user=account, stdout=subprocess.PIPE, text=True
        ) as listener:
            assert listener.stdout is not None
            listener.stdout.readline()
            yield heard
            heard += listener.stdout.read().split()
    finally:
        directory.chmod(0o700)


@pytest.mark.fault("engine of another account, of another version: one process a mail")
@pytest.mark.parametrize(
    ("account", "greeting"),
    [
        (STRANGER, protocol.greeting(900, 1)),
        ("root", protocol.GREETING.replace(b"engine ", b"engine 0") + b"900 1\n"),
        ("root", b"postfix-trouble engine 2 0.0.0 900 1\n"),
    ],
    ids=["account", "protocol", "version"],
)
def test_another_engine(
    world: World, server: Server, way: str, account: str, greeting: bytes
) -> None:
    """An upgrade has replaced the client, and the old engine is still there."""
    name = f"other-{account}-{next(NUMBERS)}"
    with other_engine(world, account, greeting) as heard:
        (recipient,) = world.submit(f"{way}-one", name)
        assert world.postfix.delivery(recipient).status == "sent"
    assert server.copies(recipient) == 1
    assert heard == ["0"]
