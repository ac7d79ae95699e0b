"""Addresses on the wire."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.smtp.address import (
    quote_local,
    to_bytes,
    unquote_local,
    unsendable,
    uxtext,
    xtext,
)

QUOTED = [
    # internal form, as it goes out
    ("u@d", "u@d"),
    ("u.v+w=x@d", "u.v+w=x@d"),
    ("X!@d", "X!@d"),
    ("X Y@d", '"X Y"@d'),
    ("u", "u"),
    ("", ""),
    ("@d", '""@d'),
    ("@", '""@'),
    ("a b@d", '"a b"@d'),
    ("a@b@d", '"a@b"@d'),
    (".a@d", '".a"@d'),
    ("a.@d", '"a."@d'),
    ("a..b@d", '"a..b"@d'),
    ('a"b@d', r'"a\"b"@d'),
    (r"a\b@d", r'"a\\b"@d'),
    ("a;b@d", '"a;b"@d'),
    ("a,b@z@d", '"a,b@z"@d'),
    ("<x>@d", '"<x>"@d'),
    ("Foo <a@b>", '"Foo <a"@b>'),
    ("a(c)@d", '"a(c)"@d'),
    ("group:a@b;", '"group:a"@b;'),
    ("a\x01b@d", '"a\x01b"@d'),
    ("a\x7fb@d", '"a\x7fb"@d'),
    ("a\tb@d", '"a\tb"@d'),
    ("a\rb@d", '"a\\\rb"@d'),
    ("a\nb@d", '"a\\\nb"@d'),
    ("\u00fc@d", "\u00fc@d"),
    ("\u202e@d", "\u202e@d"),
    ("\udcff@d", "\udcff@d"),
    ("-oQ@d", "-oQ@d"),
    ("--config=/x@d", "--config=/x@d"),
    ("$(id)@d", '"$(id)"@d'),
    ("%s%n@d", "%s%n@d"),
]


@pytest.mark.parametrize(("inner", "outer"), QUOTED)
def test_quoting(inner: str, outer: str) -> None:
    assert quote_local(inner) == outer
    assert unquote_local(outer) == inner


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ('"a b"@d', "a b@d"),
        ('"a@b"@d', "a@b@d"),
        (r'"a\"b"@d', 'a"b@d'),
        ('"abc', "abc"),
        ('"abc\\', "abc\\"),
        ("a b@d", "a b@d"),
        ('""@d', "@d"),
        # Only the local part is quoted.
        (r'"a b"@d"\x', r'a b@d"\x'),
    ],
)
def test_unquoting(outer: str, inner: str) -> None:
    assert unquote_local(outer) == inner


@pytest.mark.parametrize("char", ["\0", "\r", "\n"])
def test_addresses_that_would_break_the_protocol(char: str) -> None:
    assert unsendable(f"a{char}b@d")


@pytest.mark.parametrize("address", ["a b@d", "a\x01b@d", "\x7f@d", "\u0085@d", "<>@d"])
def test_addresses_that_only_look_bad(address: str) -> None:
    assert not unsendable(address)


@given(st.text(max_size=40))
def test_quoted_form_is_the_same_address(local: str) -> None:
    for address in (f"{local}@d.test", local):
        assert unquote_local(quote_local(address)) == address or "@" in address


LOCALS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.text(st.sampled_from('ab."\\<>()[],;:@ \t\x01\r\n\u00fc'), max_size=12),
    st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


@given(LOCALS)
def test_quoted_form_says_the_same_and_cannot_be_misread(local: str) -> None:
    outer = quote_local(f"{local}@d.test")
    assert unquote_local(outer) == f"{local}@d.test"
    # Outside a quoted string nothing has a meaning of its own.
    bare = re.sub(r'\A"(?:[^"\\]|\\.)*"', "q", outer, flags=re.DOTALL)
    assert re.fullmatch(r"[^\x00-\x20\x7f<>()\[\]\\,;:\"@]+@d\.test", bare)


@given(st.binary(max_size=50))
def test_bytes_go_out_as_they_came(raw: bytes) -> None:
    assert to_bytes(raw.decode("utf-8", "surrogateescape")) == raw


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("a@d", "a@d"),
        ("a b@d", "a+20b@d"),
        ("a+b=c", "a+2Bb+3Dc"),
        ("\x7f\r\n\0", "+7F+0D+0A+00"),
        ("\u00fc", "+C3+BC"),
        ("\udcff", "+FF"),
        ("~!X", "~!X"),
    ],
)
def test_xtext(text: str, encoded: str) -> None:
    assert xtext(text) == encoded


@given(st.binary(max_size=50))
def test_xtext_is_printable_and_can_be_undone(raw: bytes) -> None:
    encoded = xtext(raw.decode("utf-8", "surrogateescape"))
    assert re.fullmatch(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", encoded)
    parts = re.findall(r"\+..|.", encoded)
    undone = b"".join(
        bytes.fromhex(p[1:]) if p[0] == "+" else p.encode() for p in parts
    )
    assert undone == raw


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("a@d", "a@d"),
        ("\u00fc b", "\\x{FC}\\x{20}b"),
        ("a+=\\", "a\\x{2B}\\x{3D}\\x{5C}"),
        ("\x7f\r\n", "\\x{7F}\\x{0D}\\x{0A}"),
        ("X!~\x80\ud7ff\U0001f600", "X!~\\x{80}\\x{D7FF}\\x{1F600}"),
    ],
)
def test_uxtext(text: str, encoded: str) -> None:
    assert uxtext(text) == encoded


@pytest.mark.parametrize("point", [0xD800, 0xDCFF, 0xDFFF])
def test_what_is_no_utf8_has_no_uxtext(point: int) -> None:
    assert uxtext(f"a{chr(point)}") is None
