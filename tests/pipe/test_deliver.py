"""`deliver` as a process: with a recipient on the line, 0 means delivered."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scripted_server import ScriptedServer
from waiting import PATIENCE, wait

MESSAGE = b"Subject: hello\n\nhow are you\n"
PROGRAM = [sys.executable, "-I", "-m", "postfix_trouble", "deliver"]
# The codes that pipe(8) and the launcher know.
KNOWN = {0, 65, 67, 68, 69, 75, 76, 77}


class Done(NamedTuple):
    code: int
    output: bytes


@pytest.fixture
def sink() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def options(nexthop: str | ScriptedServer, tmp_path: Path) -> list[str]:
    if isinstance(nexthop, ScriptedServer):
        nexthop = f"[127.0.0.1]:{nexthop.port}"
    settings = ["-o", "myhostname=me.test", "--log-file", str(tmp_path / "log")]
    return ["--sender", "s@d.test", "--nexthop", nexthop, *settings]


def deliver(
    *argv: str | bytes, message: bytes | None = MESSAGE, shell: str = ""
) -> Done:
    """Run it; `shell`: how a shell is to start it, as `exec "$@" ...`."""
    command: list[str | bytes] = [*PROGRAM, *argv]
    if shell:
        command = ["sh", "-c", shell, "sh", *command]
    done = subprocess.run(command, input=message, capture_output=True, check=False)
    assert done.stderr == b"", "pipe(8) takes what is said there for the answer"
    assert done.returncode in KNOWN
    return Done(done.returncode, done.stdout)


# --- the answer -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "code", "output"),
    [
        ({}, 0, b"250 2.0.0 Ok: queued as SAMPLE"),
        ({"rcpt": "450 4.2.0 later"}, 75, rb"4\.2\.0 host .* \(in reply to RCPT TO.*"),
        ({"rcpt": "550 5.1.1 no"}, 67, rb"5\.1\.1 host .*: 550 5\.1\.1 no \(in .*"),
        ({"rcpt": "550 5.7.1 no"}, 77, rb"5\.7\.1 host .*"),
        ({"rcpt": "550-a\n550 b"}, 69, rb"5\.0\.0 host .*: 550-a 550 b \(in .*"),
        (
            {"rcpt": "550 \x1b[2J\u00fc"},
            69,
            "5.0.0 host .*: 550 \\?\\[2J\u00fc \\(".encode() + b".*",
        ),
        ({"eod": {"then": "close"}}, 75, rb"4\.4\.2 lost connection .* more than once"),
        (
            {"banner": {"then": "close"}},
            75,
            rb"4\.4\.2 lost connection with .* greeting",
        ),
    ],
)
def test_answer(
    tmp_path: Path, stages: dict[str, Any], code: int, output: bytes
) -> None:
    with ScriptedServer({"stages": stages}) as server:
        done = deliver(*options(server, tmp_path), "--", "r@d.test")
    assert done.code == code
    assert re.fullmatch(output, done.output), done.output


def test_answer_as_json(tmp_path: Path, sink: ScriptedServer) -> None:
    done = deliver(*options(sink, tmp_path), "--json", "--queue-id", "Q1", "r@d.test")
    found = json.loads(done.output)
    assert (found["exit_status"], found["queue_id"]) == (0, "Q1")
    assert found["recipients"][0]["status"] == "sent"
    assert [line.split()[0] for line in found["servers"][0]["commands"]] == [
        "EHLO", "MAIL", "RCPT", "DATA", ".", "QUIT",
    ]  # fmt: skip


def test_log(tmp_path: Path, sink: ScriptedServer) -> None:
    deliver(*options(sink, tmp_path), "--queue-id", "Q1", "--", "r@d.test")
    record = (tmp_path / "log").read_text()
    where = rf"127\.0\.0\.1\[127\.0\.0\.1\]:{sink.port}"
    assert re.search(rf"Q1: to=<r@d.test>, relay={where}, delay=", record)
    assert "dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as SAMPLE)" in record


@pytest.mark.parametrize(
    ("settings", "code", "record"),
    [
        (["inet_interfaces=192.0.2.7"], 0, "bind 192.0.2.7: Cannot assign"),
        (["smtp_bind_address=192.0.2.7"], 0, "bind 192.0.2.7: Cannot assign"),
        (
            ["inet_interfaces=192.0.2.7", "smtp_bind_address=127.0.0.1"],
            0,
            "status=sent",
        ),
        (
            ["inet_interfaces=192.0.2.7", "smtp_bind_address_enforce=yes"],
            75,
            "server configuration error",
        ),
        (["inet_interfaces=192.0.2.7, 127.0.0.1"], 0, "status=sent"),
        (["inet_interfaces=no.such.invalid"], 75, "host not found: no.such.invalid"),
    ],
)
def test_source_address(
    tmp_path: Path,
    sink: ScriptedServer,
    settings: list[str],
    code: int,
    record: str,
) -> None:
    """Nobody has this address here, so the log tells that it was wanted."""
    more = [word for setting in settings for word in ("-o", setting)]
    done = deliver(*options(sink, tmp_path), *more, "--", "r@d.test")
    assert done.code == code
    log = (tmp_path / "log").read_text()
    assert record in log
    assert ("bind" in log) == ("bind" in record or (code == 75 and "server" in record))


def test_source_address_that_is_none(tmp_path: Path, sink: ScriptedServer) -> None:
    bad = ["-o", "smtp_bind_address=mx.d.test"]
    done = deliver(*options(sink, tmp_path), *bad, "--", "r@d.test")
    assert done.code == 75
    assert done.output.startswith(b"4.3.5 ")
    assert b"smtp_bind_address = mx.d.test" in done.output
    assert not sink.connections


def test_the_same_text_without_a_queue_id_is_another_message(
    tmp_path: Path, sink: ScriptedServer
) -> None:
    """A script that reports the same every day must not be silenced by the ledger."""
    state = ("--state-directory", str(tmp_path / "state"))
    for _ in range(2):
        done = deliver(*options(sink, tmp_path), *state, "--", "r@d.test")
        assert done.code == 0
    assert len(sink.connections) == 2
    done = deliver(*options(sink, tmp_path), *state, "--", "r@d.test", "s@d.test")
    assert (done.code, done.output[:6]) == (75, b"4.3.5 ")
    assert b"--queue-id" in done.output
    named = (*state, "--queue-id", "Q1", "--", "r@d.test", "s@d.test")
    for _ in range(2):
        assert deliver(*options(sink, tmp_path), *named).code == 0
    assert len(sink.connections) == 3


@pytest.mark.parametrize(
    ("by", "queue_id", "code"),
    [
        ("with ESMTP id 4A", "4A", 0),
        ("with UTF8SMTPS id 4A", "4A", 65),
        # Somebody else's, or not by SMTP.
        ("with ESMTP id 4A", "4B", 65),
        ("id 4A", "4A", 65),
    ],
)
def test_who_asked_for_smtputf8(
    tmp_path: Path, by: str, queue_id: str, code: int
) -> None:
    """pipe(8) does not say, but Postfix's Received: header does."""
    trace = f"Received: by h (Postfix) {by}; Mon, 1 Jan 2024 01:00:00 +0000\n"
    to = ("--queue-id", queue_id, "--", "j\u00fcrgen@d.test")
    with ScriptedServer({"keywords": ["8BITMIME"]}) as server:
        done = deliver(
            *options(server, tmp_path), *to, message=trace.encode() + MESSAGE
        )
    assert done.code == code, done.output


