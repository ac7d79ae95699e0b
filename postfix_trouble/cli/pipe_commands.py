"""`deliver`, `lmtp` and `serve` as click shows them: for help, completion and manual.

They read their arguments by themselves (pipe/options), from the same tables.
"""

from __future__ import annotations

import click

from postfix_trouble.pipe.options import LMTP_OPTIONS, OPTIONS, SERVE_OPTIONS
from postfix_trouble.terminal.help_text import option_command

commands = {
    "deliver": option_command(
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
                " --nexthop [mail.example.com]:25 -- you@example.com < message.eml",
            ),
        ],
    ),
    "lmtp": option_command(
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
    "serve": option_command(
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
