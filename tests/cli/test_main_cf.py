"""What a main.cf means by where it is and by how its lines end, as to Postfix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from postfix_trouble.check import entries
from postfix_trouble.config.settings import ConfigError, Settings
from postfix_trouble.dns import resolv_conf
from postfix_trouble.terminal.parameters import make_settings, read_config
from scripted_server import ScriptedServer

LEVEL = ("smtputf8_enable", "smtp_tls_fingerprint_digest")
ENDS = ["\r", "\f", "\v", "\x1c", "\x85", "\u2028", "\u2029"]


def settings_of(path: Path, text: str) -> Settings:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    values = read_config(str(path))[0]
    return make_settings(values, config=str(path), overrides={}, lmtp=False)


def postconf(path: Path, name: str) -> str:
    command = ["postconf", "-c", str(path.parent), "-xh", name]
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")


@pytest.fixture
def main_cf(tmp_path: Path) -> Path:
    return tmp_path / "main.cf"


# --- ends of lines ------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
def test_nothing_but_lf_ends_a_line(end: str, main_cf: Path) -> None:
    text = (
        f"# was:{end}smtp_tls_security_level = none\n"
        f"smtp_tls_security_level = encrypt\n"
        f"myhostname = a.test{end}soft_bounce = yes\n"
    )
    settings = settings_of(main_cf, text)
    assert settings.text("smtp_tls_security_level") == "encrypt"
    assert not settings.flag("soft_bounce")
    assert settings.text("myhostname") == f"a.test{end}soft_bounce = yes"


@pytest.mark.e2e
@pytest.mark.parametrize("end", [*ENDS, "\0"])
def test_postconf_reads_the_same_value(end: str, main_cf: Path) -> None:
    text = f"smtp_helo_name = a{end}b = c \r\n# x{end}\ny = z\nsoft_bounce = yes\r\n"
    settings = settings_of(main_cf, text)
    for name in ("smtp_helo_name", "soft_bounce"):
        # Where postconf may break a line, it writes a blank.
        shown = settings.text(name).replace("\r", " ")
        assert shown == postconf(main_cf, name), name


@pytest.mark.parametrize("end", ENDS)
def test_nor_a_line_of_master_cf(end: str, tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    path = tmp_path / "master.cf"
    entry = "x unix - n n - 9 pipe user=nobody argv=/usr/bin/postfix-trouble deliver"
    path.write_bytes(f"# old:{end}{entry}\n".encode())
    (found,) = entries.look(str(path), "postconf")
    assert found.problem == "no entry runs postfix-trouble"


def test_resolv_conf_has_the_lines_of_the_c_library() -> None:
    text = "# \x0bnameserver 192.0.2.1\nnameserver 192.0.2.2\r\nsearch a\u00a0b\tc\n"
    found = resolv_conf.parse(text)
    assert found.nameservers == ("192.0.2.2",)
    assert found.search == ("a\u00a0b", "c")


# --- where it is --------------------------------------------------------------------


def test_config_directory_is_where_main_cf_is(main_cf: Path) -> None:
    text = "smtp_generic_maps = texthash:$config_directory/generic\n"
    settings = settings_of(main_cf, text)
    assert settings.text("smtp_generic_maps") == f"texthash:{main_cf.parent}/generic"
    assert settings.config_directory() == str(main_cf.parent)
    # As in Postfix, one that is set there counts.
    settings = settings_of(main_cf, f"{text}config_directory = /other\n")
    assert settings.text("smtp_generic_maps") == "texthash:/other/generic"


def test_a_file_of_another_name_says_nothing_of_postfix(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "trouble.cf", "soft_bounce = yes\n")
    assert settings.text("config_directory") == "/etc/postfix"
    assert settings.config_directory() == ""
    assert settings.flag("smtputf8_enable")


def test_postmap_looks_into_the_same_directory(main_cf: Path, tmp_path: Path) -> None:
    from postfix_trouble.tables import open_configured

    postmap = tmp_path / "postmap"
    postmap.write_text('#!/bin/sh\nread key\nprintf "$key\\t$1 $2\\n"\n')
    postmap.chmod(0o755)
    text = f"command_directory = {tmp_path}\nsmtp_generic_maps = hash:/x\n"
    found = open_configured(settings_of(main_cf, text), "smtp_generic_maps").find("k")
    assert found == f"-c {tmp_path}"


# --- compatibility_level ------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.parametrize("line", ["", "0", "1", "2", "3.5", "3.6", "3.7"])
def test_defaults_follow_the_level_as_in_postfix(line: str, main_cf: Path) -> None:
    text = f"compatibility_level = {line}\n" if line else "myhostname = a.test\n"
    settings = settings_of(main_cf, text)
    for name in (*LEVEL, "lmtp_tls_fingerprint_digest"):
        assert settings.check(name) == postconf(main_cf, name), name


def test_where_postfix_has_no_smtputf8_the_address_goes_out_as_it_is(
    main_cf: Path,
) -> None:
    main_cf.write_text("myhostname = me.test\n")
    with ScriptedServer() as server:
        done = subprocess.run(
            [
                *(sys.executable, "-I", "-m", "postfix_trouble", "deliver"),
                *("--config", str(main_cf), "--sender", "s@d.test"),
                *("--nexthop", f"[127.0.0.1]:{server.port}"),
                *("--log-file", str(main_cf.parent / "log"), "--", "jösé@d.test"),
            ],
            input=b"Subject: x\n\nx\n",
            capture_output=True,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "RCPT TO:<jösé@d.test>" in server.connections[0].commands


# --- myorigin -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "domain"),
    [("one.test\n", "one.test"), (" one.test \r\ntwo.test\n", "one.test")],
)
def test_myorigin_is_the_first_line_of_a_file(
    content: str, domain: str, main_cf: Path, tmp_path: Path
) -> None:
    (tmp_path / "mailname").write_text(content)
    settings = settings_of(main_cf, f"myorigin = {tmp_path}/mailname\n")
    assert settings.text("myorigin") == domain


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "myorigin = {}/mailname: No such file or directory"),
        ("", "myorigin file {}/mailname is empty"),
        ("\none.test\n", "myorigin file {}/mailname is empty"),
        (
            "a b\n",
            "myorigin parameter setting must not contain multiple values: a b",
        ),
    ],
)
def test_a_file_without_a_domain_defers_all_mail(
    content: str | None, problem: str, main_cf: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "mailname").write_text(content)
    settings = settings_of(main_cf, f"myorigin = {tmp_path}/mailname\n")
    with pytest.raises(ConfigError) as caught:
        settings.refuse_unusable()
    assert str(caught.value) == problem.format(tmp_path)
    assert caught.value.parameter == "myorigin"


@pytest.mark.e2e
@pytest.mark.parametrize(
    "content", ["one.test\n", " one.test \r\nx\n", "", "\none.test\n", "a b\n"]
)
def test_postfix_takes_or_refuses_the_same_files(
    content: str, main_cf: Path, tmp_path: Path
) -> None:
    (tmp_path / "mailname").write_text(content)
    settings = settings_of(main_cf, f"myorigin = {tmp_path}/mailname\n")
    done = subprocess.run(
        ["postmap", "-c", tmp_path, "-q", "a", "static:b"],
        capture_output=True,
    )
    try:
        settings.refuse_unusable()
        problem = ""
    except ConfigError as error:
        problem = str(error)
    assert bool(problem) is (done.returncode != 0)
    assert problem in done.stderr.decode()


def test_a_pipe_is_no_file_to_wait_for(main_cf: Path, tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "mailname")
    settings = settings_of(main_cf, f"myorigin = {tmp_path}/mailname\n")
    with pytest.raises(ConfigError, match="not a regular file"):
        settings.text("myorigin")


# --- passwords ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "smtp_sasl_password_maps = static:me:canary${",
        "smtp_sasl_password_maps static:me:canary",
        "= static:me:canary",
        " smtp_sasl_password_maps = static:me:canary",
        "smtp_sasl_password_maps = static:me:canary\nsmtp_sasl_password_maps = x:y",
        "smtp_sasl_password_maps = inline:{{a = me:canary}}\n"
        "smtp_sasl_password_maps = x:y",
        "smtp_sasl_password_maps = static:me:x,canary",
    ],
)
def test_no_complaint_about_a_setting_shows_a_password(
    line: str, main_cf: Path
) -> None:
    main_cf.write_text(f"smtp_sasl_auth_enable = yes\n{line}\n")
    program = [sys.executable, "-I", "-m", "postfix_trouble"]
    for command in (
        ["check", "--no-dns"],
        ["check", "--no-dns", "--json"],
        ["check", "--show"],
        ["check", "--show-changed", "--json"],
        [
            "deliver",
            "--sender",
            "",
            "--nexthop",
            "[127.0.0.1]:1",
            "--log-file",
            "/dev/null",
        ],
    ):
        more = ["--", "r@d.test"] if command[0] == "deliver" else []
        done = subprocess.run(
            [*program, *command, "--config", str(main_cf), *more],
            input=b"\n",
            capture_output=True,
        )
        assert done.stdout or done.stderr
        assert b"canary" not in done.stdout + done.stderr, command
