"""Which Postfix is followed, on the command line of `deliver`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scripted_server import ScriptedServer

PROGRAM = [sys.executable, "-I", "-m", "postfix_trouble", "deliver"]


def deliver(nexthop: str, *options: str, sender: str = "s@d.test") -> tuple[int, str]:
    argv = [*PROGRAM, "-o", "myhostname=me.test", "--log-file", "/dev/null", *options]
    argv += ["--sender", sender, "--nexthop", nexthop, "--", "r@d.test"]
    done = subprocess.run(
        argv, input=b"Subject: x\n\nhello\n", capture_output=True, check=False
    )
    return done.returncode, done.stdout.decode()


@pytest.mark.parametrize("version", ["3.7", "3.8", "3.9", "3.10"])
def test_requiretls_is_never_passed_over(version: str) -> None:
    with ScriptedServer() as server:
        code, line = deliver(
            f"[127.0.0.1]:{server.port}",
            *("-o", f"trouble_postfix_version={version}", "--requiretls"),
        )
    text = "REQUIRETLS needs trouble_postfix_version = 3.11 or later"
    assert (code, line) == (75, f"4.7.5 {text}")
    assert server.connections == []


@pytest.mark.parametrize("version", ["3.7", "3.10", "3.11", "3.12", ""])
def test_server_without_smtputf8(version: str) -> None:
    options = ["-o", f"trouble_postfix_version={version}"] if version else []
    with ScriptedServer() as server:
        where = f"[127.0.0.1]:{server.port}"
        code, line = deliver(where, *options, "--smtputf8", sender="\u00fc@d.test")
    assert code == 69 or line.startswith("5.6.7 "), line
    old = "SMTPUTF8 is required, but was not offered by host"
    new = "message requires SMTPUTF8, but no server was found that supports SMTPUTF8"
    assert (old if version in ("3.7", "3.10") else new) in line


@pytest.mark.parametrize(
    "setting",
    ["trouble_postfix_version=2.11", "trouble_smtputf8_try_next_host=yes"],
)
def test_what_is_not_known_is_a_mistake(setting: str) -> None:
    code, line = deliver("[127.0.0.1]:9", "-o", setting)
    assert code == 75
    assert line.startswith("4.3.5 ")
    assert setting.partition("=")[0] in line
