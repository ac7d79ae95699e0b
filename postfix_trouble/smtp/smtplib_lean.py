"""smtplib, imported without what it seldom needs.

`import smtplib` reads ssl, hmac, email.*, socket, re and more for functions that most
deliveries never call: 30 ms for each mail, where all else takes 15. Here stand-ins take
their places while smtplib is imported. A stand-in loads the real module at the first
use of anything in it, so that nothing is missing when STARTTLS or AUTH comes. The
smtplib made so is ours alone: whoever else imports it gets one of his own.

Everything odd about that is in this file; tests/smtp/test_smtplib_lean.py holds that
what we use of smtplib works as in the real one, on each Python.

Not importlib.util.LazyLoader: it imports more than it saves here. Not
`sys.modules["ssl"] = None`: smtplib would believe that there is no TLS.
"""

from __future__ import annotations

import sys
from types import ModuleType

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


class _StandIn(ModuleType):
    """Looks like a module, and becomes one when it is used."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            # Asked by the import system itself.
            raise AttributeError(name)
        from importlib import import_module

        if sys.modules.get(self.__name__) is self:
            # Somebody needs it while smtplib is being imported.
            del sys.modules[self.__name__]
        real = import_module(self.__name__)
        value = getattr(real, name)
        # From now on as fast as the real one.
        self.__dict__[name] = value
        return value


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


# What smtplib takes out of its modules while it is being imported. re.I is 2; the
# default of `timeout` only says that there is none, and we always say which.
_AT_ONCE: dict[str, dict[str, object]] = {
    "email.base64mime": {"body_encode": _encode_base64},
    "re": {"compile": _Pattern, "I": 2},
    "socket": {"_GLOBAL_DEFAULT_TIMEOUT": None},
}


def _import() -> ModuleType:
    placed: list[str] = []
    before = sys.modules.pop("smtplib", None)
    for name in _SELDOM:
        package, _, child = name.rpartition(".")
        if name in sys.modules or (package and package not in placed):
            continue
        sys.modules[name] = stand_in = _StandIn(name)
        # "import email.utils" wants a package, and then its attribute.
        stand_in.__dict__["__path__"] = []
        stand_in.__dict__.update(_AT_ONCE.get(name, {}))
        if package:
            sys.modules[package].__dict__[child] = stand_in
        placed.append(name)
    try:
        import smtplib
    finally:
        sys.modules.pop("smtplib", None)
        if before is not None:
            sys.modules["smtplib"] = before
        for name in placed:
            if isinstance(sys.modules.get(name), _StandIn):
                del sys.modules[name]
    return smtplib


if TYPE_CHECKING:
    import smtplib as smtplib
else:
    smtplib = _import()