def test_without_smtputf8_an_address_goes_as_it_is(tmp_path: Path) -> None:
    """As from smtp(8): no server is asked for what is turned off here."""
    off = ("-o", "smtputf8_enable=no", "--", "j\u00fcrgen@d.test")
    with ScriptedServer({"keywords": ["8BITMIME"]}) as server:
        assert deliver(*options(server, tmp_path), *off).code == 0
        assert deliver(*options(server, tmp_path), *off[2:]).code == 65
        bytes_only = b"j\xfcrgen@d.test"
        assert deliver(*options(server, tmp_path), "--", bytes_only).code == 0
    assert "RCPT TO:<j\u00fcrgen@d.test>" in server.connections[0].commands


EIGHT = b"Content-Transfer-Encoding: 8bit\n"
PARTS = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" + EIGHT + b"\nx\n--b--\n"


@pytest.mark.parametrize(
    ("message", "setting", "body"),
    [
        (EIGHT + b"\nx\n", "", " BODY=8BITMIME"),
        (PARTS, "", " BODY=8BITMIME"),
        (EIGHT + b"\nx\n", "disable_mime_input_processing=yes", " BODY=8BITMIME"),
        (PARTS, "disable_mime_input_processing=yes", ""),
        (EIGHT + b"\nx\n", "detect_8bit_encoding_header=no", ""),
        (PARTS, "detect_8bit_encoding_header=no", ""),
    ],
)
def test_8bitmime_is_asked_for_as_cleanup8_has_it(
    tmp_path: Path, message: bytes, setting: str, body: str
) -> None:
    more = ("-o", setting) if setting else ()
    with ScriptedServer({"keywords": ["8BITMIME"]}) as server:
        done = deliver(
            *options(server, tmp_path), *more, "--", "r@d.test", message=message
        )
    assert done.code == 0, done.output
    assert f"MAIL FROM:<s@d.test>{body}" in server.connections[0].commands


