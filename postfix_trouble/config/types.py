"""What a parameter is, and how its text becomes a value (Postfix mail_conf_*(3))."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

# No regular expressions: this is read for every mail.
from postfix_trouble.core.value import Value

_LARGEST = 2**31 - 1
_DIGITS = "0123456789"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

# Postfix's CHARS_COMMA_SP; str.split would also split at a no-break space.
_SEPARATORS = ", \t\r\n"
_BLANKS_FOR_SEPARATORS = dict.fromkeys(map(ord, _SEPARATORS), " ")


class ConfigError(Exception):
    """A setting that can't be used. One line, in Postfix's words."""

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(problem)
        # Empty when the file as a whole is at fault.
        self.parameter = parameter
        self.problem = problem


class Parameter(Value):
    """One row of the table of parameters. What it is for: man/parameters.txt."""

    # B yes or no, I number, T time in seconds, S text, L list of words, M list of
    # look-up tables, E one of `words`.
    kind: str
    # As in main.cf, not yet expanded. That of a time also names its default unit.
    default: str
    # Of the number; of a text its length. 0: no limit.
    minimum: int = 0
    maximum: int = 0
    # What is allowed, for E, and for an L that has a fixed vocabulary.
    words: tuple[str, ...] = ()
    # Completes "not supported, because ..."; empty: honoured.
    unsupported: str = ""
    # Not supported, and mail would go a wrong way if that were ignored:
    # nothing is delivered while it is set.
    vital: bool = False


def row(
    kind: str,
    default: str,
    minimum: int = 0,
    maximum: int = 0,
    words: tuple[str, ...] = (),
    unsupported: str = "",
    vital: bool = False,
) -> Parameter:
    """A Parameter, in a sixth of the time: there are 200, made anew for each mail."""
    fields = (kind, default, minimum, maximum, words, unsupported, vital)
    return tuple.__new__(Parameter, fields)


def _leading_number(value: str) -> tuple[int, str]:
    """As strtol(3): the number and what follows it; 0 and all if there is none."""
    start = value.lstrip(" \t\r\n\v\f")
    sign = start[:1] if start[:1] in ("+", "-") else ""
    rest = start[len(sign) :].lstrip(_DIGITS)
    digits = start[len(sign) : len(start) - len(rest)]
    if not digits:
        return 0, value
    # Python refuses to convert thousands of digits; this is out of range anyway.
    number = int(digits.lstrip("0")[:20] or "0")
    return (-number if sign == "-" else number), rest


def to_flag(name: str, value: str, _row: Parameter) -> bool:
    """Yes or no, in any case."""
    word = value.lower()
    if word not in ("yes", "no"):
        raise ConfigError(name, f"bad boolean configuration: {name} = {value}")
    return word == "yes"


def to_integer(name: str, value: str, row: Parameter) -> int:
    """A decimal number within the limits of the parameter."""
    number, rest = _leading_number(value)
    if not value or rest or abs(number) > _LARGEST:
        raise ConfigError(name, f"bad numerical configuration: {name} = {value}")
    if number < row.minimum:
        problem = f"invalid {name} parameter value {number} < {row.minimum}"
        raise ConfigError(name, problem)
    if row.maximum and number > row.maximum:
        problem = f"invalid {name} parameter value {number} > {row.maximum}"
        raise ConfigError(name, problem)
    return number


def to_seconds(name: str, value: str, row: Parameter) -> float:
    """A time: digits and one letter, that of the default when there is none
    (conv_time(3)).

    Postfix 3.7 looks at one letter only and passes over what follows it (10seconds is
    10s), and takes a letter alone for zero. So do we.
    """
    if not value and not row.default:
        return 0.0
    number, rest = _leading_number(value)
    letter = rest[:1] or row.default[-1:] or "s"
    seconds = number * _UNITS.get(letter, 0)
    if not value or letter not in _UNITS or not 0 <= seconds <= _LARGEST:
        raise ConfigError(name, f"parameter {name}: bad time value or unit: {value}")
    if seconds < row.minimum:
        raise ConfigError(name, f"invalid {name}: {seconds} (min {row.minimum})")
    if row.maximum and seconds > row.maximum:
        raise ConfigError(name, f"invalid {name}: {seconds} (max {row.maximum})")
    return float(seconds)


def to_text(name: str, value: str, row: Parameter) -> str:
    """A text whose length is within the limits of the parameter, or one of its words
    in lower case; what is to be a number is not looked at."""
    if row.kind == "E":
        word = value.lower()
        if word not in row.words:
            raise ConfigError(name, f'invalid setting: "{name} = {value}"')
        return word
    length = len(value.encode("utf-8", "surrogateescape"))
    if row.kind not in "IT" and length < row.minimum:
        problem = f"bad string length {length} < {row.minimum}: {name} = {value}"
        raise ConfigError(name, problem)
    if row.kind not in "IT" and row.maximum and length > row.maximum:
        problem = f"bad string length {length} > {row.maximum}: {name} = {value}"
        raise ConfigError(name, problem)
    return value


def to_words(name: str, value: str, row: Parameter) -> tuple[str, ...]:
    """The words of a list; each must be an allowed one, if any are named."""
    result = split_words(to_text(name, value, row))
    for word in result if row.words else ():
        if word.lower() not in row.words:
            raise ConfigError(name, f'unknown {name} value "{word}" in "{value}"')
    return result


def split_words(text: str) -> tuple[str, ...]:
    """Split at blanks and commas, except within braces (mystrtokq(3)).

    Braces stay: what they mean is for the reader of the word to say.
    """
    if "{" not in text:
        text = text.translate(_BLANKS_FOR_SEPARATORS)
        return tuple(word for word in text.split(" ") if word)
    words: list[str] = []
    start, level = 0, 0
    for place, letter in enumerate(text + ","):
        if letter == "{":
            level += 1
        elif letter == "}" and level:
            level -= 1
        elif (letter in _SEPARATORS and not level) or place == len(text):
            if word := text[start:place].strip(_SEPARATORS):
                words.append(word)
            start = place
    return tuple(words)
