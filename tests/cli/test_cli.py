"""The program as a person meets it: help, mistakes, colours, pipes, completion."""

from __future__ import annotations

import functools
import os
import pty
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pseudo_terminal import COLOUR, assert_golden, piped, run, widest

from postfix_trouble import __version__
from postfix_trouble.cli.meant import COMMANDS
from postfix_trouble.pipe.options import LMTP_OPTIONS, OPTIONS
from postfix_trouble.terminal.help_text import continued

ROOT = Path(__file__).parent.parent.parent
COMPLETION = ROOT / "share/completion"
NAMES = [name for name, _, _ in COMMANDS]
every_width = pytest.mark.parametrize("columns", [80, 40])


# --- help ---------------------------------------------------------------------------


@every_width
def test_help(columns: int) -> None:
    screen = run("--help", columns=columns)
    assert screen.code == 0
    assert widest(screen.plain.splitlines()) <= columns
    assert_golden(f"cli-{columns}", screen.plain)
    assert run("-h", columns=columns) == screen
    assert run("help", columns=columns) == screen


@pytest.mark.parametrize("name", NAMES)
@every_width
def test_help_of_each_command(name: str, columns: int) -> None:
    screen = run("help", name, columns=columns)
    assert screen.code == 0
    assert widest(screen.plain.splitlines()) <= columns
    assert f"Usage: postfix-trouble {name}" in screen.plain
    assert "\nExamples:\n" in screen.plain
    assert run(name, "--help", columns=columns) == screen


@pytest.mark.parametrize(
    ("name", "table"), [("deliver", OPTIONS), ("lmtp", LMTP_OPTIONS)]
)
def test_help_has_every_option_of_the_table(
    name: str, table: tuple[object, ...]
) -> None:
    shown = run("help", name).plain
    for option in table:
        assert f"  {option.name}" in shown  # type: ignore[attr-defined]


def test_version() -> None:
    assert run("--version").text == f"postfix-trouble {__version__}\n"


