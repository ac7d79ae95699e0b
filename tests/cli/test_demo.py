"""`make demo`: what it shows is true, and fits on a terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pseudo_terminal import assert_golden, run, widest

import needs
from scripted_server import ScriptedServer

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools"))
from demo import CASES, CLOSE, MESSAGE, RECIPIENT, SENDER, Case

ROOT = Path(__file__).parent.parent.parent
DEMO = str(ROOT / "tools/demo.py")
SCRIPT = str(ROOT / "bench/plain_smtplib.py")


@pytest.mark.parametrize("columns", [80, 40])
def test_on_a_terminal(program: str, columns: int) -> None:
    screen = run(program, start=(DEMO,), columns=columns, seconds=60.0)
    assert screen.code == 0
    assert "\x1b[31m" in screen.text
    assert widest(screen.plain.splitlines()) <= columns
    assert_golden(f"demo-{columns}", re.sub(r":\d{4,5}\b", ":12345", screen.plain))


def test_without_a_terminal(program: str) -> None:
    done = subprocess.run(
        [sys.executable, DEMO, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.reply)
@pytest.mark.parametrize("name", ["msmtp", "script"])
def test_what_others_do_was_measured(name: str, case: Case) -> None:
    does = {"then": "close"} if case.reply == CLOSE else case.reply
    with ScriptedServer({"stages": {"rcpt": does}}) as server:
        port = str(server.port)
        command = [sys.executable, SCRIPT, port, SENDER, RECIPIENT]
        if name == "msmtp":
            command = [needs.tool("msmtp"), "-C", "/dev/null", "--host=127.0.0.1"]
            command += [f"--port={port}", f"--from={SENDER}", "--", RECIPIENT]
        done = subprocess.run(
            command, input=MESSAGE.encode(), capture_output=True, check=False
        )
    shown = case.msmtp if name == "msmtp" else case.script
    assert done.returncode == int(shown.partition(" ")[0])
