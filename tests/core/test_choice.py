"""Our enumerations do what those of the enum module do, as far as they are used."""

from __future__ import annotations

import copy
import enum
import pickle
from typing import Any

import pytest

from postfix_trouble.core.choice import Choice, Flags, Ordered
from postfix_trouble.core.outcome import Disposition
from postfix_trouble.core.tls import TlsLevel


def fruit(base: Any) -> Any:
    class Fruit(base):  # type: ignore[misc]
        APPLE = ("red", 1)
        PEAR = ("green", 2)

        @property
        def colour(self) -> str:
            return str(self.value[0])

        def twice(self) -> int:
            return int(self.value[1]) * 2

    return Fruit


def size(base: Any) -> Any:
    class Size(base):  # type: ignore[misc]
        NONE = 0
        SMALL = 1
        LARGE = 2

    return Size


@pytest.mark.parametrize("base", [enum.Enum, Choice])
def test_choice(base: Any) -> None:
    fruits = fruit(base)
    assert [each.name for each in fruits] == ["APPLE", "PEAR"]
    assert fruits.PEAR is fruits["PEAR"] is fruits(("green", 2))
    assert (fruits.PEAR.name, fruits.PEAR.value) == ("PEAR", ("green", 2))
    assert (fruits.PEAR.colour, fruits.PEAR.twice()) == ("green", 4)
    assert fruits.PEAR != fruits.APPLE
    assert len({fruits.PEAR, fruits.APPLE, fruits.PEAR}) == 2
    assert isinstance(fruits.PEAR, fruits)
    assert len(fruits) == 2
    assert repr(fruits.PEAR) == "<Fruit.PEAR: ('green', 2)>"
    with pytest.raises(ValueError, match="blue"):
        fruits("blue")
    with pytest.raises(KeyError):
        fruits["PLUM"]


@pytest.mark.parametrize("base", [enum.IntEnum, Ordered])
def test_ordered(base: Any) -> None:
    sizes = size(base)
    assert sizes.NONE < sizes.SMALL < sizes.LARGE == 2
    assert sizes(1) is sizes.SMALL
    assert max(sizes) is sizes.LARGE
    assert not sizes.NONE


@pytest.mark.parametrize("base", [enum.Flag, Flags])
def test_flags(base: Any) -> None:
    sizes = size(base)
    both = sizes.SMALL | sizes.LARGE
    assert sizes.SMALL in both
    assert sizes.LARGE in both
    assert sizes.LARGE not in sizes.SMALL
    assert sizes.NONE in sizes.SMALL
    assert both & sizes.SMALL == sizes.SMALL
    assert not sizes.LARGE & sizes.SMALL
    assert not sizes.NONE
    assert both == sizes(3)


@pytest.mark.parametrize("member", [Disposition.SENT, TlsLevel.MAY])
def test_copies_are_the_member_itself(member: Any) -> None:
    assert copy.copy(member) is member
    assert copy.deepcopy([member])[0] is member
    assert pickle.loads(pickle.dumps(member)) is member
