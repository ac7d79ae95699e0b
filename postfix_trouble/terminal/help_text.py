"""How --help looks: examples for every command, and readable at 40 columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import click

from postfix_trouble.terminal import screen

# What stands between blanks; those in quotes do not count.
_WORD = re.compile(r"""(?:[^ '"]|'[^']*'|"[^"]*")+""")
# Below this an option gets a line of its own.
_NARROW = 60


class Formatter(click.HelpFormatter):
    """click's formatter; where there is no room, terms and texts below one another."""

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write a list of terms and what they mean."""
        if self.width >= _NARROW:
            super().write_dl(list(rows), col_max, col_spacing)
            return
        for term, meaning in rows:
            self._wrap(term, self.current_indent)
            self._wrap(meaning, self.current_indent + 4)

    def _wrap(self, text: str, indent: int) -> None:
        lines = click.wrap_text(text, max(self.width - indent, 20)).splitlines()
        self.write("".join(f"{'':{indent}}{line}\n" for line in lines))


class Context(click.Context):
    """A context whose help is as wide as the terminal."""

    formatter_class = Formatter

    def make_formatter(self) -> click.HelpFormatter:
        """click itself goes no lower than 50 columns."""
        return Formatter(width=screen.width() - 1)


class ExplainedCommand(click.Command):
    """A command with examples: pairs of what for, and the command line."""

    context_class = Context

    def __init__(
        self, *args: Any, examples: Sequence[tuple[str, str]] = (), **named: Any
    ) -> None:
        super().__init__(*args, **named)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the epilog."""
        write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


def write_examples(
    examples: Sequence[tuple[str, str]], formatter: click.HelpFormatter
) -> None:
    """Write examples that can be copied, however narrow the place."""
    if not examples:
        return
    formatter.write_paragraph()
    formatter.write("Examples:\n")
    for what, line in examples:
        if what:
            shown = click.wrap_text(f"# {what}", formatter.width - 2, "  ", "  # ")
            formatter.write(f"{shown}\n")
        formatter.write(f"  {continued(line, formatter.width - 2)}\n")


def continued(line: str, width: int) -> str:
    """A command line, broken at blanks outside of quotes so that a shell takes it."""
    out, current = [], ""
    for word in _WORD.findall(line):
        if current and len(current) + 1 + len(word) > width - 2:
            out.append(current + " \\")
            current = "    " + word
        else:
            current = f"{current} {word}" if current else word
    return "\n  ".join([*out, current])


def parameter_names(
    _context: click.Context, _option: click.Parameter, begun: str
) -> list[str]:
    """The parameters that -o may mean, for completion."""
    from postfix_trouble.config.parameters import TABLE

    names = (f"{name}=" for name, row in TABLE.items() if not row.unsupported)
    return sorted(name for name in names if name.startswith(begun))


override_option = click.option(
    "-o",
    "overrides",
    metavar="NAME=VALUE",
    multiple=True,
    shell_complete=parameter_names,
    help="Set a main.cf parameter.",
)
config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(),
    help="Read parameters from a main.cf.",
)
