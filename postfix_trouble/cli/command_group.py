"""The commands, as click knows them. Each is a module of its own, and is loaded only
when it is called: `explain` does not pay for what `send` needs."""

from __future__ import annotations

from importlib import import_module

import click

from postfix_trouble import __version__
from postfix_trouble.terminal import help_text, screen

# Name, module that has it as `command`, and what it does in one line.
COMMANDS = (
    ("send", "cli.send", "Send a test message, and see what Postfix would do."),
    ("probe", "cli.probe", "Look at the servers of a destination; send nothing."),
    (
        "explain",
        "simulate.command",
        "Say what Postfix would do about a reply or a log line.",
    ),
    ("check", "check.command", "Check configuration, master.cf, state, DNS."),
    (
        "deliver",
        "cli.pipe_commands",
        "Deliver for pipe(8): this is what master.cf runs.",
    ),
    ("lmtp", "cli.pipe_commands", "Deliver for lmtp(8): a server, or under spawn(8)."),
    ("serve", "cli.pipe_commands", "The engine for deliver --engine: a server."),
)
EXAMPLES = (
    ("What would Postfix do about this?",
     "postfix-trouble explain '450 4.7.1 Greylisted'"),
    ("Is everything as it should be?",
     "postfix-trouble check --config /etc/postfix/main.cf"),
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
        return [name for name, _, _ in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command. None if there is none of that name."""
        for name, module, _ in COMMANDS:
            if name == cmd_name:
                found = import_module(f"postfix_trouble.{module}")
                command: click.Command = getattr(found, "commands", {}).get(name) or (
                    found.command
                )
                command.context_class = help_text.Context
                return command
        return help_command if cmd_name == "help" else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as problem:
            from difflib import get_close_matches

            close = get_close_matches(args[0], self.list_commands(ctx), 1)
            if not close:
                raise
            text = f"No such command '{args[0]}'. Did you mean {close[0]}?"
            raise click.UsageError(text, ctx) from problem

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
        raise click.UsageError(f"No such command '{name}'.", parent)
    if command is None:
        screen.write(parent.get_help() + "\n")
        return
    with help_text.Context(command, info_name=name, parent=parent) as context:
        screen.write(command.get_help(context) + "\n")


@click.group(
    cls=Group,
    invoke_without_command=True,
    help="""Deliver mail by SMTP or LMTP as Postfix's own client would, and show what
    it would do: keep, defer or bounce.""",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def group(ctx: click.Context) -> None:
    """Show the help if there is no command."""
    if ctx.invoked_subcommand is None:
        screen.write(ctx.get_help() + "\n")
