"""A real Postfix, a server that misbehaves at random, and a killer.

All messages go through pipe(8), with the second recipe of master.cf.example, to a
server that accepts, refuses, defers, stalls and breaks off. Meanwhile processes are
killed at random: the interpreter, the launcher, pipe(8) itself. In the end each
recipient has the message or its sender was told (or it is still queued), and whoever
has it twice was the victim of a kill or of a server that did not answer. Whoever was
refused was reported by the very process that was told so, unless it was killed.

With --engine they go to an engine that stays, by the client in C where there is a
compiler: a part of them while engines are killed, a part while clients are, pipe(8)s,
all three; and a part while the engine is restarted every second, of which nobody may
notice anything.

It needs root and Linux: the Postfix is a private one, in namespaces of its own.

usage: soak.py [--engine] [--messages N] [--seconds N] [--seed N] [--kills PER-SECOND]

100,000 messages take about four hours on two processors (`make soak`); 2,000 are in the
tests. What is kept of each message does not grow with its size.
"""

from __future__ import annotations

import argparse
import contextlib
import email
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1] / "e2e")]
    sys.path[:0] = [str(Path(__file__).parents[n]) for n in (1, 2)]

from installation import install
from private_postfix import PrivatePostfix, deliveries, transport
from resident_engine import ResidentEngine, clients

import private_network
from fickle_server import TAKE_AND_CLOSE, Copy, FickleServer

ROOT = Path(__file__).parents[2]
ACCOUNT = "nobody"
SERVER, COLLECTOR = "0.0.0.0:2525", "127.50.0.1:2526"
# One server by many names: a destination that is suspended would have all
# others wait, and the queue be run for nothing.
DESTINATIONS = 10
ROUTES = "".join(
    f"many{n}.test troubles:[127.51.0.{n}]:2525\n" for n in range(DESTINATIONS)
)
ROUTES += "collected.test smtp:[127.50.0.1]:2526\n"
LIMIT = 10
MAIN = {
    "troubles_destination_recipient_limit": str(LIMIT),
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "2s",
    "queue_run_delay": "1s",
    "service_throttle_time": "1s",
    "transport_retry_time": "1s",
    "trouble_destination_retry_time": "1s",
    "default_process_limit": "10",
    **{
        f"smtp_{stage}_timeout": "2s"
        for stage in ("helo", "mail", "rcpt", "data_init", "data_xfer", "data_done")
    },
}
# Seconds: a kill so long after a message was complete may have come before the commit.
# And before: the server may be slow to read what the client had sent.
WINDOW = 3.0
# Messages in the queue at which no more are submitted for a while.
BACKLOG = 400
# And those that are left when the killing ends.
LAST = 20
# What is killed: without an engine all of it at once, with one in turns.
LAUNCHER, INTERPRETER, PIPE8, ENGINE = "launcher", "interpreter", "pipe(8)", "engine"
WITHOUT = frozenset({LAUNCHER, INTERPRETER, PIPE8})
RESTARTED = frozenset({"restart"})
TURNS = [
    frozenset({ENGINE}),
    frozenset({LAUNCHER, INTERPRETER}),
    frozenset({PIPE8}),
    WITHOUT | {ENGINE},
    RESTARTED,
]
# Messages that are worth a turn; with fewer there are but the last two.
FEW = 50
# Whose kill may come between the dot and the commit of any message.
EVERYBODY = "*"
# Seconds that an engine is away, at most, and those that it stays.
AWAY, STAYS = 0.3, 1.0


class Taken(NamedTuple):
    """What is remembered of a copy that the server has."""

    whole: bool
    at: float
    told: bool


class Journal(list[Copy]):
    """The server's, without the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, list[Taken]] = defaultdict(list)

    def append(self, copy: Copy) -> None:
        taken = Taken(whole(copy), copy.at, copy.told)
        for recipient in copy.recipients:
            self.taken[recipient].append(taken)


class Reports(list[Copy]):
    """The collector's: who was reported to a sender, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.told: Counter[str] = Counter()

    def append(self, copy: Copy) -> None:
        mail = email.message_from_bytes(copy.text)
        status = str(mail.get_payload(1))
        self.told.update(re.findall(r"^Final-Recipient: rfc822; (\S+)", status, re.M))


