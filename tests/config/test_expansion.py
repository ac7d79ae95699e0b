import contextlib
import json
import os
import random
from pathlib import Path

import pytest
from expansion_cases import NAMES, Case, ask_postconf, text
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.config.expansion import ExpansionError, expand

RECORDED = [
    Case(*row)
    for row in json.loads(
        (Path(__file__).parent / "data/expansions-3.7.11.json").read_text()
    )
]


def expanded(subject: str) -> str | None:
    try:
        return expand(subject, NAMES.get)
    except ExpansionError:
        return None


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.text[:40])
def test_expands_as_postconf_did(case: Case) -> None:
    assert expanded(case.text) == case.value


@pytest.mark.e2e
@pytest.mark.more
def test_expands_as_postconf_does(tmp_path: Path) -> None:
    # The same ones each time: others are for those who look for them.
    dice = random.Random(int(os.environ.get("POSTFIX_TROUBLE_SEED", "1")))
    texts = [text(dice, 2) for _ in range(200)]
    accepted = [subject for subject in texts if expanded(subject) is not None][:60]
    # Few of these: postconf sleeps a second before each fatal error.
    refused = [subject for subject in texts if expanded(subject) is None][:5]
    for subject in accepted + refused:
        assert expanded(subject) == ask_postconf(tmp_path, subject), subject


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        ("${word", 'truncated macro reference: "${word"'),
        ("a$-", 'empty macro name: "a$"'),
        ("${itself}", 'unreasonable macro call nesting: "itself"'),
        ("${word!}", 'attribute name syntax error at: "...word>>>!"'),
        ("${word?{a} b}", '":" expected at: "...a}>>>b"'),
        ("${word:{a} b}", 'unexpected input at: "...a}>>>b"'),
        ("${{a}=={b}x}", '"?" or ":" expected at: "...}>>>x"'),
        ("${{a}", 'truncated macro reference: "${{a}"'),
        ("${{a}== b}", '"{expression}" expected at: "...{a} ==>>> b"'),
        ("${{x}<level{3}}", 'malformed compatibility level syntax: "x"'),
        ("${{1}<{" + "9" * 5000 + "}}", "bad conversion: " + "9" * 5000),
    ],
    ids=lambda part: part[:30],
)
def test_says_what_is_wrong(subject: str, problem: str) -> None:
    with pytest.raises(ExpansionError) as caught:
        expand(subject, NAMES.get)
    assert str(caught.value) == problem


def test_a_name_that_compares_with_itself_is_an_error_not_a_crash() -> None:
    with pytest.raises(ExpansionError, match="unreasonable macro call nesting"):
        expand("$a", {"a": "${{$a} == {x}}"}.get)


@given(st.text(alphabet="${}()?:=<a \n\0é", max_size=60))
def test_any_text_gives_a_value_or_a_problem(subject: str) -> None:
    with contextlib.suppress(ExpansionError):
        assert isinstance(expand(subject, {"a": "b"}.get), str)
