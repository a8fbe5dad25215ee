"""Sections of a report on trust: high-risk classes, calibration, counted shares, explanations, comparisons, probes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mentallama_jax.evaluation.how_answered import without_ids
from mentallama_jax.evaluation.reports.document import (
    Block,
    FigureTable,
    Gallery,
    Paragraph,
    ReportSection,
    Terms,
)
from mentallama_jax.evaluation.reports.numerals import (
    NONE,
    count,
    decimal,
    decimal_range,
    percent,
    percent_range,
    readable,
    words,
)
from mentallama_jax.evaluation.reports.pictures import DrawnFigure, forest
from mentallama_jax.evaluation.reports.plain_section import plain_blocks
from mentallama_jax.evaluation.reports.sections_on_labels import cells, columns, in_percent, named_datasets
from mentallama_jax.evaluation.reports.systems import ScoredSystem

_MOST_ROWS = 20
_SHARE = {"count", "of", "share", "interval"}
"""Keys of a counted share."""


def high_risk_section(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """Recall of the labels whose miss may cost most: what a report begins with."""
    systems = [system for system in systems if system.sections.get("high_risk")]
    if not systems:
        return None
    rows: list[tuple[str, ...]] = []
    drawn: dict[str, dict[str, DrawnFigure]] = {}
    for name, system, classes in named_datasets(systems, "high_risk"):
        for each in classes:
            recall, precision = each["recall"], each["precision"]
            of = each["label"] + (f", {each['aspect']}" if each["aspect"] else "")
            rows.append(
                (
                    *cells(systems, name, system), of, count(recall["of"]), percent(recall["share"]),
                    percent_range(recall["interval"], "*" if recall["warning"] else ""), count(each["missed"]["count"]),
                    percent(each["missed"]["share"]), count(each["unparsed"]), percent(precision["share"]),
                )
            )  # fmt: skip
            if not each["aspect"] and recall["share"] is not None:
                drawn.setdefault(name if each["label"] == "yes" else f"{name}: {each['label']}", {})[system] = (
                    in_percent(recall["share"], recall["interval"])
                )
    heads = columns(
        systems, "label", "gold rows", "recall", "95 %", "missed", "missed %", "of these unparsed", "precision"
    )
    starred = any(cell.endswith("*") for row in rows for cell in row)
    notes = ("In %. Missed: the false negatives.", *(("* Few posts: mind the interval.",) if starred else ()))
    caption = "Recall of high-risk classes"
    blocks: list[Block] = [FigureTable(caption, heads, tuple(rows), words=2 + (len(systems) > 1), notes=notes)]
    if drawn:
        names = [system.name for system in systems]
        blocks.append(Gallery((forest(caption, drawn, names, unit="%", bounds=(0.0, 100.0)),)))
    reasons = {
        key: why for system in systems for key, why in (system.sections["high_risk"].get("reasons") or {}).items()
    }
    if reasons:
        blocks.append(Terms(tuple(reasons.items()), heading="Why these classes"))
    return ReportSection("High-risk classes", blocks)


def shares_section(title: str, key: str, systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """A section of counted shares, such as faults of outputs: one row a data set and property."""
    systems = [system for system in systems if system.sections.get(key)]
    if not systems:
        return None
    rows = []
    for name, system, of in with_pool(systems, key):
        for what, share in of.items():
            if isinstance(share, dict) and share.keys() >= _SHARE:
                ends = percent_range(share["interval"], "*" if share.get("warning") else "")
                row = (words(what), count(share["count"]), count(share["of"]), percent(share["share"]), ends)
                rows.append((*cells(systems, name, system), *row))
    heads = columns(systems, "what", "count", "of", "share, %", "95 %")
    table = FigureTable(title, heads, tuple(rows), words=2 + (len(systems) > 1))
    return ReportSection(title, [*short_and_whole(table), *definitions_of(systems, key)])


def short_and_whole(table: FigureTable) -> list[Block]:
    """The rows of all data sets together where there are any, and the whole table folded away."""
    pooled = tuple(row for row in table.rows if row[0] == "pooled")
    if not pooled:
        return [replace(table, folded=len(table.rows) > _MOST_ROWS)]
    short = replace(table, rows=pooled)
    return [short, replace(table, caption=f"{table.caption}, by data set", folded=True, notes=())]


def with_pool(systems: Sequence[ScoredSystem], key: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """A section's data sets of each system, and the pool of those that have several."""
    yield from named_datasets(systems, key)
    for system in systems:
        section = system.sections[key]
        if section.get("pooled") and len(section.get("datasets") or {}) > 1:
            yield "pooled", system.name, section["pooled"]


