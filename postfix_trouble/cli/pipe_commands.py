"""`deliver`, `lmtp` and `serve` as click shows them: for help, completion and manual.

They read their arguments by themselves (pipe/options), from the same tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from postfix_trouble.pipe.options import LMTP_OPTIONS, OPTIONS, SERVE_OPTIONS, Option
from postfix_trouble.terminal.help_text import ExplainedCommand, parameter_names


def _command(
    name: str,
    table: Sequence[Option],
    *,
    help: str,
    arguments: Sequence[click.Parameter] = (),
    examples: Sequence[tuple[str, str]] = (),
) -> ExplainedCommand:
    """A command with the options of a table."""
    parameters: list[click.Parameter] = [
        click.Option(
            [option.name, option.name.lstrip("-").replace("-", "_")],
            metavar=option.metavar or None,
            is_flag=not option.metavar,
            multiple=option.repeatable,
            help=option.meaning,
            type=_type(option),
            shell_complete=parameter_names if option.name == "-o" else None,
        )
        for option in table
    ]
    return ExplainedCommand(
        name, params=[*parameters, *arguments], help=help, examples=examples
    )


def _type(option: Option) -> click.ParamType[Any] | None:
    if option.metavar in ("FILE", "DIR"):
        return click.Path(dir_okay=option.metavar == "DIR")
    if "|" in option.metavar and ":" not in option.metavar:
        return click.Choice(option.metavar.split("|"))
    return click.STRING if option.metavar else None


commands = {
    "deliver": _command(
        "deliver",
        OPTIONS,
        help="""Deliver the message on standard input. Prints one status line for
        pipe(8) and ends with the exit code that goes with it: 0 delivered, 75 try again
        later, all others bounce. Options end at the first recipient.""",
        arguments=[click.Argument(["recipients"], nargs=-1, required=True)],
        examples=[
            (
                "In master.cf (see master.cf.example)",
                "argv=/usr/local/bin/postfix-trouble deliver --nexthop ${nexthop}"
                " --sender ${sender} -- ${recipient}",
            ),
            (
                "By hand, all results as JSON",
                "postfix-trouble deliver --json --sender me@example.org"
                " --nexthop '[mail.example.com]:25' -- you@example.com < message.eml",
            ),
        ],
    ),
    "lmtp": _command(
        "lmtp",
        LMTP_OPTIONS,
        help="""Speak LMTP with Postfix: one result for each recipient, connections are
        kept, no process per message.""",
        examples=[
            (
                "A server; in transport_maps: trouble-lmtp:unix:/run/trouble.sock",
                "postfix-trouble lmtp --listen unix:/run/trouble.sock --mode 0660"
                " --group postfix --config /etc/postfix/main.cf",
            )
        ],
    ),
    "serve": _command(
        "serve",
        SERVE_OPTIONS,
        help="""Stay, and deliver what `deliver --engine=PATH` hands over: no start of a
        Python for each mail, and connections are kept. Run it as the account that
        pipe(8) uses (user= in master.cf).""",
        examples=[
            (
                "A server for argv=... deliver --engine=/run/trouble/engine ...",
                "postfix-trouble serve --listen unix:/run/trouble/engine",
            )
        ],
    ),
}
