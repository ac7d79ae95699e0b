"""Our named tuples do what those of the typing module do, as far as they are used."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import pytest

from postfix_trouble.core.relay import Relay
from postfix_trouble.core.value import Value


class Theirs(NamedTuple):
    first: int
    second: str = "b"
    third: tuple[int, ...] = ()

    def both(self) -> str:
        return f"{self.first}{self.second}"


class Ours(Value):
    first: int
    second: str = "b"
    third: tuple[int, ...] = ()

    def both(self) -> str:
        return f"{self.first}{self.second}"


@pytest.mark.parametrize("kind", [Theirs, Ours])
def test_value(kind: Any) -> None:
    value = kind(1)
    assert value == (1, "b", ()) == kind(1, "b") == kind(first=1, third=())
    assert (value.first, value.second, value.third) == (1, "b", ())
    first, *rest = value
    assert (first, rest) == (1, ["b", ()])
    assert value.both() == "1b"
    assert value._replace(second="c") == kind(1, "c")
    assert value._asdict() == {"first": 1, "second": "b", "third": ()}
    assert value._fields == ("first", "second", "third")
    assert hash(value) == hash(kind(1))
    assert repr(value) == f"{kind.__name__}(first=1, second='b', third=())"


@pytest.mark.parametrize("kind", [Theirs, Ours])
@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((1, "b", (), 4), {}), ((1,), {"fourth": 4}), ((1,), {"first": 2})],
    ids=["missing", "too many", "unknown", "twice"],
)
def test_wrong_call(kind: Any, values: Any, named: Any) -> None:
    with pytest.raises(TypeError):
        kind(*values, **named)


@pytest.mark.parametrize("kind", [Theirs, Ours])
def test_wrong_replacement(kind: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        kind(1)._replace(fourth=4)


@pytest.mark.parametrize("kind", [Theirs, Ours])
def test_values_do_not_change(kind: Any) -> None:
    with pytest.raises(AttributeError):
        kind(1).first = 2


def test_values_can_be_pickled() -> None:
    relay = Relay("mx.example.com", "192.0.2.1", 25)
    assert pickle.loads(pickle.dumps(relay)) == relay
