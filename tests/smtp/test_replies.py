"""Bytes of a server to replies: Postfix's rules, and no way to hurt us with them."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postfix_trouble.core.reply import Reply
from postfix_trouble.smtp import replies
from postfix_trouble.smtp.replies import ReplyReader, reply_text


def read(data: bytes, **options: Any) -> Reply:
    reader = ReplyReader(**options)
    reader.feed(data)
    reply = reader.next()
    assert reply is not None
    return reply


def seen(data: bytes, **options: Any) -> tuple[int, str, str, bool]:
    reply = read(data, **options)
    return reply.code, str(reply.status), reply.text, reply.garbled


REPLIES: list[Any] = [
    # bytes, code, status, text, garbled
    (b"250 ok\r\n", 250, "2.0.0", "250 ok", False),
    (b"250 ok\n", 250, "2.0.0", "250 ok", False),
    (b"250 ok\r\r\r\n", 250, "2.0.0", "250 ok", False),
    (b"250 o\rk\r\n", 250, "2.0.0", "250 o?k", False),
    (b"250\r\n", 250, "2.0.0", "250", False),
    (b"250 \r\n", 250, "2.0.0", "250 ", False),
    # The code is that of the last line, whatever came before.
    (b"250-a\r\n550 b\r\n", 550, "5.0.0", "250-a\n550 b", False),
    (
        b"550-5.1.1 a\r\n550 4.2.2 b\r\n",
        550,
        "5.0.0",
        "550-5.1.1 a\n550 4.2.2 b",
        False,
    ),
    (b"550-\r\n550\r\n", 550, "5.0.0", "550-\n550", False),
    # The enhanced status counts if it agrees with the code.
    (b"550 5.1.1 x\r\n", 550, "5.1.1", "550 5.1.1 x", False),
    (b"550 5.1.1\r\n", 550, "5.1.1", "550 5.1.1", False),
    (b"550   5.1.1 x\r\n", 550, "5.1.1", "550   5.1.1 x", False),
    (b"450 4.07.123 x\r\n", 450, "4.07.123", "450 4.07.123 x", False),
    (b"550 4.7.1 x\r\n", 550, "5.0.0", "550 4.7.1 x", False),
    (b"550 5.1 x\r\n", 550, "5.0.0", "550 5.1 x", False),
    (b"550 5.1.1: x\r\n", 550, "5.0.0", "550 5.1.1: x", False),
    (b"550 5.1.1234 x\r\n", 550, "5.0.0", "550 5.1.1234 x", False),
    (b"550 x5.1.1 x\r\n", 550, "5.0.0", "550 x5.1.1 x", False),
    (b"550 X5.1.1 X\r\n", 550, "5.0.0", "550 X5.1.1 X", False),
    # Codes that mean neither success nor failure.
    (b"354 go\r\n", 354, "5.5.0", "354 go", False),
    (b"000 x\r\n", 0, "5.5.0", "000 x", False),
    (b"199 1.1.1 x\r\n", 199, "5.5.0", "199 1.1.1 x", False),
    (b"600 x\r\n", 600, "5.5.0", "600 x", False),
    (b"999 x\r\n", 999, "5.5.0", "999 x", False),
    # What is no reply is kept in the text, and reading goes on.
    (b"blah\r\n550 5.7.1 no\r\n", 550, "5.7.1", "blah\n550 5.7.1 no", True),
    (b"25 x\r\n2500 y\r\n250 ok\r\n", 250, "2.0.0", "25 x\n2500 y\n250 ok", True),
    (b"250x\r\n250 ok\r\n", 250, "2.0.0", "250x\n250 ok", True),
    # Empty lines before a reply leave no trace in it, those within do.
    (b"\r\n250 ok\r\n", 250, "2.0.0", "250 ok", True),
    (b"\n\r\r\n\0x\n250 ok\r\n", 250, "2.0.0", "250 ok", True),
    (b" \r\n250 ok\r\n", 250, "2.0.0", " \n250 ok", True),
    (b"250-a\r\n\r\n250 ok\r\n", 250, "2.0.0", "250-a\n\n250 ok", True),
    *(
        (line + b"\r\n250 ok\r\n", 250, "2.0.0", line.decode() + "\n250 ok", True)
        for line in (
            b" 250 x",
            b"+25 x",
            b"-25 x",
            b"2_5 x",
            b"25a x",
            b"25X x",
            b"2 0 x",
            b"250,x",
            b"220\\x",
        )
    ),
    (b"250\tx\r\n250 ok\r\n", 250, "2.0.0", "250?x\n250 ok", True),
    (b"220-a\r\nmore\r\n220 b\r\n", 220, "2.0.0", "220-a\nmore\n220 b", True),
    # Digits of other scripts are none.
    ("\u0662\u0665\u0660 x\r\n250 ok\r\n".encode(), 250, "2.0.0", None, True),
    # A NUL ends the line, other controls show.
    (b"550 a\0b\r\n", 550, "5.0.0", "550 a", False),
    (b"550\0 a\r\n", 550, "5.0.0", "550", False),
    (b"550 \x1b[2J\x7f\tx\r\n", 550, "5.0.0", "550 ?[2J??x", False),
    ("550 \u00fc\r\n".encode(), 550, "5.0.0", "550 \u00fc", False),
    (b"550 \xfc\xed\xa0\x80\r\n", 550, "5.0.0", "550 ????", False),
]


@pytest.mark.parametrize(("data", "code", "status", "text", "garbled"), REPLIES)
def test_reply(
    data: bytes, code: int, status: str, text: str | None, garbled: bool
) -> None:
    found = seen(data)
    assert (found[0], found[1], found[3]) == (code, status, garbled)
    if text is not None:
        assert found[2] == text


@pytest.mark.parametrize(("utf8", "text"), [(True, "\u00e9?"), (False, "???")])
def test_bytes_of_utf8(utf8: bool, text: str) -> None:
    assert reply_text("\u00e9".encode() + b"\xff", utf8) == text


def test_signs_without_a_meaning_are_shown() -> None:
    """Private use, and what stands beside the code points that are no characters."""
    for sign in ("\ud7ff", "\ue000"):
        assert reply_text(sign.encode(), True) == sign


def test_the_server_said_it() -> None:
    assert read(b"250 ok\r\n").remote


def test_reply_after_reply() -> None:
    reader = ReplyReader()
    assert not reader.garbage
    reader.feed(b"junk\r\n250 a\r\n550-b\r\n550 c\r\n35")
    assert [reader.next(), reader.next(), reader.next()] == [
        read(b"junk\r\n250 a\r\n"),
        read(b"550-b\r\n550 c\r\n"),
        None,
    ]
    assert reader.pending
    assert reader.garbage, "once is enough"
    reader.feed(b"4 go\r\n")
    assert reader.next() == read(b"354 go\r\n")
    assert not reader.pending


def test_what_was_read_before_tls_is_forgotten() -> None:
    reader = ReplyReader()
    reader.feed(b"220-half of a reply\r\n220 go\r\n550 injected\r\n250-more\r\n25")
    first = reader.next()
    assert first is not None
    assert first.code == 220
    reader.forget()
    assert not reader.pending
    assert reader.next() is None
    reader.feed(b"250 real\r\n")
    assert reader.next() == read(b"250 real\r\n")


def test_line_that_was_being_skipped_is_forgotten_too() -> None:
    reader = ReplyReader(limit=10)
    for _ in range(2):
        reader.feed(b"x" * 30)
        assert reader.next() is None
    reader.forget()
    reader.feed(b"250 real\r\n")
    assert reader.next() == read(b"250 real\r\n")


# --- limits ---------------------------------------------------------------------------


def test_long_line_is_cut() -> None:
    notes: list[str] = []
    reply = read(b"550 " + b"x" * 3000 + b"\r\n", note=notes.append)
    assert reply.text == "550 " + "x" * 2044
    assert notes == ["response longer than 2048: 550 " + "x" * 26 + "..."]


@pytest.mark.parametrize(
    ("length", "end", "noted"),
    [
        (2047, b"\n", False),
        (2047, b"\r\n", False),
        (2046, b"\r\r\n", False),
        (2047, b"\r\r\n", True),
        (2048, b"\n", True),
        (2048, b"\r\n", True),
    ],
)
def test_limit_is_that_of_smtp_get(length: int, end: bytes, noted: bool) -> None:
    notes: list[str] = []
    reply = read(b"550 ".ljust(length, b"x") + end, note=notes.append)
    assert len(reply.text) == 2048 if noted else length
    assert bool(notes) is noted


def test_long_line_is_cut_and_the_next_one_read() -> None:
    reader = ReplyReader(limit=10)
    reader.feed(b"550-" + b"x" * 100)
    assert reader.next() is None
    reader.feed(b"x" * 100 + b"\r\n550 end\r\n")
    reply = reader.next()
    assert reply is not None
    # It fills the limit of a reply as well.
    assert (reply.text, reply.code) == ("550-xxxxxx", 550)


def test_nobody_waits_for_the_end_of_a_line_that_is_too_long() -> None:
    reader = ReplyReader(limit=10)
    reader.feed(b"250 " + b"x" * 7)
    reply = reader.next()
    assert reply is not None
    assert reply.text == "250 xxxxxx"
    # What else comes of it is of no use, and nothing that somebody should look at.
    reader.feed(b"xx")
    assert reader.next() is None
    assert not reader.pending


def test_limit_of_a_reply_counts_its_newlines() -> None:
    for size, kept in ((8, 3), (9, 2)):
        first, second = b"550-".ljust(10, b"x"), b"550-".ljust(size, b"x")
        reply = read(b"%b\r\n%b\r\n550 x\r\n" % (first, second), limit=20)
        assert reply.text.count("\n") == kept - 1


def test_many_lines_are_read_and_not_kept() -> None:
    notes: list[str] = []
    lines = b"".join(b"550-5.7.1 line %03d\r\n" % i for i in range(300))
    reply = read(lines + b"550 5.9.9 end\r\n", note=notes.append)
    assert reply.status == "5.9.9"
    assert "5.9.9" not in reply.text
    assert 2048 <= len(reply.text) < 2048 + 20
    assert notes == [
        "multi-line response longer than 2048 550-5.7.1 line 000?550-5.7.1 l..."
    ]


def test_endless_reply_is_seen_as_such() -> None:
    reader = ReplyReader()
    chunk = b"220-AAAA\r\n" * 1000
    for _ in range(replies.REPLY_LIMIT // len(chunk) + 1):
        assert not reader.endless
        reader.feed(chunk)
        assert reader.next() is None
    assert reader.endless


def test_endless_line_is_seen_as_such() -> None:
    reader = ReplyReader()
    for _ in range(20):
        reader.feed(b"x" * 65536)
        assert reader.next() is None
    assert reader.endless


def test_a_mebibyte_is_not_endless_but_more_is() -> None:
    reader = ReplyReader()
    reader.feed((b"220-".ljust(14, b"x") + b"\r\n") * 65536)
    assert reader.next() is None
    assert not reader.endless
    reader.feed(b"\n")
    assert reader.next() is None
    assert reader.endless


def test_a_new_reply_may_be_long_again() -> None:
    reader = ReplyReader()
    for _ in range(3):
        reader.feed(b"220-AAAA\r\n" * 60000 + b"220 ok\r\n")
        assert reader.next() is not None
        assert not reader.endless


# --- smtp_reply_filter and transcript -------------------------------------------------


def test_filter_sees_each_line_and_replaces_it() -> None:
    asked: list[str] = []
    heard: list[tuple[str, str]] = []
    notes: list[str] = []

    def change(line: str) -> str | None:
        asked.append(line)
        return "450 4.2.0 later" if line.startswith("550 ") else None

    reply = read(
        b"550-a\x01\r\n550 b\r\n",
        line_filter=change,
        heard=lambda way, line: heard.append((way, line)),
        note=notes.append,
    )
    assert asked == ["550-a?", "550 b"]
    assert (reply.code, reply.status) == (450, "4.2.0")
    assert reply.text == "550-a?\n450 4.2.0 later"
    assert notes == ['replacing server reply "550 b" with "450 4.2.0 later"']
    assert heard == [
        ("In: ", "550-a?"),
        ("In: ", "550 b"),
        ("Replaced-by:", "450 4.2.0 later"),
    ]


def test_filter_may_make_nonsense_of_a_line() -> None:
    reader = ReplyReader(line_filter=lambda line: "x" if line == "250 ok" else None)
    reader.feed(b"250 ok\r\n")
    assert reader.next() is None
    reader.feed(b"251 ok\r\n")
    reply = reader.next()
    assert reply is not None
    assert (reply.code, reply.garbled) == (251, True)


def test_filter_may_drop_a_line() -> None:
    def drop(line: str) -> str | None:
        return "" if "SIZE" in line else None

    reply = read(b"250-SIZE 9\r\n250-x\r\n250 ok\r\n", line_filter=drop)
    assert (reply.code, reply.text, reply.garbled) == (250, "250-x\n250 ok", True)


# --- properties -----------------------------------------------------------------------

LINES = st.one_of(
    st.sampled_from(
        [
            b"250 ok",
            b"250-more",
            b"550 5.1.1 no",
            b"junk",
            b"",
            b"25",
            b"\r",
            b"250 a\rb",
            b"x" * 39,
            b"x" * 40,
            b"x" * 38 + b"\r\r\r\rx",
            b"250 " + b"\xff" * 50,
            b"250 a\0b",
        ]
    ),
    st.binary(max_size=60),
)
STREAMS = st.lists(LINES, max_size=12).flatmap(
    lambda lines: st.lists(
        st.sampled_from([b"\n", b"\r\n", b"\r\r\n", b""]),
        min_size=len(lines),
        max_size=len(lines),
    ).map(lambda ends: b"".join(a + b for a, b in zip(lines, ends, strict=True)))
)


def play(chunks: list[bytes]) -> tuple[list[Reply], list[str]]:
    """All replies in a stream, and what was noted."""
    notes: list[str] = []
    reader = ReplyReader(limit=40, note=notes.append)
    found = []
    for chunk in chunks:
        reader.feed(chunk)
        while (reply := reader.next()) is not None:
            found.append(reply)
    return found, notes


@given(STREAMS, st.lists(st.integers(0, 700), max_size=8))
@example(b"a" * 35 + b"\r" * 10 + b"b\n250 ok\r\n", [42])
@example(b"x" * 40 + b"\r\n250 ok\r\n", [41])
def test_result_does_not_depend_on_how_it_comes(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[a:b] for a, b in pairwise(places)]
    assert play(chunks) == play([data])
    assert play([data[i : i + 1] for i in range(len(data))]) == play([data])


@given(STREAMS)
def test_reply_is_well_formed_whatever_comes(data: bytes) -> None:
    found, _ = play([data])
    for reply in found:
        last = reply.text.rpartition("\n")[2]
        assert 0 <= reply.code <= 999
        if len(reply.text.encode()) < 40:
            assert re.match(r"[0-9]{3}( |$)", last)
            assert int(last[:3]) == reply.code
        klass = str(reply.code)[0] if 200 <= reply.code <= 599 else "5"
        assert reply.status[0] == (klass if klass in "245" else "5")
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\ud800-\udfff]", reply.text)
        # All lines but the one that goes over the limit, which is itself cut.
        assert len(reply.text.encode()) <= 40 + 40 * 3 + 1