def definitions_of(systems: Sequence[ScoredSystem], key: str) -> list[Block]:
    """The definitions of a section, folded away."""
    found = {
        words(name): str(text)
        for system in systems
        for name, text in (system.sections[key].get("definitions") or {}).items()
    }
    return [Terms(tuple(found.items()), heading="Definitions")] if found else []


def explanations_section(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """Metrics of explanations with their intervals, how they are computed, and how far people agree with them."""
    key = "explanations"
    systems = [system for system in systems if system.sections.get(key)]
    if not systems:
        return None
    rows = []
    for name, system, of in with_pool(systems, key):
        for part, found in of.items():
            for metric, figure in found["metrics"].items():
                share = figure["unit"] == "share"
                mean = percent(figure["mean"]) if share else decimal(figure["mean"])
                ends = percent_range(figure["interval"]) if share else decimal_range(figure["interval"])
                unit = "%" if share else figure["unit"]
                mark = "*" if found["warning"] else ""
                line = (metric, part, count(found["rows"]), mean, ends + mark, unit, _corpus(figure, share))
                rows.append((*cells(systems, name, system), *line))
    heads = columns(systems, "metric", "part", "rows", "mean", "95 %", "unit", "all rows together")
    table = FigureTable("Metrics of explanations", heads, tuple(rows), words=3 + (len(systems) > 1))
    signatures = {name: text for system in systems for name, text in system.sections[key]["signatures"].items()}
    how = Terms(tuple(signatures.items()), heading="How each metric is computed")
    return ReportSection("Explanations", [*short_and_whole(table), how])


def _corpus(figure: Mapping[str, Any], share: bool) -> str:
    if figure.get("corpus") is None:
        return NONE
    return percent(figure["corpus"]) if share else decimal(figure["corpus"])


def human_section(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """How far people agree with each other, and metrics with people."""
    systems = [system for system in systems if system.sections.get("human_agreement")]
    if not systems:
        return None
    people, metrics = [], []
    for system in systems:
        for criterion, of in (system.sections["human_agreement"].get("criteria") or {}).items():
            first = (criterion, *((system.name,) if len(systems) > 1 else ()))
            people.append((*first, count(of["rows"]), count(of["posts"]), *_three(of["mean"]), *_three(of["alpha"])))
            for metric, found in of["metrics"].items():
                line = (
                    cell
                    for which in ("with_mean", "with_others", "ceiling")
                    for cell in _three((found[which] or {}).get("spearman"))
                )
                metrics.append((*first, metric, *line, *_three((found["with_mean"] or {}).get("kendall"))))
    wide = 1 + (len(systems) > 1)
    first = ("criterion", *(("system",) if len(systems) > 1 else ()))
    heads = (*first, "rows", "posts", "mean mark", "95 %", "Krippendorff's alpha", "95 %")
    blocks: list[Block] = [FigureTable("Marks by people", heads, tuple(people), words=wide)]
    if metrics:
        heads = (
            *first, "metric", "Spearman, mean of annotators", "95 %", "Spearman, all but one", "95 %",
            "the one left out", "95 %", "Kendall", "95 %",
        )  # fmt: skip
        notes = ("The one left out: how an annotator agrees with the others, the ceiling of `all but one`.",)
        blocks.append(FigureTable("Metrics beside people", heads, tuple(metrics), words=1 + wide, notes=notes))
    rest = {system.name: system.sections["human_agreement"] for system in systems}
    blocks += plain_blocks("Human agreement", rest, without=("criteria", "signature"))
    return ReportSection("Agreement with people", blocks)


def _three(estimate: Mapping[str, Any] | None) -> tuple[str, str]:
    if estimate is None:
        return NONE, NONE
    return decimal(estimate["value"], 3), decimal_range(estimate["interval"], 3)


def signature_section(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """What was scored and how, of each system."""
    parts = []
    for system in systems:
        signature = system.sections.get("signature")
        if signature:
            pairs = tuple((words(key), readable(value)) for key, value in without_ids(signature).items())
            parts.append(
                ReportSection(f"Signature of {system.name}" if len(systems) > 1 else "Signature", [Terms(pairs)])
            )
    if len(parts) == 1:
        return parts[0]
    said = Paragraph("What was scored and how: a figure without it cannot be compared with another.")
    return ReportSection("Signatures", [said], parts) if parts else None
