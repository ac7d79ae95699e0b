"""The shape of the package: which module may know of which, and what start-up costs."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import postfix_trouble
from scripted_server import ScriptedServer

PACKAGE = Path(__file__).parent.parent / "postfix_trouble"
NAME = postfix_trouble.__name__

# Folders are subjects, in an order: each may import from those before it.
SUBJECTS = (
    "core", "policy", "config", "tables", "message", "state", "dns", "sasl", "tls",
    "smtp", "report", "client", "terminal", "simulate", "api", "pipe", "lmtp",
    "engine", "cli", "check", "__init__", "failsafe", "__main__",
)  # fmt: skip
# The files so marked do only what their arguments say.
PURE = "# Pure: no input or output, clock, environment, chance or state."
IMPURE = {
    "asyncio", "fcntl", "io", "locale", "multiprocessing", "os", "pathlib", "pwd",
    "random", "select", "selectors", "shutil", "signal", "smtplib", "socket", "sqlite3",
    "ssl", "subprocess", "syslog", "sys", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
# Whole folders in which every file is marked.
ALL_PURE = ("policy", "config")
# Who may speak to a network.
NETWORK = {"smtplib", "ssl", "socket", "_socket", "dns", "pycares"}
AT_THE_EDGE = {
    "cli/address_check", "client/tls_reports", "dns/nameservers", "dns/system",
    "lmtp/listener",
    "lmtp/server", "report/maillog", "engine/arrival", "engine/client", "engine/server",
    "smtp/connect", "smtp/connection", "smtp/smtplib_lean", "tables/sockets",
    "tls/client_offer", "tls/handshake", "tls/mta_sts_fetch", "tls/ssl_lean",
    "tls/trust",
}  # fmt: skip
NOT_AT_ALL = {"dataclasses", "logging", "asyncio", "importlib.metadata", "configparser"}
EMPTY_NAMES = {
    "utils",
    "util",
    "helper",
    "helpers",
    "manager",
    "handler",
    "common",
    "misc",
}

MODULES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in MODULES]
every_module = pytest.mark.parametrize("path", MODULES, ids=IDS)


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name(path: Path) -> str:
    """`smtp/session`."""
    return str(path.relative_to(PACKAGE).with_suffix(""))


def subject(path: Path) -> str:
    return name(path).split("/")[0]


def pure(path: Path) -> bool:
    return PURE in path.read_text().splitlines()


def for_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported(path: Path, typing_too: bool = True) -> set[str]:
    """Dotted names of all modules that a file imports, also inside its functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree(path)]
    while waiting:
        node = waiting.pop()
        if not typing_too and for_typing_only(node):
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"relative import in {path}"
            found.add(node.module or "")
            found.update(f"{node.module}.{name.name}" for name in node.names)
    return found


def ours(path: Path, typing_too: bool = True) -> set[Path]:
    """The files of the package that a file imports."""
    found: set[Path] = set()
    names = imported(path, typing_too)
    for dotted in names:
        if dotted == NAME or dotted.startswith(f"{NAME}."):
            place = PACKAGE.joinpath(*dotted.split(".")[1:])
            if place.with_suffix(".py").exists():
                found.add(place.with_suffix(".py"))
            elif (place / "__init__.py").exists() and not any(
                (place / f"{other.removeprefix(f'{dotted}.')}.py").exists()
                for other in names
                if other.startswith(f"{dotted}.")
            ):
                # Not where only a module is taken out of the folder.
                found.add(place / "__init__.py")
    return found - {PACKAGE / "__init__.py", path}


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@every_module
def test_imports_point_down(path: Path) -> None:
    place = SUBJECTS.index(subject(path))
    upward = {name(o) for o in ours(path) if SUBJECTS.index(subject(o)) > place}
    assert not upward


def test_no_circles() -> None:
    """Not even for type checkers: a circle is one thing in two files."""
    waiting = {path: ours(path) for path in MODULES}
    while waiting:
        free = {path for path, needs in waiting.items() if not needs & waiting.keys()}
        assert free, sorted(map(name, waiting))
        for path in free:
            del waiting[path]


@every_module
def test_what_is_marked_as_pure_is(path: Path) -> None:
    if subject(path) in ALL_PURE and path.name != "__init__.py":
        assert pure(path)
    if pure(path):
        assert not roots(imported(path, typing_too=False)) & IMPURE
        others = {o for o in ours(path, typing_too=False) if o.name != "__init__.py"}
        assert not {name(other) for other in others if not pure(other)}


@every_module
def test_network_only_at_the_edge(path: Path) -> None:
    if name(path) not in AT_THE_EDGE:
        assert not roots(imported(path, typing_too=False)) & NETWORK


@every_module
def test_what_nobody_may_import(path: Path) -> None:
    assert not imported(path) & NOT_AT_ALL


@every_module
def test_size_and_name(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 400
    assert path.stem not in EMPTY_NAMES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{node.name} is {length} lines long"


def test_public_names() -> None:
    for name in dir(postfix_trouble):
        assert getattr(postfix_trouble, name) is not None or name.startswith("__")
    assert not hasattr(postfix_trouble, "no_such_name")


# What a delivery to one server, without TLS or authentication, may load beyond what
# the bare interpreter has. Each line is paid for by every mail.
START_UP = {
    "__future__", "_operator", "_signal", "_socket", "errno", "gc", "operator",
    "select", "types",
}  # fmt: skip

LOADED = """
import os, sys
before = set(sys.modules)
def report(_code, leave=os._exit):
    with open({report!r}, "w") as file:
        print(*sorted(set(sys.modules) - before), sep="\\n", file=file)
    leave(0)
os._exit = report
sys.argv[1:] = {argv!r}
with open({main!r}) as file:
    code = compile(file.read(), {main!r}, "exec")
exec(code, {{"__name__": "__main__", "__file__": {main!r}, "__package__": None}})
"""


def loaded(argv: list[str], message: bytes, directory: Path) -> set[str]:
    """The modules beyond the interpreter's own that a run has loaded at its end."""
    report = str(directory / "modules")
    main = str(PACKAGE / "__main__.py")
    script = LOADED.format(report=report, argv=argv, main=main)
    command = [sys.executable, "-I", "-S", "-c", script]
    subprocess.run(command, input=message, capture_output=True, check=False)
    names = Path(report).read_text().split()
    return {name for name in names if roots({name}) != {NAME}}


# As a message comes from Postfix.
MESSAGE = b"""\
Received: by client.test (Postfix, from userid 0)
\tid 4SAMPLE; Mon,  1 Jan 2024 00:00:00 +0000 (UTC)
Subject: x

x
"""

PARTS = b"""\
Content-Type: multipart/alternative; boundary="b"

--b
Content-Transfer-Encoding: 8bit

\xc3\xa4
--b--
"""


@pytest.mark.parametrize(
    "message", [MESSAGE, PARTS], ids=["plain", "with parts of 8-bit text"]
)
def test_start_up(message: bytes, tmp_path: Path) -> None:
    with ScriptedServer() as server:
        nexthop = f"[127.0.0.1]:{server.port}"
        argv = ["deliver", "--sender", "s@a.test", "--nexthop", nexthop]
        found = loaded([*argv, "--", "r@b.test"], message, tmp_path)
    assert len(server.connections[0].messages) == 1
    assert sorted(roots(found) - START_UP) == []
