"""The conversion to quoted-printable, beside what a real Postfix 3.7.11 sent."""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.core.failure import ContentError
from postfix_trouble.message.lines import outgoing
from postfix_trouble.message.mime import Parser, Place, utf8_headers
from postfix_trouble.message.quoted_printable import LineEncoder, encode_lines

CONVERTED = sorted((Path(__file__).parent / "data" / "converted").glob("*.eml"))

PIECES = [
    b"Content-Transfer-Encoding: 8bit\n",
    b"Content-Type: multipart/mixed; boundary=b\n",
    b"Content-Type: multipart/digest; boundary=bb; boundary=\n",
    b"Content-Type: message/rfc822\n",
    b"Subject: x\n",
    b" folded\n",
    b"--b\n",
    b"--bb--\n",
    b"--b",
    b"--\n",
    b"\n",
    b"\xe4 = \n",
    b"\xe4\t",
    b"\0\r",
    b"x" * 100,
    b"y" * 2046 + b"--b\n",
]
MESSAGE = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


def cut(text: bytes, size: int) -> Iterable[bytes]:
    return (text[i : i + size] for i in range(0, len(text), size))


def convert(text: bytes, size: int = 65536, limit: int = 100) -> bytes:
    parser = Parser(downgrade=True, nesting_limit=limit)
    return b"".join(parser.run(cut(text, size)))


def test_there_is_something_to_compare_with() -> None:
    assert len(CONVERTED) > 50


@pytest.mark.parametrize("path", CONVERTED, ids=lambda path: path.stem)
def test_converted_as_by_postfix(path: Path) -> None:
    text = path.read_bytes()
    expected = path.with_suffix(".sent").read_bytes()
    for size in (1, 7, 2048, 65536):
        parser = Parser(downgrade=True)
        assert b"".join(outgoing(parser.run(cut(text, size)))) == expected


@pytest.mark.parametrize("path", CONVERTED, ids=lambda path: path.stem)
def test_what_is_converted_stays_so(path: Path) -> None:
    once = convert(path.read_bytes())
    assert convert(once) == once


def nested(levels: int) -> bytes:
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level)
        for level in range(levels)
    )


def test_nesting_has_a_limit() -> None:
    convert(nested(7), limit=5)
    with pytest.raises(ContentError) as error:
        convert(nested(8), limit=5)
    assert error.value.status == "5.6.0"
    assert error.value.reason == "MIME nesting exceeds safety limit"


def test_nesting_is_no_error_where_nothing_is_converted() -> None:
    for levels, header in ((7, b"Subject: x\n"), (8, b"Subject : x\n")):
        text = nested(levels)
        sent = b"".join(Parser(nesting_limit=5).run([text + b"Subject : x\n"]))
        assert sent == text + header, "what is deeper is text, and left alone"


@given(MESSAGE, st.integers(1, 300))
def test_chunks_make_no_difference(text: bytes, size: int) -> None:
    assert convert(text, size) == convert(text)


@given(MESSAGE, st.integers(1, 300))
def test_looking_at_single_lines_makes_no_difference(text: bytes, size: int) -> None:
    def line(part: bytes, complete: bool) -> bytes:
        return part + b"\n" if complete else part

    parser = Parser(downgrade=True, body=line)
    assert b"".join(parser.run(cut(text, size))) == convert(text)


def test_a_long_header_is_cut() -> None:
    sent = convert(b"A: 1\n" + b" x\n" * 100_000 + b"B: 1\n")
    assert len(sent) < 110_000
    assert sent.endswith(b"B: 1\n")


def test_a_last_line_without_newline_is_not_lost() -> None:
    header = b"Content-Transfer-Encoding: 8bit\n\n"
    for length in (2047, 2048, 2049, 4096):
        sent = convert(header + b"x" * length)
        assert sent.count(b"x") == length
        assert sent.endswith(b"x\n")


def test_places_of_headers() -> None:
    seen = []

    def look(header: bytes, place: Place, name: bytes) -> bytes:
        seen.append((place, name))
        return b""

    text = (
        b"A: 1\nContent-Type: multipart/mixed; boundary=b\n\n--b\nB : 1\n\n"
        b"--b\nContent-Type: message/rfc822\n\nC: 1\n\n--b--\nD: 1\n"
    )
    assert b"".join(Parser(header=look).run([text])) == (
        b"\n--b\n\n--b\n\n\n--b--\nD: 1\n"
    )
    assert seen == [
        (Place.MESSAGE, b"a"),
        (Place.MESSAGE, b"content-type"),
        (Place.PART, b"b"),
        (Place.PART, b"content-type"),
        (Place.NESTED, b"c"),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"A: \xe4\n\n", True),
        (b"A: a\n\nB: \xe4\n", False),
        (b"Content-Type: multipart/x; boundary=b\n\n--b\nA: \xe4\n\n", True),
        (b"Content-Type: multipart/x; boundary=b\n\n--b\n\nA: \xe4\n\n", False),
        (b"Content-Type: message/rfc822\n\nA: \xe4\n\n", True),
    ],
)
def test_utf8_headers(text: bytes, found: bool) -> None:
    assert utf8_headers([text]) is found


@given(st.binary().map(lambda text: text.replace(b"\n", b"") + b"\n"))
def test_quoted_printable_can_be_decoded(line: bytes) -> None:
    encoded = encode_lines(line)
    assert binascii.a2b_qp(encoded) == line
    assert all(len(line) <= 76 for line in encoded.split(b"\n"))
    assert encoded.isascii()


@given(st.lists(st.text(alphabet=" \t=aä", max_size=120)), st.integers(1, 80))
def test_lines_in_pieces_are_encoded_as_whole_ones(lines: list[str], size: int) -> None:
    encoder = LineEncoder()
    out = b""
    for line in lines:
        for piece in cut(line.encode(), size):
            out += encoder.encode(piece, False)
        out += encoder.encode(b"", True)
    whole = "".join(line + "\n" for line in lines).encode()
    assert out == encode_lines(whole)
