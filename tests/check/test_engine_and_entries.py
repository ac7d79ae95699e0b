"""An engine that delivers less, or takes longer, than the entries that use it allow."""

from __future__ import annotations

import pytest
from spelled_out import assert_as_written_down, spelled_out

from postfix_trouble.check.engine_limits import Engine, User, judge
from postfix_trouble.config.master_cf import Service

ENGINE = Engine("/run/postfix-trouble/engine", 900.0, 270.0, 100)


def user(
    processes: int,
    *,
    name: str = "trouble",
    line: int = 7,
    time_limit: float = 1000.0,
    deadline: float = 900.0,
) -> User:
    columns = ("unix", "-", "n", "n", "-", str(processes), "pipe", ())
    return User(Service(line, name, *columns), processes, time_limit, deadline)


OTHER = user(60, name="troubles", line=12)


@pytest.mark.parametrize(
    "users",
    [
        [user(100)],
        [user(40), OTHER],
        [user(20, time_limit=930.0)],
        [user(20, time_limit=400.0, deadline=100.0)],
    ],
)
def test_sound(users: list[User]) -> None:
    (found,) = judge(ENGINE, users, "postconf")
    assert found.severity.value == "ok"


MISTAKES = {
    "more processes than deliveries": [user(120)],
    "in all": [user(41), OTHER],
    "no limit": [user(0)],
    "no limit for one of them": [user(0), OTHER],
    "pipe(8) does not wait so long": [user(20, time_limit=929.0)],
    "nor with the wait for a free delivery": [
        user(20, time_limit=399.0, deadline=100.0),
        OTHER,
    ],
}


def test_mistakes() -> None:
    text = ""
    for case, users in MISTAKES.items():
        text += spelled_out(case, judge(ENGINE, users, "postconf"))
    assert_as_written_down("engine-limits", text)
