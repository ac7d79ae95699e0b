from __future__ import annotations

import calendar
import itertools
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.message.headers import date, facts, headers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"A: 1\nB: 2\n\nC: 3\n", [b"A: 1", b"B: 2"], id="plain"),
        pytest.param(b"A: 1\n 2\n\t3\n\n", [b"A: 1\n 2\n\t3"], id="folded"),
        pytest.param(b"A : 1\n\n", [b"A : 1"], id="blank before the colon"),
        pytest.param(b"A: 1\nno header\nB: 2\n", [b"A: 1"], id="body without a line"),
        pytest.param(b" x\nA: 1\n", [], id="continuation of nothing"),
        pytest.param(b"A: 1", [b"A: 1"], id="end without newline"),
        pytest.param(b"\n", [], id="no header"),
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"A\xff: 1\n", [], id="name must be ASCII"),
        pytest.param(b": 1\n", [], id="name must be there"),
    ],
)
def test_headers(text: bytes, expected: list[bytes]) -> None:
    assert list(headers([text])) == expected
    assert list(headers(text[i : i + 1] for i in range(len(text)))) == expected


def test_a_header_without_end_is_not_kept_whole() -> None:
    endless = itertools.chain(
        [b"A: "], itertools.repeat(b"x" * 65536, 1600), [b"\nB: 1\n"]
    )
    found = list(headers(endless))
    assert len(found[0]) < 110_000
    assert found[1] == b"B: 1"


def test_only_the_header_is_read() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"A: 1\n\nbody"
        raise AssertionError

    assert facts(chunks()).encoding == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"Content-Transfer-Encoding: 8bit\n", "8bit"),
        (b"content-transfer-encoding :\n 8BIT\n", "8bit"),
        (b"Content-Transfer-Encoding: binary\n", "8bit"),
        (b"Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: 8bit\n", "8bit"),
        (b"Content-Transfer-Encoding: 7bit\n", ""),
        (b"Content-Transfer-Encoding: 8bit (really)\n", ""),
        (b"Content-Transfer-Encoding: base64\n", ""),
        (b"\nContent-Transfer-Encoding: 8bit\n", ""),
    ],
)
def test_encoding(text: bytes, expected: str) -> None:
    assert facts([text]).encoding == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"Content-Type: Multipart/Mixed; boundary=b\n", True),
        (b"content-type :\n message/rfc822\n", True),
        (b"Content-Type: text/plain\nContent-Type: multipart/x\n", True),
        (b"Content-Type: text/plain\n", False),
        (b"\nContent-Type: multipart/mixed\n", False),
    ],
)
def test_there_may_be_parts(text: bytes, expected: bool) -> None:
    assert facts([text]).structured is expected


def test_utf8_header() -> None:
    assert facts(["Subject: é\n".encode()]).utf8
    assert not facts(["Subject: e\n\né\n".encode()]).utf8


def test_time_of_arrival_is_that_of_the_topmost_received_header() -> None:
    text = (
        b"Subject: x\nReceived: by a (Postfix; really)\n"
        b"\tid 1; Mon,  1 Jan 2024 02:00:00 +0100 (CET)\n"
        b"Received: by b; Mon,  1 Jan 2023 00:00:00 +0000\n"
    )
    assert facts([text]).received() == 1704070800


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (
            b"from a (b [1.2.3.4])\n\tby c (Postfix) with ESMTP id 4XYz09\n\tfor <x@y>",
            "4XYz09",
        ),
        (b"by c (Postfix, from userid 0)\n\tid 4XYz09", "4XYz09"),
        (b"from id 4BAD (by id 4BAD [::1]) by c (Postfix) with LMTP id 4XY", "4XY"),
        (b"by c (Postfix) with SMTP id 4XY for <id@by.test>", "4XY"),
        (b"from id 4BAD", ""),
        (b"by c id", ""),
        (b"by c", ""),
        (b"by c with SMTP id 4X\xe4Y", ""),
        (b"by c with SMTP id <4XY>", ""),
        (b"by c with SMTP id " + b"4" * 31, ""),
        (b"", ""),
    ],
)
def test_queue_id(trace: bytes, expected: str) -> None:
    text = b"X: 1\nReceived: " + trace + b"; Mon, 1 Jan 2024 01:00:00 +0000\n"
    older = b"Received: by d (Postfix) id 4OLD; Mon, 1 Jan 2024 00:00:00 +0000\n"
    assert facts([text + older]).queue_id() == expected


@pytest.mark.parametrize("text", [b"", b"Received: by a\n", b"Received: by a; soon\n"])
def test_no_time_of_arrival(text: bytes) -> None:
    assert facts([text]).received() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mon,  1 Jan 2024 00:00:00 +0000 (UTC)", (2024, 1, 1, 0, 0, 0)),
        ("Thu, 29 Feb 2024 23:59:59 -0130", (2024, 3, 1, 1, 29, 59)),
        ("1 Mar 2100 00:00 GMT", (2100, 3, 1, 0, 0, 0)),
        ("Mon, 1 Jan 24 00:00:00 EST", (2024, 1, 1, 5, 0, 0)),
    ],
)
def test_dates(text: str, expected: tuple[int, ...]) -> None:
    assert date(text) == calendar.timegm(expected)


@given(st.integers(0, 4102444800))
def test_dates_as_others_write_them(seconds: int) -> None:
    text = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(seconds))
    assert date(text) == seconds


@given(st.text(alphabet=" ,:+-0123456789JanFebMonGMTESTxyz", max_size=40))
def test_no_text_is_too_odd_for_a_date(text: str) -> None:
    assert date(text) is None or date(text) == date(text + " ")


@pytest.mark.parametrize(
    ("trace", "protocol"),
    [
        (b"from x (y [1])\n\tby h (Postfix) with ESMTPSA id 4A for <r@x>", "ESMTPSA"),
        (b"from x by h (Postfix) with UTF8SMTP id 4A", "UTF8SMTP"),
        (b"by h (Postfix, from userid 0)\n\tid 4A", ""),
        (b"from with UTF8SMTP by h (Postfix) id 4A", ""),
        (b"by h (Postfix) id 4A with SMTP", ""),
        (b"by h with", ""),
        (b"by with id 4A", ""),
        (b"", ""),
    ],
)
def test_protocol(trace: bytes, protocol: str) -> None:
    text = b"Received: " + trace + b"; Mon, 1 Jan 2024 01:00:00 +0000\n"
    assert facts([text]).protocol() == protocol


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"TLS-Required: no", True),
        (b"tls-required:NO", True),
        (b"TLS-Required:\n \tno", True),
        (b"TLS-Required: yes\nTLS-Required: no", True),
        (b"TLS-Required: no ", False),
        (b"TLS-Required: no (please)", False),
        (b"TLS-Required:", False),
        (b"TLS-Required: none", False),
        (b"X-TLS-Required: no", False),
        (b"Subject: x\n\nTLS-Required: no", False),
    ],
)
def test_sender_who_can_do_without_tls(header: bytes, expected: bool) -> None:
    assert facts([header + b"\n\nhello\n"]).tls_optional is expected
