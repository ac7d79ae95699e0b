"""The log, and that nobody waits for it."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfix_trouble.report import maillog
from postfix_trouble.report.maillog import MailLog


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a syslog daemon."""
    path = str(tmp_path / "log")
    monkeypatch.setattr(maillog, "SYSLOG", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(60)
        yield sock


@pytest.fixture
def log(daemon: socket.socket) -> Iterator[MailLog]:
    log = MailLog("postfix-trouble")
    yield log
    log.close()


def test_a_record(daemon: socket.socket, log: MailLog) -> None:
    log.write("3F2A1: to=<\u00fc\n@b.test>")
    text = daemon.recv(1000).decode()
    # Facility mail, level info.
    assert re.fullmatch(
        r"<22>\w{3} [ \d]\d \d\d:\d\d:\d\d"
        rf" postfix-trouble\[{os.getpid()}\]: 3F2A1: to=<\u00fc\?@b\.test>",
        text,
    )


@pytest.mark.fault("31 a daemon that does not read (1,000 records)")
def test_nobody_waits_for_a_daemon_that_does_not_read(log: MailLog) -> None:
    begun = time.monotonic()
    for _ in range(1000):
        log.write("x" * 1000)
    assert time.monotonic() - begun < 20


@pytest.mark.fault("31 a daemon that goes and comes back")
def test_a_daemon_may_come_back(
    daemon: socket.socket, log: MailLog, tmp_path: Path
) -> None:
    log.write("one")
    assert daemon.recv(1000).endswith(b": one")
    daemon.close()
    log.write("nobody hears this")
    (tmp_path / "log").unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "log"))
        log.write("two")
        assert other.recv(1000).endswith(b": two")


@pytest.mark.parametrize("place", ["/nonexistent/log", "/dev", "/dev/full"])
def test_a_file_that_can_not_be_written_is_no_matter(place: str) -> None:
    MailLog("postfix-trouble", place).write("x")


@pytest.mark.fault("31 no daemon")
def test_no_daemon_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maillog, "SYSLOG", str(tmp_path / "nothing"))
    MailLog("postfix-trouble").write("x")


def test_threads_share_a_log_whose_daemon_comes_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the socket is one of another thread's: it may be gone by then."""
    monkeypatch.setattr(maillog, "SYSLOG", str(tmp_path / "nobody"))
    log = MailLog("postfix-trouble")
    raised: list[BaseException] = []
    together = threading.Barrier(20)

    def write() -> None:
        together.wait()
        try:
            for _ in range(300):
                log.write("x")
        except BaseException as problem:  # noqa: BLE001
            raised.append(problem)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=write) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert raised == []
