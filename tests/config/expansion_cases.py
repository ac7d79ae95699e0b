"""Texts to expand, made from a grammar, and what a real postconf(1) makes of them."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import NamedTuple

# What the texts refer to. Postfix decides "has a value" before it expands.
NAMES = {
    "word": "value",
    "empty": "",
    "of_empty": "$empty",
    "of_word": "<${word}>",
    "number": "12",
    "smaller": "9",
    "release": "3.10",
    "itself": "a$itself",
    "dollar": "$$word",
}


class Case(NamedTuple):
    text: str
    # None: a fatal error.
    value: str | None


def text(dice: random.Random, depth: int = 3) -> str:
    return "".join(_piece(dice, depth) for _ in range(dice.randint(1, 3)))


def _piece(dice: random.Random, depth: int) -> str:
    name = dice.choice([*NAMES, "not_defined"])
    if name == "itself" and dice.random() < 0.8:
        name = "word"
    plain = [
        "a",
        "b c",
        "1.5",
        "-",
        "$$",
        f"${name}",
        f"${{{name}}}",
        f"$({name})",
        f"${{{name}?yes}}",
        f"${{{name}:no}}",
    ]
    broken = ["$", "${", "${}", f"${{{name}!}}", f"${{{name}?{{a}}b}}", "${{a}}", "}"]
    if dice.random() < 0.04:
        return dice.choice(broken)
    if depth == 0 or dice.random() < 0.4:
        return dice.choice(plain)
    blank = dice.choice(["", "", " "])
    one, other = text(dice, depth - 1), text(dice, depth - 1)
    operator = dice.choice(["==", "!=", "<", "<=", ">", ">="])
    return dice.choice(
        [
            f"${{{name}?{{{one}}}{blank}:{blank}{{{other}}}}}",
            f"${{{name}{blank}?{blank}{{{one}}}}}",
            f"${{{name}?{one}}}",
            f"${{{name}:{{{one}}}{blank}}}",
            f"${{{blank}{{{one}}}{blank}{operator}{blank}{{{other}}}}}",
            f"${{{{${name}}} {operator} {{{dice.randint(8, 13)}}}?{{{one}}}:{other}}}",
            f"${{{{$release}} {operator}level {{3.{dice.randint(8, 11)}}}?{{{one}}}}}",
            f"${{{{{one}}} {operator}{blank}{{{one}}}{blank}?{blank}{{y}}:{{n}}}}",
        ]
    )


def ask_postconf(directory: Path, subject: str) -> str | None:
    """What `postconf -x` prints for a parameter with this value."""
    # The strokes keep blanks at the ends.
    lines = [f"{name} = {value}" for name, value in NAMES.items()]
    lines += ["compatibility_level = 3.6", f"relayhost = |{subject}|"]
    main_cf = directory / "main.cf"
    main_cf.write_text("\n".join(lines) + "\n")
    # Postfix waits for a file that was changed within the last second.
    os.utime(main_cf, (0, 0))
    (directory / "master.cf").touch()
    command = ["postconf", "-c", str(directory), "-xh", "relayhost"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout[1:-2] if done.returncode == 0 else None
