"""Lists of tables as Postfix splits and opens them, and text that is not UTF-8."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from postfix_trouble.config.settings import Settings
from postfix_trouble.tables import TableError, open_configured, open_maps, unreachable

LATIN = "\udce9"


def looked_up(spec: str, key: str, **more: Any) -> str | None:
    """What is found; `error` if the look-up fails."""
    try:
        return open_maps(spec, "smtp_generic_maps", **more).find(key, fold=True)
    except TableError:
        return "error"


def asked(directory: Path, spec: str, key: str, utf8: bool) -> str | None:
    """What postmap(1) finds; `error` if it gives up."""
    (directory / "main.cf").write_text(
        f"compatibility_level = 3.6\nsmtputf8_enable = {'yes' if utf8 else 'no'}\n"
    )
    # Postfix waits for a file that was changed within the last second.
    os.utime(directory / "main.cf", (0, 0))
    done = subprocess.run(
        ["postmap", "-c", directory, "-q", "-", os.fsencode(spec)],
        input=os.fsencode(f"{key}\n"),
        capture_output=True,
    )
    if b"fatal:" in done.stderr:
        return "error"
    found = os.fsdecode(done.stdout).removeprefix(f"{key}\t").rstrip("\n")
    return found or None


# --- what separates tables ----------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "static:user:pa,ss",
        "static:user:pa ss",
        "static:user:pass, texthash",
        "inline:{a=b} static:",
        ":x static:y",
    ],
)
def test_a_list_with_a_word_that_names_no_table_has_no_keys_at_all(spec: str) -> None:
    with pytest.raises(TableError) as caught:
        open_maps(spec, "smtp_sasl_password_maps").find("a")
    assert str(caught.value) == (
        'smtp_sasl_password_maps: expecting "type:name" form for each table'
    )


def test_braces_keep_a_password_together() -> None:
    assert looked_up("static:{user:pa,ss wd}", "a") == "user:pa,ss wd"


def test_a_table_further_back_counts_only_for_those_who_get_there() -> None:
    spec = "inline:{a=1} texthash:/nonexistent nosuchtype:x"
    assert looked_up(spec, "a") == "1"
    assert looked_up(spec, "b") == "error"


def test_smtp_reply_filter_is_one_table_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a, static:b"
    path.write_text("/x/ y\n")
    settings = Settings(overrides={"smtp_reply_filter": f"regexp:{path}"})
    assert open_configured(settings, "smtp_reply_filter").find("x") == "y"


# --- inline: ------------------------------------------------------------------------

INLINE = [
    ('{{"a b"@s.test = u:p}}', '"a b"@s.test'),
    ('{{"a b"@s.test = u:p}}', "a b@s.test"),
    ('{{"a=b"@s.test = u:p}}', '"a=b"@s.test'),
    (r"{{a\ b = u:p}}", r"a\ b"),
    (r"{{a\=b = u:p}}", r"a\=b"),
    (r'{{"a\"b" = u:p}}', r'"a\"b"'),
    ('{{a"b c"d = x}}', 'a"b c"d'),
    ('{"a"=x}', '"a"'),
    ("{a=b=c}", "a"),
    ("{{a = {x y}}}", "a"),
    ("{{a\t=\tb}}", "a"),
    ("{{= x}, a=b}", "a"),
    ("{{ {a} = b }}", "{a}"),
    ('{{"a = u:p}}', '"a'),
    ('{"a b"=x}', '"a b"'),
    ("{{a b = x}}", "a"),
    ("{{a}}", "a"),
    ("{{}}", "a"),
    ("{,}", "a"),
    ("{{a = x}, b}", "a"),
]


@pytest.mark.parametrize(("name", "key"), INLINE)
@pytest.mark.e2e
def test_inline_keys_are_those_of_postmap(name: str, key: str, tmp_path: Path) -> None:
    spec = f"inline:{name}"
    assert looked_up(spec, key, utf8=True) == asked(tmp_path, spec, key, utf8=True)


def test_a_quoted_key_is_a_key_as_any_other() -> None:
    spec = 'inline:{{"a b"@s.test = u:p}, c@s.test=v:q}'
    maps = open_maps(spec, "smtp_sasl_password_maps")
    assert maps.find_address("a b@s.test") == "u:p"
    assert maps.find_address("c@s.test") == "v:q"


# --- what is not UTF-8 --------------------------------------------------------------

TEXT = f"k{LATIN}y v1\nkey v{LATIN}l\nok yes\nké utf\nÉa upper\n"
RULES = f"/^k{LATIN}y$/ v1\n/^key$/ v{LATIN}l\n/^ok$/ yes\n/^ké$/ utf\n"
KEYS = [f"k{LATIN}y", "key", "OK", "KÉ", "éa"]
KINDS = [
    ("texthash", TEXT),
    ("regexp", RULES),
    ("pcre", RULES),
    ("static", f"v{LATIN}l"),
    ("static", "x"),
    ("inline", f"{{k{LATIN}y=v, ok=yes}}"),
    ("inline", "{ké=utf, ok=yes}"),
    ("unionmap", "{static:a, static:b}"),
    ("pipemap", f"{{static:v{LATIN}l, static:b}}"),
]


def named(directory: Path, kind: str, text: str) -> str:
    if "\n" not in text:
        return f"{kind}:{text}"
    path = directory / "table"
    path.write_bytes(os.fsencode(text))
    os.utime(path, (0, 0))
    return f"{kind}:{path}"


@pytest.mark.e2e
@pytest.mark.parametrize("utf8", [True, False])
@pytest.mark.parametrize(("kind", "text"), KINDS)
def test_text_that_is_not_utf8_is_to_us_what_it_is_to_postmap(
    kind: str, text: str, utf8: bool, tmp_path: Path
) -> None:
    spec = named(tmp_path, kind, text)
    for key in KEYS:
        assert looked_up(spec, key, utf8=utf8) == asked(tmp_path, spec, key, utf8), key


def test_a_line_that_is_not_utf8_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    told: list[str] = []
    spec = named(tmp_path, "texthash", TEXT)
    maps = open_maps(spec, "p", utf8=True, warn=told.append)
    assert maps.find("key") is None
    assert told == [
        f"{tmp_path}/table, line 1: non-UTF-8 input -- ignoring this line",
        f"{tmp_path}/table, line 2: non-UTF-8 input -- ignoring this line",
    ]
    assert maps.find(f"k{LATIN}y") is None
    assert told[2:] == [f"{spec}: non-UTF-8 key"]


@pytest.mark.parametrize(
    ("parameter", "enabled", "expected"),
    [
        ("smtp_sasl_password_maps", "yes", None),
        ("smtp_sasl_password_maps", "no", "v1"),
        ("smtp_tls_policy_maps", "yes", None),
        ("smtp_generic_maps", "yes", None),
        # Postfix does not ask for UTF-8 there.
        ("smtp_header_checks", "yes", "v1"),
        ("smtp_delivery_status_filter", "yes", "v1"),
    ],
)
def test_where_utf8_is_asked_for(
    parameter: str, enabled: str, expected: str | None, tmp_path: Path
) -> None:
    spec = named(tmp_path, "regexp", RULES)
    os.chmod(tmp_path / "table", 0o600)
    settings = Settings(overrides={parameter: spec, "smtputf8_enable": enabled})
    assert open_configured(settings, parameter).find(f"k{LATIN}y") == expected


# --- proxy: -------------------------------------------------------------------------


def test_what_is_behind_proxymap_is_opened_directly(tmp_path: Path) -> None:
    spec = named(tmp_path, "texthash", "a b\n")
    assert looked_up(f"proxy:{spec}", "a") == "b"
    assert looked_up(f"proxy:{spec}x", "a") == "error"
    assert looked_up("proxy:static", "a") == "error"


def test_a_proxy_table_that_the_account_can_not_open_is_told_at_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "open.cf").write_text("hosts = localhost\n")
    (tmp_path / "indexed.db").touch()
    spec = (
        f"static:a proxy:mysql:{tmp_path}/open.cf proxy:hash:{tmp_path}/indexed "
        "proxy:inline:{a=b}"
    )

    def problem(value: str) -> str:
        settings = Settings(overrides={"smtp_generic_maps": value})
        return unreachable(settings, "smtp_generic_maps")

    assert problem(spec) == ""
    assert problem(f"{spec} proxy:mysql:{tmp_path}/closed.cf") == (
        f"proxy:mysql:{tmp_path}/closed.cf: proxymap(8) serves Postfix only, and this"
        f" account can't open {tmp_path}/closed.cf: No such file or directory"
    )
