"""What is called after a server has answered the final dot, and a fault in each call.

A delivery is run with a profiler. From the moment that the reply to the dot is read it
writes down every call site of the package: which line calls which function, our own,
the standard library's, or the system's. Nobody keeps a list: a call that comes into
the program tomorrow is found tomorrow. Then the delivery is run again for each of
them, with a fault at that call.

Each delivery is a fork of a process that has loaded what the program loads at first.

usage: after_the_dot.py, with one job as JSON on each line of standard input and one
answer to each: see Job and `Runs`.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PATIENCE = 60.0

FAULTS: dict[str, type[BaseException]] = {
    "RuntimeError": RuntimeError,
    "OSError": OSError,
    "MemoryError": MemoryError,
}
SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGALRM": signal.SIGALRM}
# The answer is out, or the process on its way out by itself.
_RECORD = 198


class Job(NamedTuple):
    """One delivery."""

    # pipe: the command line after the program's name. lmtp: likewise; the message has
    # the recipients of `recipients`. api: the arguments of deliver().
    way: str
    arguments: Any
    message: str
    recipients: tuple[str, ...] = ()
    # The call site at which something happens (empty: nowhere), and what.
    site: str = ""
    fault: str = ""


class Answer(NamedTuple):
    """What came of it."""

    # pipe: the exit status. lmtp, api: 0.
    status: int
    # pipe: what was printed. lmtp: the replies. api: the JSON of the outcomes.
    output: str
    # Call sites after the dot, in their order.
    sites: list[str]


class Runs:
    """A process that runs deliveries. Use it as a context."""

    def __enter__(self) -> Runs:
        # A process has one profiler: the one that finds the calls.
        environment = {k: v for k, v in os.environ.items() if "COVERAGE" not in k}
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(self, job: Job) -> Answer:
        """Run one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Answer(*json.loads(self._process.stdout.readline()))


# --- in that process ------------------------------------------------------------------


class _Profiler:
    """Sees the calls of one delivery; at one of them something happens."""

    def __init__(self, job: Job) -> None:
        from postfix_trouble.client.smtp_connection import SmtpConnection
        from postfix_trouble.core.steps import Phase

        self._package = str(Path(sys.modules["postfix_trouble"].__file__ or "").parent)
        self._reading = SmtpConnection._read.__code__
        self._dot = Phase.DOT
        self._job = job
        self._asked = self._answered = False
        self._done = False
        self.sites: dict[str, None] = {}

    def install(self) -> None:
        """From now on, in this thread and those that it starts."""
        threading.setprofile(self)
        sys.setprofile(self)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            if frame.f_code is self._reading:
                self._asked = self._asked or frame.f_locals["step"].phase is self._dot
            if self._answered and not _resumed(frame):
                self._called(frame.f_back, frame)
        elif event == "c_call" and self._answered:
            if argument is os._exit:
                self.write_down()
            elif _can_fail(argument) and self._ours(frame):
                self._at(frame, argument.__name__)
        elif event == "c_return" and self._asked and not self._answered:
            self._answered = argument.__name__ in ("recv", "read")

    def _ours(self, frame: FrameType | None) -> bool:
        return frame is not None and frame.f_code.co_filename.startswith(self._package)

    def _called(self, caller: FrameType | None, frame: FrameType) -> None:
        if caller is not None and (self._ours(frame) or self._ours(caller)):
            self._at(caller, frame.f_code.co_qualname)

    def _at(self, caller: FrameType, name: str) -> None:
        file = caller.f_code.co_filename.removeprefix(self._package + "/")
        place = f"{caller.f_code.co_qualname} {file}:{caller.f_lineno}"
        site = f"{place} calls {name}"
        self.sites.setdefault(site)
        if site != self._job.site or self._done:
            return
        self._done = True
        if self._job.fault in SIGNALS:
            os.kill(os.getpid(), SIGNALS[self._job.fault])
        else:
            raise FAULTS[self._job.fault]("made by a test")

    def write_down(self) -> None:
        """Tell what was seen."""
        sys.setprofile(None)
        os.write(_RECORD, json.dumps(list(self.sites)).encode())