# --- nothing exits 0 without a delivery -----------------------------------------------

NEXTHOP = ["--nexthop", "[127.0.0.1]:9"]
LINES: list[Any] = [
    # id, arguments, beginning of the answer
    ("help first", ["--help", *NEXTHOP, "--", "r@d"], "4.3.5"),
    ("help in place of an option", [*NEXTHOP, "--help", "r@d"], "4.3.5"),
    ("-h", [*NEXTHOP, "-h", "--", "r@d"], "4.3.5"),
    ("version", ["--version", "--", "r@d"], "4.3.5"),
    ("help after a recipient", [*NEXTHOP, "r@d", "--help"], "4.3.5"),
    ("unknown option", ["--bogus", *NEXTHOP, "r@d"], "4.3.5"),
    ("no value", ["--nexthop"], "4.3.5"),
    ("nothing at all", [], "4.3.5"),
    ("no recipients", [*NEXTHOP, "--"], "4.3.5"),
    ("no nexthop", ["--sender", "s@d", "--", "r@d"], "4.3.5"),
    ("empty nexthop", ["--nexthop", "", "--", "r@d"], "4.3.5"),
    ("nonsense nexthop", ["--nexthop", "[", "--", "r@d"], "4.3.5"),
    ("unknown parameter", [*NEXTHOP, "-o", "bogus=1", "--", "r@d"], "4.3.5 .*bogus"),
    (
        "wrong value",
        [*NEXTHOP, "-o", "smtp_mail_timeout=soon", "--", "r@d"],
        "4.3.5 .*smtp_mail_timeout",
    ),
    (
        "wrong value of a switch",
        [*NEXTHOP, "-o", "soft_bounce=maybe", "--", "r@d"],
        "4.3.5 .*bad boolean configuration: soft_bounce = maybe",
    ),
    ("no value of a parameter", [*NEXTHOP, "-o", "soft_bounce", "r@d"], "4.3.5"),
    ("no configuration", [*NEXTHOP, "--config", "/nowhere", "r@d"], "4.3.5 .*/nowhere"),
    ("configuration is a directory", [*NEXTHOP, "--config", "/", "r@d"], "4.3.5"),
    ("size is no number", [*NEXTHOP, "--size", "big", "r@d"], "4.3.5"),
    ("size is negative", [*NEXTHOP, "--size", "-1", "r@d"], "4.3.5"),
    ("age is no number", [*NEXTHOP, "--age", "1d", "r@d"], "4.3.5"),
    ("bad --ret", [*NEXTHOP, "--ret", "none", "r@d"], "4.3.5"),
    ("bad --notify", [*NEXTHOP, "--notify", "always", "r@d"], "4.3.5"),
    ("bad --encoding", [*NEXTHOP, "--encoding", "9bit", "r@d"], "4.3.5"),
    ("several recipients", [*NEXTHOP, "a@d", "b@d"], "4.3.5"),
    ("connection refused", [*NEXTHOP, "--", "r@d"], "4.4.1"),
]


@pytest.mark.fault("33, 34, 35 command lines of which nothing comes")
@pytest.mark.parametrize(
    ("argv", "answer"), [row[1:] for row in LINES], ids=[row[0] for row in LINES]
)
def test_command_line_that_delivers_nothing(argv: list[str], answer: str) -> None:
    done = deliver(*argv)
    assert done.code == 75
    assert re.match(answer + r".*\Z", done.output.decode())


