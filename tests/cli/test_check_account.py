"""check tries what master.cf says as the account that will run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from checking import SOUND, START, about, findings

import needs
from postfix_trouble.check.account import READ, Account, refusing

ROOT = Path(__file__).parent.parent.parent


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
