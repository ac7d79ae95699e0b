"""Deliveries that are killed at every stage, and an account of what became of the mail.

Each request is tried again until the program says that it is done, as the queue manager
would do it, and is killed on most of the ways: at a drawn step of a drawn stage, or at
a random moment. The server accepts, refuses, defers and breaks off at random. In the
end the account must balance: everybody has the message or was reported, nobody has half
of it, nobody was reported who was not refused, and nobody has it twice but for a kill
(or a server that did not answer) between the final dot and the commit. Who was refused
is reported by the attempt that was told so, if it ends by itself, and once more at
most for each kill.

A delivery is a fork of a process that has the program loaded: all of the program runs,
only the interpreter's start is spared (test_signals.py kills the real command).

usage: kill_harness.py [--kills N] [--workers N] [--seed N] [--signal KILL|TERM|BUG]
                       [--stages STAGE,...]

BUG: an exception is raised there instead, as if the program had a mistake.
"""

from __future__ import annotations

import argparse
import email
import fcntl
import json
import mmap
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[n]) for n in (1, 2)]

from fickle_server import TAKE_AND_CLOSE, Copy, FickleServer

# What the program loads late is loaded here, once for all.
from postfix_trouble import failsafe
from postfix_trouble.client.context import DeliveryContext
from postfix_trouble.client.smtp_connection import SmtpConnection
from postfix_trouble.core.steps import Phase
from postfix_trouble.message.message import Message
from postfix_trouble.pipe import deliver
from postfix_trouble.pipe.ledgered import LedgeredRequest
from postfix_trouble.pipe.request import PipeRequest
from postfix_trouble.report import (
    bounce,
    postmaster,  # noqa: F401
    sendmail,
)
from postfix_trouble.state import Ledger, State

ATTEMPTS = 60
# In place of a signal: raise one of these.
BUG = 0
BUGS = (
    *(RuntimeError, AssertionError, RecursionError, KeyError, TypeError),
    *(MemoryError, UnicodeError, TimeoutError, sqlite3.OperationalError),
)
# Postfix keeps what is killed. (SIGTERM: before the program can answer signals.)
AGAIN = (75, -signal.SIGKILL, -signal.SIGTERM)
BOUNCE_CODES = (65, 67, 68, 69, 76, 77)
SENDMAIL = """\
#!/bin/sh
# One in ten times the mail system has no time.
case $(($$ % 10)) in 0) cat >/dev/null; exit 75 ;; esac
cat >{place}/part.$PPID.$$ && mv {place}/part.$PPID.$$ {place}/mail.$PPID.$$
"""

# --- stages ---------------------------------------------------------------------------

STAGES = (
    "start",
    "message",
    "state",
    "lock",
    "look-up",
    "probe",
    "route",
    "connect",
    "session",
    "body",
    "dot",
    "commit",
    "recorded",
    "settling",
    "ledger",
    "report",
    "sendmail",
    "answer",
)
# Killed here, the server may have the message, and the ledger not know it.
WINDOW = ("dot", "commit")
LANDMARKS: dict[CodeType, str] = {
    function.__code__: stage
    for function, stage in (
        (Message.read.__func__, "message"),  # type: ignore[attr-defined]
        (State.open.__func__, "state"),  # type: ignore[attr-defined]
        (Ledger.lock, "lock"),
        (Ledger.finished, "look-up"),
        (Ledger.probe, "probe"),
        (DeliveryContext.route, "route"),
        (DeliveryContext.connect, "connect"),
        (SmtpConnection._read, "session"),
        (SmtpConnection._send_body, "body"),
        (SmtpConnection._send, "session"),
        (Ledger.record, "ledger"),
        (PipeRequest.on_outcomes, "recorded"),
        (LedgeredRequest._settle, "settling"),
        (bounce.build, "report"),
        (sendmail.submit, "sendmail"),
        (deliver._write, "answer"),
    )
}


# Where in the shared memory it stands that a bug was made.
SHOT = 4095


class Tracer:
    """Follows the program through its stages, and ends it where it was told to.

    `shared`: memory that outlives the process; its first byte is the stage.
    """

    def __init__(
        self,
        shared: mmap.mmap,
        stage: str,
        step: int,
        number: int = int(signal.SIGKILL),
    ) -> None:
        self._shared = shared
        self._signal = number
        self._stage = "start"
        self._target = stage
        self._left = step
        shared[0] = shared[SHOT] = 0

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            found = LANDMARKS.get(frame.f_code)
            if found is not None:
                self._enter(self._named(found, frame))
        if self._stage == self._target:
            self._left -= 1
            if self._left <= 0:
                self._target = ""
                self._strike()

    def _strike(self) -> None:
        if self._signal != BUG:
            os.kill(os.getpid(), self._signal)
            return
        self._shared[SHOT] = 1
        # No more of the stages is followed after this.
        raise BUGS[os.getpid() % len(BUGS)]("made up")

    def _named(self, stage: str, frame: FrameType) -> str:
        if stage == "session":
            step = frame.f_locals["step"]
            dot = getattr(step, "phase", None) is Phase.DOT
            if dot or b"." in getattr(step, "lines", ()):
                return "dot"
        if stage == "ledger" and self._stage == "dot":
            return "commit"
        return stage

    def _enter(self, stage: str) -> None:
        self._stage = stage
        self._shared[0] = STAGES.index(stage)


