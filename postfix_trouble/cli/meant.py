"""What somebody may have meant who gave a command that there is not."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

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
NAMES = tuple(name for name, _, _ in COMMANDS)


def command_problem(argv: Sequence[str]) -> str:
    """What is wrong with a command line that begins with no command, and what may have
    been meant."""
    first = argv[0][:60] if argv else ""
    if not argv:
        return f"no command given: one of {', '.join(NAMES)}"
    shown = "".join(c if c.isprintable() else "?" for c in first)
    if first.startswith("-"):
        given = next((word for word in argv if word in NAMES), "")
        meant = given or "deliver"
        return f"{shown} before the command; did you mean {meant} {shown}?"
    if "@" in first:
        return f"no such command: {shown}; did you mean send {shown}?"
    from difflib import get_close_matches

    close = get_close_matches(first, NAMES, 1)
    hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(NAMES)}"
    return f"no such command: {shown}; {hint}"
