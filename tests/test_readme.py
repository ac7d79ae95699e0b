"""A walk through README.md: its commands are run, one after the other, as they stand.

In a fresh checkout, on a machine on which nothing is set up. In a block of code, what
begins with the name of a program is a command, and `$ ` makes one of any line; what
comes between two `$ ` is the output, `...` standing for any text.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dns_server import serving
from fresh_checkout import ROOT, fresh_checkout, open_place, run
from private_network import NAME_SERVER
from scripted_server import ScriptedServer

pytestmark = pytest.mark.first

PROGRAMS = (
    "make", "postfix-trouble", ".venv/bin/", "sudo ", "cat ", "echo ", "man ", "sed ",
    "postconf ",
)  # fmt: skip
# Not run as they stand: all tests in a test would be a few too many.
INSTEAD = {
    "make test": "make test PYTEST_ARGS=tests/dns/test_nexthop.py",
}
# Run elsewhere: they change the machine, or take as long as all other tests.
ELSEWHERE = {
    "make install": "test_install.py",
    "sed -n": "test_install.py",
    "postconf -e": "test_install.py",
    "echo 'example.com": "test_install.py",
    "make uninstall": "test_install.py",
    "make deb": "test_install.py",
    "make check": ".ci/run",
    "make bench": "bench/",
}
# Where it says what is wrong with this machine; all others end with 0.
MAY_FIND_FAULTS = "postfix-trouble check"

HOST = "127.0.0.11"
ZONE = {
    "example.com": {"MX": ["10 mail.example.com."]},
    "mail.example.com": {"A": [HOST]},
}
MESSAGE = "From: me@example.org\nTo: you@example.com\nSubject: hello\n\nHello\n"


def blocks(text: str) -> Iterator[list[str]]:
    """The blocks of code, without their indentation."""
    for match in re.finditer(
        r"(?m)^```\w*\n(.*?)^```$|((?:^ {4}[^\n]*\n(?:\n(?= {4}))?)+)", text, re.S
    ):
        fenced, indented = match.groups()
        lines = (fenced or indented).splitlines()
        yield lines if fenced else [line[4:] for line in lines]


def commands(block: list[str]) -> list[tuple[str, str]]:
    """Each command with the output that is printed for it."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(block)).split("\n")
    dollars = any(line.startswith("$ ") for line in joined)
    found: list[tuple[str, str]] = []
    for line in joined:
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif dollars and found:
            command, output = found[-1]
            found[-1] = (command, f"{output}{line}\n")
        elif line.startswith(PROGRAMS):
            found.append((line, ""))
    return [(re.sub(r"\s+#.*", "", command).strip(), text) for command, text in found]


EVERY = [
    pair
    for block in blocks((ROOT / "README.md").read_text())
    for pair in commands(block)
]


def matches(shown: str, wanted: str) -> bool:
    """Whether it is what README.md prints, with blanks as they come."""
    words = ".*?".join(re.escape(part) for part in wanted.strip().split("..."))
    return bool(re.fullmatch(words, shown.strip(), re.DOTALL))


def test_blocks_are_understood() -> None:
    found = [command for command, _ in EVERY]
    assert {"make demo", "make install"} <= set(found)
    assert any(".venv/bin/postfix-trouble explain" in command for command in found)


def by_hand(tree: Path, command: str) -> str:
    """Run it in the network in which the tests are."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tree,
        env={"PATH": f"{tree}/.venv/bin:/usr/bin:/bin", "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    fine = (0, 78) if MAY_FIND_FAULTS in command else (0,)
    assert done.returncode in fine, f"{command}\n{done.stdout}"
    assert "Traceback" not in done.stdout
    return done.stdout


@pytest.mark.long
@pytest.mark.timeout(600)
def test_walk(own_network: None) -> None:
    with open_place() as place:
        tree = fresh_checkout(place)
        (tree / "message.eml").write_text(MESSAGE)
        with (
            serving(ZONE, NAME_SERVER, 53),
            ScriptedServer(listen=f"{HOST}:25") as server,
        ):
            for command, wanted in EVERY:
                if " ".join(command.split()[:2]) in ELSEWHERE:
                    continue
                if command.startswith("make"):
                    shown = run(tree, INSTEAD.get(command, command))
                else:
                    shown = by_hand(tree, command)
                assert shown.strip(), command
                if wanted:
                    assert matches(shown, wanted), f"{command}\n{shown}"
        received = [text for one in server.connections for text in one.messages]
        assert len(received) == sum("--server" in c or "deliver" in c for c, _ in EVERY)
