"""check finds what would hurt mail, and says so before mail is hurt."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pseudo_terminal import assert_golden, piped, run, widest

import needs
from dns_server import serving
from postfix_trouble.check.account import READ, Account, refusing
from postfix_trouble.check.argv import Line
from postfix_trouble.check.entry import Circumstances, judge
from postfix_trouble.check.findings import Severity
from postfix_trouble.cli import main as cli_main
from postfix_trouble.config import master_cf
from postfix_trouble.config.types import ConfigError
from postfix_trouble.pipe import options

ROOT = Path(__file__).parent.parent.parent
SOUND = (
    "argv=/usr/bin/postfix-trouble deliver --queue-id ${queue_id} --nexthop ${nexthop}"
    " --sender ${sender} -- ${recipient}"
)


# --- master.cf ----------------------------------------------------------------------


def entry(
    arguments: str, columns: str = "trouble unix - n n - 20 pipe"
) -> master_cf.PipeEntry:
    (service,) = master_cf.parse(f"{columns}\n  {arguments}\n", "master.cf")
    return master_cf.pipe_entry(service)


def test_services() -> None:
    text = "# comment\nsmtp inet n - y - - smtpd\n  -o { a = b c }\n  -v\n"
    (service,) = master_cf.parse(text, "master.cf")
    assert (service.line, service.name, service.chroot) == (2, "smtp", "y")
    assert service.arguments == ("-o", "{ a = b c }", "-v")


def test_pipe_attributes() -> None:
    found = entry(
        "-o x=1 -v FLAGS=DR user=nobody:mail null_sender= size=9"
        " argv=/bin/prog { a b } ${recipient}"
    )
    assert (found.flags, found.user, found.group) == ("DR", "nobody", "mail")
    assert (found.null_sender, found.size, found.overrides) == ("", "9", ("x=1",))
    assert found.argv == ("/bin/prog", "a b", "${recipient}")


def test_what_nobody_said() -> None:
    found = entry("user=nobody argv=x")
    assert (found.null_sender, found.group, found.flags) == ("MAILER-DAEMON", "", "")


@pytest.mark.parametrize("text", ["  smtp inet\n", "smtp inet n\n"])
def test_a_line_that_is_no_entry(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^master.cf, line 1: "):
        master_cf.parse(text, "master.cf")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        services = master_cf.parse(text, "master.cf")
    except ConfigError:
        return
    for service in services:
        master_cf.pipe_entry(service)


# --- the rules for an entry ---------------------------------------------------------


def judged(found: master_cf.PipeEntry, now: Circumstances) -> list[tuple[str, str]]:
    before = master_cf.place(found, "postfix-trouble") or 0
    try:
        read = options.read(list(found.argv[before + 2 :]))
        lists = {name: " ".join(words) for name, words in read.lists.items()}
        line = Line({**read.values, **lists}, tuple(read.recipients))
    except options.UsageError as problem:
        line = Line({}, (), str(problem))
    return [(f.severity.value, f.problem) for f in judge(found, line, now)]


ONE = Circumstances(recipient_limit=1)
KEPT = Circumstances(state_directory="/var/lib/trouble")
START = "user=nobody null_sender= "


@pytest.mark.parametrize("now", [ONE, KEPT])
def test_sound_entries(now: Circumstances) -> None:
    found = judged(entry(START + SOUND), now)
    assert found == [("ok", "no mistakes in the entry")]


@pytest.mark.parametrize(
    ("arguments", "severity", "problem"),
    [
        (f"null_sender= {SOUND}", "error", "user= is missing"),
        (f"user=nobody {SOUND}", "error", "null_sender= is missing"),
        (f"user=nobody null_sender=x {SOUND}", "error", "null_sender=x"),
        (f"{START}flags=q {SOUND}", "error", "flag q, and no --quoted"),
        (f"{START}flags=u {SOUND}", "error", "flag u"),
        (f"{START}flags=h {SOUND}", "warning", "flag h"),
        (f"{START}flags=F {SOUND}", "error", "flag F"),
        (f"{START}flags=. {SOUND}", "error", "flag ."),
        (f"{START}flags=B {SOUND}", "warning", "flag B"),
        (f"{START}flags=z {SOUND}", "error", "unknown flag z"),
        (f"{START}eol=\\r\\n {SOUND}", "error", "eol=\\r\\n"),
        (f"{START}size=100 {SOUND}", "note", "size=100"),
        (f"{START}colour=red {SOUND}", "error", "pipe(8) has no attribute colour"),
        (
            START + SOUND.replace("${recipient}", "${user}@${domain}"),
            "error",
            "recipients are given as ${user}@${domain}, not as ${recipient} alone",
        ),
        (
            START + SOUND.replace("-- ${recipient}", "${recipient}"),
            "error",
            "there is no -- before ${recipient}",
        ),
        (
            START + SOUND.replace(" -- ${recipient}", ""),
            "error",
            "recipients are given as nothing, not as ${recipient} alone",
        ),
        (
            START + SOUND.replace("--nexthop ${nexthop}", ""),
            "error",
            "--nexthop is missing",
        ),
        (
            START + SOUND.replace("--sender ${sender}", ""),
            "error",
            "--sender is missing",
        ),
        (
            START + SOUND.replace("--sender ${sender}", "--sender me@x"),
            "warning",
            "--sender me@x",
        ),
        (
            START + SOUND.replace("--queue-id ${queue_id}", ""),
            "warning",
            "--queue-id is missing",
        ),
        (
            START + SOUND.replace("${sender}", "${from}"),
            "error",
            "unknown macro ${from}",
        ),
        (
            START + SOUND.replace("${sender}", "'${sender}'"),
            "error",
            "quotes in '${sender}'",
        ),
        (
            START + SOUND.replace("--sender", "--from"),
            "error",
            "no such option: --from",
        ),
        (
            START + SOUND.replace(" --sender", " --envid ${envid} --sender"),
            "note",
            "${envid} needs Postfix 3.9",
        ),
    ],
)
def test_mistakes(arguments: str, severity: str, problem: str) -> None:
    assert (severity, problem) in judged(entry(arguments), ONE)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ("trouble inet - n n - 20 pipe", "type inet"),
        ("trouble unix - - n - 20 pipe", "column unpriv is -"),
        ("trouble unix - n y - 20 pipe", "column chroot is y"),
    ],
)
def test_columns(columns: str, problem: str) -> None:
    assert ("error", problem) in judged(entry(START + SOUND, columns), ONE)


def test_a_dash_is_chroot_at_level_0() -> None:
    dash = entry(START + SOUND, "trouble unix - n - - 20 pipe")
    assert judged(dash, ONE)[0][0] == "ok"
    assert judged(dash, ONE._replace(chroot_default=True)) == [
        ("error", "column chroot is -, which is y: compatibility_level is 0")
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [("myhostname = a.test\n", True), ("compatibility_level = 1\n", False)],
)
def test_the_level_is_that_of_the_main_cf_beside_it(
    text: str, told: bool, tmp_path: Path
) -> None:
    (tmp_path / "main.cf").write_text(text)
    path = tmp_path / "master.cf"
    columns = "trouble unix - n - - 20 pipe"
    lmtpd = "lmtpd unix - n - - 20 spawn user=nobody argv=/bin/postfix-trouble lmtp"
    path.write_text(f"{columns}\n  {START}{SOUND}\n{lmtpd}\n")
    found, _code = findings("--master-cf", str(path))
    said = [f["about"] for f in found if "column chroot is -" in f["problem"]]
    assert said == (["trouble, line 1", "lmtpd, line 3"] if told else [])


def test_settings_before_argv_are_not_the_programs(tmp_path: Path) -> None:
    options = "-o smtp_tls_security_level=encrypt -o soft_bounce=yes"
    path = tmp_path / "master.cf"
    path.write_text(
        f"trouble unix - n n - 20 pipe {options} {START}{SOUND}\n"
        f"lmtpd unix - n n - 20 spawn -o {{smtp_sasl_password_maps = static:u:canary}}"
        " user=nobody argv=/bin/postfix-trouble lmtp\n"
    )
    found, code = findings("--master-cf", str(path))
    said = {f["about"]: f for f in found if "before argv=" in f["problem"]}
    first, second = said["trouble, line 1"], said["lmtpd, line 2"]
    assert first["problem"] == (
        "-o smtp_tls_security_level=encrypt stands before argv="
    )
    assert first["consequence"] == (
        "it is pipe(8)'s, and the program never sees it: mail goes out without"
        " smtp_tls_security_level"
    )
    assert "spawn(8)'s" in second["consequence"]
    assert "canary" not in json.dumps(found)
    assert code == 78


def test_an_option_behind_an_attribute_is_no_option() -> None:
    found = entry(f"user=nobody -o x=y null_sender= {SOUND}")
    assert found.overrides == ()
    assert ("error", "pipe(8) has no attribute -o") in judged(found, ONE)


@pytest.mark.parametrize("directory", ["/no/such", "/dev/null"])
def test_a_directory_that_is_not_there(directory: str, tmp_path: Path) -> None:
    path = tmp_path / "master.cf"
    path.write_text(
        f"trouble unix - n n - 20 pipe directory={directory} {START}{SOUND}\n"
    )
    found, code = findings("--master-cf", str(path))
    said = [f["problem"] for f in found if f["severity"] == "error"]
    assert any(directory.partition("/such")[0] in text for text in said)
    assert code == 78


def test_chroot_of_the_entry() -> None:
    found = judged(entry(f"chroot=/var/jail {START}{SOUND}"), ONE)
    assert found == [("error", "chroot=/var/jail")]


@pytest.mark.parametrize("form", ["${}", "$()", "$"])
def test_macros_have_three_forms(form: str) -> None:
    arguments = SOUND
    for name in ("queue_id", "nexthop", "sender", "recipient"):
        text = f"${name}" if form == "$" else f"{form[:2]}{name}{form[2:]}"
        arguments = arguments.replace(f"${{{name}}}", text)
    assert judged(entry(START + arguments), KEPT)[0][0] == "ok"


def test_with_one_recipient_its_macros_may_stand_anywhere() -> None:
    each = entry(START + SOUND.replace("${nexthop}", "${domain}"))
    assert judged(each, ONE) == [("ok", "no mistakes in the entry")]
    assert judged(each, KEPT)[0] == ("error", "--nexthop ${domain}")


def test_quoted_addresses_need_the_flag() -> None:
    quoted = START + SOUND.replace("deliver", "deliver --quoted")
    assert ("error", "--quoted, and no flag q") in judged(entry(quoted), ONE)
    assert judged(entry("flags=q " + quoted), ONE)[0][0] == "ok"


def test_limits() -> None:
    sound = entry(START + SOUND)
    many = judged(sound, Circumstances())
    assert many[0][0] == "error"
    assert "there is no state directory" in many[0][1]
    assert judged(sound, Circumstances(recipient_limit=0))[0][0] == "error"
    late = judged(sound, ONE._replace(time_limit=900.0))
    assert late == [("error", "trouble_deadline is 900s, and pipe(8) waits 900s")]
    unlimited = entry(START + SOUND, "trouble unix - n n - - pipe")
    assert judged(unlimited, ONE)[0][0] == "warning"
    assert judged(unlimited, KEPT)[0][0] == "ok"
    one_each = entry(f"{START}flags=D {SOUND}")
    assert "flag D" in judged(one_each, KEPT)[0][1]
    assert judged(one_each, ONE)[0][0] == "ok"


# --- the command: configuration -----------------------------------------------------


def findings(*argv: str) -> tuple[list[dict[str, str]], int]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = cli_main.main(["check", "--json", "--no-dns", *argv])
    return json.loads(output.getvalue())["findings"], code


def about(found: list[dict[str, str]], name: str) -> dict[str, str]:
    (one,) = [f for f in found if f["about"] == name]
    return one


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
        ("soft_bounce = maybe", "soft_bounce", "error", "bad boolean configuration"),
        ("smtp_helo_timeout = 5x", "smtp_helo_timeout", "error", "bad time value"),
        ("lmtp_helo_timeout = 5x", "lmtp_helo_timeout", "warning", "unknown parameter"),
        ("lmtp_lhlo_timeout = 5x", "lmtp_lhlo_timeout", "note", "bad time value"),
        ("smtp_helo_tiemout = 5", "smtp_helo_tiemout", "warning", "unknown parameter"),
        ("smtp_tls_dcert_file = /x", "smtp_tls_dcert_file", "error", "not supported"),
        ("bounce_template_file = /x", "bounce_template_file", "note", "not supported"),
        (
            "smtp_tls_security_level = dane",
            "smtp_tls_security_level",
            "warning",
            "dane configured with dnssec lookups disabled",
        ),
        (
            "smtp_tls_security_level = dane-only",
            "smtp_tls_security_level",
            "error",
            "dane-only configured with dnssec lookups disabled",
        ),
        ("smtp_tls_security_level = may2", "smtp_tls_security_level", "error", "may2"),
        (
            "smtp_tls_security_level = verify",
            "smtp_tls_security_level",
            "error",
            "no authority to trust",
        ),
        (
            "smtp_sasl_auth_enable = yes",
            "smtp_sasl_auth_enable",
            "error",
            "smtp_sasl_password_maps is empty",
        ),
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
        ("smtp_tls_scert_verifydepth = x", "smtp_tls_scert_verifydepth", "note", "bad"),
        (
            "smtp_tls_policy_maps = inline:{{a = secure}}",
            "smtp_tls_policy_maps",
            "error",
            "no authority to trust",
        ),
        (
            "smtp_sasl_password_maps = inline:{{a = b:c}}",
            "smtp_sasl_password_maps",
            "note",
            "smtp_sasl_auth_enable is no",
        ),
        (
            "smtp_bind_address = mail.example.com",
            "smtp_bind_address",
            "error",
            "no address",
        ),
        (
            "trouble_give_up_age = 9d",
            "trouble_give_up_age",
            "warning",
            "longer than",
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


def test_dane_that_can_work_is_fine(config: Path) -> None:
    with config.open("a") as file:
        file.write("smtp_tls_security_level = dane\n")
        file.write("smtp_dns_support_level = dnssec\n")
    found, code = findings("--config", str(config))
    assert not [f for f in found if "dane" in f["problem"]]
    assert code == 0


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


# --- the command: master.cf ---------------------------------------------------------


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that every account can look into, which tmp_path is not."""
    path = tempfile.mkdtemp(prefix="postfix-trouble-")
    os.chmod(path, 0o755)
    yield Path(path)
    shutil.rmtree(path)


