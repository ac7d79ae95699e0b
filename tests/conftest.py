"""What tests of several layers share."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import launchers
import needs
import private_network
from certificates import make_certificates

# A slow machine is no fault.
settings.register_profile(
    "any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any speed")

# Set where a skipped test is a failed one: on the machine that has everything.
SKIP_NOTHING = "POSTFIX_TROUBLE_SKIP_NOTHING"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the test certificates (see certificates.py)."""
    directory = tmp_path_factory.mktemp("certificates")
    make_certificates(directory)
    return directory


@pytest.fixture(scope="session")
def own_network(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have this process, and what it starts, in a network of its own."""
    directory = tmp_path_factory.mktemp("etc")
    directory.chmod(0o755)
    try:
        private_network.enter(directory)
    except private_network.NotAllowed as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The installed program, as pipe(8) would run it."""
    path = Path(sys.executable).parent / "postfix-trouble"
    assert path.exists(), f"{path} is missing: install the package first (make venv)"
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        return launchers.beside(path, tmp_path_factory.mktemp("program") / "top")
    return str(path)


@pytest.fixture(scope="session")
def in_shell(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program with the shell script as its launcher."""
    folder = tmp_path_factory.mktemp("shell")
    return launchers.beside(launchers.made(launchers.SHELL, folder), folder / "top")


@pytest.fixture(scope="session")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program with the compiled launcher."""
    folder = tmp_path_factory.mktemp("c")
    return launchers.beside(launchers.made(launchers.C, folder), folder / "top")


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test starts loads nothing for the sake of coverage."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def pytest_configure(config: pytest.Config) -> None:
    """The marks of which docs/reliability.md is made; see reliability_rows.py."""
    # A shell has its background jobs ignore SIGINT, and what they start would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        # As nohup has it: still not for us, but what is started has the default.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    for kind in ("fault", "attack"):
        config.addinivalue_line(
            "markers", f"{kind}(text): what the test does for a row of the {kind}s"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a real Postfix are skipped where it can't be run."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)
    for item in items:
        for kind in ("fault", "attack"):
            for mark in item.iter_markers(kind):
                item.user_properties.append((kind, mark.args[0]))
    missing = ""
    if needs.find("postfix") is None:
        missing = needs.not_installed("postfix")
    elif os.geteuid() != 0:
        missing = needs.NOT_ROOT
    for item in items:
        if item.path.parent.name == "e2e":
            item.add_marker(pytest.mark.e2e)
        if missing and item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.skip(reason=missing))


# Tests that one dot stands for: thousands of dots tell nobody anything.
HUNDRED = 100
passed = itertools.count(1)


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """A dot for a hundred tests that pass, unless -v asks for each of them."""
    if not report.passed or report.when != "call" or config.get_verbosity() > 0:
        return None
    return "passed", "" if next(passed) % HUNDRED else ".", "PASSED"


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where nothing may be skipped, a skip fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and os.environ.get(SKIP_NOTHING) and not exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say on the very last lines what was not shown."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    reasons: dict[str, int] = {}
    for report in reporter.stats.get("skipped", []):
        reason = str(report.longrepr[2] if report.longrepr else "")
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in reasons.items():
        tests = "1 test" if count == 1 else f"{count} tests"
        text = f"NOT RUN: {tests}: {reason.removeprefix('Skipped: ')}"
        reporter.write_line(f"!!! {text}", red=True, bold=True)
    if reasons and os.environ.get(SKIP_NOTHING):
        reporter.write_line("!!! a skipped test counts as failed here", red=True)
