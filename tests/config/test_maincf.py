import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.check.configuration import effective
from postfix_trouble.config.main_cf import parse
from postfix_trouble.config.settings import Settings
from postfix_trouble.config.types import ConfigError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("a=b", {"a": "b"}),
        ("a = b\n", {"a": "b"}),
        ("a\t=\tb c \v\r\n", {"a": "b c"}),
        ("a =\nb = \n", {"a": "", "b": ""}),
        ("a = b\n  c\n", {"a": "b  c"}),
        ("a =\n  b\n", {"a": "b"}),
        ("a = b\n\n  c\n# d\n   # e\n \n  f\n", {"a": "b  c  f"}),
        ("a = b # c\n", {"a": "b # c"}),
        ("#a = b\n#\n", {}),
        ("a ==b\n", {"a": "=b"}),
        ("a = b=c\n", {"a": "b=c"}),
        ("a-b = c\n", {"a-b": "c"}),
        ("a = b \\\n c\n", {"a": "b \\ c"}),
        ("a = b\0c\n", {"a": "b"}),
        ("a = b\nc = d\na = b\n", {"a": "b", "c": "d"}),
    ],
    ids=repr,
)
def test_syntax(text: str, values: dict[str, str]) -> None:
    assert parse(text, "main.cf") == (values, [])


@pytest.mark.parametrize(
    ("text", "values", "warning"),
    [
        (
            "  x = y\n  a = b\na = c\n",
            {"a": "c"},
            'main.cf: logical line must not start with whitespace: "  x = y  a = b"',
        ),
        (
            "\n\na=\n b\n\na = c\n d\n",
            {"a": "c d"},
            "main.cf, line 6: overriding earlier entry: a=b",
        ),
    ],
)
def test_warnings(text: str, values: dict[str, str], warning: str) -> None:
    assert parse(text, "main.cf") == (values, [warning])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\n", "main.cf, line 1: missing '=' after attribute name: \"a\""),
        (
            "\n#\na b = c\n d",
            "main.cf, line 3: missing '=' after attribute name: \"a b = c d\"",
        ),
        ("b=\n\n= a\n", 'main.cf, line 3: missing attribute name: "= a"'),
        ("\0a = b\n", 'main.cf, line 1: missing attribute name: ""'),
    ],
)
def test_errors_name_file_and_line(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "main.cf")
    assert str(caught.value) == problem
    assert caught.value.parameter == ""


@pytest.mark.e2e
@pytest.mark.parametrize(
    "name",
    [
        "/usr/share/postfix/main.cf.debian",
        "/usr/share/postfix/main.cf.dist",
        "/etc/postfix/main.cf.proto",
    ],
)
def test_files_that_come_with_debian_are_taken(name: str) -> None:
    values, warnings = parse(Path(name).read_text(), name)
    level = [int(x) for x in values["compatibility_level"].split(".")]
    assert level >= [3, 6]
    assert not warnings
    rows = list(effective(Settings(values)))
    assert not [row.problem for row in rows if row.problem]


def test_effective_values() -> None:
    values, _ = parse(
        "soft_bounce = maybe\n"
        "mine = a.example\n"
        "smtp_helo_name = mx.$mine\n"
        "smtp_mail_timeout = 300s\n"
        "best_mx_transport = local\n",
        "main.cf",
    )
    overrides = {"lmtp_mail_timeout": "9"}
    settings = Settings(values, overrides=overrides, lmtp=True, system_hostname="mx")
    rows = {row.name: row for row in effective(settings)}
    assert (
        rows["soft_bounce"].problem == "bad boolean configuration: soft_bounce = maybe"
    )
    assert rows["smtp_helo_name"][1:5] == (
        "mx.$mine",
        "mx.a.example",
        "$myhostname",
        True,
    )
    assert rows["lmtp_lhlo_name"].value == "mx.localdomain"
    assert rows["best_mx_transport"].unsupported
    changed = [row.name for row in rows.values() if row.differs]
    assert changed == [
        "soft_bounce",
        "best_mx_transport",
        "smtp_helo_name",
        "lmtp_mail_timeout",
    ]
    assert "mine" not in rows


@given(st.text(alphabet="ab= \t\n#\r\0", max_size=60))
def test_any_text_is_taken_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        values, _ = parse(text, "f")
        assert "" not in values
        assert [value.strip() for value in values.values()] == list(values.values())