@pytest.fixture
def postfix(open_path: Path) -> Path:
    """A configuration directory, and a program that stands for the installed one."""
    program = open_path / "postfix-trouble"
    program.write_text(
        "#!/bin/sh\n"
        'case $1 in --version) echo "postfix-trouble 0.0"; exit ;; esac\n'
        'printf \'{"findings": [{"severity": "warning", "about": "seen as",\'\n'
        'seen="$(id -un) $(id -G) $(umask) ${HOME-no home}"\n'
        'printf \'"problem": "%s", "consequence": "", "remedy": ""}]}\' "$seen"\n'
    )
    program.chmod(0o755)
    (open_path / "main.cf").write_text("trouble_destination_recipient_limit = 1\n")
    sound = SOUND.replace("deliver", "deliver --log-file /dev/null")
    text = f"trouble unix - n n - 20 pipe\n  {START}{sound}\n"
    master = open_path / "master.cf"
    master.write_text(text.replace("/usr/bin/postfix-trouble", str(program)))
    return open_path


def looked(postfix: Path) -> tuple[list[dict[str, str]], int]:
    return findings("--master-cf", str(postfix / "master.cf"))


@needs.as_root
def test_root_tries_it_as_the_account(postfix: Path) -> None:
    found, code = looked(postfix)
    assert [(f["severity"], f["problem"]) for f in found] == [
        ("ok", "no mistakes in the entry"),
        ("ok", "the program runs as nobody (postfix-trouble 0.0)"),
        ("warning", f"nobody {_nobody()[1]} 0077 no home"),
    ]
    assert found[-1]["about"] == "trouble, line 1, as nobody: seen as"
    assert code == 0