def test_help_loads_no_command() -> None:
    code = (
        "import sys; from postfix_trouble.cli.main import main; main(['--help']);"
        "print([n for n in sys.modules if n.startswith('postfix_trouble.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.splitlines()[-1]
    for name in ("simulate.command", "check.command", "cli.send", "cli.probe"):
        assert f"'postfix_trouble.{name}'" not in loaded


@pytest.mark.usefixtures("unmeasured")
def test_explain_loads_no_network() -> None:
    code = (
        "import sys; from postfix_trouble.cli.main import main;"
        "main(['explain', '450 x']); print(sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.splitlines()[-1]
    for name in ("sqlite3", "dns", "smtplib", "ssl", "email_validator", "asyncio"):
        assert f"'{name}'" not in loaded


def test_broken_lines_of_examples_are_for_a_shell() -> None:
    line = "printf '%s\n' one 'two words' --three=four"
    broken = continued(line, 20)
    assert "\\\n" in broken
    results = {
        subprocess.run(
            ["sh", "-c", text], capture_output=True, text=True, check=True
        ).stdout
        for text in (line, broken)
    }
    assert results == {"one\ntwo words\n--three=four\n"}


# --- mistakes -----------------------------------------------------------------------


NO_COMMAND = [
    ([], "no command given: one of send, probe, explain"),
    (["expalin"], "no such command: expalin; did you mean explain?"),
    (["sned", "--to", "you@example.com"], "did you mean send?"),
    (["zzz"], "no such command: zzz; one of send, probe, explain"),
    (["you@example.com"], "did you mean send you@example.com?"),
    (["--nexthop", "x", "--", "r@x"], "did you mean deliver --nexthop?"),
    (["--json", "probe", "x"], "did you mean probe --json?"),
    (["--json"], "--json before the command; did you mean deliver --json?"),
    (["help", "sned"], "no such command: sned; did you mean send?"),
    (["-v"], "-v before the command; did you mean deliver -v?"),
]


@pytest.mark.parametrize(("argv", "words"), NO_COMMAND, ids=str)
def test_no_such_command(argv: list[str], words: str) -> None:
    screen = run(*argv)
    assert words in " ".join(screen.plain.split())
    assert "Try 'postfix-trouble --help'" in screen.plain
    assert "Traceback" not in screen.plain
    assert screen.code == 64


@pytest.mark.parametrize(("argv", "words"), NO_COMMAND, ids=str)
def test_without_a_terminal_it_may_stand_in_master_cf(
    argv: list[str], words: str
) -> None:
    """Nothing that bounces; and for pipe(8) one line, with the same hint."""
    done = piped(*argv)
    assert done.returncode == 75
    assert done.stdout.startswith("4.3.5 command line usage error: ")
    assert words in done.stdout
    assert "\n" not in done.stdout


@pytest.mark.parametrize("name", ["explain", "check", "send", "probe"])
def test_wrong_options(name: str) -> None:
    done = piped(name, "--bogus")
    assert done.returncode == 64
    assert done.stdout == ""
    assert f"postfix-trouble {name}: " in done.stderr
    assert f"Try 'postfix-trouble {name} --help'" in done.stderr


def test_option_without_its_value_is_of_the_command() -> None:
    done = piped("send", "you@example.com", "--from")
    assert done.returncode == 64
    assert "postfix-trouble send: Option '--from' requires" in done.stderr
    assert "Try 'postfix-trouble send --help'" in done.stderr


# --- colours and pipes --------------------------------------------------------------

ASKED = ("explain", "450 4.7.1 Greylisted")


def test_colours_on_a_terminal() -> None:
    assert COLOUR.search(run(*ASKED).text)


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_they_are_not_wanted(environ: dict[str, str]) -> None:
    assert not COLOUR.search(run(*ASKED, environ=environ).text)


def test_no_colours_without_a_terminal() -> None:
    assert not COLOUR.search(piped(*ASKED).stdout)


@pytest.mark.parametrize(
    "argv",
    [
        ["explain", "450 4.7.1 wait"],
        ["check", "--show"],
        ["check", "--no-dns", "--config", "/no/such/file"],
        ["--help"],
    ],
)
def test_a_reader_that_has_gone(argv: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "postfix_trouble", *argv],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    wrong = "/no/such/file" in argv
    assert (done.returncode, done.stderr) == (78 if wrong else 0, b"")


def test_no_room_for_what_is_printed() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "postfix_trouble", *ASKED],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    said = b"postfix-trouble: standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (0, said)


def test_an_encoding_that_can_not_show_everything() -> None:
    done = piped(
        *ASKED[:1], "450 gr\u00fc\u00df", environ={"PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0
    assert "450 gr??" in done.stdout


# --- what is made from the code -----------------------------------------------------


@functools.cache
def generated() -> dict[str, str]:
    found = runpy.run_path(str(ROOT / "docs/generate.py"))
    return {str(path.relative_to(ROOT)): text for path, text in found["files"]()}


@pytest.mark.parametrize(
    "name",
    [
        "docs/policy.md",
        "docs/policy.svg",
    ],
)
def test_files_are_up_to_date(name: str) -> None:
    same = (ROOT / name).read_text() == generated()[name]
    assert same, "run: python docs/generate.py"


# --- completion ---------------------------------------------------------------------


def completed(*words: str) -> list[str]:
    """What bash offers for the last of the words, in a shell on a terminal."""
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));'
        ' compopt() { printf "(%s)\\n" "$2"; }; _postfix_trouble_completion "$1";'
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            ["bash", "-c", script, "bash", str(COMPLETION / "postfix-trouble"), *words],
            stdin=theirs,
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ex"], ["explain"]),
        (["he"], ["help"]),
        (["--v"], ["--version"]),
        (["explain", "--sta"], ["--stage"]),
        (["explain", "--stage", "d"], ["data", "dot"]),
        (["deliver", "--ret", ""], ["full", "hdrs"]),
        (["deliver", "-o", "soft_b"], ["soft_bounce="]),
        (["send", "-o", "soft_b"], ["soft_bounce="]),
        (["check", "--show", "--show-c"], ["--show-changed"]),
        (["lmtp", "--li"], ["--listen"]),
        (["explain", "45"], []),
        (["deliver", "--sender", ""], []),
        (["send", "--message", "/et"], ["(default)"]),
    ],
)
def test_bash_completion(words: list[str], offered: list[str]) -> None:
    assert completed("postfix-trouble", *words) == offered


def test_bash_completes_commands() -> None:
    assert completed("postfix-trouble", "") == [*NAMES, "help"]


def test_environment_of_completion_is_nothing_for_pipe8() -> None:
    done = piped(environ={"_POSTFIX_TROUBLE_COMPLETE": "bash_source"})
    assert (done.returncode, done.stdout[:6]) == (75, "4.3.5 ")


@pytest.mark.parametrize(
    ("shell", "file"), [("zsh", "_postfix-trouble"), ("fish", "postfix-trouble.fish")]
)
def test_other_shells_are_given_what_click_has(shell: str, file: str) -> None:
    line = f"_POSTFIX_TROUBLE_COMPLETE={shell}_source postfix-trouble"
    assert line in (COMPLETION / file).read_text()
    screen = run(environ={"_POSTFIX_TROUBLE_COMPLETE": f"{shell}_source"})
    assert screen.code == 0
    assert "postfix-trouble" in screen.plain
    if shutil.which(shell):
        argv = [shell, "-n", str(COMPLETION / file)]
        done = subprocess.run(argv, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
