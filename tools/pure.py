"""The files of the package that are marked as pure, as patterns for coverage."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "postfix_trouble"
MARK = "# Pure: no input or output, clock, environment, chance or state."


def pure() -> list[Path]:
    """Those files."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if MARK in path.read_text()]


if __name__ == "__main__":
    print(",".join(f"*/{path.relative_to(PACKAGE.parent)}" for path in pure()))
