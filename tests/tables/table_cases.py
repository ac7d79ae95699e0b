"""Tables made from a grammar, and what a real postmap(1) finds in them."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

KEYS = [
    "a",
    "A",
    "ab",
    "abc",
    "a@example.com",
    "User+ext@Example.COM",
    "550 5.1.1 no such user",
    "450-4.7.1 Greylisted, try again",
    "[192.0.2.1]:587",
    "192.0.2.1",
    "192.0.2.200",
    "10.1.2.3",
    "2001:db8::1",
    "::ffff:192.0.2.1",
    "x y",
    "aaa.bbb",
    "$1",
    "-",
    "\\",
    "straße",
    "ÄÖ",
]


class Case(NamedTuple):
    kind: str
    # The name of the table, or what its file holds.
    name: str
    text: str
    key: str
    # None: not there. An empty one is an error.
    value: str | None


def table(dice: random.Random) -> tuple[str, str, str]:
    """Type, name and text of a table; one of the latter two is empty."""
    kind = dice.choice(
        ["texthash", "inline", "cidr", "regexp", "pcre", "regexp", "pcre"]
    )
    if kind == "texthash":
        return kind, "", "".join(_entry(dice) for _ in range(dice.randint(1, 8)))
    if kind == "inline":
        return kind, _inline(dice), ""
    if kind == "cidr":
        return kind, "", _block(dice, _network_rule, 2)
    perl = kind == "pcre"
    return kind, "", _block(dice, lambda d: _pattern_rule(d, perl), 2)


def _entry(dice: random.Random) -> str:
    key = dice.choice([*KEYS, '"x y"', '"x y"@d', "a#b"])
    value = dice.choice(["1", "two words ", "x # y", "a:b", ""])
    blank = dice.choice([" ", "\t", "   "])
    before = dice.choice(["", "", "", "# comment\n", "\n", "  \n"])
    after = dice.choice(["", "", "", " more", "\n  continued"])
    return f"{before}{key}{blank}{value}{after}\n"


def _inline(dice: random.Random) -> str:
    pairs = []
    for _ in range(dice.randint(1, 5)):
        key = dice.choice([key for key in KEYS if not set(key) & set(" \\")])
        if dice.random() < 0.5:
            pairs.append(f"{key}={dice.choice('xyz')}")
        else:
            pairs.append("{ " + key + " = " + dice.choice(["a b", "c, d", "$1"]) + " }")
    return "{" + dice.choice([", ", " ", ","]).join(pairs) + "}"


def _block(
    dice: random.Random, rule: Callable[[random.Random], str], depth: int
) -> str:
    lines = []
    for _ in range(dice.randint(1, 4)):
        if depth and dice.random() < 0.25:
            condition = rule(dice).rpartition(" ")[0].removeprefix("!")
            negation = dice.choice(["", "!"])
            inner = _block(dice, rule, depth - 1)
            lines.append(f"if {negation}{condition}\n{inner}endif\n")
        else:
            lines.append(rule(dice) + "\n")
    return "".join(lines)


def _network_rule(dice: random.Random) -> str:
    network = dice.choice(
        [
            "192.0.2.0/24",
            "192.0.2.1",
            "192.0.2.1/24",
            "192.0.2.128/25",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "2001:db8::/32",
            "2001:DB8::1",
            "::/0",
            "10.0.0.0/33",
            "nonsense",
        ]
    )
    negation = "!" if dice.random() < 0.15 else ""
    return f"{negation}{network} r{dice.randint(1, 9)}"


def _pattern_rule(dice: random.Random, perl: bool) -> str:
    expression, groups = pattern(dice, perl)
    flags = dice.choice(["", "", "", "i", "m", *("sAEUX" if perl else "x")])
    negation = "!" if dice.random() < 0.1 else ""
    templates = [f"r{dice.randint(1, 9)}", "a$$b"]
    templates += ["<$1>", "x${1}y", "x$1y", "$(1)-", "$2"] if groups else []
    if not perl and dice.random() < 0.1:
        flags += f"!/{pattern(dice, perl)[0]}/"
    return f"{negation}/{expression}/{flags} {dice.choice(templates)}"


def pattern(dice: random.Random, perl: bool, depth: int = 2) -> tuple[str, int]:
    """An expression, and how many groups it has."""
    pieces, groups = [], 0
    for _ in range(dice.randint(1, 4)):
        if depth and dice.random() < 0.2:
            inner, more = pattern(dice, perl, depth - 1)
            other, others = pattern(dice, perl, depth - 1)
            either = dice.random() < 0.5
            pieces.append(f"({inner}|{other})" if either else f"({inner})")
            groups += 1 + more + (others if either else 0)
        else:
            pieces.append(_atom(dice, perl))
        if dice.random() < 0.3:
            pieces.append(dice.choice(["*", "+", "?", "{2}", "{1,}", "{0,2}"]))
            if dice.random() < 0.2:
                pieces.append(dice.choice("*+?{"))
    pieces.insert(0, dice.choice(["^", "", ""]))
    pieces.append(dice.choice(["$", "", "", "\\1"]))
    return "".join(pieces), groups


BOTH = [
    r"a",
    r"b",
    r"B",
    r".",
    r"@",
    r"5",
    r"\.",
    r"\/",
    r"[abc]",
    r"[^a]",
    r"[a-c0-9]",
    r"[[:digit:]]",
    r"[[:alpha:]_]",
    r"[]a]",
    r"[^]a]",
    r"[a-]",
    r"\w",
    r"-",
    r"ß",
    r"\$",
    r"[.$]",
    r"[&~|]",
    r"[a&&b]",
    r"\b",
    r"user",
]
PERL = [
    r"\d",
    r"\s",
    r"[\w.]",
    r"(?:ab|a)",
    r"(?=a)",
    r"[\]a]",
    r"{",
    r"(?i:A)",
    r"\A",
    r"\Z",
    r"x{,2}",
    r"(?<![b])a",
    r"\Qa\E",
]
POSIX = [r"\<", r"\>", r"[\a]", r"[[:punct:]]", r"\d", "[a-d-d]", "[[=a=]]", "é", "[é]"]


def _atom(dice: random.Random, perl: bool) -> str:
    return dice.choice([*BOTH, " ", *(PERL if perl else POSIX)])


def ask_postmap(
    directory: Path, kind: str, name: str, text: str, keys: list[str]
) -> dict[str, str] | None:
    """What `postmap -q` finds of some keys; None if it gave up."""
    if text:
        path = directory / "table"
        path.write_text(text)
        # Postfix waits for a file that was changed within the last second.
        os.utime(path, (0, 0))
        name = str(path)
    done = subprocess.run(
        ["postmap", "-q", "-", f"{kind}:{name}"],
        input="".join(f"{key}\n" for key in keys),
        capture_output=True,
        text=True,
    )
    if "fatal:" in done.stderr:
        return None
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())
