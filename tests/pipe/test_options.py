"""The command line of `deliver`: after the first recipient nothing is an option."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.pipe.options import OPTIONS, UsageError, read

SWITCHES = [option.name for option in OPTIONS if not option.metavar]
VALUED = [option.name for option in OPTIONS if option.metavar]


def recipients(*argv: str) -> list[str]:
    return read(list(argv)).recipients


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        ((), []),
        (("r@d",), ["r@d"]),
        (("--", "r@d"), ["r@d"]),
        (("--lmtp", "r@d"), ["r@d"]),
        (("--", "--help"), ["--help"]),
        (("--", "--"), ["--"]),
        (("--", "-oQ@d", "-"), ["-oQ@d", "-"]),
        (("r@d", "--help"), ["r@d", "--help"]),
        (("r@d", "--", "x"), ["r@d", "--", "x"]),
        (("-", "--json"), ["-", "--json"]),
        (("", "x"), ["", "x"]),
        (("@file", "*"), ["@file", "*"]),
    ],
)
def test_recipients(argv: tuple[str, ...], found: list[str]) -> None:
    assert recipients(*argv) == found


@pytest.mark.parametrize(
    "argv",
    [
        ("--sender", "--help", "r@d"),
        ("--sender=--help", "r@d"),
        ("--sender", "x", "--sender", "--help", "--", "r@d"),
    ],
)
def test_value_may_look_like_an_option(argv: tuple[str, ...]) -> None:
    line = read(list(argv))
    assert line.value("--sender") == "--help"
    assert line.recipients == ["r@d"]


def test_value_may_be_two_dashes_or_empty() -> None:
    line = read(["--sender", "--", "--nexthop", "", "--", "r@d"])
    assert (line.value("--sender"), line.value("--nexthop", "x")) == ("--", "")
    assert line.recipients == ["r@d"]


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--help"], "no such option: --help; see postfix-trouble help"),
        (["-h"], "no such option: -h; see postfix-trouble help"),
        (["--version", "r@d"], "no such option: --version"),
        (["--=x"], "no such option: --"),
        # No abbreviations.
        (["--send", "x"], "no such option: --send; did you mean --sender?"),
        (["--SENDER", "x"], "no such option: --SENDER"),
        (["--sender"], "--sender needs a value"),
        (["-o"], "-o needs a value"),
        (["--lmtp=yes"], "--lmtp takes no value"),
        (["-vv"], "-v takes no value"),
    ],
)
def test_what_is_no_command_line(argv: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read(argv)


def test_settings() -> None:
    line = read(["-o", "a=b", "-oc=d = e", "-o", "a = f ", "r@d"])
    assert line.pairs("-o") == {"a": "f", "c": "d = e"}


@pytest.mark.parametrize("text", ["a", "=b", " =b", ""])
def test_settings_need_a_name_and_a_value(text: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE expected"):
        read(["-o", text, "r@d"]).pairs("-o")


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("r@d=rfc822;o@d", ("r@d", "rfc822;o@d")),
        ("a=b@d=RFC822;o=p@d", ("a=b@d", "RFC822;o=p@d")),
        ("a=b@d=utf-8;\u00fc@d", ("a=b@d", "utf-8;\u00fc@d")),
        ("r@d=x400;y", ("r@d", "x400;y")),
    ],
)
def test_original_recipient_of_an_address_with_an_equals_sign(
    text: str, pair: tuple[str, str]
) -> None:
    assert read(["--orcpt", text]).pairs("--orcpt") == dict([pair])


@pytest.mark.parametrize("name", SWITCHES)
def test_switch(name: str) -> None:
    assert read([name, "r@d"]).switch(name)
    assert not read(["r@d", name]).switch(name)


@pytest.mark.parametrize("name", VALUED)
def test_option_with_a_value(name: str) -> None:
    for argv in ([name, "x=y"], [f"{name}=x=y"] if name != "-o" else ["-ox=y"]):
        line = read([*argv, "r@d"])
        assert line.recipients == ["r@d"]
        assert line.value(name) == "x=y" or line.lists[name] == ["x=y"]


@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from(SWITCHES + VALUED))))
def test_everything_after_two_dashes_is_a_recipient(words: list[str]) -> None:
    assert recipients("--sender", "x", "--", *words) == words
    assert recipients("first@d", *words) == ["first@d", *words]
    with contextlib.suppress(UsageError):
        read(words)
