"""Postfix's lmtp(8) and our LMTP server, over a socket and under spawn(8).

The delivery is a stand-in that goes by the local part of a recipient; what Postfix
logs, and what arrives here, is what is looked at.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from lmtp_postfix import LmtpPostfix
from private_postfix import Delivery

import needs
from fresh_checkout import open_place

pytestmark = [pytest.mark.e2e, pytest.mark.more]

MAIN = {
    "local_recipient_maps": "",
    "lmtp_send_xforward_command": "yes",
    "lmtp_line_length_limit": "0",
    "cleanup_replace_stray_cr_lf": "no",
    "import_environment": "MAIL_CONFIG MAIL_LOGTAG TZ LANG=C",
}
SERVER = """
import json, sys
from postfix_trouble.lmtp import listener
connection = None
if len(sys.argv) == 2:
    connection = listener.take_descriptor_0()
    print("noise", flush=True)
    print("noise", file=sys.stderr, flush=True)

from postfix_trouble.lmtp.server import serve
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.outcome import DSN, Disposition, Outcome
from postfix_trouble.lmtp.replies import reply

KINDS = {
    "soft": (Disposition.DEFERRED, "4.2.2", "host mx said: 452 4.2.2 full (x)"),
    "hard": (Disposition.BOUNCED, "5.1.1", "host mx said: 550 5.1.1 who?"),
    "long": (Disposition.BOUNCED, "5.7.1", "because " * 400),
}
SENT = (Disposition.SENT, "2.0.0", "250 2.0.0 Ok: queued as ABC")

def deliver(transaction, gone):
    request = transaction.request
    text = transaction.message.read()
    with open(sys.argv[1], "a") as seen:
        envelope = request._asdict()
        envelope["recipients"] = [each._asdict() for each in request.recipients]
        seen.write(json.dumps([envelope, text.decode("latin-1")]) + "\\n")
    if request.recipients[0].address.startswith("bug"):
        raise RuntimeError("oops")
    assert not gone()
    replies = []
    for recipient in request.recipients:
        kind, status, reason = KINDS.get(recipient.address[:4], SENT)
        dsn = DSN(EnhancedStatus(status), reason)
        replies.append(reply(Outcome(recipient, kind, dsn)))
    return replies

stop = listener.Stop()
stop.on_signals()
options = {"hostname": "lmtpd.example.test", "stop": stop}
if connection is not None:
    serve(connection, deliver, **options)
else:
    socket = listener.listen(f"unix:{sys.argv[2]}", 0o666)
    print("ready", flush=True)
    serve_one = lambda connection: serve(connection, deliver, **options)
    listener.accept_all([socket], serve_one, stop)
"""


class World(NamedTuple):
    """A Postfix whose mail all goes to our server."""

    postfix: LmtpPostfix
    # What the server writes down.
    record: Path

    def send(self, message: bytes, *recipients: str, options: str = "") -> None:
        """Submit a message; its sender is sender@example.test."""
        self.postfix.submit(
            *recipients,
            sender="sender@example.test",
            message=message,
            options=options.split(),
        )

    def results(self, *recipients: str) -> list[Delivery]:
        """The records of these recipients, as soon as all have one."""
        found = self.postfix.delivered(recipients)
        assert {record.service for record in found.values()} == {"lmtp"}
        return [found[recipient] for recipient in recipients]

    def seen(self, recipient: str) -> tuple[dict[str, Any], bytes]:
        """The envelope and the message that the server was given."""
        for line in self.record.read_text().splitlines():
            envelope, text = json.loads(line)
            if recipient in [each["address"] for each in envelope["recipients"]]:
                return envelope, text.encode("latin-1")
        raise AssertionError(f"{recipient} was not seen")


@contextlib.contextmanager
def listening(home: Path) -> Iterator[str]:
    """Our server as a daemon. The path of its socket."""
    path = str(home / "lmtpd")
    server = subprocess.Popen(
        [sys.executable, "-B", str(home / "server.py"), str(home / "seen"), path],
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    with server:
        assert server.stdout.readline() == b"ready\n"
        yield path
        server.terminate()
    assert server.returncode == 0


@pytest.fixture(scope="module", params=["listener", "spawn"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    by_spawn = request.param == "spawn"
    if by_spawn:
        needs.open_to_others(sys.executable)
    with open_place() as home:
        record, server = home / "seen", home / "server.py"
        server.write_text(SERVER)
        record.touch()
        shutil.chown(record, "nobody")
        where = "private/lmtpd" if by_spawn else f"{home}/lmtpd"
        entry = (
            "lmtpd unix - n n - - spawn\n"
            f"  user=nobody argv={sys.executable} -B {server} {record}\n"
        )
        postfix = LmtpPostfix(home, f"lmtp:unix:{where}", entry, **MAIN)
        with (
            contextlib.nullcontext() if by_spawn else listening(home),
            postfix.running(),
        ):
            yield World(postfix, record)


MESSAGE = b"""Subject: dots and other odd bytes

