"""`check` and the engine: seen as the account in master.cf, and its limits compared."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from checking import findings

import needs
from fresh_checkout import open_place
from postfix_trouble.engine import protocol
from waiting import PATIENCE

pytestmark = needs.as_root
ENTRY = """\
trouble unix - n n - {limit} pipe
  user={account} null_sender= argv={program} deliver {options}
  -o myhostname=me.test --sender ${{sender}} --nexthop ${{nexthop}}
  --queue-id ${{queue_id}} -- ${{recipient}}
"""


class Place:
    """A Postfix with one entry, and an engine of an account."""

    def __init__(self, top: Path, program: str) -> None:
        self.program = program
        self.run = top / "run"
        self.run.mkdir(mode=0o700)
        self.socket = self.run / "engine"
        self._master = top / "master.cf"
        (top / "main.cf").write_text("trouble_destination_recipient_limit = 1\n")

    @contextlib.contextmanager
    def engine(self, account: str, *options: str) -> Iterator[None]:
        uid = pwd.getpwnam(account).pw_uid
        os.chown(self.run, uid, -1)
        with subprocess.Popen(
            [
                *(self.program, "serve", f"--listen=unix:{self.socket}"),
                *("--log-file=/dev/null", *options),
            ],
            user=uid,
            group=65534,
            extra_groups=[],
        ) as process:
            try:
                end = time.monotonic() + PATIENCE
                while not self.greets():
                    assert time.monotonic() < end
                    time.sleep(0.01)
                yield
            finally:
                process.send_signal(signal.SIGTERM)

    def greets(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.settimeout(PATIENCE)
            sock.connect(str(self.socket))
            return bool(sock.recv(1))
        return False

    def check(self, *, limit: str = "20", options: str = "") -> dict[str, str]:
        """What is found about the engine: the problem of each by its severity."""
        text = ENTRY.format(
            limit=limit,
            account="nobody",
            program=self.program,
            options=options or f"--engine={self.socket}",
        )
        self._master.write_text(text)
        found, _ = findings("--master-cf", str(self._master))
        return {
            each["severity"]: " | ".join(
                each[part] for part in ("about", "problem", "consequence", "remedy")
            )
            for each in found
            if "engine" in each["about"] + each["problem"]
        }


@pytest.fixture
def place(program: str) -> Iterator[Place]:
    for path in (program, sys.executable):
        needs.open_to_others(path)
    with open_place() as top:
        yield Place(top, program)


def test_all_is_well(place: Place) -> None:
    with place.engine("nobody"):
        found = place.check()
    assert found == {
        "ok": f"trouble, line 1 | the engine at {place.socket} delivers 100 at once"
        " |  | "
    }


@pytest.mark.parametrize(
    ("limit", "told"), [("21", "21"), ("-", "100"), ("0", "any number of")]
)
def test_more_processes_than_deliveries(place: Place, limit: str, told: str) -> None:
    with place.engine("nobody", "--deliveries", "20"):
        found = place.check(limit=limit)["warning"]
    assert f"{told} pipe(8) processes hand mail to the engine at " in found
    top = place.run.parent
    command = f"postconf -c {top} -F trouble/unix/process_limit=20; postfix -c {top}"
    assert f"{command} reload" in found


def test_nobody_there(place: Place) -> None:
    os.chown(place.run, pwd.getpwnam("nobody").pw_uid, -1)
    found = place.check()["warning"]
    assert found.startswith(f"trouble, line 1, as nobody: {place.socket} | no engine: ")
    assert "No such file or directory | one process a mail, and a warning" in found
    run = f"runuser -u nobody -- postfix-trouble serve --listen unix:{place.socket}"
    assert f"systemctl start postfix-trouble-engine, or {run}" in found


def test_engine_of_another_account(place: Place) -> None:
    with place.engine("daemon"):
        found = place.check()["warning"]
    assert "no engine: Permission denied | one process a mail" in found
    assert "run it as this account: User=nobody in its unit" in found


def test_another_version(place: Place) -> None:
    """An upgrade has replaced the program, and the engine is still the old one."""
    os.chown(place.run, pwd.getpwnam("nobody").pw_uid, -1)
    code = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n"
        f"print(flush=True)\nwhile True: c = s.accept()[0]; c.send({OLD!r}); c.close()"
    )
    with subprocess.Popen(
        ["/usr/bin/python3", "-c", code, str(place.socket)], stdout=subprocess.PIPE
    ) as old:
        assert old.stdout is not None
        old.stdout.readline()
        try:
            found = place.check()["warning"]
        finally:
            old.kill()
    assert "no engine: it is of another version | one process a mail" in found
    assert "systemctl restart postfix-trouble-engine" in found


OLD = protocol.GREETING.replace(b"engine ", b"engine 0") + b"900 100\n"


@pytest.mark.parametrize(
    "options", ["--engine {}", "--sender x --engine={}", "-v --engine={}"]
)
def test_not_the_first_option(place: Place, options: str) -> None:
    """Nobody would notice: it is one process a mail, and no word in the log."""
    with place.engine("nobody"):
        found = place.check(options=options.format(place.socket))
    assert f"write deliver --engine={place.socket} in argv=" in found["warning"]
