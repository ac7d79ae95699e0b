"""The source tree as somebody gets it who clones it, and an open place for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
# What pipe(8) leaves of the environment, and where it stands.
PIPE_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "MAIL_CONFIG": "/etc/postfix",
    "LANG": "C",
}
# Other tests take their process into a network of its own, where pip finds no index.
# This module is imported before they run.
_NAMESPACES = {
    f"--{option}": os.open(f"/proc/self/ns/{name}", os.O_RDONLY)
    for option, name in (("net", "net"), ("mount", "mnt"))
}


@contextmanager
def open_place() -> Iterator[Path]:
    """A directory that all accounts can look into, unlike those of pytest."""
    path = Path(tempfile.mkdtemp(prefix="postfix-trouble-", dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def fresh_checkout(place: Path) -> Path:
    """A copy without what git ignores; the path has a blank, the files are closed."""
    tree = place / "a checkout"
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", *ignored))
    subprocess.run(["chmod", "-R", "go=", tree], check=True)
    return tree


def outside() -> list[str]:
    """What to put before a command that needs the machine's network."""
    words = ["nsenter"]
    for option, number in _NAMESPACES.items():
        here = os.stat(f"/proc/self/ns/{'net' if option == '--net' else 'mnt'}")
        if os.fstat(number).st_ino != here.st_ino:
            words.append(f"{option}=/proc/{os.getpid()}/fd/{number}")
    return words if len(words) > 1 else []


def run(tree: Path, command: str, *, fails: bool = False) -> str:
    """What a command prints on a machine on which nothing is set up, umask 077."""
    home = tree.parent / "empty home"
    home.mkdir(exist_ok=True)
    # Where the index is may be told to pip like that.
    index = {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
    # nsenter goes to the root of the other namespace.
    script = 'cd "$1" && umask 077 && eval "$2"'
    done = subprocess.run(
        [*outside(), "/bin/sh", "-c", script, "sh", str(tree), command],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), **index},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}"
    return done.stdout
