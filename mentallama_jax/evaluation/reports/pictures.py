"""The pictures of a report: intervals, confusion matrices, curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mentallama_jax.evaluation.reports.canvas import LETTER, SERIES, Canvas, shortened, tick_words, ticks
from mentallama_jax.evaluation.reports.document import Picture

WIDTH = 350
"""Pixels; what a telephone shows without making letters smaller."""
_LINE = 15
_SHADE = 0.5


@dataclass(frozen=True, slots=True)
class DrawnFigure:
    """A figure and its interval in one series; `ends` is None where it has none."""

    value: float
    ends: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one series, in order of x."""

    name: str
    points: Sequence[tuple[float, float]]
    marked: bool = False


def forest(
    title: str,
    rows: Mapping[str, Mapping[str, DrawnFigure]],
    series: Sequence[str],
    *,
    unit: str,
    bounds: tuple[float, float] | None = None,
    reference: float | None = None,
    published: Mapping[str, float] | None = None,
    published_name: str = "published",
) -> Picture:
    """Figures with their intervals, one row each.

    Args:
        title: what is shown.
        rows: row -> series -> figure; in the unit of the axis.
        series: names, in the order of their marks.
        unit: what the axis counts.
        bounds: ends of the axis; None takes those of the figures.
        reference: where a line is drawn across, such as 0.
        published: row -> a published figure beside it.
        published_name: what it is called.
    """
    published = {name: value for name, value in (published or {}).items() if name in rows}
    left = 12 + LETTER * min(max(map(len, rows), default=1), 18)
    height_of = max(_LINE, 9 * len(series) + 8)
    legend = [*series] if len(series) > 1 or published else []
    top = 8 + _LINE * (len(legend) + bool(published))
    canvas = Canvas(WIDTH, round(top + height_of * len(rows) + 38))
    low, high = bounds or _bounds(rows, reference, published)
    right = WIDTH - 14
    bottom = top + height_of * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * (min(max(value, low), high) - low) / (high - low)

    _legend(canvas, legend, published_name if published else None)
    places = ticks(low, high)
    for place, words in zip(places, tick_words(places), strict=True):
        canvas.line((x(place), top), (x(place), bottom), "grid")
        canvas.text((x(place), bottom + 15), words, "middle", "tick")
    canvas.text(((left + right) / 2, bottom + 31), unit, "middle", "tick")
    if reference is not None:
        canvas.line((x(reference), top), (x(reference), bottom), "axis")
    for number, (name, of_row) in enumerate(rows.items()):
        middle = top + height_of * (number + 0.5)
        canvas.text((left - 8, middle + 4), shortened(name, 18), "end")
        shown = [(place, of_row[each]) for place, each in enumerate(series) if each in of_row]
        for step, (place, estimate) in enumerate(shown):
            y = middle + 9 * (step - (len(shown) - 1) / 2)
            if estimate.ends is not None:
                canvas.line((x(estimate.ends[0]), y), (x(estimate.ends[1]), y), f"whisker s{place % SERIES}")
            canvas.mark((x(estimate.value), y), place)
        if name in published:
            canvas.published_mark((x(published[name]), middle))
    return Picture(title, _forest_words(rows, unit, published, published_name), WIDTH, canvas.height, canvas.body)


def confusion_picture(title: str, confusion: Mapping[str, Mapping[str, int]]) -> Picture:
    """Rows by gold label and label read: counts in the cells, shades by share of the gold label's rows."""
    golds = [gold for gold, row in confusion.items() if sum(row.values())]
    read = list(next(iter(confusion.values()), {}))
    left = 14 + LETTER * min(max(map(len, golds), default=1), 16)
    cell = min(46.0, (WIDTH - left - 6) / max(len(read), 1))
    slanted = max(map(len, read), default=1) * LETTER > cell - 4
    top = 24 + (0.72 * LETTER * min(max(map(len, read), default=1), 16) if slanted else 12)
    height = max(20.0, min(34.0, cell))
    canvas = Canvas(WIDTH, round(top + height * len(golds) + 8))
    canvas.text((left, 11), "read from the output", style="tick")
    for column, label in enumerate(read):
        place = (left + cell * (column + 0.5), top - 6)
        if slanted:
            canvas.text(place, shortened(label, 16), style="tick", turn=-45)
        else:
            canvas.text(place, label, "middle", "tick")
    for row, gold in enumerate(golds):
        y = top + height * row
        total = sum(confusion[gold].values())
        canvas.text((left - 6, y + height / 2 + 4), shortened(gold, 16), "end")
        for column, label in enumerate(read):
            rows = confusion[gold].get(label, 0)
            corner = (left + cell * column + 0.5, y + 0.5)
            canvas.box(corner, cell - 1, height - 1, "right" if gold == label else "wrong", _SHADE * rows / total)
            canvas.text(
                (corner[0] + cell / 2, y + height / 2 + 4), str(rows), "middle", "tick" if cell < 24 else "label"
            )
    return Picture(title, _confusion_words(confusion, golds), WIDTH, canvas.height, canvas.body)