class Counting(Tracer):
    """Counts the steps of each stage instead."""

    def __init__(self, shared: mmap.mmap) -> None:
        super().__init__(shared, "", 0)
        self.steps: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        super().__call__(frame, event, argument)
        self.steps[self._stage] += 1
        # Before the answer is out, and so nearly at the end.
        if self._stage == "answer" and self.steps["answer"] == 1:
            text = json.dumps(self.steps).encode()
            self._shared[1 : len(text) + 2] = text + b"\0"


# --- requests -------------------------------------------------------------------------


class Request(NamedTuple):
    """A message for some recipients. What becomes of one is in its address."""

    number: int
    sender: str
    recipients: tuple[str, ...]
    message: bytes
    nexthop: str


def made(number: int, port: int, rng: random.Random) -> Request:
    plans = rng.choices(
        ("ok", "refused", "later", "much-later"), (5, 3, 2, 1), k=rng.randint(1, 6)
    )
    recipients = tuple(f"{p}.{number}.{n}@b.test" for n, p in enumerate(plans))
    sender = f"s.{number}@a.test" if rng.random() < 0.9 else ""
    lines = rng.choice((3, 50, 2000))
    text = "".join(f"{n}: some text of message {number}\n" for n in range(lines))
    message = f"Subject: message {number}\n\n{text}END {number}\n".encode()
    host = f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255 or 1}"
    return Request(number, sender, recipients, message, f"[{host}]:{port}")


class Whims:
    """The server's part. What it refused for good it writes down."""

    def __init__(self, seed: int, book: Callable[[str, Any], None]) -> None:
        self._rng = random.Random(seed)
        self._book = book

    def __call__(self, stage: str, subject: str, times: int) -> str | None:
        drawn = self._rng.random()
        if stage == "rcpt":
            plan = subject.partition(".")[0]
            if plan == "refused":
                self._book("refused", [subject, time.time()])
                return "550 5.1.1 no such user"
            if times < {"later": 1, "much-later": 3}.get(plan, 0):
                return "450 4.2.0 try again"
        if stage in ("mail", "data") and drawn < 0.02:
            return "451 4.3.0 not now"
        if stage in ("connect", "ehlo", "mail", "body") and drawn > 0.995:
            return "close"
        if stage == "dot":
            return {0: TAKE_AND_CLOSE, 1: "451 4.3.0 try again", 2: "close"}.get(
                int(drawn * 40)
            )
        return None


