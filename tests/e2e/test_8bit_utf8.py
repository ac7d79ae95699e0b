"""What is not ASCII arrives from both clients byte by byte the same, or not at all."""

from __future__ import annotations

import quopri
from collections.abc import Iterator

import pytest
from both_clients import Result, message, routes, same, under_way
from private_postfix import PrivatePostfix
from rearranged import rearranged
from text_cases import CASES, MAILS, OFF, UNTOLD


@pytest.fixture(scope="module")
def delivered(postfix: PrivatePostfix) -> Iterator[dict[str, Result]]:
    """All cases, delivered by both clients."""
    with under_way(postfix, {**CASES, **UNTOLD}) as results:
        yield results


@pytest.mark.parametrize("name", CASES)
def test_same_envelope(delivered: dict[str, Result], name: str) -> None:
    same(delivered[name], CASES[name])


@pytest.mark.parametrize(
    "name", [n for n, case in CASES.items() if case.status == "sent"]
)
def test_same_bytes(delivered: dict[str, Result], name: str) -> None:
    (connections,) = delivered[name].heard.values()
    first, second = map(message, connections)
    assert first == second


def test_quoted_printable_where_8bit_is_not_taken(
    delivered: dict[str, Result],
) -> None:
    """Not only alike, but right: what was sent can be read again."""
    (connections,) = delivered["declared-to-plain"].heard.values()
    head, _, body = connections[0].messages[0].partition(b"\r\n\r\n")
    assert b"Content-Transfer-Encoding: quoted-printable" in head
    # Dots at the beginning of a line are doubled on the way (RFC 5321 4.5.2).
    body = body.replace(b"\r\n..", b"\r\n.")
    sent = MAILS["declared"].body.replace(b"\n", b"\r\n")
    assert quopri.decodestring(body).rstrip() == sent


def test_who_was_not_told_that_utf8_was_asked_for(
    delivered: dict[str, Result],
) -> None:
    """pipe(8) keeps it to itself; only addresses tell us then."""
    ours, theirs, _ = delivered["untold-to-plain"]
    assert (theirs.status, theirs.dsn) == ("bounced", "5.6.7")
    assert ours.status == "sent"
    ours, theirs, heard = delivered["untold-to-utf8"]
    assert (ours.status, theirs.status) == ("sent", "sent")
    (connections,) = heard.values()
    first, second = map(message, connections)
    assert first == second


@pytest.fixture(scope="module")
def without(postfix: PrivatePostfix) -> Iterator[dict[str, Result]]:
    """Delivered by both clients where nobody knows of SMTPUTF8."""
    settings = {"smtputf8_enable": "no"}
    with (
        rearranged(postfix, main=settings, routes=routes(OFF)),
        under_way(postfix, OFF) as results,
    ):
        yield results


@pytest.mark.long
@pytest.mark.parametrize("name", OFF)
def test_same_without_smtputf8(without: dict[str, Result], name: str) -> None:
    same(without[name], OFF[name])
    (connections,) = without[name].heard.values()
    first, second = map(message, connections)
    assert first == second
