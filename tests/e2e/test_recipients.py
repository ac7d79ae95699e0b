"""Many recipients in a request: each has one copy or is reported once, never both.

The second recipe, ten recipients to a request, and servers that accept some, refuse
some and put some off, over several queue runs. What senders are told comes by mail.
"""

from __future__ import annotations

import email
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from email.message import Message
from itertools import chain
from typing import NamedTuple

import pytest
from flufl.bounce import all_failures
from private_postfix import MESSAGE, PrivatePostfix

from fickle_server import FickleServer
from waiting import wait

pytestmark = [pytest.mark.first, pytest.mark.more]

SERVER, COLLECTOR = "127.40.0.1:2525", "127.40.0.2:2525"
ROUTES = """\
many.test troubles:[127.40.0.1]:2525
many.smtp.test smtp:[127.40.0.1]:2525
collected.test smtp:[127.40.0.2]:2525
"""
LIMIT = 10
# Postfix says 8bit (and utf-8) wherever SMTPUTF8 is possible, we say what is.
ENCODING = "Content-Transfer-Encoding"
MAIN = {"troubles_destination_recipient_limit": str(LIMIT)}


def judge(stage: str, subject: str, times: int) -> str | None:
    """The server: what becomes of a recipient is in the address."""
    if stage != "rcpt":
        return None
    plan = subject.partition(".")[0]
    if plan == "refused":
        return "550 5.1.1 no such user"
    if plan == "blocked":
        return "554-5.7.1 not\n554 5.7.1 from you"
    if times < {"later": 1, "much-later": 2, "never": 1000}.get(plan, 0):
        return "450 4.2.0 try again"
    return None


class Sent(NamedTuple):
    sender: str
    recipients: tuple[str, ...]

    def planned(self, *plans: str) -> list[str]:
        """The recipients of these kinds."""
        return sorted(r for r in self.recipients if r.partition(".")[0] in plans)


def planned(number: int, *plans: str, domain: str = "many.test") -> Sent:
    recipients = tuple(f"{p}.{number}.{n}@{domain}" for n, p in enumerate(plans))
    return Sent(f"s.{number}@collected.test", recipients)


class World:
    """Postfix, a fickle server, and what came back to the senders."""

    def __init__(self, postfix: PrivatePostfix) -> None:
        self.postfix = postfix
        self.server = FickleServer(judge, listen=SERVER)
        self.collector = FickleServer(listen=COLLECTOR)

    def submit(self, *mails: Sent) -> None:
        for sender, recipients in mails:
            self.postfix.submit(*recipients, sender=sender)

    def run(self) -> int:
        return self.postfix.run_queue()

    def reports(self, sender: str) -> list[Message]:
        """The bounces that a sender has."""
        return [
            email.message_from_bytes(copy.text.replace(b"\r\n", b"\n"))
            for copy in self.collector.journal
            if sender in copy.recipients
        ]

    def told(self, sender: str) -> list[list[str]]:
        """Whom each of a sender's bounces names, by a mailing list's detector."""
        found = []
        for report in self.reports(sender):
            temporary, permanent = all_failures(report)
            assert not temporary
            named = sorted(address.decode() for address in permanent)
            assert sorted(finals(report)) == named
            found.append(named)
        return found

    def check_copies(self, mails: list[Sent], *undelivered: str) -> None:
        """One copy for each but those of some kinds, who have none."""
        for mail in mails:
            none = mail.planned(*undelivered)
            for recipient in mail.recipients:
                copies = self.server.copies(recipient)
                assert copies == (recipient not in none), recipient


def status_blocks(report: Message) -> list[dict[str, str]]:
    """Fields of the delivery status, of the message and of each recipient."""
    parts: list[Message] = report.get_payload()  # type: ignore[assignment]
    assert parts[1].get_content_type() == "message/delivery-status"
    blocks: list[Message] = parts[1].get_payload()  # type: ignore[assignment]
    return [
        {name: " ".join(str(value).split()) for name, value in block.items()}
        for block in blocks
    ]


