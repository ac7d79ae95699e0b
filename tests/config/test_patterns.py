"""Rules and patterns alone; what they find is held against postmap in tests/edge."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.config.lines import logical_lines
from postfix_trouble.config.pattern_table import UntranslatableError, parse
from postfix_trouble.config.regular import perl, posix
from postfix_trouble.config.text_table import SyntaxProblem, inline_table, text_table


@pytest.mark.parametrize(
    "expression",
    [
        r"\Qa\E",
        r"a\Kb",
        r"\p{L}",
        r"\h",
        r"\x{41}",
        r"a(?i)b",
        r"(?|a|b)",
        r"(?R)",
        r"(*FAIL)",
        r"(?<=a+)b",
        r"[[:^alpha:]]",
        r"[[:nonsense:]]",
        r"[a",
        r"(a",
        r"a)",
        r"\1",
        r"(a)\10",
        r"*a",
        r"^*",
        r"\b+",
        "a\\",
    ],
)
def test_what_has_no_counterpart_is_not_guessed(expression: str) -> None:
    with pytest.raises(UntranslatableError):
        perl(expression, "")


@pytest.mark.parametrize(
    "expression", ["a{", "a{x}", "[[.a.]]", "[[=a=]]", "a|*b", "(*a)", "(?:a)", r"\>*"]
)
def test_nor_is_it_in_posix(expression: str) -> None:
    with pytest.raises(UntranslatableError):
        posix(expression, "")


@pytest.mark.parametrize(
    ("expression", "text", "matches"),
    [
        # A second + repeats the first: it does not make it possessive.
        ("^a++a$", "aaa", True),
        ("^(a+?)$", "aaa", True),
        ("^a++$", "", False),
        ("^a+?$", "", True),
        ("^a?+$", "aaa", True),
        ("^a??$", "aa", False),
        # Nested, they would be tried for ever.
        ("^a" + 40 * "*" + "." + 40 * "*" + "c$", 100 * "a", False),
        ("^a{2}{2}$", "aaaa", True),
        ("a$", "a\n", False),
        (r"^[\]$", "\\", True),
        (r"^\d$", "d", True),
        (r"(a)\1", "AA", True),
        ("a.b", "a\nb", True),
    ],
)
def test_posix(expression: str, text: str, matches: bool) -> None:
    assert (posix(expression, "").search(text) is not None) is matches


@pytest.mark.parametrize(
    ("expression", "flags", "text", "matches"),
    [
        ("^a++a$", "", "aaa", False),
        ("^a?+a$", "", "aa", True),
        ("^(b|a){0,2}+a$", "", "aba", True),
        ("^(b|a){0,2}+a$", "", "aa", False),
        (r"\d(?:.*?z)?+\d", "", "550", True),
        (r"\d((?:x|.*?z)*+)\d\1$", "", "1xx2xx", True),
        ("a$", "", "a\n", True),
        ("a$", "E", "a\n", False),
        ("b", "A", "ab", False),
        ("A", "", "a", True),
        ("A", "i", "a", False),
        ("A", "ii", "a", True),
        ("a.b", "s", "a\nb", False),
        ("^b", "m", "a\nb", True),
        ("a b # c", "x", "ab", True),
        (r"a\Z", "", "a\n", True),
        (r"a\z", "", "a\n", False),
        ("(?<n>a)", "", "a", True),
        ("(?i)A", "i", "a", True),
        ("x{,2}", "", "x{,2}", True),
    ],
)
def test_perl(expression: str, flags: str, text: str, matches: bool) -> None:
    assert (perl(expression, flags).search(text) is not None) is matches


@pytest.mark.parametrize(
    ("kind", "text", "warning"),
    [
        ("regexp", "nonsense\n", "ignoring unrecognized request"),
        ("regexp", "endif\n", "ignoring ENDIF without matching IF"),
        ("regexp", "if /a/\n", "IF has no matching ENDIF"),
        ("regexp", "/a\n", 'no closing regexp delimiter "/": ignoring this rule'),
        ("regexp", "!\n", "no regexp: skipping this rule"),
        ("regexp", "/a/q x\n", 'unknown regexp option "q": skipping this rule'),
        ("pcre", "/a/ $1\n", "out of range replacement index: skipping this rule"),
        ("pcre", "/(a)/ $0\n", "out of range replacement index: skipping this rule"),
        ("pcre", "/(a)/ $x\n", "bad replacement syntax: skipping this rule"),
        (
            "pcre",
            "!/(a)/ $1\n",
            "$number found in negative match replacement text: skipping this rule",
        ),
        ("cidr", "10.0.0.0/8\n", "no lookup result: skipping this rule"),
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
    table = parse(logical_lines(text), "map t", kind)
    assert table.find("a") is None
    assert len(table.warnings) == 1
    assert table.warnings[0].startswith("map t")
    assert warning in table.warnings[0]


@given(
    st.text(alphabet="ab()[]{}|*+?^$.\\-:=<!PQdw,1 é", max_size=25),
    st.text(alphabet="imsxAEU", max_size=2),
)
def test_any_expression_is_taken_or_refused(expression: str, flags: str) -> None:
    for compiled in (perl, posix):
        with contextlib.suppress(UntranslatableError):
            compiled(expression, flags)


@given(
    st.sampled_from(["regexp", "pcre", "cidr"]),
    st.text(alphabet="if end/a!$1{}() \n\t.:0", max_size=60),
    st.sampled_from(["a", "::1", "10.0.0.1", ""]),
)
def test_any_table_answers_or_is_refused(kind: str, text: str, key: str) -> None:
    with contextlib.suppress(UntranslatableError):
        found = parse(logical_lines(text), "t", kind).find(key)
        assert found is None or isinstance(found, str)


@given(st.text(alphabet='ab="\\{}, \t\n#é', max_size=60))
def test_any_text_is_a_table_or_says_why_not(text: str) -> None:
    entries, _ = text_table(text, "t")
    assert "" not in entries.values()
    with contextlib.suppress(SyntaxProblem):
        assert inline_table(text)
