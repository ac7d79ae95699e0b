"""check looks at an LMTP server in master.cf: who waits for whom, and for how long."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from checking import findings

import needs

ROOT = Path(__file__).parent.parent.parent
LOG = "trouble_log_file = /dev/null\n"
MAIN = f"trouble-lmtpd_time_limit = 3600s\n{LOG}"


def recipe() -> str:
    """The third one of master.cf.example, with a program that is there."""
    text = (ROOT / "master.cf.example").read_text()
    lines = text[text.index("#trouble-lmtpd ") :].splitlines()
    return "\n".join(line.removeprefix("#") for line in lines) + "\n"


@pytest.fixture
def postfix(open_path: Path) -> Path:
    program = open_path / "postfix-trouble"
    program.write_text(
        "#!/bin/sh\n"
        'case $1 in --version) echo "postfix-trouble 0.0";;\n'
        "*) echo '{\"findings\": []}';; esac\n"
    )
    program.chmod(0o755)
    text = recipe().replace("/usr/local/bin/postfix-trouble", str(program))
    text = text.replace("user=trouble", "user=nobody")
    text = text.replace("/etc/postfix/main.cf", str(open_path / "main.cf"))
    (open_path / "master.cf").write_text(text)
    (open_path / "main.cf").write_text(MAIN)
    return open_path


def looked(
    postfix: Path, *changes: tuple[str, str], main: str = MAIN
) -> list[tuple[str, str, str]]:
    """What is found but for what is in order, after changes of master.cf."""
    master = postfix / "master.cf"
    text = master.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    master.write_text(text)
    (postfix / "main.cf").write_text(main if LOG in main else main + LOG)
    found, code = findings("--master-cf", str(master))
    assert (code == 78) == any(f["severity"] == "error" for f in found)
    return [
        (f["severity"], f["about"].partition(",")[0], f["problem"])
        for f in found
        if f["severity"] in ("error", "warning")
    ]


@needs.as_root
def test_the_recipe_is_sound(postfix: Path) -> None:
    found, code = findings("--master-cf", str(postfix / "master.cf"))
    assert code == 0
    assert [f["severity"] for f in found] == ["ok"] * 3
    assert found[0]["problem"] == "no mistakes in the entry"
    assert found[1]["problem"] == "the program runs as nobody (postfix-trouble 0.0)"


@needs.as_root
@pytest.mark.parametrize(
    "main",
    [
        # Its default is enough for lmtp(8)'s.
        "",
        "command_time_limit = 871s\n",
        MAIN + "lmtp_data_done_timeout = 571s\n",
        MAIN + "trouble-lmtp_destination_recipient_limit = 2\n",
        # Of another transport.
        MAIN + "lmtp_destination_recipient_limit = 1\n",
    ],
)
def test_times_in_order(postfix: Path, main: str) -> None:
    assert looked(postfix, main=main) == []


@needs.as_root
@pytest.mark.parametrize(
    ("main", "change", "where", "problem"),
    [
        (
            "command_time_limit = 860s\n",
            ("", ""),
            "trouble-lmtpd",
            "spawn(8) ends a connection after 860s; lmtp(8) uses it for 300s, and the"
            " last message may take 540s more",
        ),
        (
            "lmtp_connection_reuse_time_limit = 1h\ntrouble-lmtpd_time_limit = 1h\n",
            ("", ""),
            "trouble-lmtpd",
            "spawn(8) ends a connection after 3600s; lmtp(8) uses it for 3600s, and the"
            " last message may take 540s more",
        ),
        (
            MAIN + "lmtp_data_done_timeout = 300s\n",
            ("", ""),
            "trouble-lmtp",
            "lmtp_data_done_timeout is 300s, and a message may take 540s",
        ),
        (
            MAIN,
            (" lmtp\n", " lmtp -o lmtp_data_done_timeout=200\n"),
            "trouble-lmtp",
            "lmtp_data_done_timeout is 200s, and a message may take 540s",
        ),
    ],
)
def test_times_that_make_duplicates(
    postfix: Path, main: str, change: tuple[str, str], where: str, problem: str
) -> None:
    assert looked(postfix, change, main=main) == [("error", where, problem)]


@needs.as_root
def test_a_shorter_deadline_of_ours(postfix: Path) -> None:
    shorter = (" lmtp\n  --config", " lmtp -o trouble_deadline=200s\n  --config")
    main = MAIN + "lmtp_data_done_timeout = 300s\n"
    assert looked(postfix, shorter, main=main) == []


@needs.as_root
@pytest.mark.parametrize(
    ("change", "severity", "problem"),
    [
        # Columns and the other attributes: tests/check/test_lmtp_entry.py.
        (("user=nobody", "user=nobody flags=R"), "error",
         "spawn(8) has no attribute flags"),
        (("user=nobody", "user=root"), "error", "user= has root privileges"),
        ((" lmtp\n  --config", " lmtp --bogus\n  --config"), "error",
         "no such option: --bogus"),
        ((" lmtp\n  --config", " lmtp --listen=inet:24\n  --config"), "error",
         "--listen: spawn(8) has the connection already"),
        ((" lmtp\n  --config", " deliver\n  --config"), "error",
         "argv runs postfix-trouble deliver, not lmtp"),
        (("20      lmtp", "30      lmtp"), "warning",
         "maxproc is 30, that of trouble-lmtpd 20"),
    ],
)  # fmt: skip
def test_mistakes(
    postfix: Path, change: tuple[str, str], severity: str, problem: str
) -> None:
    assert (severity, problem) in [(a, c) for a, _, c in looked(postfix, change)]


@needs.as_root
def test_one_recipient_at_a_time(postfix: Path) -> None:
    limit = "trouble-lmtp_destination_recipient_limit"
    found = looked(postfix, main=f"{MAIN}{limit} = 1\n")
    assert found == [("warning", "trouble-lmtp", f"{limit} is 1")]


@needs.as_root
def test_a_relayhost_takes_all_mail(postfix: Path) -> None:
    relay = f"{MAIN}relayhost = [mail.example.org]:587\n"
    said = ("warning", "trouble-lmtpd", "relayhost is [mail.example.org]:587")
    assert looked(postfix, main=relay) == [said]
    own = (" lmtp\n  --config", " lmtp -o relayhost=\n  --config")
    assert looked(postfix, own, main=relay) == []


def test_the_recipe_and_the_page_agree() -> None:
    page = (ROOT / "docs/lmtp-server.md").read_text()

    def words(text: str) -> list[str]:
        return re.sub(r"\s+", " ", text).split()

    assert " ".join(words(recipe())) in " ".join(words(page))
