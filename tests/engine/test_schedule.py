"""No nexthop keeps the mail of all others waiting."""

from __future__ import annotations

import threading
from typing import NamedTuple

from postfix_trouble.engine.schedule import Schedule


class Request(NamedTuple):
    nexthop: str
    number: int = 0


class Started:
    """Counts workers that are asked for, and starts none."""

    def __init__(self) -> None:
        self.count = 0
        self.problem: Exception | None = None

    def __call__(self) -> None:
        if self.problem is not None:
            raise self.problem
        self.count += 1


def test_in_order() -> None:
    schedule: Schedule[Request] = Schedule(4, Started())
    for number in range(3):
        schedule.put(Request(f"d{number}.test", number))
    found = [schedule.next() for _ in range(3)]
    assert [one and one.number for one in found] == [0, 1, 2]


def test_a_nexthop_gets_half() -> None:
    schedule: Schedule[Request] = Schedule(4, Started())
    for number in range(4):
        schedule.put(Request("slow.test", number))
    schedule.put(Request("other.test", 4))
    first, second, third = (schedule.next() for _ in range(3))
    assert [first, second, third] == [
        Request("slow.test", 0),
        Request("slow.test", 1),
        Request("other.test", 4),
    ]
    assert first is not None
    schedule.done(first)
    assert schedule.next() == Request("slow.test", 2)


def test_few_until_it_answers() -> None:
    """With the recipient limit at 1, it is here that a dead server is noticed."""
    started = Started()
    schedule: Schedule[Request] = Schedule(100, started)
    running: list[Request | None] = []
    for number in range(40):
        schedule.put(Request("new.test", number))
        if started.count > len(running):
            running.append(schedule.next())
    assert len(running) == 5
    for number, one in enumerate(running):
        assert one is not None
        schedule.done(one, answered=number > 0)
        schedule.next()
    # One more for each answer.
    assert started.count == 5 + 4


def test_one_that_has_nothing_left_begins_anew() -> None:
    started = Started()
    schedule: Schedule[Request] = Schedule(100, started)
    for _ in range(3):
        schedule.put(Request("new.test"))
        one = schedule.next()
        assert one is not None
        schedule.done(one)
    for number in range(40):
        schedule.put(Request("new.test", number))
    for _ in range(5):
        schedule.next()
    schedule.put(Request("other.test"))
    assert schedule.next() == Request("other.test")


def test_workers_are_started_when_they_are_needed() -> None:
    started = Started()
    schedule: Schedule[Request] = Schedule(2, started)
    schedule.put(Request("a.test"))
    assert started.count == 1
    one = schedule.next()
    schedule.put(Request("b.test"))
    schedule.put(Request("c.test"))
    assert started.count == 2
    assert one is not None
    schedule.done(one)
    assert schedule.next() == Request("b.test")


def test_no_room_for_another_worker() -> None:
    """The one that is there does it all."""
    started = Started()
    schedule: Schedule[Request] = Schedule(2, started)
    schedule.put(Request("a.test"))
    one = schedule.next()
    started.problem = RuntimeError("can't start new thread")
    schedule.put(Request("b.test"))
    assert one is not None
    schedule.done(one)
    assert schedule.next() == Request("b.test")


def test_whoever_waits_is_told_of_the_end() -> None:
    schedule: Schedule[Request] = Schedule(2, Started())
    found: list[Request | None] = [Request("never")]
    thread = threading.Thread(target=lambda: found.append(schedule.next()))
    thread.start()
    schedule.close()
    thread.join(30)
    assert found == [Request("never"), None]


def test_what_waits_at_the_end_is_delivered() -> None:
    schedule: Schedule[Request] = Schedule(2, Started())
    schedule.put(Request("a.test"))
    schedule.close()
    assert schedule.next() == Request("a.test")
    assert schedule.next() is None
