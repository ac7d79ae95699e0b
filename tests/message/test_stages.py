"""Header and body checks and generic maps, beside what a real Postfix 3.7.11 sent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.message.checks import Checks, Find, Tables
from postfix_trouble.message.generic import quote, rewrite_header
from postfix_trouble.message.lines import outgoing
from postfix_trouble.message.mime import Place
from postfix_trouble.message.stages import Stages, transformed

DATA = Path(__file__).parent / "data"
CHECKED = sorted((DATA / "checked").glob("*.eml"))
BEFORE_AFTER = [
    block.partition("\n=>\n")
    for block in (DATA / "generic.txt").read_text().rstrip("\n").split("\n\n")[1:]
]

GENERIC = {
    "a@b.test": "aa@out.test",
    "q q@d3.test": "quoted me@out.test",
    "plain@d4.test": "p@[127.0.0.1]",
    "u@d5.test": "p.@out.test",
}


def rewrite(address: str) -> str:
    if address.lower().endswith("@dom.test"):
        return "all@out.test"
    return GENERIC.get(address.lower(), address)


def table(*rules: tuple[str, str]) -> Find:
    """Pairs of pattern and action, as a regexp table has them."""

    def find(key: str) -> str | None:
        for pattern, action in rules:
            found = re.search(pattern, key, re.IGNORECASE | re.DOTALL)
            if found:
                return action.replace("$1", found[1]) if "$1" in action else action
        return None

    return find


TABLES = Tables(
    header=table(
        ("^X-A", "PREPEND X-P: 1"),
        ("^X-B", "IGNORE"),
        ("^Subject: (.*)", "REPLACE X-Sub: <$1>"),
        ("^X-W", "WARN look"),
    ),
    mime_header=table(
        ("^Content-Type: text", "REPLACE Content-Type: text/x"),
        ("^Content-Transfer-Encoding", "PREPEND X-Enc: yes"),
        ("^X-", "PREPEND X-Part: 1"),
    ),
    nested_header=table(("^Subject", "STRIP"), ("^X-(.)", "PREPEND X-N: $1")),
    body=table(
        ("^drop", "IGNORE"),
        ("=C3", "PREPEND seen"),
        ("^--b", "PREPEND .bound"),
        ("^$", "IGNORE"),
        ("^x{40}", "PREPEND many"),
        ("end$", "REPLACE ."),
    ),
)


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: path.stem)
@pytest.mark.parametrize("size", [1, 100, 65536])
def test_all_stages_as_by_postfix(path: Path, size: int) -> None:
    text = path.read_bytes()
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    stages = Stages(TABLES, rewrite, downgrade=True)
    sent = b"".join(outgoing(transformed(chunks, stages)))
    assert sent == path.with_suffix(".sent").read_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(before, after or before, id=before.partition("\n")[0])
        for before, _, after in BEFORE_AFTER
    ],
)
def test_addresses_rewritten_as_by_postfix(before: str, after: str) -> None:
    text = before.encode() + b"\n\nTo: a@b.test\n"
    sent = b"".join(transformed([text], Stages(rewrite=rewrite)))
    assert sent.decode() == after + "\n\nTo: a@b.test\n"


def test_parts_are_looked_at_only_where_needed() -> None:
    text = b"Content-Type: message/rfc822\n\nX : 1\n"
    assert b"".join(transformed([text], Stages(rewrite=rewrite))) == text
    checked = b"".join(transformed([text], Stages(Tables(body=lambda key: None))))
    assert checked == text.replace(b" :", b":")


def test_addresses_of_parts_are_not_rewritten() -> None:
    text = b"Content-Type: message/rfc822\n\nTo: a@b.test\n"
    stages = Stages(rewrite=rewrite, downgrade=True)
    assert b"".join(transformed([text], stages)) == text


HEADER = st.text(alphabet=' \t\n",:;<>()[]\\@.|!%aä', max_size=60)


@given(HEADER)
def test_no_header_is_too_odd_to_be_rewritten(text: str) -> None:
    header = b"To:" + text.encode()
    seen: list[str] = []

    def look(address: str) -> str:
        seen.append(address)
        return address

    assert rewrite_header(header, Place.MESSAGE, b"to", look) == header
    rewritten = rewrite_header(header, Place.MESSAGE, b"to", lambda _: "x@y")
    assert rewritten.count(b"x@y") >= len(seen) - seen.count("x@y")
    assert (rewritten == header) is (not seen or set(seen) == {"x@y"})


@pytest.mark.parametrize(
    ("address", "quoted"),
    [
        ("a@b", "a@b"),
        ("a b@c", '"a b"@c'),
        ("a@b@c", '"a@b"@c'),
        ('a"\\b@c', '"a\\"\\\\b"@c'),
        ("a..b@c", '"a..b"@c'),
        ("ä@c", "ä@c"),
        ("a b", '"a b"'),
        ("@r:a b@c", '@r:"a b"@c'),
    ],
)
def test_quoting(address: str, quoted: str) -> None:
    assert quote(address.encode()) == quoted.encode()


def check_header(answer: str, header: bytes = b"X: 1\n y") -> tuple[object, list[str]]:
    notes: list[str] = []
    checks = Checks(Tables(lambda key: answer), note=notes.append)
    return checks.header(header, Place.MESSAGE, b"x"), notes


@pytest.mark.parametrize(
    ("answer", "before", "after", "notes"),
    [
        ("DUNNO", b"", b"X: 1\n y", []),
        ("OK whatever", b"", b"X: 1\n y", []),
        ("IGNORE because", b"", None, []),
        ("ignore", b"", None, []),
        ("STRIP it", b"", None, ["strip: header X: 1? y: it"]),
        ("INFO", b"", b"X: 1\n y", ["info: header X: 1? y"]),
        ("WARN  look", b"", b"X: 1\n y", ["warning: header X: 1? y: look"]),
        ("REPLACE Y: ä", b"", "Y: ä".encode(), ["replace: header X: 1? y: Y: ä"]),
        ("PREPEND Y: 2", b"Y: 2\n", b"X: 1\n y", ["prepend: header X: 1? y: Y: 2"]),
        (
            "REPLACE",
            b"",
            b"X: 1\n y",
            ["warning: REPLACE action without text in smtp_header_checks map"],
        ),
        (
            "PREPEND no header",
            b"",
            b"X: 1\n y",
            [
                'warning: bad PREPEND header text "no header" in smtp_header_checks'
                ' map -- need "headername: headervalue"'
            ],
        ),
        (
            "REJECT no",
            b"",
            b"X: 1\n y",
            ["warning: unsupported command in smtp_header_checks map: REJECT no"],
        ),
    ],
)
def test_actions(
    answer: str, before: bytes, after: bytes | None, notes: list[str]
) -> None:
    assert check_header(answer) == ((before, after), notes)


def test_log_records_are_short_and_on_one_line() -> None:
    _, notes = check_header("WARN", b"X: \n" + b"y" * 500)
    assert notes == ["warning: header X: ?" + "y" * 196]


def test_names_of_lmtp_parameters() -> None:
    notes: list[str] = []
    checks = Checks(Tables(body=lambda key: "HOLD"), protocol="lmtp", note=notes.append)
    assert checks.body(b"x", False) == b"x"
    assert notes == ["warning: unsupported command in lmtp_body_checks map: HOLD"]


def test_tables_see_no_empty_line_and_nothing_behind_a_nul() -> None:
    seen: list[str] = []
    checks = Checks(Tables(body=lambda key: seen.append(key)))
    for line in (b"", b"\0x", b"a\0b", b"\xff\xc3\xa4"):
        assert checks.body(line, True) == line + b"\n"
    assert seen == ["a", "\udcffä"]


def test_a_table_that_fails_stops_everything() -> None:
    def fail(key: str) -> str | None:
        raise LookupError(key)

    with pytest.raises(LookupError):
        list(transformed([b"A: 1\n"], Stages(Tables(fail))))


@pytest.mark.parametrize(
    ("stages", "wanted"),
    [
        (Stages(), False),
        (Stages(nesting_limit=5, protocol="lmtp"), False),
        (Stages(downgrade=True), True),
        (Stages(rewrite=rewrite), True),
        (Stages(Tables(body=lambda key: None)), True),
    ],
)
def test_nothing_to_do_is_false(stages: Stages, wanted: bool) -> None:
    assert bool(stages) is wanted
