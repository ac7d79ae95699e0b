"""All entries of a table, where they can be had. For those who look, not for mail."""

from __future__ import annotations

from postfix_trouble.tables import files
from postfix_trouble.tables.base import NoLibraryError, TableUnusable
from postfix_trouble.tables.text import (
    SyntaxProblem,
    between_braces,
    inline_table,
    table_names,
    text_table,
)

# Tables that postmap(1) makes from a file in text form, which stays beside them.
_MADE = ("hash", "btree", "lmdb", "cdb", "dbm", "sdbm")


def entries(spec: str) -> list[tuple[str, str]] | None:
    """Keys and values of a table; None if it can't be listed.

    A rule has its number for a key. Raises TableUnusable.
    """
    kind, _, name = spec.removeprefix("proxy:").partition(":")
    try:
        if kind == "static":
            text = between_braces(name) if name.startswith("{") else name
            return [("any destination", text)]
        if kind == "inline":
            return list(inline_table(name).items())
        if kind == "texthash":
            return list(text_table(files.read_text(name), name, utf8=True)[0].items())
        if kind in ("regexp", "pcre", "cidr"):
            rules, _warnings = files.open_rules(kind, name, secret=False)
            results = enumerate(rules.results(), 1)
            return [(f"rule {number}", result) for number, result in results]
        if kind == "unionmap":
            inner = [entries(one) for one in table_names(name)]
            return [pair for found in inner for pair in found or ()]
    except (SyntaxProblem, NoLibraryError) as problem:
        raise TableUnusable(str(problem)) from None
    if kind in _MADE:
        try:
            return list(text_table(files.read_text(name), name, utf8=True)[0].items())
        except TableUnusable:
            # Only the table itself is there.
            return None
    return None
