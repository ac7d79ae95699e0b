"""Write what is made from the code: docs/policy.md, docs/policy.svg, share/completion.

usage: python docs/generate.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from policy_page import page
from policy_picture import draw

from postfix_trouble.cli.completion import SHELLS, script

ROOT = Path(__file__).parent.parent


def files() -> Iterator[tuple[Path, str]]:
    """Each file and its text."""
    yield ROOT / "docs/policy.md", page()
    yield ROOT / "docs/policy.svg", draw()
    for shell, name in SHELLS.items():
        yield ROOT / "share/completion" / name, script(shell)


def main() -> None:
    """Write them all."""
    for path, text in files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
