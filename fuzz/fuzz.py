"""Fuzz one target after the other: python fuzz/fuzz.py [--seconds N] [TARGET ...]

Starts from the kept inputs in fuzz/corpus. What is found is written to fuzz/findings
and fails the run. With --keep, inputs that reach something new are merged into the
corpus, as few and as short as they can be. Needs atheris (the extra "fuzz").
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
FINDINGS = HERE / "findings"
# Bytes of an input.
LONGEST = 1500


def fuzz(name: str, arguments: list[str]) -> None:
    """Hand a target over to libFuzzer. Does not return."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["postfix_trouble"]):
        from targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def run(name: str, seconds: int, keep: bool) -> bool:
    """Fuzz a target in a process of its own. False if something was found."""
    kept = CORPUS / name
    kept.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as fresh:
        found = _libfuzzer(
            name,
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST}",
            "-timeout=10",
            "-rss_limit_mb=2048",
            f"-artifact_prefix={FINDINGS}/{name}-",
            "-print_final_stats=1",
            fresh,
            str(kept),
        )
        count = re.search(r"number_of_executed_units: (\d+)", found.stderr)
        executions = count[1] if count else "?"
        word = "nothing found" if not found.returncode else "FAILED"
        print(f"{name}: {executions} executions in {seconds} s: {word}", flush=True)
        if found.returncode:
            print(found.stderr[-3000:] + found.stdout[-2000:])
        elif keep:
            add(name, Path(fresh))
    return not found.returncode


def add(name: str, fresh: Path) -> None:
    """Keep the inputs by which a target gets from a line to one it had not gone to.

    libFuzzer can merge too, but counts how often each branch is taken, and so keeps
    hundreds.
    """
    import hashlib

    from targets import TARGETS

    steps: set[tuple[str, int, int]] = set()

    def trace(frame: Any, _event: str, _arg: object) -> Any:
        file, last = frame.f_code.co_filename, 0
        if "postfix_trouble" not in file:
            return None

        def line(frame: Any, _event: str, _arg: object) -> Any:
            nonlocal last
            steps.add((file, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        return line

    kept = sorted((CORPUS / name).iterdir())
    new = sorted(fresh.iterdir(), key=lambda path: path.stat().st_size)
    for path in (*kept, *new):
        before = len(steps)
        text = path.read_bytes()
        sys.settrace(trace)
        try:
            TARGETS[name](text)
        finally:
            sys.settrace(None)
        if len(steps) > before and path.parent == fresh:
            digest = hashlib.sha256(text).hexdigest()[:12]
            (CORPUS / name / digest).write_bytes(text)


def _libfuzzer(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, __file__, "--target", name, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False
    )


def main() -> int:
    """Run the targets that are named, or all."""
    if sys.argv[1:2] == ["--target"]:
        fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", action="store_true", help="add to the corpus")
    parser.add_argument("targets", nargs="*")
    given = parser.parse_args()
    from targets import TARGETS

    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    good = [run(x, given.seconds, given.keep) for x in given.targets or TARGETS]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
