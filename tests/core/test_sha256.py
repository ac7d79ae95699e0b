"""SHA-256 by Python's own code says what hashlib says, and loads no libcrypto."""

import hashlib
import subprocess
import sys

import pytest

ASKED = """
import sys
from postfix_trouble.core.sha256 import sha256
total = sha256(b"Subject: ")
total.update(b"x" * 100_000)
print(total.hexdigest(), "_hashlib" in sys.modules)
"""
VALUE = hashlib.sha256(b"Subject: " + b"x" * 100_000).hexdigest()


@pytest.mark.parametrize(
    ("before", "libcrypto"),
    [
        pytest.param("", "False", id="own"),
        pytest.param("import hashlib", "True", id="hashlib is there"),
        pytest.param(
            "import sys; sys.modules.update(_sha2=None, _sha256=None)",
            "True",
            id="a Python without its own",
        ),
    ],
)
@pytest.mark.usefixtures("unmeasured")
def test_same_value(before: str, libcrypto: str) -> None:
    """Keys of the ledger outlast an upgrade of Python."""
    done = subprocess.run(
        [sys.executable, "-c", f"{before}\n{ASKED}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [VALUE, libcrypto]
