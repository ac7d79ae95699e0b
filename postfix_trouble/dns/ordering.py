"""In which order servers are tried (Postfix dns_rr.c, smtp_balance_inet_proto)."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from itertools import accumulate, groupby

from postfix_trouble.core.hostname import IPV6, address_family
from postfix_trouble.core.relay import Relay
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.dns.lookup import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    _T = TypeVar("_T")

    # A random number from 0 to one less than the argument.
    Below = Callable[[int], int]

# As many addresses as Postfix ever handles for one destination.
MAX_ADDRESSES = 100


def shuffled(items: Sequence[_T], below: Below) -> list[_T]:
    """All orders are equally likely."""
    left = list(items)
    return [left.pop(below(len(left))) for _ in items]


def by_family(relays: Sequence[Relay], preferred: int) -> list[Relay]:
    """Addresses of the preferred family (IPV4, IPV6, 0 for any) first.

    All are of one preference; otherwise the order stays.
    """
    return sorted(relays, key=lambda x: address_family(x.address) != preferred)


def balanced(relays: Sequence[Relay], limit: int) -> list[Relay]:
    """Leave some of each family if no more than `limit` are going to be tried."""
    limit = min(limit, MAX_ADDRESSES)
    is_v6 = [address_family(x.address) == IPV6 for x in relays]
    v6 = sum(is_v6)
    v4 = len(relays) - v6
    if not v6 or not v4 or v6 + v4 <= limit:
        return list(relays)
    if v6 <= limit // 2:
        quota = limit - v6
    elif v4 <= limit // 2:
        quota = v4
    else:
        # The odd one goes to the family that is tried first.
        quota = limit // 2 if is_v6[0] else (limit + 1) // 2
    left = {False: quota, True: limit - quota}
    kept = []
    for relay, family in zip(relays, is_v6, strict=True):
        if left[family]:
            left[family] -= 1
            kept.append(relay)
    return kept


def by_weight(records: Sequence[Record], below: Below) -> list[Record]:
    """SRV records by priority and, at random, by weight (RFC 2782).

    As Postfix has it: a weight of zero gets no special treatment beside others.
    """
    ordered: list[Record] = []
    for _, group in groupby(_by_preference(shuffled(records, below)), _preference):
        left = list(group)
        total = sum(x.weight for x in left)
        while total and len(left) > 1:
            ordered.append(left.pop(_at(left, below(total + 1))))
            total -= ordered[-1].weight
        ordered += left
    return ordered


def _at(records: Sequence[Record], threshold: int) -> int:
    """The first at which the sum of weights reaches the threshold."""
    sums = accumulate(record.weight for record in records)
    return next(place for place, found in enumerate(sums) if found >= threshold)


def in_groups(records: Sequence[Record]) -> list[list[Record]]:
    """Records of equal preference together, the best first; otherwise as they came."""
    return [list(x) for _, x in groupby(_by_preference(records), _preference)]


def _by_preference(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=_preference)


def _preference(record: Record) -> int:
    return record.preference
