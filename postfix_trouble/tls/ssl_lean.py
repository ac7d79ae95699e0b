"""ssl, imported without what TLS does not need: for a process with one delivery.

`import ssl` makes enumerations of some 400 numbers, in itself and in socket, and loads
what makes them: half of its time, a sixth of a delivery with STARTTLS. Here numbers
stay numbers. Not `_ssl` itself, which would save a little more: what it wants changes
with each Python; and if ssl itself ever wants more than it gets here, the real one is
taken.

Everything odd about that is in this file and in core/lean_import.py;
tests/tls/test_ssl_lean.py holds that what we use works as in the real one, on each
Python.
"""

from __future__ import annotations

import sys
from types import ModuleType

from postfix_trouble.core.lean_import import StandIn, import_lean
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class _Numbers(type):
    """What enum.IntEnum._convert_ makes, as plain numbers."""

    def _convert_(
        cls,
        name: str,
        module: str,
        filter: Callable[[str], bool],
        source: ModuleType | None = None,
    ) -> type:
        there = sys.modules[module].__dict__
        taken = source.__dict__ if source is not None else there
        members = {each: taken[each] for each in taken if filter(each)}
        made = type(name, (int,), {**members, "__members__": members})
        there.update(members, **{name: made})
        return made


class _IntEnum(int, metaclass=_Numbers):
    pass


class _Enum:
    pass


def _simple_enum(_base: type) -> Callable[[type], type]:
    return lambda made: type(made.__name__, (int,), dict(made.__dict__))


def _import() -> ModuleType:
    # With threads, another one might import at the same time.
    if "ssl" not in sys.modules and "threading" not in sys.modules:
        enum = ModuleType("enum")
        numbers = {"IntEnum": _IntEnum, "IntFlag": _IntEnum, "Enum": _Enum}
        enum.__dict__.update(numbers, _simple_enum=_simple_enum)
        seldom = {name: StandIn(name) for name in ("base64", "selectors", "warnings")}
        try:
            return import_lean("ssl", seldom, {"enum": enum}, private=("socket",))
        except Exception:  # noqa: BLE001  a Python that nobody has seen yet
            return __import__("ssl")
    return __import__("ssl")


if TYPE_CHECKING:
    import ssl as ssl
else:
    ssl = _import()
