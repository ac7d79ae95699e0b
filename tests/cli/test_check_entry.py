"""An entry of master.cf as it is written: what is read, and what check says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checking import SOUND, START, findings
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.check.argv import Line
from postfix_trouble.check.entry import Circumstances, judge
from postfix_trouble.config import master_cf
from postfix_trouble.config.types import ConfigError
from postfix_trouble.pipe import options

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


@pytest.mark.parametrize("now", [ONE, KEPT])
def test_sound_entries(now: Circumstances) -> None:
    found = judged(entry(START + SOUND), now)
    assert found == [("ok", "no mistakes in the entry")]


# What becomes of each mistake is in tests/check/test_pipe_entry.py; here, that an entry
# as it is written comes to that.
@pytest.mark.parametrize(
    ("arguments", "severity", "problem"),
    [
        (f"user=nobody {SOUND}", "error", "null_sender= is missing"),
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
            START + SOUND.replace(" -- ${recipient}", ""),
            "error",
            "recipients are given as nothing, not as ${recipient} alone",
        ),
        (
            START + SOUND.replace("-- ${recipient}", "${recipient}"),
            "error",
            "there is no -- before ${recipient}",
        ),
        (
            START + SOUND.replace("--sender ${sender}", ""),
            "error",
            "--sender is missing",
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
    ],
)
def test_mistakes(arguments: str, severity: str, problem: str) -> None:
    assert (severity, problem) in judged(entry(arguments), ONE)


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