def test_help_as_a_recipient_is_an_address(
    tmp_path: Path, sink: ScriptedServer
) -> None:
    done = deliver(*options(sink, tmp_path), "--", "--help")
    assert done.code == 0
    assert "RCPT TO:<--help>" in sink.connections[0].commands


def test_broken_configuration(tmp_path: Path) -> None:
    file = tmp_path / "main.cf"
    file.write_text("soft_bounce = maybe\n")
    done = deliver("--config", str(file), *NEXTHOP, "--", "r@d")
    assert done.code == 75
    assert done.output.startswith(b"4.3.5 ")
    file.write_text("  starts with a blank\n")
    assert deliver("--config", str(file), *NEXTHOP, "--", "r@d").code == 75


BAD_DESCRIPTORS = [
    # id, how the shell starts it, delivered
    ("stdin closed", 'exec "$@" <&-', False),
    ("stdin can only be written", 'exec "$@" 0>/dev/null', False),
    ("stdout closed", 'exec "$@" >&-', True),
    ("stdout full", 'exec "$@" >/dev/full', True),
    ("stderr closed", 'exec "$@" 2>&-', True),
    ("all closed", 'exec "$@" <&- >&- 2>&-', False),
]


@pytest.mark.parametrize(
    ("shell", "delivered"),
    [row[1:] for row in BAD_DESCRIPTORS],
    ids=[row[0] for row in BAD_DESCRIPTORS],
)
def test_descriptors(
    tmp_path: Path, sink: ScriptedServer, shell: str, delivered: bool
) -> None:
    done = deliver(*options(sink, tmp_path), "--", "r@d.test", shell=shell)
    assert done.code == (0 if delivered else 75)
    got = [m for connection in sink.connections for m in connection.messages]
    assert len(got) == delivered


def test_stdin_that_python_refuses(
    tmp_path: Path, sink: ScriptedServer, program: str
) -> None:
    # A directory ends Python before it reads any code: that is the launcher's case.
    argv = [program, "deliver", *options(sink, tmp_path), "--", "r@d.test"]
    with_directory = ["sh", "-c", 'exec "$@" </', "sh", *argv]
    done = subprocess.run(with_directory, capture_output=True, check=False)
    assert done.returncode == 75
    assert done.stdout.startswith(b"4.3.0 ")
    assert done.stderr == b""


@pytest.mark.parametrize("shell", ['exec "$@" >&-', 'exec "$@" >/dev/full'])
def test_refusal_that_nobody_hears(tmp_path: Path, shell: str) -> None:
    with ScriptedServer({"stages": {"mail": "550 5.7.1 no"}}) as server:
        done = deliver(*options(server, tmp_path), "--", "r@d.test", shell=shell)
    assert done.code == 77


# --- time and signals -----------------------------------------------------------------


