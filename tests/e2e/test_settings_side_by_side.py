"""Each setting does to our mail what it does to that of smtp(8)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from both_clients import Result, message, same, under_way
from private_postfix import PrivatePostfix, deliveries
from setting_cases import CASES, FILES, OWN, SOURCES, TABLES, ZONE
from tls_cases import FILES as TLS_FILES

import needs
from dns_server import serving
from private_network import NAME_SERVER

# `make test` has two minutes, and this file takes a quarter of one.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def delivered(
    postfix: PrivatePostfix, certificates: Path
) -> Iterator[dict[str, Result]]:
    """All cases, delivered by both clients."""
    ip = needs.tool("ip")
    subprocess.run([ip, "address", "add", f"{OWN}/32", "dev", "lo"], check=True)
    Path(FILES).mkdir(mode=0o755)
    for name, text in TABLES.items():
        Path(FILES, name).write_text(text)
    shutil.copytree(certificates, TLS_FILES, dirs_exist_ok=True)
    Path(TLS_FILES).chmod(0o755)
    with (
        serving(ZONE, NAME_SERVER, 53),
        under_way(postfix, CASES, str(certificates)) as results,
    ):
        yield results


@pytest.mark.parametrize("name", CASES)
def test_same_end(delivered: dict[str, Result], name: str) -> None:
    same(delivered[name], CASES[name])


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.status == "sent"]
)
def test_same_text(delivered: dict[str, Result], name: str) -> None:
    (connections,) = delivered[name].heard.values()
    first, second = map(message, connections)
    assert first == second


@pytest.mark.parametrize("name", SOURCES)
def test_same_source(delivered: dict[str, Result], name: str) -> None:
    (connections,) = delivered[name].heard.values()
    assert [c.client for c in connections] == [SOURCES[name]] * 2


@pytest.mark.parametrize("name", ["log-internal", "log-external"])
def test_same_form_of_address(
    delivered: dict[str, Result], our_log: Path, name: str
) -> None:
    ours, theirs, _ = delivered[name]
    (record,) = (
        r for r in deliveries(our_log.read_text()) if r.queue_id == ours.queue_id
    )
    assert record.recipient.partition("@")[0] == theirs.recipient.partition("@")[0]
