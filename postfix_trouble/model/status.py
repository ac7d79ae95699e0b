"""Enhanced status codes (RFC 3463)."""

from __future__ import annotations

import re

_VALID = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?=\s|\Z)")


class EnhancedStatus(str):
    """An X.Y.Z status. A string, kept as it was received: `4.07.1` stays that.

    The empty status means "nothing reported yet".
    """

    __slots__ = ()

    @property
    def soft(self) -> bool:
        """Worth another try later."""
        return self.startswith("4")

    @property
    def hard(self) -> bool:
        """Never going to work."""
        return self.startswith("5")

    def softened(self) -> EnhancedStatus:
        """The same detail in class 4."""
        return EnhancedStatus("4" + self[1:])

    @classmethod
    def leading(cls, text: str) -> EnhancedStatus | None:
        """The status that the text begins with, None if it begins with none.

        After Postfix dsn_valid(3): class 2, 4 or 5, then one to three digits twice,
        then white space or the end.
        """
        found = _VALID.match(text)
        return cls(found[0]) if found else None
