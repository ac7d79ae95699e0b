"""One request of the engine: who may answer it, and when it is over."""

from __future__ import annotations

import pytest

from postfix_trouble.engine.request import RequestDeadline


class Told:
    """What has been answered, and whether it was over when somebody was woken."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.over: list[bool] = []
        self.deadline = RequestDeadline(
            lambda status, text: self.answers.append((status, text)),
            lambda: self.over.append(self.deadline.over),
            lambda: self.left,
        )
        self.left = False


@pytest.fixture
def told() -> Told:
    return Told()


def test_who_is_woken_sees_that_it_is_over(told: Told) -> None:
    """Nobody wakes it again: an engine that is to end would wait for its time limit."""
    told.deadline.answer(0, b"ok")
    assert told.over == [True]


def test_answered_once(told: Told) -> None:
    told.deadline.answer(0, b"ok")
    told.deadline.answer(75, b"4.3.0 late")
    assert told.deadline.signalled() is None
    told.deadline.given_up()
    assert told.answers == [(0, b"ok")]


def test_client_gone_with_the_dot_out(told: Told) -> None:
    """It is over when the outcome is known, and not before."""
    assert not told.deadline.abandoned()
    told.deadline.client_gone()
    assert not told.deadline.over
    told.deadline.on_final_dot(False)
    told.deadline.answer(0, b"ok")
    assert told.over == [True]


def test_client_gone_before_the_dot(told: Told) -> None:
    told.deadline.client_gone()
    assert told.deadline.over
    assert told.deadline.abandoned()
    told.deadline.answer(75, b"4.3.0 nobody")
    assert told.answers == []


def test_client_that_left_just_before_the_dot(told: Told) -> None:
    """Nobody has noticed yet."""
    told.left = True
    assert told.deadline.abandoned()
    told.deadline.client_gone()
    assert told.deadline.over


@pytest.mark.parametrize("settled", [True, False])
def test_grace_is_over(told: Told, settled: bool) -> None:
    assert not told.deadline.abandoned()
    if settled:
        told.deadline.settled()
        told.deadline.conclude = lambda: (0, b"all have it")
    assert told.deadline.signalled() == 10
    told.deadline.given_up()
    (answer,) = told.answers
    assert answer[0] == (0 if settled else 75)
    assert told.over == [True]
