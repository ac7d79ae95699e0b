"""Launcher, __main__, failsafe: no accident may look like success or a bounce."""

from __future__ import annotations

import os
import pty
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import launchers
import needs
from postfix_trouble import failsafe
from postfix_trouble.cli.meant import COMMANDS

ROOT = Path(__file__).parent.parent
PASSED_ON = {65, 67, 68, 69, 75, 76, 77}
REQUEST = [
    "deliver",
    "--sender",
    "s@a.test",
    "--nexthop",
    "[127.0.0.1]",
    "--",
    "r@b.test",
]


class Installation:
    """An installed tree, with programs of the test's own in the places of Python's."""

    def __init__(self, top: Path, launcher: Path) -> None:
        self.bin = top / "bin"
        self.bin.mkdir(parents=True)
        self.packages = top / "lib" / "python3.11" / "site-packages"
        (self.packages / "scramp").mkdir(parents=True)
        self.package = self.packages / "postfix_trouble"
        self.package.mkdir()
        (self.package / "__main__.py").touch()
        self.launcher = self.bin / "postfix-trouble"
        self.launcher.write_bytes(launcher.read_bytes())
        self.launcher.chmod(0o755)

    def interpreter(self, script: str) -> None:
        """Put a shell script into the place of the interpreter."""
        python = self.bin / "python3"
        python.unlink(missing_ok=True)
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)

    def real(self, front_end: str, main: str | None = None) -> None:
        """Use the real interpreter and __main__, with a front-end of the test's own."""
        (self.bin / "python3").symlink_to(sys.executable)
        source = ROOT / "postfix_trouble"
        (self.package / "__init__.py").touch()
        text = main or (source / "__main__.py").read_text()
        (self.package / "__main__.py").write_text(text)
        text = (source / "failsafe.py").read_text()
        (self.package / "failsafe.py").write_text(text)
        for folder, name in (("pipe", "deliver"), ("cli", "main")):
            (self.package / folder).mkdir()
            (self.package / folder / "__init__.py").touch()
            (self.package / folder / f"{name}.py").write_text(front_end)
        text = (source / "cli/meant.py").read_text()
        (self.package / "cli/meant.py").write_text(text)

    def run(self, *argv: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(how.pop("program", self.launcher)), *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            **how,
        )


