"""Text for terminals: labels and what belongs to them, tables, at any width.

Nothing here knows whether there is a terminal: the width is given, and so is what
paints a text (colour, text) -> text; by default nothing is painted.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from postfix_trouble.core.value import Value

Paint = Callable[[str, str], str]


class Field(Value):
    """A label and a text; `colour` is that of the text."""

    label: str
    text: str
    colour: str = ""


def plain(_colour: str, text: str) -> str:
    """Paint nothing."""
    return text


def wrapped(text: str, width: int) -> list[str]:
    """Break a text at blanks; a word longer than the width is broken too."""
    from textwrap import wrap

    return wrap(text, max(width, 10), break_on_hyphens=False) or [""]


def fields(rows: Sequence[Field], width: int, paint: Paint = plain) -> Iterator[str]:
    """Labels to the left and texts beside them, in as many lines as it takes."""
    column = max((len(row.label) for row in rows), default=0) + 2
    for label, text, colour in rows:
        first, *others = wrapped(text, width - column)
        yield f"{paint('bold', label.ljust(column))}{paint(colour, first)}"
        for line in others:
            yield " " * column + paint(colour, line)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Field]],
    width: int,
    paint: Paint = plain,
    notes: Sequence[Sequence[Field]] = (),
) -> Iterator[str]:
    """A table; where it does not fit, each row becomes a list of labels and texts.

    The label of a cell is not shown in the table: it is that of the list. `notes`: for
    each row, what stands below it; there labels are of the list only, too.
    """
    notes = notes or [()] * len(rows)
    sizes = [
        max(len(title), *(len(row[i].text) for row in rows)) if rows else len(title)
        for i, title in enumerate(head)
    ]
    if sum(sizes) + 2 * (len(sizes) - 1) <= width:
        titles = (title.ljust(size) for title, size in zip(head, sizes, strict=True))
        yield paint("bold", "  ".join(titles).rstrip())
        for row, below in zip(rows, notes, strict=True):
            cells = [
                (cell.text.ljust(size), cell)
                for cell, size in zip(row, sizes, strict=True)
            ]
            last = cells[-1][1].text
            shown = [paint(cell.colour, text) for text, cell in cells[:-1]]
            yield "  ".join([*shown, paint(cells[-1][1].colour, last)]).rstrip()
            for _, text, colour in below:
                for line in wrapped(text, width - 2):
                    yield f"  {paint(colour, line)}"
        return
    for number, (row, below) in enumerate(zip(rows, notes, strict=True)):
        if number:
            yield ""
        first, *others = row
        yield from (paint("bold", line) for line in wrapped(first.text, width))
        named = [
            cell._replace(label=title.lower())
            for title, cell in zip(head[1:], others, strict=True)
            if cell.text
        ]
        for line in fields([*named, *below], width - 2, paint):
            yield f"  {line}"
