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

# Imports point down. 3.5: the module that joins engine and edge.
LAYERS = {
    "model": 0,
    "policy": 1,
    "content": 1,
    "config": 1,
    "engine": 2,
    "reports": 2,
    "edge": 3,
    "agent": 3.5,
    "frontends": 4,
    "api": 4,
    "__init__": 5,
    "last_line": 5,
    "__main__": 6,
}
# No I/O, clock, environment or chance below the edge.
IMPURE = {
    "asyncio", "fcntl", "io", "locale", "multiprocessing", "os", "pathlib", "pwd",
    "random", "select", "selectors", "shutil", "signal", "smtplib", "socket", "sqlite3",
    "ssl", "subprocess", "syslog", "sys", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
EDGE_ONLY = {"smtplib", "ssl", "socket", "_socket", "dns", "pycares"}
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


def layer(path: Path) -> float:
    return LAYERS[path.relative_to(PACKAGE).parts[0].removesuffix(".py")]


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


def ours(path: Path) -> set[Path]:
    """The files of the package that a file imports."""
    found = set()
    for name in imported(path):
        if name == NAME or name.startswith(f"{NAME}."):
            place = PACKAGE.joinpath(*name.split(".")[1:])
            candidates = (place.with_suffix(".py"), place / "__init__.py")
            found.update(c for c in candidates if c.exists())
    return found - {PACKAGE / "__init__.py"}


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@every_module
def test_imports_point_down(path: Path) -> None:
    upward = {str(o.relative_to(PACKAGE)) for o in ours(path) if layer(o) > layer(path)}
    assert not upward


def room(path: Path) -> str:
    """The part of its layer that a file belongs to: `edge/state` for all in there."""
    return "/".join(path.relative_to(PACKAGE).with_suffix("").parts[:2])


@every_module
def test_each_edge_talks_to_one_thing(path: Path) -> None:
    if layer(path) == LAYERS["edge"]:
        rooms = {room(other) for other in ours(path)} - {room(path), "edge/__init__"}
        # What the engine asks of the outside is a protocol, which an edge may name.
        rooms -= {"engine/surroundings", "engine/__init__"}
        # How the wire comes by smtplib is a room by itself.
        rooms -= {"edge/smtplib_lean"}
        assert not {r for r in rooms if r.startswith(("edge/", "engine/", "reports/"))}


@every_module
def test_no_input_or_output_below_the_edge(path: Path) -> None:
    if layer(path) < LAYERS["edge"]:
        assert not roots(imported(path, typing_too=False)) & IMPURE


@every_module
def test_network_only_at_the_edge(path: Path) -> None:
    if layer(path) != LAYERS["edge"] and path.name != "demo.py":
        assert not roots(imported(path, typing_too=False)) & EDGE_ONLY


@every_module
def test_what_nobody_may_import(path: Path) -> None:
    if path.name != "demo.py":
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
    subprocess.run(command, input=message, capture_output=True, check=False, timeout=20)
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
