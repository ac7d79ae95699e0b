"""What is particular to a delivery through pipe(8): settings, signals, addresses."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import side_by_side
import variants
from private_postfix import MESSAGE, Delivery, PrivatePostfix

from scripted_server import Script, ScriptedServer
from waiting import wait

HANG_AT_MAIL = {"stages": {"mail": {"action": "hang"}}}


def deliver(
    postfix: PrivatePostfix, variant: str, script: Script
) -> tuple[Delivery, ScriptedServer]:
    """Send a message through a variant's transport to a scripted server."""
    recipient = variants.recipient(variant)
    with ScriptedServer(script, listen=variants.address(variant)) as server:
        postfix.submit(recipient)
        return postfix.delivery(recipient), server


class TestMistakes:
    """Nothing that is wrong with the set-up may cost a mail or bounce it."""

    @pytest.mark.fault(
        "32, 33, 34, 35 mistakes in master.cf, a launcher alone, behind pipe(8)"
    )
    @pytest.mark.parametrize(
        ("variant", "dsn"),
        [
            ("unknown-option", "4.3.5"),
            ("unknown-setting", "4.3.5"),
            ("bad-setting", "4.3.5"),
            ("no-config", "4.3.5"),
            ("no-nexthop", "4.3.5"),
            ("no-command", "4.3.5"),
            ("misspelt", "4.3.5"),
            ("help", "4.3.5"),
            ("help-behind", "4.3.5"),
            ("bare", "4.3.0"),
        ],
    )
    def test_defers(self, postfix: PrivatePostfix, variant: str, dsn: str) -> None:
        record, server = deliver(postfix, variant, {})
        assert (record.status, record.dsn) == ("deferred", dsn), record.reason
        assert "Command output" not in record.reason
        assert "Traceback" not in record.reason
        assert not server.connections

    def test_soft_bounce(self, postfix: PrivatePostfix) -> None:
        script = {"stages": {"rcpt": "550 5.1.1 no such user"}}
        record, _ = deliver(postfix, "soft", script)
        assert (record.status, record.dsn) == ("deferred", "4.1.1")


class TestTime:
    """The program ends before pipe(8) has to end it."""

    @pytest.mark.fault("7 a server that hangs, behind pipe(8)")
    def test_deadline(self, postfix: PrivatePostfix) -> None:
        record, _ = deliver(postfix, "deadline", HANG_AT_MAIL)
        assert record.status == "deferred"
        assert record.dsn in ("4.4.2", "4.3.0"), record.reason
        assert "Command" not in record.reason

    @pytest.mark.fault(
        "1, 4 SIGTERM, SIGINT, SIGKILL, SIGSEGV in the dialogue, behind pipe(8)"
    )
    @pytest.mark.parametrize(
        "number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSEGV]
    )
    def test_signal(self, postfix: PrivatePostfix, number: signal.Signals) -> None:
        recipient = f"{number.name}@patient.variant.test"
        place = variants.address("patient")
        with ScriptedServer(HANG_AT_MAIL, listen=place) as server:
            postfix.submit(recipient)
            until_mail_is_said(server)
            os.kill(python_of(recipient), number)
            record = postfix.delivery(recipient)
        assert (record.status, record.dsn) == ("deferred", "4.3.0")
        assert "Command died" not in record.reason


def until_mail_is_said(server: ScriptedServer) -> None:
    """Wait until the client is in the middle of its dialogue."""
    wait(lambda: any(len(c.commands) > 1 for c in server.connections))