@needs.as_root
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "does not exist"),
        ("#!/no/such/interpreter\n", "No such file or directory"),
        ("#!/bin/sh\necho hello\n", "hello"),
        ("#!/bin/sh\nexit 75\n", "ends with 75: no output"),
    ],
)
def test_a_program_that_does_not_run(
    postfix: Path, text: str | None, problem: str
) -> None:
    program = postfix / "postfix-trouble"
    if text is None:
        program.unlink()
    else:
        program.write_text(text)
    found, code = looked(postfix)
    assert code == 78
    assert problem in found[-1]["problem"]


@needs.as_root
@pytest.mark.parametrize(
    ("user", "problem"),
    [
        ("no-such-user", "there is no user no-such-user"),
        ("nobody:no-such-group", "there is no group no-such-group"),
        ("root", "user= has root privileges"),
        ("nobody:root", "user= has root privileges"),
        ("daemon", "user= is an account of Postfix itself"),
        ("nobody:daemon", "user= is an account of Postfix itself"),
        ("nobody:bin", "user= is an account of Postfix itself"),
    ],
)
def test_accounts_that_pipe_does_not_become(
    postfix: Path, user: str, problem: str
) -> None:
    master = postfix / "master.cf"
    master.write_text(master.read_text().replace("user=nobody", f"user={user}"))
    with (postfix / "main.cf").open("a") as file:
        file.write("mail_owner = daemon\nsetgid_group = bin\n")
    found, code = looked(postfix)
    assert (found[-1]["problem"], code) == (problem, 78)


