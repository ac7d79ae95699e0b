"""SHA-256 without libcrypto, for a process that lives for one mail.

hashlib loads libcrypto, which costs 8 ms, and with too little memory OpenSSL 3.5 waits
for ever for a lock that it holds itself. Python's own code is slower by the byte
(10 ms for 1 MiB), so a process that has hashlib already goes on with that.
"""

from __future__ import annotations

import sys

from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from _hashlib import HASH

# As Python 3.12 and later name it, and as Python 3.11 does.
_OWN = ("_sha2", "_sha256")


def sha256(data: bytes = b"") -> HASH:
    """A hash object as hashlib.sha256 makes it."""
    if "hashlib" not in sys.modules:
        for name in _OWN:
            try:
                made: HASH = __import__(name).sha256(data)
            except ImportError:
                continue
            return made
    from hashlib import sha256 as hashlibs

    return hashlibs(data)
