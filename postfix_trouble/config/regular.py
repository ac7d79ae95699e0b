"""POSIX extended and Perl regular expressions, as Python's re module writes them.

Which texts match is the same; which part a group catches can differ for POSIX ones,
since alternatives are tried from left to right, not for the longest match. Whatever has
no safe counterpart is refused, so that the caller can ask Postfix itself.
"""

from __future__ import annotations

import re

_CLASSES = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\t\n\v\f\r\ ",
    "blank": r"\t\ ",
    "punct": r"!-/:-@\[-`{-~",
    "print": r"\ -~",
    "graph": r"!-~",
    "cntrl": r"\x00-\x1f\x7f",
    "xdigit": "0-9a-fA-F",
}
_INTERVAL = re.compile(r"\{\d{1,3}(?:,\d{0,3})?\}", re.ASCII)
_GROUP = re.compile(r"\((?:\?(?:[:=!>]|<[=!]|[ismx]+:|P?<[A-Za-z_]\w*>|#[^)]*\)))?")
_LEADING_FLAGS = re.compile(r"\(\?[imsx]+\)")
# After a backslash, within and without a set of characters.
_SAME_ESCAPES = frozenset("dDsSwWtnrf")
_PERL_ESCAPES = {"A": r"\A", "b": r"\b", "B": r"\B", "z": r"\Z", "Z": r"(?=\n?\Z)"}
_POSIX_ESCAPES = {
    "b": r"\b",
    "B": r"\B",
    "<": r"\b(?=\w)",
    ">": r"\b(?<=\w)",
    "`": r"\A",
    "'": r"\Z",
    "w": r"\w",
    "W": r"\W",
    "s": r"\s",
    "S": r"\S",
}


class UntranslatableError(ValueError):
    """The expression has no safe counterpart, or is wrong."""


def perl(expression: str, flags: str) -> re.Pattern[str]:
    """Compile a pcre_table(5) pattern: case is ignored and `.` takes a newline.

    `flags` are the letters after the pattern; each turns its option over. Raises
    UntranslatableError.
    """
    options = re.ASCII | re.IGNORECASE | re.DOTALL
    ends_only = anchored = False
    for flag in flags:
        if flag in "imsx":
            options ^= re.RegexFlag[flag.upper()]
        elif flag == "A":
            anchored = not anchored
        elif flag == "E":
            ends_only = not ends_only
        else:
            raise UntranslatableError(f"option {flag}")
    text = _Translation(expression, perl=True, ends_only=ends_only).text
    return _compile(rf"\A(?:{text})" if anchored else text, options)


def posix(expression: str, flags: str) -> re.Pattern[str]:
    """Compile a regexp_table(5) pattern; case is ignored unless `flags` has an i.

    Raises UntranslatableError.
    """
    if set(flags) - {"i"}:
        raise UntranslatableError(f"options {flags}")
    options = re.ASCII | re.DOTALL
    if flags.count("i") % 2 == 0:
        options |= re.IGNORECASE
    return _compile(_Translation(expression, perl=False, ends_only=True).text, options)


def _compile(text: str, options: re.RegexFlag) -> re.Pattern[str]:
    try:
        return re.compile(text, options)
    except (re.error, OverflowError, RecursionError) as error:
        raise UntranslatableError(str(error)) from None


