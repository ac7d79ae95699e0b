"""Entry point of every command, and how it ends.

Errors are one line that a person can act on; exit codes are those of sysexits.h: 64 for
a command line that can't be understood, 78 for a configuration that can't be used.
"""

from __future__ import annotations

import os
import sys

from postfix_trouble.core.sysexits import EX_CONFIG, EX_OK, EX_TEMPFAIL, EX_USAGE
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from click import ClickException

# A shell asks what may follow: click answers.
_COMPLETE = "_POSTFIX_TROUBLE_COMPLETE"
# What stands in the place of a command.
_WORDS = ("help", "-h", "--help", "--version")


def main(argv: list[str]) -> int:
    """Run the command on the command line. Returns the exit code.

    `deliver` and `lmtp` read their arguments by themselves, and don't load click.
    """
    command, rest = (argv[0], argv[1:]) if argv else ("", [])
    if rest[:1] not in (["-h"], ["--help"]):
        if command == "deliver":
            from postfix_trouble.pipe.deliver import run as deliver

            return deliver(rest)
        if command == "lmtp":
            from postfix_trouble.lmtp.command import run as lmtp

            return lmtp(rest)
        if command == "serve":
            from postfix_trouble.engine.command import run as serve

            return serve(rest)
    return _with_click(argv)


def _with_click(argv: list[str]) -> int:
    import click

    from postfix_trouble.cli.command_group import group
    from postfix_trouble.cli.meant import NAMES, command_problem
    from postfix_trouble.config.settings import ConfigError
    from postfix_trouble.core.failure import TableError
    from postfix_trouble.terminal import screen

    try:
        known = (*NAMES, *_WORDS)
        if _COMPLETE not in os.environ and (not argv or argv[0] not in known):
            raise click.UsageError(command_problem(argv))
        code = group.main(argv, prog_name="postfix-trouble", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as problem:
        screen.complain(_worded(problem, argv))
        return _wrong(argv, EX_USAGE, problem.format_message())
    except ConfigError as problem:
        screen.complain(f"postfix-trouble: {problem}")
        return _wrong(argv, EX_CONFIG, str(problem))
    except TableError as problem:
        # As `deliver` has it: deferred, and nobody is to blame but a table of ours.
        text = f"table look-up error: {problem}"
        screen.complain(f"postfix-trouble {argv[0]}: {text}")
        return _wrong(argv, EX_TEMPFAIL, text)
    except click.Abort:
        screen.complain("postfix-trouble: interrupted")
        # failsafe.py ends by the signal.
        raise KeyboardInterrupt from None
    except (BrokenPipeError, SystemExit):
        # Help and the like: nobody wants the rest. For click that is exit(1).
        screen.drop_output()
        return EX_OK
    return code if isinstance(code, int) else EX_OK


def _wrong(argv: list[str], code: int, error: str) -> int:
    """A program that asked for JSON gets JSON. Returns the code."""
    if "--json" in argv:
        from postfix_trouble.report.as_json import refusal
        from postfix_trouble.terminal import screen

        screen.write_json(refusal(code, error))
    return code


def _worded(problem: ClickException, argv: list[str]) -> str:
    """The problem, and where to read on."""
    import click

    from postfix_trouble.cli.meant import NAMES

    context = getattr(problem, "ctx", None)
    path = context.command_path if context else "postfix-trouble"
    if not context and argv[:1] and argv[0] in NAMES:
        path = f"postfix-trouble {argv[0]}"
    text = f"{path}: {problem.format_message()}"
    if isinstance(problem, click.UsageError):
        text += f"\nTry '{path} --help'."
    return text
