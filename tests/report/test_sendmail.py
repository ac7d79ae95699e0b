"""sendmail(1) as a real program, of all kinds."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from postfix_trouble.report.sendmail import submit
from processes import alive
from waiting import wait

MESSAGE = b"Subject: x\n\n.\nFrom me\n\xff\n"

RECORD = """\
import json, os, sys
record = {
    "argv": sys.argv[1:],
    "message": sys.stdin.buffer.read().decode("latin-1"),
    "files": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
    "session": os.getsid(0),
}
with open(%r, "w") as file:
    json.dump(record, file)
"""


def program(directory: Path, text: str, interpreter: str = "/bin/sh") -> str:
    path = directory / "sendmail"
    path.write_text(f"#!{interpreter}\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_what_sendmail_gets(tmp_path: Path) -> None:
    record = tmp_path / "record"
    python = f"{sys.executable} -IS"
    path = program(tmp_path, RECORD % str(record), python)
    kept, other = os.pipe()
    os.set_inheritable(other, True)
    notes: list[str] = []
    try:
        problem = submit(
            MESSAGE, "", ["-oops@b.test", "c d@b.test"], sendmail_path=path,
            note=notes.append,
        )  # fmt: skip
    finally:
        os.close(kept)
        os.close(other)
    assert problem == ""
    assert notes == []
    found = json.loads(record.read_text())
    assert found["argv"] == ["-G", "-i", "-f", "", "--", "-oops@b.test", "c d@b.test"]
    assert found["message"].encode("latin-1") == MESSAGE
    # The fourth is the listing's own.
    assert len(found["files"]) == 4
    assert other not in found["files"]
    assert found["session"] != os.getsid(0)


def test_nothing_reaches_our_own_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = program(tmp_path, "cat >/dev/null; echo one; echo two >&2")
    notes: list[str] = []
    assert submit(b"x\n", "", ["a@b"], sendmail_path=path, note=notes.append) == ""
    assert capfd.readouterr() == ("", "")
    assert notes == [f"{path}: one two"]


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        pytest.param("exit 75", "exit status 75: ", id="deferred"),
        pytest.param("echo no, sorry; exit 1", "exit status 1: no, sorry", id="why"),
        pytest.param(
            "printf 'a\\033[1mb\\n'; exit 1", "exit status 1: a?[1mb", id="ESC"
        ),
        pytest.param("kill -9 $$", "exit status -9: ", id="killed by someone"),
        pytest.param("head -c 100000 /dev/zero; exit 1", "exit status 1: ", id="noise"),
    ],
)
def test_not_accepted(tmp_path: Path, script: str, problem: str) -> None:
    path = program(tmp_path, script)
    notes: list[str] = []
    # More than a pipe holds: it is not read.
    message = b"x" * 200_000
    found = submit(message, "s@a", ["a@b"], sendmail_path=path, note=notes.append)
    assert found == problem
    assert notes == [f"warning: {path}: {problem}"]


@pytest.mark.parametrize(
    ("path", "recipients", "problem"),
    [
        ("sendmail", ["a@b"], "not an absolute path"),
        ("/nonexistent/sendmail", ["a@b"], "can't be run: "),
        ("/etc/passwd", ["a@b"], "can't be run: "),
        ("/usr/sbin/send\0mail", ["a@b"], "can't be run: "),
        ("/usr/sbin/sendmail", [], "no recipient"),
        ("/usr/sbin/sendmail", [""], "no recipient"),
    ],
)
def test_not_run(path: str, recipients: list[str], problem: str) -> None:
    found = submit(b"", "", recipients, sendmail_path=path, note=lambda text: None)
    assert found.startswith(problem)


@pytest.mark.attack("children: a sendmail(1) that hangs, with its children")
def test_a_sendmail_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    path = program(tmp_path, f"sleep 600 & echo $! >{tmp_path}/child; echo hm; wait")
    began = time.monotonic()
    found = submit(
        b"x\n", "", ["a@b"], sendmail_path=path, timeout=10, note=lambda text: None
    )
    assert found == "killed after 10 seconds: hm"
    assert time.monotonic() - began < 60
    child = int((tmp_path / "child").read_text())
    wait(lambda: not alive(child))


def test_accepted_though_a_child_goes_on(tmp_path: Path) -> None:
    path = program(tmp_path, "cat >/dev/null; (sleep 60) & exit 0")
    found = submit(
        b"x\n", "", ["a@b"], sendmail_path=path, timeout=20, note=lambda text: None
    )
    assert found == ""


def test_what_is_sent_by_a_process_that_is_killed_is_whole(tmp_path: Path) -> None:
    """To who reads a pipe, half a message would be a message."""
    started, copy = tmp_path / "started", tmp_path / "copy"
    survive = "while kill -0 $PPID; do sleep 0.01; done 2>/dev/null"
    path = program(
        tmp_path, f">{started}; {survive}; cat >{copy}.part; mv {copy}.part {copy}"
    )
    message = b"x" * 999 + b"\n"
    child = os.fork()
    if child == 0:
        submit(message * 300, "", ["a@b"], sendmail_path=path, note=lambda text: None)
        os._exit(1)
    wait(started.exists)
    os.kill(child, 9)
    os.waitpid(child, 0)
    wait(copy.exists)
    assert copy.read_bytes() == message * 300
