"""The data of an LMTP message: where it ends, and what is in it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.lmtp.input import DataReader


def read(*chunks: bytes) -> tuple[bytes, bytes | None]:
    """The text, and what follows it; None if the end was not reached."""
    reader, text, left = DataReader(), b"", list(chunks)
    while left and not reader.ended:
        text += reader.feed(left.pop(0))
    return text, reader.rest + b"".join(left) if reader.ended else None


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        pytest.param(b".\r\n", b"", id="empty message"),
        pytest.param(b"a\r\n\r\nb\r\n.\r\n", b"a\n\nb\n", id="lines"),
        pytest.param(b"..\r\n...\r\n.\r\n", b".\n..\n", id="doubled dots"),
        pytest.param(b"a.\r\n.b\r\n.\r\n", b"a.\nb\n", id="dot of no use"),
        pytest.param(b"a\rb\r\n\rc\r\n.\r\n", b"a\rb\n\rc\n", id="bare CR is kept"),
        pytest.param(b"one\r\r\n.\r\n", b"one\r\n", id="CR at the end of a line"),
        pytest.param(b"..\r\r\n.\r\n", b".\r\n", id="a line of dot and CR"),
        pytest.param(b"a\nb\r\n.\r\n", b"a b\n", id="bare LF becomes a blank"),
        pytest.param(b"\0\x80\xff\r\n.\r\n", b"\0\x80\xff\n", id="any byte"),
    ],
)
def test_text(wire: bytes, text: bytes) -> None:
    assert read(wire) == (text, b"")
    assert read(*(bytes([byte]) for byte in wire)) == (text, b"")


@pytest.mark.parametrize(
    "fake",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r.\n",
        b"\r\n.\r",
        b"\n.\r",
        b"\r\r\n.\r\r\n",
        b"\r\n.\0\r\n",
        b"\r\n\0.\r\n",
        b"\r\n\x0b.\r\n",
        b"\r\n.\x0c\r\n",
        b"\x85.\x85",
    ],
    ids=repr,
)
def test_only_one_thing_ends_the_data(fake: bytes) -> None:
    """What follows a fake end stays content, at whatever byte the chunks are cut."""
    wire = b"a" + fake + b"MAIL FROM:<evil@example>\r\n.\r\nQUIT\r\n"
    for cut in range(len(wire)):
        text, rest = read(wire[:cut], wire[cut:])
        assert rest == b"QUIT\r\n"
        assert text.endswith(b"MAIL FROM:<evil@example>\n")
        assert b"\n.\n" not in text


def plain_reader(wire: bytes) -> tuple[bytes, bytes | None]:
    """The same, line by line: slow and simple."""
    text, rest = b"", wire
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            return text, None
        if line == b".":
            return text, rest
        line = line[1:] if line.startswith(b".") else line
        text += line.replace(b"\n", b" ") + b"\n"


PIECES = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b".", b"..", b"x", b"\r\n.\r\n", b"\0"]
)


@given(
    st.lists(PIECES, max_size=25).map(b"".join),
    st.lists(st.integers(0, 60), max_size=9),
)
def test_chunks_do_not_matter(wire: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(wire)]
    chunks = [wire[a:b] for a, b in itertools.pairwise(places)]
    wire = b"".join(chunks)
    text, rest = plain_reader(wire)
    if rest is None:
        assert read(*chunks)[1] is None
    else:
        assert read(*chunks) == (text, rest)


@given(st.binary(max_size=400), st.integers(1, 20))
def test_what_a_client_sends_is_what_we_have(text: bytes, size: int) -> None:
    """Doubling the dots of any text that has no bare LF is undone."""
    lines = text.replace(b"\r", b"").split(b"\n")
    wire = b"".join(
        (b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines
    )
    wire += b".\r\n"
    chunks = [wire[at : at + size] for at in range(0, len(wire), size)]
    assert read(*chunks) == (b"\n".join(lines) + b"\n", b"")
