from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postfix_trouble.message.lines import outgoing, records, unix_lines

TEXT = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\0", b"a", b"bc", b" "])).map(
    b"".join
)


def cut(text: bytes, size: int) -> list[bytes]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def wire(text: bytes, limit: int = 998, size: int = 65536, crlf: bool = False) -> bytes:
    chunks = unix_lines(cut(text, size)) if crlf else cut(text, size)
    return b"".join(outgoing(chunks, limit))


def line_by_line(text: bytes, limit: int, crlf: bool) -> bytes:
    """The same in the slow and obvious way."""
    if crlf:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    else:
        text = re.sub(rb"\r(?=[.\0])", b" ", text)
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    out = b""
    for line in lines:
        pieces = [line]
        while limit and len(pieces[-1]) > limit:
            last = pieces.pop()
            pieces += [last[:limit], b" " + last[limit:]]
        if line.startswith(b"."):
            out += b"."
        out += b"".join(piece + b"\r\n" for piece in pieces)
    return out


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"a\nb\n", b"a\r\nb\r\n", id="lines"),
        pytest.param(b"a", b"a\r\n", id="no newline at the end"),
        pytest.param(b".\n..\na.\n", b"..\r\n...\r\na.\r\n", id="dots"),
        pytest.param(b"a\0b\n", b"a\0b\r\n", id="NUL"),
        pytest.param(b"a\xff\n", b"a\xff\r\n", id="8-bit"),
        pytest.param(b"a\n\n\n", b"a\r\n\r\n\r\n", id="empty lines at the end"),
        pytest.param(b"a\rb\n", b"a\rb\r\n", id="stray CR as Postfix sends it"),
        pytest.param(b"a\r\n", b"a\r\r\n", id="CR at the end of a line too"),
        pytest.param(b"a\r", b"a\r\r\n", id="CR at the very end"),
        pytest.param(b"a\r.\rb\n", b"a .\rb\r\n", id="CR before a dot"),
        pytest.param(b"a\n\r.\n", b"a\r\n .\r\n", id="CR and dot alone in a line"),
        pytest.param(b"a\n.\r\n", b"a\r\n..\r\r\n", id="dot and CR alone in a line"),
        pytest.param(b"a\r\0.\n", b"a \0.\r\n", id="CR, NUL, dot"),
    ],
)
def test_text_from_the_pipe(text: bytes, sent: bytes) -> None:
    assert wire(text) == sent
    assert wire(text, size=1) == sent


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        pytest.param(b"a\r\n.\r\n", b"a\r\n..\r\n", id="CRLF"),
        pytest.param(b"a\r\nb\n", b"a\r\nb\r\n", id="mixed"),
        pytest.param(b"a\rb\r\r\n", b"a b \r\n", id="stray CR"),
        pytest.param(b"a\r", b"a \r\n", id="CR at the very end"),
    ],
)
def test_text_with_crlf(text: bytes, sent: bytes) -> None:
    assert wire(text, crlf=True) == sent
    assert wire(text, size=1, crlf=True) == sent


@pytest.mark.parametrize(
    ("length", "pieces"),
    [(998, [998]), (999, [998, 2]), (1995, [998, 998]), (1996, [998, 998, 2])],
)
def test_long_lines_are_broken_by_a_line_end_and_a_space(
    length: int, pieces: list[int]
) -> None:
    notes: list[str] = []
    text = b"x" * length + b"\nend\n"
    sent = b"".join(outgoing([text], note=notes.append))
    assert [len(line) for line in sent.split(b"\r\n")] == [*pieces, 3, 0]
    assert sent.replace(b"\r\n ", b"") == text.replace(b"\n", b"\r\n")
    assert notes == ["breaking line > 998 bytes with <CR><LF>SPACE"] * (len(pieces) > 1)


def test_dots_are_doubled_only_where_a_line_began() -> None:
    assert wire(b"." * 9 + b"\n.", limit=4) == b".....\r\n ...\r\n ..\r\n..\r\n"


def test_no_limit() -> None:
    assert wire(b"." * 9999, limit=0, size=100) == b"." * 10000 + b"\r\n"


def test_a_broken_line_is_noted_once() -> None:
    notes: list[str] = []
    list(outgoing([b"x" * 500] * 10, 100, note=notes.append))
    assert notes == ["breaking line > 100 bytes with <CR><LF>SPACE"]


@given(TEXT, st.integers(0, 6), st.integers(1, 9), st.booleans())
@example(b"\r", 0, 1, False)
@example(b"aaaa\n", 4, 4, False)
def test_as_the_obvious_way(text: bytes, limit: int, size: int, crlf: bool) -> None:
    limit = 2 if limit == 1 else limit
    assert wire(text, limit, size, crlf) == line_by_line(text, limit, crlf)


ENDS = [b"\n", b"\r", b"\r\n", b"\n\r", b"\r\r\n", b"\r\0\n", b"\0", b"\x0b", b"\x85"]
SINKS: dict[str, Callable[[bytes], list[bytes]]] = {
    "CRLF": lambda text: re.split(rb"\r\n", text),
    "LF": lambda text: re.split(rb"\r?\n", text),
    "CR": lambda text: re.split(rb"\r\n|\r", text),
    "any": lambda text: re.split(rb"\r\n|\r|\n", text),
    "LF, CR dropped": lambda text: text.replace(b"\r", b"").split(b"\n"),
    "any, NUL dropped": lambda text: re.split(rb"\r\n|\r|\n", text.replace(b"\0", b"")),
}


@pytest.mark.parametrize("sink", SINKS)
def test_no_server_sees_the_end_before_the_end(sink: str) -> None:
    for before, after, crlf in itertools.product(ENDS, ENDS, (False, True)):
        text = b"one" + before + b"." + after + b"MAIL FROM:<a@b>" + after
        for size in range(1, len(text) + 1):
            sent = wire(text, size=size, crlf=crlf) + b".\r\n"
            lines = SINKS[sink](sent)
            assert lines.index(b".") == len(lines) - 2, (text, size)
            assert not re.search(rb"(?<!\r)\n", sent), (text, size)


@given(TEXT, st.integers(1, 9))
def test_with_crlf_no_stray_cr_is_left(text: bytes, size: int) -> None:
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire(text, 4, size, crlf=True))


@given(TEXT, st.integers(1, 5), st.integers(1, 9))
def test_records_make_the_text(text: bytes, length: int, size: int) -> None:
    found = list(records(cut(text, size), length))
    again = b"".join(part + b"\n" * end for part, end in found)
    assert again in (text, text + b"\n")
    assert all(len(part) == length for part, end in found if not end)
