"""Expansion of $name in main.cf values (Postfix mac_parse(3), mac_expand(3))."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    # The value of a name before expansion, None when it is not defined.
    Lookup = Callable[[str], str | None]

NESTING_LIMIT = 100

# Sets and loops, not regular expressions: even the default of smtp_helo_name needs
# an expansion, and to compile them would cost each run more than all its expansions.
_ALPHANUMERIC = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
)
_NAME = _ALPHANUMERIC | {"_"}
_OPERATOR = frozenset("<>!=?+-*/~&|%")
_BLANKS = frozenset(" \t\r\n")
_CLOSING = {"{": "}", "(": ")"}
_LARGEST_NUMBER = 2**63 - 1

_RELATIONS: dict[str, Callable[[int], bool]] = {
    "==": lambda difference: difference == 0,
    "!=": lambda difference: difference != 0,
    "<": lambda difference: difference < 0,
    "<=": lambda difference: difference <= 0,
    ">": lambda difference: difference > 0,
    ">=": lambda difference: difference >= 0,
}


class ExpansionError(ValueError):
    """The text has a syntax error, or refers to itself. One line, Postfix's words."""


def expand(text: str, lookup: Lookup) -> str:
    """Replace all that starts with a dollar sign.

    `$name`, `${name}` and `$(name)` give the value, itself expanded, of a name; a name
    that is not defined gives nothing. `${name?text}`, `${name:text}`,
    `${name?{text}:{text}}` and `${{x} == {y}?{text}:{text}}` choose. Whether a name
    has a value is decided before that value is expanded: `$empty` counts as a value.

    Raises ExpansionError.
    """
    if "$" not in text:
        return text
    return _expand(text, lookup, 0)


def _expand(text: str, lookup: Lookup, depth: int) -> str:
    result: list[str] = []
    at = 0
    while at < len(text):
        if text[at] != "$":
            end = text.find("$", at)
            result.append(text[at:end] if end >= 0 else text[at:])
            at = end if end >= 0 else len(text)
            continue
        if text.startswith("$", at + 1):
            result.append("$")
            at += 2
            continue
        expression, at = _reference(text, at + 1)
        if not expression:
            raise ExpansionError(f'empty macro name: "{text[:at]}"')
        if depth > NESTING_LIMIT:
            raise ExpansionError(f'unreasonable macro call nesting: "{expression}"')
        result.append(_evaluate(expression, lookup, depth + 1))
    return "".join(result)


def _reference(text: str, at: int) -> tuple[str, int]:
    """What stands between the brackets, or the bare name; and where it ends."""
    opening = text[at : at + 1]
    if opening not in _CLOSING:
        end = _skip(text, at, _NAME)
        return text[at:end], end
    end = _closing(text, at, opening)
    if end < 0:
        raise ExpansionError(f'truncated macro reference: "{text}"')
    return text[at + 1 : end], end + 1


def _closing(text: str, at: int, opening: str) -> int:
    """Where the bracket that opens at `at` is closed, -1 if nowhere.

    Only brackets of its own kind are counted.
    """
    closing = _CLOSING[opening]
    level = 0
    for place in range(at, len(text)):
        if text[place] == opening:
            level += 1
        elif text[place] == closing:
            level -= 1
            if level == 0:
                return place
    return -1


def _evaluate(expression: str, lookup: Lookup, depth: int) -> str:
    at = _skip(expression, 0)
    if expression.startswith("{", at):
        value, at = _comparison(expression, at, lookup, depth)
    else:
        end = _skip(expression, at, _NAME)
        name = expression[at:end]
        at = _skip(expression, end)
        if at < len(expression) and expression[at] not in "?:":
            raise ExpansionError(
                "attribute name syntax error at: "
                f'"...{expression[:end]}>>>{expression[end : end + 20]}"'
            )
        value = lookup(name) or ""
    if at == len(expression):
        return _expand(value, lookup, depth) if value else ""
    if expression[at] not in "?:":
        raise ExpansionError(f'"?" or ":" expected at: "...}}>>>{expression[at:]:.20}"')
    chosen = _choice(expression, at, bool(value))
    return _expand(chosen, lookup, depth)


