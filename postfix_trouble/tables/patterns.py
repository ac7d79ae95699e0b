"""Tables of rules that are tried in order: regexp_table, pcre_table, cidr_table(5)."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from postfix_trouble.config.lines import BLANKS
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.tables.base import Table

if TYPE_CHECKING:
    # Pattern, letters behind it, whether its groups are of interest. Raises RuleError.
    Compile = Callable[[bytes, str, bool], "Expression"]

# What a pattern caught of a key ([0] is unused), None if it does not match.
Test = Callable[[str], Sequence[str] | None]


class Rule:
    """A pattern with its result, or the start or the end of a block."""

    __slots__ = ("end", "is_block", "result", "test")

    def __init__(
        self, test: Test | None, is_block: bool, result: list[str | int]
    ) -> None:
        # None: the end of a block.
        self.test = test
        self.is_block = is_block
        # Texts, and numbers of what the pattern caught.
        self.result = result
        # Of a block: the rule to go on with when its condition does not hold.
        self.end = 0


class RuleError(ValueError):
    """A rule is of no use, and is ignored."""


class Expression:
    """A regular expression."""

    # How many it has.
    groups = 0

    def search(self, text: bytes) -> Sequence[bytes] | None:
        """What each group caught in a text, None if it does not match."""
        raise NotImplementedError


class PatternTable(Table):
    """The rules of one table. The key is taken as it is, whatever its case."""

    fixed = False

    def __init__(
        self, rules: list[Rule], warnings: list[str], addresses_only: bool
    ) -> None:
        self._rules = rules
        # Nothing else is a key at all, not even for a negated rule.
        self._addresses_only = addresses_only
        # As Postfix logs them; each rule that is named there is ignored.
        self.warnings = warnings

    def results(self) -> list[str]:
        """What the rules give, in order, but for what depends on the key."""
        found = []
        for rule in self._rules:
            parts = [part for part in rule.result if isinstance(part, str)]
            if rule.test and not rule.is_block and len(parts) == len(rule.result):
                found.append("".join(parts))
        return found

    def find(self, key: str, _fold: bool = False) -> str | None:
        """The result of the first rule that matches."""
        at = 0
        if self._addresses_only and not _is_address(key):
            return None
        while at < len(self._rules):
            rule = self._rules[at]
            at += 1
            if rule.test is None:
                continue
            caught = rule.test(key)
            if caught is None:
                at = rule.end if rule.is_block else at
            elif not rule.is_block:
                parts = rule.result
                return "".join(
                    part if isinstance(part, str) else caught[part] for part in parts
                )
        return None


def parse(
    lines: Iterable[tuple[int, str]],
    place: str,
    kind: str,
    compile_expression: Compile | None = None,
) -> PatternTable:
    """The rules in logical lines, with their line numbers.

    `kind` is regexp, pcre or cidr; `place` names the file in warnings. Wrong rules are
    ignored with a warning, as in Postfix. `compile_expression` is that of the kind,
    none for cidr; what it raises but for RuleError goes through.
    """
    rules: list[Rule] = []
    warnings: list[str] = []
    blocks: list[Rule] = []
    for number, line in lines:
        try:
            if compile_expression is None:
                rule = _cidr_rule(line)
            else:
                rule = _regular_rule(line, kind, compile_expression)
            if rule.test is None:
                if not blocks:
                    raise RuleError("ignoring ENDIF without matching IF")
                blocks.pop().end = len(rules)
        except RuleError as problem:
            warnings.append(f"{place}, line {number}: {problem}")
            continue
        rules.append(rule)
        if rule.is_block:
            blocks.append(rule)
    for rule in blocks:
        rule.end = len(rules)
        warnings.append(f"{place}: IF has no matching ENDIF")
    return PatternTable(rules, warnings, kind == "cidr")


def _keyword(line: str) -> str:
    """The word if or endif at the start of a line."""
    for word in ("if", "endif"):
        after = line[len(word) : len(word) + 1]
        if line[: len(word)].lower() == word and not after.isalnum():
            return word
    return ""


def _negation(line: str) -> tuple[bool, str]:
    """Whether there is an odd number of exclamation marks, and what follows them."""
    rest = line.lstrip("!" + BLANKS)
    return line[: len(line) - len(rest)].count("!") % 2 == 1, rest


def _regular_rule(line: str, kind: str, compile_expression: Compile) -> Rule:
    word = _keyword(line)
    if word == "endif":
        return Rule(None, False, [])
    if not word and line[:1].isalnum():
        raise RuleError("ignoring unrecognized request")
    negated, expression, flags, rest = _split_pattern(line[len(word) :], kind)
    other = None
    if not word and kind == "regexp" and rest.startswith("!"):
        # `/one/!/other/`: the first pattern matches, and the second does not.
        other = _split_pattern(rest, kind)
        rest = other[3]
    parts = [] if word else _template(rest.strip(BLANKS))
    numbers = [part for part in parts if isinstance(part, int)]
    if numbers and negated:
        problem = "$number found in negative match replacement text"
        raise RuleError(f"{problem}: skipping this rule")
    pattern = compile_expression(_as_bytes(expression), flags, bool(numbers))
    for number in numbers:
        if not 1 <= number <= pattern.groups:
            problem = f'out of range replacement index "{number}"'
            raise RuleError(f"{problem}: skipping this rule")
    fits = None
    if other:
        second = compile_expression(_as_bytes(other[1]), other[2], False)
        fits = _matching(second, other[0])
    return Rule(_matching(pattern, negated, fits), word == "if", parts)


def _matching(pattern: Expression, negated: bool, fits: Test | None = None) -> Test:
    """The test for one pattern, and for a second one."""

    def test(key: str) -> Sequence[str] | None:
        caught = pattern.search(_as_bytes(key))
        if (caught is None) is not negated or (fits and fits(key) is None):
            return None
        return ["", *map(_from_bytes, caught or ())]

    return test


def _as_bytes(text: str) -> bytes:
    """What Postfix has the two libraries work on: a C string, which a NUL ends."""
    return text.encode("utf-8", "surrogateescape").partition(b"\0")[0]


def _from_bytes(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _split_pattern(text: str, kind: str) -> tuple[bool, str, str, str]:
    """Whether a pattern is negated, what is between its delimiters, its options; and
    the rest of the rule."""
    negated, text = _negation(text)
    if not text:
        raise RuleError("no regexp: skipping this rule")
    delimiter, at = text[0], 1
    while at < len(text) and text[at] != delimiter:
        at += 2 if text[at] == "\\" else 1
    if at >= len(text):
        problem = f'no closing regexp delimiter "{delimiter}"'
        raise RuleError(f"{problem}: ignoring this rule")
    rest = text[at + 1 :]
    flags = rest
    for end in BLANKS + ("!" if kind == "regexp" else ""):
        flags = flags.partition(end)[0]
    if wrong := flags.strip("imx" if kind == "regexp" else "imsxAEUX"):
        raise RuleError(f'unknown {kind} option "{wrong[0]}": skipping this rule')
    return negated, text[1:at], flags, rest[len(flags) :]


def _template(text: str) -> list[str | int]:
    """The parts of a result: `$1`, `${1}` and `$(1)` stand for what was caught."""
    parts: list[str | int] = []
    head, *pieces = text.split("$")
    parts.append(head)
    at = 0
    while at < len(pieces):
        piece = pieces[at]
        at += 1
        if not piece and at < len(pieces):
            parts.append("$" + pieces[at])
            at += 1
            continue
        closing = {"{": "}", "(": ")"}.get(piece[:1], "")
        if closing and closing in piece:
            name, _, rest = piece[1:].partition(closing)
        else:
            name, rest = _leading_name(piece)
        if not name.isascii() or not name.isdigit() or len(name) > 9:
            raise RuleError("bad replacement syntax: skipping this rule")
        parts += [int(name), rest]
    return parts


def _leading_name(text: str) -> tuple[str, str]:
    end = 0
    while end < len(text) and text[end].isascii() and _in_name(text[end]):
        end += 1
    return text[:end], text[end:]


def _in_name(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


def _cidr_rule(line: str) -> Rule:
    word = _keyword(line)
    negated, rest = _negation(line[len(word) :])
    if word == "endif":
        if rest:
            raise RuleError("garbage after ENDIF: skipping this rule")
        return Rule(None, False, [])
    pattern = rest.rstrip(BLANKS)
    for blank in BLANKS if not word else "":
        pattern = pattern.partition(blank)[0]
    result = rest[len(pattern) :].strip(BLANKS)
    test = _network_test(pattern, negated)
    if not word and not result:
        raise RuleError("no lookup result: skipping this rule")
    return Rule(test, word == "if", [] if word else [result])


def _network_test(pattern: str, negated: bool) -> Test:
    import ipaddress

    address, slash, length = pattern.partition("/")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    # ipaddress would also take a net mask, and a zone.
    if "%" in address or (slash and not (length.isascii() and length.isdigit())):
        raise RuleError(f'bad address pattern: "{pattern}": skipping this rule')
    try:
        network = ipaddress.ip_network(address + slash + length)
    except ValueError:
        problem = f'bad net/mask pattern: "{pattern}": skipping this rule'
        raise RuleError(problem) from None

    def test(key: str) -> Sequence[str] | None:
        candidate = ipaddress.ip_address(key)
        # Of the other family: does not match, negated or not.
        other = candidate.version != network.version
        return None if other or (candidate in network) is negated else ()

    return test


def _is_address(key: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(key)
    except ValueError:
        return False
    return "%" not in key
