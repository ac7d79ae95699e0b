"""Tables of keys and values in text form (postmap(1), inline)."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterable

from postfix_trouble.config.lines import BLANKS, logical_lines
from postfix_trouble.config.types import split_words


class SyntaxProblem(ValueError):
    """The name of a table can't be understood."""


def fold_case(key: str, utf8: bool) -> str:
    """Make keys equal that differ in case only (Postfix casefold(3)).

    Without UTF-8 there are no letters but those of ASCII.
    """
    if key.isascii():
        return key.lower()
    if utf8:
        return key.casefold()
    return "".join(letter.lower() if letter.isascii() else letter for letter in key)


def text_table(text: str, path: str, utf8: bool) -> tuple[dict[str, str], list[str]]:
    """The entries of a file as postmap(1) reads it, and what it would warn of.

    `utf8`: a line that is not is ignored.

    A key ends at the first blank that is neither in double quotes nor follows a
    backslash; quotes and backslashes stay part of it. Of two
    entries with one key the first counts.
    """
    entries: dict[str, str] = {}
    warnings: list[str] = []
    for number, line in logical_lines(text):
        place = f"{path}, line {number}"
        if line[0] in BLANKS:
            # The line may hold a password; Postfix shows it.
            warnings.append(f"{place}: logical line must not start with whitespace")
            continue
        if utf8 and any("\udc80" <= letter <= "\udcff" for letter in line):
            warnings.append(f"{place}: non-UTF-8 input -- ignoring this line")
            continue
        end = _end_of_key(line)
        key, value = line[:end], line[end:].strip(BLANKS)
        if end < 0:
            warnings.append(f"{place}: unbalanced '\"' -- ignoring this line")
        elif not value:
            expected = "expected format: key whitespace value"
            warnings.append(f"{place}: {expected} -- ignoring this line")
        elif key in entries:
            warnings.append(f"{place}: duplicate entry")
        else:
            entries[key] = value
    return entries, warnings


def _end_of_key(line: str, ends: str = BLANKS) -> int:
    """Where the key ends, -1 if a quote is left open."""
    quoted = False
    at = 0
    while at < len(line):
        letter = line[at]
        if letter == '"':
            quoted = not quoted
        elif letter == "\\":
            at += 1
        elif letter in ends and not quoted:
            return at
        at += 1
    return -1 if quoted else len(line)


def inline_table(name: str) -> dict[str, str]:
    """The entries of `{key=value, {key = value with blanks}}`. Raises SyntaxProblem.

    A key may have blanks and `=` in double quotes, which stay part of it.
    """
    entries: dict[str, str] = {}
    for word in split_words(between_braces(name)):
        pair = between_braces(word) if word.startswith("{") else word
        if not pair:
            raise SyntaxProblem("no key found; expected format: key = value")
        end = _end_of_key(pair, BLANKS + "=")
        if end < 0:
            raise SyntaxProblem("unbalanced '\"'")
        value = pair[end:].lstrip(BLANKS)
        if not value.startswith("="):
            raise SyntaxProblem("missing '=' after attribute name")
        entries[pair[:end]] = value[1:].strip(BLANKS)
    if not entries:
        raise SyntaxProblem("need inline:{name=value...}")
    return entries


def inline_lines(name: str) -> list[str]:
    """The lines of `{{line}, {line}}`. Raises SyntaxProblem."""
    lines = [between_braces(word) for word in split_words(between_braces(name))]
    if not lines:
        raise SyntaxProblem("nothing between the braces")
    return lines


def table_names(name: str) -> tuple[str, ...]:
    """The tables of `{type:name, type:name}`. Raises SyntaxProblem."""
    names = split_words(between_braces(name))
    if not names:
        raise SyntaxProblem("need {type:name...}")
    return names


def between_braces(text: str) -> str:
    """What is in braces, without blanks at its ends. Raises SyntaxProblem."""
    text = text.strip(BLANKS)
    if not text.startswith("{"):
        raise SyntaxProblem("no '{' at start of text")
    level = 0
    for place, letter in enumerate(text):
        level += (letter == "{") - (letter == "}")
        if not level:
            if place + 1 < len(text):
                raise SyntaxProblem("syntax error after '}'")
            return text[1:-1].strip(BLANKS)
    raise SyntaxProblem("missing '}'")


def numbered(lines: Iterable[str]) -> Iterable[tuple[int, str]]:
    """Lines with their numbers, as logical_lines gives them."""
    return ((number, line) for number, line in enumerate(lines, 1) if line)


def is_utf8(text: str) -> bool:
    """Whether a text was UTF-8 when it came (other bytes are surrogateescaped)."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
