"""What some tests want of the machine, and what to do where it is missing.

A test that asks here is skipped without it, and the last lines of the run say for each
missing thing how many tests that were.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

# Programs by the Debian package that has them.
PACKAGES = {
    "dh": "debhelper",
    "dpkg-buildpackage": "dpkg-dev",
    "ip": "iproute2",
    "mandoc": "mandoc",
    "msmtp": "msmtp",
    "openssl": "openssl",
    "pflogsumm": "pflogsumm",
    "pipx": "pipx",
    "postfix": "postfix",
    "postmap": "postfix",
    "saslpasswd2": "sasl2-bin",
    "smtp-sink": "postfix",
    "swaks": "swaks",
}


NOT_ROOT = "this account is not root: run it as root"
NO_HOSTS = "/etc/hosts has no localhost: echo 127.0.0.1 localhost >>/etc/hosts"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason=NOT_ROOT)


def not_installed(package: str) -> str:
    return f"{package} is not installed: apt-get install {package}"


def find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin:/sbin")


def tool(name: str) -> str:
    """The path of a program."""
    path = find(name)
    if path is None:
        pytest.skip(not_installed(PACKAGES[name]))
    return path


def perl_modules(*names: str) -> None:
    """Modules of Perl that swaks can do without, but not for all that it does."""
    import subprocess

    for name in names:
        done = subprocess.run(
            ["perl", f"-M{name}", "-e1"], stderr=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            package = f"lib{name.lower().replace('::', '-')}-perl"
            pytest.skip(not_installed(package))


def compiler() -> None:
    """A C compiler, and what it needs to make a program."""
    if find("cc") is None:
        pytest.skip(not_installed("gcc libc6-dev"))


def services() -> None:
    """The system's database of services."""
    if not os.path.exists("/etc/services"):
        pytest.skip(not_installed("netbase"))


def localhost() -> None:
    """A name that the system knows by itself."""
    try:
        socket.getaddrinfo("localhost", None)
    except socket.gaierror:
        pytest.skip(NO_HOSTS)


def open_to_others(path: str) -> None:
    """A checkout, and a Python, that any account can run programs of."""
    for each in {path, os.path.realpath(path)}:
        for directory in Path(each).parents:
            if not directory.stat().st_mode & 0o001:
                pytest.skip(f"{directory} is closed to others: move the checkout")


def root() -> None:
    if os.geteuid() != 0:
        pytest.skip(NOT_ROOT)