def python_of(recipient: str) -> int:
    """The process id of the interpreter that delivers to a recipient."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            argv = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        launched = any(word.startswith(b"@launcher=") for word in argv)
        if recipient.encode() in argv and launched:
            return int(directory.name)
    raise AssertionError(f"nobody delivers to {recipient}")


ADDRESSES = {
    "null-sender": ("", "r"),
    "blank": ("sender@sender.test", '"a b"'),
    "dash": ("sender@sender.test", "-o"),
    "two-dashes": ("sender@sender.test", "--"),
    "shell": ("sender@sender.test", '"$(id)`id`;*?|&"'),
    "quotes": ("sender@sender.test", '"a\\"b\\\\c"'),
    "at-sign": ("sender@sender.test", '"a@b"'),
    "brackets": ("sender@sender.test", '"a<b>c"'),
    "dots": ("sender@sender.test", '".a..b."'),
    "macro": ("sender@sender.test", "${sender}"),
    "odd-sender": ('"a b"@sender.test', "r"),
    "long": ("sender@sender.test", "x" * 200),
}


class TestAddresses:
    """Addresses arrive as smtp(8) sends them, whatever is in them."""

    @pytest.mark.attack("addresses: blanks, dashes, quotes, macros, behind pipe(8)")
    @pytest.mark.parametrize("name", ADDRESSES)
    def test_same_commands(self, postfix: PrivatePostfix, name: str) -> None:
        sender, local = ADDRESSES[name]
        (place,) = side_by_side.addresses("sent")
        heard: list[list[str]] = []
        with ScriptedServer({"keywords": []}, listen=place) as server:
            for client in ("trouble", "smtp"):
                postfix.submit(f"{local}@sent.{client}.test", sender=sender)
                commands = side_by_side.next_taken(server, len(heard)).commands[1:3]
                heard.append([c.replace(f".{client}.", ".client.") for c in commands])
        assert heard[0] == heard[1]
        assert heard[0][0].startswith("MAIL FROM:<")


BODIES = {
    "dots": b".\n..\n.x\nx.\n",
    "long-line": b"y" * 5000 + b"\n",
    "no-line-end": b"no line end",
    "eight-bit": b"\xe4\xf6\xfc\n",
    "no-body": b"",
    "3-MB": b"0123456789\n" * 300_000,
}


class TestMessage:
    """The message arrives as smtp(8) sends it."""

    @pytest.mark.attack("smuggling: dots, long lines, 8-bit, behind pipe(8)")
    @pytest.mark.parametrize("name", BODIES)
    def test_same_body(self, postfix: PrivatePostfix, name: str) -> None:
        message = MESSAGE.partition(b"\n\n")[0] + b"\n\n" + BODIES[name]
        (place,) = side_by_side.addresses("sent")
        with ScriptedServer(listen=place) as server:
            for client in ("trouble", "smtp"):
                recipient = f"{name}@sent.{client}.test"
                postfix.submit(recipient, message=message)
                assert postfix.delivery(recipient).status == "sent"
        ours, theirs = (
            connection.messages[0].partition(b"\r\n\r\n")[2]
            for connection in server.connections
        )
        assert ours == theirs


class TestSeveralRecipients:
    """The second recipe: one request for all, each recipient once."""

    def recipients(self, *words: str) -> list[str]:
        return [f"{word}@sent.troubles.test" for word in words]

    def test_all_sent(self, postfix: PrivatePostfix) -> None:
        (place,) = side_by_side.addresses("sent")
        wanted = self.recipients("all-1", "all-2", "all-3")
        with ScriptedServer(listen=place) as server:
            postfix.submit(*wanted)
            records = postfix.delivered(wanted)
        assert {r.status for r in records.values()} == {"sent"}
        assert len(server.connections) == 1

    @pytest.mark.fault("38 one refused, behind pipe(8)")
    def test_one_bounced(self, postfix: PrivatePostfix) -> None:
        """The program sends the bounce, since pipe(8) takes one result for all."""
        (place,) = side_by_side.addresses("sent")
        good, bad = wanted = self.recipients("good", "bad")
        script = {"stages": {f"rcpt:{bad}": "550 5.1.1 no such user"}}
        with ScriptedServer(script, listen=place):
            postfix.submit(good, bad, sender="bounced@sender.test")
            records = postfix.delivered(wanted)
            bounce = postfix.delivery("bounced@sender.test")
        assert {r.status for r in records.values()} == {"sent"}
        assert bounce.queue_id != records[good].queue_id

    @pytest.mark.fault("37 one deferred, behind pipe(8)")
    def test_one_deferred(self, postfix: PrivatePostfix) -> None:
        """At the next attempt, who has it already does not get it again."""
        (place,) = side_by_side.addresses("dot-4xx")
        done, late = (f"{w}@dot-4xx.troubles.test" for w in ("done", "late"))
        script = {"stages": {f"rcpt:{late}": ["450 4.2.0 later", "250 ok"]}}
        with ScriptedServer(script, {}, listen=place) as server:
            postfix.submit(done, late)
            first = postfix.delivered([done, late])
            assert {r.status for r in first.values()} == {"deferred"}
            postfix.retry(first[done].queue_id)
            last = postfix.delivered([done, late], status="sent")
        assert {r.status for r in last.values()} == {"sent"}
        given = [[c for c in s.commands if "RCPT" in c] for s in server.connections]
        assert given == [
            [f"RCPT TO:<{done}>", f"RCPT TO:<{late}>"],
            [f"RCPT TO:<{late}>"],
        ]
