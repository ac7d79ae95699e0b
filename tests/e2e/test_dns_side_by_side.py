"""Both clients find the same servers in the same name service, or fail alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from both_clients import Result, same, under_way
from dns_cases import CASES, ZONE
from private_postfix import PrivatePostfix

from dns_server import DnsServer, serving
from private_network import NAME_SERVER, impatient


class All(NamedTuple):
    """How all cases ended, and the name server that was asked."""

    results: dict[str, Result]
    dns: DnsServer


@pytest.fixture(scope="module")
def delivered(postfix: PrivatePostfix) -> Iterator[All]:
    """All cases, delivered by both clients."""
    with (
        impatient(),
        serving(ZONE, NAME_SERVER, 53) as dns,
        under_way(postfix, CASES) as results,
    ):
        yield All(results, dns)


@pytest.mark.parametrize("name", CASES)
def test_same_servers(delivered: All, name: str) -> None:
    same(delivered.results[name], CASES[name])


def test_best_server_first(delivered: All) -> None:
    *others, best = delivered.results["order"].heard.values()
    assert len(best) == 2
    assert not any(others)


def test_nothing_is_asked_for_that_is_not_needed(delivered: All) -> None:
    """Ours and Postfix ask the same: MX once, addresses of each host once."""
    for name in ("order", "no-mx", "null-mx", "nowhere", "loop"):
        asked = [q[:2] for q in delivered.dns.queries if q[0].endswith(f"{name}.test")]
        once = sorted(set(asked))
        assert asked.count((f"{name}.test", "MX")) == 2, once
        assert all(asked.count(query) <= 2 for query in once), asked
