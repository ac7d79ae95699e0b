"""Passwords and tokens are never seen, whatever goes wrong: a canary is looked for.

Everything that a run leaves behind is searched, as it is and with what is base64 in it
decoded: output, log, transcript, bounces and notices, the command lines and the
environment of all processes, the state directory. The server is as indiscreet as it
can be.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from postfix_trouble.sasl.choose import Credentials
from scripted_server import Connection, ScriptedServer

CANARY = "Kanarienv\u00f6gel-3141-zwitschern"
USER = "sender"
MESSAGE = b"Received: by x; Mon, 1 Jan 2024 00:00:00 +0000\nSubject: x\n\nHello.\n"
OFFER = ("AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER", "ENHANCEDSTATUSCODES")
# For mechanisms in the clear, without the trouble of TLS.
BASIS = {
    "myhostname": "me.example.test",
    "smtp_sasl_auth_enable": "yes",
    "smtp_sasl_security_options": "noanonymous",
    "notify_classes": "bounce delay policy protocol resource software",
    "smtp_sasl_auth_cache_name": "yes",
}
TOKEN = "Y2FuYXJ5-token-3141-zwitschern"

_PLAIN = base64.b64encode(f"\0{USER}\0{CANARY}".encode()).decode()
_PASSWORD = base64.b64encode(CANARY.encode()).decode()
_BEARER = base64.b64encode(f"user={USER}\1auth=Bearer {TOKEN}\1\1".encode()).decode()


class Case(NamedTuple):
    """What is configured, and how the server answers."""

    stages: dict[str, Any]
    mechanism: str = "plain"
    # Contents of the password file; {place} is the server.
    passwords: str = f"{{place}} {USER}:{CANARY}\n"
    # Python code that prints a token.
    token_command: str = ""
    mode: int = 0o600
    settings: Mapping[str, str] = {}


def _print(text: str) -> str:
    """Code that prints a text which is in nobody's command line."""
    return f"print(bytes.fromhex('{text.encode().hex()}').decode())"


_REFUSED = "535 5.7.8 no"
_LATER = {"mail": f"550 5.7.1 I know {CANARY} {_PLAIN}"}
CASES: dict[str, Case] = {
    "right": Case({}),
    "right-login": Case({}, "login"),
    "right-cram": Case({}, "cram-md5"),
    "right-bounced": Case(
        {
            "mail": {"raw": f"what is {_PLAIN}?\r\n250 2.1.0 ok\r\n"},
            "rcpt#2": "550 5.1.1 no such user",
        }
    ),
    "wrong": Case({"auth": _REFUSED}),
    "wrong-echo": Case({"auth": f"535 5.7.8 {_PLAIN} is {CANARY}"}),
    "wrong-echo-lines": Case({"auth": f"535-5.7.8 {_PLAIN}\n535 5.7.8 {CANARY}"}),
    "wrong-echo-for-good": Case(
        {"auth": f"535 5.7.8 {CANARY}"}, settings={"smtp_sasl_auth_soft_bounce": "no"}
    ),
    "wrong-login": Case(
        {"auth": {"challenge": True, "final": f"535 5.7.8 {_PASSWORD}"}}, "login"
    ),
    "wrong-cram": Case({"auth": {"challenge": True, "final": _REFUSED}}, "cram-md5"),
    "garbage": Case({"auth": {"raw": f"{CANARY} {_PLAIN}?\r\n", "then": "close"}}),
    "hangs-up": Case({"auth": {"reply": f"421 {_PLAIN}", "then": "close"}}),
    "challenge-too-many": Case({"auth": f"334 {_PLAIN}"}),
    "bad-challenge": Case({"auth": f"334 {CANARY}"}),
    "echo-later": Case(_LATER),
    "echo-in-rcpt": Case({"rcpt": f"550 5.1.1 {_PLAIN}"}),
    "no-mechanism": Case({}, "scram-sha-256"),
    "open-file": Case({}, mode=0o644),
    "no-user": Case({}, passwords=f"{{place}} {CANARY}\n"),
    "no-value": Case({}, passwords=f"{CANARY}\n{{place}}\n"),
    "bad-syntax": Case({}, passwords=f"{{{{place}} = {USER}:{CANARY}\n {CANARY}"),
    "inline": Case(
        {"auth": _REFUSED},
        settings={"smtp_sasl_password_maps": f"inline:{{{{place}}={USER}:{CANARY}}}"},
    ),
    "inline-broken": Case(
        {},
        settings={"smtp_sasl_password_maps": f"inline:{{{{place}}={USER}:{CANARY}"},
    ),
    "static": Case({}, settings={"smtp_sasl_password_maps": f"static:{USER}:{CANARY}"}),
    "token": Case({}, "xoauth2", token_command=_print(TOKEN)),
    "token-refused": Case(
        {"auth": f"535 5.7.8 {TOKEN} {_BEARER}"},
        "xoauth2",
        token_command=_print(TOKEN),
    ),
    "token-bearer": Case(
        {"auth": f"535 5.7.8 {TOKEN}"}, "oauthbearer", token_command=_print(TOKEN)
    ),
    "token-complained-of": Case(
        {
            "auth": "334 "
            + base64.b64encode(f'{{"status":"401","t":"{TOKEN}"}}'.encode()).decode()
        },
        "xoauth2",
        token_command=_print(TOKEN),
    ),
    "token-of-two-words": Case(
        {}, "xoauth2", token_command=_print(f"{TOKEN} {CANARY}")
    ),
    "token-chatty": Case(
        {},
        "xoauth2",
        token_command=f"import sys; {_print(TOKEN)};"
        f" sys.stderr.write(bytes.fromhex('{TOKEN.encode().hex()}').decode())",
    ),
    "token-failed": Case(
        {}, "xoauth2", token_command=f"import sys; {_print(TOKEN)}; sys.exit(1)"
    ),
}