def _resumed(frame: FrameType) -> bool:
    """A generator that goes on where it was: nobody calls anything there."""
    generator = frame.f_code.co_flags & 0x20
    return bool(generator) and frame.f_lasti > _start_of(frame)


def _start_of(frame: FrameType) -> int:
    import dis

    for instruction in dis.get_instructions(frame.f_code):
        if instruction.opname == "RETURN_GENERATOR":
            return instruction.offset
    return -1


def _can_fail(function: Any) -> bool:
    """A call that leaves the interpreter; len(), list.append() and locks don't."""
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None) or type(owner).__module__
    return module not in ("builtins", "operator", "_operator", "sys", "_thread")


def _pipe(job: Job) -> None:
    from postfix_trouble import failsafe

    sys.argv = ["postfix-trouble", *job.arguments]
    profiler = _Profiler(job)
    profiler.install()
    failsafe.main()


def _api(job: Job) -> None:
    import postfix_trouble

    profiler = _Profiler(job)
    sys.setprofile(profiler)
    found = postfix_trouble.deliver(job.message.encode(), **job.arguments)
    sys.setprofile(None)
    result = [[each.recipient, each.status] for each in found.results]
    os.write(1, json.dumps([found.exit_status, result]).encode())
    profiler.write_down()
    os._exit(0)


def _lmtp(job: Job) -> None:
    """A client, and in a fork of it the server on descriptor 0, as under spawn(8)."""
    from postfix_trouble import failsafe

    ours, theirs = socket.socketpair()
    server = os.fork()
    if not server:
        theirs.close()
        os.dup2(ours.fileno(), 0)
        # The client writes the answer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["postfix-trouble", "lmtp", *job.arguments]
        profiler = _Profiler(job)
        profiler.install()
        failsafe.main()
    ours.close()
    theirs.settimeout(PATIENCE)
    with theirs, theirs.makefile("rwb") as stream:

        def ask(text: str, replies: int = 1) -> list[str]:
            stream.write(text.encode())
            stream.flush()
            return [_reply(stream) for _ in range(replies)]

        _reply(stream)
        ask("LHLO client.test\r\nMAIL FROM:<s@d.test>\r\n", 2)
        for recipient in job.recipients:
            ask(f"RCPT TO:<{recipient}>\r\n")
        ask("DATA\r\n")
        message = job.message.replace("\n", "\r\n")
        found = ask(f"{message}.\r\n", len(job.recipients))
        os.write(1, json.dumps(found).encode())
    os.waitpid(server, 0)
    os._exit(0)


def _reply(stream: Any) -> str:
    while True:
        line: str = stream.readline().decode()
        if line[3:4] != "-":
            return line.rstrip("\r\n")


_WAYS: dict[str, Callable[[Job], None]] = {"pipe": _pipe, "api": _api, "lmtp": _lmtp}


def _child(job: Job, output: int, record: int) -> None:
    """Become the process of one delivery. Does not return."""
    with io.BytesIO(job.message.encode()) as text:
        reading, writing = os.pipe()
        # Less than a pipe holds.
        os.write(writing, text.read())
        os.close(writing)
    os.dup2(reading, 0)
    os.dup2(output, 1)
    os.dup2(record, _RECORD)
    try:
        _WAYS[job.way](job)
    except BaseException as problem:  # noqa: BLE001
        os.write(1, f"{type(problem).__name__}: {problem}".encode())
    finally:
        os._exit(99)


def _run(job: Job) -> Answer:
    # Files of no name: a pipe would be full if nobody read it.
    output = os.memfd_create("output")
    record = os.memfd_create("record")
    child = os.fork()
    if not child:
        _child(job, output, record)
    _, status = os.waitpid(child, 0)
    texts = []
    for number in (output, record):
        texts.append(os.pread(number, 1 << 24, 0).decode())
        os.close(number)
    code = os.waitstatus_to_exitcode(status)
    return Answer(code, texts[0], json.loads(texts[1] or "[]"))


def main() -> None:
    """Run what is asked for."""

    for line in sys.stdin:
        job = Job(*json.loads(line))
        answer = _run(job._replace(recipients=tuple(job.recipients)))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
