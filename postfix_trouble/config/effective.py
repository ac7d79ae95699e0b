"""All parameters with their values, for a person to look at."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterator

from postfix_trouble.config.masking import masked
from postfix_trouble.config.parameters import TABLE
from postfix_trouble.config.settings import Settings
from postfix_trouble.config.types import ConfigError
from postfix_trouble.core.value import Value


class ParameterRow(Value):
    """One parameter as it stands, without passwords."""

    name: str
    # As it was written; empty if it was not.
    given: str
    # Expanded; empty if there is a problem.
    value: str
    default: str
    differs: bool
    # Why the value can't be used.
    problem: str
    # Why the parameter is not honoured.
    unsupported: str


def effective(settings: Settings) -> Iterator[ParameterRow]:
    """Each parameter of the table, by its own name also where LMTP is spoken."""
    for name, parameter in TABLE.items():
        default = parameter.default
        raw = settings.as_written(name)
        value = problem = ""
        try:
            value = settings.check(name)
        except ConfigError as error:
            problem = error.problem
        differs = raw is not None and raw != default
        given = masked(name, raw or "")
        value = masked(name, value)
        unsupported = parameter.unsupported
        yield ParameterRow(name, given, value, default, differs, problem, unsupported)
