"""One Postfix, one server, two clients: nobody can tell the two log lines apart."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest
import side_by_side
from private_postfix import Delivery, PrivatePostfix, deliveries
from side_by_side import CASES, OUTCOMES, recipient

from scripted_server import ScriptedServer


class Pair(NamedTuple):
    """The records of both clients for one case, and what each server heard."""

    ours: Delivery
    theirs: Delivery
    heard: list[list[list[str]]]


def without_sizes(commands: list[str]) -> list[str]:
    """Commands less what differs between two messages to two recipients."""
    text = "\n".join(commands)
    text = re.sub(r"RCPT TO:<\S+>", "RCPT TO:<recipient>", text)
    return re.sub(r"(SIZE=|<message )\d+", r"\1n", text).split("\n")


def deliver_both(
    postfix: PrivatePostfix, cases: Iterable[str], transport: str
) -> dict[str, Pair]:
    """Send a message through each client for each case, all at once."""
    with ExitStack() as stack:
        servers: dict[str, list[ScriptedServer]] = {case: [] for case in cases}
        addresses = {}
        for case in servers:
            places = side_by_side.addresses(case)
            for stages, place in zip(CASES[case].servers, places, strict=True):
                if stages is not side_by_side.DOWN:
                    server = ScriptedServer({"stages": stages}, listen=place)
                    servers[case].append(stack.enter_context(server))
            # Of its own for each test: a record of an earlier one is not waited for.
            local = f"{transport}-{case}"
            addresses[case] = [recipient(case, x, local) for x in (transport, "smtp")]
            for address in addresses[case]:
                postfix.submit(address)
        records = postfix.delivered(chain(*addresses.values()))
    return {
        case: Pair(
            records[addresses[case][0]],
            records[addresses[case][1]],
            [[without_sizes(c.commands) for c in s.connections] for s in servers[case]],
        )
        for case in servers
    }


@pytest.fixture(scope="module")
def pairs(postfix: PrivatePostfix) -> dict[str, Pair]:
    return deliver_both(postfix, CASES, "trouble")


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
def test_same_record(pairs: dict[str, Pair], our_log: Path, case: str) -> None:
    pair = pairs[case]
    same(pair, case)
    # Our own record, which pipe(8) has no say in, differs in nothing but the names.
    (record,) = (
        r for r in deliveries(our_log.read_text()) if r.queue_id == pair.ours.queue_id
    )
    assert record.relay == pair.theirs.relay
    assert record[-3:] == pair.theirs[-3:]
    # Each server has heard the same twice.
    for dialogues in pair.heard:
        in_order = sorted(dialogues)
        assert in_order[::2] == in_order[1::2]


@pytest.fixture(scope="module")
def others(postfix: PrivatePostfix) -> dict[str, Pair]:
    """With the other recipe; the first one has them among its cases."""
    return deliver_both(postfix, OUTCOMES.values(), "troubles")


class TestOutcomes:
    """The outcomes by which programs for pipe(8) are told apart."""

    def test_there_are_fourteen(self) -> None:
        assert len(OUTCOMES) == 14

    @pytest.mark.parametrize("outcome", OUTCOMES)
    def test_right(self, others: dict[str, Pair], outcome: str) -> None:
        case = OUTCOMES[outcome]
        same(others[case], case)
