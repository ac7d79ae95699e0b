"""Messages as people send them: of each kind that test suites of mail libraries keep.

Nothing is copied from those. Each kind is made after what such a suite has it for, from
a seed: the same name is the same message, on any machine. What they have in common with
the real ones is what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import part_kinds
import text_kinds
from message_pieces import KINDS

__all__ = ["KINDS", "Mail", "mails", "part_kinds", "text_kinds"]

# Of each kind; so many that each way to declare an encoding is among them.
EACH = 10


class Mail(NamedTuple):
    """A message as sendmail(1) gets it, and its name: KIND-NUMBER."""

    name: str
    text: bytes

    @property
    def kind(self) -> str:
        return self.name.rpartition("-")[0]

    @property
    def number(self) -> int:
        return int(self.name.rpartition("-")[2])


def mails(each: int = EACH) -> Iterator[Mail]:
    """So many messages of each kind."""
    for kind, make in KINDS.items():
        for number in range(each):
            name = f"{kind}-{number}"
            yield Mail(name, make(Random(name)))
