"""A delivery shown live: lines of the dialogue with their times, a time line.

The marks are those that swaks made known:

    ===  about the connection          **   no connection
     ->  what we say                   <-   what the server says
     ~>  the same, over TLS            <~
    <**  the server refuses            <~*
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterable, Sequence

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.steps import Phase
from postfix_trouble.core.value import Value
from postfix_trouble.report.log import printable
from postfix_trouble.terminal.columns import Paint


class Way(Choice):
    """Who speaks."""

    ABOUT = "about"
    TROUBLE = "trouble"
    OUT = "out"
    IN = "in"
    # What smtp_reply_filter made of the line before.
    REPLACED = "replaced"


class Event(Value):
    """One line."""

    # Seconds since the beginning.
    at: float
    way: Way
    text: str
    tls: bool = False


class Stage(Value):
    """A part of a session. Seconds since the beginning, and how long it took."""

    name: str
    start: float
    seconds: float


class Timing(Value):
    """The stages with one server."""

    # host[address]:port
    server: str
    stages: tuple[Stage, ...]


# Besides these there are look-up, connect and AUTH, which are no phases.
BY_PHASE = {
    Phase.GREETING: "greeting",
    Phase.EHLO: "greeting",
    Phase.HELO: "greeting",
    Phase.LHLO: "greeting",
    Phase.STARTTLS: "TLS",
    Phase.XFORWARD_NAME: "envelope",
    Phase.XFORWARD_HELO: "envelope",
    Phase.MAIL: "envelope",
    Phase.RCPT: "envelope",
    Phase.DATA: "envelope",
    Phase.BODY: "data",
    Phase.DOT: "data",
    Phase.RSET: "quit",
    Phase.PROBE: "quit",
    Phase.QUIT: "quit",
}

_MARKS = {
    Way.ABOUT: "===",
    Way.TROUBLE: "** ",
    Way.OUT: " ->",
    Way.IN: "<- ",
    Way.REPLACED: "<= ",
}
_COLOURS = {Way.ABOUT: "cyan", Way.TROUBLE: "red", Way.OUT: "bold"}


def event_lines(event: Event, width: int, paint: Paint) -> list[str]:
    """A line of the transcript, in as many lines as it takes."""
    mark, colour = _MARKS[event.way], _COLOURS.get(event.way, "")
    if event.way is Way.IN and event.text[:1] in ("4", "5"):
        mark, colour = "<**", "red" if event.text[0] == "5" else "yellow"
    if event.tls:
        mark = mark.replace("-", "~").replace("<**", "<~*")
    head = f"{event.at:7.3f} {mark} "
    indent = " " * len(head)
    pieces = _pieces(printable(event.text), width - len(head))
    return [
        (indent if number else head) + paint(colour, piece)
        for number, piece in enumerate(pieces)
    ]


def _pieces(text: str, width: int) -> list[str]:
    """A text in pieces of at most `width` characters.

    At blanks where there are any. Nothing is lost but the blank at the break: what a
    server says is shown as it said it.
    """
    pieces = []
    while width < len(text):
        at = text.rfind(" ", 1, width + 1)
        if at <= 0 or not text[:at].strip():
            pieces.append(text[:width])
            text = text[width:]
        else:
            pieces.append(text[:at])
            text = text[at + 1 :]
    return [*pieces, text]


# --- the time line ------------------------------------------------------------------


def merged(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages in their order, what belongs to one and follows on it put together."""
    found: list[Stage] = []
    for stage in stages:
        if found and found[-1].name == stage.name:
            last = found[-1]
            end = stage.start + stage.seconds
            found[-1] = last._replace(seconds=end - last.start)
        else:
            found.append(stage)
    return tuple(found)


def time_line(timings: Sequence[Timing], width: int, paint: Paint) -> list[str]:
    """How long each stage took, and when it was, one line for each.

    `width`: of the screen; narrow ones get no bars.
    """
    stages = [stage for timing in timings for stage in timing.stages]
    if not stages:
        return []
    begin = min(stage.start for stage in stages)
    end = max(stage.start + stage.seconds for stage in stages)
    room = min(width - 26, 50)
    lines = []
    for timing in timings:
        lines += [paint("bold", piece) for piece in _pieces(timing.server, width)]
        for stage in timing.stages:
            bar = _bar(stage, begin, end - begin, room) if room >= 8 else ""
            lines.append(f"  {stage.name:9}{stage.seconds:7.3f} s{bar}")
    return [*lines, f"  {'total':9}{end - begin:7.3f} s"]


def _bar(stage: Stage, begin: float, whole: float, room: int) -> str:
    """Where in the whole a stage lies; it is never so short that it can't be seen."""
    scale = room / whole if whole > 1e-6 else 0.0
    first = min(int((stage.start - begin) * scale), room - 1)
    length = max(1, round(stage.seconds * scale))
    return f"  |{' ' * first}{'=' * min(length, room - first)}".ljust(room + 3) + "|"


def as_object(events: Iterable[Event], timings: Iterable[Timing]) -> dict[str, object]:
    """The same for JSON."""
    return {
        "transcript": [
            {**event._asdict(), "at": round(event.at, 3), "way": event.way.value}
            for event in events
        ],
        "timings": [
            {
                "server": timing.server,
                "stages": [
                    {"name": name, "start": round(start, 3), "seconds": round(took, 3)}
                    for name, start, took in timing.stages
                ],
            }
            for timing in timings
        ],
    }
