"""Change the heart of the program in small ways, and see whether the tests notice.

    python tools/mutate.py [--jobs N] [--list] [--verbose] [FILE ...]

A mutant is the source with one thing changed: a comparison turned around, a condition
always true or never, a constant off by one, a call left out, ... The tests of the file
run against each. A mutant that they don't notice is a row that is missing, or it means
the same as the source; docs/mutation.md names those, and why, and the score is counted
without them.

Tests are collected and run once, to see which lines each of them reaches. After that a
child is forked for each mutant: it puts the changed code in the place of the function's
own, and runs the tests that come by, quickest first. Code at the level of the module
has run by then, so its mutants get a process in which the package is loaded anew.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "postfix_trouble"
EXPLAINED = ROOT / "docs" / "mutation.md"

ENGINE = (
    "tests/smtp/test_session.py",
    "tests/smtp/test_session_security.py",
    "tests/smtp/test_transaction.py",
    "tests/smtp/test_delivery.py",
    "tests/smtp/test_reuse.py",
    "tests/smtp/test_recipient_state.py",
    "tests/smtp/test_commands.py",
    "tests/smtp/test_state_machine.py",
    "tests/explain/test_simulated_session.py",
)
ASKED = ("tests/explain/test_explaining.py", "tests/explain/test_simulated_session.py")
TESTS = {
    "policy/trouble.py": ("tests/policy/test_trouble.py", ENGINE[3], ENGINE[5]),
    "smtp/replies.py": ("tests/smtp/test_replies.py",),
    "policy/multi_recipient.py": ("tests/policy/test_mixed.py",),
    "tls/level.py": (
        "tests/tls/test_tls_level.py",
        "tests/smtp/test_session_security.py",
    ),
    "dns/routing.py": (
        "tests/dns/test_rules.py",
        "tests/dns/test_routing.py",
        "tests/dns/test_resolver.py",
    ),
    "dns/ordering.py": (
        "tests/dns/test_ordering.py",
        "tests/dns/test_routing.py",
    ),
    "policy/throttle.py": ("tests/policy/test_suspension.py",),
    "tls/policy_entry.py": ("tests/tls/test_tls_level.py",),
    "tls/policy.py": (
        "tests/tls/test_tls_level.py",
        "tests/tls/test_dane.py",
    ),
    "tls/key_chain.py": ("tests/tls/test_key_chain.py",),
    "tls/offer.py": ("tests/tls/test_tls_level.py",),
    "tls/dane.py": (
        "tests/tls/test_dane.py",
        "tests/tls/test_dane_certificates.py",
    ),
    "tls/certificate.py": (
        "tests/tls/test_certificate.py",
        "tests/tls/test_dane.py",
        "tests/tls/test_dane_certificates.py",
    ),
    "dns/nexthop.py": ("tests/dns/test_nexthop.py",),
    "sasl/choose.py": (
        "tests/sasl/test_sasl_policy.py",
        "tests/sasl/test_sasl.py",
    ),
    "dns/answers.py": ("tests/dns/test_answers.py",),
    "lmtp/dialogue.py": ("tests/lmtp/test_lmtp.py",),
    "lmtp/syntax.py": ("tests/lmtp/test_lmtp.py",),
    "smtp/address.py": (
        "tests/smtp/test_address.py",
        "tests/lmtp/test_lmtp.py",
    ),
    "dns/address_literal.py": ("tests/dns/test_literal.py",),
    "core/hostname.py": ("tests/dns/test_nexthop.py",),
    "smtp/capabilities.py": ("tests/smtp/test_capabilities.py",),
    "sasl/redaction.py": ("tests/sasl/test_sasl_policy.py",),
    "check/configuration.py": ("tests/check/test_configuration.py",),
    "check/findings.py": (
        "tests/check/test_findings.py",
        "tests/check/test_pipe_entry.py",
    ),
    "check/argv.py": ("tests/check/test_pipe_entry.py",),
    "check/entry.py": (
        "tests/check/test_pipe_entry.py",
        "tests/check/test_lmtp_entry.py",
    ),
    "simulate/recognition.py": ("tests/explain/test_recognition.py",),
    "smtp/session.py": ENGINE,
    "smtp/handshake.py": ENGINE,
    "smtp/starttls.py": ENGINE,
    "smtp/transaction.py": ENGINE,
    "smtp/delivery.py": ENGINE,
    "smtp/recipients.py": ENGINE,
    "smtp/commands.py": ENGINE,
    "simulate/answer.py": ASKED,
    "simulate/session.py": ASKED,
    "smtp/probing.py": ("tests/smtp/test_probing.py",),
    "simulate/rule.py": ("tests/smtp/test_probing.py",),
}
KILLED, SURVIVED, UNREACHED = "killed", "survived", "not reached"
PYTEST = ("-q", "-W", "ignore", "-p", "no:cacheprovider", "-o", "timeout=0")
# Seconds that a mutant gets in each test, beyond three times what that takes.
PATIENCE = 10


class Mutant(NamedTuple):
    """One change."""

    line: int
    end: int
    # Name of the function, empty at the level of the module.
    where: str
    was: str
    becomes: str
    apply: Callable[[], None]

    @property
    def key(self) -> str:
        """Name that stays the same when lines move."""
        return f"{self.where}: {self.was} -> {self.becomes}"


# --- what can be changed ------------------------------------------------------------

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATIONS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


def replacements(node: ast.AST, parent: ast.AST, field: str) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                yield ast.Compare(
                    node.left,
                    [*node.ops[:place], other(), *node.ops[place + 1 :]],
                    node.comparators,
                )
    elif isinstance(node, ast.BoolOp):
        other_one = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other_one, node.values)
        for place in range(len(node.values)):
            left = [*node.values[:place], *node.values[place + 1 :]]
            yield left[0] if len(left) == 1 else ast.BoolOp(node.op, left)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        if not _is_text(node.left) and not _is_text(node.right):
            yield ast.BinOp(node.left, OPERATIONS[type(node.op)](), node.right)
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node, parent)
    elif isinstance(node, ast.Call):
        for place in range(len(node.keywords)):
            left_out = [*node.keywords[:place], *node.keywords[place + 1 :]]
            yield ast.Call(node.func, node.args, left_out)
    elif isinstance(node, ast.AugAssign):
        if type(node.op) in OPERATIONS:
            yield ast.AugAssign(node.target, OPERATIONS[type(node.op)](), node.value)
        yield ast.Assign([node.target], node.value)
    elif isinstance(node, ast.Return):
        if node.value is not None and not isinstance(node.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Break):
        yield ast.Continue()
    elif isinstance(node, (ast.Continue, ast.Raise)):
        yield ast.Pass()
    elif isinstance(node, ast.Expr):
        if not isinstance(node.value, ast.Constant):
            yield ast.Pass()
    elif isinstance(node, ast.Assign):
        if isinstance(node.targets[0], ast.Attribute):
            yield ast.Pass()
        elif not isinstance(node.value, ast.Constant):
            yield ast.Assign(node.targets, ast.Constant(None))
    condition = isinstance(parent, (ast.If, ast.IfExp, ast.While)) and field == "test"
    if condition or (isinstance(parent, ast.comprehension) and field == "ifs"):
        if not isinstance(parent, ast.While):
            yield ast.Constant(True)
        yield ast.Constant(False)


def _is_text(node: ast.expr) -> bool:
    text = isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    return text or isinstance(node, ast.JoinedStr)


def _other_constants(node: ast.Constant, parent: ast.AST) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, (int, float)):
        yield ast.Constant(value + 1)
    elif isinstance(value, str):
        yield ast.Constant(value + "XX" if value else "XX")
    elif isinstance(value, bytes):
        yield ast.Constant(value + b"XX")
    # In the place of None anything could stand.


def _skipped(node: ast.AST) -> bool:
    """Types, assertions, and what is written for readers only."""
    if isinstance(node, (ast.Assert, ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
        return node.test.id == "TYPE_CHECKING"
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text and isinstance(node.value.value, str)  # type: ignore[attr-defined]


def mutants(tree: ast.Module) -> Iterator[Mutant]:
    """All that can be changed in a module, in the order of the source."""
    yield from _below(tree, "")


def _below(parent: ast.AST, where: str) -> Iterator[Mutant]:
    for field, value in list(ast.iter_fields(parent)):
        if field in ("annotation", "returns", "decorator_list", "format_spec"):
            continue
        if isinstance(parent, ast.arguments) and field == "args":
            continue
        if isinstance(value, list):
            for place, node in enumerate(value):
                if isinstance(node, ast.AST):
                    put = _putter(value, place)
                    yield from _of(node, parent, field, where, put)
        elif isinstance(value, ast.AST):
            put = _setter(parent, field)
            yield from _of(value, parent, field, where, put)


def _putter(values: list[Any], place: int) -> Callable[[ast.AST], None]:
    def put(node: ast.AST) -> None:
        values[place] = node

    return put


def _setter(parent: ast.AST, field: str) -> Callable[[ast.AST], None]:
    return lambda node: setattr(parent, field, node)


def _of(
    node: ast.AST,
    parent: ast.AST,
    field: str,
    where: str,
    put: Callable[[ast.AST], None],
) -> Iterator[Mutant]:
    if _skipped(node):
        return
    inside = where
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        inside = f"{where}.{node.name}" if where else node.name
    if hasattr(node, "lineno"):
        for other in replacements(node, parent, field):
            # It may be a part of the tree, which has to stay as it is.
            other = ast.copy_location(copy.copy(other), node)
            ast.fix_missing_locations(other)
            place = node.lineno, node.end_lineno or node.lineno
            words = _words(node), _words(other)

            def apply(other: ast.AST = other) -> None:
                put(other)

            yield Mutant(*place, where, *words, apply)
    yield from _below(node, inside)


def _words(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())


def listed(source: str) -> list[Mutant]:
    """The mutants of a source, with names that are different."""
    seen: dict[str, int] = {}
    found = []
    for mutant in mutants(ast.parse(source)):
        seen[mutant.key] = count = seen.get(mutant.key, 0) + 1
        if count > 1:
            mutant = mutant._replace(where=f"{mutant.where}#{count}")
        found.append(mutant)
    return found


def mutated(source: str, number: int, file: Path) -> types.CodeType:
    """The code of a module with one of its mutants in it."""
    tree = ast.parse(source)
    for place, mutant in enumerate(mutants(tree)):
        if place == number:
            mutant.apply()
            return compile(tree, str(file), "exec", dont_inherit=True)
    raise LookupError(number)


# --- mutants of functions -----------------------------------------------------------


class _Next:
    """The test that comes next, as far as pytest has to know: it is in the session."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def listchain(self) -> list[Any]:
        """What is set up already, and stays."""
        return [self._session]


