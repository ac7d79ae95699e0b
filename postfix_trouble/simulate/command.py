"""`postfix-trouble explain`: what would Postfix do with this?"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable

import click

from postfix_trouble.core.sysexits import EX_OK, EX_USAGE
from postfix_trouble.report.as_json import refusal
from postfix_trouble.simulate import answer, explanation, records
from postfix_trouble.simulate.session import STAGES
from postfix_trouble.terminal import screen
from postfix_trouble.terminal.help_text import (
    ExplainedCommand,
    config_option,
    override_option,
)
from postfix_trouble.terminal.parameters import given_values

EXAMPLES = [
    ("", "postfix-trouble explain '450 4.7.1 Greylisted' --stage rcpt"),
    ("With what main.cf says", "postfix-trouble explain '554 no' --stage greeting"
     " --config /etc/postfix/main.cf"),
    ("No answer at all", "postfix-trouble explain timeout --stage dot"),
    ("From the log, one line for each record",
     "grep status= /var/log/mail.log | postfix-trouble explain"),
    ("", "grep status= /var/log/mail.log | postfix-trouble explain --summary"),
]  # fmt: skip


@click.command("explain", cls=ExplainedCommand, examples=EXAMPLES)
@click.argument("what", nargs=-1, metavar="[REPLY | LOG LINE | lost connection]")
@click.option(
    "--stage",
    metavar="STAGE",
    type=click.Choice([*STAGES, "banner", "eod"]),
    default=None,
    help="What it was the answer to. Default: what the log line says, else rcpt. "
    f"One of {', '.join(STAGES)}.",
)
@click.option("--final", is_flag=True, help="No other host is left to try.")
@click.option("--soft-bounce", is_flag=True, help="As with soft_bounce = yes.")
@click.option("--lmtp", is_flag=True, help="The server speaks LMTP.")
@click.option(
    "--age",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=0,
    help="Time that the message has been in the queue.",
)
@override_option
@config_option
@click.option(
    "--summary",
    is_flag=True,
    help="Of all lines on standard input: how many, by result, status and rule.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option(
    "-v", "--verbose", is_flag=True, help="All that is known, for each line, too."
)
def command(
    what: tuple[str, ...],
    stage: str | None,
    final: bool,
    soft_bounce: bool,
    lmtp: bool,
    age: float,
    overrides: tuple[str, ...],
    config: str | None,
    summary: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """Say what Postfix's SMTP client would do about a reply: keep the recipient for
    another host, defer, or bounce; and what pipe(8) would be told.

    Without REPLY, standard input is read: one reply or log record a line, one line for
    each. The answer comes from the code that delivers mail, not from a second copy of
    its rules.
    """
    values = given_values(config, overrides, lmtp=lmtp)
    if soft_bounce:
        values["soft_bounce"] = "yes"

    def one(text: str) -> answer.Explanation | answer.NotExplained:
        place = stage or ""
        return answer.explain(text, stage=place, lmtp=lmtp, values=values, age=age)

    if what and summary:
        raise click.UsageError("--summary is of what standard input has")
    if what:
        if len(what) == 1 and os.path.isfile(what[0]):
            text = f"{what[0]} is a file; did you mean: explain < {what[0]}"
            raise click.UsageError(text)
        found = one(" ".join(what))
        if as_json and isinstance(found, answer.NotExplained):
            screen.write_json(refusal(EX_USAGE, str(found)))
        return _print(found, final, as_json, verbose)
    if (as_json or verbose or sys.stdin.isatty()) and not summary:
        codes = [_print(one(text), final, as_json, verbose) for text in _lines()]
        return max(codes, default=EX_OK)
    return _log(one, summary, as_json)


def _lines() -> Iterable[str]:
    if sys.stdin.isatty():
        screen.complain("One reply or log line a line; ^D ends.")
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    repeated = records.Repeated()
    for line in filter(None, map(str.strip, sys.stdin)):
        record = records.read(line)
        if record is None or not repeated.is_it(record):
            yield line


def _print(
    found: answer.Explanation | answer.NotExplained,
    final: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """One explanation, and the exit code for it."""
    if isinstance(found, answer.NotExplained):
        screen.complain(f"postfix-trouble explain: {found}")
        return EX_USAGE
    if as_json:
        screen.write_json(explanation.as_dict(found))
    else:
        lines = explanation.text(
            found,
            screen.line_width(),
            screen.painter(),
            final_only=final,
            verbose=verbose,
        )
        screen.write_lines(lines)
    return EX_OK


def _log(
    explain: Callable[[str], answer.Explanation | answer.NotExplained],
    summary: bool,
    as_json: bool,
) -> int:
    """One line for each record, or all of them counted. Returns the exit code."""
    counts = Counter[records.Line]()
    width, paint = screen.line_width(), screen.painter()
    code = EX_OK
    for text in _lines():
        record = records.read(text)
        line = None
        if record is None or record.word != "sent":
            found = explain(text)
            if isinstance(found, answer.Explanation):
                line = records.explained(found, record)
            elif record is None:
                code = EX_USAGE
                screen.complain(f"postfix-trouble explain: {found}")
                continue
        if line is None:
            assert record is not None
            line = records.unexplained(record)
        if summary:
            counts[records.key(line)] += 1
        else:
            screen.write_lines([records.one_line(line, width, paint)])
    if summary and as_json:
        screen.write_json(records.summary_object(counts))
    elif summary:
        screen.write_lines(records.summary(counts, width, paint))
    return code
