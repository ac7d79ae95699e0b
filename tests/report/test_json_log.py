"""trouble_log_format = json: what a program reads in the log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from postfix_trouble.report.json_log import rendered
from postfix_trouble.report.maillog import MailLog
from scripted_server import ScriptedServer
from waiting import listening, wait

JSON = "trouble_log_format=json"


def deliver(
    program: str, log: Path, nexthop: str, *options: str, to: str = "r@b.test"
) -> list[dict[str, Any]]:
    """The records of one delivery."""
    argv = [
        *(program, "deliver", "--sender", "s@a.test", "--nexthop", nexthop),
        *("--queue-id", "4E1A", "--log-file", str(log), "-o", JSON, *options),
    ]
    message = b"Subject: x\n\nx\n"
    subprocess.run([*argv, "--", to], input=message, check=False)
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize(
    ("reply", "dsn", "status", "reason"),
    [
        ("250 2.1.5 Ok", "2.0.0", "sent", "250 2.0.0 Ok: queued as SAMPLE"),
        ('450 4.2.1 "later"', "4.2.1", "deferred", '450 4.2.1 "later"'),
        ("550 5.1.1 no", "5.1.1", "bounced", "550 5.1.1 no"),
    ],
)
def test_recipient(
    program: str, tmp_path: Path, reply: str, dsn: str, status: str, reason: str
) -> None:
    with ScriptedServer({"stages": {"rcpt": reply}}) as server:
        at = f"[127.0.0.1]:{server.port}"
        options = ("--original-recipient", "o@b.test", "-o", "syslog_name=postfix-x")
        (record,) = deliver(program, tmp_path / "log", at, *options)
    assert datetime.fromisoformat(record.pop("time")).tzinfo is not None
    assert record.pop("host") == os.uname().nodename
    assert record.pop("pid") > 1
    assert record.pop("delay") >= 0
    parts = record.pop("delays")
    assert len(parts) == 4
    assert all(part >= 0 for part in parts)
    assert reason in record.pop("reason")
    assert record == {
        "name": "postfix-x",
        "queue_id": "4E1A",
        "to": "r@b.test",
        "orig_to": "o@b.test",
        "relay": f"127.0.0.1[127.0.0.1]:{server.port}",
        "tls": "none",
        "dsn": dsn,
        "status": status,
    }


def test_other_records(program: str, tmp_path: Path) -> None:
    with ScriptedServer({"stages": {"banner": "220 hi\n220 there"}}) as server:
        at = f"[127.0.0.1]:{server.port}"
        found = deliver(program, tmp_path / "log", at, "-v")
    words = [record for record in found if "message" in record]
    assert words
    assert {record["queue_id"] for record in found} == {"4E1A"}
    assert "In:  220" in " ".join(record["message"] for record in words)


ORIGIN = {"time": "2026-01-01T00:00:00.000+00:00", "pid": 2}
TEXTS = [
    ("4SAMPLE: warning: a: b", {"queue_id": "4SAMPLE", "level": "warning",
                                "message": "a: b"}),
    ("NOQUEUE: text", {"queue_id": "NOQUEUE", "message": "text"}),
    ("engine: listening on x", {"message": "engine: listening on x"}),
    ("fatal: 1: x", {"level": "fatal", "message": "1: x"}),
    ("warning: state: x", {"level": "warning", "message": "state: x"}),
    ('say "x"\n{}', {"message": 'say "x"?{}'}),
    ("\udcff \u00fc", {"message": "? \u00fc"}),
    ("", {"message": ""}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "members"), TEXTS)
def test_words(text: str, members: dict[str, str]) -> None:
    line = rendered(text, ORIGIN)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {**ORIGIN, **members}


def test_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "log")
    monkeypatch.setattr("postfix_trouble.report.maillog.SYSLOG", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        daemon.settimeout(60)
        log = MailLog("postfix", json=True)
        log.write("4E1A: warning: x")
        log.close()
        head, _, text = daemon.recv(4096).decode().partition("]: ")
    assert head.startswith("<22>")
    assert json.loads(text)["message"] == "x"


def test_the_engine_too(program: str, tmp_path: Path) -> None:
    path, log = tmp_path / "engine", tmp_path / "log"
    argv = [program, "serve", f"--listen=unix:{path}", "--log-file", str(log)]
    engine = subprocess.Popen([*argv, "-o", JSON], start_new_session=True)
    try:
        wait(lambda: listening(path))
        wait(lambda: log.exists() and log.read_text())
        (record,) = [json.loads(line) for line in log.read_text().splitlines()]
        assert record["message"].startswith("engine: listening on unix:")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(engine.pid, signal.SIGTERM)
        assert engine.wait(30) == 0