def start(
    server: ScriptedServer, tmp_path: Path, *more: str
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [*PROGRAM, *options(server, tmp_path), *more, "--", "r@d.test"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(MESSAGE)
    process.stdin.close()
    process.stdin = None
    return process


def wait_for(server: ScriptedServer, word: str) -> None:
    """Wait until the client has said a word."""
    wait(
        lambda: any(
            line.startswith(word) for c in server.connections for line in c.commands
        )
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_puts_the_mail_off(tmp_path: Path, number: signal.Signals) -> None:
    with ScriptedServer({"stages": {"ehlo": {"then": "hang"}}}) as server:
        process = start(server, tmp_path)
        wait_for(server, "EHLO")
        process.send_signal(number)
        output, errors = process.communicate()
    assert (process.returncode, output, errors) == (
        75,
        b"4.3.0 terminated by signal",
        b"",
    )


def test_signal_after_the_dot_waits_for_the_truth(tmp_path: Path) -> None:
    signalled = threading.Event()
    delay = partial(signalled.wait, PATIENCE)
    slow = {"eod": {"reply": "250 2.0.0 got it", "delay": delay}}
    with ScriptedServer({"stages": slow}) as server:
        process = start(server, tmp_path)
        wait_for(server, "<message")
        process.send_signal(signal.SIGTERM)
        signalled.set()
        output, _ = process.communicate()
    assert (process.returncode, output) == (0, b"250 2.0.0 got it")


def test_signal_when_all_have_the_message(tmp_path: Path) -> None:
    with ScriptedServer({"stages": {"quit": {"then": "hang"}}}) as server:
        process = start(server, tmp_path, "--json")
        wait_for(server, "QUIT")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
    assert process.returncode == 0
    assert [each["status"] for each in json.loads(output)["recipients"]] == ["sent"]


def test_signal_while_some_still_need_another_server(tmp_path: Path) -> None:
    """By hand several recipients may end one after the other: one is not all."""
    first = ScriptedServer({"stages": {"rcpt": ["250 ok", "450 4.2.0 later"]}})
    second = ScriptedServer({"stages": {"banner": {"then": "hang"}}})
    with first, second:
        where = f"[127.0.0.1]:{first.port},[127.0.0.1]:{second.port}"
        argv = [*PROGRAM, *options(where, tmp_path), "--json", "a@d.test", "b@d.test"]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin
        process.stdin.write(MESSAGE)
        process.stdin.close()
        process.stdin = None
        wait(lambda: second.connections)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert len(first.connections[0].messages) == 1
    assert process.returncode == 75


@pytest.mark.fault("7 a server that hangs at MAIL")
def test_deadline(tmp_path: Path) -> None:
    with ScriptedServer({"stages": {"mail": {"then": "hang"}}}) as server:
        more = ["-o", "trouble_deadline=10s"]
        done = deliver(*options(server, tmp_path), *more, "--", "r@d.test")
    assert done.code == 75
    assert re.match(
        rb"4\.4\.2 conversation with .* timed out while sending MAIL", done.output
    )


@pytest.mark.more
def test_each_reply_has_a_budget_of_its_own(tmp_path: Path) -> None:
    slow = {"reply": "250 ok", "delay": 0.6}
    script = {"stages": {"rcpt": slow}, "keywords": []}
    more = [
        "-o",
        "smtp_per_request_deadline=yes",
        "-o",
        "smtp_rcpt_timeout=10s",
        "--json",
    ]
    with ScriptedServer(script) as server:
        recipients = [f"{number}@d" for number in range(20)]
        done = deliver(*options(server, tmp_path), *more, *recipients)
    assert done.code == 0


# --- hostile addresses ----------------------------------------------------------------

WIRE = [
    # argument, what is between the brackets
    (b"a b@d", b'"a b"@d'),
    (b"a@b@d", b'"a@b"@d'),
    (b"a,b@z@d", b'"a,b@z"@d'),
    (b"a;b@d", b'"a;b"@d'),
    (b"<x>@d", b'"<x>"@d'),
    (b'a"b@d', rb'"a\"b"@d'),
    (b"a\\b@d", rb'"a\\b"@d'),
    (b"a\x1b[2Jb@d", b'"a\x1b[2Jb"@d'),
    (b"a\x01b@d", b'"a\x01b"@d'),
    (b"$(id)@d", b'"$(id)"@d'),
    (b"${sender}@d", b"${sender}@d"),
    (b"{x}@d", b"{x}@d"),
    ("\u00fc@d".encode(), "\u00fc@d".encode()),
    ("\u202e@d".encode(), "\u202e@d".encode()),
    (b"\xff@d", b"\xff@d"),
    (b"\xed\xa0\x80@d", b"\xed\xa0\x80@d"),
    (b"-oQ@d", b"-oQ@d"),
    (b"--config=/x@d", b"--config=/x@d"),
    (b"d@-x", b"d@-x"),
    (b"@d", b'""@d'),
    (b"-", b"-"),
    (b"--", b"--"),
    (b"--=x", b"--=x"),
    (b"@file", b'""@file'),
    (b"*", b"*"),
    (b"%s%n%d@d", b"%s%n%d@d"),
    (b"a@b <c@d>", b'"a@b <c"@d>'),
    (b"Foo <a@b>", b'"Foo <a"@b>'),
    (b"a@b, c@d", b'"a@b, c"@d'),
    (b"a@b:25", b"a@b:25"),
    (b"group:a@b;", b'"group:a"@b;'),
    (b"@relay:a@b", b'"@relay:a"@b'),
    (b"a(comment)@b", b'"a(comment)"@b'),
    (b"x" * 100000 + b"@d", b"x" * 100000 + b"@d"),
]


@pytest.mark.attack("addresses: what smtplib would send elsewhere")
def test_addresses_on_the_wire(tmp_path: Path) -> None:
    script = {"keywords": ["SMTPUTF8", "8BITMIME"]}
    with ScriptedServer(script) as server:
        addresses = [address for address, _ in WIRE]
        done = deliver(*options(server, tmp_path), "--json", "--", *addresses)
        heard = [line.encode() for line in server.connections[0].commands]
    assert done.code == 0, done.output[:1000]
    expected = [b"RCPT TO:<" + inside + b">" for _, inside in WIRE]
    # The server shows what it can't print, or can't read as UTF-8, in escapes.
    shown = [_visible(line) for line in expected]
    assert [line for line in heard if line.startswith(b"RCPT")] == shown


def _visible(line: bytes) -> bytes:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode("ascii", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text).encode()


def test_many_recipients(tmp_path: Path, sink: ScriptedServer) -> None:
    addresses = [f"user{i}@d.test" for i in range(2000)]
    done = deliver(*options(sink, tmp_path), "--json", "--", *addresses)
    assert done.code == 0
    assert len(json.loads(done.output)["recipients"]) == 2000


@pytest.mark.fault("36 NUL, CR, LF, nothing at all")
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--", "a\nb@d"], b"5.1.3 "),
        (["--", "a\r\nRSET@d"], b"5.1.3 "),
        (["--", ""], b"5.1.3 "),
        (["--sender", "a\nb@d", "--", "r@d"], b"5.1.7 "),
    ],
)
def test_address_that_would_break_the_protocol(
    tmp_path: Path, sink: ScriptedServer, arguments: list[str], status: bytes
) -> None:
    done = deliver(*options(sink, tmp_path), *arguments)
    assert done.code == 69
    assert done.output.startswith(status)
    assert sink.connections == []


@pytest.mark.parametrize("sender", ["", "<>"])
def test_null_sender(tmp_path: Path, sink: ScriptedServer, sender: str) -> None:
    done = deliver(*options(sink, tmp_path), "--sender", sender, "--", "r@d")
    assert done.code == 0
    assert sink.connections[0].commands[1].startswith("MAIL FROM:<>")


def test_quoted_addresses(tmp_path: Path, sink: ScriptedServer) -> None:
    sender = ["--sender", '"s t"@d']
    deliver(*options(sink, tmp_path), *sender, "--quoted", "--", '"a b"@d')
    assert sink.connections[0].commands[1].startswith('MAIL FROM:<"s t"@d>')
    assert sink.connections[0].commands[2] == 'RCPT TO:<"a b"@d>'


@pytest.mark.attack("log: a recipient with a record in it")
def test_log_cannot_be_forged(tmp_path: Path, sink: ScriptedServer) -> None:
    evil = "x>, relay=evil, status=sent (ok)\x85@d.test"
    deliver(*options(sink, tmp_path), "--queue-id", "Q\n1", "--", evil)
    records = (tmp_path / "log").read_text().splitlines()
    assert len(records) == sum("Q?1: " in record for record in records)
    assert '"x>, relay=evil, status=sent (ok)' in records[-1]


@pytest.mark.attack("addresses: a nexthop that is a path")
@pytest.mark.parametrize("nexthop", ["/tmp/socket", "unix:/tmp/s", "../x", "a/b"])
def test_nexthop_is_no_path(tmp_path: Path, nexthop: str) -> None:
    done = deliver(*options(nexthop, tmp_path), "--", "r@d")
    assert done.code != 0


def test_environment_does_not_matter(tmp_path: Path, sink: ScriptedServer) -> None:
    argv = [*PROGRAM, *options(sink, tmp_path), "--", "r@d"]
    for environment in ({}, {"LANG": "C", "PYTHONWARNINGS": "error", "TZ": "x"}):
        done = subprocess.run(
            argv, input=MESSAGE, capture_output=True, check=False, env=environment
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert os.path.exists(tmp_path / "log")


@pytest.mark.parametrize(
    ("size", "noted"),
    [(len(MESSAGE), False), (len(MESSAGE) + 3, False), (len(MESSAGE) * 3, True)],
)
def test_size_that_postfix_counts_otherwise_is_no_news(
    tmp_path: Path, sink: ScriptedServer, size: int, noted: bool
) -> None:
    done = deliver(*options(sink, tmp_path), "--size", str(size), "--", "r@d.test")
    assert done.code == 0
    assert ("bytes, not" in (tmp_path / "log").read_text()) is noted
