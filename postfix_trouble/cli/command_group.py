"""The commands, as click knows them. Each is a module of its own, and is loaded only
when it is called: `explain` does not pay for what `send` needs."""

from __future__ import annotations

from importlib import import_module

import click

from postfix_trouble import __version__
from postfix_trouble.cli.meant import COMMANDS, NAMES, command_problem
from postfix_trouble.terminal import help_text, screen

EXAMPLES = (
    ("What would Postfix do about this?",
     "postfix-trouble explain '450 4.7.1 Greylisted'"),
    ("Is everything as it should be?",
     "postfix-trouble check"),
    ("Who takes mail for this domain, and how?",
     "postfix-trouble probe example.com"),
    ("Send a test message.",
     "postfix-trouble send --to you@example.com"),
)  # fmt: skip


class Group(click.Group):
    """A group that knows its commands by name, and loads them when they are called."""

    context_class = help_text.Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the table."""
        return [*NAMES, "help"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command. None if there is none of that name."""
        for name, module, words in COMMANDS:
            if name == cmd_name:
                found = import_module(f"postfix_trouble.{module}")
                command: click.Command = getattr(found, "commands", {}).get(name) or (
                    found.command
                )
                command.short_help = words
                return command
        return help_command if cmd_name == "help" else None

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands, without loading one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, _, words in COMMANDS])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        help_text.write_examples(EXAMPLES, formatter)
        formatter.write_paragraph()
        formatter.write_text("postfix-trouble COMMAND --help tells more.")


@click.command("help", context_settings={"ignore_unknown_options": True})
@click.argument("name", required=False, default="")
@click.pass_context
def help_command(ctx: click.Context, name: str) -> None:
    """Show the help of a command."""
    parent = ctx.parent
    assert parent is not None
    command = group.get_command(parent, name) if name else None
    if name and command is None:
        raise click.UsageError(command_problem([name]), parent)
    if command is None:
        screen.write(parent.get_help() + "\n")
        return
    with help_text.Context(command, info_name=name, parent=parent) as context:
        screen.write(command.get_help(context) + "\n")


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Deliver mail by SMTP or LMTP as Postfix's own client would, and show what
    it would do: keep, defer or bounce.""",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def group() -> None:
    """Run a command. That there is none of that name is said before (main.py)."""
