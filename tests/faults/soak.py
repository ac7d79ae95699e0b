"""A real Postfix, a server that misbehaves at random, and a killer.

All messages go through pipe(8), with the second recipe of master.cf.example, to a
server that accepts, refuses, defers, stalls and breaks off. Meanwhile processes are
killed at random: the interpreter, the launcher, pipe(8) itself. In the end each
recipient has the message or its sender was told (or it is still queued), and whoever
has it twice was the victim of a kill or of a server that did not answer. Whoever was
refused was reported by the very process that was told so, unless it was killed.

It needs root and Linux: the Postfix is a private one, in namespaces of its own.

usage: soak.py [--messages N] [--seconds N] [--seed N] [--kills PER-SECOND]

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

    def __init__(self, program: Path, rate: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.kills: list[tuple[str, str, float]] = []
        self.over = threading.Event()
        self._program = str(program).encode()
        self._namespace = os.readlink("/proc/self/ns/mnt")
        self._rate = rate
        self._rng = random.Random(seed)

    def run(self) -> None:
        while not self.over.wait(self._rng.expovariate(self._rate)):
            victims = self._victims()
            if victims:
                self._kill(*self._rng.choice(victims))

    def _victims(self) -> list[tuple[int, str, str]]:
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(directory / "ns/mnt") != self._namespace:
                    continue  # somebody else's
                argv = (directory / "cmdline").read_bytes().split(b"\0")
                if b"--queue-id" in argv and self._program in argv:
                    what = "launcher"
                elif b"--queue-id" in argv and any(
                    word.startswith(b"@launcher=") for word in argv
                ):
                    what = "interpreter"
                elif argv[0] == b"pipe" and self._rng.random() < 0.1:
                    found.append((int(directory.name), "pipe(8)", ""))
                    continue
                else:
                    continue
                queue_id = argv[argv.index(b"--queue-id") + 1].decode()
                found.append((int(directory.name), what, queue_id))
        return found

    def _kill(self, process: int, what: str, queue_id: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
            self.kills.append((what, queue_id, time.monotonic()))


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
                for when in moments[queue_id]
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


def reported_late(
    log: Path, names: dict[str, str], mails: list[Mail], but: set[str]
) -> tuple[int, list[str]]:
    """How many attempts reported whom they had refused, and those that did not.

    `log`: the program's own. `but`: queue ids of which a process was killed, and those
    that Postfix has bounced.
    """
    null = {names.get(r) for mail in mails if not mail.sender for r in mail.recipients}
    refused: dict[tuple[str, str], str] = {}
    submitted: set[tuple[str, str]] = set()
    with log.open(errors="backslashreplace") as lines:
        for line in lines:
            found = re.search(r"\[(\d+)\]: (\w+): (.*)", line)
            if found is None:
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
        if (process, queue_id) not in submitted and queue_id not in but | null
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


def soak(
    postfix: PrivatePostfix, program: Path, log: Path, options: argparse.Namespace
) -> tuple[Counter[str], list[str]]:
    rng = random.Random(options.seed)
    server = FickleServer(Whims(options.seed), listen=SERVER)
    collector = FickleServer(listen=COLLECTOR)
    server.journal = journal = Journal()
    collector.journal = reports = Reports()
    killer = Killer(program, options.kills, options.seed)
    begun = time.monotonic()
    mails = []
    with server, collector:
        killer.start()
        for number in range(options.messages):
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
    sums, wrong = balance(mails, journal.taken, reports.told, killer.kills, names, left)
    but = {queue_id for _, queue_id, _ in killer.kills}
    but |= bounced_by_postfix(postfix.log_file)
    sums["reported at once"], late = reported_late(log, names, mails, but)
    wrong += late
    sums["seconds"] = round(time.monotonic() - begun)
    return sums, wrong


def drain(postfix: PrivatePostfix, wanted: int, until: float) -> None:
    """Run the queue until no more messages are in it than wanted, or time is over."""
    while queue().count("\n") > wanted and time.monotonic() < until:
        postfix.flush()
        time.sleep(0.7)


def example(installed: Path, place: Path) -> str:
    """The second entry of master.cf.example, with the paths of this run."""
    state = place / "state"
    state.mkdir(mode=0o700)
    shutil.chown(state, ACCOUNT)
    text = (ROOT / "master.cf.example").read_text()
    for standing, here in {
        "/usr/local/bin/postfix-trouble": str(installed),
        "/var/lib/postfix-trouble": str(state),
        "user=trouble": f"user={ACCOUNT}",
    }.items():
        text = text.replace(standing, here)
    return transport(text, "troubles")


def main() -> int:
    parser = argparse.ArgumentParser(description="Soak the transport in trouble.")
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
    installed = install(place / "program")
    log = place / "trouble.log"
    log.touch()
    shutil.chown(log, ACCOUNT)
    postfix = PrivatePostfix(
        place / "postfix",
        main={**MAIN, "trouble_log_file": str(log)},
        master=example(installed, place),
        routes=ROUTES,
    )
    postfix.start()
    try:
        sums, wrong = soak(postfix, installed, log, options)
    finally:
        postfix.stop()
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
