"""Killed, told to end, stopped, and left alone by pipe(8): at every stage."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from deliveries import (
    MESSAGE,
    QUEUE_ID,
    TWO,
    Client,
    end_of,
    kill_python,
    python_below,
)

import needs
from fickle_server import TAKE_AND_CLOSE, FickleServer
from processes import alive
from waiting import wait

# More than sockets hold: while nobody reads, the dot has not been sent.
ENDLESS = b"Subject: endless\n\n" + b"0123456789\n" * 3_000_000
BEFORE_THE_DOT = ("connect", "ehlo", "mail", "rcpt", "data", "body")


class Moment:
    """Lets a test act when the server comes to a stage, before it goes on."""

    def __init__(self, stage: str, act: Callable[[], object]) -> None:
        self.stage = stage
        self.act = act
        self.ready = threading.Event()
        self.over = False

    def __call__(self, stage: str) -> None:
        if stage == self.stage and not self.over:
            self.over = True
            assert self.ready.wait(60)
            self.act()


def at(
    program: str,
    place: Path,
    stage: str,
    act: Callable[[subprocess.Popen[bytes]], object],
    *options: str,
    state: bool = False,
    recipients: tuple[str, ...] = ("r@b.test",),
    message: bytes = MESSAGE,
) -> tuple[Client, FickleServer, subprocess.Popen[bytes]]:
    """A delivery, to which something is done at a stage of the server."""
    process: list[subprocess.Popen[bytes]] = []
    moment = Moment(stage, lambda: act(process[0]))
    server = FickleServer(interfere=moment)
    client = Client(program, place, server)
    more = client.with_state(*options) if state else options
    process.append(client.start(*more, recipients=recipients, message=message))
    moment.ready.set()
    return client, server, process[0]


@pytest.mark.fault("1 kill -9 before the dot, by stage, under the launcher")
@pytest.mark.parametrize("stage", BEFORE_THE_DOT)
def test_killed_before_the_dot(program: str, tmp_path: Path, stage: str) -> None:
    client, server, process = at(
        *(program, tmp_path, stage),
        lambda p: kill_python(p, signal.SIGKILL),
        message=ENDLESS if stage == "body" else MESSAGE,
    )
    with server:
        assert end_of(process).answer == (75, "4.3.0")
        assert client.run().code == 0
    assert server.copies("r@b.test") == 1


@pytest.mark.fault("2 kill -9 after the dot, before the reply: the window")
def test_killed_after_the_dot(program: str, tmp_path: Path) -> None:
    client, server, process = at(
        program, tmp_path, "dot", lambda p: kill_python(p, signal.SIGKILL)
    )
    with server:
        assert end_of(process).answer == (75, "4.3.0")
        assert client.run().code == 0
    assert server.copies("r@b.test") == 2


@pytest.mark.fault("3 kill -9 after the commit: not sent again")
def test_killed_after_the_commit(program: str, tmp_path: Path) -> None:
    """The second recipient's refusal comes when the first is in the ledger."""
    slow = ("-o", "smtp_skip_quit_response=no")

    def kill(process: subprocess.Popen[bytes]) -> None:
        in_the_books(tmp_path / "log")
        kill_python(process, signal.SIGKILL)

    client, server, process = at(
        program,
        tmp_path,
        "quit",
        kill,
        *slow,
        state=True,
        recipients=TWO,
    )
    with server:
        assert end_of(process).answer == (75, "4.3.0")
        assert client.run(*client.with_state(), recipients=TWO).code == 0
    assert [server.copies(recipient) for recipient in TWO] == [1, 1]


def in_the_books(log: Path) -> None:
    """What is logged is in the ledger."""
    wait(lambda: log.exists() and "status=sent" in log.read_text())


