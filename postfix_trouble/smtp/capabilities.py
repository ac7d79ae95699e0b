"""What a server says it can do: EHLO and LHLO replies (Postfix smtp_helo)."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.value import Value

# Words of smtp_discard_ehlo_keywords.
DISCARDABLE = (
    "8bitmime",
    "auth",
    "chunking",
    "dsn",
    "enhancedstatuscodes",
    "etrn",
    "pipelining",
    "requiretls",
    "silent-discard",
    "size",
    "smtputf8",
    "starttls",
    "verp",
    "vrfy",
    "xclient",
    "xforward",
)


# Those that have no arguments.
_PLAIN = ("8bitmime", "pipelining", "starttls", "dsn", "smtputf8", "requiretls")


class Capabilities(Value):
    """The extensions of a server that matter to us."""

    # The name the server gave itself, as it wrote it.
    helo_name: str = ""
    esmtp: bool = False
    pipelining: bool = False
    eightbitmime: bool = False
    # The server told a SIZE at all, and the limit in bytes; 0 is none known.
    size: bool = False
    size_limit: int = 0
    starttls: bool = False
    # What stands after AUTH, in all its lines; None if AUTH was not offered.
    auth: str | None = None
    dsn: bool = False
    smtputf8: bool = False
    # Counts only when it is offered in TLS.
    requiretls: bool = False
    # Attribute names after XFORWARD, upper case.
    xforward: frozenset[str] = frozenset()
    # Limits that are no numbers, for the log.
    bad_sizes: tuple[str, ...] = ()


def discarded(words: str) -> frozenset[str]:
    """The keywords that smtp_discard_ehlo_keywords names; unknown ones are ignored."""
    given = words.replace(",", " ").lower().split()
    return frozenset(word for word in given if word in DISCARDABLE)


def parse(text: str, discard: frozenset[str]) -> Capabilities:
    """Read the reply to EHLO or LHLO; `discard` names keywords to pass over."""
    found: dict[str, object] = {"esmtp": True}
    named = False
    for line in text.split("\n"):
        _code, rest = _token(line, "- ")
        word, arguments = _token(rest, " \t=")
        if named:
            _keyword(found, word.lower(), arguments.strip(" \t"), discard)
        elif word:
            found["helo_name"] = word
            named = True
    return Capabilities(**found)  # type: ignore[arg-type]


def _token(text: str, separators: str) -> tuple[str, str]:
    """The first word, and what follows the separator behind it (Postfix mystrtok)."""
    text = text.lstrip(separators)
    end = next((at for at, c in enumerate(text) if c in separators), len(text))
    return text[:end], text[end + 1 :]


def _keyword(
    found: dict[str, object], word: str, arguments: str, discard: frozenset[str]
) -> None:
    if word in discard:
        return
    if word in _PLAIN:
        found["eightbitmime" if word == "8bitmime" else word] = True
    elif word == "xforward":
        known = found.get("xforward", frozenset())
        assert isinstance(known, frozenset)
        found["xforward"] = known.union(arguments.upper().split())
    elif word == "auth":
        found["auth"] = _joined(found.get("auth"), arguments)
    elif word == "size":
        _size(found, arguments.split())


def _joined(before: object, more: str) -> str:
    """What several AUTH lines offer together, the old form AUTH= among them.

    An empty line takes nothing away (Postfix smtp_sasl_helo_auth).
    """
    if not isinstance(before, str) or before.lower() == more.lower():
        return more
    return f"{before} {more}".strip(" ")


def _size(found: dict[str, object], words: list[str]) -> None:
    """SIZE: the last line with a number counts."""
    found["size"] = True
    if not words:
        return
    number = words[0]
    if number.isascii() and number.isdigit():
        # More than an off_t: as good as none. int() takes no more than 4300 digits.
        digits = number.lstrip("0")
        limit = int(digits or 0) if len(digits) < 20 else 0
        found["size_limit"] = limit if limit < 1 << 63 else 0
    else:
        bad = found.get("bad_sizes", ())
        assert isinstance(bad, tuple)
        found["bad_sizes"] = (*bad, number)
