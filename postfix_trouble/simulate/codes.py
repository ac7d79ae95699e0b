"""Sets of reply codes, and their names."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

# Both sides of every place where the policy may change; that it changes nowhere else
# is tested with all codes.
BORDERS = (
    0, 99, 100, 199, 200, 219, 220, 221, 299, 300, 399, 400, 420, 421, 422, 499, 500,
    509, 510, 554, 555, 556, 599, 600, 999,
)  # fmt: skip


def named(groups: Mapping[T, Sequence[int]]) -> dict[T, str]:
    """The name of each group of codes, in the order of the first code that matters.

    Each group holds those of BORDERS that belong to it.
    """
    whole = {key: _spread(codes) for key, codes in groups.items()}
    partial = {code // 100 for codes in whole.values() for code in _parts(codes)}
    found = {key: _name(codes, partial) for key, codes in whole.items()}
    return dict(sorted(found.items(), key=lambda item: _place(item[1])))


def _spread(borders: Sequence[int]) -> set[int]:
    """All codes between borders that belong together."""
    codes = set(borders)
    for low, high in pairwise(BORDERS):
        if low in borders and high in borders:
            codes.update(range(low, high + 1))
    return codes


def _classes(codes: set[int]) -> list[int]:
    """First digits under which all codes are in a set."""
    return [d for d in range(10) if codes.issuperset(range(100 * d, 100 * d + 100))]


def _parts(codes: set[int]) -> set[int]:
    """Codes of classes that are not in the set as a whole."""
    classes = _classes(codes)
    return {code for code in codes if code // 100 not in classes}


def _name(codes: set[int], partial: set[int]) -> str:
    classes = _classes(codes)
    if len(classes) == 10:
        return "any code"
    if len(classes) > 4:
        return "any other code"
    words = [f"{digit}xx" for digit in classes]
    rest = _parts(codes)
    for digit in sorted({code // 100 for code in rest} & partial):
        mine = {code for code in rest if code // 100 == digit}
        words.append(f"other {digit}xx" if len(mine) > 50 else _ranges(mine))
    return ", ".join(words)


def _ranges(codes: set[int]) -> str:
    words = []
    for code in sorted(codes):
        if code - 1 in codes:
            continue
        last = code
        while last + 1 in codes:
            last += 1
        words.append(f"{code}-{last}" if last > code else f"{code}")
    return ", ".join(words)


def _place(name: str) -> str:
    """Where a name stands: by its digit, exceptions behind the rest of their class."""
    if name.startswith("any"):
        return "9"
    digit = name.removeprefix("other ")[:1]
    return digit + ("" if "xx" in name else "x")
