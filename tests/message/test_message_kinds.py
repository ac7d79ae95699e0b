"""Messages as people send them, as servers get them; see tests/e2e/test_messages.py."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from message_kinds import KINDS, Mail, mails
from postfix_trouble.message.lines import outgoing
from postfix_trouble.message.message import Message
from postfix_trouble.message.mime import Parser
from postfix_trouble.message.stages import Stages

# NAME ENCODING, and the beginning of the SHA-256 of what smtp(8) sent to a server
# with 8BITMIME, and to one without. Recorded with Postfix 3.7.11; those that
# cleanup(8) changes are not here.
RECORDED = Path(__file__).parent / "data" / "sent-messages.txt"
SENT = {name: rest for name, *rest in map(str.split, RECORDED.read_text().splitlines())}
MAILS = {kind: [mail for mail in mails() if mail.kind == kind] for kind in KINDS}


def digest(chunks: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(chunks)).hexdigest()[:16]


def cut(text: bytes, size: int) -> Iterable[bytes]:
    return (text[at : at + size] for at in range(0, len(text), size))


def test_there_is_something_to_compare_with() -> None:
    assert sum(map(len, MAILS.values())) >= 500
    assert len(SENT) > 250


@pytest.mark.parametrize("kind", sorted({n.rpartition("-")[0] for n in SENT}))
def test_sent_as_by_smtp8(kind: str) -> None:
    for mail in MAILS[kind]:
        if mail.name in SENT:
            message = Message.from_bytes(mail.text)
            converted = message.outgoing(stages=Stages(downgrade=True))
            assert [
                message.encoding() or "none",
                digest(message.outgoing()),
                digest(converted),
            ] == SENT[mail.name], mail.name


@pytest.mark.parametrize("kind", KINDS)
def test_any_of_them_is_safe_to_send(kind: str) -> None:
    """What a server reads is one message, whatever it takes for the end of a line."""
    for mail in MAILS[kind]:
        for sent in (
            b"".join(outgoing([mail.text])),
            b"".join(outgoing(Parser(downgrade=True).run([mail.text]))),
        ):
            assert not mail.text or sent.endswith(b"\r\n"), mail.name
            assert not re.search(rb"(?<!\r)\n", sent), "a bare LF"
            assert not re.search(rb"(\A|[\r\n])\.(?!\.)", sent), "a lone dot"
            assert max(map(len, sent.split(b"\r\n"))) <= 999


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 2048])
def test_chunks_make_no_difference(kind: str, size: int) -> None:
    for mail in small(MAILS[kind], size):
        assert b"".join(outgoing(cut(mail.text, size))) == b"".join(
            outgoing([mail.text])
        ), mail.name
        whole, pieces = (
            b"".join(Parser(downgrade=True).run(chunks))
            for chunks in ([mail.text], cut(mail.text, size))
        )
        assert pieces == whole, mail.name


def small(found: Iterable[Mail], size: int) -> Iterable[Mail]:
    """Those that are not many chunks: it is the odd places that count."""
    return (mail for mail in found if len(mail.text) <= 4000 * size)
