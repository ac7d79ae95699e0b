"""`deliver --engine=PATH`: both clients, with an engine that does anything."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_engine import PATIENCE, FakeEngine, Play, Visitor, peer, reset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launchers import beside, compiled, open_to_others
from postfix_trouble.engine import protocol
from scripted_server import ScriptedServer

MESSAGE = b"Subject: x\n\n.\nbody \x00\xff\n"
LARGE = b"Subject: x\n\n" + b"0123456789abcde\n" * (1 << 17)
CODES = (65, 67, 68, 69, 75, 76, 77)
LOST = b"4.3.0 lost connection with the engine"
IN_DOUBT = LOST + b" -- message may be sent more than once"
NONSENSE = b"4.3.0 the engine gave no answer that makes sense"


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("asan")
    options = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    return beside(compiled(folder / "made", *options), folder / "top")


@pytest.fixture(params=["in_c", "in_shell"], ids=["c", "python"])
def client(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


class Run:
    """One run of a client."""

    def __init__(self, client: str, path: Path, *words: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [client, "deliver", f"--engine={path}", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.__exit__(None, None, None)

    def send(self, data: bytes, *, last: bool = False) -> None:
        """A part of the message, or the last one."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()
        if last:
            self.process.stdin.close()

    def stop_reading(self) -> None:
        """Nobody wants the answer any more."""
        assert self.process.stdout is not None
        self.process.stdout.close()

    def rest(self) -> tuple[int, bytes]:
        """Exit status and output, once it has ended."""
        assert self.process.stdout is not None
        output = self.process.stdout.read()
        return self.process.wait(PATIENCE), output

    def end(self, message: bytes = MESSAGE) -> tuple[int, bytes]:
        output, _ = self.process.communicate(message, timeout=PATIENCE)
        return self.process.returncode, output


def engine(folder: Path, play: Play) -> FakeEngine:
    return FakeEngine(folder / "engine", play)


def greeted(then: Play) -> Play:
    """Greet, read the request, and go on."""

    def play(visitor: Visitor) -> None:
        visitor.greet()
        visitor.request()
        then(visitor)

    return play


# --- a request, and its answer


@pytest.mark.parametrize("message", [b"", MESSAGE, LARGE], ids=["none", "some", "2MiB"])
def test_engine_gets_all(client: str, tmp_path: Path, message: bytes) -> None:
    words = ["--sender", "", "-o", "a=b c", "--", "r@b.test", "--engine=/no\udcff"]
    with engine(tmp_path, greeted(lambda v: v.answer(0, b"taken"))) as one:
        assert Run(client, one.path, *words).end(message) == (0, b"taken")
    visitor = one.visitors[0]
    assert visitor.arguments == [os.fsencode(word) for word in words]
    assert visitor.message == message
    assert visitor.ended


@pytest.mark.parametrize("code", CODES)
def test_exit_status(client: str, tmp_path: Path, code: int) -> None:
    text = b"4.2.0 later" if code == 75 else b"5.1.1 no"
    with engine(tmp_path, greeted(lambda v: v.answer(code, text))) as one:
        assert Run(client, one.path).end() == (code, text)


def test_json(client: str, tmp_path: Path) -> None:
    text = b'{"a": "' + b"x" * 200_000 + b'"}\n'
    with engine(tmp_path, greeted(lambda v: v.answer(69, text))) as one:
        assert Run(client, one.path, "--json").end() == (69, text)


