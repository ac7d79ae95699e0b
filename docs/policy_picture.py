"""The whole policy as one picture (SVG), made from its tables.

A line for each stage of a session, a column for each kind of answer. In a cell what
becomes of the recipient: to the left if another host is left to try, to the right at
the last one. Where the tables change, so does the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from policy_tables import WORDS, DecisionRow, Table, stages, tables
from svg import Canvas

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.sysexits import NAMES
from postfix_trouble.policy.trouble import left_over
from postfix_trouble.report.pipe8 import exit_code


class Column(NamedTuple):
    """A kind of answer."""

    title: str
    below: str
    # Parts of a row's event that belong here.
    events: tuple[str, ...]
    width: int
    # It is about reply codes: what is said of any code holds here too.
    codes: bool = True


OWN_TABLE = "own table fails"
COLUMNS = (
    Column("success", "2xx, after DATA 3xx", (), 120),
    Column("4xx", "soft", ("4xx", "421"), 130),
    Column("5xx", "hard", ("5xx", "other 5xx"), 130),
    Column("500-509, 555", "we broke the rules", ("5xx", "500-509", "555"), 130),
    Column("any other code", "it broke the rules", ("any other code",), 130),
    Column(
        "no reply", "lost, or too late", ("connection lost", "no answer"), 130, False
    ),
)
SPECIAL = 396
LABEL = 250
MARGIN = 24
TOP = 128
LINE = 46
FILL = {
    "keep": "#cfe2f8",
    "defer": "#ffe3a6",
    "bounce": "#f7b8b0",
    "sent": "#c6eac6",
    "continue": "#e3f4e3",
    "plaintext": "#e3d3f5",
}
INK, FAINT, RULE = "#1c2733", "#5a6875", "#d9dfe5"
WIDTH = 2 * MARGIN + LABEL + sum(c.width for c in COLUMNS) + SPECIAL


def draw() -> str:
    """The picture, as the text of an SVG file."""
    shown = [table for stage in stages() for table in tables(stage)]
    canvas = Canvas(WIDTH)
    _heading(canvas)
    top: float = TOP
    for table in shown:
        top = _line(canvas, table, top)
    top = _legend(canvas, shown, top + 20)
    top = _after(canvas, top + 14)
    return canvas.text(top + MARGIN)


# --- the matrix ---------------------------------------------------------------------


def _heading(canvas: Canvas) -> None:
    title = "What becomes of a message when a server says something other than yes"
    canvas.write(MARGIN, 38, title, size=22, bold=True)
    canvas.write(
        MARGIN,
        62,
        "The policy of Postfix's SMTP client, as postfix-trouble has it. In each cell: "
        "if another host is left to try | at the last host.",
        size=14,
        colour=FAINT,
    )
    canvas.write(MARGIN, TOP - 30, "stage", size=14, bold=True)
    canvas.write(MARGIN, TOP - 13, "setting · who decides", size=12, colour=FAINT)
    x = MARGIN + LABEL
    for column in COLUMNS:
        middle = x + column.width / 2
        canvas.write(
            middle, TOP - 30, column.title, size=14, bold=True, anchor="middle"
        )
        canvas.write(
            middle, TOP - 13, column.below, size=12, colour=FAINT, anchor="middle"
        )
        x += column.width
    canvas.write(x + 10, TOP - 30, "something else", size=14, bold=True)
    canvas.write(x + 10, TOP - 13, "in place of a reply", size=12, colour=FAINT)


def _line(canvas: Canvas, table: Table, top: float) -> float:
    """A stage. Returns where the next one begins."""
    specials = _specials(table)
    height = max(LINE, 18 * len(specials) + 10)
    canvas.rule(MARGIN, top, WIDTH - MARGIN, RULE)
    title, _, setting = table.title.partition(", ")
    canvas.write(MARGIN, top + 20, title, size=15, bold=True)
    entries = dict.fromkeys(row.entry for row in table.rows if row.entry)
    if len(entries) > 1:
        # What the column of lost connections says in every line.
        entries.pop("stream_except", None)
    words = [setting.removeprefix("smtp_"), *entries] if setting else [*entries]
    canvas.write(MARGIN, top + 36, " · ".join(words), size=11, colour=FAINT)
    x: float = MARGIN + LABEL
    for number, column in enumerate(COLUMNS):
        row = _row_for(table.rows, column, success=not number)
        if row is not None:
            _cell(canvas, row, x + 4, top + 5, column.width - 8)
        x += column.width
    room = (height - 8) / max(len(specials), 1)
    for number, (row, events) in enumerate(specials.items()):
        _special(canvas, row, events, x + 10, top + 5 + number * room, room - 2)
    return top + height


def _parts(row: DecisionRow) -> set[str]:
    return set(row.event.split(", "))


def _any(row: DecisionRow) -> bool:
    return bool(_parts(row) & {"any code", "any other code"})


def _row_for(
    rows: Sequence[DecisionRow], column: Column, success: bool
) -> DecisionRow | None:
    """The row that belongs into a column."""
    rest = next((row for row in rows if _any(row)), None)
    if success:
        for row in rows:
            goes_on = row.last in ("sent", "continue")
            if goes_on and any("xx" in part for part in _parts(row)):
                return row
        return rest if rest and rest.last == "continue" else None
    for row in rows:
        if _parts(row) & set(column.events):
            return row
    return rest if column.codes else None


def _halves(row: DecisionRow, x: float, width: float) -> list[tuple[str, float, float]]:
    """What happens if hosts are left, and at the last one; one part if it is equal."""
    if row.another == row.last:
        return [(row.last, x, width)]
    half = width / 2
    return [(row.another, x, half), (row.last, x + half, half)]


def _cell(canvas: Canvas, row: DecisionRow, x: float, y: float, width: float) -> None:
    height = LINE - 10
    for word, left, size in _halves(row, x, width):
        canvas.box(left, y, size, height, FILL[word])
        canvas.write(left + size / 2, y + 19, WORDS[word], size=14, anchor="middle")
    if row.event == "421":
        canvas.write(x + 5, y + 32, "421 only", size=10, colour=FAINT)
    right, bottom = x + width, y + height
    if row.throttles:
        canvas.pause(right - 12, bottom - 11, INK)
        right -= 14
    if row.notice:
        canvas.letter(right - 18, bottom - 11, INK)


def _specials(table: Table) -> dict[DecisionRow, list[str]]:
    """What has no column: name service, connections, TLS. Events by what follows."""
    known = {OWN_TABLE, "any code", "any other code"}
    known.update(event for column in COLUMNS for event in column.events)
    groups: dict[DecisionRow, list[str]] = {}
    for row in table.rows:
        by_code = any("xx" in part for part in _parts(row))
        if not (by_code or _parts(row) & known):
            alike = row._replace(event="", status="")
            groups.setdefault(alike, []).append(row.event)
    return groups


def _special(
    canvas: Canvas,
    row: DecisionRow,
    events: list[str],
    x: float,
    y: float,
    height: float,
) -> None:
    width = 100
    base = y + height / 2 + 4
    for word, left, size in _halves(row, x, width):
        canvas.box(left, y, size, height, FILL[word])
        canvas.write(left + size / 2, base, WORDS[word], size=12, anchor="middle")
    if row.throttles:
        canvas.pause(x + width + 5, base - 9, INK)
    shown = ", ".join(events)
    size = 11 if len(shown) > 32 else 12
    canvas.write(x + width + 18, base, shown, size=size)


# --- below it -----------------------------------------------------------------------


def _legend(canvas: Canvas, shown: Sequence[Table], top: float) -> float:
    canvas.rule(MARGIN, top - 20, WIDTH - MARGIN, RULE)
    meanings = (
        ("keep", "offered to the next host"),
        ("defer", "stays in the queue, tried again later"),
        ("bounce", "returned to the sender, even if hosts are left"),
        ("continue", "the dialogue goes on"),
        ("sent", "delivered"),
        ("plaintext", "same host, without TLS"),
    )
    x: float = MARGIN
    for number, (word, meaning) in enumerate(meanings):
        if number == 3:
            x, top = MARGIN, top + 30
        canvas.box(x, top, 54, 22, FILL[word])
        canvas.write(x + 27, top + 16, WORDS[word], size=13, anchor="middle")
        canvas.write(x + 60, top + 16, meaning, size=12, colour=FAINT)
        x += 420
    top += 44
    canvas.pause(MARGIN + 2, top - 9, INK)
    canvas.write(
        MARGIN + 18,
        top,
        "the destination is throttled: other mail for it waits, too (unless an earlier "
        "session of this delivery ran to its end)",
        size=12,
        colour=FAINT,
    )
    canvas.letter(MARGIN + 790, top - 9, INK)
    canvas.write(
        MARGIN + 812,
        top,
        "a transcript for the postmaster, if notify_classes has protocol",
        size=12,
        colour=FAINT,
    )
    for note in _notes(shown):
        top += 20
        canvas.write(MARGIN, top, note, size=12, colour=FAINT)
    return top


def _notes(shown: Sequence[Table]) -> Iterator[str]:
    """What holds in all tables alike. What does not is not said."""
    rows = [row for table in shown for row in table.rows]
    bounces = [row for row in rows if row.last == "bounce"]
    softened = all((r.soft_another, r.soft_last) == ("keep", "defer") for r in bounces)
    same = all(
        (row.soft_another, row.soft_last) == (row.another, row.last)
        for row in rows
        if row.last != "bounce"
    )
    if softened and same:
        yield "Under soft_bounce a bounce becomes keep | defer; nothing else changes."
    own = {row._replace(event="") for row in rows if row.event == OWN_TABLE}
    if len(own) == 1:
        row = own.pop()
        yield (
            f"A table of ours that can't be searched is {row.status} at every stage: "
            f"{WORDS[row.another]} | {WORDS[row.last]}, throttled, and a notice of "
            f"class {row.notice}."
        )
    one = [t.title for t in shown for row in t.rows if row.entry == "rcpt_fail"]
    where = ", ".join(dict.fromkeys(one))
    yield (
        f"A refusal of {where} hits one recipient (LMTP: after the end of data, too); "
        "all others hit every recipient that is left."
    )


def _after(canvas: Canvas, top: float) -> float:
    """What is left after the last host, and what pipe(8) is told."""
    canvas.rule(MARGIN, top, WIDTH - MARGIN, RULE)
    top += 28
    middle = WIDTH / 2 + 60
    canvas.write(MARGIN, top, "After the last host", size=15, bold=True)
    canvas.write(middle, top, "What pipe(8) is told", size=15, bold=True)
    lines = list(_left_over())
    for number, (left, right) in enumerate(lines):
        y = top + 24 + 20 * number
        canvas.write(MARGIN, y, left, size=13)
        canvas.write(MARGIN + 430, y, right, size=13)
    codes = list(_exits())
    for number, (left, right) in enumerate(codes):
        y = top + 24 + 20 * number
        canvas.write(middle, y, left, size=13)
        canvas.write(middle + 200, y, right, size=13)
    return top + 24 + 20 * max(len(lines), len(codes))


def _left_over() -> Iterator[tuple[str, str]]:
    hard = DSN(EnhancedStatus("5.4.4"), "host not found")
    cases: tuple[tuple[str, DSN, dict[str, bool]], ...] = (
        ("nothing was tried, nothing is known", DSN(), {}),
        ("hard, the last one was a smtp_fallback_relay", hard, {"fallback": True}),
        ("hard, the destination is our relayhost", hard, {"relayhost": True}),
        ("hard otherwise", hard, {}),
    )
    for words, why, circumstances in cases:
        found, _ = left_over(
            why,
            fallback=circumstances.get("fallback", False),
            relayhost=circumstances.get("relayhost", False),
        )
        end = "defer" if found.status.soft else "bounce"
        yield words, f"{found.status}  {end}"


def _exits() -> Iterator[tuple[str, str]]:
    samples = {
        "delivered": "2.0.0",
        "4.y.z": "4.7.1",
        "5.1.1": "5.1.1",
        "5.1.2, 5.4.4": "5.1.2",
        "5.5.z, 5.6.z, 5.7.z": "5.5.0",
        "any other 5.y.z": "5.2.2",
    }
    for words, status in samples.items():
        if words.startswith("5.5"):
            codes = [exit_code(x) for x in ("5.5.0", "5.6.0", "5.7.0")]
            yield words, f"exit {', '.join(map(str, codes))} (in this order)"
        else:
            code = exit_code(status)
            yield words, f"exit {code} {NAMES[code]}"
