"""Hundreds of messages as people send them, byte for byte as smtp(8) sends them.

Each is handed in once, for several recipients: one queue file, which smtp(8) sends to a
server with 8BITMIME and to one without, which pipe(8) gives to a program that keeps it,
and, for some, to ours.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from private_postfix import PrivatePostfix

from message_kinds import KINDS, Mail, mails
from postfix_trouble.message.message import Message
from postfix_trouble.message.stages import Stages
from scripted_server import ScriptedServer

pytestmark = pytest.mark.more

HOST = "127.43.0.1"
SERVERS = {
    "8bit": (f"{HOST}:2525", ["8BITMIME", "SIZE 10240000"]),
    "plain": (f"{HOST}:2526", ["SIZE 10240000"]),
}
# One of so many of a kind goes through the program, too; the others only through what
# makes the bytes of it: a process each would take minutes.
SAMPLE = 10


class Heard(NamedTuple):
    """One message at a server: the MAIL command, and the bytes up to the dot."""

    mail: str
    text: bytes


class Sent(NamedTuple):
    """What became of one message."""

    # What pipe(8) gives to a program.
    piped: bytes
    # By server.
    theirs: Mapping[str, Heard]
    ours: Mapping[str, Heard]


def by_recipient(servers: Mapping[str, ScriptedServer]) -> dict[str, Heard]:
    """All that the servers heard."""
    found = {}
    for server in servers.values():
        for connection in server.connections:
            said = "\n".join(connection.commands)
            (recipient,) = re.findall(r"RCPT TO:<(\S+)>", said)
            (mail,) = re.findall(r"MAIL FROM:.*", said)
            (text,) = connection.messages
            assert recipient not in found, "sent twice"
            found[recipient] = Heard(mail, text)
    return found


@pytest.fixture(scope="module")
def sent(postfix: PrivatePostfix, place: Path) -> Iterator[dict[str, Sent]]:
    """All of them, delivered."""
    kept = place / "kept"
    kept.mkdir()
    kept.chmod(0o777)
    program = place / "keep"
    program.write_text(f'#!/bin/sh\nexec cat >"{kept}/$1"\n')
    program.chmod(0o755)
    entry = f"keep unix - n n - 8 pipe\n  user=nobody argv={program} ${{user}}\n"
    routes = "kept.test keep:\n" + "".join(
        f"{name}.{client}.test {transport}:[{HOST}]:{listen.rpartition(':')[2]}\n"
        for name, (listen, _) in SERVERS.items()
        for client, transport in (("ours", "text"), ("theirs", "text-smtp"))
    )
    # Else a header that is not ASCII keeps a message from the server without SMTPUTF8.
    settings = {"smtputf8_enable": "no"}

    def recipients(mail: Mail) -> list[str]:
        clients = ["theirs"]
        if mail.number % SAMPLE == 0:
            clients.append("ours")
        found = [f"{mail.name}@{s}.{c}.test" for s in SERVERS for c in clients]
        return [*found, f"{mail.name}@kept.test"]

    def submit(mail: Mail) -> None:
        postfix.submit(*recipients(mail), message=mail.text)

    everything = list(mails())
    assert len(everything) >= 500
    with postfix.rearranged(main=settings, routes=routes, master=entry):
        servers = {
            name: ScriptedServer({"keywords": keywords}, listen=listen)
            for name, (listen, keywords) in SERVERS.items()
        }
        with servers["8bit"], servers["plain"]:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(submit, everything))
            wanted = [r for mail in everything for r in recipients(mail)]
            records = postfix.delivered(wanted)
        unsent = [r for r in records.values() if r.status != "sent"]
        assert not unsent
        heard = by_recipient(servers)
        yield {
            mail.name: Sent(
                (kept / mail.name).read_bytes(),
                *(
                    {
                        server: heard[recipient]
                        for server in SERVERS
                        if (recipient := f"{mail.name}@{server}.{client}.test") in heard
                    }
                    for client in ("theirs", "ours")
                ),
            )
            for mail in everything
        }
    shutil.rmtree(kept)


def of_kind(sent: Mapping[str, Sent], kind: str) -> dict[str, Sent]:
    """The messages of one kind, by name."""
    return {n: s for n, s in sent.items() if n.rpartition("-")[0] == kind}


@pytest.mark.parametrize("kind", KINDS)
def test_same_bytes_with_8bitmime(sent: dict[str, Sent], kind: str) -> None:
    for name, one in of_kind(sent, kind).items():
        ours = b"".join(Message.from_bytes(one.piped).outgoing())
        assert ours == one.theirs["8bit"].text, name


@pytest.mark.parametrize("kind", KINDS)
def test_same_bytes_without_8bitmime(sent: dict[str, Sent], kind: str) -> None:
    stages = Stages(downgrade=True)
    for name, one in of_kind(sent, kind).items():
        ours = b"".join(Message.from_bytes(one.piped).outgoing(stages=stages))
        assert ours == one.theirs["plain"].text, name


@pytest.mark.parametrize("kind", KINDS)
def test_8bitmime_is_asked_for_when_smtp8_does(
    sent: dict[str, Sent], kind: str
) -> None:
    """cleanup(8) goes by the headers of all parts, and counts them as it sees them."""
    for name, one in of_kind(sent, kind).items():
        theirs = "8bit" if "BODY=8BITMIME" in one.theirs["8bit"].mail else ""
        assert Message.from_bytes(one.piped).encoding() == theirs, name


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_sends_the_same(sent: dict[str, Sent], kind: str) -> None:
    through_us = [one for one in of_kind(sent, kind).values() if one.ours]
    assert through_us
    for one in through_us:
        assert one.ours == one.theirs


# A header that is the same for all but for its id and date.
RECEIVED = re.compile(rb"Received: by client\.example\.test .*?\(UTC\)\r?\n", re.DOTALL)
RECORDED = Path(__file__).parent.parent / "message" / "data" / "sent-messages.txt"


def test_what_is_recorded_is_what_smtp8_sends(
    sent: dict[str, Sent], tmp_path: Path
) -> None:
    """tests/message/test_message_kinds.py goes by that, where there is no Postfix.

    Only messages that cleanup(8) does not change, but for the one header.
    """
    lines = []
    for mail in mails():
        piped, theirs, _ = sent[mail.name]
        received = RECEIVED.match(piped)
        if received is None or piped[received.end() :] != mail.text:
            continue
        digests = []
        for server in ("8bit", "plain"):
            text = RECEIVED.sub(b"", theirs[server].text, count=1)
            digests.append(hashlib.sha256(text).hexdigest()[:16])
        body = "8bit" if "BODY=8BITMIME" in theirs["8bit"].mail else "none"
        lines.append(" ".join((mail.name, body, *digests)) + "\n")
    anew = tmp_path / RECORDED.name
    anew.write_text("".join(lines))
    assert RECORDED.read_text() == anew.read_text(), f"cp {anew} {RECORDED}"
