"""Text for terminals: labels and what belongs to them, tables, at any width.

Nothing here knows whether there is a terminal: the width is given, and so is what
paints a text (colour, text) -> text; by default nothing is painted.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from postfix_trouble.core.value import Value

Paint = Callable[[str, str], str]

# Below this a label gets a line of its own.
NARROW = 60


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


def fields(
    rows: Sequence[Field], width: int, paint: Paint = plain, *, column: int = 0
) -> Iterator[str]:
    """Labels to the left and texts beside them, or below in a narrow place.

    `column`: where texts begin, if labels leave room for that.
    """
    column = max(column, *(len(row.label) + 2 for row in rows), 2)
    for label, text, colour in rows:
        if width < NARROW:
            yield paint("bold", label)
            yield from (f"  {paint(colour, x)}" for x in wrapped(text, width - 2))
            continue
        lines = wrapped(text, width - column)
        yield f"{paint('bold', label.ljust(column))}{paint(colour, lines[0])}"
        for line in lines[1:]:
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
        labelled = [
            cell._replace(label=f"  {title.lower()}")
            for title, cell in zip(head[1:], others, strict=True)
            if cell.text
        ]
        labelled += [cell._replace(label=f"  {cell.label}") for cell in below]
        # A list in a narrow place would take two lines for each word.
        room = max((len(cell.label) for cell in labelled), default=0) + 2
        for cell in labelled:
            lines = wrapped(cell.text, width - room)
            yield cell.label.ljust(room) + paint(cell.colour, lines[0])
            for line in lines[1:]:
                yield " " * room + paint(cell.colour, line)
