"""Rules and patterns alone; what they find is held against postmap in tests/edge."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.config.lines import logical_lines
from postfix_trouble.tables.expressions import perl, posix
from postfix_trouble.tables.patterns import PatternTable, RuleError, parse
from postfix_trouble.tables.text import SyntaxProblem, inline_table, text_table

COMPILES = {"regexp": posix, "pcre": perl, "cidr": None}


def rules(kind: str, text: str) -> PatternTable:
    return parse(logical_lines(text), "map t", kind, COMPILES[kind])


@pytest.mark.parametrize(
    ("expression", "flags", "text", "matches"),
    [
        # A second + repeats the first: it does not make it possessive.
        ("^a++a$", "", "aaa", True),
        ("^a+?$", "", "", True),
        ("a$", "", "a\n", False),
        (r"^[\]$", "", "\\", True),
        (r"^\d$", "", "d", False),
        (r"^\d$", "", "5", False),
        (r"(a)\1", "", "AA", True),
        ("a.b", "", "a\nb", True),
        ("A", "i", "a", False),
        ("A", "ii", "a", True),
        ("^b$", "m", "a\nb\nc", True),
        ("a+", "x", "a+", True),
        ("[[.a.]][[=b=]]", "", "ab", True),
        # In the C locale, whatever ours: a byte is a letter, and not of either case.
        ("^.$", "", "é", False),
        ("^..$", "", "é", True),
        ("É", "", "é", False),
        ("^[^a]$", "", "\udcff", True),
        # A NUL ends both.
        ("a$", "", "a\0b", True),
        ("b\0(", "", "b", True),
    ],
)
def test_posix(expression: str, flags: str, text: str, matches: bool) -> None:
    found = rules("regexp", f"/{expression}/{flags} yes").find(text)
    assert (found == "yes") is matches


def test_the_longest_alternative_is_the_one_that_is_caught() -> None:
    assert rules("regexp", "/(a|ab)/ $1").find("ab") == "ab"
    # From left to right.
    assert rules("pcre", "/(a|ab)/ $1").find("ab") == "a"


def test_what_a_group_did_not_catch_is_empty() -> None:
    for kind in ("regexp", "pcre"):
        assert rules(kind, "/^(a)|(b)|(c)$/ <$1$2$3>").find("b") == "<b>"


def test_a_second_pattern_must_not_match() -> None:
    table = rules("regexp", "/(a+)/!/b/i <$1>\n/c/! !/d/ both\n/e/ !/f/ x")
    found = [table.find(key) for key in ("aa", "aab", "c", "cd", "ef")]
    assert found == ["<aa>", None, None, "both", "!/f/ x"]


@pytest.mark.parametrize(
    ("expression", "flags", "text", "matches"),
    [
        ("^a++a$", "", "aaa", False),
        (r"\d(?:.*?z)?+\d", "", "550", True),
        ("a$", "", "a\n", True),
        ("a$", "E", "a\n", False),
        ("b", "A", "ab", False),
        ("A", "", "a", True),
        ("A", "i", "a", False),
        ("A", "ii", "a", True),
        ("a.b", "s", "a\nb", False),
        ("^b", "m", "a\nb", True),
        ("a b # c", "x", "ab", True),
        ("^(a+)a", "U", "aaa", True),
        ("a", "X", "a", True),
        (r"\Qa.\E", "", "a.", True),
        ("(?<n>a)", "", "a", True),
        ("^.$", "", "é", False),
        ("(*UTF)^.$", "", "é", True),
        ("^(?:(?:a+)+)+$", "", "a" * 60 + "b", False),
        ("a$", "", "a\0b", True),
    ],
)
def test_perl(expression: str, flags: str, text: str, matches: bool) -> None:
    found = rules("pcre", f"/{expression}/{flags} yes").find(text)
    assert (found == "yes") is matches


def test_one_table_is_searched_by_several_threads() -> None:
    table = rules("regexp", "/^(.*)(a|b)*(x+)$/ <$3>")
    other = rules("pcre", "/^(.*?)(x+)$/ <$2>")
    keys = ["ab" * number + "x" * number for number in range(1, 50)]

    def search(_number: int) -> list[str | None]:
        return [t.find(key) for t in (table, other) for key in keys]

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(search, range(40)))
    assert len({tuple(found) for found in results}) == 1
    assert results[0][-1] == "<" + "x" * 49 + ">"


@pytest.mark.parametrize(
    ("kind", "text", "warning"),
    [
        ("regexp", "nonsense\n", "ignoring unrecognized request"),
        ("regexp", "endif\n", "ignoring ENDIF without matching IF"),
        ("regexp", "if /a/\n", "IF has no matching ENDIF"),
        ("regexp", "/a\n", 'no closing regexp delimiter "/": ignoring this rule'),
        ("regexp", "!\n", "no regexp: skipping this rule"),
        ("regexp", "/a/q x\n", 'unknown regexp option "q": skipping this rule'),
        ("pcre", "/a/ $1\n", 'out of range replacement index "1": skipping'),
        ("pcre", "/(a)/ $0\n", 'out of range replacement index "0": skipping'),
        ("regexp", "/a/!/(b)/ $1\n", 'out of range replacement index "1": skipping'),
        ("regexp", "/(a)|b\\1/ x\n", "Invalid back reference"),
        ("regexp", "/[a-d-d]/ x\n", "Invalid range end"),
        ("regexp", "/a/!/(/ x\n", "Unmatched ( or \\("),
        ("pcre", "/(/ x\n", "error in regex at offset 1: missing closing parenthesis"),
        ("pcre", "/(a)/ $x\n", "bad replacement syntax: skipping this rule"),
        (
            "pcre",
            "!/(a)/ $1\n",
            "$number found in negative match replacement text: skipping this rule",
        ),
        ("cidr", "10.0.0.0/8\n", "no lookup result: skipping this rule"),
        ("cidr", "endif x\n", "garbage after ENDIF: skipping this rule"),
        ("cidr", "x y\n", 'bad net/mask pattern: "x": skipping this rule'),
        (
            "cidr",
            "10.0.0.0/255.0.0.0 x\n",
            'bad address pattern: "10.0.0.0/255.0.0.0": skipping this rule',
        ),
        ("cidr", "fe80::1%eth0 x\n", 'bad address pattern: "fe80::1%eth0": skipping'),
    ],
)
def test_a_wrong_rule_is_passed_over_with_a_warning(
    kind: str, text: str, warning: str
) -> None:
    table = rules(kind, text)
    assert table.find("a") is None
    assert len(table.warnings) == 1
    assert table.warnings[0].startswith("map t")
    assert warning in table.warnings[0]


@given(
    st.text(alphabet="ab()[]{}|*+?^$.\\-:=<!PQdw,1 é\udcff", max_size=25),
    st.text(alphabet="imsxAEUX", max_size=2),
)
def test_any_expression_is_taken_or_refused(expression: str, flags: str) -> None:
    encoded = expression.encode("utf-8", "surrogateescape")
    for compiled, letters in ((perl, flags), (posix, "i")):
        with contextlib.suppress(RuleError):
            found = compiled(encoded, letters, True)
            caught = found.search(b"ab")
            assert caught is None or len(caught) == found.groups


@given(
    st.sampled_from(["regexp", "pcre", "cidr"]),
    st.text(alphabet="if end/a!$1{}() \n\t.:0", max_size=60),
    st.sampled_from(["a", "::1", "10.0.0.1", ""]),
)
def test_any_table_answers(kind: str, text: str, key: str) -> None:
    found = rules(kind, text).find(key)
    assert found is None or isinstance(found, str)


@given(st.text(alphabet='ab="\\{}, \t\n#é', max_size=60))
def test_any_text_is_a_table_or_says_why_not(text: str) -> None:
    entries, _ = text_table(text, "t", utf8=True)
    assert "" not in entries.values()
    with contextlib.suppress(SyntaxProblem):
        assert inline_table(text)
