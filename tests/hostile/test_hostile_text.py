"""Text of a server, an address or a message that wants to be more than text."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from one_delivery import deliver

from scripted_server import ScriptedServer

EVIL = {
    "line": "x\rNov 22 12:00:00 mx postfix/smtp[1]: Q: to=<a@b>, status=sent (ok)",
    "clear": "\x1b[2J\x1b]0;title\x07\x1b[31m",
    "one-byte": "\x9b2J\x85next\x00gone",
    "separators": "a\u2028b\u2029c\x0bd\x0ce\x1cf",
    "directions": "\u202efdp.exe\u2066",
    "no-utf8": "\udcff\udcfe",
    "format": "%s %n {0} ${x} `id` $(id)",
}
REFUSAL = {name: f"550 5.7.1 {text}" for name, text in EVIL.items()}
# What no line on a terminal may hold. Those above 0x7f are two bytes of UTF-8.
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@pytest.mark.attack("log: replies with line ends, controls, formats, by stage")
@pytest.mark.parametrize("stage", ["banner", "ehlo", "rcpt", "eod"])
@pytest.mark.parametrize("name", EVIL)
def test_no_reply_forges_a_log_or_an_answer(
    tmp_path: Path, name: str, stage: str
) -> None:
    stages = {stage: REFUSAL[name]}
    if stage == "ehlo":
        stages["helo"] = REFUSAL[name]
    with ScriptedServer({"stages": stages, "keywords": []}) as server:
        done = deliver(server, tmp_path, "--queue-id", "Q1")
    assert done.code == (75 if stage == "banner" else 77)
    assert re.match(r"[45]\.7\.1 ", done.output), done.output
    # pipe(8) takes what stands before its first NUL, in one line.
    assert not re.search("[\0-\x1f\x7f]", done.output)
    assert done.log.endswith("\n")
    records = done.log.split("\n")[:-1]
    for record in records:
        assert re.search(r" postfix-trouble\[\d+\]: Q1: ", record), record
        assert not re.search("[\0-\x1f\x7f]", record)
    assert sum(" dsn=" in record for record in records) == 1


BY_HAND = [sys.executable, "-I", "-m", "postfix_trouble"]


@pytest.mark.attack("terminal: replies with escapes, for send and probe")
@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("command", ["send", "probe"])
def test_no_reply_reaches_the_terminal_raw(
    tmp_path: Path, name: str, command: str
) -> None:
    stages = {"rcpt": REFUSAL[name], "banner": f"220 mx {EVIL[name]}"}
    script: dict[str, Any] = {"stages": stages, "keywords": [f"X{EVIL[name]}"]}
    mail = tmp_path / "mail.eml"
    mail.write_bytes(b"Subject: x\n\nx\n")
    argv = [command, "-v", "--from", "me@example.org", "-o", "myhostname=me.test"]
    argv += ["--to", "you@example.com"]
    argv += ["--message", str(mail)] if command == "send" else []
    with ScriptedServer(script) as server:
        done = subprocess.run(
            [*BY_HAND, *argv, "--server", f"127.0.0.1:{server.port}"],
            capture_output=True,
            check=False,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        )
    shown = (done.stdout + done.stderr).decode("utf-8")
    assert "Traceback" not in shown
    assert "5.7.1" in shown or "550" in shown, shown
    assert not CONTROL.search(shown), CONTROL.search(shown)


@pytest.mark.attack("log: records in recipient, sender, queue id, attributes")
@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("where", ["recipient", "sender", "queue id", "attribute"])
def test_no_argument_forges_a_log(tmp_path: Path, where: str, name: str) -> None:
    text = os.fsencode(EVIL[name].partition("\0")[0].replace("\r", ""))
    address = b"x>, relay=evil, status=sent (" + text + b")@d.test"
    more: list[str | bytes] = ["--queue-id", "Q1"]
    recipients: tuple[bytes, ...] = (b"r@d.test",)
    if where == "recipient":
        recipients = (address,)
    elif where == "sender":
        more += ["--sender", address]
    elif where == "queue id":
        more += ["--queue-id", b"Q1: " + address]
    else:
        more += ["--attribute", b"NAME=" + address]
    with ScriptedServer({"keywords": ["SMTPUTF8", "8BITMIME"]}) as server:
        done = deliver(server, tmp_path, *more, recipients=recipients)
    records = done.log.split("\n")[:-1]
    for record in records:
        assert re.search(r" postfix-trouble\[\d+\]: Q1: ", record), record
        assert not re.search("[\0-\x1f\x7f]", record)
    # Only between quotes, or where the id stands, does it look like a record.
    (last,) = [record for record in records if " dsn=" in record]
    assert re.search(
        r", dsn=\d\.\d\.\d, status=(sent|bounced|deferred) \([^)]*\)$", last
    )
