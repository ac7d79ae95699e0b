"""The base of all values here: named tuples that cost next to nothing.

One process runs for each mail. `typing.NamedTuple` takes 0.07 ms for each class, and
`import typing` 4 ms; that is a third of what a delivery takes otherwise. To a type
checker Value *is* NamedTuple; at run time it is the few lines below, with the same
constructor, defaults, equality, unpacking, `_replace`, `_asdict` and `_fields`.

TYPE_CHECKING is defined here for the same reason.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from operator import itemgetter

__all__ = ["TYPE_CHECKING", "Value"]

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import NamedTuple as Value
else:

    class Value(tuple):
        """A named tuple; fields and defaults are those of the class body."""

        __slots__ = ()
        _fields = ()
        _defaults = {}  # noqa: RUF012  never changed

        def __init_subclass__(cls):
            names = cls.__dict__.get("__annotations__")  # noqa: RUF063  no import
            if not names:
                return
            cls._fields = tuple(names)
            cls._defaults = {n: cls.__dict__[n] for n in names if n in cls.__dict__}
            # Number of values, and the defaults that follow them; filled when used.
            cls._rests = {}
            for index, name in enumerate(names):
                setattr(cls, name, property(itemgetter(index)))

        def __new__(cls, *values, **named):  # noqa: D102
            count = len(values)
            if named:
                values += cls._rest(count, named)
            elif count != len(cls._fields):
                rest = cls._rests.get(count)
                if rest is None:
                    rest = cls._rests[count] = cls._rest(count, {})
                values += rest
            return tuple.__new__(cls, values)

        @classmethod
        def _rest(cls, count, named):
            values = []
            for name in cls._fields[count:]:
                if name in named:
                    values.append(named.pop(name))
                elif name in cls._defaults:
                    values.append(cls._defaults[name])
                else:
                    raise TypeError(f"{cls.__name__}: {name} is missing")
            if named or count > len(cls._fields):
                raise TypeError(f"{cls.__name__}: too many values, or unknown names")
            return tuple(values)

        def _replace(self, **changes):
            values = map(changes.pop, self._fields, self)
            made = tuple.__new__(type(self), values)
            if changes:
                raise TypeError(f"{type(self).__name__}: no such field: {changes}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            shown = ", ".join(f"{k}={v!r}" for k, v in self._asdict().items())
            return f"{type(self).__name__}({shown})"