# --- a run --------------------------------------------------------------------------


class Traces(NamedTuple):
    """All that a run left behind, by what it is."""

    text: dict[str, bytes]
    connections: list[Connection]
    status: int


def _settings(case: Case, tmp_path: Path, place: str) -> str:
    """A main.cf."""
    passwords = tmp_path / "sasl_passwd"
    passwords.write_text(case.passwords.replace("{place}", place))
    passwords.chmod(case.mode)
    values = {
        **BASIS,
        "smtp_sasl_password_maps": f"texthash:{passwords}",
        "smtp_sasl_mechanism_filter": case.mechanism,
        "sendmail_path": str(tmp_path / "sendmail"),
        **{n: v.replace("{place}", place) for n, v in case.settings.items()},
    }
    if case.token_command:
        code = tmp_path / "token.py"
        code.write_text(case.token_command)
        command = f"{sys.executable} -I -S {code} {{username}} {{host}}"
        values["trouble_sasl_token_command"] = command
    return "".join(f"{name} = {value}\n" for name, value in values.items())


def _run(case: Case, tmp_path: Path, program: str, *options: str) -> Traces:
    """Deliver to two recipients, and collect everything."""
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(f'#!/bin/sh\n{{ echo "$@"; cat; }} >>{tmp_path}/mailed\n')
    sendmail.chmod(0o755)
    (tmp_path / "state").mkdir(mode=0o700, exist_ok=True)
    (tmp_path / "mailed").touch()
    with ScriptedServer({"keywords": OFFER, "stages": case.stages}) as server:
        place = f"[127.0.0.1]:{server.port}"
        (tmp_path / "main.cf").write_text(_settings(case, tmp_path, place))
        argv = [program, "deliver", "--config", f"{tmp_path}/main.cf", *options]
        argv += ["--log-file", f"{tmp_path}/log", "--nexthop", place]
        argv += ["--queue-id", "Q1", "--sender", "s@sender.test", "--"]
        argv += ["a@rcpt.test", "b@rcpt.test"]
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin
        process.stdin.write(MESSAGE)
        process.stdin.close()
        process.stdin = None
        seen = b"".join(_watched(process))
        output, errors = process.communicate()
    text = {
        "output": output,
        "errors": errors,
        "processes": seen,
        "log": (tmp_path / "log").read_bytes(),
        "mailed": (tmp_path / "mailed").read_bytes(),
    }
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            text[f"state/{path.name}"] = path.read_bytes()
    return Traces(text, server.connections, process.returncode)


def _watched(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Command line and environment of the program and its children, all the time."""
    seen = set()
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getpgid(int(directory.name)) != process.pid:
                    continue
                for name in ("cmdline", "environ"):
                    seen.add((directory / name).read_bytes())
    yield from seen


def finds(text: bytes) -> list[str]:
    """The secrets in a text, also where it is base64."""
    shown = [text]
    for word in re.findall(rb"[A-Za-z0-9+/]{8,}={0,2}", text):
        with contextlib.suppress(ValueError):
            shown.append(base64.b64decode(word + b"=" * (-len(word) % 4)))
    ascii_part = CANARY.partition("\u00f6")[2]
    return [
        secret
        for secret in (CANARY, ascii_part, TOKEN)
        if any(secret.encode() in one for one in shown)
    ]


@pytest.mark.attack(
    "secrets: a server that repeats them, everything searched for a canary"
)
@pytest.mark.more
@pytest.mark.parametrize("options", [("--json", "-v"), ("-v",)], ids=["json", "pipe"])
@pytest.mark.parametrize("name", CASES)
def test_nobody_sees_a_secret(
    tmp_path: Path, program: str, name: str, options: tuple[str, ...]
) -> None:
    state = ("--state-directory", f"{tmp_path}/state")
    traces = _run(CASES[name], tmp_path, program, *options, *state)
    assert traces.text["errors"] == b""
    # Tokens are kept in the state directory on purpose.
    places = {p: t for p, t in traces.text.items() if not p.startswith("state/")}
    assert {place: finds(text) for place, text in places.items() if finds(text)} == {}
    for place, text in traces.text.items():
        assert CANARY.encode() not in text, place
    for path in (tmp_path / "state").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_the_canary_is_used(tmp_path: Path, program: str) -> None:
    """Or not finding it anywhere would show nothing."""
    traces = _run(CASES["right"], tmp_path, program, "--json")
    assert f"AUTH PLAIN {_PLAIN}" in traces.connections[0].commands
    assert finds(_PLAIN.encode())
    assert finds(_BEARER.encode())


@pytest.mark.attack("secrets: a canary in bounces and notices")
def test_bounces_and_notices_are_among_what_is_searched(
    tmp_path: Path, program: str
) -> None:
    case = CASES["right-bounced"]
    traces = _run(case, tmp_path, program, "--state-directory", f"{tmp_path}/state")
    assert traces.status == 0
    mailed = traces.text["mailed"]
    assert b"Undelivered Mail Returned to Sender" in mailed
    assert b"Transcript of session follows" in mailed
    assert b"AUTH PLAIN <hidden>" in mailed


def test_values_do_not_show_them() -> None:
    credentials = Credentials(USER, CANARY)
    assert CANARY not in f"{credentials} {credentials!r} {[credentials]}"
    assert TOKEN not in repr(credentials.with_token(TOKEN))
