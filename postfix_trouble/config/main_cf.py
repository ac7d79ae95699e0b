"""The syntax of main.cf (Postfix dict_load_fp, split_nameval)."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.config.lines import BLANKS, logical_lines
from postfix_trouble.config.masking import masked, masked_line
from postfix_trouble.config.types import ConfigError


def parse(text: str, filename: str) -> tuple[dict[str, str], list[str]]:
    """The settings of a file by name, not yet expanded, and what to warn of.

    Names that are not Postfix's are as good as any other. The last one of a repeated
    name counts. Raises ConfigError, with the file and the line, for a line that is not
    `name = value`; `parameter` is empty then.
    """
    values: dict[str, str] = {}
    warnings: list[str] = []
    for number, line in logical_lines(text):
        # What follows a NUL is lost, as in any C string.
        line = line.partition("\0")[0]
        if line[:1] in BLANKS and line:
            text = masked_line(line)
            problem = f'logical line must not start with whitespace: "{text}"'
            warnings.append(f"{filename}: {problem}")
            continue
        name, value = _split(line, f"{filename}, line {number}")
        if values.get(name, value) != value:
            old = f"{name}={masked(name, values[name])}"
            warnings.append(
                f"{filename}, line {number}: overriding earlier entry: {old}"
            )
        values[name] = value
    return values, warnings


def _split(line: str, place: str) -> tuple[str, str]:
    name = line
    for blank in BLANKS + "=":
        name = name.partition(blank)[0]
    if not name:
        text = masked_line(line)
        raise ConfigError("", f'{place}: missing attribute name: "{text}"')
    rest = line[len(name) :].lstrip(BLANKS)
    if not rest.startswith("="):
        text = masked_line(line)
        problem = f"{place}: missing '=' after attribute name: \"{text}\""
        raise ConfigError("", problem)
    return name, rest[1:].strip(BLANKS)
