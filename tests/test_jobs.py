"""docs/jobs.md and the examples of the manual page are run as they stand; each command
of the former ends as its table says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import needs
from dns_server import serving
from private_network import NAME_SERVER, put_over
from scripted_server import Script, ScriptedServer

# Behind one another they take a minute.
pytestmark = pytest.mark.more
ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/jobs.md").read_text()
SERVERS: dict[str, Script] = {
    "example.com": {"stages": {"rcpt:nobody@example.com": "550 5.1.1 no such user"}},
    "grey.example": {"stages": {"rcpt": "450 4.7.1 Greylisted"}},
    "gone.example": {"stages": {"eod": {"then": "close"}}},
    "tls.example": {
        "keywords": ("STARTTLS", "AUTH PLAIN LOGIN"),
        "tls": {"cert": "selfsigned"},
        "stages": {"auth": "535 5.7.8 Authentication failed"},
    },
}
# Of what stands in code in the rows of ours, what is in its output.
SHOWN = re.compile(r"`([^`]+)`")


def jobs() -> Iterator[Any]:
    """Title, command, exit status, and what one learns."""
    for job in PAGE.split("\n## ")[1:]:
        title = job.splitlines()[0]
        rows = re.findall(r"(?m)^\| ([\w-]+) \| (\d+) \| (.*) \|$", job)
        learnt = {name: (int(code), words) for name, code, words in rows}
        for command in re.findall(r"(?m)^    (\S.*)$", job):
            name = command.split()[0]
            number = title.partition(".")[0]
            yield pytest.param(command, *learnt.pop(name), id=f"{number}-{name}")
        assert not learnt, title


@pytest.fixture(scope="module")
def place(
    own_network: None, certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A directory, in a network in which there are the servers."""
    directory = tmp_path_factory.mktemp("jobs")
    text = "From: me@example.org\nTo: you@example.com\nSubject: hello\n\nHello\n"
    (directory / "message.eml").write_text(text)
    (directory / "secret").write_text("pw\n")
    (directory / "secret").chmod(0o600)
    backup = "backup.example.com"
    zone: dict[str, Any] = {backup: {"A": ["127.0.0.40"]}}
    with ExitStack() as stack:
        for number, (domain, script) in enumerate(SERVERS.items(), 31):
            zone[domain] = {"MX": [f"10 mail.{domain}."]}
            zone[f"mail.{domain}"] = {"A": [f"127.0.0.{number}"]}
            listen = f"127.0.0.{number}:25"
            stack.enter_context(
                ScriptedServer(script, listen=listen, certificates=str(certificates))
            )
        zone["example.com"]["MX"].append(f"20 {backup}.")
        stack.enter_context(serving(zone, NAME_SERVER, 53))
        yield directory


def typed(command: str, place: Path) -> subprocess.CompletedProcess[str]:
    """What a shell makes of it, there."""
    programs = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=place,
        env={"PATH": programs, "HOME": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("command", "code", "learnt"), [*jobs()])
def test_job(command: str, code: int, learnt: str, place: Path) -> None:
    program = command.split()[0]
    ours = program == "postfix-trouble"
    if not ours:
        needs.tool(program)
    if program == "swaks":
        needs.perl_modules("Net::DNS", "Net::SSLeay")
    done = typed(command, place)
    assert done.returncode == code, done.stdout
    said = " ".join(done.stdout.split())
    for words in SHOWN.findall(learnt) if ours else ():
        if not words.startswith("--"):
            parts = [re.escape(part.strip()) for part in words.split("...")]
            assert re.search(".*".join(parts), said)


def test_there_are_ten() -> None:
    assert len(list(jobs())) == 30
    assert len(examples(1)) > 5


def examples(section: int) -> list[str]:
    """The commands of EXAMPLES in a manual page."""
    page = (ROOT / f"man/postfix-trouble.{section}").read_text()
    body = page.partition("\n.Sh EXAMPLES\n")[2].partition("\n.Sh ")[0]
    found = re.findall(r"(?ms)^\.Dl (.*?)$|^\.Bd .*?\n(.*?)\n\.Ed$", body)
    return [(line or block).replace("\\e\n", "") for line, block in found]


# What pipe(8) puts there.
MACROS = {
    "queue_id": "4ABC",
    "size": "100",
    "nexthop": "example.com",
    "sender": "me@example.org",
    "recipient": "you@example.com",
}


def test_examples_of_master_cf(place: Path) -> None:
    """Those of postfix-trouble(8): with TLS or not at all, and with more patience."""
    entry, patience, asked = examples(8)
    (place / "main.cf").write_text("myhostname = me.example.org\n")
    command = entry.removeprefix("argv=/usr/local/bin/").replace("\n", " ")
    command = command.replace("/etc/postfix/main.cf", "main.cf")
    for name, value in MACROS.items():
        command = command.replace(f"${{{name}}}", value)
    # It has one server, and that has no TLS.
    alone = command.replace("--nexthop example.com", "--nexthop grey.example")
    done = typed(f"{alone} <message.eml", place)
    assert done.returncode == 75
    assert done.stdout.startswith("4.7.4 TLS is required, but was not offered by host")
    command = command.replace("-o smtp_tls_security_level=secure", patience)
    done = typed(f"{command} <message.eml", place)
    assert (done.returncode, done.stdout[:10]) == (0, "250 2.0.0 ")
    done = typed(asked, place)
    assert "bounce" in done.stdout
    assert done.returncode == 0


LOG = (
    "Nov 28 10:00:00 mx postfix/smtp[1]: 4ABC: to=<a@x.test>, relay=none, delay=1,"
    " delays=0/0/1/0, dsn=4.4.1, status=deferred (connect to mx.x.test[192.0.2.1]:25:"
    " Connection refused)\n"
)
# What a person has to type, and what depends on this machine; all others end with 0.
OTHERWISE = {"--auth-user me": (64,), "postfix-trouble check": (0, 78)}


@pytest.mark.parametrize("command", examples(1))
def test_example_of_the_manual_page(command: str, place: Path) -> None:
    logs = place / "log"
    if not logs.exists():
        logs.mkdir()
        (logs / "mail.log").write_text(LOG)
        put_over(logs, Path("/var/log"))
    done = typed(command, place)
    codes = [codes for words, codes in OTHERWISE.items() if words in command] or [(0,)]
    assert done.returncode in codes[0], done.stdout
    assert done.stdout
    assert "Traceback" not in done.stdout
