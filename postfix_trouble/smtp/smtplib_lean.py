"""smtplib, imported without what it seldom needs.

`import smtplib` reads ssl, hmac, email.*, socket, re and more for functions that most
deliveries never call: 30 ms for each mail, where all else takes 15. Here stand-ins take
their places while smtplib is imported, so that nothing is missing when AUTH comes.

Everything odd about that is in this file and in core/lean_import.py;
tests/smtp/test_smtplib_lean.py holds that what we use of smtplib works as in the real
one, on each Python.
"""

from __future__ import annotations

from postfix_trouble.core.lean_import import StandIn, import_lean
from postfix_trouble.core.value import TYPE_CHECKING

_SELDOM = (
    "base64",
    "copy",
    "datetime",
    "email",
    "email.base64mime",
    "email.generator",
    "email.message",
    "email.utils",
    "hmac",
    "re",
    "socket",
    "ssl",
)


def _encode_base64(s: bytes, maxlinelen: int = 76, eol: str = "\n") -> str:
    from email.base64mime import body_encode

    return body_encode(s, maxlinelen, eol)


class _Pattern:
    """A regular expression that is compiled when it is used."""

    def __init__(self, *arguments: object) -> None:
        self._arguments = arguments

    def __getattr__(self, name: str) -> object:
        from re import compile

        return getattr(compile(*self._arguments), name)  # type: ignore[call-overload]


def _digest(key: bytes, message: bytes, name: str) -> bytes:
    """Python 3.14 asks for one of nothing: whether there is MD5 for CRAM-MD5."""
    if not key:
        return b""
    from hmac import digest

    return digest(key, message, name)


# What smtplib takes out of its modules while it is being imported. re.I is 2; the
# default of `timeout` only says that there is none, and we always say which.
_AT_ONCE: dict[str, dict[str, object]] = {
    "email.base64mime": {"body_encode": _encode_base64},
    "hmac": {"digest": _digest},
    "re": {"compile": _Pattern, "I": 2},
    "socket": {"_GLOBAL_DEFAULT_TIMEOUT": None},
}


if TYPE_CHECKING:
    import smtplib as smtplib
else:
    smtplib = import_lean(
        "smtplib", {name: StandIn(name, _AT_ONCE.get(name)) for name in _SELDOM}
    )
