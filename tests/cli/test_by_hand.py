"""send and probe in the hands of a person: asked for is asked for."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from by_hand import LOCAL, output
from pseudo_terminal import piped, run
from test_waiting import read_until

import needs
from scripted_server import ScriptedServer

TO = ("--to", "you@example.com")


@pytest.fixture
def log_in(tmp_path: Path) -> list[str]:
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    return ["--auth-user", "joe", "--auth-password-file", str(path)]


def _server(server: ScriptedServer) -> list[str]:
    return ["--server", f"{LOCAL}:{server.port}"]


# --- logging in ---------------------------------------------------------------------


@pytest.mark.parametrize("command", ["send", "probe"])
@pytest.mark.parametrize("keywords", [("8BITMIME",), ("STARTTLS", "8BITMIME")])
def test_log_in_that_is_not_offered_is_a_failure(
    command: str, keywords: tuple[str, ...], log_in: list[str], certificates: Path
) -> None:
    script = {"keywords": keywords}
    with ScriptedServer(script, certificates=str(certificates)) as server:
        done = output(command, *TO, *log_in, *_server(server), "--tls", "none")
    assert done.returncode == 75
    shown = " ".join(done.stdout.split())
    assert "AUTH was asked for, but was not offered by host" in shown
    assert ("it offers STARTTLS" in shown) is ("STARTTLS" in keywords)
    assert not server.connections[0].messages
    assert not any(x.startswith("MAIL") for x in server.connections[0].commands)


def test_probe_that_goes_less_far_needs_no_log_in(log_in: list[str]) -> None:
    with ScriptedServer({}) as server:
        argv = ["probe", *log_in, *_server(server), "--tls", "none"]
        done = output(*argv, "--quit-after", "ehlo")
    assert done.returncode == 0


@pytest.mark.parametrize("command", ["send", "probe"])
def test_password_goes_only_to_a_server_that_is_verified(
    command: str, log_in: list[str], certificates: Path
) -> None:
    script = {"keywords": ("STARTTLS", "AUTH PLAIN")}
    with ScriptedServer(script, certificates=str(certificates)) as server:
        argv = [command, *TO, *log_in, *_server(server)]
        done = output(*argv)
        assert done.returncode == 75
        assert "--tls encrypt" in done.stderr
        assert not any(
            x.startswith("AUTH") for one in server.connections for x in one.commands
        )
        assert output(*argv, "--tls", "encrypt").returncode == 0
        own = output(*argv, "-o", "smtp_tls_security_level=encrypt")
        assert own.returncode == 0


# --- the server that was named ------------------------------------------------------


@pytest.mark.parametrize("command", ["send", "probe"])
def test_name_in_etc_hosts(command: str) -> None:
    needs.localhost()
    with ScriptedServer({}) as server:
        argv = [command, *TO, "--server", f"localhost:{server.port}", "-4"]
        done = output(*argv)
    assert done.returncode == 0, done.stdout


def test_server_may_be_this_machine() -> None:
    """Whether or not somebody listens on port 25 here, it is no loop."""
    argv = ["probe", "--server", "127.0.0.9", "-o", "inet_interfaces=127.0.0.9"]
    done = output(*argv, "-v", "--quit-after", "connect")
    assert "127.0.0.9 is this machine" in done.stdout
    assert "5.4.6" not in done.stdout
    assert done.returncode in (0, 75)
    # A nexthop, as a transport table has it, is what Postfix would be asked for.
    loop = output("probe", "[127.0.0.9]", "-o", "inet_interfaces=127.0.0.9")
    assert "5.4.6" in loop.stdout


@pytest.mark.parametrize("lmtp", [False, True])
def test_wait_ends_when_the_user_says(lmtp: bool) -> None:
    with ScriptedServer({"stages": {"mail": {"then": "hang"}}}) as server:
        argv = ["send", *TO, *_server(server), "--timeout", "1"]
        done = output(*argv, *(["--lmtp"] if lmtp else []))
    assert done.returncode == 75
    assert "timed out while sending MAIL FROM" in " ".join(done.stdout.split())


def test_family_of_addresses() -> None:
    with ScriptedServer({}) as server:
        done = output("send", *TO, *_server(server), "-6")
    assert done.returncode != 0
    assert not server.connections


# --- mistakes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("probe", "you@example.com"), "did you mean --to you@example.com"),
        (("probe", "http://example.com/"), "did you mean example.com?"),
        (("probe", "example.com:99999"), "99999 is not a port"),
        (("probe", "[192.0.2.1]:0"), "0 is not a port"),
        (("probe", "unix:/run/lmtp"), "add --lmtp"),
        (("probe", *TO, "--server", "unix:/run/lmtp"), "add --lmtp"),
        (("send", *TO, "--server", "unix:/run/lmtp"), "add --lmtp"),
        (("send", *TO, "--server", "smtp://mx.example.com:25"),
         "did you mean --server mx.example.com:25?"),
        (("send", *TO, "--server", "mx.example.com:99999"), "99999 is not a port"),
        (("send", "example.com"), "example.com: not an address"),
        (("send", "--to", "Bob <bob>"), "not an address"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_are_no_outcome_of_postfix(argv: tuple[str, ...], words: str) -> None:
    done = output(*argv)
    assert done.returncode == 64
    assert words in " ".join(done.stderr.split())
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (("--to", "a@example.com,b@example.com"), ["a@example.com", "b@example.com"]),
        (("--to", "Bob <b@example.com>, <c@example.com>"),
         ["b@example.com", "c@example.com"]),
        (("--to", '"Bob, B." <b@example.com>'), ["b@example.com"]),
        (("--to", '"a,b"@example.com'), ['"a,b"@example.com']),
        (("bob@example.com",), ["bob@example.com"]),
    ],
    ids=str,
)  # fmt: skip
def test_recipients_as_people_write_them(
    argv: tuple[str, ...], asked: list[str]
) -> None:
    with ScriptedServer({}) as server:
        done = output("send", *_server(server), *argv)
    assert done.returncode == 0, done.stderr
    commands = server.connections[0].commands
    assert [x for x in commands if x.startswith("RCPT")] == [
        f"RCPT TO:<{one}>" for one in asked
    ]


@pytest.mark.parametrize("command", ["send", "probe", "explain", "check"])
def test_json_also_says_what_is_wrong(command: str) -> None:
    done = output(command, "--json", "--bogus")
    assert done.returncode == 64
    found = json.loads(done.stdout)
    assert (found["exit_status"], found["exit_name"]) == (64, "EX_USAGE")
    assert "--bogus" in found["error"]


def test_json_also_says_what_is_wrong_in_main_cf() -> None:
    done = output("send", "--json", *TO, "-o", "soft_bounce=maybe")
    assert done.returncode == 78
    assert "soft_bounce" in json.loads(done.stdout)["error"]


def test_deliver_also_says_as_json_what_is_wrong() -> None:
    done = piped("deliver", "--json", "--sendr", "me@example.org")
    assert done.returncode == 75
    found = json.loads(done.stdout)
    assert found["exit_status"] == 75
    assert "no such option: --sendr; did you mean --sender?" in found["status_line"]


def test_deliver_says_where_its_help_is() -> None:
    done = piped("deliver", "--help")
    # It may stand in master.cf: no success, no bounce.
    assert done.returncode == 75
    assert done.stdout.endswith("--help; see postfix-trouble help")


def test_deliver_on_a_terminal_says_what_it_waits_for() -> None:
    argv = ["deliver", "--nexthop", f"[{LOCAL}]:1", "--sender", "s@x", "--", "r@x"]
    shown = run(*argv, typed="Subject: x\n\n\x04")
    assert "Type the message, header first; end it with Ctrl-D." in shown.plain
    assert "Connection refused" in shown.plain
    assert shown.code == 75


LISTENING = [
    ("lmtp", "--listen", "--processes=2"),
    ("serve", "--listen", "--deliveries=2"),
]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("name", "option", "more"), LISTENING)
def test_servers_say_where_they_listen_and_end_when_told(
    name: str, option: str, more: str, number: int, tmp_path: Path
) -> None:
    where = f"unix:{tmp_path}/socket"
    log = f"--log-file={tmp_path}/log"
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "postfix_trouble", name, option, where, more, log]
    child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = read_until(ours, "ends")
    child.send_signal(number)
    assert child.wait(60) == 0
    os.close(ours)
    assert f"postfix-trouble {name}: listening on {where}; ^C ends." in shown
    assert not (tmp_path / "socket").exists()


def test_lmtp_says_what_was_mistyped() -> None:
    shown = run("lmtp", "--listn", "unix:/nowhere")
    assert "no such option: --listn; did you mean --listen?" in shown.plain
    assert shown.code == 78


# --- signals ------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["send", "probe", "explain", "check"])
def test_commands_end_by_the_signal(command: str, number: int, tmp_path: Path) -> None:
    """So that a shell's loop around them ends too. They wait for a file here."""
    path = tmp_path / "main.cf"
    os.mkfifo(path)
    words = {"send": TO, "probe": ("example.com",), "explain": ("450 x",)}
    argv = [sys.executable, "-m", "postfix_trouble", command, "--config", str(path)]
    child = subprocess.Popen(
        [*argv, *words.get(command, ())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Opened as soon as somebody reads it.
    with path.open("w"):
        child.send_signal(number)
        _, said = child.communicate()
    assert child.returncode == -number
    assert "Traceback" not in said


# --- descriptors --------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["send", "probe"])
def test_closed_descriptors_are_no_accident(command: str, closed: str) -> None:
    with ScriptedServer({}) as server:
        program = [sys.executable, "-m", "postfix_trouble", command]
        line = shlex.join([*program, *TO, *_server(server)])
        done = subprocess.run(
            ["sh", "-c", f"{line} {closed}"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0
    assert "Traceback" not in done.stdout + done.stderr
    commands = server.connections[0].commands
    assert commands[0].startswith("EHLO ")
    assert commands[-1] == "QUIT"


@pytest.mark.parametrize("words", [("help",), ("help", "send"), ("--help",)])
def test_help_without_a_terminal(words: tuple[str, ...]) -> None:
    done = piped(*words)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: postfix-trouble")


# --- DSN ----------------------------------------------------------------------------


def test_delivery_status_notifications_are_asked_for() -> None:
    argv = ("--notify", "success,delay", "--ret", "hdrs", "--envid", "x1")
    with ScriptedServer({"keywords": ("DSN",)}) as server:
        done = output("send", *TO, *_server(server), *argv)
    assert done.returncode == 0, done.stderr
    mail, rcpt = server.connections[0].commands[1:3]
    assert "RET=HDRS" in mail
    assert "ENVID=x1" in mail
    assert "NOTIFY=SUCCESS,DELAY" in rcpt
    wrong = output("send", *TO, "--notify", "never,delay")
    assert wrong.returncode == 64


def test_password_from_standard_input(certificates: Path) -> None:
    script = {"keywords": ("STARTTLS", "AUTH PLAIN")}
    with ScriptedServer(script, certificates=str(certificates)) as server:
        argv = ["send", *TO, *_server(server), "--auth-user", "joe"]
        done = piped(
            *argv, "--auth-password-file", "-", "--tls", "encrypt", text="secret\n"
        )
    assert done.returncode == 0, done.stderr
    assert any(x.startswith("AUTH PLAIN") for x in server.connections[0].commands)
