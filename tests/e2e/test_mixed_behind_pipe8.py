"""What Postfix makes of a request of which some are refused: log and bounces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
from private_postfix import PrivatePostfix, transport

from fickle_server import FickleServer
from waiting import wait

pytestmark = pytest.mark.more

SERVER, COLLECTOR = "127.61.0.1:2525", "127.61.0.2:2525"
KINDS = ("mixture", "json", "json-alone")
SENDER = "s@collected.mixed.test"


def judge(stage: str, subject: str, times: int) -> str | None:
    if stage == "rcpt" and subject.startswith("refused."):
        return "550 5.1.1 no such user"
    if stage == "rcpt" and subject.startswith("never."):
        return "450 4.2.0 later"
    return None


class World:
    """Postfix, a server that refuses, and what came back to the sender."""

    def __init__(self, postfix: PrivatePostfix, log: Path) -> None:
        self.postfix = postfix
        self.log = log
        self.server = FickleServer(judge, listen=SERVER)
        self.collector = FickleServer(listen=COLLECTOR)

    def told(self) -> list[str]:
        """Whom the sender's bounces name, once one of them is there."""
        wait(lambda: self.collector.journal, lambda: "no bounce")
        texts = [message_from_bytes(copy.text) for copy in self.collector.journal]
        status = "".join(str(text.get_payload(1)) for text in texts)
        return re.findall(r"^Final-Recipient: rfc822; (\S+)", status, re.M)


@pytest.fixture(scope="module")
def several(
    postfix: PrivatePostfix, example: str, installed: Path
) -> Iterator[PrivatePostfix]:
    recipe = transport(example, "troubles").removeprefix("troubles")
    run = f"argv={installed} deliver"
    assert run in recipe
    state = "--state-directory " + recipe.partition("--state-directory ")[2].split()[0]
    as_json = recipe.replace(run, f"{run} --json")
    master = f"mixture{recipe}json{as_json}json-alone{as_json.replace(state, '')}"
    routes = "".join(f"{kind}.mixed.test {kind}:[127.61.0.1]:2525\n" for kind in KINDS)
    routes += "collected.mixed.test smtp:[127.61.0.2]:2525\n"
    with postfix.rearranged(main={}, routes=routes, master=master):
        yield postfix


@pytest.fixture
def world(several: PrivatePostfix, our_log: Path) -> Iterator[World]:
    world = World(several, our_log)
    with world.server, world.collector:
        yield world
        world.postfix.empty_queue()


@pytest.mark.fault("38 what pipe(8) logs of one sent and one refused")
def test_log(world: World) -> None:
    """Whoever reads the log sees that one bounced, and where to look."""
    good, bad = "ok.1@mixture.mixed.test", "refused.1@mixture.mixed.test"
    world.postfix.submit(good, bad, sender=SENDER)
    records = world.postfix.delivered([good, bad])
    assert world.told() == [bad]
    reason = "delivered via mixture service (1 sent, 1 bounced (5.1.1): see {})"
    assert records[good].reason == records[bad].reason
    found = re.fullmatch(
        re.escape(reason).replace(r"\{\}", r"(postfix-trouble\[\d+\])") + r"?",
        records[bad].reason,
    )
    assert found, records[bad]
    ours = [line for line in world.log.read_text().splitlines() if found[1] in line]
    assert any(f"to=<{bad}>" in line and "status=bounced" in line for line in ours)
    assert any(f"to=<{good}>" in line and "status=sent" in line for line in ours)


@pytest.mark.fault("38 the sender is told at once, behind pipe(8)")
def test_one_deferred(world: World) -> None:
    late, bad = "never.2@mixture.mixed.test", "refused.2@mixture.mixed.test"
    world.postfix.submit(late, bad, sender=SENDER)
    records = world.postfix.delivered([late, bad])
    assert {record.status for record in records.values()} == {"deferred"}
    assert world.told() == [bad]


@pytest.mark.fault("38 --json in master.cf, with a state directory")
def test_json(world: World) -> None:
    """Who has the message is not bounced."""
    good, bad = "ok.3@json.mixed.test", "refused.3@json.mixed.test"
    world.postfix.submit(good, bad, sender=SENDER)
    records = world.postfix.delivered([good, bad])
    assert {record.status for record in records.values()} == {"sent"}
    assert world.told() == [bad]
    warning = f"{records[good].queue_id}: warning: --json behind pipe(8)"
    assert warning in world.log.read_text()


@pytest.mark.fault("38 --json in master.cf, without a state directory")
def test_json_without_a_state_directory(world: World) -> None:
    both = ("ok.4@json-alone.mixed.test", "refused.4@json-alone.mixed.test")
    world.postfix.submit(*both, sender=SENDER)
    records = world.postfix.delivered(both)
    assert {record.status for record in records.values()} == {"deferred"}
    assert "need a state directory" in records[both[0]].reason
    assert world.server.connections == 0
    # One at a time it is right, though ugly.
    for recipient, status in zip(both, ("sent", "bounced"), strict=True):
        alone = recipient.replace(".4@", ".5@")
        world.postfix.submit(alone, sender=SENDER)
        assert world.postfix.delivery(alone).status == status
