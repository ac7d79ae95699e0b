"""What follows when no look-up finds anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.dns.lookup import Answer, Result
from postfix_trouble.dns.routing import Rules, find_servers


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Result.NOT_FOUND, "5.4.4"),
        (Result.FAIL, "5.4.3"),
        (Result.INVALID, "5.4.4"),
        (Result.RETRY, "4.4.3"),
        (Result.POLICY, "4.7.0"),
        (Result.NULL, "5.1.0"),
    ],
)
def test_each_failure(result: Result, status: str) -> None:
    answer = Answer(result, result.name)
    lookups: Any = SimpleNamespace(query=lambda name, kind: answer)
    domain = Destination("example.com", "example.com", 25)
    failure = find_servers(domain, Rules(), lookups).failure
    assert failure == DSN(EnhancedStatus(status), result.name)
