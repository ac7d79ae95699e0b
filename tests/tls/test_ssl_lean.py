"""ssl without its enumerations is ssl all the same, for what we use of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEAN = "from postfix_trouble.tls.ssl_lean import ssl\n"
REAL = "import ssl\n"


def python(script: str) -> str:
    """What a fresh interpreter prints, started as the program is."""
    place = f"import sys; sys.path.append({str(ROOT)!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", place + script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_enumerations_are_not_loaded() -> None:
    script = "before = set(sys.modules)\n" + LEAN
    script += "print(ssl.__name__, *set(sys.modules) - before)"
    name, *loaded = python(script).split()
    assert name == "ssl"
    for each in ("ssl", "socket", "enum", "selectors", "base64"):
        assert each not in loaded
    # As it is on this Python, and not what is taken where the lean one can't be made.
    assert python(LEAN + "print(ssl.TLSVersion.__bases__)") == "(<class 'int'>,)\n"


def test_module_looks_like_the_real_one() -> None:
    names = "print(sorted(n for n in dir(ssl) if n not in ('__builtins__',)))"
    assert python(LEAN + names) == python(REAL + names)


def test_context_is_as_by_the_real_one() -> None:
    script = """
made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
made.check_hostname = False
made.verify_mode = ssl.CERT_NONE
made.minimum_version = ssl.TLSVersion.TLSv1_2
made.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
made.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
made.set_ciphers("HIGH:!aNULL")
print(int(made.options), int(made.verify_flags), int(made.verify_mode))
print(int(made.minimum_version), int(made.maximum_version), len(made.get_ciphers()))
print(ssl.get_default_verify_paths())
print(ssl.DER_cert_to_PEM_cert(b"x"))
try:
    made.load_verify_locations("/nonexistent")
except OSError as problem:
    print(type(problem), problem.errno)
try:
    made.load_verify_locations(cadata="no certificate")
except ssl.SSLError as problem:
    print(type(problem), problem)
"""
    assert python(LEAN + script) == python(REAL + script)


@pytest.mark.parametrize("first", ["threading", "ssl"])
def test_real_one_where_others_may_import(first: str) -> None:
    """A stand-in would be seen by another thread, and a second ssl serves nothing."""
    script = f"import {first}\n{LEAN}import ssl as real\nprint(ssl is real)"
    assert python(script) == "True\n"


def test_real_one_where_it_wants_more() -> None:
    """A Python whose ssl uses something of enum that has no stand-in."""
    script = """
from postfix_trouble.core import lean_import
def fail(*arguments, **named):
    raise AttributeError("module 'enum' has no attribute 'StrEnum'")
lean_import.import_lean = fail
"""
    assert python(script + LEAN + "print(ssl.TLSVersion.TLSv1_2)") == "771\n"


@pytest.mark.parametrize("name", ["ssl", "socket", "enum", "base64", "selectors"])
def test_modules_can_be_imported_afterwards(name: str) -> None:
    script = f"import {name}\nprint(type({name}).__name__, {name}.__file__)"
    assert python(LEAN + script) == python(script)
    assert python(LEAN + "import ssl\nprint(repr(ssl.Purpose.SERVER_AUTH))") == python(
        "import ssl\nprint(repr(ssl.Purpose.SERVER_AUTH))"
    )
