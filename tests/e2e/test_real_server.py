"""A server that we did not write: STARTTLS and log-ins at Postfix's smtpd."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_server
from both_clients import Result, same, under_way
from private_postfix import PrivatePostfix
from real_cases import CASES

import needs
from dns_server import serving
from private_network import NAME_SERVER
from waiting import wait

pytestmark = pytest.mark.more

SENT = [name for name, case in CASES.items() if case.status == "sent"]


@pytest.fixture(scope="module")
def delivered(
    postfix: PrivatePostfix, certificates: Path, our_log: Path
) -> Iterator[dict[str, Result]]:
    """All cases, delivered by both clients."""
    needs.tool("saslpasswd2")
    account = our_log.owner()
    group = grp.getgrgid(pwd.getpwnam(account).pw_gid).gr_name
    real_server.prepare(certificates, account, group)
    with (
        serving(real_server.ZONE, NAME_SERVER, 53),
        under_way(postfix, CASES) as results,
    ):
        yield results


@pytest.mark.parametrize("name", CASES)
def test_same_log_in(delivered: dict[str, Result], name: str) -> None:
    same(delivered[name], CASES[name])


def test_mail_arrives(postfix: PrivatePostfix, delivered: dict[str, Result]) -> None:
    """In the maildir, twice for each that was sent, whole, from whom it says."""
    wait(lambda: len(real_server.stored()) >= 2 * len(SENT), postfix.log)
    stored = real_server.stored()
    assert len(stored) == 2 * len(SENT)
    for text in stored:
        assert text.endswith(b"\n\nHello.\n.\nBye.\n")
        assert f"Authenticated sender: {real_server.USER}".encode() in text