ODD = {
    "nothing": b"",
    "no frame": b"hello, world",
    "another frame": protocol.frame(b"x", b"d2.0.0 ok"),
    "no status": protocol.frame(b"r"),
    "half": protocol.answer(0, b"ok")[:-1],
    "huge": b"r\xff\xff\xff\xff",
    "zero": protocol.frame(b"r", b"\0ok"),
    "one": protocol.frame(b"r", b"\x01no"),
    "bounce that should defer": protocol.answer(75, b"5.1.1 no such user"),
    "deferral that should bounce": protocol.answer(69, b"4.1.1 no such user"),
    "success in front": protocol.answer(75, b"2.0.0 ok"),
    "success with a status": protocol.answer(0, b"5.0.0 not ok"),
    "no text": protocol.answer(75, b""),
    "usage": protocol.answer(64, b"4.3.5 what"),
    "bounce with a status of a deferral": protocol.answer(71, b"5.3.0 what"),
    "bounce with a status that means nothing": protocol.answer(64, b"5.5.4 what"),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_answers_that_make_no_sense_defer(
    client: str, tmp_path: Path, data: bytes
) -> None:
    with engine(tmp_path, greeted(lambda v: v.send(data))) as one:
        code, output = Run(client, one.path).end()
    assert code == 75
    assert output in (IN_DOUBT, NONSENSE)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    data=st.one_of(
        st.binary(max_size=40),
        st.builds(protocol.frame, st.just(b"r"), st.binary(max_size=40)),
        st.builds(protocol.answer, st.integers(0, 255), st.binary(max_size=20)),
    ),
    early=st.booleans(),
)
def test_any_answer_ends_in_a_status_that_pipe_knows(
    sanitized: str, tmp_path_factory: pytest.TempPathFactory, data: bytes, early: bool
) -> None:
    def play(visitor: Visitor) -> None:
        visitor.greet()
        if early:
            visitor.send(data)
            reset(visitor.sock)
        else:
            visitor.request()
            visitor.send(data)

    with engine(tmp_path_factory.mktemp("fuzz"), play) as one:
        code, output = Run(sanitized, one.path).end()
    valid = data[:1] == b"r" and len(data) == int.from_bytes(data[1:5], "big") + 5
    if code == 0:
        assert valid
        assert data[5] == protocol.SUCCESS
        assert output == data[6:]
    else:
        assert code in CODES, output
        assert output[:2] == (b"4." if code == 75 else b"5.")


# --- no engine: a delivery all the same, and a word in the log


def words(server: ScriptedServer) -> list[str]:
    nexthop = f"[127.0.0.1]:{server.port}"
    return ["--sender", "s@a.test", "--nexthop", nexthop, "--", "r@b.test"]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as made:
        yield made


def delivered(server: ScriptedServer) -> int:
    return sum(len(connection.messages) for connection in server.connections)


def test_nobody_there(client: str, tmp_path: Path, server: ScriptedServer) -> None:
    path = tmp_path / "engine"
    assert Run(client, path, *words(server)).end()[0] == 0
    assert delivered(server) == 1


def test_relative_path(client: str, tmp_path: Path, server: ScriptedServer) -> None:
    run = Run(client, Path("engine"), *words(server), cwd=tmp_path)
    assert run.end()[0] == 0
    assert delivered(server) == 1


GREETINGS = {
    "none": b"",
    "another version": b"postfix-trouble engine 2 0.0.0 900 1\n",
    "another protocol": protocol.GREETING.replace(b"engine ", b"engine 0") + b"900 1\n",
    "no time": protocol.greeting(0, 1),
    "no number": protocol.GREETING + b"x\n",
    "no end": protocol.greeting(900, 1)[:-1],
    "endless": b"x" * 4096,
}


@pytest.mark.parametrize("data", GREETINGS.values(), ids=GREETINGS)
def test_greeting_of_somebody_else(
    client: str, tmp_path: Path, server: ScriptedServer, data: bytes
) -> None:
    def play(visitor: Visitor) -> None:
        visitor.send(data)
        visitor.gone()

    with engine(tmp_path, play) as one:
        assert Run(client, one.path, *words(server)).end()[0] == 0
        assert delivered(server) == 1
    assert one.visitors[0].message == b""


def test_engine_that_hangs_up(
    client: str, tmp_path: Path, server: ScriptedServer
) -> None:
    with engine(tmp_path, lambda visitor: None) as one:
        assert Run(client, one.path, *words(server)).end()[0] == 0
    assert delivered(server) == 1