@pytest.mark.fault("4 SIGTERM, SIGINT, SIGHUP before the dot")
@pytest.mark.parametrize(
    ("number", "stage"),
    [
        *((signal.SIGTERM, stage) for stage in BEFORE_THE_DOT),
        *((number, "mail") for number in (signal.SIGINT, signal.SIGHUP)),
    ],
)
def test_signal(
    program: str, tmp_path: Path, number: signal.Signals, stage: str
) -> None:

    def end(process: subprocess.Popen[bytes]) -> None:
        os.killpg(process.pid, number)
        process.wait(60)

    client, server, process = at(
        program,
        tmp_path,
        stage,
        end,
        message=ENDLESS if stage == "body" else MESSAGE,
    )
    with server:
        done = end_of(process)
        assert done == (75, b"4.3.0 terminated by signal")
        assert client.run().code == 0
    assert server.copies("r@b.test") == 1


def unread(pipe: IO[bytes]) -> int:
    """How many bytes nobody has read yet."""
    answer = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


@pytest.mark.fault("4 SIGTERM while the message comes")
def test_signal_while_reading(program: str, tmp_path: Path) -> None:
    with FickleServer() as server:
        process = Client(program, tmp_path, server).start(message=b"")
        stdin = process.stdin
        assert stdin
        stdin.write(MESSAGE)
        stdin.flush()
        wait(lambda: not unread(stdin))
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) == 75
        assert process.stdout
        assert process.stdout.read() == b"4.3.0 terminated by signal"
        stdin.close()
        process.stdout.close()
    assert server.connections == 0


@pytest.mark.fault("5 SIGTERM after the dot: the truth is waited for")
@pytest.mark.parametrize("state", [False, True], ids=["no-state", "state"])
@pytest.mark.parametrize("stage", ["dot", "quit"])
def test_signal_after_the_dot(
    program: str, tmp_path: Path, stage: str, state: bool
) -> None:
    """Nobody gets the message twice for a signal at the wrong time."""

    def end(process: subprocess.Popen[bytes]) -> None:
        os.killpg(process.pid, signal.SIGTERM)

    client, server, process = at(
        program,
        tmp_path,
        stage,
        end,
        *("-o", "smtp_skip_quit_response=no"),
        state=state,
    )
    with server:
        done = end_of(process)
        options = client.with_state() if state else ()
        code = done.code if done.code == 0 else client.run(*options).code
    assert code == 0, done
    assert server.copies("r@b.test") == 1, done


