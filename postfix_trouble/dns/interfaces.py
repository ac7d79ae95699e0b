"""The name services, as finding servers sees them. Loaded by type checkers only."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from typing import Protocol

from postfix_trouble.dns.lookup import Answer, NativeAnswer


class Lookups(Protocol):
    """What finding servers needs of the outside."""

    def query(self, name: str, kind: str) -> Answer:
        """Ask the DNS for records of one kind."""

    def native(self, host: str) -> NativeAnswer:
        """Ask the system for addresses of the enabled families."""

    def own(self, address: str) -> bool:
        """Whether mail to this address comes back to us."""

    def address_text(self, address: str) -> str:
        """The usual form of an address."""

    def below(self, limit: int) -> int:
        """A random number from 0 to limit - 1."""

    def note(self, text: str) -> None:
        """Log something."""
