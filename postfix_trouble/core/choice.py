"""The base of all enumerations here, for the same reason as Value in value.py.

`import enum` takes 5 ms of a delivery that takes 15. To a type checker these classes
*are* those of the enum module; at run time they are the few lines below: members that
are made once, are known by identity, and have a name and a value. What the enum module
can do beyond that (aliases, auto(), calling by several values) is not there.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.value import TYPE_CHECKING

__all__ = ["Choice", "Flags", "Ordered"]

if TYPE_CHECKING:
    from enum import Enum as Choice
    from enum import Flag as Flags
    from enum import IntEnum as Ordered
else:

    class _Members(type):
        """Classes whose public attributes that are plain values become members."""

        def __init__(cls, name, bases, body):
            super().__init__(name, bases, body)
            cls._members = {}
            for word, value in body.items():
                if word.startswith("_") or callable(value) or hasattr(value, "__get__"):
                    continue
                member = cls._make(value)
                member.name, member.value = word, value
                cls._members[word] = member
                setattr(cls, word, member)

        def __iter__(cls):
            return iter(cls._members.values())

        def __len__(cls):
            return len(cls._members)

        def __getitem__(cls, name):
            return cls._members[name]

        def __call__(cls, value):
            for member in cls:
                if member.value == value:
                    return member
            return cls._made(value)

    class Choice(metaclass=_Members):
        """One of a few."""

        @classmethod
        def _make(cls, value):
            return object.__new__(cls)

        @classmethod
        def _made(cls, value):
            raise ValueError(f"{value!r} is not a {cls.__name__}")

        def __repr__(self):
            return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

        def __copy__(self):
            return self

        def __deepcopy__(self, _memo):
            return self

        def __reduce__(self):
            return getattr, (type(self), self.name)

    class Ordered(int, Choice, metaclass=_Members):
        """One of a few that have an order: its value is a number."""

        @classmethod
        def _make(cls, value):
            return int.__new__(cls, value)

    class Flags(int, Choice, metaclass=_Members):
        """Any of a few."""

        @classmethod
        def _make(cls, value):
            return int.__new__(cls, value)

        @classmethod
        def _made(cls, value):
            # A combination of members.
            member = cls._make(value)
            words = [each.name for each in cls if each and value & each]
            member.name, member.value = "|".join(words), value
            return member

        def __or__(self, other):
            return type(self)(int(self) | int(other))

        def __and__(self, other):
            return type(self)(int(self) & int(other))

        def __contains__(self, other):
            return int(self) & int(other) == int(other)
