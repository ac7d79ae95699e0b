"""An installation that any account can run, as `make install` makes one."""

from __future__ import annotations

import compileall
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import postfix_trouble

# What `deliver` may need; the rest is for commands by hand.
NEEDED = (
    "postfix_trouble",
    "asn1crypto",
    "click",
    "dns",
    "email_validator",
    "idna",
    "scramp",
)


def install(top: Path) -> Path:
    """Put the program that is tested below a directory; returns its path.

    The interpreter below a closed home directory can't be run by pipe(8)'s account, so
    the environment is made anew, with the packages of this one.
    """
    base = Path(os.path.realpath(sys.executable))
    subprocess.run([base, "-I", "-m", "venv", "--without-pip", top], check=True)
    packages = next((top / "lib").glob("python3*")) / "site-packages"
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        assert spec, f"{name} is not installed"
        assert spec.submodule_search_locations
        source = Path(spec.submodule_search_locations[0])
        shutil.copytree(source, packages / name)
        # Some ask for their own version.
        for record in source.parent.glob(f"{name}-*.dist-info"):
            shutil.copytree(record, packages / record.name)
    compileall.compile_dir(packages, quiet=2)
    # Beside the package in a source tree, beside the interpreter when installed.
    tree = Path(postfix_trouble.__file__).resolve().parent.parent
    launchers = (tree / "bin/postfix-trouble", Path(sys.executable).with_name(NAME))
    source = next(path for path in launchers if path.exists())
    program = top / "bin" / NAME
    shutil.copy(source, program)
    program.chmod(0o755)
    subprocess.run(["chmod", "-R", "a+rX", top], check=True)
    return program


NAME = "postfix-trouble"
