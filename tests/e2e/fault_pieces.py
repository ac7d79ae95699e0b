"""For faults around pipe(8): a program that waits, and processes by their words."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# Waits for a file before it starts the program: pipe(8) fills the pipe meanwhile.
HOLD = """\
#!/bin/sh
go=$1
shift
>>"$go.here"
until [ -e "$go" ]; do sleep 0.05; done
exec "$@"
"""
# Postfix tries again at once, and remembers nobody.
AT_ONCE = {
    "transport_retry_time": "1s",
    "service_throttle_time": "1s",
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "1s",
    "trouble_destination_retry_time": "0",
}


def processes(*words: bytes) -> list[tuple[int, list[bytes]]]:
    """Those of ours with these words on their command line."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            argv = (directory / "cmdline").read_bytes().split(b"\0")
            here = os.readlink(directory / "ns/mnt") == os.readlink("/proc/self/ns/mnt")
            if here and set(words) <= set(argv):
                found.append((int(directory.name), argv))
    return found
