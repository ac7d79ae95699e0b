"""Tokens printed by commands, good ones and bad ones."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.sasl import tokens
from processes import alive
from waiting import wait

NOW = 1_700_000_000.0


def python(code: str) -> str:
    return f'{sys.executable} -I -S -c "{code}" {{username}} {{host}}'


def get(command: str, **options: object) -> tuple[str | None, list[str]]:
    notes: list[str] = []
    arguments: dict[str, object] = {"now": NOW, "margin": 60.0, "note": notes.append}
    arguments.update(options)
    found = tokens.token(command, "me@x", "mx.test", **arguments)  # type: ignore[arg-type]
    return found, notes


def jwt(expires: object) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode())
    return f"head.{claims.decode().rstrip('=')}.tail"


def test_the_command_sees_no_shell() -> None:
    command = python("import sys; print('/'.join(sys.argv[1:]))") + " '$HOME;' `id`"
    assert get(command) == ("me@x/mx.test/$HOME;/`id`", [])


def test_a_token_may_be_long() -> None:
    assert get(python("print('x' * 300000)")) == ("x" * 300000, [])


READ = [
    ("abc\n", "abc", 0.0),
    ("  abc  ", "abc", 0.0),
    (jwt(NOW + 900), jwt(NOW + 900), NOW + 900),
    (jwt(str(NOW + 900)), jwt(str(NOW + 900)), NOW + 900),
    (jwt("soon"), jwt("soon"), 0.0),
    ("a.!!!.c", "a.!!!.c", 0.0),
    ('{"access_token": "abc", "expires_in": 600}', "abc", NOW + 600),
    ('{"access_token": "abc", "expires_in": "600"}', "abc", NOW + 600),
    ('{"access_token": "abc"}', "abc", 0.0),
    (json.dumps({"access_token": jwt(NOW + 9)}), jwt(NOW + 9), NOW + 9),
    ('{"error": "invalid_grant"}', "", 0.0),
    ("{not json", "", 0.0),
    ("", "", 0.0),
    ("two words", "", 0.0),
    ("two\nlines", "", 0.0),
    ("päss", "", 0.0),
]


@pytest.mark.parametrize(("output", "token", "expires"), READ)
def test_what_commands_print(output: str, token: str, expires: float) -> None:
    assert tokens._read(output.encode(), NOW) == (token, expires)


@given(st.binary(max_size=80))
def test_any_output_is_read(output: bytes) -> None:
    token, expires = tokens._read(output, NOW)
    assert "\r" not in token
    assert expires >= 0.0


FAILURES = [
    (python("import sys; sys.exit(3)"), "failed: 3"),
    (python("pass"), "no token in what"),
    ("/nonexistent/program", "/nonexistent/program: No such file or directory"),
    ("'open", "No closing quotation"),
]


@pytest.mark.parametrize(("command", "note"), FAILURES)
def test_no_token_and_why(command: str, note: str) -> None:
    found, notes = get(command)
    assert found is None
    assert any(note in line for line in notes)


def test_complaints_go_to_the_log_without_the_token(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = "import sys; print('canary-3141'); sys.stderr.write('got canary-3141\\a\\n')"
    found, notes = get(python(code))
    assert found == "canary-3141"
    assert len(notes) == 1
    assert notes[0].endswith(": got <hidden>?")
    assert capfd.readouterr() == ("", "")


@pytest.mark.attack("children: a token command that hangs, with its children")
def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    # The child of the child holds the pipe open, and would do so for a minute.
    script = tmp_path / "hang"
    script.write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/pid\nwait\n")
    script.chmod(0o700)
    start = time.monotonic()
    found, notes = get(str(script), limit=10)
    assert time.monotonic() - start < 60
    assert found is None
    assert "took more than 10s" in notes[0]
    # What is killed takes a moment to die.
    sleeper = int((tmp_path / "pid").read_text())
    wait(lambda: not alive(sleeper))


def test_tokens_are_kept_until_shortly_before_their_end() -> None:
    kept: dict[str, tuple[str, float]] = {}
    store = tokens.Store(
        lambda key: kept.get(key, ("", 0))[0],
        lambda key, token, expires: kept.update({key: (token, expires)}),
    )
    lasting = python(f"print('{jwt(NOW + 900)}')")
    assert get(lasting, store=store)[0] == jwt(NOW + 900)
    key = tokens.token_key(lasting, "me@x", "mx.test")
    assert kept == {key: (jwt(NOW + 900), NOW + 840)}
    kept[key] = ("kept", NOW + 840)
    assert get(lasting, store=store)[0] == "kept"
    kept.clear()
    for expires in (NOW + 59, 0):
        assert get(python(f"print('{jwt(expires)}')"), store=store)[0]
    assert kept == {}
