"""Importing a module of the standard library without what it seldom needs.

A stand-in takes the place of a module while another one is being imported, and loads
the real one at the first use of anything in it. Only while a process has one thread:
another one would see the stand-ins, too. With more of them the import is a plain one.

Not importlib.util.LazyLoader: it imports more than it saves here. Not
`sys.modules["ssl"] = None`: smtplib would believe that there is no TLS.
"""

from __future__ import annotations

import sys
from types import ModuleType

from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class StandIn(ModuleType):
    """Looks like a module, and becomes one when it is used."""

    def __init__(self, name: str, at_once: Mapping[str, object] | None = None) -> None:
        """`at_once`: what can be had of it without the real module."""
        super().__init__(name)
        # "import email.utils" wants a package, and then its attribute.
        self.__dict__.update(at_once or {}, __path__=[])

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            # Asked by the import system itself.
            raise AttributeError(name)
        from importlib import import_module

        if sys.modules.get(self.__name__) is self:
            # Somebody needs it while the other module is being imported.
            del sys.modules[self.__name__]
        real = import_module(self.__name__)
        value = getattr(real, name)
        # From now on as fast as the real one.
        self.__dict__[name] = value
        return value


def import_lean(
    name: str,
    seldom: Mapping[str, ModuleType],
    instead: Mapping[str, ModuleType] | None = None,
    private: Iterable[str] = (),
) -> ModuleType:
    """Import a module that is ours alone: whoever else imports it gets one of his own.

    `seldom` take the places of modules that are not loaded yet, `instead` also of those
    that are; afterwards all is as it was. `private` modules are made for this one, too.
    Raises what the import raises.
    """
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        return __import__(name)
    ours = (name, *private)
    before = {each: sys.modules.pop(each, None) for each in (*ours, *(instead or ()))}
    sys.modules.update(instead or {})
    placed: list[str] = []
    for each, stand_in in seldom.items():
        package, _, child = each.rpartition(".")
        if each in sys.modules or (package and package not in placed):
            continue
        sys.modules[each] = stand_in
        if package:
            sys.modules[package].__dict__[child] = stand_in
        placed.append(each)
    try:
        return __import__(name)
    finally:
        for each, module in before.items():
            sys.modules.pop(each, None)
            if module is not None:
                sys.modules[each] = module
        for each in placed:
            if sys.modules.get(each) is seldom[each]:
                del sys.modules[each]
