"""A section of a report on the probabilities of labels: calibration, selective prediction, conformal sets."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mentallama_jax.evaluation.reports.document import Block, FigureTable, Gallery, ReportSection
from mentallama_jax.evaluation.reports.numerals import NONE, count, decimal, decimal_range, percent
from mentallama_jax.evaluation.reports.pictures import Curve, curves
from mentallama_jax.evaluation.reports.sections_on_labels import cells, columns
from mentallama_jax.evaluation.reports.sections_on_trust import definitions_of, short_and_whole, with_pool
from mentallama_jax.evaluation.reports.systems import ScoredSystem

_Rows = Iterator[tuple[str, ...]]

_KEY = "calibration"
_FIGURES = {"ece": "ECE", "brier": "Brier", "log_loss": "log loss", "confidence": "confidence", "accuracy": "accuracy"}
_SELECTIVE = {"aurc": "AURC", "excess_aurc": "excess AURC", "accuracy_at_80": "accuracy at 80 %"}
_KINDS = {"as_given": "as given", "tempered": "with temperature"}
_UNIT = (0.0, 1.0)


def calibration_section(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """Calibration of label probabilities, selective prediction and conformal sets."""
    systems = [system for system in systems if system.sections.get(_KEY)]
    if not systems:
        return None
    blocks: list[Block] = [
        *_table(systems, "Calibration", _reliability_rows, ("probabilities", "rows", *_headed(_FIGURES)), words=1),
        *_table(systems, "Selective prediction", _selective_rows, _headed(_SELECTIVE)),
        *_table(
            systems,
            "Conformal sets",
            _conformal_rows,
            ("promised, %", "coverage", "95 %", "mean size", "95 %", "labels", "validation rows", "remark"),
        ),
        *_table(systems, "Temperature", _temperature_rows, ("temperature", "95 %", "validation rows")),
        _reliability_pictures(systems),
        _coverage_pictures(systems),
        *definitions_of(systems, _KEY),
    ]
    return ReportSection("Calibration", blocks)


def _table(
    systems: Sequence[ScoredSystem],
    caption: str,
    rows_of: Callable[[Mapping[str, Any]], _Rows],
    heads: tuple[str, ...],
    words: int = 0,
) -> list[Block]:
    rows = [
        (*cells(systems, name, system), *row) for name, system, of in with_pool(systems, _KEY) for row in rows_of(of)
    ]
    if not rows:
        return []
    width = 1 + (len(systems) > 1) + words
    return short_and_whole(FigureTable(caption, columns(systems, *heads), tuple(rows), words=width))


def _headed(names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(cell for name in names.values() for cell in (name, "95 %"))


def _estimates(of: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    found = []
    for name in names:
        found += [decimal(of[name]["value"], 3), decimal_range(of[name]["interval"], 3)]
    return tuple(found)


def _reliability_rows(of: Mapping[str, Any]) -> _Rows:
    for kind, what in _KINDS.items():
        if of.get(kind):
            yield (what, count(of["rows"]), *_estimates(of[kind], list(_FIGURES)))


def _selective_rows(of: Mapping[str, Any]) -> _Rows:
    if of.get("selective"):
        yield _estimates(of["selective"], list(_SELECTIVE))


def _conformal_rows(of: Mapping[str, Any]) -> _Rows:
    if sets := of.get("conformal"):
        figures = _estimates(sets, ["coverage", "mean_size"])
        counts = (count(sets["labels"]), count(sets["calibration_rows"]))
        yield (percent(sets["promised"]), *figures, *counts, sets["remark"] or NONE)


def _temperature_rows(of: Mapping[str, Any]) -> _Rows:
    if fitted := of.get("temperature"):
        yield (decimal(fitted["value"]), decimal_range(fitted["interval"]), count(fitted["rows"]))


def _reliability_pictures(systems: Sequence[ScoredSystem]) -> Gallery:
    lines: dict[str, list[Curve]] = {}
    # Two curves of each of several systems would be too many.
    kinds = _KINDS if len(systems) == 1 else {"as_given": ""}
    for name, system, of in with_pool(systems, _KEY):
        for kind, what in kinds.items():
            if of.get(kind):
                points = [(each["confidence"], each["right"]["value"]) for each in of[kind]["bins"]]
                lines.setdefault(name, []).append(Curve(what or system, points, marked=True))
    pictures = (
        curves(
            f"Reliability, {name}",
            of,
            across="confidence",
            up="share right",
            x_bounds=_UNIT,
            y_bounds=_UNIT,
            diagonal=True,
        )
        for name, of in lines.items()
    )
    return Gallery(tuple(pictures), "Reliability")


def _coverage_pictures(systems: Sequence[ScoredSystem]) -> Gallery:
    lines: dict[str, list[Curve]] = {}
    for name, system, of in with_pool(systems, _KEY):
        if of.get("selective"):
            points = [(each["coverage"], each["risk"]) for each in of["selective"]["risk_coverage"]]
            lines.setdefault(name, []).append(Curve(system, points))
    pictures = (
        curves(
            f"Risk by coverage, {name}",
            of,
            across="share of rows answered",
            up="share wrong",
            x_bounds=_UNIT,
            y_bounds=_UNIT,
        )
        for name, of in lines.items()
    )
    return Gallery(tuple(pictures), "Risk by coverage")
