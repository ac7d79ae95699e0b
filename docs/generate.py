"""Write what is made from the code: docs/policy.md, docs/policy.svg.

usage: python docs/generate.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from policy_page import page
from policy_picture import draw

ROOT = Path(__file__).parent.parent


def files() -> Iterator[tuple[Path, str]]:
    """Each file and its text."""
    yield ROOT / "docs/policy.md", page()
    yield ROOT / "docs/policy.svg", draw()


def main() -> None:
    """Write them all."""
    for path, text in files():
        path.write_text(text)


if __name__ == "__main__":
    main()