def serve(journal: Path, seed: int) -> tuple[int, int]:
    """Start the server in a process of its own. Returns process id and port."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        port = int(os.read(told, 10))
        os.close(told)
        return pid, port
    with journal.open("ab", buffering=0) as file:

        def book(kind: str, what: Any) -> None:
            file.write(json.dumps([kind, what]).encode() + b"\n")

        class Book(list[Copy]):
            def append(self, copy: Copy) -> None:
                whole = re.fullmatch(
                    rb"Subject: message (\d+)\r\n.*\r\nEND \1\r\n", copy.text, re.DOTALL
                )
                book("copy", [copy.recipients, bool(whole), copy.told])

        server = FickleServer(Whims(seed, book), listen="0.0.0.0:0")
        server.journal = Book()
        with server:
            os.write(tell, b"%d" % server.port)
            signal.pause()
    os._exit(0)


# --- attempts -------------------------------------------------------------------------


class End(NamedTuple):
    """How an attempt ended."""

    # Negative: the signal that ended it.
    code: int
    output: bytes
    stage: str
    # A bug was made.
    shot: bool


class Tries:
    """Starts deliveries, and kills them."""

    def __init__(
        self,
        directory: Path,
        rng: random.Random,
        number: int,
        stages: tuple[str, ...],
    ) -> None:
        self._stages = stages
        self._directory = directory
        self._rng = rng
        self._signal = number
        self._shared = mmap.mmap(-1, 4096)
        self._steps: Counter[str] = Counter()

    def measure(self, requests: Iterable[Request]) -> None:
        """See how many steps there are in each stage."""
        for request in requests:
            self.run(request, Counting(self._shared))
            text = self._shared[1:].partition(b"\0")[0]
            if text:
                self._steps |= Counter(json.loads(text))

    def killed(self, request: Request) -> End:
        """Kill it at a drawn step, or at a moment that the clock draws."""
        everywhere = self._stages == STAGES
        if everywhere and self._rng.random() < 0.2 and self._signal != BUG:
            return self.run(request, Tracer(self._shared, "", 0), self._rng.random())
        stage = self._rng.choice(self._stages)
        step = self._rng.randint(1, max(self._steps[stage], 1))
        return self.run(request, Tracer(self._shared, stage, step, self._signal))

    def spared(self, request: Request) -> End:
        return self.run(request, Tracer(self._shared, "", 0))

    def run(self, request: Request, tracer: Tracer, moment: float = -1.0) -> End:
        into, message = os.pipe()
        fcntl.fcntl(message, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.write(message, request.message)
        os.close(message)
        answer, out = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become(request, tracer, into, out)
        os.close(into)
        os.close(out)
        if moment >= 0:
            time.sleep(moment * 0.05)
            os.kill(pid, self._signal)
        output = b"".join(iter(lambda: os.read(answer, 4096), b""))
        os.close(answer)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        shot = bool(self._shared[SHOT])
        return End(code, output, STAGES[self._shared[0]], shot)

    def _become(self, request: Request, tracer: Tracer, into: int, out: int) -> None:
        """Be the program. Does not return."""
        try:
            os.dup2(into, 0)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.closerange(3, 64)
            place = self._directory
            sys.argv = [
                *("postfix-trouble", f"{failsafe.LAUNCHER}{os.getppid()}", "deliver"),
                *("--sender", request.sender, "--nexthop", request.nexthop),
                *("--queue-id", f"{request.number:X}", "--log-file", f"{place}/log"),
                *("--state-directory", f"{place}/state"),
                *("-o", "myhostname=me.test", "-o", "maximal_queue_lifetime=5d"),
                *("-o", f"sendmail_path={place}/sendmail"),
                *("-o", "trouble_destination_retry_time=1s"),
                *("--", *request.recipients),
            ]
            sys.setprofile(tracer)
            failsafe.main()
        finally:
            os._exit(1)


# --- the account --------------------------------------------------------------------


class Result(NamedTuple):
    """A request that is done, or was given up."""

    number: int
    sender: str
    recipients: list[str]
    code: int
    # Stages in which it was killed.
    kills: list[str]
    attempts: int
    # From when to when: attempts that ended by themselves, and could report.
    ends: list[tuple[float, float]]


def work(tries: Tries, requests: Iterator[Request], kills: int) -> Iterator[Result]:
    """Bring requests to their ends until so many processes were killed."""
    rng = random.Random(kills)
    done = 0
    while done < kills:
        request = next(requests)
        stages: list[str] = []
        ends: list[tuple[float, float]] = []
        code, attempts = 75, 0
        while code in AGAIN and attempts < ATTEMPTS:
            attempts += 1
            begun = time.time()
            unlucky = rng.random() < 0.75 and attempts < ATTEMPTS // 2
            end = tries.killed(request) if unlucky else tries.spared(request)
            code = end.code
            if code < 0 or end.shot or b"terminated by signal" in end.output:
                stages.append(end.stage)
            elif b"bounce or trace service" not in end.output:
                ends.append((begun, time.time()))
            if b"suspended" in end.output:
                time.sleep(0.2)
        done += len(stages)
        yield Result(
            request.number,
            request.sender,
            list(request.recipients),
            code,
            stages,
            attempts,
            ends,
        )


def worker(
    directory: Path,
    port: int,
    kills: int,
    seed: int,
    number: int,
    stages: tuple[str, ...],
) -> int:
    """Do that in a process of its own. Results go to a file."""
    pid = os.fork()
    if pid:
        return pid
    try:
        rng = random.Random(seed)
        # No two workers have a request in common.
        first = (seed & 15) << 18
        tries = Tries(directory, rng, number, stages)
        numbers = iter(range(first, first + (1 << 18)))
        requests = (made(number, port, rng) for number in numbers)
        tries.measure(
            made(first + (1 << 17) + n, port, random.Random(n)) for n in range(20)
        )
        with (directory / f"results.{seed}").open("w") as file:
            for result in work(tries, requests, kills):
                file.write(json.dumps(result) + "\n")
        os._exit(0)
    finally:
        os._exit(1)


def reported(directory: Path) -> tuple[dict[str, list[float]], int]:
    """When who was reported, and how many reports are not whole."""
    found: dict[str, list[float]] = defaultdict(list)
    broken = 0
    for path in directory.glob("mail.*"):
        mail = email.message_from_bytes(path.read_bytes())
        boundary = f"--{mail.get_boundary()}--\n".encode()
        if mail.defects or not path.read_bytes().endswith(boundary):
            broken += 1
            continue
        status = str(mail.get_payload(1))
        for recipient in re.findall(r"^Final-Recipient: rfc822; (.*)$", status, re.M):
            found[recipient].append(path.stat().st_mtime)
    return found, broken


def balance(
    results: Iterable[Result],
    journal: Iterable[str],
    reports: dict[str, list[float]],
) -> tuple[Counter[str], list[str]]:
    """The sums, and what is wrong."""
    refused: dict[str, list[float]] = defaultdict(list)
    copies: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for line in journal:
        kind, what = json.loads(line)
        if kind == "refused":
            refused[what[0]].append(what[1])
            continue
        recipients, whole, told = what
        for recipient in recipients:
            copies[recipient].append((whole, told))
    sums: Counter[str] = Counter()
    wrong: list[str] = []
    for result in results:
        sums["requests"] += 1
        sums["attempts"] += result.attempts
        sums["kills"] += len(result.kills)
        sums.update(f"killed in {stage}" for stage in result.kills)
        windows = sum(stage in WINDOW for stage in result.kills)
        for recipient in result.recipients:
            mine = copies[recipient]
            told = reports[recipient]
            by_postfix = result.code in BOUNCE_CODES
            bounced = bool(told) or by_postfix
            silent = not result.sender and recipient in refused and result.code == 100
            sums["recipients"] += 1
            sums["delivered"] += bool(mine)
            sums["bounced"] += bounced or silent
            sums["copies"] += len(mine)
            sums["reported again"] += max(0, len(told) - 1)
            due = [
                end
                for begun, end in result.ends
                if any(begun < moment < end for moment in refused.get(recipient, ()))
            ]
            if result.sender and due and not by_postfix:
                late = not told or min(told) > due[0]
                sums["reported late"] += late
                if late:
                    wrong.append(f"reported late: {recipient}, {told}, {due}, {result}")
            if result.code in AGAIN:
                sums["still queued"] += 1
                continue
            allowed = 1 + windows + sum(not told for _, told in mine)
            judged = {
                "lost": not mine and not bounced and not silent,
                "wrongly bounced": bounced and recipient not in refused,
                "delivered and bounced": bool(mine) and bounced,
                "truncated": not all(whole for whole, _ in mine),
                "twice without a window": len(mine) > allowed,
                "null sender told": not result.sender and bool(told),
                "reported again without a kill": len(told) > 1 + len(result.kills),
                "strange end": result.code not in (100, *BOUNCE_CODES),
            }
            if len(mine) > 1:
                silent_server = not all(told for _, told in mine)
                sums["twice: no answer" if silent_server else "twice: killed"] += 1
            for fault, found in judged.items():
                sums[fault] += found
                if found:
                    wrong.append(f"{fault}: {recipient}, {mine}, {result}")
    return sums, wrong


def harness(
    kills: int, workers: int, seed: int, number: int, stages: tuple[str, ...]
) -> tuple[Counter[str], list[str]]:
    """Run it all. Returns the sums, and what is wrong."""
    directory = Path(tempfile.mkdtemp(prefix="postfix-trouble-kills-"))
    journal = directory / "journal"
    script = directory / "sendmail"
    script.write_text(SENDMAIL.format(place=directory))
    script.chmod(0o755)
    server, port = serve(journal, seed)
    begun = time.monotonic()
    try:
        each = -(-kills // workers)
        pids = [
            worker(directory, port, each, seed * 16 + n, number, stages)
            for n in range(workers)
        ]
        codes = [os.waitpid(pid, 0)[1] for pid in pids]
        # What was started on behalf of the killed ends by itself.
        time.sleep(0.5)
        results = [
            Result(*json.loads(line))
            for path in directory.glob("results.*")
            for line in path.open()
        ]
        reports, broken = reported(directory)
        with journal.open() as lines:
            sums, wrong = balance(results, lines, reports)
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
    sums["reports"] = sum(1 for _ in directory.glob("mail.*"))
    sums["reports cut short"] = broken
    sums["seconds"] = round(time.monotonic() - begun)
    wrong += [f"worker: {code}" for code in codes if code]
    wrong += ["a report was cut short"] * broken
    if wrong:
        wrong.append(f"kept: {directory}")
    else:
        shutil.rmtree(directory)
    return sums, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill deliveries at every stage.")
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--signal", choices=("KILL", "TERM", "BUG"))
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.set_defaults(signal="KILL")
    options = parser.parse_args()
    bug = options.signal == "BUG"
    stages = tuple(options.stages.split(","))
    sent = BUG if bug else signal.Signals[f"SIG{options.signal}"]
    sums, wrong = harness(options.kills, options.workers, options.seed, sent, stages)
    for name, number in sums.items():
        print(f"{number:8} {name}")
    print(f"seed {options.seed}")
    print("\n".join(wrong[:20]) or "the ledger agrees with the server")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
