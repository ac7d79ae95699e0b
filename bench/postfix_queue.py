"""A Postfix of the benchmark's own, whose queue is filled first and emptied on time.

Its configuration, queue and log lie in one directory, best on a tmpfs. It needs root,
and neither touches nor minds the system's own Postfix.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

sys.path += [str(Path(__file__).parents[1] / "tests" / x) for x in ("", "e2e")]

from private_postfix import Postfix

SENDER, RECIPIENT = "sender@a.test", "recipient@b.test"
# Seconds after which something is wrong.
PATIENCE = 300.0
# Seconds between two looks at the log, and between two at the memory.
LOOK, WEIGH = 0.01, 0.25
_TICK = os.sysconf("SC_CLK_TCK")

# Without a queue manager: what comes in stays.
FILLING = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n  -  n  -     0  cleanup
rewrite   unix  -  -  n  -     -  trivial-rewrite
postlog   unix-dgram n - n -   1  postlogd
"""
EMPTYING = """
qmgr      unix  n  -  n  300   1  qmgr
bounce    unix  -  -  n  -     0  bounce
defer     unix  -  -  n  -     0  bounce
trace     unix  -  -  n  -     0  bounce
error     unix  -  -  n  -     -  error
retry     unix  -  -  n  -     -  error
scache    unix  -  -  n  -     1  scache
tlsproxy  unix  -  -  n  -     0  tlsproxy
tlsmgr    unix  -  -  n  1000? 1  tlsmgr
smtp      unix  -  -  n  -     -  smtp
lmtp      unix  -  -  n  -     -  lmtp
"""


class Run(NamedTuple):
    """What emptying the queue once took."""

    rate: float  # messages per second, from the first to the last
    cpu: float  # ms of all processes for a message, the server's not counted
    memory: float  # MiB at most, all processes (proportional set size)
    ours: float  # the same, of those that are not Postfix's


class Queue(Postfix):
    """fill(), then empty()."""

    def __init__(
        self,
        home: Path,
        transport: str,
        master: str,
        at_once: int,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """`more`: for main.cf."""
        with socket.create_server(("127.0.0.1", 0)) as found:
            self._port = found.getsockname()[1]
        self._filling = FILLING.format(port=self._port)
        self._emptying = EMPTYING + master
        main = {
            "local_recipient_maps": "",
            "in_flow_delay": "0",
            "qmgr_message_active_limit": "100000",
            "default_destination_concurrency_limit": str(at_once),
            "initial_destination_concurrency": str(at_once),
            "default_transport": transport,
            # As Postfix has it by default, not as tests want it.
            "smtp_connection_cache_on_demand": "yes",
            **(more or {}),
        }
        super().__init__(home, main, "", self._filling)

    def fill(self, messages: int, size: int) -> None:
        """Put messages of about so many bytes into the queue, one recipient each."""
        command = ["smtp-source", "-s", "10", "-m", str(messages), "-l", str(size)]
        command += ["-f", SENDER, "-t", RECIPIENT, f"127.0.0.1:{self._port}"]
        subprocess.run(command, check=True, timeout=PATIENCE)

    def empty(self, messages: int, others: tuple[int, ...] = ()) -> Run:
        """Deliver all that is there. `others`: further processes that take part."""
        before = len(self.log_file.read_bytes())
        (self.etc / "master.cf").write_text(self._filling + self._emptying)
        master = int((self.directory / "queue/pid/master.pid").read_text())
        self.reload()
        memory = ours = 0.0
        first = weighed = 0.0
        done, cpu, start = 0, 0.0, time.monotonic()
        while done < messages:
            time.sleep(LOOK)
            text = self.log_file.read_bytes()[before:]
            now = time.monotonic()
            assert now < start + PATIENCE, f"only {done} of {messages}:\n{text[-999:]}"
            assert b"status=deferred" not in text, text[-999:].decode()
            assert b"status=bounced" not in text, text[-999:].decode()
            done = text.count(b"status=sent")
            if done and not first:
                first, early = now, done
                cpu = _seconds(_tree(master, *others))
            if now > weighed + WEIGH or done == messages:
                tree = _tree(master, *others)
                memory = max(memory, sum(map(_weight, tree)))
                ours = max(
                    ours, sum(_weight(pid) for pid in tree if not _is_postfix(pid))
                )
                weighed = time.monotonic()
        used = _seconds(_tree(master, *others)) - cpu
        count = messages - early
        return Run(count / (now - first), used * 1000 / count, memory, ours)


# --- processes ------------------------------------------------------------------------


def _tree(*roots: int) -> list[int]:
    """These processes and all that descend from them."""
    found, wanted = [], list(roots)
    while wanted:
        pid = wanted.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            wanted += map(int, children.split())
    return found


def _seconds(pids: list[int]) -> float:
    """CPU time of processes, and of those of their children that have ended."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / _TICK


def _weight(pid: int) -> float:
    """Proportional set size (MiB)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _is_postfix(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "/postfix/" in os.readlink(f"/proc/{pid}/exe")
    return True
