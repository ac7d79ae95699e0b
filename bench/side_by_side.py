"""What a delivery costs, beside what other programs take for it.

Whole processes, launcher included, against one server on loopback; the programs take
turns, so that whatever else the machine does hits all of them. Medians, and the ratio
to a plain smtplib script with the same interpreter.

usage: side_by_side.py PATH-OF-POSTFIX-TROUBLE [ROUNDS]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

HERE = Path(__file__).parent
SENDER, RECIPIENT = "sender@a.test", "recipient@b.test"
# Every message that comes from a Postfix has one.
RECEIVED = b"""\
Received: by client.test (Postfix, from userid 0)
\tid 4BENCH; Mon,  1 Jan 2024 00:00:00 +0000 (UTC)
"""
SIZES = {"4 KiB": 4 << 10, "1 MiB": 1 << 20}
ROUNDS = 21
MEASURE = "plain smtplib"
# What this project holds itself to.
CPU_LIMIT = 0.55
MEMORY_LIMIT = 16.0


class Cost(NamedTuple):
    """Of one process with its children."""

    wall: float  # ms
    cpu: float  # ms
    memory: float  # MiB, peak of the largest process; at least 7 by measure.py's own


def commands(program: str, port: str) -> dict[str, list[str]]:
    """The programs that are there, each with its command line."""
    python = os.path.realpath(sys.executable)
    site = str(Path(program).resolve().parent / "python3")
    interpreter = site if os.path.exists(site) else python
    found = {
        "postfix-trouble": [
            *(program, "deliver", "--sender", SENDER, "--queue-id", "4BENCH"),
            *("--nexthop", f"[127.0.0.1]:{port}", "-o", "myhostname=client.test"),
            *("--log-file", "/dev/null", "--", RECIPIENT),
        ],
        MEASURE: [interpreter, str(HERE / "plain_smtplib.py"), port, SENDER, RECIPIENT],
        "bare interpreter": [interpreter, "-I", "-S", "-c", "pass"],
    }
    if shutil.which("msmtp"):
        options = ["--host=127.0.0.1", f"--port={port}", f"--from={SENDER}"]
        found["msmtp"] = ["msmtp", "-C", "/dev/null", *options, "--", RECIPIENT]
    if shutil.which("swaks"):
        options = ["--server", "127.0.0.1", "--port", port, "--from", SENDER]
        found["swaks"] = [
            "swaks",
            *options,
            "--to",
            RECIPIENT,
            "--data",
            "-",
            "-S",
            "2",
        ]
    return found


def message(size: int) -> bytes:
    """About so many bytes of text, lines that end with LF."""
    head = RECEIVED + f"From: {SENDER}\nTo: {RECIPIENT}\nSubject: x\n\n".encode()
    line = b"All work and no play makes Jack a dull boy, says the one who measures.\n"
    return head + line * ((size - len(head)) // len(line))


class Stopwatch:
    """Runs commands through a small process that measures them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", HERE / "measure.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def run(self, command: list[str], text: Path) -> Cost:
        """What one run costs; it has to succeed."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\t".join([str(text), *command]) + "\n")
        status, *figures = self._process.stdout.readline().split()
        assert status == "0", f"{command[0]} ended with {status}"
        return Cost(*map(float, figures))

    def stop(self) -> None:
        """End the process."""
        self._process.communicate()


def compare(program: str, port: str, size: int, rounds: int) -> dict[str, Cost]:
    """Medians of all programs for a message of a size."""
    with tempfile.NamedTemporaryFile() as file:
        text = Path(file.name)
        text.write_bytes(message(size))
        programs = commands(program, port)
        costs: dict[str, list[Cost]] = {name: [] for name in programs}
        stopwatch = Stopwatch()
        for turn in range(rounds + 1):
            for name, command in programs.items():
                cost = stopwatch.run(command, text)
                if turn:  # the first one is for the caches
                    costs[name].append(cost)
        stopwatch.stop()
    return {
        name: Cost(*(median(column) for column in zip(*rows, strict=True)))
        for name, rows in costs.items()
    }


def show(title: str, costs: dict[str, Cost]) -> None:
    measure = costs[MEASURE]
    print(f"\n{title}: one delivery, medians{'':18}(ratio to {MEASURE})")
    print(f"{'':18}{'wall ms':>16}{'CPU ms':>18}{'peak MiB':>18}")
    for name, cost in costs.items():
        cells = "".join(
            f"{value:10.1f} ({value / base:4.2f})"
            for value, base in zip(cost, measure, strict=True)
        )
        print(f"{name:18}{cells}")


def main(argv: list[str]) -> int:
    program = argv[0]
    rounds = int(argv[1]) if len(argv) > 1 else ROUNDS
    sink = subprocess.Popen(
        [sys.executable, HERE / "sink.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sink.stdout is not None
    port = sink.stdout.readline().strip()
    for absent in ("msmtp", "swaks"):
        if not shutil.which(absent):
            print(f"{absent} is not installed, so it is not among them")
    try:
        results = {
            title: compare(program, port, size, rounds) for title, size in SIZES.items()
        }
    finally:
        sink.communicate("")
    for title, costs in results.items():
        show(title, costs)
    small = results["4 KiB"]
    ratio = small["postfix-trouble"].cpu / small[MEASURE].cpu
    memory = small["postfix-trouble"].memory
    print(f"\nCPU {ratio:.2f} of {MEASURE} (limit {CPU_LIMIT})")
    print(f"peak memory {memory:.1f} MiB (limit {MEMORY_LIMIT})")
    return 0 if ratio <= CPU_LIMIT and memory <= MEMORY_LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
