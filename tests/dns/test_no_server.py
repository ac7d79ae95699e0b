"""What follows when no look-up finds anything."""

from __future__ import annotations

import pytest

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.dns.lookup import Result
from postfix_trouble.dns.no_server import without_server


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
    assert without_server(result) == DSN(EnhancedStatus(status), result.name)
