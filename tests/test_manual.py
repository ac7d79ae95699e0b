"""The papers say what the program does: manual pages, README, master.cf.example."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import needs
from postfix_trouble.check import entry as check_entry
from postfix_trouble.check.argv import Line
from postfix_trouble.check.findings import Severity
from postfix_trouble.cli.meant import COMMANDS
from postfix_trouble.config import master_cf
from postfix_trouble.config.parameters import supported
from postfix_trouble.pipe import options
from postfix_trouble.pipe.options import LMTP_OPTIONS, OPTIONS, SERVE_OPTIONS
from postfix_trouble.report import pipe8

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import manual  # noqa: E402

PAPERS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
every_page = pytest.mark.parametrize("name", manual.PAGES)
every_paper = pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.name)


# --- manual pages


@every_page
def test_made_parts_are_up_to_date(name: str) -> None:
    page = (ROOT / name).read_text()
    assert page == manual.updated(page), "run `make man`"


def test_every_part_is_in_a_page() -> None:
    pages = "".join((ROOT / name).read_text() for name in manual.PAGES)
    found = set(re.findall(r'(?m)^\.\\" made: (\w+)$', pages))
    assert found == set(manual.PARTS)


@every_page
def test_no_complaints(name: str) -> None:
    command = [needs.tool("mandoc"), "-T", "lint", "-W", "warning", str(ROOT / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == ""


def section(page: str, title: str) -> str:
    """A section of a manual page, as it is read: without macros."""
    text = (ROOT / page).read_text()
    body = text.partition(f"\n.Sh {title}\n")[2].partition("\n.Sh ")[0]
    assert body, title
    return body.replace(r"\-", "-")


@pytest.mark.parametrize(
    ("title", "table"),
    [
        ("OPTIONS OF DELIVER", OPTIONS),
        ("THE LMTP SERVER", LMTP_OPTIONS),
        ("THE ENGINE", SERVE_OPTIONS),
    ],
    ids=["deliver", "lmtp", "serve"],
)
def test_options_of_postfix(title: str, table: tuple[options.Option, ...]) -> None:
    body = section("man/postfix-trouble.8", title)
    for option in table:
        double = option.name.startswith("--")
        flag = f"Fl Fl {option.name[2:]}" if double else f"Fl {option.name[1:]}"
        assert re.search(rf"(?m)^\.It {re.escape(flag)}( Ar |$)", body), option.name


BY_HAND = [name for name, module, _ in COMMANDS if module != "cli.pipe_commands"]


@pytest.mark.parametrize("name", BY_HAND)
def test_options_by_hand(name: str) -> None:
    from click.testing import CliRunner

    from postfix_trouble.cli.command_group import group

    shown = CliRunner().invoke(group, [name, "--help"]).output
    body = section("man/postfix-trouble.1", name.upper())
    wanted = set(re.findall(r"(?m)^  (?:-\w, )?--([\w-]+)", shown)) - {"help"}
    assert wanted
    assert wanted == set(re.findall(r"Fl Fl ([\w-]+)(?: Ar .*)?$", body, re.MULTILINE))


def test_every_parameter_is_listed_once() -> None:
    body = section("man/postfix-trouble.8", "PARAMETERS")
    listed = re.findall(r"(?m)^\.It Sy (\w+)$", body)
    assert listed == [name for _, name, _, _ in supported()]


# Read by a name that is put together, or when another one is expanded.
READ_IN_PARTS = {
    f"smtp_tls_{word}"
    for word in (
        "protocols",
        "mandatory_protocols",
        "ciphers",
        "mandatory_ciphers",
        "secure_cert_match",
        "verify_cert_match",
    )
}


def mentioned() -> set[str]:
    """All strings of the program, but for those of the table of parameters."""
    found: set[str] = set()
    for path in (ROOT / "postfix_trouble").rglob("*.py"):
        if path.name.startswith("rows_") or path.name == "parameters.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_what_is_honoured_is_read_somewhere() -> None:
    """A parameter that nobody looks at must be said to have no effect."""
    rows = {name: row for _, name, _, row in supported() if not row.unsupported}
    expanded = {
        name
        for name, (meaning, _) in manual.meanings().items()
        if re.search(r"expansions|default of the next|old name", meaning)
    }
    # There is only one kind of it.
    expanded.add("smtp_sasl_type")
    unread = set(rows) - mentioned() - READ_IN_PARTS - expanded
    assert unread == set()


# --- README, docs


@every_paper
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    files = [link.partition("#")[0] for link in links if "://" not in link]
    missing = [name for name in files if name and not (path.parent / name).exists()]
    assert missing == []


PACKAGE = ROOT / "postfix_trouble"
FOLDERS = {path.name for place in (ROOT, PACKAGE) for path in place.iterdir()}


def is_there(name: str) -> bool:
    places = (ROOT / name, PACKAGE / name, PACKAGE / f"{name}.py")
    return any(place.exists() for place in places)


@every_paper
def test_modules_exist(path: Path) -> None:
    """Files that are named as code, from the root or from the package."""
    named = re.findall(r"`((\w+)/[\w/]*(?:\.\w+)?)[`:]", path.read_text())
    ours = {name for name, folder in named if folder in FOLDERS}
    assert {name for name in ours if not is_there(name)} == set()


@every_paper
def test_commands_exist(path: Path) -> None:
    """In examples, and where they stand in the text as code."""
    known = {name for name, _, _ in COMMANDS} | {"help", "--version", "--help"}
    text = path.read_text()
    named = re.findall(r"(?m)(?:`|^ {4,}\S*|\| )postfix-trouble ([a-z-]+)", text)
    assert set(named) <= known


@every_paper
def test_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    named = re.findall(r"(?m)(?:`|^ {4})make ([a-z-]+)", path.read_text())
    assert set(named) <= targets


def in_a_table(path: str) -> dict[str, int]:
    """Status and exit code, of a table in a paper."""
    text = (ROOT / path).read_text()
    return {
        status: int(code)
        for code, words in re.findall(r"(?m)^\| (\d+) \| (.*?) \|", text)
        for status in re.findall(r"`([45]\.[\dxy.]+)`", words)
    }


def in_the_manual() -> dict[str, int]:
    found = {"4.x.y": 75, "5.x.y": 69}
    for item in section("man/postfix-trouble.8", "EXIT STATUS").split("\n.It ")[1:]:
        code = int(item.split()[0])
        found |= dict.fromkeys(re.findall(r"5\.\d\.[\dx]", item), code)
    return found


@pytest.mark.parametrize("place", ["docs/contract.md", "the manual"])
def test_exit_codes(place: str) -> None:
    """They are those of the program, for class 4 and for all of class 5."""
    shown = in_the_manual() if place == "the manual" else in_a_table(place)
    other = shown.pop("5.x.y")
    assert shown.pop("4.x.y") == pipe8.exit_code("4.7.1") == 75
    for subject in range(10):
        for detail in range(80):
            status = f"5.{subject}.{detail}"
            wanted = shown.get(status, shown.get(f"5.{subject}.x", other))
            assert pipe8.exit_code(status) == wanted, status


# --- master.cf.example

# pipe(8) of Postfix 3.7: an unknown one defers all mail.
MACROS = {
    "queue_id",
    "size",
    "nexthop",
    "sender",
    "recipient",
}


EXAMPLE = (ROOT / "master.cf.example").read_text()
ENTRIES = [master_cf.pipe_entry(e) for e in master_cf.parse(EXAMPLE, "example")]
every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.service.name)


def test_two_entries() -> None:
    assert [entry.service.name for entry in ENTRIES] == ["trouble", "troubles"]


@every_entry
def test_entry_of_master_cf(entry: master_cf.PipeEntry) -> None:
    assert not entry.unknown
    assert (entry.null_sender, entry.flags) == ("", "")
    assert entry.user
    program, command, *words = entry.argv
    assert (Path(program).name, command) == ("postfix-trouble", "deliver")
    assert set(re.findall(r"\$\{(\w+)\}", " ".join(words))) <= MACROS
    line = options.read(words)
    assert line.recipients == ["${recipient}"]
    assert line.value("--nexthop") == "${nexthop}"
    assert line.value("--sender") == "${sender}"
    assert words[-2] == "--"


@every_entry
def test_check_has_nothing_to_say(entry: master_cf.PipeEntry) -> None:
    line = options.read(list(entry.argv[2:]))
    state = line.value("--state-directory")
    limit = 50 if state else 1
    found = check_entry.judge(
        entry,
        Line(line.values, tuple(line.recipients)),
        check_entry.Circumstances(recipient_limit=limit, state_directory=state),
    )
    assert [finding.severity for finding in found] == [Severity.OK]


ONE_RESULT = (
    "pipe(8) logs one result for all recipients of a request: who is refused while"
    " others are not is logged as sent, with the text 1 sent, 1 bounced (5.1.1): see"
    " postfix-trouble[581]. The records of postfix-trouble have each recipient with its"
    " own status."
)


@pytest.mark.parametrize(
    "name", ["docs/recipes.md", "master.cf.example", "man/postfix-trouble.8"]
)
def test_what_recipe_2_costs_is_said_in_the_same_words(name: str) -> None:
    text = (ROOT / name).read_text()
    text = re.sub(r"(?m)^\.Xr (\S+) (\d)$", r"\1(\2)", text)
    text = re.sub(r"(?m)^\.Dq (.*) \.$", r"\1.", text)
    text = re.sub(r"(?m)^\.Nm$", "postfix-trouble", text)
    words = re.sub(r'["`#\\]', " ", text).split()
    assert ONE_RESULT in " ".join(words).replace("] .", "].")


def test_it_is_the_first_row_of_the_comparison() -> None:
    page = (ROOT / "docs/recipes.md").read_text()
    table = page.partition("## Which recipe")[2]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert "one result for all recipients" in rows[2]


def test_manual_page_has_the_first_entry() -> None:
    page = (ROOT / "man/postfix-trouble.8").read_text()
    literal = page.partition("\n.Sh MASTER.CF\n")[2].partition(".Ed")[0]
    entry = ENTRIES[0].service
    assert master_cf.split(literal)[-len(entry.arguments) :] == list(entry.arguments)
    assert master_cf.split(literal)[-len(entry.arguments) - 8] == entry.name