class Runner:
    """A pytest plug-in that runs the tests once, and then a part of them per mutant."""

    def __init__(self, file: Path, jobs: int, only: set[int] | None) -> None:
        self.file = file
        self.source = file.read_text()
        self.jobs = jobs
        self.only = only
        self.results: dict[int, str] = {}
        # Mutants that need a process of their own.
        self.left: list[int] = []

    def pytest_runtestloop(self, session: Any) -> bool:
        """In the place of pytest's own loop."""
        # Fixtures of the whole session are made once.
        self.next = _Next(session)
        tests = self._reach(session.items)
        functions = {
            (each.__code__.co_qualname, each.__code__.co_firstlineno): each
            for each in gc.get_objects()
            if isinstance(each, types.FunctionType)
            and each.__code__.co_filename == str(self.file)
        }
        running: dict[int, int] = {}
        for number, mutant in enumerate(listed(self.source)):
            if self.only is not None and number not in self.only:
                continue
            lines = set(range(mutant.line, mutant.end + 1))
            items = [each for each in tests if each[1] & lines]
            code = mutated(self.source, number, self.file)
            pair = _changed(code, functions)
            if pair is None:
                self.left.append(number)
                continue
            if not items:
                self.results[number] = UNREACHED
                continue
            if len(running) >= self.jobs:
                self._wait(running)
            child = os.fork()
            if not child:
                self._child(pair, items)
            running[child] = number
        while running:
            self._wait(running)
        return True

    def _reach(self, items: list[Any]) -> list[tuple[float, set[int], Any]]:
        """Seconds, lines reached, and test; quickest first."""
        from _pytest.runner import runtestprotocol

        found = []
        for item in items:
            lines: set[int] = set()
            start = time.monotonic()
            sys.settrace(self._tracer(lines))
            reports = runtestprotocol(item, log=False, nextitem=self.next)
            sys.settrace(None)
            if any(each.failed for each in reports):
                raise SystemExit(f"fails without a mutant: {item.nodeid}")
            found.append((time.monotonic() - start, lines, item))
        return sorted(found, key=lambda each: each[0])

    def _tracer(self, lines: set[int]) -> Callable[..., Any]:
        name = str(self.file)

        def local(frame: Any, _event: str, _arg: object) -> Any:
            lines.add(frame.f_lineno)
            return local

        def trace(frame: Any, _event: str, _arg: object) -> Any:
            if frame.f_code.co_filename != name:
                return None
            lines.add(frame.f_lineno)
            return local

        return trace

    def _child(
        self,
        pair: tuple[types.FunctionType, types.CodeType],
        items: list[tuple[float, set[int], Any]],
    ) -> None:
        from _pytest.runner import runtestprotocol

        status = 3
        try:
            _silence()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            function, code = pair
            try:
                function.__code__ = code
            except ValueError:
                os._exit(4)
            for seconds, _, item in items:
                signal.alarm(PATIENCE + int(3 * seconds))
                reports = runtestprotocol(item, log=False, nextitem=self.next)
                if any(each.failed for each in reports):
                    os._exit(1)
            status = 0
        except BaseException:  # noqa: BLE001  a child must not go on in the loop
            status = 1
        finally:
            os._exit(status)

    def _wait(self, running: dict[int, int]) -> None:
        child, status = os.wait()
        number = running.pop(child)
        code = os.waitstatus_to_exitcode(status)
        if code == 4:
            self.left.append(number)
        else:
            self.results[number] = KILLED if code else SURVIVED


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)