class _Translation:
    """One pass over an expression."""

    def __init__(self, expression: str, *, perl: bool, ends_only: bool) -> None:
        self._source = expression
        self._at = 0
        self._perl = perl
        self._ends_only = ends_only
        self._pieces: list[str] = []
        # Where the last thing that can be repeated starts among the pieces.
        self._atom = -1
        self._repeated = False
        self._open: list[int] = []
        self._groups = 0
        while self._at < len(expression):
            self._step()
        if self._open:
            raise UntranslatableError("a group is not closed")
        self.text = "".join(self._pieces)

    def _step(self) -> None:
        letter = self._source[self._at]
        if letter == "[":
            self._add(self._set())
        elif letter == "\\":
            self._escape()
        elif letter == "(":
            self._group()
        elif letter == ")":
            self._close()
        elif letter in "*+?" or _INTERVAL.match(self._source, self._at):
            self._repeat()
        elif letter in "{}":
            if not self._perl:
                raise UntranslatableError("a brace that is no interval")
            self._add("\\" + letter)
            self._at += 1
        else:
            self._at += 1
            self._anchor_or_letter(letter)

    def _anchor_or_letter(self, letter: str) -> None:
        if letter in "^|" or letter == "$":
            self._pieces.append(r"\Z" if letter == "$" and self._ends_only else letter)
            self._atom = -1
        else:
            self._add(letter)

    def _add(self, piece: str) -> None:
        self._atom = len(self._pieces)
        self._repeated = False
        self._pieces.append(piece)

    def _escape(self) -> None:
        letter = self._source[self._at + 1 : self._at + 2]
        self._at += 2
        special = _PERL_ESCAPES if self._perl else _POSIX_ESCAPES
        if letter in special and letter:
            self._add(special[letter])
            if letter not in "wWsS":
                # Engines differ on repeated assertions.
                self._atom = -1
        elif letter and letter in "123456789":
            more = self._source[self._at : self._at + 1]
            if int(letter) > self._groups or (self._perl and more.isdigit()):
                raise UntranslatableError("reference to a group")
            # A digit that follows must not become part of the number.
            self._add(f"(?:\\{letter})")
        elif self._perl and letter in _SAME_ESCAPES and letter:
            self._add("\\" + letter)
        elif letter and (not letter.isalnum() or not self._perl) and letter != "0":
            self._add(re.escape(letter))
        else:
            raise UntranslatableError(f"escape \\{letter}")

    def _group(self) -> None:
        match = None
        if self._perl:
            if self._at == 0 and (flags := _LEADING_FLAGS.match(self._source)):
                self._pieces.append(flags[0])
                self._at = flags.end()
                return
            match = _GROUP.match(self._source, self._at)
        text = match[0] if match else "("
        follows = self._source[self._at + len(text) : self._at + len(text) + 1]
        if follows in ("?", "*", "+") and follows:
            raise UntranslatableError("unusual group")
        self._at += len(text)
        if text.startswith("(?#"):
            return
        self._groups += text == "(" or (text.endswith(">") and len(text) > 3)
        self._open.append(len(self._pieces))
        if text.startswith("(?<") and text[3:4] not in ("=", "!"):
            text = "(?P" + text[2:]
        self._pieces.append(text)
        self._atom = -1

    def _close(self) -> None:
        if not self._open:
            raise UntranslatableError("a group is not opened")
        self._pieces.append(")")
        self._at += 1
        self._atom = self._open.pop()
        self._repeated = False

    def _repeat(self) -> None:
        match = _INTERVAL.match(self._source, self._at)
        text = match[0] if match else self._source[self._at]
        self._at += len(text)
        if self._atom < 0 or (self._perl and self._repeated):
            raise UntranslatableError(f"nothing that {text} could repeat")
        if self._perl and self._source.startswith("?", self._at):
            text += "?"
            self._at += 1
        elif self._perl and self._source.startswith("+", self._at):
            # Not as it is: re forgot to go back within what is repeated until Python
            # 3.11.5 (`(?:.*?z)?+`).
            self._pieces.insert(self._atom, "(?>")
            text += ")"
            self._at += 1
        if self._repeated and text in "*+?" and self._pieces[-1] in "*+?":
            # One of them says the same. Nested they make re try for ever.
            self._pieces[-1] = text if self._pieces[-1] == text else "*"
            return
        if self._repeated:
            # In POSIX a+? is (a+)?, not a frugal +.
            self._pieces.insert(self._atom, "(?:")
            self._pieces.append(")")
        self._pieces.append(text)
        self._repeated = True

    def _set(self) -> str:
        """A bracket expression, with everything escaped that re could take amiss."""
        source, at = self._source, self._at + 1
        result = ["["]
        if source.startswith("^", at):
            result.append("^")
            at += 1
        first = at
        while at < len(source):
            letter = source[at]
            if letter == "]" and at > first:
                self._at = at + 1
                return "".join([*result, "]"])
            if letter == "[" and source[at + 1 : at + 2] in (":", ".", "="):
                text, at = self._named(at)
            elif letter == "\\" and self._perl:
                text, at = self._set_escape(at)
            elif letter == "-" and first < at and source[at + 1 : at + 2] != "]":
                text, at = "-", at + 1
            else:
                text, at = re.escape(letter), at + 1
            result.append(text)
        raise UntranslatableError("a set is not closed")

    def _named(self, at: int) -> tuple[str, int]:
        end = self._source.find(":]", at + 2)
        name = self._source[at + 2 : end]
        if self._source[at + 1] != ":" or end < 0 or name not in _CLASSES:
            raise UntranslatableError("unusual class of characters")
        return _CLASSES[name], end + 2

    def _set_escape(self, at: int) -> tuple[str, int]:
        letter = self._source[at + 1 : at + 2]
        if letter in _SAME_ESCAPES and letter:
            return "\\" + letter, at + 2
        if not letter or letter.isalnum():
            raise UntranslatableError(f"escape \\{letter} in a set")
        return re.escape(letter), at + 2
