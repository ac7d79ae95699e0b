"""What EHLO and LHLO replies offer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.smtp.capabilities import Capabilities, discarded, parse

NONE: frozenset[str] = frozenset()
BASE = Capabilities("mx.test", esmtp=True)

KEYWORDS: list[Any] = [
    # line after "250-mx.test hello", what is different then
    ("250 PIPELINING", {"pipelining": True}),
    ("250 pipeLining x y", {"pipelining": True}),
    ("250 8BITMIME", {"eightbitmime": True}),
    ("250 STARTTLS", {"starttls": True}),
    ("250 DSN", {"dsn": True}),
    ("250 SMTPUTF8", {"smtputf8": True}),
    ("250 SIZE", {"size": True}),
    ("250 SIZE 1000", {"size": True, "size_limit": 1000}),
    ("250 SIZE=1000", {"size": True, "size_limit": 1000}),
    ("250 SIZE 0", {"size": True}),
    ("250 SIZE 0001000", {"size": True, "size_limit": 1000}),
    ("250 SIZE 9223372036854775807", {"size": True, "size_limit": (1 << 63) - 1}),
    ("250 SIZE 9223372036854775808", {"size": True}),
    ("250 SIZE " + "9" * 5000, {"size": True}),
    ("250 SIZE 1000 2000", {"size": True, "size_limit": 1000}),
    ("250 SIZE ten", {"size": True, "bad_sizes": ("ten",)}),
    ("250 SIZE -5", {"size": True, "bad_sizes": ("-5",)}),
    ("250 SIZE \u0661", {"size": True, "bad_sizes": ("\u0661",)}),
    ("250 AUTH PLAIN LOGIN", {"auth": "PLAIN LOGIN"}),
    ("250 AUTH=PLAIN LOGIN", {"auth": "PLAIN LOGIN"}),
    ("250 AUTH", {"auth": ""}),
    ("250 AUTH  XOAUTH2 \t", {"auth": "XOAUTH2"}),
    (
        "250 XFORWARD NAME addr",
        {"xforward": frozenset(("NAME", "ADDR"))},
    ),
    ("250 ENHANCEDSTATUSCODES", {}),
    ("250 XPIPELINING", {}),
    ("250 PIPELINING-X", {}),
    ("250", {}),
    ("250-", {}),
    ("250=DSN", {}),
    ("junk DSN", {"dsn": True}),
    ("XX DSN", {"dsn": True}),
]


@pytest.mark.parametrize(("line", "different"), KEYWORDS)
def test_keyword(line: str, different: dict[str, Any]) -> None:
    found = parse(f"250-mx.test hello\n{line}", NONE)
    assert found == BASE._replace(**different)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("250 MX.Test", "MX.Test"),
        ("250-MX.Test hello\n250 DSN", "MX.Test"),
        ("250", ""),
        ("250-\n250 mx.test", "mx.test"),
        ("", ""),
    ],
)
def test_name_of_the_server(text: str, name: str) -> None:
    assert parse(text, NONE).helo_name == name


def test_first_line_is_no_keyword() -> None:
    assert not parse("250 PIPELINING", NONE).pipelining


def test_what_is_not_offered_is_not_there() -> None:
    assert not any(Capabilities())
    assert not any(parse("250-mx\n250 ETRN", NONE)._replace(helo_name="", esmtp=False))


@pytest.mark.parametrize(
    ("lines", "auth"),
    [
        (("AUTH CRAM-MD5 LOGIN", "AUTH=LOGIN"), "CRAM-MD5 LOGIN LOGIN"),
        (("AUTH=LOGIN", "auth\tPLAIN"), "LOGIN PLAIN"),
        (("AUTH PLAIN", "AUTH plain"), "plain"),
        # One that is empty takes nothing away.
        (("AUTH PLAIN LOGIN", "AUTH"), "PLAIN LOGIN"),
        (("AUTH=", "AUTH PLAIN"), "PLAIN"),
        (("AUTH", "AUTH="), ""),
        (("AUTH A", "AUTH B", "AUTH C"), "A B C"),
    ],
)
def test_auth_lines_are_joined(lines: tuple[str, ...], auth: str) -> None:
    text = "\n".join(("250-mx", *(f"250-{x}" for x in lines), "250 DSN"))
    assert parse(text, NONE).auth == auth
    assert parse(text, frozenset(("auth",))).auth is None


def test_xforward_lines_are_joined() -> None:
    found = parse("250-mx\n250-XFORWARD NAME ADDR\n250 xforward=proto\thelo", NONE)
    assert found.xforward == {"NAME", "ADDR", "PROTO", "HELO"}


@pytest.mark.parametrize(
    ("words", "limit"),
    [(("100", "200"), 200), (("100", "x"), 100), (("100", ""), 100), (("100", "0"), 0)],
)
def test_the_last_size_counts(words: tuple[str, ...], limit: int) -> None:
    text = "\n".join(("250-mx", *(f"250-SIZE {x}" for x in words), "250 DSN"))
    assert parse(text, NONE).size_limit == limit


def test_several_wrong_sizes() -> None:
    found = parse("250-mx\n250-SIZE a\n250 SIZE b", NONE)
    assert found.bad_sizes == ("a", "b")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", NONE),
        ("pipelining", {"pipelining"}),
        ("PIPELINING, dsn\tSize", {"pipelining", "dsn", "size"}),
        ("unknown,starttls,dsn", {"starttls", "dsn"}),
        # All that Postfix knows.
        (
            "8bitmime auth chunking dsn enhancedstatuscodes etrn pipelining"
            " silent-discard size smtputf8 starttls verp vrfy xclient xforward",
            {
                "8bitmime", "auth", "chunking", "dsn", "enhancedstatuscodes", "etrn",
                "pipelining", "silent-discard", "size", "smtputf8", "starttls", "verp",
                "vrfy", "xclient", "xforward",
            },
        ),
        ("silent-discard, auth", {"silent-discard", "auth"}),
    ],
)  # fmt: skip
def test_words_of_smtp_discard_ehlo_keywords(words: str, found: set[str]) -> None:
    assert discarded(words) == found


@pytest.mark.parametrize(
    "keyword",
    [
        "8BITMIME",
        "AUTH PLAIN",
        "DSN",
        "PIPELINING",
        "SIZE 5",
        "SMTPUTF8",
        "STARTTLS",
        "XFORWARD NAME",
    ],
)
def test_discarded_keyword(keyword: str) -> None:
    word = frozenset((keyword.split()[0].lower(),))
    assert parse(f"250-mx.test\n250 {keyword}", word) == BASE


@given(st.text(max_size=100), st.booleans())
def test_anything_can_be_read(text: str, prefixed: bool) -> None:
    found = parse(f"250-mx\n250-{text}\n250 DSN" if prefixed else text, NONE)
    assert found.esmtp
    if prefixed:
        assert found.dsn
