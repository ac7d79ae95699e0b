"""Write those parts of the manual pages that the code knows better.

usage: python tools/manual.py    (or `make man`)

Between `.\\" made: NAME` and `.\\" end` of man/*.[18]: the options of each command, and
the list of parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from textwrap import wrap

from postfix_trouble.cli.command_group import group
from postfix_trouble.config.parameters import LMTP_NAMES, SMTP_ONLY, TABLE, supported
from postfix_trouble.config.types import Parameter
from postfix_trouble.pipe.options import LMTP_OPTIONS, OPTIONS, SERVE_OPTIONS, Option

ROOT = Path(__file__).parent.parent
PAGES = ("man/postfix-trouble.1", "man/postfix-trouble.8")

_PART = re.compile(r'(?ms)^\.\\" made: ([\w ]+)\n.*?^\.\\" end$')

_KINDS = {"B": "yes or no", "I": "number", "T": "time", "L": "list", "M": "tables"}


def text(words: str) -> Iterator[str]:
    """Lines of running text, safe from roff."""
    safe = words.replace("\\", r"\e").replace("-", r"\-")
    for line in wrap(safe, 78, break_long_words=False, break_on_hyphens=False):
        yield r"\&" + line if line[0] in ".'" else line


def sentences(words: str) -> Iterator[str]:
    """The same, with a capital, a full stop, and a new line for each sentence."""
    whole = words.rstrip(".") + "."
    if re.match(r"[a-z]+\b(?![=_])", whole):
        whole = whole[:1].upper() + whole[1:]
    for one in re.split(r"(?<=\.) (?=[A-Z])", whole):
        yield from text(one)


# --- options


def _flag(name: str) -> str:
    double = name.startswith("--")
    return f"Fl Fl {name[2:]}" if double else f"Fl {name[1:]}"


def _item(names: list[str], metavar: str, meaning: str) -> Iterator[str]:
    flags = " , ".join(map(_flag, names))
    yield f".It {flags}" + (f" Ar {metavar}" if metavar else "")
    yield from sentences(meaning)


def _list(items: Iterable[str]) -> Iterator[str]:
    yield from (".Bl -tag -width Ds", *items, ".El")


def table_options(table: tuple[Option, ...]) -> Iterator[str]:
    """The options of a command that reads them by itself."""
    for option in table:
        again = " May be given several times." if option.repeatable else ""
        yield from _item([option.name], option.metavar, option.meaning + again)


def click_options(name: str) -> Iterator[str]:
    """The options of a command of click's."""
    import click

    context = click.Context(group, info_name="postfix-trouble")
    command = group.get_command(context, name)
    assert command is not None
    for parameter in command.params:
        if not isinstance(parameter, click.Option):
            continue
        metavar = "" if parameter.is_flag or parameter.count else "VALUE"
        again = " May be given several times." if parameter.multiple else ""
        meaning = " ".join((parameter.help or "").split())
        if again and "repeatable" in meaning:
            again = ""
        yield from _item(
            sorted(parameter.opts, key=len),
            (parameter.metavar or metavar) if metavar else "",
            meaning + again,
        )


# --- parameters


def meanings() -> dict[str, tuple[str, str]]:
    """By name: what a parameter is for, and the Postfix that brought it, if not 3.7."""
    rows = re.findall(
        r"(?m)^(\w+)(?: \(([\d.]+)\))?: (.+)$",
        (ROOT / "man/parameters.txt").read_text(),
    )
    return {name: (meaning, since) for name, since, meaning in rows}


def parameters() -> Iterator[str]:
    """All of them, by section; those that are not honoured, with the reason."""
    last, known = "", meanings()
    for section, name, other, row in supported():
        if section != last:
            yield from [".El"] if last else []
            yield f".Ss {section}"
            yield ".Bl -tag -width Ds -compact"
            last = section
        yield f".It Sy {name}"
        yield from _parameter(name, other, row, *known[name])
    yield ".El"


def _parameter(
    name: str, other: str, row: Parameter, meaning: str, since: str
) -> Iterator[str]:
    yield from sentences(meaning)
    yield from _default(row)
    if row.kind in "EL" and row.words:
        title = "One of" if row.kind == "E" else "Words"
        yield from text(f"{title}: {', '.join(filter(None, row.words))}.")
    if other:
        ours = TABLE[other].default
        if name in LMTP_NAMES or ours != row.default.replace("smtp_", "lmtp_"):
            shown = f": {ours or 'empty'}" if ours != row.default else ""
            yield from text(f"For LMTP: {other}{shown}.")
    elif name in SMTP_ONLY:
        yield from text("SMTP only.")
    if since:
        yield from text(f"New in Postfix {since}.")
    if row.unsupported:
        yield ".Em Not honoured :"
        yield from text(row.unsupported + ".")
    if row.vital:
        yield from text("While it is set all mail is deferred (4.3.5).")


def _default(row: Parameter) -> Iterator[str]:
    kind = _KINDS.get(row.kind, "")
    shown = f"Default: {row.default or 'empty'}"
    yield from text(f"{shown} ({kind})." if kind else f"{shown}.")


# --- pages

PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "deliver": lambda: _list(table_options(OPTIONS)),
    "lmtp": lambda: _list(table_options(LMTP_OPTIONS)),
    "serve": lambda: _list(table_options(SERVE_OPTIONS)),
    "send": lambda: _list(click_options("send")),
    "probe": lambda: _list(click_options("probe")),
    "explain": lambda: _list(click_options("explain")),
    "check": lambda: _list(click_options("check")),
    "parameters": parameters,
}


def updated(page: str) -> str:
    """A page with its parts made anew. Raises KeyError for one that nobody makes."""

    def part(found: re.Match[str]) -> str:
        name = found[1]
        lines = (f'.\\" made: {name}', *PARTS[name](), '.\\" end')
        return "\n".join(lines)

    return _PART.sub(part, page)


def main() -> None:
    """Write them all."""
    for name in PAGES:
        path = ROOT / name
        path.write_text(updated(path.read_text()))


if __name__ == "__main__":
    main()
