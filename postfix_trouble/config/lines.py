"""Logical lines of main.cf and of tables in text form (Postfix readllines(3))."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The isspace() of C, to which str.isspace() would add others.
BLANKS = " \t\n\v\f\r"


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each logical line, with the number of its first physical line.

    A line that starts with a blank continues the one before it; empty lines, and those
    whose first character after blanks is `#`, don't count, not even in the midst of a
    logical line. The newline disappears, the blanks that follow it stay. A first
    logical line that starts with a blank is yielded as it is: it is for the caller to
    complain.
    """
    first, parts = 0, list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        start = line.lstrip(BLANKS)[:1]
        if not start or start == "#":
            continue
        if line[0] not in BLANKS and parts:
            yield first, "".join(parts)
            parts.clear()
        if not parts:
            first = number
        parts.append(line)
    if parts:
        yield first, "".join(parts)