def _choice(expression: str, at: int, is_true: bool) -> str:
    """The branch to take; `at` is where its `?` or `:` stands."""
    if_true = if_false = ""
    if expression[at] == "?":
        if_true, at = _operand(expression, at + 1)
        if at < len(expression) and expression[at] != ":":
            raise ExpansionError(
                f'":" expected at: "...{if_true}}}>>>{expression[at:]:.20}"'
            )
    if at < len(expression):
        if_false, at = _operand(expression, at + 1)
        if at < len(expression):
            raise ExpansionError(
                f'unexpected input at: "...{if_false}}}>>>{expression[at:]:.20}"'
            )
    return if_true if is_true else if_false


def _operand(expression: str, at: int) -> tuple[str, int]:
    """A text in braces, with blanks around it dropped, or all that is left."""
    inside = _skip(expression, at)
    if expression.startswith("{", inside):
        return _braced(expression, inside)
    return expression[at:], len(expression)


def _braced(expression: str, at: int) -> tuple[str, int]:
    end = _closing(expression, at, "{")
    if end < 0:
        raise ExpansionError(
            f'unbalanced {{}} in attribute expression: "{expression[at:]}"'
        )
    return expression[at + 1 : end], _skip(expression, end + 1)


def _skip(text: str, at: int, letters: frozenset[str] = _BLANKS) -> int:
    while at < len(text) and text[at] in letters:
        at += 1
    return at


def _comparison(
    expression: str, at: int, lookup: Lookup, depth: int
) -> tuple[str, int]:
    """The value of `{left} operator {right}`: "true" or nothing."""
    left, at = _braced(expression, at)
    end = _skip(expression, _skip(expression, at, _OPERATOR), _ALPHANUMERIC)
    operator = expression[at:end]
    relation = _RELATIONS.get(operator.removesuffix("level"))
    if relation is None:
        raise ExpansionError(
            '"==" or "!=" or "<" or "<=" or ">=" or ">" expected at: '
            f'"...{left}}}>>>{expression[at:]:.20}"'
        )
    at += len(operator)
    inside = _skip(expression, at)
    if not expression.startswith("{", inside):
        raise ExpansionError(
            '"{expression}" expected at: '
            f'"...{{{left}}} {operator}>>>{expression[at:]:.20}"'
        )
    right, at = _braced(expression, inside)
    left, right = _expand(left, lookup, depth), _expand(right, lookup, depth)
    compare = _compare_levels if operator.endswith("level") else _compare
    return ("true" if relation(compare(left, right)) else ""), at


def _compare(left: str, right: str) -> int:
    """By number when both sides are digits only, else byte by byte."""
    if _is_digits(left) and _is_digits(right):
        return _number(left) - _number(right)
    one, other = (side.encode("utf-8", "surrogateescape") for side in (left, right))
    return (one > other) - (one < other)


def _number(digits: str) -> int:
    # Python refuses to convert thousands of digits.
    if len(digits.lstrip("0")) > 19 or int(digits) > _LARGEST_NUMBER:
        raise ExpansionError(f"bad conversion: {digits}")
    return int(digits)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _compare_levels(left: str, right: str) -> int:
    """By version number (Postfix compat_level(3)): 3.10 comes after 3.9."""
    one, other = _level(left), _level(right)
    return (one > other) - (one < other)


def _level(text: str) -> tuple[int, ...]:
    """Major, minor and patch number; the latter two may be left out."""
    parts = text.removeprefix("+").split(".")
    if len(parts) > 3 or not all(map(_is_digits, parts)):
        raise ExpansionError(f'malformed compatibility level syntax: "{text}"')
    return tuple(_number(part) for part in [*parts, "0", "0"][:3])
