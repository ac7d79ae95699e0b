"""Failures of our own side, and of the message, that a delivery has to live with."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations


class TableError(Exception):
    """A look-up table can't be searched. Never the same as "not found"."""

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(f"{parameter}: {problem}" if parameter else problem)
        self.parameter = parameter
        self.problem = problem


class ContentError(Exception):
    """The message can't be sent to this server as it is.

    `status` is an enhanced status (`5.6.0`), `reason` what follows it in a report.
    It is raised in the middle of the text: what was sent of it must not be ended
    with a dot.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