@needs.as_root
def test_an_account_that_does_not_exist(postfix: Path) -> None:
    master = postfix / "master.cf"
    text = master.read_text().replace("user=nobody", "user=no-such-user")
    master.write_text(text.replace("deliver", "deliver --state-directory /srv/x"))
    assert looked(postfix)[0][-1]["remedy"] == (
        "adduser --system --group --no-create-home --home /srv/x no-such-user"
    )


def test_a_wrong_path_and_the_right_one(
    postfix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{postfix}:/bin")
    master = postfix / "master.cf"
    text = master.read_text()
    master.write_text(text.replace(f"argv={postfix}", "argv=/opt/no-such-place"))
    found, code = looked(postfix)
    said = found[-1]
    assert said["problem"] == "argv=/opt/no-such-place/postfix-trouble does not exist"
    assert said["remedy"] == f"write {postfix}/postfix-trouble there"
    assert code == 78


def test_where_nobody_takes_log_records(postfix: Path) -> None:
    master = postfix / "master.cf"
    master.write_text(master.read_text().replace(" --log-file /dev/null", ""))
    said = [f for f in looked(postfix)[0] if f["about"] == "syslog"]
    assert bool(said) is not os.path.exists("/dev/log")
    for each in said:
        assert "records are lost" in each["consequence"]
        assert "install -o nobody -m 640 /dev/null" in each["remedy"]
        assert f"postconf -c {postfix} -e 'trouble_log_file = " in each["remedy"]


@pytest.fixture
def installed(program: str, open_path: Path) -> Path:
    """A configuration directory with two entries, for the installed program."""
    needs.open_to_others(program)
    (open_path / "main.cf").write_text(
        "myhostname = mail.example.org\ncompatibility_level = 3.6\n"
        "sendmail_path = /bin/true\ntrouble_log_file = /dev/null\n"
    )
    (open_path / "state").mkdir(mode=0o700)
    argv = SOUND.replace("/usr/bin/postfix-trouble", program).replace(
        "deliver",
        f"deliver --config {open_path}/main.cf --state-directory {open_path}/state",
    )
    (open_path / "master.cf").write_text(
        f"one unix - n n - 20 pipe\n  {START}{argv}\n"
        f"two unix - n n - 20 pipe\n  {START}{argv}\n"
    )
    return open_path


@needs.as_root
def test_a_state_directory_of_another_account(installed: Path) -> None:
    state = installed / "state"
    found, code = looked(installed)
    (said,) = [f for f in found if f["severity"] == "error"]
    assert said == {
        "severity": "error",
        "about": "one, line 1, as nobody; two, line 3, as nobody:"
        f" state directory {state}",
        "problem": f"{state} is root:root's, mode 0700, not nobody's",
        "consequence": "requests with several recipients are deferred, dead servers"
        " tried each time",
        "remedy": f"chown nobody {state}",
    }
    assert code == 78
    (state / "state-1.sqlite").touch()
    os.system(said["remedy"])
    (said,) = [f for f in looked(installed)[0] if f["severity"] == "error"]
    assert said["remedy"] == f"chown -R nobody {state}"
    (state / "state-1.sqlite").unlink()
    assert looked(installed)[1] == 0
    shutil.rmtree(state)
    state.touch()
    (said,) = [f for f in looked(installed)[0] if f["severity"] == "error"]
    assert said["problem"] == f"{state} is not a directory"
    state.unlink()
    (said,) = [f for f in looked(installed)[0] if f["severity"] == "error"]
    assert said["remedy"] == f"install -d -o nobody -g nogroup -m 700 {state}"
    os.system(said["remedy"])
    assert looked(installed)[1] == 0


@needs.as_root
def test_what_the_account_can_not_read(installed: Path) -> None:
    os.chown(installed / "state", *_nobody())
    config = installed / "main.cf"
    config.chmod(0o600)
    found, code = looked(installed)
    (said,) = [f for f in found if f["severity"] == "error"]
    assert said["problem"] == f"{config} is root:root's, mode 0600, closed to nobody"
    assert said["consequence"] == "all mail is deferred (4.3.5)"
    assert said["remedy"] == f"chgrp nogroup {config}; chmod g+r {config}"
    assert code == 78
    os.system(said["remedy"])
    assert looked(installed)[1] == 0
    # A directory above it.
    inner = installed / "inner"
    inner.mkdir(mode=0o700)
    config.rename(inner / "main.cf")
    config.symlink_to(inner / "main.cf")
    (said,) = [f for f in looked(installed)[0] if f["severity"] == "error"]
    assert said["remedy"] == f"chmod a+x {inner}"


@needs.as_root
def test_somebody_else_is_told_what_owners_and_modes_say(
    program: str, installed: Path
) -> None:
    (installed / "main.cf").chmod(0o600)
    argv = [program, "check", "--json", "--no-dns"]
    argv += ["--master-cf", str(installed / "master.cf")]
    done = subprocess.run(
        argv, capture_output=True, user="daemon", group="daemon", extra_groups=[],
        cwd="/", check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)["findings"]
    assert {f["remedy"] for f in found if f["severity"] == "error"} >= {
        f"chgrp nogroup {installed}/main.cf; chmod g+r {installed}/main.cf",
        f"chown nobody {installed}/state",
    }
    assert any("run check as root" in f["problem"] for f in found)


def test_postconf_says_where_the_files_are(
    postfix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = postfix / "postconf"
    script.write_text(
        f'#!/bin/sh\n[ "$*" = "-d -h config_directory" ] && echo {postfix}\n'
    )
    script.chmod(0o755)
    monkeypatch.delenv("MAIL_CONFIG", raising=False)
    monkeypatch.setenv("PATH", f"{postfix}:/usr/bin:/bin")
    with (postfix / "main.cf").open("a") as file:
        file.write("smtp_helo_tiemout = 5\n")
    found = findings()[0]
    assert about(found, "smtp_helo_tiemout")["severity"] == "warning"
    assert any(f["about"].startswith("trouble, line 1") for f in found)


@needs.as_root
def test_what_all_entries_have_is_told_once(installed: Path) -> None:
    os.chown(installed / "state", *_nobody())
    config = installed / "main.cf"
    config.write_text(f"{config.read_text()}smtp_helo_tiemout = 5\n")
    argv = ("--master-cf", str(installed / "master.cf"))
    found = [f for f in findings(*argv)[0] if f["severity"] == "warning"]
    assert [f["about"] for f in found] == [
        "one, line 1, as nobody; two, line 3, as nobody: smtp_helo_tiemout"
    ]
    found = [
        f
        for f in findings("--config", str(config), *argv)[0]
        if f["severity"] == "warning"
    ]
    assert [f["about"] for f in found] == ["smtp_helo_tiemout"]


def test_limits_come_from_main_cf(postfix: Path) -> None:
    (postfix / "main.cf").write_text(
        "default_destination_recipient_limit = 7\ntrouble_time_limit = 15m\n"
    )
    found, code = looked(postfix)
    problems = [f["problem"] for f in found if f["severity"] == "error"]
    assert code == 78
    assert any("recipient_limit is 7" in problem for problem in problems)
    assert "trouble_deadline is 900s, and pipe(8) waits 900s" in problems
    master = postfix / "master.cf"
    text = master.read_text()
    master.write_text(text.replace("user=", "-o trouble_time_limit=2h user="))
    assert not any("trouble_deadline" in f["problem"] for f in looked(postfix)[0])


def test_an_entry_of_another_program(postfix: Path) -> None:
    master = postfix / "master.cf"
    master.write_text("other unix - n n - - pipe\n  user=x argv=/bin/other\n")
    found, code = looked(postfix)
    assert code == 0
    assert found[0]["problem"] == "no entry runs postfix-trouble"


@needs.as_root
def test_the_example_is_sound(program: str, open_path: Path) -> None:
    """The recipes of master.cf.example, with the installed program, tried as root."""
    needs.open_to_others(program)
    text = (ROOT / "master.cf.example").read_text()
    text = text.replace("/usr/local/bin/postfix-trouble", program)
    text = text.replace("/etc/postfix/main.cf", str(open_path / "main.cf"))
    text = text.replace("user=trouble", "user=nobody")
    state = open_path / "state"
    text = text.replace("/var/lib/postfix-trouble", str(state))
    state.mkdir(0o700)
    os.chown(state, *_nobody())
    (open_path / "master.cf").write_text(text)
    (open_path / "main.cf").write_text(
        "trouble_destination_recipient_limit = 1\nmyhostname = mail.example.org\n"
        "sendmail_path = /bin/true\ntrouble_log_file = /dev/null\n"
    )
    found, code = findings("--master-cf", str(open_path / "master.cf"))
    assert [f for f in found if f["severity"] != "ok"] == []
    assert (code, len(found)) == (0, 6)


def _nobody() -> tuple[int, int]:
    import pwd

    account = pwd.getpwnam("nobody")
    return account.pw_uid, account.pw_gid


def test_permissions_without_trying(open_path: Path) -> None:
    file = open_path / "file"
    file.write_text("x")
    if os.geteuid() == 0:
        # Root may do everything, and that is not the question.
        os.chown(file, 4243, 4244)
    other = Account("other", 4242, 4242)
    for mode, readable in ((0o644, True), (0o640, False), (0o600, False)):
        file.chmod(mode)
        assert (not refusing(str(file), other, READ)) is readable
    file.chmod(0o040)
    mine = os.stat(file)
    assert not refusing(str(file), Account("group", 4242, mine.st_gid), READ)
    assert refusing(str(file), Account("owner", mine.st_uid, 4242), READ)
    file.chmod(0o644)
    open_path.chmod(0o700)
    assert refusing(str(file), other, READ)
    assert refusing("/no/such/file", other, READ)


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
