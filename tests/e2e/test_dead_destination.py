"""A destination in trouble is left alone: what the queue manager does for smtp(8)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_postfix import Delivery, PrivatePostfix, deliveries, transport

from fickle_server import FickleServer
from waiting import wait

pytestmark = pytest.mark.more

SERVER = "127.41.0.1:2525"
# Nobody listens there.
DOWN = "127.41.0.2:2525"
ROUTES = """\
busy.test troubles:[127.41.0.1]:2525
one.busy.test troubles-one:[127.41.0.1]:2525
down.test troubles:[127.41.0.2]:2525
"""
# Seconds for which a destination is suspended: no test takes so long.
REST = 3600
SUSPENDED = "delivery temporarily suspended: "


class Busy:
    """A server that sends everybody away, or lets them in."""

    def __init__(self) -> None:
        self.open = False

    def __call__(self, stage: str, _subject: str, _times: int) -> str | None:
        if stage == "connect" and not self.open:
            return "421 4.3.2 too busy"
        return None


@pytest.fixture(scope="module")
def suspending(postfix: PrivatePostfix) -> Iterator[PrivatePostfix]:
    main = {
        "trouble_destination_retry_time": f"{REST}s",
        "troubles_destination_recipient_limit": "10",
        "troubles-one_destination_recipient_limit": "1",
        # Else what is tried again soon is deferred by the queue manager itself.
        "minimal_backoff_time": "1s",
        "queue_run_delay": "600s",
    }
    body = transport((postfix.etc / "master.cf").read_text(), "troubles")
    one = "troubles-one unix - n n - 20 pipe\n" + body.partition("\n")[2]
    with postfix.rearranged(main=main, routes=ROUTES, master=one):
        yield postfix


def time_goes_by(place: Path) -> None:
    """What is remembered of destinations is as old as if their rest was over."""
    (path,) = (place / "state").glob("*.sqlite")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE destination SET marked = marked - ?", (REST,))


def deferred(postfix: PrivatePostfix, recipient: str, times: int = 1) -> Delivery:
    """The newest of so many records of deferrals of a recipient."""

    def found() -> list[Delivery]:
        return [r for r in deliveries(postfix.log()) if r.recipient == recipient]

    wait(lambda: len(found()) >= times, postfix.log)
    return found()[-1]


def test_suspended_then_one_probe_then_as_before(
    suspending: PrivatePostfix, place: Path
) -> None:
    judge = Busy()
    with FickleServer(judge, listen=SERVER) as server:
        suspending.submit("first@busy.test")
        first = deferred(suspending, "first@busy.test")
        assert (first.status, first.dsn) == ("deferred", "4.3.2")
        assert "refused to talk to me: 421 4.3.2 too busy" in first.reason
        # Others are not sent there, and are told why, in Postfix's words.
        names = [f"r{n}@busy.test" for n in range(8)]
        for name in names:
            suspending.submit(name)
        records = suspending.delivered(names)
        assert server.connections == 1
        assert {r.reason for r in records.values()} == {SUSPENDED + first.reason}
        assert {r.status for r in records.values()} == {"deferred"}
        assert {r.dsn for r in records.values()} == {"4.3.2"}
        # One of all those finds out that nothing has changed.
        time_goes_by(place)
        suspending.retry()
        for name in names:
            deferred(suspending, name, 2)
        assert server.connections == 1 + 1
        # The next finds out that it has; nobody waits any longer.
        judge.open = True
        time_goes_by(place)
        suspending.run_queue()
        assert all(server.copies(name) == 1 for name in [*names, "first@busy.test"])


def test_one_recipient_at_a_time(suspending: PrivatePostfix) -> None:
    """With a recipient limit of 1 Postfix does not know that it is one server."""
    names = [f"r{n}@one.busy.test" for n in range(60)]
    with FickleServer(Busy(), listen=SERVER) as server:
        suspending.submit(*names)
        records = suspending.delivered(names)
        # The processes that run at a time.
        assert server.connections <= 20
    assert {r.status for r in records.values()} == {"deferred"}


def test_a_server_that_is_down(suspending: PrivatePostfix) -> None:
    suspending.submit("first@down.test")
    first = deferred(suspending, "first@down.test")
    assert first.dsn == "4.4.1"
    suspending.submit("second@down.test")
    second = deferred(suspending, "second@down.test")
    assert (second.dsn, second.reason) == ("4.4.1", SUSPENDED + first.reason)


def test_what_is_suspended_never_bounces(
    suspending: PrivatePostfix, place: Path
) -> None:
    """A refusal for good by a server that greets nobody is no refusal of the mail."""

    def judge(stage: str, _subject: str, _times: int) -> str | None:
        return "554 5.3.2 no service" if stage == "connect" else None

    with FickleServer(judge, listen=SERVER):
        time_goes_by(place)
        for name in ("hard-1@busy.test", "hard-2@busy.test"):
            suspending.submit(name)
            record = deferred(suspending, name)
            assert (record.status, record.dsn[0]) == ("deferred", "4")
