"""Both clients trust the same servers, and give up on the others in the same words."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from both_clients import Result, once_more, same, under_way
from private_postfix import PrivatePostfix
from tls_cases import CASES, FILES, OLD, WAITING, YOUNG, ZONE, policy_table

from dns_server import serving
from private_network import NAME_SERVER
from waiting import wait

pytestmark = pytest.mark.more


@pytest.fixture(scope="module")
def delivered(
    postfix: PrivatePostfix, certificates: Path
) -> Iterator[dict[str, Result]]:
    """All cases, delivered by both clients."""
    shutil.copytree(certificates, FILES, dirs_exist_ok=True)
    Path(FILES).chmod(0o755)
    Path(FILES, "policy").write_text(policy_table(certificates))
    with (
        serving(ZONE, NAME_SERVER, 53),
        under_way(postfix, CASES, str(certificates)) as results,
    ):
        yield results


@pytest.mark.parametrize("name", CASES)
def test_same_trust(delivered: dict[str, Result], name: str) -> None:
    same(delivered[name], CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_mail_goes_only_where_it_may(delivered: dict[str, Result], name: str) -> None:
    """No sender, no recipient and no text for whom has not passed, or in the clear."""
    weak = CASES[name].group in ("tls-may", "tls-waiting", "tls-policy")
    for connections in delivered[name].heard.values():
        for connection in connections:
            told = [c for c in connection.commands if c.startswith(("MAIL", "RCPT"))]
            if CASES[name].status == "sent":
                assert connection.tls or weak or not told
            elif "lost" not in name:
                assert not told


@pytest.fixture(scope="module")
def waited(postfix: PrivatePostfix, delivered: dict[str, Result]) -> dict[str, Result]:
    """The second attempt of those whose message has waited by now."""
    deferred = {name: delivered[name] for name in WAITING}
    ids = [one.queue_id for result in deferred.values() for one in result[:2]]
    # Each clock counts full seconds.
    old = max(map(postfix.arrival, ids)) + 3
    wait(lambda: time.time() > old)
    master_cf = postfix.directory / "etc/master.cf"
    text = master_cf.read_text()
    assert YOUNG in text
    master_cf.write_text(text.replace(YOUNG, OLD))
    postfix.reload()
    return once_more(postfix, deferred)


@pytest.mark.parametrize("name", WAITING)
def test_same_without_tls(waited: dict[str, Result], name: str) -> None:
    status, dsn, words = WAITING[name]
    case = CASES[name]._replace(status=status, dsn=dsn, words=words)
    same(waited[name], case)
