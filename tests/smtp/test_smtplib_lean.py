"""smtplib without its heavy imports is smtplib all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "ssl",
    "hmac",
    "base64",
    "datetime",
    "email.message",
    "email.generator",
    "re",
    "socket",
)


def python(script: str, *options: str) -> str:
    """What a fresh interpreter prints. Without -S it has loaded much already."""
    place = f"import sys; sys.path.append({str(ROOT)!r})\n"
    done = subprocess.run(
        [sys.executable, *options, "-c", place + script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LEAN = "from postfix_trouble.smtp.smtplib_lean import smtplib\n"


def test_heavy_modules_are_not_loaded() -> None:
    script = "import sys; before = set(sys.modules)\n" + LEAN
    script += "print(smtplib.__name__, *set(sys.modules) - before)"
    name, *loaded = python(script, "-S").split()
    assert name == "smtplib"
    assert not [name for name in HEAVY if name in loaded]
    # Who imports it in the ordinary way gets an ordinary one.
    assert "smtplib" not in loaded


def test_other_threads_never_see_what_stands_in() -> None:
    script = (
        "import sys, threading\n"
        "done = threading.Event()\n"
        "threading.Thread(target=done.wait).start()\n"
        f"{LEAN}"
        "done.set()\n"
        "print(smtplib is sys.modules.get('smtplib'))"
    )
    assert python(script, "-S") == "True\n"


def test_module_looks_like_the_real_one() -> None:
    names = "print(sorted(n for n in dir(smtplib) if not n.startswith('__')))"
    assert python(LEAN + names) == python("import smtplib\n" + names)


def test_class_looks_like_the_real_one() -> None:
    names = "print(sorted(dir(smtplib.SMTP)), sorted(dir(smtplib.SMTP_SSL)))"
    assert python(LEAN + names) == python("import smtplib\n" + names)


@pytest.mark.parametrize("name", HEAVY)
def test_modules_can_be_imported_afterwards(name: str) -> None:
    script = f"{LEAN}import {name}\nprint(type({name}).__name__, {name}.__file__)"
    assert python(script) == python(f"import {name}\nprint('module', {name}.__file__)")


def test_heavy_modules_work_inside_smtplib() -> None:
    script = """
class Server(smtplib.SMTP):
    said = []
    def docmd(self, command, arguments=""):
        self.said.append((command, arguments))
        return (334, b"PDEyMz4=") if len(self.said) == 1 else (235, b"ok")
s = Server(local_hostname="x")
s.user, s.password = "u", "secret"
s.auth("CRAM-MD5", s.auth_cram_md5)
print(s.said)
s.said.clear()
s.said.append(None)
s.auth("PLAIN", s.auth_plain)
print(s.said)
print(smtplib.quoteaddr("a@b"), smtplib.ssl.create_default_context().verify_mode)
"""
    assert python(LEAN + script) == python("import smtplib\n" + script)


@pytest.mark.parametrize("first", ["ssl", "email.utils", "base64", "hmac", "smtplib"])
def test_modules_that_were_there_before(first: str) -> None:
    script = "print(smtplib.quoteaddr('a@b'), smtplib.ssl.CERT_NONE)"
    assert python(f"import {first}\n{LEAN}{script}") == python(
        f"import smtplib\n{script}"
    )


def test_names_that_the_wire_relies_on() -> None:
    script = """
s = smtplib.SMTP(local_hostname="x")
print(s.sock, s.file, s.helo_resp, callable(s.send), callable(s.getreply), s.close())
"""
    assert python(LEAN + script).startswith("None None None True True")
