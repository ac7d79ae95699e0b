"""An SMTP server that takes mail, writes down whose, and can be killed at any moment.

usage: recording_sink.py PORT FILE [SECONDS]
The number in a recipient's name says what happens to it: ending in 3, refused for ever;
in 7, deferred the first time; else taken, after so many seconds. A line of FILE is
"RECIPIENT taken" (written before the reply) or "RECIPIENT deferred".
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from fickle_server import Copy, FickleServer


class Record(list[Copy]):
    """The file, and what stands in it."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        words = map(str.split, Path(path).read_text().splitlines())
        self._deferred = {who for who, what in words if what == "deferred"}

    def append(self, copy: Copy) -> None:
        for recipient in copy.recipients:
            self._write(recipient, "taken")

    def first_time(self, recipient: str) -> bool:
        if recipient in self._deferred:
            return False
        self._deferred.add(recipient)
        self._write(recipient, "deferred")
        return True

    def _write(self, recipient: str, word: str) -> None:
        os.write(self._file, f"{recipient} {word}\n".encode())


def main() -> None:
    port, path, *rest = sys.argv[1:]
    record = Record(path)
    delay = float(rest[0]) if rest else 0.0

    def judge(stage: str, subject: str, _times: int) -> str | None:
        if stage == "dot":
            time.sleep(delay)
        found = re.match(r"r?\d*(\d)", subject) if stage == "rcpt" else None
        if found and found[1] == "3":
            return "550 5.1.1 nobody here"
        if found and found[1] == "7" and record.first_time(subject):
            return "450 4.2.0 come again"
        return None

    server = FickleServer(judge, listen=f"127.0.0.1:{port}")
    server.journal = record
    with server:
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
