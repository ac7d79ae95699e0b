"""check finds what would hurt mail, and says so before mail is hurt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checking import SOUND, about, findings
from pseudo_terminal import assert_golden, piped, run, widest

from dns_server import serving
from postfix_trouble.check.findings import Severity

# --- the command: configuration -----------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "main.cf"
    path.write_text("myhostname = mail.example.org\ncompatibility_level = 3.6\n")
    return path


def test_all_is_well(config: Path) -> None:
    found, code = findings("--config", str(config))
    assert (code, {f["severity"] for f in found}) == (0, {"ok"})


@pytest.mark.parametrize(
    ("line", "told", "consequences"),
    [
        (
            "",
            "0, since main.cf has none",
            "as in Postfix: addresses in UTF-8 go out without SMTPUTF8, fingerprints"
            " are MD5",
        ),
        ("compatibility_level = 2", "2", "as in Postfix: fingerprints are MD5"),
    ],
)
def test_an_old_level_is_told(
    line: str, told: str, consequences: str, config: Path
) -> None:
    config.write_text(f"myhostname = mail.example.org\n{line}\n")
    said = about(findings("--config", str(config))[0], "compatibility_level")
    assert (said["problem"], said["consequence"]) == (told, consequences)
    assert said["severity"] == "note"


def test_each_table_is_tried_and_told_of(config: Path, tmp_path: Path) -> None:
    table = tmp_path / "generic"
    table.write_bytes(b"a b\nb\xe9 c\n")
    with config.open("a") as file:
        file.write(f"smtp_generic_maps = static:a, texthash:{table}\n")
        file.write("smtp_sasl_auth_enable = yes\n")
        file.write("smtp_sasl_password_maps = static:me:can,ary texthash:/no/such\n")
        file.write("smtp_header_checks = static:x regexp:/no/such\n")
        file.write("smtp_tls_policy_maps = proxy:texthash:/no/such\n")
        file.write("smtp_body_checks = proxy:static:x\n")
    found, code = findings("--config", str(config))
    said = {f["about"]: f for f in found}
    assert code == 78
    assert [f["about"] for f in found if "non-UTF-8 input" in f["problem"]] == [
        "smtp_generic_maps"
    ]
    broken = [f for f in found if f["about"] == "smtp_sasl_password_maps"]
    assert "static:{user:password}" in broken[0]["remedy"]
    assert "can,ary" not in json.dumps(found)
    assert "deferred (4.3.0)" in broken[0]["consequence"]
    assert "No such file" in said["smtp_header_checks"]["problem"]
    assert "correct the path" in said["smtp_header_checks"]["remedy"]
    policy = said["smtp_tls_policy_maps"]
    assert "proxymap(8) serves Postfix only" in policy["problem"]
    assert "4.3.5" in policy["consequence"]
    assert said["smtp_body_checks"]["severity"] == "note"
    assert "proxymap(8)" in said["smtp_body_checks"]["consequence"]


def test_a_myorigin_file_that_is_not_there_is_an_error(config: Path) -> None:
    with config.open("a") as file:
        file.write("myorigin = /no/such/mailname\n")
    found, code = findings("--config", str(config))
    said = about(found, "myorigin")
    assert said["problem"] == "myorigin = /no/such/mailname: No such file or directory"
    assert "4.3.5" in said["consequence"]
    assert code == 78


@pytest.mark.parametrize(
    ("line", "name", "severity", "problem"),
    [
        # Without files: tests/check/test_configuration.py has the others.
        ("smtp_helo_timeout = 5x", "smtp_helo_timeout", "error", "bad time value"),
        ("lmtp_helo_timeout = 5x", "lmtp_helo_timeout", "warning", "unknown parameter"),
        ("smtp_tls_scert_verifydepth = x", "smtp_tls_scert_verifydepth", "note", "bad"),
        (
            "smtp_tls_policy_maps = inline:{{a = secure}}",
            "smtp_tls_policy_maps",
            "error",
            "no authority to trust",
        ),
        # What they name is looked at.
        (
            "smtp_generic_maps = texthash:/no/such/file",
            "smtp_generic_maps",
            "error",
            "No such file",
        ),
        (
            "smtp_tls_CApath = /no/such\nsmtp_tls_security_level = may",
            "smtp_tls_CApath",
            "error",
            "no directory",
        ),
        (
            "trouble_sasl_token_command = /no/such x",
            "trouble_sasl_token_command",
            "error",
            "can't be run",
        ),
        (
            "notify_classes = protocol\nsendmail_path = /no/such",
            "sendmail_path",
            "warning",
            "can't be run",
        ),
        (
            "smtp_tlsrpt_enable = yes",
            "smtp_tlsrpt_socket_name",
            "warning",
            "is empty",
        ),
        (
            "smtp_tlsrpt_enable = yes\nsmtp_tlsrpt_socket_name = no/such",
            "smtp_tlsrpt_socket_name",
            "warning",
            "is missing",
        ),
        (
            "trouble_log_file = /no/such/dir/log",
            "trouble_log_file",
            "warning",
            "can't be written",
        ),
    ],
)
def test_settings(
    config: Path, line: str, name: str, severity: str, problem: str
) -> None:
    with config.open("a") as file:
        file.write(line + "\n")
    found, code = findings("--config", str(config))
    wrong = [f for f in found if f["about"] == name and problem in f["problem"]]
    assert [f["severity"] for f in wrong] == [severity]
    assert wrong[0]["consequence"] or severity == "note"
    assert code == (78 if severity == "error" else 0)


def test_tlsrpt_socket_that_can_be_written(config: Path, tmp_path: Path) -> None:
    (tmp_path / "socket").touch()
    with config.open("a") as file:
        file.write("smtp_tlsrpt_enable = yes\n")
        file.write(f"smtp_tlsrpt_socket_name = {tmp_path}/socket\n")
    found, _ = findings("--config", str(config))
    assert about(found, "smtp_tlsrpt_socket_name")["severity"] == "ok"


def test_names_that_are_postfix_own_are_passed_over(config: Path) -> None:
    with config.open("a") as file:
        file.write("smtpd_banner = x\ntrouble_destination_recipient_limit = 1\n")
        file.write("smtp_destination_concurrency_limit = 2\nmine = 3\n")
    assert findings("--config", str(config))[1] == 0


def test_repeated_lines(config: Path) -> None:
    with config.open("a") as file:
        file.write("myhostname = other.example.org\n")
    found, code = findings("--config", str(config))
    assert "overriding earlier entry" in about(found, "configuration")["problem"]
    assert code == 0


def test_passwords_that_others_can_read(config: Path, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("mx.example.com me:secret\n")
    with config.open("a") as file:
        file.write("smtp_sasl_auth_enable = yes\n")
        file.write(f"smtp_sasl_password_maps = texthash:{passwords}\n")
    passwords.chmod(0o644)
    found, code = findings("--config", str(config))
    assert code == 78
    said = about(found, "smtp_sasl_password_maps")
    assert "open to everybody" in said["problem"]
    assert "4.3.5" in said["consequence"]
    assert said["remedy"] == f"chmod o-rwx {passwords}"
    assert "secret" not in json.dumps(found).replace("secrets", "")
    passwords.chmod(0o640)
    assert findings("--config", str(config))[1] == 0


def test_state_directory(tmp_path: Path) -> None:
    place = tmp_path / "state"
    asked = ["-o", "myhostname=mail.example.org", "-o", "sendmail_path=/bin/true"]
    asked += ["--state-directory", str(place)]
    found, code = findings(*asked)
    assert code == 0
    assert about(found, f"state directory {place}")["severity"] == "note"
    assert not place.exists()
    place.mkdir(0o700)
    found, code = findings(*asked)
    assert code == 0
    assert [f["severity"] for f in found if str(place) in f["about"]] == ["ok"] * 4
    place.chmod(0o777)
    found, code = findings(*asked)
    assert code == 78
    assert "writable for others" in about(found, f"state directory {place}")["problem"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["--config", "/no/such/main.cf"],
            "/no/such/main.cf can't be used: /no does not exist",
        ),
        (["-o", "soft_bounce=maybe"], "bad boolean configuration"),
        (["-o", "no_such=1"], "unknown parameter: no_such"),
        (["--master-cf", "/no/such/master.cf"], "/no does not exist"),
    ],
)
def test_what_can_not_be_read(argv: list[str], words: str) -> None:
    found, code = findings(*argv)
    assert code == 78
    assert any(words in f["problem"] for f in found)


def test_name_servers() -> None:
    with serving({"example.com": {"MX": ["10 mx.example.com"]}}) as server:
        address = server.address
        asked = ("check", "--json", "-o", f"trouble_nameserver={address}")
        found = json.loads(piped(*asked).stdout)["findings"]
        assert about(found, "DNS")["severity"] == "ok"
    wrong = ("check", "--json", "-o", "trouble_nameserver=nonsense")
    found = json.loads(piped(*wrong).stdout)["findings"]
    assert about(found, "trouble_nameserver")["severity"] == "error"


def test_show(config: Path) -> None:
    asked = ("check", "--config", str(config), "-o", "soft_bounce=yes")
    everything = piped(*asked, "--show").stdout.splitlines()
    assert "smtp_helo_timeout = 300s" in everything
    changed = piped(*asked, "--show-changed").stdout
    assert changed == (
        "# default: no\nsoft_bounce = yes\n# default:\nmyhostname = mail.example.org\n"
    )
    rows = json.loads(piped(*asked, "--show-changed", "--json").stdout)["parameters"]
    assert [row["name"] for row in rows] == ["soft_bounce", "myhostname"]


# --- for people ---------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 40])
def test_on_a_terminal(columns: int, tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text(
        "myhostname = mail.example.org\nsoft_bounce = maybe\nsmtp_helo_tiemout = 5\n"
        "bounce_template_file = /x\n"
    )
    sound = SOUND.replace("deliver", "deliver --log-file /dev/null")
    (tmp_path / "master.cf").write_text(
        f"bad unix - n n - - pipe\n  flags=q user=root {sound}\n"
    )
    # Without options it is Postfix's own directory.
    own = {"MAIL_CONFIG": str(tmp_path)}
    screen = run("check", "--no-dns", columns=columns, environ=own)
    assert screen.code == 78
    assert "\x1b[31merror" in screen.text
    shown = screen.plain.replace(str(tmp_path), "/etc/postfix")
    if columns == 80:
        assert widest(shown.splitlines()) <= columns
    assert_golden(f"check-{columns}", shown)


def test_quiet(config: Path) -> None:
    done = piped("check", "-q", "--no-dns", "--config", str(config))
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("columns", [80, 40])
def test_help(columns: int) -> None:
    screen = run("check", "--help", columns=columns)
    assert screen.code == 0
    assert widest(screen.plain.splitlines()) <= columns
    assert_golden(f"check-help-{columns}", screen.plain)


def test_severities_have_colours() -> None:
    from postfix_trouble.check.findings import _COLOURS

    assert set(_COLOURS) == set(Severity)


def test_a_machine_without_postfix(tmp_path: Path) -> None:
    own = {"MAIL_CONFIG": str(tmp_path)}
    done = piped("check", "--no-dns", environ=own)
    assert done.returncode == 0
    # As for a program: not broken into lines.
    note = f"note    {tmp_path}: no main.cf there: only defaults were checked\n"
    assert note in done.stdout
    assert "--master-cf" not in done.stdout


def test_state_directory_in_a_directory_that_is_not_there(tmp_path: Path) -> None:
    state = tmp_path / "none" / "state"
    done = piped("check", "--no-dns", "--state-directory", str(state))
    assert done.returncode == 78
    assert f"{state} can't be made: {state.parent} does not exist" in done.stdout
    assert "mv " not in done.stdout
    assert f"-m 700 {state}\n" in done.stdout
