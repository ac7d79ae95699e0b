"""What a server says it can do: EHLO and LHLO replies (Postfix smtp_helo)."""

from __future__ import annotations

import re

from postfix_trouble.model.value import Value

# Something up to a separator (the code), the keyword up to a separator, the rest.
_LINE = re.compile(r"[- ]*[^- ]+[- ][ \t=]*([^ \t=]+)[ \t=]?(.*)", re.DOTALL)

# Words of smtp_discard_ehlo_keywords.
DISCARDABLE = (
    "8bitmime",
    "auth",
    "chunking",
    "dsn",
    "enhancedstatuscodes",
    "etrn",
    "pipelining",
    "silent-discard",
    "size",
    "smtputf8",
    "starttls",
    "verp",
    "vrfy",
    "xclient",
    "xforward",
)


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
    # Mechanisms after AUTH, None if AUTH was not offered.
    auth: str | None = None
    dsn: bool = False
    smtputf8: bool = False
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
        parts = _LINE.match(line)
        if parts is None:
            continue
        if named:
            _keyword(found, parts[1].lower(), parts[2].strip(" \t"), discard)
        else:
            found["helo_name"] = parts[1]
            named = True
    return Capabilities(**found)  # type: ignore[arg-type]


def _keyword(
    found: dict[str, object], word: str, arguments: str, discard: frozenset[str]
) -> None:
    if word in discard:
        return
    if word in ("8bitmime", "pipelining", "starttls", "dsn", "smtputf8"):
        found["eightbitmime" if word == "8bitmime" else word] = True
    elif word == "xforward":
        found["xforward"] = frozenset(arguments.upper().split())
    elif word == "auth":
        found["auth"] = arguments
    elif word == "size":
        found["size"] = True
        number = arguments.split()[:1]
        if not number:
            return
        if number[0].isascii() and number[0].isdigit():
            # More than an off_t: as good as none. int() takes no more than 4300 digits.
            digits = number[0].lstrip("0")
            limit = int(digits or 0) if len(digits) < 20 else 0
            found["size_limit"] = limit if limit < 1 << 63 else 0
        else:
            bad = found.get("bad_sizes", ())
            assert isinstance(bad, tuple)
            found["bad_sizes"] = (*bad, number[0])
