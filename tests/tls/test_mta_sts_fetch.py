"""MTA-STS policies by HTTPS, from a web server of the tests' own."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from https_server import https_serving, page
from postfix_trouble.config.settings import Settings
from postfix_trouble.tls.mta_sts import NoPolicy
from postfix_trouble.tls.mta_sts_fetch import fetch

POLICY = b"version: STSv1\nmode: enforce\nmx: mx.secure.test\nmax_age: 86400\n"
# Seconds; nobody waits for so long unless something is wrong.
LIMIT = 30.0


def fetched(
    certificates: Path,
    answer: bytes,
    *,
    then: str = "close",
    certificate: str = "good",
    host: str = "secure.test",
    seconds: float = LIMIT,
    addresses: tuple[str, ...] = ("127.0.0.1",),
    values: dict[str, str] | None = None,
) -> tuple[bytes | NoPolicy, list[str]]:
    """What came, and what the server was asked."""
    if values is None:
        values = {"smtp_tls_CAfile": str(certificates / "ca.pem")}
    with https_serving(certificates / f"{certificate}.pem", answer) as server:
        server.then = then
        found = fetch(host, addresses, Settings(values), seconds, server.port)
    return found, server.requests


def test_policy(certificates: Path) -> None:
    found, requests = fetched(certificates, page(POLICY))
    assert found == POLICY
    (request,) = requests
    assert request.startswith("GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
    assert "\r\nHost: secure.test\r\n" in request


def chunked(*pieces: bytes) -> bytes:
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%s\r\n" % (len(x), x) for x in pieces)


WITHOUT_SIZE = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + POLICY

TAKEN: list[tuple[str, bytes, str]] = [
    ("parameters of the media type", page(POLICY, kind="Text/Plain; a=b"), "close"),
    ("in pieces", chunked(POLICY[:9], POLICY[9:], b""), "close"),
    ("up to the end", WITHOUT_SIZE, "close"),
    ("a size, and no end", page(POLICY), "hang"),
    ("a size, and a rude end", page(POLICY), "cut"),
    ("go on", b"HTTP/1.1 100 Continue\r\n\r\n" + page(POLICY), "close"),
]


@pytest.mark.parametrize(
    ("answer", "then"), [x[1:] for x in TAKEN], ids=[x[0] for x in TAKEN]
)
def test_taken(certificates: Path, answer: bytes, then: str) -> None:
    assert fetched(certificates, answer, then=then)[0] == POLICY


ELSEWHERE = "Location: https://secure.test/policy"
BIG = POLICY + b"x: " + b"y" * 65536
REFUSED: list[tuple[str, bytes, str, str]] = [
    ("redirect", page(b"", ELSEWHERE, status="301 Moved"), "close", "status 301"),
    ("other redirect", page(POLICY, ELSEWHERE, status="307 x"), "close", "status 307"),
    ("not there", page(b"", status="404 Not Found"), "close", "HTTP status 404"),
    ("trouble", page(POLICY, status="500 Oops"), "close", "HTTP status 500"),
    ("some content", page(POLICY, status="206 Part"), "close", "HTTP status 206"),
    ("another type", page(POLICY, kind="text/html"), "close", "media type"),
    ("no type", page(POLICY, kind=""), "close", "media type"),
    ("too long", page(BIG), "close", "more than 65536 bytes"),
    ("too long, in pieces", chunked(BIG, b""), "close", "more than 65536 bytes"),
    ("cut short", page(POLICY, size=500), "close", "cut short"),
    ("cut in a piece", chunked(POLICY)[:-20], "close", "IncompleteRead"),
    ("cut before the last piece", chunked(POLICY), "close", "IncompleteRead"),
    ("no end", WITHOUT_SIZE, "cut", "unexpected eof"),
    ("nothing", b"", "close", "closed connection"),
    ("no HTTP", b"220 mx.test ESMTP\r\n", "close", "220 mx.test"),
    ("endless line", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70000, "hang", "line"),
    ("many lines", page(b"", *["x: y"] * 200), "close", "headers"),
]


@pytest.mark.parametrize(
    ("answer", "then", "why"), [x[1:] for x in REFUSED], ids=[x[0] for x in REFUSED]
)
def test_refused(certificates: Path, answer: bytes, then: str, why: str) -> None:
    found, requests = fetched(certificates, answer, then=then)
    assert isinstance(found, NoPolicy)
    assert why in found.problem
    assert found.problem.startswith("https://secure.test/.well-known/mta-sts.txt at")
    assert found.failure == "sts-policy-fetch-error"
    # A redirect is not followed.
    assert len(requests) == 1


CERTIFICATES = [
    # certificate, name asked for, what OpenSSL says
    ("wrongname", "secure.test", "Hostname mismatch"),
    ("good", "mta-sts.secure.test", "Hostname mismatch"),
    ("expired", "secure.test", "certificate has expired"),
    ("untrusted", "secure.test", "unable to get local issuer certificate"),
    ("selfsigned", "mx.secure.test", "self-signed certificate"),
]


@pytest.mark.parametrize(("name", "host", "why"), CERTIFICATES)
def test_certificates(certificates: Path, name: str, host: str, why: str) -> None:
    found, requests = fetched(certificates, page(POLICY), certificate=name, host=host)
    assert isinstance(found, NoPolicy)
    assert why in found.problem
    assert found.failure == "sts-webpki-invalid"
    assert requests == []


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, "unable to get local issuer certificate"),
        ({"smtp_tls_CAfile": "/nonexistent"}, "authorities can't be loaded"),
    ],
)
def test_no_authorities(certificates: Path, values: Any, why: str) -> None:
    found, requests = fetched(certificates, page(POLICY), values=values)
    assert isinstance(found, NoPolicy)
    assert why in found.problem
    assert requests == []


def test_a_slow_server_gets_no_more_than_its_time(certificates: Path) -> None:
    """Not that for each wait: a byte now and then would keep us for ever."""
    start = time.monotonic()
    found, requests = fetched(certificates, page(POLICY)[:-9], then="hang", seconds=1)
    assert isinstance(found, NoPolicy)
    assert "timed out" in found.problem
    assert time.monotonic() - start < LIMIT / 2
    assert len(requests) == 1


def test_no_time_is_left(certificates: Path) -> None:
    found, requests = fetched(certificates, page(POLICY), seconds=0)
    assert isinstance(found, NoPolicy)
    assert "time limit exceeded" in found.problem
    assert requests == []


def test_the_next_address_is_tried(certificates: Path) -> None:
    # Nobody listens at the first one.
    found, _ = fetched(certificates, page(POLICY), addresses=("127.0.0.9", "127.0.0.1"))
    assert found == POLICY


def test_nobody_there(certificates: Path) -> None:
    values = {"smtp_tls_CAfile": str(certificates / "ca.pem")}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = fetch("secure.test", ("127.0.0.1",), Settings(values), LIMIT, port)
    assert isinstance(found, NoPolicy)
    assert "Connection refused" in found.problem
    found = fetch("secure.test", (), Settings(values), LIMIT)
    assert found == NoPolicy("secure.test has no address", "sts-policy-fetch-error")
