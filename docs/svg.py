"""The few shapes that a drawing of ours needs, as SVG."""

from __future__ import annotations

from html import escape

_FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"


class Canvas:
    """A drawing in pixels; y counts downwards."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._shapes: list[str] = []

    def text(self, height: float) -> str:
        """The whole file, so high."""
        size = f'width="{self._width}" height="{height:g}"'
        box = f'viewBox="0 0 {self._width} {height:g}"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box}'
            f' font-family="{_FONT}">',
            f'<rect width="{self._width}" height="{height:g}" fill="#ffffff"/>',
            *self._shapes,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"

    def write(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int,
        bold: bool = False,
        colour: str = "#1c2733",
        anchor: str = "start",
    ) -> None:
        """A line of text; y is that of its base line."""
        weight = ' font-weight="bold"' if bold else ""
        place = f' text-anchor="{anchor}"' if anchor != "start" else ""
        self._shapes.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}"{weight}{place}'
            f' fill="{colour}">{escape(text)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """A filled box with a thin white edge."""
        self._shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4"'
            f' fill="{fill}" stroke="#ffffff"/>'
        )

    def rule(self, x: float, y: float, to: float, colour: str) -> None:
        """A thin line across."""
        self._shapes.append(
            f'<line x1="{x:g}" y1="{y:g}" x2="{to:g}" y2="{y:g}" stroke="{colour}"/>'
        )

    def pause(self, x: float, y: float, colour: str) -> None:
        """Two bars, 8 by 9."""
        for offset in (0, 5):
            self._shapes.append(
                f'<rect x="{x + offset:g}" y="{y:g}" width="3" height="9"'
                f' fill="{colour}"/>'
            )

    def letter(self, x: float, y: float, colour: str) -> None:
        """An envelope, 14 by 9."""
        self._shapes.append(
            f'<path d="M{x:g} {y:g}h14v9h-14zl7 5l7 -5" fill="none"'
            f' stroke="{colour}" stroke-linejoin="round"/>'
        )
