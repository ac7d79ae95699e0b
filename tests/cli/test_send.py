"""send: what a person sees, and what a script gets."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from by_hand import LOCAL, US, converse, normal, output, screen
from pseudo_terminal import assert_golden, widest

from dns_server import serving
from postfix_trouble.cli import user_input
from postfix_trouble.cli.own_message import sample_message
from scripted_server import ScriptedServer
from waiting import wait

TLS_KEYWORDS = ("PIPELINING", "SIZE 10240000", "STARTTLS", "AUTH PLAIN", "8BITMIME")
TROUBLE = {
    "rcpt:gone@example.com": "550 5.1.1 <gone@example.com>: Recipient address"
    " rejected: User unknown in local recipient table",
    "rcpt:later@example.com": "450 4.7.1 <later@example.com>: Greylisted, see"
    " http://postgrey.example.com/help.html",
}
THREE = [
    word
    for name in ("you", "gone", "later")
    for word in ("--to", f"{name}@example.com")
]
MAIL = b"From: me@example.org\nTo: you@example.com\nSubject: x\n\nHello\n.\n"
TO = ("--to", "you@example.com")


@pytest.fixture
def mail(tmp_path: Path) -> str:
    path = tmp_path / "mail.eml"
    path.write_bytes(MAIL)
    return str(path)


def server_option(server: ScriptedServer) -> list[str]:
    return ["--server", f"{LOCAL}:{server.port}"]


# --- the screen ---------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 40])
def test_screen(columns: int, mail: str, certificates: Path) -> None:
    script = {"keywords": TLS_KEYWORDS, "stages": TROUBLE}
    with ScriptedServer(script, certificates=str(certificates)) as server:
        argv = ["send", *THREE, *US, "--message", mail, *server_option(server)]
        argv += ["--tls", "verify", "--ca", str(certificates / "ca.pem")]
        text, code = screen(*argv, columns=columns)
    assert code == 75
    assert widest(text.splitlines()) <= columns
    assert_golden(f"send-{columns}", normal(text, server))


def test_colours_on_a_terminal_only(mail: str) -> None:
    with ScriptedServer({"stages": TROUBLE}) as server:
        argv = ["send", *THREE, *US, "--message", mail, *server_option(server)]
        text, _ = screen(*argv, colours=True)
        assert "\x1b" not in screen(*argv)[0]
        assert "\x1b" not in output(*argv).stdout
    assert_golden("send-colours", normal(text, server))


def test_lines_are_not_broken_for_programs(mail: str) -> None:
    with ScriptedServer({"stages": TROUBLE}) as server:
        argv = ["send", *THREE, *US, "--message", mail, *server_option(server)]
        lines = output(*argv).stdout.splitlines()
    assert any(line.endswith(TROUBLE["rcpt:gone@example.com"]) for line in lines)


def test_each_domain_has_servers_of_its_own(mail: str) -> None:
    zone = {
        "one.example": {"MX": ["10 mx.one.example."]},
        "mx.one.example": {"A": ["127.0.0.1"]},
        "two.example": {"MX": ["0 ."]},
    }
    with serving(zone) as dns, ScriptedServer({}) as server:
        argv = ["send", "--to", "a@one.example", "--to", "b@TWO.example", *US]
        argv += ["--to", "c@one.example", "--message", mail]
        argv += ["-o", f"trouble_nameserver={dns.address}"]
        argv += ["-o", f"smtp_tcp_port={server.port}"]
        text, code = screen(*argv)
    assert code == 69
    (connection,) = server.connections
    assert [x for x in connection.commands if x.startswith("RCPT")] == [
        "RCPT TO:<a@one.example>",
        "RCPT TO:<c@one.example>",
    ]
    assert_golden("send-domains", normal(text, server))


def test_next_server(mail: str) -> None:
    zone = {
        "d.example": {"MX": ["10 mx1.d.example.", "20 mx2.d.example."]},
        "mx1.d.example": {"A": ["127.0.0.2"]},
        "mx2.d.example": {"A": ["127.0.0.1"]},
    }
    with serving(zone) as dns, ScriptedServer({"host": "mx2"}) as server:
        argv = ["send", "--to", "a@d.example", *US, "--message", mail]
        argv += ["-o", f"trouble_nameserver={dns.address}"]
        argv += ["-o", f"smtp_tcp_port={server.port}"]
        text, code = screen(*argv)
    assert code == 0
    assert_golden("send-next-server", normal(text, server))


# --- exit codes ---------------------------------------------------------------------

CODES: list[Any] = [
    ({}, 0),
    ({"rcpt": "450 4.2.0 later"}, 75),
    ({"banner": "554 no"}, 75),
    ({"rcpt": "550 5.1.1 no"}, 67),
    ({"rcpt": "550 5.1.2 no"}, 68),
    ({"eod": "554 5.6.0 no"}, 65),
    ({"mail": "501 5.5.4 no"}, 76),
    ({"mail": "550 5.7.1 no"}, 77),
    ({"rcpt": "552 5.2.2 full"}, 69),
    ({"eod": {"then": "close"}}, 75),
]


@pytest.mark.parametrize(("stages", "code"), CODES, ids=str)
def test_exit_code(stages: Any, code: int) -> None:
    with ScriptedServer({"stages": stages}) as server:
        argv = ["send", "-qq", "--to", "you@example.com", *server_option(server)]
        done = output(*argv)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_soft_bounce_bounces_nothing() -> None:
    with ScriptedServer({"stages": {"rcpt": "550 5.1.1 no"}}) as server:
        argv = ["send", "-q", "-v", "--soft-bounce", "--to", "you@example.com"]
        done = output(*argv, *server_option(server))
    assert done.returncode == 75
    assert "SOFTBOUNCE" in done.stdout
    assert "rcpt_fail: hard, soft_bounce, last host," in done.stdout


def test_nobody_is_there() -> None:
    done = output("send", "-q", "--to", "you@example.com", "--server", f"{LOCAL}:1")
    assert done.returncode == 75
    assert f"connect to {LOCAL}[{LOCAL}]:1: Connection refused" in done.stdout
    assert "other mail for this destination has to wait" in done.stdout


@pytest.mark.parametrize("command", ["send", "probe"])
def test_table_that_cannot_be_searched_defers(command: str) -> None:
    with ScriptedServer({}) as server:
        argv = [command, *TO, *server_option(server), "-o", "smtp_generic_maps=fail:x"]
        done = output(*argv)
    assert done.returncode == 75
    said = " ".join((done.stdout + done.stderr).split())
    assert "table look-up error: smtp_generic_maps: fail:x" in said
    assert not any(c.messages for c in server.connections)


def test_address_that_no_other_server_can_take() -> None:
    argv = ["send", "-q", "--to", "jörg@bücher.example"]
    with ScriptedServer({}, {"keywords": ("SMTPUTF8", "8BITMIME")}) as server:
        refused, sent = (output(*argv, *server_option(server)) for _ in range(2))
    assert (refused.returncode, sent.returncode) == (65, 0)
    assert "message requires SMTPUTF8" in refused.stdout
    assert "RCPT TO:<jörg@bücher.example>" in server.connections[1].commands


# --- wrong input --------------------------------------------------------------------

WRONG: list[Any] = [
    ((), 64, "no recipient given: add --to ADDRESS"),
    (("--to", "you"), 64, "--to you: not an address: name@domain expected"),
    (("--to", "you@"), 64, "not an address"),
    (("--to", "a\nb@example.com"), 64, "a line break in an address"),
    (("--to", "you@exa mple"), 64, "exa mple is not a valid domain name"),
    (("--to", "you@[192.0.2.1"), 64, 'missing "]"'),
    ((*TO, "--from", "me"), 64, "--from me: not an address"),
    ((*TO, "--server", "a b"), 64, "--server a b: HOST or HOST:PORT expected"),
    ((*TO, "--message", "/no/such"), 64, "--message /no/such: No such file"),
    ((*TO, "--ca", "/no/such"), 64, "'/no/such' does not exist"),
    ((*TO, "--tls", "halfdane"), 64, "'halfdane' is not one of"),
    ((*TO, "--nonsense"), 64, "--nonsense"),
    ((*TO, "-o", "x"), 64, "-o x: NAME=VALUE expected"),
    ((*TO, "-o", "no_such=1"), 78, "unknown parameter: no_such = 1"),
    ((*TO, "-o", "soft_bounce=maybe"), 78, "soft_bounce = maybe"),
    ((*TO, "--config", "/no/such"), 78, "open /no/such: No such file"),
    ((*TO, "--auth-user", "me"), 64, "--auth-user needs --server"),
    ((*TO, "--auth-password-file", "x"), 64, "--auth-password-file needs --auth-user"),
    ((*TO, "--server", "x", "--auth-user", "me", "--auth-password-file", "/no/such"),
     64, "open /no/such: No such file"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "code", "text"), WRONG, ids=str)
def test_wrong_input_is_told_and_what_to_do(
    argv: Sequence[str], code: int, text: str
) -> None:
    done = output("send", *argv)
    assert done.returncode == code, done.stderr
    assert text in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_no_terminal_to_ask_for_a_password_on() -> None:
    argv = ["send", *TO, "--server", "x", "--auth-user", "me"]
    done = subprocess.run(
        [sys.executable, "-m", "postfix_trouble", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 64
    assert "use --auth-password-file" in done.stderr


# --- addresses ----------------------------------------------------------------------


def test_doubtful_address_is_a_warning_unless_strict() -> None:
    with ScriptedServer({}) as server:
        argv = ["send", "-qq", "--to", "a..b@example.com", *server_option(server)]
        done = output(*argv)
        assert done.returncode == 0
        assert done.stderr == (
            "warning: a..b@example.com: An email address cannot have two periods in a"
            " row.\n"
        )
        strict = output(*argv, "--strict-addresses")
        assert strict.returncode == 64
        assert "two periods" in strict.stderr
    assert len(server.connections) == 1


def test_deliverability_is_looked_up_where_asked_for() -> None:
    zone = {"good.example.com": {"MX": ["10 mx.test."]}}
    with serving(zone) as dns, ScriptedServer({}) as server:
        argv = ["send", "-qq", "--check-deliverability", *server_option(server)]
        argv += ["-o", f"trouble_nameserver={dns.address}"]
        argv += ["--to", "a@good.example.com", "--to", "b@bad.example.com"]
        done = output(*argv)
    assert done.returncode == 0
    assert done.stderr.count("warning") == 1
    assert "bad.example.com" in done.stderr


ADDRESSES = [
    ("you@example.com", "you@example.com", "example.com"),
    ("<you@example.com>", "you@example.com", "example.com"),
    ('"a b"@example.com', "a b@example.com", "example.com"),
    ('"a@b"@example.com', "a@b@example.com", "example.com"),
    ("you@[192.0.2.1]", "you@[192.0.2.1]", "[192.0.2.1]"),
    ("you@bücher.example", "you@xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("jörg@bücher.example", "jörg@bücher.example", "xn--bcher-kva.example"),
]


@pytest.mark.parametrize(("text", "inner", "domain"), ADDRESSES)
def test_address(text: str, inner: str, domain: str) -> None:
    found = user_input.address(text, "--to")
    assert (found.inner, found.domain) == (inner, domain)


SERVERS = [
    ("mx.example.com", False, "[mx.example.com]"),
    ("mx.example.com:587", False, "[mx.example.com]:587"),
    ("mx.example.com", True, "[mx.example.com]:465"),
    ("192.0.2.1:25", False, "[192.0.2.1]:25"),
    ("[192.0.2.1]:25", False, "[192.0.2.1]:25"),
    ("2001:db8::1", False, "[ipv6:2001:db8::1]"),
    ("[2001:db8::1]:25", False, "[ipv6:2001:db8::1]:25"),
]


@pytest.mark.parametrize(("text", "smtps", "nexthop"), SERVERS)
def test_server(text: str, smtps: bool, nexthop: str) -> None:
    assert user_input.server_nexthop(text, tls_on_connect=smtps, lmtp=False) == nexthop


def test_quoted_local_part_goes_out_quoted() -> None:
    with ScriptedServer({}) as server:
        output("send", "--to", '"a b"@example.com', *server_option(server))
    assert 'RCPT TO:<"a b"@example.com>' in server.connections[0].commands


def test_null_sender() -> None:
    with ScriptedServer({}) as server:
        output("send", *TO, "--from", "<>", *server_option(server))
    assert any(x.startswith("MAIL FROM:<>") for x in server.connections[0].commands)


# --- the message --------------------------------------------------------------------


def test_sample_message_says_what_it_is() -> None:
    to = ["you@example.com", "a b@example.com"]
    first = sample_message("me@example.org", to, "client.example.org", 0.0)
    second = sample_message("me@example.org", to, "client.example.org", 0.0)
    message = message_from_bytes(first, policy=policy.default)
    assert not message.defects
    assert "test message" in message["Subject"].lower()
    assert message["Message-ID"] != message_from_bytes(second)["Message-ID"]
    assert message["Message-ID"].endswith("@client.example.org>")
    assert [x.addr_spec for x in message["To"].addresses] == [
        "you@example.com",
        '"a b"@example.com',
    ]
    assert max(map(len, first.splitlines())) < 79


@pytest.mark.parametrize("content", [MAIL, MAIL.replace(b"\n", b"\r\n")])
def test_message_of_ones_own(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mail"
    path.write_bytes(content)
    sent = MAIL.replace(b"\n", b"\r\n").replace(b"\r\n.\r\n", b"\r\n..\r\n")
    with ScriptedServer({}) as server:
        output("send", *TO, "--message", str(path), *server_option(server))
        argv = ["send", *TO, "--message", "-", *server_option(server)]
        output(*argv, text=content.decode())
    assert [c.messages for c in server.connections] == [[sent], [sent]]


def test_message_is_shown_if_wanted(mail: str) -> None:
    with ScriptedServer({}) as server:
        argv = ["send", *TO, "--message", mail, *server_option(server)]
        assert "Subject: x" not in output(*argv).stdout
        assert " -> Subject: x\n" in output(*argv, "-v").stdout


# --- logging in ---------------------------------------------------------------------

SECRET = "correct horse"


def auth_server(certificates: Path) -> ScriptedServer:
    return ScriptedServer({"keywords": TLS_KEYWORDS}, certificates=str(certificates))


def test_password_is_asked_for_and_never_shown(certificates: Path) -> None:
    with auth_server(certificates) as server:
        argv = ["send", *TO, "--auth-user", "joe", *server_option(server)]
        argv += ["--tls", "encrypt"]
        text, code = converse(
            argv, f"Password for joe at {LOCAL}:{server.port}:", f"{SECRET}\n"
        )
    assert code == 0
    assert SECRET not in text
    assert "AUTH PLAIN <hidden>" in text
    response = base64.b64encode(f"\0joe\0{SECRET}".encode()).decode()
    assert f"AUTH PLAIN {response}" in server.connections[0].commands
    assert response not in text


def test_password_from_a_file(certificates: Path, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\nnot this\n")
    with auth_server(certificates) as server:
        argv = ["send", "--json", *TO, "--auth-user", "joe", *server_option(server)]
        argv += ["--auth-password-file", str(path), "--tls", "encrypt"]
        path.chmod(0o604)
        exposed = output(*argv)
        assert exposed.returncode == 64
        assert "chmod" in exposed.stderr
        path.chmod(0o600)
        done = output(*argv)
    assert done.returncode == 0
    assert SECRET not in done.stdout
    stages = json.loads(done.stdout)["timings"][0]["stages"]
    assert [stage["name"] for stage in stages] == [
        "connect",
        "greeting",
        "TLS",
        "AUTH",
        "envelope",
        "data",
    ]


def test_plain_password_never_goes_in_the_clear(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(SECRET)
    path.chmod(0o600)
    with ScriptedServer({"keywords": ("AUTH PLAIN LOGIN",)}) as server:
        argv = ["send", *TO, "--auth-user", "joe", *server_option(server)]
        done = output(*argv, "--auth-password-file", str(path), "--tls", "may")
    assert done.returncode == 75
    assert "hint: a plain password goes over TLS only" in done.stderr
    assert not any(x.startswith("AUTH") for x in server.connections[0].commands)


def test_tls_comes_first_where_asked_for(certificates: Path) -> None:
    script = {"tls": {"wrapper": True}}
    with ScriptedServer(script, certificates=str(certificates)) as server:
        done = output("send", *TO, "--tls-on-connect", *server_option(server))
    assert done.returncode == 0
    assert server.connections[0].tls
    assert "<~  220 " in done.stdout


# --- scripts ------------------------------------------------------------------------


def test_json() -> None:
    with ScriptedServer({"stages": TROUBLE}) as server:
        done = output("send", "--json", *THREE, *US, *server_option(server))
    found = json.loads(done.stdout)
    assert (found["version"], found["exit_status"]) == (1, 75)
    assert [
        (x["recipient"], x["status"], x["rule"], x["exit_status"])
        for x in found["recipients"]
    ] == [
        ("you@example.com", "sent", "2xx", 0),
        ("gone@example.com", "bounced", "rcpt_fail: hard, bounced", 67),
        ("later@example.com", "deferred", "rcpt_fail: soft, last host, deferred", 75),
    ]
    assert found["recipients"][2]["returned_after"] == 432000
    assert found["transcript"][0]["way"] == "about"
    assert found["deliveries"][0]["nexthop"] == f"[{LOCAL}]:{server.port}"
    assert done.stderr == ""


def test_settings_come_from_main_cf(tmp_path: Path) -> None:
    path = tmp_path / "main.cf"
    path.write_text("smtp_helo_name = from.config\nmaximal_queue_lifetime = 1d\n")
    with ScriptedServer({"stages": {"mail": "450 no"}}) as server:
        argv = ["send", "-q", *TO, "--config", str(path), *server_option(server)]
        done = output(*argv)
        assert "returned to sender after 1d" in " ".join(done.stdout.split())
        output(*argv, "--helo", "by.hand")
    assert [c.commands[0] for c in server.connections] == [
        "EHLO from.config",
        "EHLO by.hand",
    ]


def test_lmtp_has_an_outcome_for_each() -> None:
    stages = {"eod:gone@example.com": "552 5.2.2 full"}
    with ScriptedServer({"stages": stages}, lmtp=True) as server:
        argv = ["send", "-qv", "--lmtp", *THREE[:4], *server_option(server)]
        done = output(*argv)
    assert done.returncode == 69
    assert "rcpt_fail: hard, bounced" in done.stdout


def test_nobody_reads_on_and_the_mail_goes_all_the_same() -> None:
    with ScriptedServer({}) as server:
        argv = ["send", *TO, *server_option(server)]
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "postfix_trouble", *argv],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(server.connections[0].messages) == 1


@pytest.mark.parametrize(("stage", "doubt"), [("mail", False), ("eod", True)])
def test_interrupted(stage: str, doubt: bool) -> None:
    with ScriptedServer({"stages": {stage: {"then": "hang"}}}) as server:
        argv = [sys.executable, "-m", "postfix_trouble", "send", *TO]
        with subprocess.Popen(
            [*argv, *server_option(server)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as child:
            # What the server has got is on its way no more.
            last = "<message" if doubt else "MAIL"
            wait(
                lambda: any(
                    command.startswith(last)
                    for connection in server.connections
                    for command in connection.commands
                )
            )
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate()
    assert child.returncode == -signal.SIGINT
    assert "interrupted" in errors
    assert ("may have been sent" in errors) is doubt
    assert "Traceback" not in errors


def test_help_has_examples_and_exit_codes() -> None:
    for columns in (40, 80):
        text, code = screen("send", "--help", columns=columns)
        assert code == 0
        assert widest(text.splitlines()) <= columns
        assert "postfix-trouble send --to you@example.com" in " ".join(
            text.replace("\\\n", "").split()
        )
        assert "78 wrong configuration" in " ".join(text.split())
