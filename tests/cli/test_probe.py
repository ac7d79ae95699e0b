"""probe: what a person sees of the servers of a destination, and what a script gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from by_hand import LOCAL, US, normal, output, screen
from pseudo_terminal import assert_golden, widest

from dns_server import serving
from scripted_server import ScriptedServer

NAME = ("-o", "myhostname=client.example.org")
KEYWORDS = (
    "PIPELINING",
    "SIZE 10240000",
    "STARTTLS",
    "AUTH PLAIN LOGIN",
    "8BITMIME",
    "DSN",
)
TROUBLE = {
    "rcpt:gone@example.com": "550 5.1.1 <gone@example.com>: Recipient address"
    " rejected: User unknown in local recipient table",
    "rcpt:later@example.com": "450 4.7.1 <later@example.com>: Greylisted",
}
THREE = [
    word
    for name in ("you", "gone", "later")
    for word in ("--to", f"{name}@example.com")
]


def server_option(server: ScriptedServer) -> list[str]:
    return ["--server", f"{LOCAL}:{server.port}"]


def probed(
    script: Mapping[str, Any], *argv: str
) -> tuple[dict[str, Any], ScriptedServer]:
    """The JSON object of a probe, and the server that was asked."""
    with ScriptedServer(script) as server:
        done = output("probe", "--json", *NAME, *server_option(server), *argv)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["exit_status"] == done.returncode
    return found, server


# --- the screen ---------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 40])
def test_screen(columns: int, certificates: Path) -> None:
    script = {"keywords": KEYWORDS, "stages": TROUBLE}
    with ScriptedServer(script, certificates=str(certificates)) as server:
        argv = ["probe", *THREE, *US, *server_option(server), "--tls", "verify"]
        argv += ["--ca", str(certificates / "ca.pem")]
        text, code = screen(*argv, columns=columns)
    assert code == 75
    assert widest(text.splitlines()) <= columns
    assert_golden(f"probe-{columns}", normal(text, server))
    commands = server.connections[0].commands
    assert commands[-2:] == ["RSET", "QUIT"]
    assert "DATA" not in commands


def test_dialogue_if_wanted() -> None:
    with ScriptedServer({}) as server:
        text, code = screen("probe", "-v", *NAME, *server_option(server))
    assert code == 0
    assert_golden("probe-dialogue", normal(text, server))


def test_servers_in_order(certificates: Path) -> None:
    zone = {
        "d.example": {
            "MX": [
                "10 mx1.d.example.",
                "20 mx2.d.example.",
                "25 none.x.",
                "30 mx3.x.",
                "40 gone.x.",
            ]
        },
        "none.x": {"TXT": ["it is there"]},
        "mx1.d.example": {"A": ["127.0.0.2"]},
        "mx2.d.example": {"A": ["127.0.0.1"]},
        "mx3.x": {"A": ["127.0.0.1"]},
    }
    first, second = {"host": "mx2"}, {"host": "mx3", "stages": {"banner": "554 no"}}
    with serving(zone) as dns:
        dns_option = ["-o", f"trouble_nameserver={dns.address}"]
        for name, more in (("", []), ("-all", ["--all"]), ("-all-40", ["--all"])):
            with ScriptedServer(first, second) as server:
                port = ["-o", f"smtp_tcp_port={server.port}"]
                argv = ["probe", "d.example", *NAME, *dns_option, *port, *more]
                text, code = screen(*argv, columns=40 if "40" in name else 80)
            assert code == 0
            assert_golden(f"probe-order{name}", normal(text, server))


def test_hosts_without_an_address_are_told() -> None:
    """Also those that may have one later, and where no host has any."""
    zone: dict[str, Any] = {
        "d.example": {"MX": ["10 none.x.", "20 later.x.", "30 mx3.x."]},
        "later.x": {"rcode": "SERVFAIL"},
        "mx3.x": {"A": ["127.0.0.1"]},
        "e.example": {"MX": ["10 none.x."]},
    }
    words = ["probe", "--json", *NAME, "-o", "smtp_tcp_port=1"]
    with serving(zone) as dns:
        words += ["-o", f"trouble_nameserver={dns.address}"]
        found = json.loads(output(*words, "d.example").stdout)
        nowhere = json.loads(output(*words, "e.example").stdout)
    shown = [(one["host"], one["address"]) for one in found["exchangers"]]
    assert shown == [("none.x", None), ("later.x", None), ("mx3.x", "127.0.0.1")]
    none, later, there = (one["problem"] for one in found["exchangers"])
    assert (none, there) == ("no address", "")
    assert later.startswith("no address: ")
    assert "name=later.x" in later
    assert [one["host"] for one in nowhere["exchangers"]] == ["none.x"]


def test_a_destination_is_no_recipient() -> None:
    with serving({"d.example": {"MX": ["0 ."]}}) as dns:
        done = output("probe", "d.example", "-o", f"trouble_nameserver={dns.address}")
    assert done.stdout.startswith("DESTINATION  RESULT   STATUS  SERVER\nd.example ")


CERTIFICATES: list[Any] = [
    # certificate, level, exit code, what is said of it
    ("good", "may", 0, "trusted; names are not compared at level may"),
    ("good", "verify", 0, "trusted, the name matches at verify"),
    ("wrongname", "verify", 75, "trusted, but hostname mismatch at verify"),
    ("expired", "may", 0, "not trusted: certificate has expired"),
    ("untrusted", "verify", 75, "not trusted: unable to get local issuer"),
    ("selfsigned", "may", 0, "not trusted: self-signed certificate"),
]


@pytest.mark.parametrize(("name", "level", "code", "text"), CERTIFICATES)
def test_certificate(
    name: str, level: str, code: int, text: str, certificates: Path
) -> None:
    script = {"keywords": KEYWORDS, "tls": {"cert": name}}
    with ScriptedServer(script, certificates=str(certificates)) as server:
        argv = ["probe", *NAME, *server_option(server), "--tls", level]
        done = output(*argv, "--ca", str(certificates / "ca.pem"))
    assert done.returncode == code
    assert text in " ".join(done.stdout.split())


TLS: list[Any] = [
    ({"keywords": ()}, "may", 0, "TLS not offered"),
    ({"keywords": ()}, "encrypt", 75, "TLS is required, but was not offered"),
    ({}, "none", 0, "TLS offered, not used (level none)"),
    ({"stages": {"starttls": "454 4.7.0 no"}}, "may", 0, "TLS 454 4.7.0 no"),
    ({"tls": {"handshake": "close"}}, "may", 75, "handshake failed: lost connection"),
]


@pytest.mark.parametrize(("script", "level", "code", "text"), TLS, ids=str)
def test_no_tls(script: Mapping[str, Any], level: str, code: int, text: str) -> None:
    with ScriptedServer({"keywords": ("STARTTLS",), **script}) as server:
        argv = ["probe", *NAME, *server_option(server), "--tls", level]
        done = output(*argv)
    assert done.returncode == code
    assert text in " ".join(done.stdout.split())


# --- how far ------------------------------------------------------------------------

STAGES: list[Any] = [
    ("connect", []),
    ("greeting", ["QUIT"]),
    ("ehlo", ["EHLO", "QUIT"]),
    ("tls", ["EHLO", "QUIT"]),
    ("auth", ["EHLO", "QUIT"]),
    ("mail", ["EHLO", "MAIL", "QUIT"]),
    ("rcpt", ["EHLO", "MAIL", "RCPT", "RSET", "QUIT"]),
]


@pytest.mark.parametrize(("stage", "verbs"), STAGES)
def test_quit_after(stage: str, verbs: Sequence[str]) -> None:
    found, server = probed({}, "--quit-after", stage, "--to", "you@example.com")
    # One that hangs up at once may never have been accepted.
    said = [line for x in server.connections for line in x.commands]
    assert [line.partition(" ")[0] for line in said] == verbs
    assert found["exit_status"] == 0
    assert found["quit_after"] == stage


DEFAULTS = [
    ([], "auth"),
    (["--from", "me@example.org"], "mail"),
    (["--to", "you@example.com"], "rcpt"),
]


@pytest.mark.parametrize(("argv", "stage"), DEFAULTS)
def test_goes_as_far_as_it_has_questions(argv: Sequence[str], stage: str) -> None:
    assert probed({}, *argv)[0]["quit_after"] == stage


# --- exit codes ---------------------------------------------------------------------

CODES: list[Any] = [
    ({}, 0),
    ({"banner": "554 no"}, 75),
    ({"mail": "550 5.7.1 no"}, 77),
    ({"rcpt": "550 5.1.1 no"}, 67),
    ({"rcpt": "450 4.2.0 no"}, 75),
    ({"mail": {"then": "close"}}, 75),
    # Nobody is asked for DATA.
    ({"data": "550 no"}, 0),
]


@pytest.mark.parametrize(("stages", "code"), CODES, ids=str)
def test_exit_code(stages: Any, code: int) -> None:
    with ScriptedServer({"stages": stages}) as server:
        done = output("probe", "-q", "--to", "you@example.com", *server_option(server))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


WRONG: list[Any] = [
    ([], 64, "where? Add a DESTINATION, --to or --server."),
    (["--to", "you"], 64, "--to you: not an address"),
    (["--to", "a@b.example", "--to", "a@c.example"], 64, "b.example, c.example"),
    (["d.example", "--server", "x"], 64, "either DESTINATION or --server"),
    (["d.example", "--quit-after", "rcpt"], 64, "needs a recipient: --to ADDRESS"),
    (["d.example", "--quit-after", "lunch"], 64, "'lunch' is not one of"),
    (["d.example", "--auth-user", "me"], 64, "--auth-user needs --server"),
    (["d.example", "-o", "no_such=1"], 78, "unknown parameter"),
    (["--to", "a..b@d.example", "--strict-addresses"], 64, "two periods"),
]


@pytest.mark.parametrize(("argv", "code", "text"), WRONG, ids=str)
def test_wrong_input_is_told_and_what_to_do(
    argv: Sequence[str], code: int, text: str
) -> None:
    done = output("probe", *argv)
    assert done.returncode == code
    assert text in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("destination", "text"),
    [
        ("[", "4.3.5"),
        ("no host", "4.4"),
        (f"{LOCAL}:1", "Connection refused"),
    ],
)
def test_destination_that_leads_nowhere(destination: str, text: str) -> None:
    with serving({}) as dns:
        argv = ["probe", destination, "-o", f"trouble_nameserver={dns.address}"]
        done = output(*argv)
    assert done.returncode in (75, 68)
    assert text in done.stdout or "5.4.4" in done.stdout


# --- scripts ------------------------------------------------------------------------


def test_json(certificates: Path) -> None:
    script = {"keywords": KEYWORDS, "stages": TROUBLE}
    with ScriptedServer(script, certificates=str(certificates)) as server:
        argv = ["probe", "--json", *THREE, *US, *server_option(server)]
        done = output(*argv)
    found = json.loads(done.stdout)
    (asked,) = found["servers"]
    assert (asked["host"], asked["port"], asked["connected"]) == (
        LOCAL,
        server.port,
        True,
    )
    assert asked["greeting"] == "220 mx.fake.test ESMTP"
    assert asked["auth"] == ["PLAIN", "LOGIN"]
    assert "DSN" in asked["extensions"]
    assert asked["tls"]["protocol"] == "TLSv1.3"
    assert asked["tls"]["details"] == {
        "subject": "mx.secure.test",
        "issuer": "Sample Test CA",
        "names": ["mx.secure.test", "secure.test", "*.wild.test"],
        "expires": "2120-01-01T00:00:00Z",
        "problem": asked["tls"]["details"]["problem"],
    }
    assert [x["reply"][:3] for x in asked["rcpt"]] == ["250", "550", "450"]
    assert [(x["status"], x["exit_status"]) for x in found["recipients"]] == [
        ("accepted", 0),
        ("bounced", 67),
        ("deferred", 75),
    ]


def test_log_in_is_tried(certificates: Path, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    for stages, code, text in (
        ({}, 0, "log-in accepted, by PLAIN"),
        ({"auth": "535 5.7.8 no"}, 75, "log-in failed: 535 5.7.8 no"),
    ):
        script = {"keywords": KEYWORDS, "stages": stages}
        with ScriptedServer(script, certificates=str(certificates)) as server:
            argv = ["probe", *NAME, *server_option(server), "--auth-user", "joe"]
            done = output(*argv, "--auth-password-file", str(path), "--tls", "encrypt")
        assert done.returncode == code
        assert text in " ".join(done.stdout.split())
        assert "correct horse" not in done.stdout


def test_size_is_told_and_refused() -> None:
    found, server = probed(
        {"keywords": ("SIZE 1000",)}, "--to", "you@example.com", "--size", "2000"
    )
    assert found["recipients"][0]["dsn"] == "5.3.4"
    assert not any(x.startswith("MAIL") for x in server.connections[0].commands)


def test_nobody_reads_on() -> None:
    with ScriptedServer({}) as server:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "postfix_trouble", "probe", *server_option(server)],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_help_has_examples_and_exit_codes() -> None:
    for columns in (40, 80):
        text, code = screen("probe", "--help", columns=columns)
        assert code == 0
        assert widest(text.splitlines()) <= columns
        assert "postfix-trouble probe example.com" in " ".join(text.split())
        assert "78 wrong configuration" in " ".join(text.split())
