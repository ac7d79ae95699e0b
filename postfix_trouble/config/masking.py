"""What of a setting is not shown: passwords that stand in main.cf itself."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.config.lines import BLANKS
from postfix_trouble.config.types import split_words

# Of parameters whose tables may hold passwords.
_HIDDEN = "sasl_password_maps"


def shown(spec: str) -> str:
    """A table's type:name for messages: what is in braces, or static, may be secret."""
    kind, _, name = spec.partition(":")
    if kind == "proxy":
        return f"{kind}:{shown(name)}"
    if name.lstrip().startswith("{"):
        return f"{kind}:{{...}}"
    return "static:..." if kind == "static" else spec


def masked(parameter: str, value: str) -> str:
    """The value of a parameter for people to see."""
    if not parameter.endswith(_HIDDEN):
        # A line that begins with a blank belongs to the setting before it.
        return value.partition(_HIDDEN)[0] + "..." if _HIDDEN in value else value
    words = split_words(value)
    for number, word in enumerate(words, 1):
        if shown(word) != word:
            # What follows may be the rest of a password that has a comma in it.
            rest = ["..."] if words[number:] else []
            return ", ".join([*words[: number - 1], shown(word), *rest])
    return value


def masked_line(line: str) -> str:
    """A line of main.cf that can't be understood, for people to see."""
    if not is_secret(line):
        return line
    name = line.lstrip(BLANKS).partition("=")[0].split(" ")[0]
    return f"{name[:60]} ..."


def is_secret(text: str) -> bool:
    """Whether a text that should be something else may hold a password."""
    return any(word in text for word in (_HIDDEN, "static:", "inline:"))


def masked_pair(pair: str) -> str:
    """The NAME=VALUE of an -o option, for people to see."""
    name, equals, value = pair.partition("=")
    return f"{name.strip()}{equals}{masked(name.strip(), value.strip())}"
