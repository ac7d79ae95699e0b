"""One Postfix, one server, two clients: nobody can tell the two log lines apart."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

import pytest
import side_by_side
from private_postfix import Delivery, PrivatePostfix
from side_by_side import CASES, OUTCOMES, recipient

from scripted_server import ScriptedServer


class Pair(NamedTuple):
    """The records of both clients for one case."""

    ours: Delivery
    theirs: Delivery
    dialogues: list[list[str]]


def deliver_both(
    postfix: PrivatePostfix, case: str, transport: str = "trouble"
) -> Pair:
    """Send a message through each client, one after the other."""
    with ExitStack() as stack:
        servers = []
        places = side_by_side.addresses(case)
        for stages, place in zip(CASES[case].servers, places, strict=True):
            if stages is not side_by_side.DOWN:
                server = ScriptedServer({"stages": stages}, listen=place)
                servers.append(stack.enter_context(server))
        ours, theirs = recipient(case, transport), recipient(case, "smtp")
        records = []
        for address in (ours, theirs):
            postfix.submit(address)
            records.append(postfix.delivery(address))
    dialogues = [
        [c.replace(ours, "R").replace(theirs, "R") for c in connection.commands]
        for server in servers
        for connection in server.connections
    ]
    return Pair(*records, dialogues)


def same(pair: Pair, case: str) -> None:
    """Both records say the same, and what was expected of the case."""
    ours, theirs, _ = pair
    status, dsn = CASES[case].status, CASES[case].dsn
    assert (theirs.status, theirs.dsn) == (status, dsn), theirs.reason
    assert (ours.status, ours.dsn) == (status, dsn), ours.reason
    if status == "sent":
        wrapped = f"delivered via {ours.relay} service ({theirs.reason[:100]})"
        assert ours.reason == wrapped
    else:
        assert ours.reason == theirs.reason


@pytest.mark.parametrize("case", CASES)
def test_same_record(postfix: PrivatePostfix, case: str) -> None:
    pair = deliver_both(postfix, case)
    same(pair, case)
    # The servers heard the same dialogue twice, SIZE= aside (the recipients differ).
    dialogues = [[c.partition(" SIZE=")[0] for c in d] for d in pair.dialogues]
    per_server = len(dialogues) // 2
    assert len(dialogues) % 2 == 0
    assert sorted(dialogues[::2]) == sorted(dialogues[1::2]) or per_server > 1


class TestOutcomes:
    """The outcomes by which programs for pipe(8) are told apart."""

    def test_there_are_fourteen(self) -> None:
        assert len(OUTCOMES) == 14

    @pytest.mark.parametrize("outcome", OUTCOMES)
    @pytest.mark.parametrize("transport", ["troubles"])
    def test_right(self, postfix: PrivatePostfix, outcome: str, transport: str) -> None:
        same(deliver_both(postfix, OUTCOMES[outcome], transport), OUTCOMES[outcome])