def test_option_that_is_the_value_of_another(
    client: str, tmp_path: Path, server: ScriptedServer
) -> None:
    """Senders are chosen by others."""
    path = tmp_path / "engine"
    with engine(tmp_path, greeted(lambda v: v.answer(0, b"mine"))):
        done = subprocess.run(
            [client, "deliver", "--sender", f"--engine={path}", *words(server)[2:]],
            input=MESSAGE,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
    assert done.returncode == 0
    assert delivered(server) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_engine_of_another_account(
    client: str, tmp_path: Path, server: ScriptedServer
) -> None:
    """Whoever listens there must not read other people's mail."""
    code = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n"
        f"print(flush=True); c, _ = s.accept(); c.send({protocol.greeting(900, 1)!r})\n"
        "print(len(c.recv(9)), flush=True)"
    )
    tmp_path.chmod(0o777)
    open_to_others(tmp_path)
    path = tmp_path / "engine"
    with subprocess.Popen(
        ["/usr/bin/python3", "-c", code, str(path)], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        path.chmod(0o777)
        assert Run(client, path, *words(server)).end()[0] == 0
        other.kill()
    assert delivered(server) == 1


# --- once it is taken, nothing is tried a second time


def ends(visitor: Visitor) -> None:
    """Read one frame, and leave."""
    visitor.greet()
    visitor.frame()


@pytest.mark.parametrize(
    ("play", "text"),
    [(ends, LOST), (greeted(lambda v: None), IN_DOUBT)],
    ids=["before", "after"],
)
def test_engine_that_dies(
    client: str, tmp_path: Path, server: ScriptedServer, play: Play, text: bytes
) -> None:
    with engine(tmp_path, play) as one:
        assert Run(client, one.path, *words(server)).end(LARGE) == (75, text)
    assert delivered(server) == 0


def test_answer_before_the_message_is_read(client: str, tmp_path: Path) -> None:
    def play(visitor: Visitor) -> None:
        visitor.greet()
        visitor.frame()
        visitor.answer(75, b"4.3.2 all are busy")
        reset(visitor.sock)

    with engine(tmp_path, play) as one:
        assert Run(client, one.path, "x").end(LARGE) == (75, b"4.3.2 all are busy")


def send_some(run: Run, one: FakeEngine) -> None:
    """Send so much that it does not wait for more, and have the engine get that."""
    run.send(LARGE)
    wait(lambda: one.visitors and one.visitors[0].message)


def test_client_that_is_killed_sends_no_end(client: str, tmp_path: Path) -> None:
    with engine(tmp_path, greeted(lambda v: None)) as one:
        with Run(client, one.path, "x", start_new_session=True) as run:
            send_some(run, one)
            os.killpg(run.process.pid, signal.SIGKILL)
        assert one.done.wait(PATIENCE)
    assert not one.visitors[0].ended


def wait(what: Callable[[], object]) -> None:
    """Until something is so."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def talker(run: Run) -> int:
    """The process that talks to the engine: the shell launcher has a child for it."""
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
    found = children.read_text().split()
    return int(found[0]) if found else run.process.pid


def test_signal_before_the_end(client: str, tmp_path: Path) -> None:
    with engine(tmp_path, greeted(lambda v: None)) as one:
        with Run(client, one.path, "x") as run:
            send_some(run, one)
            os.kill(talker(run), signal.SIGTERM)
            assert run.rest() == (75, b"4.3.0 terminated by signal")
        assert one.done.wait(PATIENCE)
    assert not one.visitors[0].ended


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_while_the_engine_works(
    client: str, tmp_path: Path, number: signal.Signals
) -> None:
    def play(visitor: Visitor) -> None:
        visitor.greet()
        visitor.request()
        found = visitor.frame()
        assert found is not None
        visitor.signals.append(found[1])
        visitor.answer(0, b"it was sent before that")

    with engine(tmp_path, play) as one, Run(client, one.path, "x") as run:
        run.send(MESSAGE, last=True)
        wait(lambda: one.visitors and one.visitors[0].ended)
        os.kill(talker(run), number)
        assert run.rest() == (0, b"it was sent before that")
    assert one.visitors[0].signals == [str(int(number)).encode()]


def test_nobody_who_waits(client: str, tmp_path: Path) -> None:
    """pipe(8) was killed: the engine learns of it, since the connection closes."""
    with engine(tmp_path, greeted(Visitor.gone)) as one:
        with Run(client, one.path, "x") as run:
            run.send(MESSAGE, last=True)
            wait(lambda: one.visitors and one.visitors[0].ended)
            run.stop_reading()
            assert run.process.wait(PATIENCE) == 75
        assert one.done.wait(PATIENCE)


def test_message_cut_short_by_a_death(client: str, tmp_path: Path) -> None:
    """Its end is no end, if pipe(8) is gone by then."""
    with engine(tmp_path, greeted(lambda v: None)) as one:
        with Run(client, one.path, "x") as run:
            send_some(run, one)
            run.stop_reading()
            run.send(b"", last=True)
            assert run.process.wait(PATIENCE) == 75
        assert one.done.wait(PATIENCE)
    assert not one.visitors[0].ended


def test_few_descriptors(in_c: str, tmp_path: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))

    with engine(tmp_path, greeted(lambda v: v.answer(0, b"taken"))) as one:
        assert Run(in_c, one.path, "x", preexec_fn=few).end() == (0, b"taken")


def test_peer_is_known(client: str, tmp_path: Path) -> None:
    seen = []
    with engine(tmp_path, greeted(lambda v: seen.append(peer(v.sock)))) as one:
        Run(client, one.path).end()
    assert seen[0][1] == os.geteuid()
