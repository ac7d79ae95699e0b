"""Failures of our own side that a delivery has to live with."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations


class TableError(Exception):
    """A look-up table can't be searched. Never the same as "not found"."""

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(f"{parameter}: {problem}" if parameter else problem)
        self.parameter = parameter
        self.problem = problem
