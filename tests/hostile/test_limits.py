"""What the program is given to carry, keep and start: sizes, secrets, directories."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from one_delivery import deliver

import needs
from postfix_trouble.report import sendmail
from postfix_trouble.sasl import tokens
from scripted_server import ScriptedServer

SUNK = {75, 65, 67, 68, 69, 76, 77}

# --- the command line ---------------------------------------------------------------


@pytest.mark.attack("memory: 5,000 recipients")
def test_five_thousand_recipients(tmp_path: Path) -> None:
    recipients = tuple(f"user{number}@d.test" for number in range(5000))
    state = tmp_path / "state"
    with ScriptedServer({}) as server:
        more = ("--state-directory", str(state), "--json")
        done = deliver(server, tmp_path, *more, recipients=recipients)
    assert done.code == 0, done.output[:500]
    assert len(json.loads(done.output)["recipients"]) == 5000
    heard = [x for x in server.connections[0].commands if x.startswith("RCPT")]
    assert len(set(heard)) == 5000


@pytest.mark.attack("addresses: arguments of 100 kbytes")
@pytest.mark.parametrize("where", ["--sender", "--nexthop", "--queue-id", "--envid"])
def test_arguments_of_a_hundred_kilobytes(tmp_path: Path, where: str) -> None:
    with ScriptedServer({"keywords": ["DSN"]}) as server:
        done = deliver(server, tmp_path, where, "x" * 100_000)
    assert done.code in (0, 75, 68, 69)
    assert len(done.output) <= 4000
    assert bool(server.connections and server.connections[0].messages) is (
        not done.code
    )


WORDS = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            *(b"--", b"-", b"--json", b"-v", b"--help", b"--version", b"deliver"),
            *(b"--sender", b"--nexthop", b"--queue-id", b"-o", b"--size", b"--ret"),
            *(b"--notify", b"--orcpt", b"--age", b"--encoding", b"--lmtp"),
            *(b"[127.0.0.1]:9", b"smtp_mx_session_limit=x", b"NEVER", b"hdrs", b"7"),
            *(b"@launcher=1", b"a@b", b"\xff@\xfe", b"\xed\xa0\x80@d", b"--config=/"),
        ]
    ),
).map(lambda word: word.replace(b"\0", b""))


@pytest.mark.attack("addresses: any arguments (hypothesis)")
@given(st.lists(WORDS, max_size=9))
@settings(max_examples=60)
@example(
    [b"--nexthop", b"[127.0.0.1]:9", b"--sender", b"\xff@d", b"--", b"\xed\xa0\x80"]
)
@example([b"--nexthop", b"[127.0.0.1]:9", b"--attribute", b"\xff=\n", b"--", b"r@d"])
def test_no_command_line_is_a_success(words: list[bytes]) -> None:
    """Nobody listens at that port, so there is nothing to be successful with."""
    code, output = in_a_child([os.fsdecode(word) for word in words])
    assert code in SUNK, (code, output)
    assert output[:1] in (b"4", b"5", b"{"), output


def in_a_child(argv: list[str]) -> tuple[int, bytes]:
    """Run deliver in a fork of this process: its code, and what it printed."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 99
        try:
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor, place in ((nothing, 0), (writing, 1), (nothing, 2)):
                os.dup2(descriptor, place)
            from postfix_trouble.pipe.deliver import run

            code = run(argv)
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        output = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output


# --- the state directory ------------------------------------------------------------


@pytest.mark.attack("state: root's directory, run as nobody")
def test_state_directory_of_another_user(tmp_path: Path) -> None:
    """What is there may be a trap: nothing that has to be kept is tried."""
    needs.root()
    needs.open_to_others(sys.executable)
    nobody = 65534
    # All that pytest has made for itself is closed to others.
    for path in (tmp_path, *tmp_path.parents):
        if not path.stat().st_mode & 0o001:
            path.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (tmp_path / "log").touch()
    os.chown(tmp_path / "log", nobody, nobody)
    more = ("--state-directory", str(state))
    with ScriptedServer({}) as server:
        both = ("r@d.test", "s@d.test")
        done = deliver(server, tmp_path, *more, user=nobody, recipients=both)
        assert not server.connections
        one = deliver(server, tmp_path, *more, user=nobody)
    assert done.code == 75
    assert done.output.startswith("4.3.0 "), done.output
    assert "owned by root" in done.log
    # One recipient needs no ledger.
    assert one.code == 0
    assert "owned by root" in one.log
    assert list(state.iterdir()) == []


