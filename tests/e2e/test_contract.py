"""pipe(8) does with an exit what the program counts on."""

from __future__ import annotations

import contract
import pytest
from private_postfix import Delivery, PrivatePostfix


@pytest.fixture(scope="module")
def records(postfix: PrivatePostfix) -> dict[str, Delivery]:
    """All rows at once: one message from the null sender, one request for each."""
    addresses = [contract.address(name) for name in contract.ROWS]
    postfix.submit(*addresses, sender="")
    return postfix.delivered(addresses)


@pytest.mark.fault(
    "1, 7, 11, 32, 41 what pipe(8) makes of exits, signals, limits, output"
)
@pytest.mark.parametrize("name", contract.ROWS)
def test_row(records: dict[str, Delivery], name: str) -> None:
    row = contract.ROWS[name]
    record = records[contract.address(name)]
    beginning = row.reason.removesuffix("*")
    reason = record.reason[: len(beginning)] if row.reason[-1] == "*" else record.reason
    assert (record.dsn, record.status, reason) == (row.dsn, row.status, beginning)


@pytest.mark.usefixtures("records")
def test_output_is_cut_at_4096_bytes(postfix: PrivatePostfix) -> None:
    reason = postfix.delay_reason(contract.address("output-4096-bytes"))
    assert len(reason) == 4096 - len("4.7.1 ")


@pytest.mark.fault("32 no program at all, behind pipe(8)")
def test_program_that_is_not_there(postfix: PrivatePostfix) -> None:
    postfix.submit("r@absent.contract.test")
    record = postfix.delivery("r@absent.contract.test")
    assert (record.dsn, record.status) == ("4.3.0", "deferred")
    assert record.reason.startswith("temporary failure. Command output: pipe: fatal:")