def curves(
    title: str,
    lines: Sequence[Curve],
    *,
    across: str,
    up: str,
    x_bounds: tuple[float, float] | None = None,
    y_bounds: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> Picture:
    """Curves over one axis; `diagonal` draws the line where both axes are equal."""
    lines = [line for line in lines if line.points]
    xs = [x for line in lines for x, _ in line.points] or [0.0, 1.0]
    ys = [y for line in lines for _, y in line.points] or [0.0, 1.0]
    x_low, x_high = x_bounds or _wide(min(xs), max(xs))
    y_low, y_high = y_bounds or _wide(min(ys), max(ys))
    places = ticks(y_low, y_high, 6)
    named = tick_words(places)
    legend = [line.name for line in lines] if len(lines) > 1 else []
    left, right = 12 + LETTER * max(map(len, named)), WIDTH - 14
    top = 26 + _LINE * len(legend)
    bottom = top + 190
    canvas = Canvas(WIDTH, bottom + 38)
    _legend(canvas, legend, None, lined=True)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        x = left + (right - left) * (min(max(point[0], x_low), x_high) - x_low) / (x_high - x_low)
        return x, bottom - (bottom - top) * (min(max(point[1], y_low), y_high) - y_low) / (y_high - y_low)

    canvas.text((4, top - 8), up, style="tick")
    for place, words in zip(places, named, strict=True):
        canvas.line(at((x_low, place)), at((x_high, place)), "grid")
        canvas.text((left - 5, at((x_low, place))[1] + 4), words, "end", "tick")
    across_places = ticks(x_low, x_high, 6)
    for place, words in zip(across_places, tick_words(across_places), strict=True):
        canvas.text((at((place, y_low))[0], bottom + 15), words, "middle", "tick")
    canvas.line((left, bottom), (right, bottom), "axis")
    canvas.text(((left + right) / 2, bottom + 31), across, "middle", "tick")
    if diagonal:
        canvas.line(at((x_low, x_low)), at((x_high, x_high)), "reference")
    for number, line in enumerate(lines):
        canvas.path([at(point) for point in line.points], f"curve s{number % SERIES}")
        for point in line.points if line.marked or len(line.points) == 1 else ():
            canvas.mark(at(point), number, 3.5)
    return Picture(title, _curve_words(lines, across, up), WIDTH, canvas.height, canvas.body)


def _legend(canvas: Canvas, names: Sequence[str], published: str | None, *, lined: bool = False) -> None:
    for number, name in enumerate(names):
        y = 8 + _LINE * number
        if lined:
            canvas.line((6, y), (28, y), f"curve s{number % SERIES}")
        else:
            canvas.mark((17, y), number)
        canvas.text((36, y + 4), shortened(name, 48))
    if published:
        y = 8 + _LINE * len(names)
        canvas.published_mark((17, y))
        canvas.text((36, y + 4), shortened(published, 48))


def _bounds(
    rows: Mapping[str, Mapping[str, DrawnFigure]], reference: float | None, published: Mapping[str, float]
) -> tuple[float, float]:
    values = [value for of in rows.values() for each in of.values() for value in (each.value, *(each.ends or ()))]
    values += [*published.values(), *(() if reference is None else (reference,))]
    return _wide(min(values, default=0.0), max(values, default=1.0))


def _wide(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or max(abs(high), 1e-3) * 0.1
    return (0.0 if low >= 0 > low - room else low - room), high + room


def _forest_words(
    rows: Mapping[str, Mapping[str, DrawnFigure]], unit: str, published: Mapping[str, float], published_name: str
) -> str:
    parts = []
    for name, of_row in rows.items():
        for series, estimate in of_row.items():
            ends = f" ({estimate.ends[0]:.1f} to {estimate.ends[1]:.1f})" if estimate.ends else ""
            parts.append(f"{name}{', ' + series if len(of_row) > 1 else ''}: {estimate.value:.1f}{ends}")
        if name in published:
            parts.append(f"{name}, {published_name}: {published[name]:.1f}")
    return f"Figures with intervals; {unit}. " + "; ".join(parts) + "."


def _confusion_words(confusion: Mapping[str, Mapping[str, int]], golds: Sequence[str]) -> str:
    said = []
    for gold in golds:
        found = ", ".join(f"{rows} as {label}" for label, rows in confusion[gold].items() if rows)
        said.append(f"{gold} read {found}")
    return "Rows of each gold label by the label read: " + "; ".join(said) + "."


def _curve_words(lines: Sequence[Curve], across: str, up: str) -> str:
    said = [
        f"{line.name} from {line.points[0][1]:.3g} at {line.points[0][0]:.3g} to {line.points[-1][1]:.3g} at "
        f"{line.points[-1][0]:.3g}"
        for line in lines
    ]
    return f"{up}, over {across}: " + "; ".join(said) + "."
