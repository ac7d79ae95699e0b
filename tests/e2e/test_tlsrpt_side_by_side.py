"""Both clients tell a TLSRPT reporter the same, in datagrams and in the log.

What Postfix 3.10 tells is written down, for machines with an older one.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tlsrpt_cases
from both_clients import Result, same, under_way
from private_postfix import PrivatePostfix, version
from tlsrpt_cases import CASES, HOST, NEWER, PLACE, SOCKET

from dns_server import serving
from private_network import NAME_SERVER

pytestmark = pytest.mark.more
RECORDED = Path(__file__).parent / "tlsrpt_recorded.json"


def has_it() -> bool:
    """Whether this Postfix reports, as the first one did with 3.10."""
    return tuple(map(int, version().split("."))) >= (3, 10)


class Told:
    """What the reporter and the logs were told, by domain."""

    def __init__(
        self, results: dict[str, Result], sent: list[bytes], logs: str
    ) -> None:
        self.results = results
        self.datagrams: dict[str, list[Any]] = {}
        for each in sent:
            text = re.sub(r'(?<=[0-9] )[0-9A-F]{64,}(?=")', "DATA", each.decode())
            told = json.loads(text)
            # libtlsrpt before 0.5.0 does not say so.
            assert told.pop("dpv", "1") == "1"
            assert list(told) == ["d", "pr", "policies"]
            self.datagrams.setdefault(told["d"], []).append(told)
        self.records: dict[str, list[str]] = {}
        for record in re.findall(r"TLSRPT: status=.*", logs):
            domain = re.search(r"domain=([^,]+)", record)
            assert domain
            self.records.setdefault(domain[1], []).append(record)


@contextmanager
def reporter() -> Iterator[list[bytes]]:
    """Reads what comes to the socket; the kernel keeps ten datagrams, not more."""
    sent: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(SOCKET)
        Path(SOCKET).chmod(0o666)

        def read() -> None:
            while datagram := end.recv(65536):
                sent.append(datagram)

        reading = threading.Thread(target=read)
        reading.start()
        try:
            yield sent
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", SOCKET)
            reading.join()


@pytest.fixture(scope="module")
def told(postfix: PrivatePostfix, certificates: Path, our_log: Path) -> Told:
    """All cases, delivered by both clients."""
    shutil.copytree(certificates, PLACE, dirs_exist_ok=True)
    Path(PLACE).chmod(0o755)
    Path(PLACE, "policy").write_text(tlsrpt_cases.policy_table(certificates))
    with (
        reporter() as sent,
        serving(tlsrpt_cases.zone(certificates), NAME_SERVER, 53),
        under_way(postfix, CASES, str(certificates)) as results,
    ):
        pass
    return Told(results, sent, postfix.log() + our_log.read_text())


@pytest.mark.parametrize("name", CASES)
def test_reports_change_no_delivery(told: Told, name: str) -> None:
    if has_it() or name not in NEWER:
        same(told.results[name], CASES[name])
    else:
        assert told.results[name].ours.status == CASES[name].status


@pytest.mark.parametrize("name", CASES)
def test_same_datagram(told: Told, name: str) -> None:
    recorded = json.loads(RECORDED.read_text())[name]
    # Each client's once.
    expected = [recorded] * (1 + has_it()) if recorded else []
    found = told.datagrams.get(f"{name}.test", [])
    assert found == expected
    # The collector counts what has the same text.
    assert len({json.dumps(x) for x in found}) <= 1


@pytest.mark.parametrize("name", CASES)
def test_same_log_record(told: Told, name: str) -> None:
    recorded = json.loads(RECORDED.read_text())[name]
    records = told.records.get(f"{name}.test", [])
    assert len(records) == (1 + has_it() if recorded else 0)
    assert len(set(records)) <= 1
    for record in records:
        assert f"domain={name}.test, receiving_mx=" in record
        assert f"[{HOST}]" in record
