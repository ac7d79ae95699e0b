"""Compiles the launcher, where there is a compiler; setup.cfg has all the rest."""

from __future__ import annotations

import subprocess
from distutils.command.build_scripts import build_scripts
from pathlib import Path
from typing import Any

from setuptools import Distribution, setup

ROOT = Path(__file__).parent


class Launcher(build_scripts):  # type: ignore[misc]
    """Puts the compiled launcher into the place of the shell script."""

    def copy_scripts(self) -> Any:
        """Copy them, and compile."""
        copied = super().copy_scripts()
        output = Path(self.build_dir, "postfix-trouble")
        output.chmod(0o755)
        done = subprocess.run(["sh", ROOT / "launcher/compile", f"{output}.c"])
        if done.returncode == 0:
            Path(f"{output}.c").replace(output)
        else:
            print("the launcher can't be compiled: the shell script stays")
        return copied


class ForThisMachine(Distribution):
    """A wheel with a compiled launcher is not for every machine."""

    def has_ext_modules(self) -> bool:
        """It is as if there were some."""
        return True


setup(cmdclass={"build_scripts": Launcher}, distclass=ForThisMachine)