@pytest.mark.long
@pytest.mark.fault("4, 5, kills SIGTERM at any step: nothing twice (300 signals)")
def test_signals_at_any_step() -> None:
    harness = Path(__file__).with_name("kill_harness.py")
    command = [sys.executable, str(harness), "--kills", "300", "--signal", "TERM"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "twice: killed" not in done.stdout


@pytest.mark.fault("8 input that never ends")
def test_slow_input(program: str, tmp_path: Path) -> None:
    with FickleServer() as server:
        process = Client(program, tmp_path, server).start(
            "-o", "trouble_deadline=1s", message=b""
        )
        assert process.stdin
        assert process.stdout
        process.stdin.write(MESSAGE)
        process.stdin.flush()
        assert process.wait(60) == 75
        assert process.stdout.read() == b"4.3.0 timeout reading message"
        process.stdin.close()
        process.stdout.close()
    assert server.connections == 0


# Stands in for pipe(8), and is killed when it has written half of the message.
HALF = """\
import os, subprocess, sys, time
child = subprocess.Popen(
    ["sh", "-c", '"$@"; echo $? >"$0.part"; mv "$0.part" "$0"', *sys.argv[1:]],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
)
child.stdin.write(b"Subject: half\\n\\n" + b"x\\n" * int(%r))
child.stdin.flush()
%s
os.kill(os.getpid(), 9)
"""


def orphan(
    client: Client, place: Path, lines: int, then: str = "", *options: str
) -> int:
    """Run the program for somebody who is killed; how it ended."""
    code = place / "code"
    script = HALF % (lines, then)
    subprocess.run(
        [sys.executable, "-c", script, code, *client.command(*options)],
        check=False,
    )
    wait(code.exists)
    return int(code.read_text())


@pytest.mark.fault("9 input cut short, pipe(8) gone")
@pytest.mark.parametrize("lines", [0, 3, 100_000])
def test_half_a_message(program: str, tmp_path: Path, lines: int) -> None:
    with FickleServer() as server:
        assert orphan(Client(program, tmp_path, server), tmp_path, lines) == 75
    assert server.connections == 0
    assert "incomplete" in (tmp_path / "log").read_text()


@pytest.mark.fault("10 pipe(8) gone during the dialogue: not delivered")
def test_parent_gone_later(program: str, tmp_path: Path) -> None:
    begun, parent = tmp_path / "begun", tmp_path / "parent"

    def interfere(stage: str) -> None:
        if stage == "ehlo":
            begun.touch()
            wait(lambda: not alive(int(parent.read_text())))

    with FickleServer(interfere=interfere) as server:
        client = Client(program, tmp_path, server)
        until_begun = f"""\
open({str(parent)!r}, "w").write(str(os.getpid()))
child.stdin.close()
while not os.path.exists({str(begun)!r}): time.sleep(0.01)"""
        options = client.with_state()
        assert orphan(client, tmp_path, 3, until_begun, *options) == 75
        assert server.copies("r@b.test") == 0
        # The next attempt has the same message.
        message = b"Subject: half\n\n" + b"x\n" * 3
        assert client.run(*options, message=message).code == 0
    assert server.copies("r@b.test") == 1


@pytest.mark.fault("10 the launcher killed before the dot: not delivered")
def test_launcher_gone(program: str, tmp_path: Path) -> None:
    """pipe(8) has deferred the mail, and gives it to the next process."""
    python: list[int] = []

    def kill(process: subprocess.Popen[bytes]) -> None:
        python.append(python_below(process.pid))
        process.kill()
        process.wait(60)

    client, server, process = at(program, tmp_path, "mail", kill)
    with server:
        process.communicate()
        wait(lambda: not alive(python[0]))
        assert server.copies("r@b.test") == 0
        assert client.run().code == 0
    assert server.copies("r@b.test") == 1


@pytest.mark.fault("6 SIGPIPE: nobody reads the answer any more")
@pytest.mark.parametrize("said", [None, "450 4.2.0 later"])
def test_answer_to_nobody(program: str, tmp_path: Path, said: str | None) -> None:
    """Postfix has deferred the mail, and will try again."""

    def judge(stage: str, _subject: str, _times: int) -> str | None:
        return said if stage == "rcpt" else None

    closed: list[subprocess.Popen[bytes]] = []

    def close(stage: str) -> None:
        if stage == "mail":
            wait(lambda: closed)
            output = closed[0].stdout
            assert output
            output.close()

    with FickleServer(judge, interfere=close) as server:
        process = Client(program, tmp_path, server).start()
        closed.append(process)
        assert process.wait(60) == 75
        assert server.copies("r@b.test") == 0


@pytest.mark.fault("19 clocks that jump: dates of 1970 and of the future")
@pytest.mark.parametrize("year", [1970, 2000, 2037, 9999])
@pytest.mark.parametrize(
    "recipients", [("later@b.test",), ("a@b.test", "later@b.test")]
)
def test_dates(
    program: str, tmp_path: Path, year: int, recipients: tuple[str, ...]
) -> None:
    """How old a message seems to be bounces nobody; Postfix knows better."""
    with FickleServer(deferred_later) as server:
        client = Client(program, tmp_path, server)
        options = client.with_state("-o", "sendmail_path=/bin/true")
        message = received("1", year) + MESSAGE
        done = client.run(*options, recipients=recipients, message=message)
        assert done.code == 75
        assert client.run(*options, recipients=recipients, message=message).code == 75
    assert all(server.copies(r) == (r[0] == "a") for r in recipients)


@pytest.mark.fault("19 a wall clock that jumps ten years to and fro")
def test_clock_that_jumps(tmp_path: Path) -> None:
    """Nobody gets it twice, and nobody is given up."""

    def judge(stage: str, subject: str, times: int) -> str | None:
        late = stage == "rcpt" and subject.startswith("later") and times < 3
        return "450 4.2.0 later" if late else None

    script = tmp_path / "program"
    jumping = Path(__file__).with_name("clock_that_jumps.py")
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {jumping} "$@"\n')
    script.chmod(0o755)
    both = ("a@b.test", "later@b.test")
    with FickleServer(judge) as server:
        client = Client(str(script), tmp_path, server)
        options = client.with_state(
            *("-o", "sendmail_path=/bin/false", "-o", "trouble_deadline=20s"),
            *("-o", "trouble_destination_retry_time=0"),
        )
        ends = [client.run(*options, recipients=both).answer for _ in range(4)]
    assert ends == [(75, "4.2.0")] * 3 + [(0, "250")]
    assert [server.copies(recipient) for recipient in both] == [1, 1]


@pytest.mark.parametrize("year", [1970, 2000])
def test_own_date(program: str, tmp_path: Path, year: int) -> None:
    """By our own Received: header Postfix gives up now: it would report both."""
    with FickleServer(deferred_later) as server:
        client = Client(program, tmp_path, server)
        options = client.with_state("-o", "sendmail_path=/bin/true")
        message = received(QUEUE_ID, year) + MESSAGE
        both = ("a@b.test", "later@b.test")
        assert client.run(*options, recipients=both, message=message).code == 0
        assert "non-delivery notification submitted" in client.log()
        one = ("later-too@b.test",)
        assert client.run(*options, recipients=one, message=message).code == 75


def deferred_later(stage: str, subject: str, _times: int) -> str | None:
    late = stage == "rcpt" and subject.startswith("later")
    return "450 4.2.0 later" if late else None


def received(queue_id: str, year: int) -> bytes:
    return (
        f"Received: by me.test (Postfix)\n\tid {queue_id};"
        f" Thu, 1 Jan {year} 00:00:00 +0000\n"
    ).encode()


@pytest.mark.fault("10 a second attempt while the first lives")
def test_two_at_a_time(program: str, tmp_path: Path) -> None:
    answers: list[tuple[int, bytes]] = []

    def second(_process: object) -> None:
        client = Client(program, tmp_path, server)
        answers.append(client.run(*client.with_state()))

    _, server, process = at(program, tmp_path, "mail", second, state=True)
    with server:
        assert end_of(process).code == 0
    assert answers == [(75, b"4.3.0 delivery in progress")]
    assert server.copies("r@b.test") == 1


@pytest.mark.fault("24 a server process that is stopped (SIGSTOP)")
def test_stopped_server(program: str, tmp_path: Path) -> None:
    """The kernel goes on to answer for it."""
    sink = subprocess.Popen(
        [needs.tool("smtp-sink"), "-u", "root", "127.0.0.1:2591", "100"],
        stderr=subprocess.DEVNULL,
    )
    try:
        client = Client(program, tmp_path, "[127.0.0.1]:2591")
        wait(lambda: client.run().code == 0)
        os.kill(sink.pid, signal.SIGSTOP)
        done = client.run("-o", "smtp_helo_timeout=1s")
        assert done.answer == (75, "4.4.2")
        assert re.search(rb"timed out while receiving the initial", done.output)
    finally:
        sink.kill()
        sink.wait()


@pytest.mark.fault("25 the server takes the message and dies without a word")
def test_no_answer_to_the_dot(program: str, tmp_path: Path) -> None:
    def judge(stage: str, _subject: str, _times: int) -> str | None:
        return TAKE_AND_CLOSE if stage == "dot" else None

    with FickleServer(judge) as server:
        done = Client(program, tmp_path, server).run()
    assert done.answer == (75, "4.4.2")
    assert done.output.endswith(b"-- message may be sent more than once")
