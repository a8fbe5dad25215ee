"""A small writer of SVG: shapes and text with class names, so that a page's style sheet colours them, dark or light.

Coordinates are pixels with y downwards. Text stays text. Series are told by the form of their marks and the dashes of
their lines besides their colours.
"""

from collections.abc import Sequence
from html import escape

Point = tuple[float, float]

LETTER = 7.0
"""Mean width of a letter at the size of labels, in pixels; it only has to be near."""
SERIES = 6
"""Looks of series that the style sheet knows."""


class Canvas:
    """Collects the elements of one drawing."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._elements: list[str] = []

    @property
    def body(self) -> str:
        """What was drawn so far."""
        return "".join(self._elements)

    def line(self, start: Point, end: Point, style: str) -> None:
        """A straight line."""
        ends = f'x1="{_n(start[0])}" y1="{_n(start[1])}" x2="{_n(end[0])}" y2="{_n(end[1])}"'
        self._elements.append(f'<line class="{style}" {ends}/>')

    def path(self, places: Sequence[Point], style: str) -> None:
        """A line through points."""
        points = " ".join(f"{_n(x)},{_n(y)}" for x, y in places)
        self._elements.append(f'<polyline class="{style}" points="{points}"/>')

    def box(self, corner: Point, width: float, height: float, style: str, opacity: float | None = None) -> None:
        """A rectangle; `opacity` is that of its filling."""
        filled = "" if opacity is None else f' fill-opacity="{opacity:.2f}"'
        place = f'x="{_n(corner[0])}" y="{_n(corner[1])}" width="{_n(width)}" height="{_n(height)}"'
        self._elements.append(f'<rect class="{style}" {place}{filled}/>')

    def text(self, place: Point, words: str, anchor: str = "start", style: str = "label", turn: int = 0) -> None:
        """Text; `anchor` is start, middle or end; `turn` in degrees."""
        x, y = _n(place[0]), _n(place[1])
        turned = f' transform="rotate({turn} {x} {y})"' if turn else ""
        anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._elements.append(f'<text class="{style}" x="{x}" y="{y}"{anchored}{turned}>{escape(words)}</text>')

    def mark(self, place: Point, series: int, size: float = 4) -> None:
        """The mark of a series: its own form and colour."""
        x, y = place
        style = f"mark s{series % SERIES}"
        form = series % SERIES
        if form == 0:
            self._elements.append(f'<circle class="{style}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(size)}"/>')
            return
        corners = _FORMS[form - 1]
        points = " ".join(f"{_n(x + size * dx)},{_n(y + size * dy)}" for dx, dy in corners)
        self._elements.append(f'<polygon class="{style}" points="{points}"/>')

    def published_mark(self, place: Point) -> None:
        """The mark of a published figure: a hollow diamond."""
        x, y = place
        points = " ".join(f"{_n(x + dx)},{_n(y + dy)}" for dx, dy in ((0, -5), (5, 0), (0, 5), (-5, 0)))
        self._elements.append(f'<polygon class="published" points="{points}"/>')


_FORMS: tuple[tuple[Point, ...], ...] = (
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.15), (1.1, 0.9), (-1.1, 0.9)),
    ((0, 1.15), (1.1, -0.9), (-1.1, -0.9)),
    ((-1.2, -0.5), (1.2, -0.5), (1.2, 0.5), (-1.2, 0.5)),
    ((-0.5, -1.2), (0.5, -1.2), (0.5, 1.2), (-0.5, 1.2)),
)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` of them where that can be."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0
    while power > span:
        power /= 10
    while power * 10 <= span:
        power *= 10
    steps = [power * factor for factor in (0.1, 0.2, 0.25, 0.5, 1, 2, 5)]
    step = next((each for each in steps if span / each <= most - 1), steps[-1])
    first = -(-low // step)
    found, place = [], first
    while place * step <= high + step * 1e-9:
        found.append(round(place * step, 12) + 0.0)
        place += 1
    return found


def tick_words(values: Sequence[float]) -> list[str]:
    """Ticks as text, all with the same count of decimals."""
    if max((abs(value) for value in values), default=0) >= 1e4:
        return [f"{value:,.0f}" for value in values]
    small = max((abs(value) for value in values), default=0)
    if 0 < small < 1e-3:
        return [f"{value:.1e}" if value else "0" for value in values]
    places = next((n for n in range(6) if all(abs(round(v, n) - v) < 1e-9 for v in values)), 6)
    return [f"{value:.{places}f}" for value in values]


def shortened(words: str, letters: int) -> str:
    """Words that fit a place; what is cut off is marked."""
    return words if len(words) <= letters else words[: letters - 1] + "…"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