class Whims:
    """What the server does; nobody is refused whose address does not say so."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def __call__(self, stage: str, subject: str, times: int) -> str | None:
        if stage == "rcpt":
            plan = subject.partition(".")[0]
            if plan == "refused":
                return "550 5.1.1 no such user"
            if times < {"later": 1, "much-later": 3}.get(plan, 0):
                return "450 4.2.0 try again"
        drawn = self._rng.random()
        if drawn > 0.02 or stage == "quit":
            return None
        if drawn < 0.002:
            time.sleep(2.5)
            return None
        odd = ["close", "reset"]
        odd += ["garbage\n451 4.3.0 what"] if stage in ("mail", "data") else []
        odd += ["421 4.3.2 too busy"] if stage in ("connect", "mail", "rcpt") else []
        odd += ["451 4.3.0 later", TAKE_AND_CLOSE] if stage == "dot" else []
        return self._rng.choice(odd)


class Killer(threading.Thread):
    """Kills processes of the transport. `kills`: (what, queue id, when)."""

    def __init__(
        self,
        program: Path,
        rate: float,
        seed: int,
        wanted: frozenset[str] = WITHOUT,
        engine: ResidentEngine | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self.kills: list[tuple[str, str, float]] = []
        # Process ids of engines.
        self.dead: set[str] = set()
        self.problem: Exception | None = None
        self.over = threading.Event()
        self._program = str(program).encode()
        self._namespace = os.readlink("/proc/self/ns/mnt")
        self._rate = rate
        self._rng = random.Random(seed)
        self._wanted = wanted
        self._engine = engine

    def run(self) -> None:
        try:
            self._kill_some()
        except Exception as problem:  # noqa: BLE001  looked at in the end
            self.problem = problem

    def _kill_some(self) -> None:
        while not self.over.wait(self._pause()):
            if self._wanted == RESTARTED:
                self._restart()
                continue
            victims = [each for each in self._victims() if each[1] in self._wanted]
            if victims:
                what = self._rng.choice(sorted({what for _, what, _ in victims}))
                one = self._rng.choice([each for each in victims if each[1] == what])
                self._kill(*one)

    def _pause(self) -> float:
        if self._wanted == RESTARTED:
            return STAYS
        return self._rng.expovariate(self._rate)

    def _victims(self) -> list[tuple[int, str, str]]:
        found = []
        if self._engine is not None:
            found.append((self._engine.pid, ENGINE, EVERYBODY))
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(directory / "ns/mnt") != self._namespace:
                    continue  # somebody else's
                argv = (directory / "cmdline").read_bytes().split(b"\0")
                if b"--queue-id" in argv and self._program in argv:
                    what = LAUNCHER
                elif b"--queue-id" in argv and any(
                    word.startswith(b"@launcher=") for word in argv
                ):
                    what = INTERPRETER
                elif argv[0] == b"pipe" and self._rng.random() < 0.1:
                    found.append((int(directory.name), PIPE8, ""))
                    continue
                else:
                    continue
                queue_id = argv[argv.index(b"--queue-id") + 1].decode()
                found.append((int(directory.name), what, queue_id))
        return found

    def _kill(self, process: int, what: str, queue_id: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            if what == ENGINE and self._engine is not None:
                self.dead.add(str(process))
                self._engine.kill()
            else:
                os.kill(process, signal.SIGKILL)
            self.kills.append((what, queue_id, time.monotonic()))
        if what == ENGINE and self._engine is not None:
            time.sleep(self._rng.uniform(0, AWAY))
            self._engine.start()

    def _restart(self) -> None:
        assert self._engine is not None
        assert self._engine.drain() == 0
        self.kills.append(("nobody: restarted", "", time.monotonic()))
        self._engine.start()


class Mail(NamedTuple):
    sender: str
    recipients: tuple[str, ...]


def made(number: int, rng: random.Random) -> tuple[Mail, bytes]:
    """A message, and its text."""
    plans = rng.choices(
        ("ok", "refused", "later", "much-later"),
        (40, 5, 2, 1),
        k=rng.choice((1, 1, 1, 1, 2, 2, 3, LIMIT, LIMIT + 3)),
    )
    text = "".join(f"{n}: text of {number}\n" for n in range(rng.choice((2, 50, 3000))))
    message = f"Subject: message {number}\n\n{text}END {number}\n".encode()
    domain = f"many{number % DESTINATIONS}.test"
    recipients = tuple(f"{p}.{number}.{n}@{domain}" for n, p in enumerate(plans))
    sender = f"s.{number}@collected.test" if rng.random() < 0.9 else ""
    return Mail(sender, recipients), message


def queue() -> str:
    done = subprocess.run(
        ["postqueue", "-j"], capture_output=True, text=True, check=True
    )
    return done.stdout


def whole(copy: Copy) -> bool:
    pattern = rb"Received:.*\r\nSubject: message (\d+)\r\n.*\r\nEND \1\r\n"
    return bool(re.fullmatch(pattern, copy.text, re.DOTALL))


def queue_ids(log: Path) -> dict[str, str]:
    """Under which name Postfix knows the message of a recipient."""
    with log.open(errors="backslashreplace") as lines:
        return {
            record.recipient: record.queue_id
            for line in lines
            for record in deliveries(line)
        }


def balance(
    mails: list[Mail],
    copies: dict[str, list[Taken]],
    reports: Counter[str],
    kills: list[tuple[str, str, float]],
    names: dict[str, str],
    left: str,
) -> tuple[Counter[str], list[str]]:
    """The sums, and what is wrong."""
    sums: Counter[str] = Counter(messages=len(mails))
    wrong: list[str] = []
    queued_ones = set(re.findall(r'"address": "([^"]*)"', left))
    moments: dict[str, list[float]] = defaultdict(list)
    for what, queue_id, when in kills:
        sums[f"killed: {what}"] += 1
        moments[queue_id].append(when)
    for mail in mails:
        for recipient in mail.recipients:
            mine, told = copies.get(recipient, []), reports[recipient]
            queue_id = names.get(recipient, "?")
            refused = recipient.startswith("refused.")
            silent = refused and not mail.sender
            queued = recipient in queued_ones
            windows = sum(
                abs(when - copy.at) < WINDOW
                for copy in mine
                for when in moments[queue_id] + moments[EVERYBODY]
            )
            allowed = 1 + windows + sum(not copy.told for copy in mine)
            sums["recipients"] += 1
            sums["delivered"] += bool(mine)
            sums["reported"] += bool(told)
            sums["not to be told"] += silent and not told
            sums["still queued"] += queued and not mine
            sums["twice, in the window"] += len(mine) > 1
            sums["reported again"] += max(0, told - 1)
            faults = {
                "lost": not (mine or told or silent or queued),
                "wrongly reported": bool(told) and not refused,
                "null sender told": silent and bool(told),
                "truncated": not all(copy.whole for copy in mine),
                "twice without a window": len(mine) > allowed,
            }
            for fault, found in faults.items():
                sums[fault] += found
                if found:
                    wrong.append(f"{fault}: {recipient} ({queue_id})")
    return sums, wrong


def reported_late(log: Path, wanted: set[str], dead: set[str]) -> tuple[int, list[str]]:
    """How many attempts reported whom they had refused, and those that did not.

    `log`: the program's own. `wanted`: queue ids of messages whose sender is to be
    told; not those of which a process was killed, nor those that Postfix has bounced.
    `dead`: process ids of engines that were killed.
    """
    refused: dict[tuple[str, str], str] = {}
    submitted: set[tuple[str, str]] = set()
    with log.open(errors="backslashreplace") as lines:
        for line in lines:
            found = re.search(r"\[(\d+)\]: (\w+): (.*)", line)
            if found is None or found[1] in dead or found[2] not in wanted:
                continue
            attempt, text = (found[1], found[2]), found[3]
            if ", status=bounced " in text:
                refused.setdefault(attempt, text)
            elif text == "sender non-delivery notification submitted":
                submitted.add(attempt)
            elif text.startswith("nobody waits for the answer"):
                # Its pipe(8) was killed, and it ended there: the next attempt reports.
                submitted.add(attempt)
    late = [
        f"not reported at once: {queue_id}[{process}]: {text}"
        for (process, queue_id), text in refused.items()
        if (process, queue_id) not in submitted
    ]
    return len(refused.keys() & submitted), late


def bounced_by_postfix(log: Path) -> set[str]:
    """The queue ids of what pipe(8) was told to bounce."""
    with log.open(errors="backslashreplace") as lines:
        return {
            record.queue_id
            for line in lines
            for record in deliveries(line)
            if record.status == "bounced"
        }


def unanswered(log: Path, names: set[str]) -> list[str]:
    """What Postfix logged of clients that had no answer, for messages of these names.

    An engine that is restarted finishes what it has begun.
    """
    with log.open(errors="backslashreplace") as lines:
        return [
            f"not answered: {record.queue_id}: {record.reason}"
            for line in lines
            for record in deliveries(line)
            if "with the engine" in record.reason and record.queue_id in names
        ]


class Soak(NamedTuple):
    """Where it takes place."""

    postfix: PrivatePostfix
    program: Path
    # The program's.
    log: Path
    engine: ResidentEngine | None
    options: argparse.Namespace

    def turn(
        self, numbers: range, wanted: frozenset[str]
    ) -> tuple[Counter[str], list[str]]:
        """Messages of these numbers, while processes of those kinds are killed."""
        options, postfix = self.options, self.postfix
        seed = options.seed + numbers.start
        rng = random.Random(seed)
        server = FickleServer(Whims(seed), listen=SERVER)
        collector = FickleServer(listen=COLLECTOR)
        server.journal = journal = Journal()
        collector.journal = reports = Reports()
        killer = Killer(self.program, options.kills, seed, wanted, self.engine)
        begun = time.monotonic()
        mails = []
        with server, collector:
            killer.start()
            for number in numbers:
                mail, message = made(number, rng)
                postfix.submit(*mail.recipients, sender=mail.sender, message=message)
                mails.append(mail)
                if number % 50 == 49:
                    drain(postfix, BACKLOG, 1e9)
                if number % 5000 == 4999:
                    print(f"{number + 1} submitted", file=sys.stderr, flush=True)
            until = time.monotonic() + options.seconds
            drain(postfix, LAST, until)
            # Towards the end all is left to end by itself.
            killer.over.set()
            killer.join()
            drain(postfix, 0, until)
            left = queue()
        names = queue_ids(postfix.log_file)
        kills = killer.kills
        sums, wrong = balance(mails, journal.taken, reports.told, kills, names, left)
        mine = {names.get(r, "?"): mail for mail in mails for r in mail.recipients}
        told = {queue_id for queue_id, mail in mine.items() if mail.sender}
        told -= {queue_id for _, queue_id, _ in kills}
        told -= bounced_by_postfix(postfix.log_file)
        sums["reported at once"], late = reported_late(self.log, told, killer.dead)
        wrong += late
        if killer.problem is not None:
            wrong.append(f"engine: {killer.problem!r}")
        if wanted == RESTARTED:
            wrong += unanswered(postfix.log_file, set(mine))
        sums["seconds"] = round(time.monotonic() - begun)
        return sums, wrong

    def run(self) -> tuple[Counter[str], list[str]]:
        """All turns. The sums, and what is wrong."""
        turns = [WITHOUT] if self.engine is None else TURNS
        if self.options.messages < len(turns) * FEW:
            turns = turns[-2:]
        share = -(-self.options.messages // len(turns))
        sums: Counter[str] = Counter()
        wrong: list[str] = []
        for place, wanted in enumerate(turns):
            first = place * share
            last = min(first + share, self.options.messages)
            more, faults = self.turn(range(first, last), wanted)
            sums += more
            wrong += faults
            print(f"{', '.join(sorted(wanted))}: {more}", file=sys.stderr, flush=True)
        return sums, wrong


def drain(postfix: PrivatePostfix, wanted: int, until: float) -> None:
    """Run the queue until no more messages are in it than wanted, or time is over."""
    while queue().count("\n") > wanted and time.monotonic() < until:
        postfix.flush()
        time.sleep(0.7)


def example(program: Path, place: Path, engine: ResidentEngine | None) -> str:
    """The second entry of master.cf.example, with the paths of this run."""
    state = place / "state"
    state.mkdir(mode=0o700)
    shutil.chown(state, ACCOUNT)
    text = (ROOT / "master.cf.example").read_text()
    for standing, here in {
        "/usr/local/bin/postfix-trouble": str(program),
        "/var/lib/postfix-trouble": str(state),
        "user=trouble": f"user={ACCOUNT}",
    }.items():
        text = text.replace(standing, here)
    entry = transport(text, "troubles")
    if engine is None:
        return entry
    run = f"{program} deliver"
    assert run in entry
    return entry.replace(run, f"{run} --engine={engine.path}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Soak the transport in trouble.")
    parser.add_argument("--engine", action="store_true", help="one that stays")
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=600, help="for what is queued")
    parser.add_argument("--kills", type=float, default=3.0, help="per second")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="postfix-trouble-", dir="/var/tmp"))
    place.chmod(0o755)
    (place / "etc").mkdir()
    try:
        private_network.enter(place / "etc")
    except private_network.NotAllowed as reason:
        print(f"not shown: {reason}")
        return 77
    program = installed = install(place / "program")
    engine = None
    if options.engine:
        known = clients(installed)
        program = known.get("c", known["python"])
        engine = ResidentEngine(installed, place / "engine", ACCOUNT)
    log = place / "trouble.log"
    log.touch()
    shutil.chown(log, ACCOUNT)
    postfix = PrivatePostfix(
        place / "postfix",
        main={**MAIN, "trouble_log_file": str(log)},
        master=example(program, place, engine),
        routes=ROUTES,
    )
    postfix.start()
    try:
        if engine is not None:
            engine.start()
        sums, wrong = Soak(postfix, program, log, engine, options).run()
    finally:
        postfix.stop()
        if engine is not None:
            engine.drain()
    for name, number in sums.items():
        print(f"{number:8} {name}")
    print(f"seed {options.seed}")
    print("\n".join(wrong[:20]) or "the ledger agrees with the server")
    if wrong:
        print(f"kept: {place}")
    else:
        shutil.rmtree(place)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
