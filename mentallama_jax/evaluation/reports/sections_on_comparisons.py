"""Sections of a report on differences: systems beside each other, and posts beside changed posts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mentallama_jax.evaluation.reports.document import Block, FigureTable, Gallery, Paragraph, Picture, ReportSection
from mentallama_jax.evaluation.reports.numerals import count, decimal, percent, points, points_range, words
from mentallama_jax.evaluation.reports.pictures import DrawnFigure, forest
from mentallama_jax.evaluation.reports.plain_section import plain_blocks
from mentallama_jax.evaluation.reports.systems import ScoredSystem

_HEADLINE = "weighted_f1"
_MOST_PAIRS = 6
_PROBE_FIGURES = {
    "faithfulness": (
        "comprehensiveness_difference",
        "sufficiency_difference",
        "follows",
        "follows_where_stated",
        "original_states_own",
    ),
    "robustness": ("flip_rate", "f1_change"),
    "fairness": ("flip_rate", "p_yes", "p_gold", "weighted_f1"),
}
_PROBE_TITLES = {"faithfulness": "Faithfulness of explanations", "fairness": "Fairness", "robustness": "Robustness"}


def comparison_section(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """Paired differences of systems, with what is known to differ after correction for many comparisons."""
    found = [system.sections["comparison"] for system in systems if system.sections.get("comparison")]
    if not found:
        return None
    blocks: list[Block] = []
    for number, comparison in enumerate(found, start=1):
        blocks += _comparison(comparison, f" {number}" if len(found) > 1 else "")
    return ReportSection("Comparison of systems", blocks)


def _comparison(comparison: Mapping[str, Any], number: str) -> Iterator[Block]:
    names = list(comparison["systems"])
    units = comparison["units"]

    def shown(metric: str, value: float | None) -> str:
        return percent(value) if units[metric] == "share" else decimal(value)

    def difference(metric: str, value: float | None) -> str:
        return points(value) if units[metric] == "share" else decimal(value)

    def ends(metric: str, both: Sequence[float] | None) -> str:
        if both is None or units[metric] == "share":
            return points_range(both)
        return f"{decimal(both[0])} to {decimal(both[1])}"

    rows = [
        (
            words(each["metric"]),
            each["dataset"],
            *(", ".join(shown(each["metric"], value) for value in each["values"].get(name, ())) for name in names),
            ", ".join(each["not_distinguished"]),
        )
        for each in comparison["standings"]
    ]
    heads = ("metric", "data set", *names, "not distinguished from the best")
    notes = ("Shares in %; several figures are those of several seeds. Holm's correction over data sets and pairs.",)
    yield from _short_and_whole(f"Standings{number}", heads, rows, words_at_left=2, notes=notes)
    rows = [
        (
            words(each["metric"]),
            each["dataset"],
            f"{each['first']} less {each['second']}",
            count(each["posts"]),
            difference(each["metric"], each["difference"]),
            ends(each["metric"], each["interval"]),
            decimal(each["p"], 4),
            decimal(each["p_holm"], 4),
            difference(each["metric"], each["minimum_detectable"]).removeprefix("+"),
            count(each["posts_needed"]),
            each["test"],
        )
        for each in comparison["differences"]
    ]
    heads = (
        "metric",
        "data set",
        "systems",
        "posts",
        "difference",
        "95 %",
        "p",
        "p, Holm",
        "smallest to be found",
        "posts needed",
        "test",
    )
    notes = (
        "Shares in points. Smallest to be found: the true difference found with a chance of 0.8. Posts needed: on so "
        "many the difference seen would be found with that chance, with these seeds; none where no number would do.",
    )
    yield from _short_and_whole(f"Differences{number}", heads, rows, words_at_left=3, notes=notes)
    yield Gallery(tuple(_difference_pictures(comparison, units, number)))
    for key, left_out in (comparison.get("left_out") or {}).items():
        yield Paragraph(f"{key}: {left_out} rows were left out, as other systems lack them.", "warning")


def _short_and_whole(
    caption: str,
    heads: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    words_at_left: int,
    notes: tuple[str, ...],
) -> Iterator[FigureTable]:
    """The rows of all data sets together where there are any, and all rows folded away."""
    pooled = tuple(row for row in rows if row[1] == "pooled")
    if pooled:
        yield FigureTable(caption, heads, pooled, words=words_at_left, notes=notes)
        yield FigureTable(f"{caption}, by data set", heads, tuple(rows), words=words_at_left, folded=True)
    else:
        yield FigureTable(caption, heads, tuple(rows), words=words_at_left, notes=notes)


def _difference_pictures(comparison: Mapping[str, Any], units: Mapping[str, str], number: str) -> Iterator[Picture]:
    if units.get(_HEADLINE) != "share":
        return
    pairs: dict[str, dict[str, dict[str, DrawnFigure]]] = {}
    for each in comparison["differences"]:
        if each["metric"] == _HEADLINE:
            pair = f"{each['first']} less {each['second']}"
            pairs.setdefault(pair, {})[each["dataset"]] = {pair: _in_points(each["difference"], each["interval"])}
    for pair, rows in list(pairs.items())[:_MOST_PAIRS]:
        yield forest(f"Weighted F1{number}, {pair}", rows, [pair], unit="points", reference=0.0)


def _in_points(value: float, ends: Sequence[float] | None) -> DrawnFigure:
    return DrawnFigure(100 * value, (100 * ends[0], 100 * ends[1]) if ends else None)


def probe_section(key: str, systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """A probe: pictures of its main figures over all rows, what to mind, and every figure as tables."""
    found = {system.name: system.sections[key] for system in systems if system.sections.get(key)}
    if not found:
        return None
    title = _PROBE_TITLES[key]
    said = dict.fromkeys(note for value in found.values() for note in value.get("notes") or ())
    blocks: list[Block] = [Paragraph(note, "warning") for note in said]
    pictures = [picture for name in _PROBE_FIGURES[key] if (picture := _probe_picture(key, name, found)) is not None]
    blocks.append(Gallery(tuple(pictures)))
    pooled = {name: value["pooled"] for name, value in found.items()}
    blocks += plain_blocks(f"{title}, all rows", pooled)
    by_dataset = {name: value["datasets"] for name, value in found.items()}
    if any(len(value) > 1 for value in by_dataset.values()):
        blocks += plain_blocks(f"{title}, by data set", by_dataset, folded=True)
    return ReportSection(title, blocks)


def _probe_picture(key: str, figure: str, found: Mapping[str, Any]) -> Picture | None:
    rows: dict[str, dict[str, DrawnFigure]] = {}
    for system, value in found.items():
        for name, of in _probe_rows(key, value["pooled"]):
            estimate = of.get(figure)
            if estimate and estimate.get("interval"):
                drawn = estimate.get("difference", estimate["value"])
                rows.setdefault(name or words(figure), {})[system] = _in_points(drawn, estimate["interval"])
    if not rows:
        return None
    what = f"{words(figure)}, difference from neutral sentences" if key == "fairness" else words(figure)
    return forest(f"{_PROBE_TITLES[key]}: {what}", rows, list(found), unit="points of 100", reference=0.0)


def _probe_rows(key: str, pooled: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if key == "robustness":
        yield from ((words(name), of) for name, of in pooled["variants"].items())
    elif key == "fairness":
        for groups in pooled["groups"].values():
            yield from ((words(name), of) for name, of in groups.items())
    else:
        yield "", {**(pooled.get("erasure") or {}), **(pooled.get("counterfactual") or {})}