def _changed(
    code: types.CodeType, functions: dict[tuple[str, int], types.FunctionType]
) -> tuple[types.FunctionType, types.CodeType] | None:
    """The function whose code is another one now, if there is just one."""
    found = []
    pending = [code]
    while pending:
        for each in pending.pop().co_consts:
            if not isinstance(each, types.CodeType):
                continue
            function = functions.get((each.co_qualname, each.co_firstlineno))
            if function is None:
                pending.append(each)
            elif function.__code__ != each:
                found.append((function, each))
    return found[0] if len(found) == 1 else None


# --- mutants of modules -------------------------------------------------------------


class Loader(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Imports one module from the code that is given."""

    def __init__(self, name: str, code: types.CodeType) -> None:
        self.name = name
        self.code = code

    def find_spec(self, name: str, *_: object) -> Any:
        """Only for that module."""
        if name != self.name:
            return None
        return importlib.util.spec_from_loader(name, self)

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the changed code."""
        exec(self.code, module.__dict__)


def _noticed_by_a_new_process(file: Path, number: int, tests: list[str]) -> bool:
    import pytest

    code = mutated(file.read_text(), number, file)
    name = ".".join(("postfix_trouble", file.parent.name, file.stem))
    sys.meta_path.insert(0, Loader(name, code))
    return pytest.main(["-x", *PYTEST, *tests]) != pytest.ExitCode.OK


def of_module(
    file: Path, numbers: list[int], tests: list[str], jobs: int
) -> dict[int, str]:
    """Try mutants at the level of the module. Call where the package is not loaded."""
    assert "postfix_trouble" not in sys.modules
    results: dict[int, str] = {}
    running: dict[int, int] = {}

    def wait() -> None:
        child, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        results[running.pop(child)] = KILLED if code else SURVIVED

    for number in numbers:
        if len(running) >= jobs:
            wait()
        child = os.fork()
        if not child:
            try:
                _silence()
                signal.alarm(120)
                os._exit(_noticed_by_a_new_process(file, number, tests))
            except BaseException:  # noqa: BLE001  a child must not go on in the loop
                os._exit(1)
        running[child] = number
    while running:
        wait()
    return results


# --- all of it ----------------------------------------------------------------------


def of_functions(
    file: Path, tests: list[str], jobs: int, only: set[int] | None
) -> tuple[dict[int, str], list[int]]:
    """Results, and mutants that are left for of_module(). In a process of its own."""
    with tempfile.NamedTemporaryFile("r") as answer:
        child = os.fork()
        if not child:
            import pytest

            runner = Runner(file, jobs, only)
            code = 1
            try:
                code = int(pytest.main([*PYTEST, *tests], plugins=[runner]))
                Path(answer.name).write_text(json.dumps([runner.results, runner.left]))
            except BaseException:  # noqa: BLE001  it must not go on as the parent
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) not in (0, 5):
            raise SystemExit(f"{file}: the tests don't run")
        results, left = json.loads(answer.read())
    return {int(number): word for number, word in results.items()}, left


