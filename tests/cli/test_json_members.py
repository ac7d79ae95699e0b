"""Every member that a JSON object has stands in the manual page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from by_hand import LOCAL, output
from pseudo_terminal import piped

from postfix_trouble.core import sysexits
from scripted_server import ScriptedServer

PAGE = Path(__file__).parent.parent.parent / "man/postfix-trouble.1"
TO = ("--to", "you@example.com", "--to", "later@example.com")


def section(*names: str) -> set[str]:
    """The words of sections, where they are members of objects."""
    text = PAGE.read_text()
    found = ""
    for name in names:
        whole = re.search(rf"(?ms)^\.Sh {name}$(.*?)^\.Sh ", text)
        assert whole
        found += whole[1]
    lines = re.findall(r"(?m)^\.(?:It )?(?:Pq )?Sy (.*)$", found)
    return set(re.findall(r"[a-z_0-9]+", " ".join(lines)))


def members(value: Any) -> Iterator[str]:
    """The names of all members, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from members(inner)


@pytest.mark.parametrize("name", ["send", "probe"])
def test_members_of_a_session(name: str, certificates: Path) -> None:
    script = {
        "keywords": ("STARTTLS", "AUTH PLAIN"),
        "stages": {"rcpt:later@example.com": "450 no"},
    }
    with ScriptedServer(script, certificates=str(certificates)) as server:
        argv = [name, "--json", *TO, "--server", f"{LOCAL}:{server.port}"]
        done = output(*argv)
    found = set(members(json.loads(done.stdout)))
    # What the report of deliver has is told there.
    assert found <= section("SEND", "PROBE", "DELIVER", "EXIT STATUS")


@pytest.mark.parametrize("argv", [("550 no",), ("--summary",)])
def test_members_of_explain(argv: tuple[str, ...]) -> None:
    record = (
        "postfix/smtp[1]: 4ABCDE: to=<a@x.org>, relay=mx[192.0.2.1]:25, delay=1,"
        " delays=0/0/0/1, dsn=4.0.0, status=deferred (host mx[192.0.2.1] said:"
        " 450 no (in reply to RCPT TO command))"
    )
    for given in (argv, ("--json",)):
        done = output("explain", "--json", *given, text=record)
        found = set(members(json.loads(done.stdout.splitlines()[0])))
        assert found <= section("EXPLAIN", "EXIT STATUS")


def test_members_of_a_mistake() -> None:
    for name in ("send", "probe", "explain", "check"):
        found = members(json.loads(output(name, "--json", "--bogus").stdout))
        assert set(found) <= section("EXIT STATUS")


@pytest.mark.parametrize("shown", ["--no-dns", "--show", "--show-changed"])
def test_members_of_check(shown: str) -> None:
    done = output("check", "--json", "-o", "smtp_helo_timeout=5s", shown)
    assert set(members(json.loads(done.stdout))) <= section("CHECK")


@pytest.mark.parametrize("reply", ["250 2.1.5 Ok", "450 4.2.0 later", "550 5.1.1 no"])
def test_members_of_deliver(reply: str, certificates: Path) -> None:
    script = {
        "keywords": ("STARTTLS",),
        "tls": {"cert": "good"},
        "stages": {"rcpt": reply},
    }
    with ScriptedServer(script, certificates=str(certificates)) as server:
        settings = (
            "myhostname=a.test",
            "soft_bounce=yes",
            "smtp_tls_security_level=may",
        )
        argv = [word for pair in settings for word in ("-o", pair)]
        argv += ["--sender", "s@a.test", "--nexthop", f"[{LOCAL}]:{server.port}"]
        done = piped("deliver", "--json", *argv, "--", "r@b.test", text="A: b\n\n")
    found = set(members(json.loads(done.stdout)))
    assert {"cipher", "subject"} <= found <= section("DELIVER")


def codes(page: str) -> set[int]:
    """The exit codes that have an item of their own."""
    text = (PAGE.parent / page).read_text()
    status = text.partition("\n.Sh EXIT STATUS\n")[2].partition("\n.Sh ")[0]
    items = re.findall(r"(?m)^\.It ([\d ,]+)$", status)
    return {int(code) for code in re.findall(r"\d+", " ".join(items))}


def test_exit_codes() -> None:
    known = set(sysexits.NAMES)
    assert codes("postfix-trouble.1") == known | {130}
    assert codes("postfix-trouble.8") == known - {sysexits.EX_USAGE}