@pytest.fixture(scope="session", params=[launchers.SHELL, launchers.C])
def launcher(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Of each kind."""
    return launchers.made(request.param, tmp_path_factory.mktemp("launcher"))


@pytest.fixture
def installation(tmp_path: Path, launcher: Path) -> Installation:
    return Installation(tmp_path / "venv", launcher)


def test_installed_is_the_compiled_one_if_there_is_a_compiler() -> None:
    needs.compiler()
    installed = Path(sys.executable).with_name("postfix-trouble")
    assert installed.read_bytes().startswith(b"\x7fELF")


class TestLauncher:
    """What it makes of an interpreter."""

    @pytest.mark.fault("32 each of 256 exit codes, through the launcher")
    def test_all_exit_statuses(self, installation: Installation) -> None:
        installation.interpreter("eval exit \\${$#}")
        ends = {n: installation.run("deliver", str(n)).returncode for n in range(256)}
        assert {n for n, end in ends.items() if end == n} == PASSED_ON
        assert [n for n, end in ends.items() if end == 0] == [failsafe.LAUNCHED_OK]
        others = set(ends) - PASSED_ON - {failsafe.LAUNCHED_OK}
        assert {ends[n] for n in others} == {75}

    @pytest.mark.parametrize("status", [64, 78])
    def test_usage_errors_only_by_hand(
        self, installation: Installation, status: int
    ) -> None:
        installation.interpreter(f"exit {status}")
        assert installation.run("probe").returncode == status
        assert installation.run("deliver").returncode == 75
        assert installation.run("delivre").returncode == 75

    @pytest.mark.parametrize("word", ["send", "sned", "deliver"])
    def test_usage_error_on_a_terminal(
        self, installation: Installation, word: str
    ) -> None:
        installation.interpreter("exit 64")
        ours, theirs = pty.openpty()
        done = subprocess.run([installation.launcher, word], stdin=theirs, check=False)
        os.close(theirs)
        os.close(ours)
        assert done.returncode == (75 if word == "deliver" else 64)

    def test_interrupt_by_hand_ends_by_the_signal(
        self, installation: Installation
    ) -> None:
        installation.interpreter("kill -INT $$")
        assert installation.run("probe").returncode == -signal.SIGINT
        assert installation.run("deliver").returncode == 75

    @pytest.mark.fault("1 each signal that kills, under the launcher")
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
    def test_killed(self, installation: Installation, number: int) -> None:
        installation.interpreter(f"kill -{int(number)} $$")
        done = installation.run(*REQUEST)
        assert done.returncode == 75
        assert done.stdout.startswith(b"4.3.0 ")

    @pytest.mark.fault("32 accidents of the interpreter")
    @pytest.mark.parametrize(
        "broken",
        [
            "exit 0",
            "exit 1",
            "exec /nonexistent/python",
            "echo 'Fatal error' >&2; exit 1",
        ],
    )
    def test_accident_defers(self, installation: Installation, broken: str) -> None:
        installation.interpreter(broken)
        done = installation.run(*REQUEST)
        assert (done.returncode, done.stderr) == (75, b"")
        assert done.stdout.startswith(b"4.3.0 ")
        assert b"\n" not in done.stdout

    @pytest.mark.fault("32 no interpreter")
    def test_no_interpreter(self, installation: Installation) -> None:
        done = installation.run(*REQUEST, env={"PATH": "/nonexistent"})
        assert (done.returncode, done.stderr) == (75, b"")
        assert done.stdout.startswith(b"4.3.0 ")

    def test_interpreter_that_may_not_be_run(self, installation: Installation) -> None:
        installation.interpreter("exit 100")
        (installation.bin / "python3").chmod(0o644)
        done = installation.run(*REQUEST, env={"PATH": "/nonexistent"})
        assert done.returncode == 75
        assert done.stdout.startswith(b"4.3.0 ")

    def test_arguments_arrive_as_they_are(self, installation: Installation) -> None:
        installation.interpreter("shift 4; printf '<%s>' \"$@\"; exit 100")
        odd = [
            "deliver",
            "--sender",
            "",
            "--",
            "a b@d.test",
            "-x@d.test",
            "*",
            "$(id)'\"",
        ]
        done = installation.run(*odd)
        assert done.stdout.decode() == "".join(f"<{word}>" for word in odd)
        assert done.returncode == 0

    @pytest.mark.parametrize("place", ["elsewhere", "prefix/bin"])
    def test_found_through_a_link(
        self, tmp_path: Path, launcher: Path, place: str
    ) -> None:
        """A link from anywhere; the one that `make install` makes; and both by PATH."""
        top = tmp_path / "prefix/lib/postfix-trouble"
        installation = Installation(top, launcher)
        installation.interpreter('echo "$0"; exit 100')
        directory = tmp_path / place
        directory.mkdir(exist_ok=True)
        link = directory / "postfix-trouble"
        link.symlink_to(installation.launcher)
        # An interpreter beside the link is somebody else's.
        (directory / "python3").write_text("#!/bin/sh\nexit 1\n")
        (directory / "python3").chmod(0o755)
        for env in ({}, {"PATH": f"{directory}:/usr/bin:/bin"}):
            done = subprocess.run(
                ["postfix-trouble" if env else str(link), "deliver"],
                env={**os.environ, **env},
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0
            shown = Path(done.stdout.decode().strip())
            assert shown.samefile(installation.bin / "python3")

    @pytest.mark.fault("4 a signal for the launcher alone")
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    @pytest.mark.parametrize("said", ["4.3.0 terminated by signal", "250 it was sent"])
    def test_signal_to_the_launcher_alone(
        self, installation: Installation, number: signal.Signals, said: str
    ) -> None:
        """It is passed on, since only Python knows what became of the mail."""
        status = 75 if said.startswith("4") else 100
        installation.interpreter(
            f"trap 'echo {said}; exit {status}' TERM; echo ready;"
            "while :; do sleep 0.01; done"
        )
        with subprocess.Popen(
            [installation.launcher, *REQUEST],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as launcher:
            assert launcher.stdout
            assert launcher.stdout.readline() == b"ready\n"
            launcher.send_signal(number)
            assert launcher.stdout.read().decode() == f"{said}\n"
        assert launcher.returncode == status % 100

    def test_standard_input_arrives(self, installation: Installation) -> None:
        """A shell gives its background commands an empty one."""
        installation.interpreter("cat; exit 100")
        done = subprocess.run(
            [installation.launcher, *REQUEST],
            input=b"message\n",
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, b"message\n")

    @pytest.mark.fault("18 no process can be made")
    def test_cannot_fork(self, installation: Installation) -> None:
        installation.interpreter("exit 100")

        def no_processes() -> None:
            # Root has no such limit.
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

        for path in installation.launcher.parents:
            if path.owner() == "root" and str(path).startswith("/tmp/"):
                path.chmod(0o755)
        done = installation.run(*REQUEST, preexec_fn=no_processes)
        assert done.returncode == 75
        assert done.stdout.startswith(b"4.3.0 ")

    def test_makes_no_process_but_python(self, installation: Installation) -> None:
        installation.interpreter("exit 100")
        done = installation.run(*REQUEST, env={"PATH": "/nonexistent"})
        assert done.returncode == 0

    def test_all_know_the_commands_that_are_typed_by_hand(self) -> None:
        commands = {name for name, _, _ in COMMANDS} - {"deliver"}
        assert commands == set(failsafe.HAND_COMMANDS)
        text = (ROOT / "bin/postfix-trouble").read_text()
        labels = re.findall(r"^([a-z| ]+)\) by_hand=yes", text, re.MULTILINE)
        assert commands == set(re.findall(r"\w+", " ".join(labels)))
        text = (ROOT / "launcher/postfix-trouble.c").read_text()
        names = text.partition("others[] = {")[2].partition("}")[0]
        assert commands == set(re.findall(r"\w+", names))


FRONT_ENDS = {
    "success": ("def run(argv, parent=0): return 0", 0, b""),
    "bounce": (
        "import os\ndef run(argv, parent=0): os.write(1, b'5.1.1 who?'); return 67",
        67,
        b"5.1.1 who?",
    ),
    "deferral": (
        "import os\ndef run(argv, parent=0): os.write(1, b'4.4.1 down'); return 75",
        75,
        b"4.4.1 down",
    ),
    "stray-exit-0": (
        "import sys\ndef run(argv, parent=0): sys.exit(0)",
        75,
        failsafe.INTERNAL_ERROR,
    ),
    "stray-_exit-0": ("import os\ndef run(argv, parent=0): os._exit(0)", 75, None),
    "nothing": ("def run(argv, parent=0): pass", 75, b""),
    "false": ("def run(argv, parent=0): return False", 75, b""),
    "other-code": ("def run(argv, parent=0): return 70", 75, b""),
    "usage-code": ("def run(argv, parent=0): return 64", 75, b""),
    "exception": ("def run(argv, parent=0): 1/0", 75, failsafe.INTERNAL_ERROR),
    "interrupt": (
        "def run(argv, parent=0): raise KeyboardInterrupt",
        75,
        failsafe.TERMINATED,
    ),
    "memory": ("def run(argv, parent=0): raise MemoryError", 75, failsafe.NO_MEMORY),
    # Without the second argument Python 3.13.5 does not count the calls, and goes on
    # until there is no memory left.
    "recursion": (
        "def run(argv, parent=0): run(argv, parent)",
        75,
        failsafe.INTERNAL_ERROR,
    ),
    "import-error": ("import nothing_like_this", 75, failsafe.INTERNAL_ERROR),
    "syntax-error": ("def run(argv, parent=0) return", 75, failsafe.INTERNAL_ERROR),
    "chatter": (
        "import os, sys, warnings\n"
        "def run(argv, parent=0):\n"
        "    print('x', file=sys.stderr); warnings.warn('x'); os.write(2, b'x')\n"
        "    return 0",
        0,
        b"",
    ),
    "terminated": (
        "import os, signal\n"
        "def run(argv, parent=0): os.kill(os.getpid(), signal.SIGTERM)",
        75,
        failsafe.TERMINATED,
    ),
    "killed": (
        "import os, signal\n"
        "def run(argv, parent=0): os.kill(os.getpid(), signal.SIGKILL)",
        75,
        None,
    ),
}


BROKEN = {
    "missing": None,
    "syntax-error": "def main() return",
    "no-main": "",
    "exits": "raise SystemExit(0)",
    "returns": "def main(): pass",
    "interrupted": "raise KeyboardInterrupt('two\\nlines')",
}


class TestLastLine:
    """What failsafe makes of a front-end, alone and under the launcher."""

    @pytest.mark.fault("29 exceptions, no memory, recursion, stray exits")
    @pytest.mark.parametrize("name", FRONT_ENDS)
    def test_under_the_launcher(self, installation: Installation, name: str) -> None:
        source, code, output = FRONT_ENDS[name]
        installation.real(source)
        done = installation.run(*REQUEST)
        assert (done.returncode, done.stderr) == (code, b"")
        if output is None:
            assert done.stdout.startswith(b"4.3.0 ")
        else:
            assert done.stdout == output

    @pytest.mark.parametrize(
        "name", [n for n in FRONT_ENDS if n not in ("stray-_exit-0", "killed")]
    )
    def test_as_a_module(self, installation: Installation, name: str) -> None:
        source, code, output = FRONT_ENDS[name]
        installation.real(source)
        done = installation.run(
            "-m",
            "postfix_trouble",
            *REQUEST,
            program=sys.executable,
            cwd=installation.packages,
        )
        assert (done.returncode, done.stdout, done.stderr) == (code, output, b"")

    def test_broken_main(self, installation: Installation) -> None:
        installation.real("", main="syntax error here")
        done = installation.run(*REQUEST)
        assert (done.returncode, done.stderr) == (75, b"")
        assert done.stdout.startswith(b"4.3.0 ")

    @pytest.mark.fault("32 the failsafe is broken, too")
    @pytest.mark.parametrize("how", ["launcher", "script", "module"])
    @pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
    def test_broken_installation(
        self, installation: Installation, how: str, text: str | None
    ) -> None:
        """Not even the failsafe is there: __main__ is left."""
        installation.real("")
        last = installation.package / "failsafe.py"
        last.unlink() if text is None else last.write_text(text)
        words = {
            "launcher": [],
            "script": ["-I", "-S", str(installation.package / "__main__.py")],
            "module": ["-m", "postfix_trouble"],
        }[how]
        done = installation.run(
            *words,
            *REQUEST,
            program=sys.executable if words else installation.launcher,
            cwd=installation.packages,
        )
        assert (done.returncode, done.stderr) == (75, b"")
        assert done.stdout.startswith(b"4.3.0 cannot be started: ")
        assert b"\n" not in done.stdout

    @pytest.mark.fault("34, 35 no command, options in front of it")
    @pytest.mark.parametrize(
        "argv",
        [
            [],
            ["delivre", "--", "r@b.test"],
            ["r@b.test"],
            ["--help", *REQUEST],
            ["--version", "r@b.test"],
            ["-v", *REQUEST],
        ],
        ids=" ".join,
    )
    def test_slips_in_master_cf_defer(
        self, installation: Installation, argv: list[str]
    ) -> None:
        installation.real("def main(argv): return 0")
        done = installation.run(*argv)
        assert done.returncode == 75
        assert done.stdout.startswith(b"4.3.5 command line usage error: ")

    @pytest.mark.parametrize("ends", ["return 0", "raise SystemExit(0)"])
    def test_help_alone_is_fine(self, installation: Installation, ends: str) -> None:
        installation.real(f"def main(argv): print('usage'); {ends}")
        done = installation.run("--help")
        assert (done.returncode, done.stdout) == (0, b"usage\n")

    @pytest.mark.parametrize(
        ("ends", "code"),
        [("return 0", 0), ("return 64", 64), ("return 78", 78), ("return 1", 75)],
    )
    def test_commands_by_hand(
        self, installation: Installation, ends: str, code: int
    ) -> None:
        installation.real(f"def main(argv): {ends}")
        assert installation.run("check").returncode == code

    @pytest.mark.fault("11 no standard output, whatever the outcome")
    def test_closed_output_changes_nothing(self, installation: Installation) -> None:
        installation.real(
            "import os\ndef run(argv, parent=0): os.write(1, b'x'); return 0"
        )
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [installation.launcher, *REQUEST], stdout=writer, check=False
        )
        os.close(writer)
        assert done.returncode == 75

    def test_nohup_is_respected(self, installation: Installation) -> None:
        installation.real(
            "import os, signal\n"
            "def run(argv, parent=0): os.kill(os.getpid(), signal.SIGHUP); return 0"
        )
        done = subprocess.run(
            ["nohup", installation.launcher, *REQUEST],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0
