"""Many messages through lmtp(8), our LMTP server and a server that refuses some.

usage: lmtp_soak.py PATH-OF-POSTFIX-TROUBLE [MESSAGES [ROUNDS]] [--spawn]
Prints the memory of our largest process while they go through, and in the end whether
everybody got what was meant for them, once, and what Postfix logged, by status. Each
round has a fresh listener. Needs root; the program must be readable
for the user nobody.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from lmtp_postfix import Lmtpd, LmtpPostfix, Sink
from private_postfix import deliveries

# What a worker may grow by between the first tenth and the end (KiB).
FLAT = 2048
# Seconds without progress after which something is wrong.
PATIENCE = 60.0


class Found(NamedTuple):
    """What came of it."""

    sent: int
    bounced: int
    # Records of Postfix, by status and the code of our reply.
    replies: Counter[str]
    # Largest process of ours (KiB), at each tenth of the way.
    memory: list[int]
    seconds: float


def check_ledger(postfix: LmtpPostfix, lmtpd: Lmtpd, sink: Sink, count: int) -> int:
    """What was handed in, what the server took and what Postfix logged agree.

    The number of messages that bounced.
    """
    everybody = postfix.injected(count)
    refused = {who for who in everybody if who.partition("@")[0].strip("r")[-1] == "3"}
    ends: dict[str, list[str]] = {who: [] for who in everybody}
    for record in deliveries(postfix.log()):
        if record.recipient in ends and record.status != "deferred":
            ends[record.recipient].append(record.status)
    assert {who for who, how in ends.items() if how == ["bounced"]} == refused
    assert {who for who, how in ends.items() if how == ["sent"]} == everybody - refused
    taken = sink.taken()
    assert set(taken) == everybody - refused
    # Whose dot was not answered can't be known; everybody else got it once.
    text = "\n".join(lmtpd.log())
    unknown = set(re.findall(r"to=<(\S+)>.* may be sent more than once", text))
    assert {who for who, times in taken.items() if times > 1} <= unknown
    return len(refused)


def replies(log: str) -> Counter[str]:
    """How often Postfix logged each status, with the code that we said.

    Raises AssertionError if one of our replies was about a bug of ours.
    """
    assert "nternal error" not in log
    said = re.compile(r"said: (\d{3})")
    found: Counter[str] = Counter()
    for record in deliveries(log):
        code = said.search(record.reason)
        found[" ".join((record.status, *(code.groups() if code else ())))] += 1
    return found


def soak(
    program: Path,
    place: Path,
    count: int,
    spawn: bool,
    say: Callable[[str], None] = lambda text: None,
) -> Found:
    """Put so many messages through. Raises AssertionError if one is lost or doubled."""
    sink = Sink(place)
    lmtpd = Lmtpd(place, program, spawn, f"--nexthop=[127.0.0.1]:{sink.port}")
    postfix = LmtpPostfix(place, lmtpd.transport, lmtpd.master, in_flow_delay="0")
    memory: list[int] = []
    with sink, lmtpd.open() as pid:
        with postfix.running():
            start = time.monotonic()
            filling = threading.Thread(target=postfix.inject, args=(count,))
            filling.start()
            done, last = 0, time.monotonic()
            while filling.is_alive() or postfix.queued():
                before, done = done, sum(sink.taken().values())
                if done > before:
                    last = time.monotonic()
                assert time.monotonic() < last + PATIENCE, postfix.log()[-3000:]
                if len(memory) < done * 10 // count:
                    memory.append(_largest(pid))
                    say(f"{done} of {count}: {memory[-1]} KiB")
                # A busy queue manager has no time to be told.
                with contextlib.suppress(AssertionError):
                    postfix.flush()
                time.sleep(0.5)
            memory.append(_largest(pid))
            filling.join()
            say(f"all of {count}: {memory[-1]} KiB")
            seconds = time.monotonic() - start
        bounced = check_ledger(postfix, lmtpd, sink, count)
        told = replies(postfix.log())
    return Found(count - bounced, bounced, told, memory, seconds)


def _largest(pid: int) -> int:
    """Resident memory (KiB) of a process, or of the largest one under spawn(8)."""
    pids = [pid] if pid else _ours()
    return max((_resident(each) for each in pids), default=0)


def _ours() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"python" in words[0] and b"lmtp" in words:
                found.append(int(path.parent.name))
    return found


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def main(argv: list[str]) -> int:
    """Soak, and say how it went."""
    program, *rest = [word for word in argv if word != "--spawn"]
    count, rounds = (*map(int, rest), *(20_000, 1)[len(rest) :])
    worst = 0
    total: Counter[str] = Counter()
    for _ in range(rounds):
        place = Path(tempfile.mkdtemp(prefix="soak-", dir="/dev/shm"))
        place.chmod(0o755)
        try:
            found = soak(Path(program), place, count, "--spawn" in argv, print)
        finally:
            shutil.rmtree(place)
        growth = found.memory[-1] - found.memory[0]
        worst = max(worst, growth)
        total += found.replies
        print(
            f"{found.sent} sent, {found.bounced} bounced, none lost, none twice;"
            f" {count / found.seconds:.0f}/s, {growth} KiB more in the end;"
            f" all rounds: {dict(total)}",
            flush=True,
        )
    return 0 if worst <= FLAT else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