def explained() -> set[tuple[str, str]]:
    """File and name of mutants that mean the same as the source."""
    found = set()
    file = ""
    if not EXPLAINED.exists():
        return found
    for line in EXPLAINED.read_text().splitlines():
        if line.startswith("### "):
            file = line.removeprefix("### ").strip()
        elif line.startswith("- `"):
            found.add((file, line.removeprefix("- `").rpartition("`:")[0]))
    return found


def main() -> int:
    """Print who survived, and a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--match", default="", help="only mutants with this name")
    parser.add_argument("files", nargs="*", help="say policy/trouble.py")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.dont_write_bytecode = True
    # What all children need is loaded once; the package itself is not.
    import hypothesis
    import pytest  # noqa: F401

    hypothesis.settings.register_profile(
        "mutants", max_examples=50, derandomize=True, database=None, deadline=None
    )
    hypothesis.settings.load_profile("mutants")
    known = explained()
    code = 0
    for name in arguments.files or TESTS:
        file = PACKAGE / name
        every = listed(file.read_text())
        only = {n for n, each in enumerate(every) if arguments.match in each.key}
        if arguments.list:
            for each in every:
                print(f"{name}:{each.line}: {each.key}")
            continue
        tests = [each for each in TESTS[name] if (ROOT / each).exists()]
        results, left = of_functions(file, tests, arguments.jobs, only)
        results |= of_module(file, left, tests, arguments.jobs)
        count = {"killed": 0, "explained": 0, "survived": 0}
        for number in sorted(results):
            each, word = every[number], results[number]
            if word == KILLED:
                count["killed"] += 1
            elif (name, each.key) in known:
                count["explained"] += 1
            else:
                code = 1
                count["survived"] += 1
                print(f"{name}:{each.line}: {word}: {each.key}", flush=True)
        words = ", ".join(f"{value} {key}" for key, value in count.items())
        print(f"{name}: {len(results)} mutants: {words}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
