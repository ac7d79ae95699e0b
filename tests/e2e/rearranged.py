"""The shared Postfix with other settings, for as long as some tests need them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from private_postfix import PATIENCE, PrivatePostfix


@contextmanager
def rearranged(
    postfix: PrivatePostfix,
    *,
    main: Mapping[str, str],
    routes: str = "",
    master: str = "",
) -> Iterator[PrivatePostfix]:
    """Have more in its files, and an empty queue. All as before afterwards."""
    etc = postfix.directory / "etc"
    settings = "".join(f"{name} = {value}\n" for name, value in main.items())
    before = {
        name: (etc / name).read_text() for name in ("main.cf", "transport", "master.cf")
    }
    # A table with the same entry twice is no table for Postfix.
    known = before["transport"].splitlines()
    new = [line for line in routes.splitlines() if line not in known]
    added = "".join(f"{line}\n" for line in new)
    more = {"main.cf": settings, "transport": added, "master.cf": master}
    empty_queue()
    postfix.stop()
    try:
        for name, text in more.items():
            (etc / name).write_text(before[name] + text)
        postfix.start()
        yield postfix
        empty_queue()
        postfix.stop()
    finally:
        for name, text in before.items():
            (etc / name).write_text(text)
        postfix.start()


def empty_queue() -> None:
    subprocess.run(
        ["/usr/sbin/postsuper", "-d", "ALL"], check=True, capture_output=True
    )


def queued() -> int:
    """How many messages there are in the queue."""
    done = subprocess.run(
        ["/usr/sbin/postqueue", "-j"], check=True, capture_output=True
    )
    return done.stdout.count(b"\n")


def run_queue(postfix: PrivatePostfix) -> int:
    """Try again until all is done. Returns the number of queue runs."""
    until = time.monotonic() + PATIENCE
    runs = 0
    while queued():
        assert time.monotonic() < until, postfix.log()[-5000:]
        time.sleep(0.5)
        postfix.flush()
        runs += 1
    return runs