def finals(report: Message) -> list[str]:
    return [
        block["Final-Recipient"].removeprefix("rfc822; ")
        for block in status_blocks(report)[1:]
    ]


@pytest.fixture(scope="module")
def ten(postfix: PrivatePostfix) -> Iterator[PrivatePostfix]:
    """Queue lifetimes as usual."""
    with postfix.rearranged(main=MAIN, routes=ROUTES):
        yield postfix


@pytest.fixture
def world(ten: PrivatePostfix) -> Iterator[World]:
    world = World(ten)
    with world.server, world.collector:
        yield world


ACCEPTED = ("ok", "later", "much-later")
KINDS = ("ok", "ok", *ACCEPTED, "refused", "blocked")


@pytest.mark.fault("37, 38 recipients of all kinds, ten to a request, behind pipe(8)")
def test_one_copy_or_one_report(world: World) -> None:
    rng = random.Random(6)
    mails = [
        planned(n, *rng.choices(KINDS, k=rng.choice((2, 4, LIMIT, 2 * LIMIT + 5))))
        for n in range(20)
    ]
    world.submit(*mails)
    assert world.run() >= 2
    world.check_copies(mails, "refused", "blocked")
    for mail in mails:
        told = world.told(mail.sender)
        assert sorted(chain(*told)) == mail.planned("refused", "blocked")
        # One for each request: Postfix makes so many of a message.
        assert len(told) <= -(-len(mail.recipients) // LIMIT)


@pytest.mark.fault("38, 40 one report for all who were refused, behind pipe(8)")
@pytest.mark.parametrize(
    "plans",
    [
        pytest.param(("ok", "ok", "later"), id="nobody refused"),
        pytest.param(("refused",) * 3, id="all for one reason"),
        pytest.param(("refused", "blocked", "refused"), id="all for two reasons"),
        pytest.param(("refused", "ok"), id="accepted and refused"),
        pytest.param(("refused", "much-later"), id="refused and deferred"),
        pytest.param(
            ("refused", "blocked", "ok", "later", "much-later"), id="all kinds"
        ),
    ],
)
def test_one_report(
    world: World, plans: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    mail = planned(100 + sum(map(ord, request.node.name)), *plans)
    world.submit(mail)
    world.run()
    world.check_copies([mail], "refused", "blocked")
    refused = mail.planned("refused", "blocked")
    assert world.told(mail.sender) == ([refused] if refused else [])


@pytest.mark.fault("39 the null sender, behind pipe(8)")
@pytest.mark.parametrize("others", ["ok", "refused", "later"])
def test_null_sender_is_told_nothing(world: World, others: str) -> None:
    mail = planned(200, f"refused.{others}", "blocked", others)._replace(sender="")
    world.submit(mail)
    world.run()
    world.check_copies([mail], "refused", "blocked")
    assert not world.collector.journal


def test_who_wants_no_report_gets_none(world: World) -> None:
    """As far as Postfix makes it: pipe(8) does not tell what was asked for."""
    mail = planned(300, "refused", "refused")
    command = ["/usr/sbin/sendmail", "-N", "never", "-f", mail.sender, *mail.recipients]
    subprocess.run(command, input=MESSAGE, check=True)
    world.postfix.delivered(mail.recipients, status="bounced")
    world.run()
    assert not world.collector.journal


def test_the_report_is_that_of_postfix(world: World) -> None:
    """Field by field: what our bounce says, and bounce(8) for smtp(8)."""
    plans = ("ok", "refused", "blocked")
    ours = planned(400, *plans)
    theirs = planned(401, *plans, domain="many.smtp.test")
    world.submit(ours, theirs)
    world.postfix.delivered(ours.recipients, status="sent")
    world.run()
    world.check_copies([ours, theirs], "refused", "blocked")
    (mine,), (model,) = world.reports(ours.sender), world.reports(theirs.sender)
    for read in (top_fields, part_fields, recipients_of, reasons, original):
        assert read(mine) == read(model), read.__name__
    found = status_blocks(mine)[1:]
    assert {block["Remote-MTA"] for block in found} == {"dns; 127.40.0.1"}
    assert {block["Diagnostic-Code"] for block in found} == {
        "smtp; 550 5.1.1 no such user",
        "smtp; 554-5.7.1 not 554 5.7.1 from you",
    }


def neutral(text: str) -> str:
    """Text less what differs from one message to the next."""
    text = re.sub(r"@many\.(smtp\.)?test", "@many.test", text)
    text = re.sub(r"\b([a-z-]+)\.40[01]\.", r"\1.4.", text).replace("s.400@", "s.401@")
    text = re.sub(
        r"\w{3}, +\d+ \w{3} \d{4} [\d:]{8} [-+]\d{4}( \(\w+\))?", "DATE", text
    )
    text = re.sub(r"\d{14}\.[0-9A-F]{8,}(\.[0-9a-f]{12})?", "ID", text)
    text = re.sub(r"\b[0-9A-F]{8,}(\.[0-9a-f]{12}|\.\d+/)?", "ID", text)
    return " ".join(text.split())


def top_fields(report: Message) -> list[tuple[str, str]]:
    """In no order: some of Postfix's own are put in front by cleanup(8)."""
    own = ("received", ENCODING.lower())
    fields = [(name.lower(), neutral(value)) for name, value in report.items()]
    return sorted((k, v.replace('"', "")) for k, v in fields if k not in own)


def part_fields(report: Message) -> list[list[str]]:
    parts: list[Message] = report.get_payload()  # type: ignore[assignment]
    return [
        [str(part.get(name)) for name in part if name not in (ENCODING, "Content-Type")]
        + [part.get_content_type()]
        for part in parts
    ]


def recipients_of(report: Message) -> list[dict[str, str]]:
    """Less the original recipient, of which pipe(8) does not tell."""
    return [
        {k: neutral(v) for k, v in block.items() if k != "Original-Recipient"}
        for block in status_blocks(report)
    ]


def reasons(report: Message) -> list[str]:
    """What the part for people says of each recipient."""
    text = report.get_payload()[0].get_payload()  # type: ignore[index, union-attr]
    return [neutral(p) for p in str(text).split("\n\n") if p.startswith("<")]


def original(report: Message) -> str:
    return neutral(str(report.get_payload()[2].get_payload()[0]))  # type: ignore[index, union-attr]


# --- giving up ------------------------------------------------------------------------


@pytest.mark.long
def test_given_up(postfix: PrivatePostfix) -> None:
    """Who never was accepted is reported, who was is not, whoever gives up first."""
    mails = [
        planned(500, "ok", "never"),
        planned(501, "ok", "refused", "never", "much-later"),
        planned(502, "never", "never"),
        planned(503, "refused", "never"),
        planned(504, *("ok", "never") * LIMIT),
        planned(505, "ok", "later"),
        planned(506, "never"),
    ]
    null = planned(507, "ok", "never")._replace(sender="")
    world = World(postfix)
    soon = {"minimal_backoff_time": "1s", "maximal_backoff_time": "1s", **MAIN}
    lifetimes = ("maximal_queue_lifetime=1s", "bounce_queue_lifetime=1s")
    accepted = list(chain(*(m.planned(*ACCEPTED) for m in [*mails, null])))

    def all_accepted() -> bool:
        postfix.flush()
        return all(map(world.server.copies, accepted))

    with (
        postfix.rearranged(main=soon, routes=ROUTES),
        world.server,
        world.collector,
    ):
        world.submit(*mails, null)
        wait(all_accepted, postfix.log, pause=0.5)
        subprocess.run(["postconf", "-e", *lifetimes], check=True)
        postfix.reload()
        world.run()
    world.check_copies([*mails, null], "refused", "never")
    for mail in mails:
        told = Counter(chain(*world.told(mail.sender)))
        assert told == Counter(mail.planned("refused", "never")), mail
    assert {copy.recipients[0] for copy in world.collector.journal} == {
        mail.sender for mail in mails if mail.planned("refused", "never")
    }
