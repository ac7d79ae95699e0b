"""One run of `deliver` against a server that means us harm."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from scripted_server import ScriptedServer

MESSAGE = b"Subject: hello\n\nhow are you\n"
PROGRAM = [sys.executable, "-I", "-m", "postfix_trouble", "deliver"]
# As little address space as a postmaster may give the program: 256 MiB.
LITTLE_MEMORY = 'ulimit -v 262144; exec "$@"'


class Delivery(NamedTuple):
    """What came of it."""

    code: int
    output: str
    log: str
    seconds: float


def deliver(
    server: ScriptedServer | int,
    directory: Path,
    *more: str | bytes,
    recipients: tuple[str | bytes, ...] = ("r@d.test",),
    message: bytes = MESSAGE,
    shell: str = LITTLE_MEMORY,
    user: int | None = None,
    umask: int = -1,
    timeout: float = 30,
) -> Delivery:
    """Deliver to a server on loopback, with little memory."""
    port = server if isinstance(server, int) else server.port
    log = directory / "log"
    options = ["--nexthop", f"[127.0.0.1]:{port}", "--sender", "s@d.test"]
    options += ["--log-file", str(log), "-o", "myhostname=me.test"]
    begun = time.monotonic()
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *PROGRAM, *options, *more, "--", *recipients],
        input=message,
        capture_output=True,
        check=False,
        timeout=timeout,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        umask=umask,
        env={
            name: value
            for name, value in os.environ.items()
            if name == "PATH" or name.startswith("COVERAGE")
        },
    )
    assert done.stderr == b""
    return Delivery(
        done.returncode,
        done.stdout.decode("utf-8"),
        log.read_text() if log.exists() else "",
        time.monotonic() - begun,
    )