@pytest.mark.attack("state: umask 0")
def test_nobody_else_can_read_what_is_kept(tmp_path: Path) -> None:
    state = tmp_path / "state"
    script = {"stages": {"rcpt:late@d.test": "450 4.2.0 later"}}
    with ScriptedServer(script) as server:
        more = ("--state-directory", str(state), "--queue-id", "Q1")
        both = ("r@d.test", "late@d.test")
        done = deliver(server, tmp_path, *more, recipients=both, umask=0)
    assert done.code == 75
    found = [state, *state.rglob("*")]
    assert len(found) > 1
    for path in found:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


# --- secrets ------------------------------------------------------------------------

SECRET = "canary-3141592"
IN_LINES = base64.b64encode(f"\0user\0{SECRET}".encode()).decode()


@pytest.mark.attack("secrets: a server that repeats them, 256 MiB")
@pytest.mark.parametrize(
    "answer",
    [
        "235 2.7.0 welcome",
        f"535 5.7.8 no: {IN_LINES} {SECRET}",
        f"454 4.7.0 later {SECRET}",
        {"raw": f"334 {IN_LINES}\r\n"},
        {"raw": f"{IN_LINES}\r\n535 {SECRET}\r\n", "then": "close"},
    ],
    ids=["accepted", "refused", "later", "challenge", "garbage"],
)
def test_secret_stays_secret(tmp_path: Path, answer: Any) -> None:
    """Not even a server that repeats it has it written down anywhere."""
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    mailbox = tmp_path / "notices"
    collector = tmp_path / "sendmail"
    collector.write_text(f"#!/bin/sh\ncat >>{mailbox}\n")
    collector.chmod(0o755)
    state = tmp_path / "state"
    stages = {"auth": answer, "mail": "999 what"}
    with ScriptedServer({"stages": stages, "keywords": ["AUTH PLAIN"]}) as server:
        passwords.write_text(f"[127.0.0.1]:{server.port} user:{SECRET}\n")
        found = [
            deliver(
                server,
                tmp_path,
                *more,
                *("--state-directory", str(state), "-v"),
                *("-o", "smtp_sasl_auth_enable=yes"),
                *("-o", f"smtp_sasl_password_maps=texthash:{passwords}"),
                *("-o", "smtp_sasl_security_options="),
                *("-o", "notify_classes=protocol,resource,software"),
                *("-o", f"sendmail_path={collector}"),
            )
            for more in ((), ("--json",))
        ]
    heard = str([c.commands for c in server.connections])
    assert "AUTH PLAIN" in heard
    for text in (
        *(done.output + done.log for done in found),
        mailbox.read_text() if mailbox.exists() else "",
        *(path.read_bytes().decode("latin-1") for path in state.rglob("*")),
    ):
        assert SECRET not in text
        assert IN_LINES not in text
    assert found[0].code == (76 if answer == "235 2.7.0 welcome" else 75)


# --- children -----------------------------------------------------------------------


def program(directory: Path, text: str) -> str:
    path = directory / "child"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.attack("children: a token command without end")
@pytest.mark.parametrize("descriptor", [1, 2])
def test_a_token_command_without_end(tmp_path: Path, descriptor: int) -> None:
    """It is ended when it has said more than a token can be, not when time is up."""
    path = program(tmp_path, f"exec cat /dev/zero >&{descriptor}")
    notes: list[str] = []
    begun = time.monotonic()
    found = tokens.token(
        path, "user", "host", now=0, margin=60, note=notes.append, limit=600
    )
    assert found is None
    assert time.monotonic() - begun < 60
    assert len(notes) == 1
    assert "more than" in notes[0]


@pytest.mark.attack("children: a sendmail(1) without end")
def test_a_sendmail_without_end(tmp_path: Path) -> None:
    """What it says is kept in memory, so there is an end to that."""
    path = program(tmp_path, "cat >/dev/null; cat /dev/zero; exit 7")
    notes: list[str] = []
    begun = time.monotonic()
    problem = sendmail.submit(
        b"x\n", "", ["a@b"], sendmail_path=path, timeout=600, note=notes.append
    )
    assert problem.startswith("killed after 1048576 bytes of output")
    assert time.monotonic() - begun < 60