.
..
.dot
a\rb
\x80\xff\x01
the end, without a newline"""


def test_each_recipient_ends_in_its_own_way(world: World) -> None:
    world.send(MESSAGE, "ok@d.test", "soft@d.test", "hard@d.test", "long@d.test")
    results = world.results("ok@d.test", "soft@d.test", "hard@d.test", "long@d.test")
    assert [(result.status, result.dsn) for result in results] == [
        ("sent", "2.0.0"),
        ("deferred", "4.2.2"),
        ("bounced", "5.1.1"),
        ("bounced", "5.7.1"),
    ]
    ok, soft, hard, long = (result.reason for result in results)
    assert ok == "250 2.0.0 Ok: queued as ABC"
    said = re.compile(r"^host \S+ said: (.*) \(in reply to end of DATA command\)$")
    assert said.sub(r"\1", soft) == "450 4.2.2 host mx said: 452 4.2.2 full (x)"
    assert said.sub(r"\1", hard) == "550 5.1.1 host mx said: 550 5.1.1 who?"
    assert "said: 550-5.7.1 because because " in long


def test_the_message_arrives_as_it_was_sent(world: World) -> None:
    world.send(MESSAGE, "bytes@d.test")
    world.results("bytes@d.test")
    envelope, message = world.seen("bytes@d.test")
    body = MESSAGE[MESSAGE.index(b"\n\n") :]
    assert message.endswith(body + b"\n")
    assert message.startswith(b"Received: ")
    assert envelope["sender"] == "sender@example.test"
    assert f"size={envelope['size']}, nrcpt=" in world.postfix.log()


def test_a_large_message(world: World) -> None:
    text = b"Subject: large\n\n" + b".0123456789abcdef\n" * 100_000
    world.send(text, "large@d.test")
    world.results("large@d.test")
    message = world.seen("large@d.test")[1]
    # No diff of millions of bytes, should they not be equal.
    assert message.endswith(text[text.index(b"\n\n") :]) is True


def test_dsn_parameters_and_odd_addresses(world: World) -> None:
    world.send(
        MESSAGE,
        '"a b"@d.test',
        '"a@b"@d.test',
        "plus+tag=x@d.test",
        options="-N success,delay -V QQ+1=2 -R hdrs",
    )
    world.results('"a b"@d.test', '"a@b"@d.test', "plus+tag=x@d.test")
    envelope, _ = world.seen("plus+tag=x@d.test")
    recipients = {each["address"]: each for each in envelope["recipients"]}
    assert set(recipients) == {"a b@d.test", "a@b@d.test", "plus+tag=x@d.test"}
    assert {each["notify"] for each in recipients.values()} == {"SUCCESS,DELAY"}
    assert recipients["plus+tag=x@d.test"]["orcpt"] == "rfc822;plus+tag=x@d.test"
    assert envelope["envid"] == "QQ+1=2"
    assert envelope["ret"] == "hdrs"
    # For mail that came by sendmail(1), XFORWARD tells no more than that.
    assert envelope["attributes"] == {"rewrite_context": "local"}


@pytest.mark.fault("LMTP a bug, beside other messages, with lmtp(8)")
def test_a_bug_defers(world: World) -> None:
    world.send(MESSAGE, "bug@d.test", "bystander@d.test")
    for result in world.results("bug@d.test", "bystander@d.test"):
        assert (result.status, result.dsn) == ("deferred", "4.3.0")


def test_nothing_was_strange(world: World) -> None:
    """No warning of lmtp(8): about our keywords, our replies, or noise among them."""
    world.send(MESSAGE, "last@d.test")
    world.results("last@d.test")
    strange = ("warning", "fatal", "panic", "error:", "noise")
    # That one is about files in /etc/postfix, which other tests have put there.
    lines = [x for x in world.postfix.log().splitlines() if "/postfix-script[" not in x]
    assert not [line for line in lines if any(word in line for word in strange)]
