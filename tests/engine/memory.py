"""Many requests for an engine, and whether it grows by them.

usage: memory.py PATH-OF-POSTFIX-TROUBLE [MESSAGES]

20,000 messages, 20 at a time, of three sizes; most are taken, some are refused or
deferred, and one in ten is for one of a hundred destinations that are dead, and
remembered for that: a kilobyte for each, 10,000 at most. Prints the memory of the
engine at each tenth. 1 if it has grown by more than 2 MiB since the first of them (so
after the first 2,000), or has more than 40.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[n]) for n in (1, 2)]

from engine_client import DirectClient
from fickle_server import Copy, FickleServer
from waiting import wait

# KiB.
FLAT = 2048
MOST = 40 * 1024
AT_ONCE = 20
SIZES = (500, 4096, 100_000)
KEPT = "127.0.0.1"
DEAD = 100


class Nothing(list[Copy]):
    """A server's journal that remembers nothing."""

    def append(self, copy: Copy) -> None:
        """Leave it."""


def judge(stage: str, subject: str, _times: int) -> str | None:
    if stage == "rcpt" and subject.startswith("refused"):
        return "550 5.1.1 no such user"
    if stage == "rcpt" and subject.startswith("later"):
        return "450 4.2.0 try again"
    return None


def request(number: int, port: int) -> tuple[list[str], bytes]:
    """Command line and message."""
    plan = {3: "refused", 5: "later"}.get(number % 20, "ok")
    nexthop = f"[127.0.0.1]:{port}"
    if number % 10 == 9:
        nexthop = f"[127.0.1.{number // 10 % DEAD}]:1"
    words = [
        *("--sender", f"s{number}@a.test", "--nexthop", nexthop),
        *("--queue-id", f"4{number:X}", "-o", "myhostname=me.test"),
        *("-o", f"smtp_connection_cache_destinations={KEPT}"),
        *("-o", "trouble_destination_retry_time=60s", "--log-file", "/dev/null"),
        *("--", f"{plan}{number}@b.test"),
    ]
    line = b"0123456789" * 7 + b"\n"
    return words, b"Subject: x\n\n" + line * (SIZES[number % 3] // len(line))


class Load:
    """Clients that take numbers until there are no more."""

    def __init__(self, path: Path, port: int, count: int) -> None:
        self.codes: Counter[int] = Counter()
        self._path = path
        self._port = port
        self._numbers = iter(range(count))
        self._lock = threading.Lock()

    def run(self) -> None:
        while True:
            with self._lock:
                number = next(self._numbers, -1)
            if number < 0:
                return
            words, message = request(number, self._port)
            with DirectClient(self._path) as client:
                client.ask(*words, message=message)
                code, _ = client.answer()
            with self._lock:
                self.codes[code] += 1

    def done(self) -> int:
        with self._lock:
            return sum(self.codes.values())


def resident(pid: int) -> int:
    """KiB that a process has in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def listens(path: Path) -> bool:
    with contextlib.suppress(OSError), DirectClient(path):
        return True
    return False


def measure(
    program: Path | str,
    place: Path,
    count: int,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[list[int], Counter[int]]:
    """The memory of an engine (KiB) at each tenth, and the exit codes."""
    path = place / "engine"
    found: list[int] = []
    with (
        FickleServer(judge) as server,
        subprocess.Popen(
            [program, "serve", f"--listen=unix:{path}", "--log-file=/dev/null"]
        ) as engine,
    ):
        server.journal = Nothing()
        try:
            wait(lambda: listens(path))
            load = Load(path, server.port, count)
            clients = [threading.Thread(target=load.run) for _ in range(AT_ONCE)]
            for client in clients:
                client.start()
            while len(found) < 10:
                time.sleep(0.02)
                working = any(map(threading.Thread.is_alive, clients))
                done = load.done()
                assert working or done == count
                if done >= (len(found) + 1) * count // 10:
                    found.append(resident(engine.pid))
                    say(f"{done} of {count}: {found[-1]} KiB")
            for client in clients:
                client.join()
        finally:
            engine.terminate()
    assert engine.returncode == 0
    return found, load.codes


def main(program: str, count: int = 20_000) -> int:
    place = Path(tempfile.mkdtemp(prefix="memory-"))
    try:
        begun = time.monotonic()
        found, codes = measure(program, place, count, print)
    finally:
        shutil.rmtree(place)
    growth = found[-1] - found[0]
    ends = ", ".join(f"{times} with {code}" for code, times in sorted(codes.items()))
    print(f"{ends}; {count / (time.monotonic() - begun):.0f}/s; {growth} KiB more")
    return 0 if growth <= FLAT and max(found) <= MOST else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
