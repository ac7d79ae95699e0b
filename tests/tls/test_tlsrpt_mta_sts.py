"""TLSRPT of deliveries by an MTA-STS policy that we fetch ourselves."""

from __future__ import annotations

import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from test_mta_sts_delivery import Place, here, policy

from https_server import page
from scripted_server import KEYWORDS

__all__ = ["here"]
RECORD = "v=TLSRPTv1; rua=mailto:tls@wild.test"


def told(
    here: Place, certificate: str = "good", **script: Any
) -> tuple[int, dict[str, Any]]:
    """Deliver once. The exit status, and what the reporter was told of the policy."""
    here.dns.zone["_smtp._tls.wild.test"] = {"TXT": [f'"{RECORD}"']}
    # Not tmp_path: the path of a socket has to be short.
    with (
        tempfile.TemporaryDirectory(prefix="postfix-trouble-") as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reporter,
        here.server(certificate, **script) as server,
    ):
        path = Path(directory, "socket")
        reporter.bind(str(path))
        reporter.settimeout(60)
        settings = {
            "smtp_tls_security_level": "may",
            "smtp_tlsrpt_enable": "yes",
            "smtp_tlsrpt_socket_name": str(path),
        }
        options = [x for n, v in settings.items() for x in ("-o", f"{n}={v}")]
        code, _ = here.deliver(server, *options)
        found: dict[str, Any] = json.loads(reporter.recv(65536))
    assert (found["d"], found["pr"]) == ("wild.test", RECORD)
    (one,) = found["policies"]
    return code, one


def test_policy_is_told_as_it_was_fetched(here: Place) -> None:
    code, one = told(here)
    assert (code, one["policy-type"], one["f"]) == (0, 2, 0)
    assert one["policy-domain"] == "wild.test"
    assert one["policy-string"][:2] == ["version: STSv1", "mode: enforce"]
    assert one["mx-host"] == ["mx.wild.test"]


@pytest.mark.parametrize(("mode", "code"), [("enforce", 75), ("testing", 0)])
@pytest.mark.parametrize(
    ("certificate", "script", "failure"),
    [
        ("wrongname", {}, 202),
        ("selfsigned", {}, 205),
        ("good", {"keywords": KEYWORDS}, 201),
    ],
)
def test_failures_are_told_whether_they_matter_or_not(
    here: Place, mode: str, code: int, certificate: str, script: Any, failure: int
) -> None:
    here.web.answer = policy(mode)
    if mode == "testing":
        # Nobody is passed over.
        here.dns.zone["wild.test"] = {"MX": ["20 mx.wild.test."]}
    ended, one = told(here, certificate, **script)
    assert ended == code
    assert (one["policy-type"], one["f"]) == (2, 1)
    assert one["failure-details"][0]["c"] == failure


def test_testing_without_a_failure_is_a_success(here: Place) -> None:
    here.web.answer = policy("testing")
    here.dns.zone["wild.test"] = {"MX": ["20 mx.wild.test."]}
    assert told(here)[1]["f"] == 0


def test_policy_that_can_not_be_fetched(here: Place) -> None:
    here.web.answer = page(b"", status="404 Not Found")
    here.dns.zone["wild.test"] = {"MX": ["20 mx.wild.test."]}
    code, one = told(here)
    assert code == 0
    assert (one["policy-type"], one["policy-domain"]) == (2, "wild.test")
    assert one["failure-details"][0]["c"] == 301
