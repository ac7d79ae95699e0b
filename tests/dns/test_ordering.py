"""In which order servers come: by family, in halves, by weight."""

from __future__ import annotations

import pytest

from postfix_trouble.core.hostname import IPV4, IPV6
from postfix_trouble.core.relay import Relay
from postfix_trouble.dns.lookup import Record
from postfix_trouble.dns.ordering import (
    balanced,
    by_family,
    by_weight,
    in_groups,
    shuffled,
)


def srv(name: str, preference: int, weight: int = 0) -> Record:
    return Record("d.test", "SRV", name, preference=preference, weight=weight)


class Dice:
    """Random numbers that are known: those given, then 0; how many were possible."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.sides: list[int] = []

    def __call__(self, below: int) -> int:
        self.sides.append(below)
        return self.numbers.pop(0) if self.numbers else 0


def relays(families: str) -> list[Relay]:
    """Servers with an address of family 4 or 6, numbered."""
    return [
        Relay(f"h{n}", f"192.0.2.{n}" if family == "4" else f"2001:db8::{n}", 25)
        for n, family in enumerate(families)
    ]


def kept(families: str, limit: int) -> str:
    return "".join(each.host[1:] for each in balanced(relays(families), limit))


def test_each_order_can_come() -> None:
    dice = Dice(2, 1)
    assert shuffled("abc", dice) == ["c", "b", "a"]
    assert dice.sides == [3, 2, 1]


@pytest.mark.parametrize(
    ("preferred", "order"), [(0, "0123"), (IPV4, "0213"), (IPV6, "1302")]
)
def test_the_preferred_family_is_first(preferred: int, order: str) -> None:
    found = by_family(relays("4646"), preferred)
    assert "".join(each.host[1:] for each in found) == order


@pytest.mark.parametrize(
    ("families", "limit", "order"),
    [
        ("444466", 6, "012345"),
        # One family only: nothing to share.
        ("4444", 2, "0123"),
        ("6666", 2, "0123"),
        # The smaller one is kept as a whole if it is no more than half.
        ("444466", 4, "0145"),
        ("444466", 5, "01245"),
        ("666644", 4, "0145"),
        ("666644", 5, "01245"),
        ("4466", 3, "012"),
        ("6644", 3, "012"),
        ("666666666444", 8, "0123491011"),
        # Halves; the odd one for the family that comes first.
        ("444666", 4, "0134"),
        ("444666", 5, "01234"),
        ("666444", 5, "01234"),
        ("464646", 3, "012"),
        ("646464", 3, "012"),
    ],
)
def test_some_of_each_family_are_kept(families: str, limit: int, order: str) -> None:
    assert kept(families, limit) == order


def weighed(weights: dict[str, int], *numbers: int) -> tuple[str, list[int]]:
    """Order of records of one preference, and what was drawn from after shuffling."""
    records = [srv(name, 10, weight) for name, weight in weights.items()]
    dice = Dice(*(0 for _ in records), *numbers)
    order = "".join(record.data for record in by_weight(records, dice))
    return order, dice.sides[len(records) :]


@pytest.mark.parametrize(
    ("number", "order"), [(0, "abc"), (1, "abc"), (2, "bac"), (4, "bac"), (5, "cab")]
)
def test_who_weighs_more_is_drawn_more_often(number: int, order: str) -> None:
    found, sides = weighed({"a": 1, "b": 3, "c": 2}, number)
    assert found == order
    # All of the weights; then those of the ones that are left.
    left = 6 - {"a": 1, "b": 3, "c": 2}[order[0]]
    assert sides == [7, left + 1]


def test_without_weights_nothing_is_drawn() -> None:
    assert weighed({"a": 0, "b": 0}) == ("ab", [])
    assert weighed({"a": 5}) == ("a", [])
    # What weighs nothing comes last, and the last one of all is not drawn.
    assert weighed({"a": 0, "b": 2, "c": 0}, 2) == ("bac", [3])


def test_preference_goes_before_weight() -> None:
    records = [srv("b", 20, 99), srv("a", 10, 1)]
    assert [each.data for each in by_weight(records, Dice())] == ["a", "b"]
    groups = in_groups([*records, srv("c", 20)])
    assert [[each.data for each in group] for group in groups] == [["a"], ["b", "c"]]
