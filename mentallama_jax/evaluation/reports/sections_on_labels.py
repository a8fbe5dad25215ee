"""Sections of a report on labels: the headline, correctness, published figures, confusions and errors."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mentallama_jax.evaluation.reports.document import Block, FigureTable, Gallery, Paragraph, ReportSection
from mentallama_jax.evaluation.reports.numerals import NONE, count, decimal, percent, percent_range
from mentallama_jax.evaluation.reports.pictures import DrawnFigure, confusion_picture, forest
from mentallama_jax.evaluation.reports.published import published_beside, published_tables
from mentallama_jax.evaluation.reports.systems import ScoredSystem

Named = tuple[str, str, Any]
"""Data set, system and scores."""

_MEASURES = {"accuracy": "Accuracy", "weighted_f1": "Weighted F1", "macro_f1": "Macro F1"}
_ERRORS_SHOWN = 3
_UNPARSED = "unparsed"
_PERCENT_AXIS = (0.0, 100.0)


def scored(systems: Sequence[ScoredSystem]) -> list[ScoredSystem]:
    """The systems that have scores of labels."""
    return [system for system in systems if "datasets" in system.sections]


def named_datasets(systems: Sequence[ScoredSystem], section: str | None = None) -> Iterator[Named]:
    """The scores of each data set of each system, data sets in the order met; of a section, or of labels."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for system in systems:
        of = system.sections if section is None else system.sections.get(section) or {}
        for name, value in (of.get("datasets") or {}).items():
            found.setdefault(name, []).append((system.name, value))
    for name, of_name in found.items():
        for system_name, value in of_name:
            yield name, system_name, value


def columns(systems: Sequence[ScoredSystem], *heads: str) -> tuple[str, ...]:
    """The header of a table by data set, with a column for systems where there are several."""
    return ("data set", *(("system",) if len(systems) > 1 else ()), *heads)


def cells(systems: Sequence[ScoredSystem], dataset: str, system: str) -> tuple[str, ...]:
    """The first cells of a row of such a table."""
    return (dataset, *((system,) if len(systems) > 1 else ()))


def correctness_section(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """Scores of each data set with their intervals, as a table and as a picture."""
    systems = scored(systems)
    if not systems:
        return None
    rows = [(*cells(systems, name, system), *_score_cells(of)) for name, system, of in named_datasets(systems)]
    for system in systems:
        if len(system.sections["datasets"]) > 1:
            rows.append((*cells(systems, "pooled", system.name), *_score_cells(system.sections["pooled"])))
    for system in systems:
        mean = system.sections.get("mean_over_datasets") or {}
        if len(system.sections["datasets"]) > 1:
            figures = (percent(mean.get(key)) for key in _MEASURES)
            accuracy, weighted, macro = figures
            majority = percent(mean.get("majority_weighted_f1"))
            line = ("", "", accuracy, "", weighted, "", macro, "", majority, "")
            rows.append((*cells(systems, "mean", system.name), *line))
    heads = columns(
        systems, "rows", "posts", "accuracy", "95 %", "weighted F1", "95 %", "macro F1", "95 %", "majority F1",
        "unparsed",
    )  # fmt: skip
    warnings = _warnings(systems)
    notes = (
        "In %. Intervals are over posts. Majority F1: weighted F1 of always answering the commonest gold label.",
        *(("* Few posts: mind the interval.",) if warnings else ()),
    )
    table = FigureTable("Correctness", heads, tuple(rows), words=1 + (len(systems) > 1), notes=notes)
    blocks: list[Block] = [*_cautions(systems), table, *_coverage(systems), _forests(systems), *warnings]
    return ReportSection("Correctness", blocks, [each for each in (_published(systems), _aspects(systems)) if each])


def _score_cells(of: Mapping[str, Any]) -> tuple[str, ...]:
    mark = "*" if of.get("warning") else ""
    figures = [cell for key in _MEASURES for cell in (percent(of[key]), percent_range(of.get(f"{key}_interval"), mark))]
    return (count(of["n"]), count(of["posts"]), *figures, percent(of["majority_weighted_f1"]), count(of["unparsed"]))


def _coverage(systems: Sequence[ScoredSystem]) -> list[Paragraph]:
    """Data sets of which only some of the benchmark's rows were scored."""
    said: dict[str, list[str]] = {}
    for system in systems:
        for name, splits in (system.sections.get("coverage") or {}).items():
            for each in splits:
                if each["of"] is not None and each["rows"] < each["of"]:
                    part = f"{name} {count(each['rows'])} of {count(each['of'])} {each['split']} rows"
                    said.setdefault(part, []).append(system.name)
    if not said:
        return []
    parts = [f"{part} ({', '.join(names)})" if len(systems) > 1 else part for part, names in said.items()]
    return [Paragraph(f"A part of the benchmark: {'; '.join(parts)}.", "warning")]


def _cautions(systems: Sequence[ScoredSystem]) -> Iterator[Paragraph]:
    """Rows that look odd, and how many are not scored."""
    for system in systems:
        signature = system.sections["signature"]
        said = list(signature.get("remarks") or [])
        if left_out := signature.get("left_out"):
            what = "row is not scored" if len(left_out) == 1 else "rows are not scored"
            said.append(f"{count(len(left_out))} {what}: their gold or output cannot be read")
        for each in said:
            yield Paragraph(f"{system.name}: {each}." if len(systems) > 1 else f"{each}.", "warning")


def _warnings(systems: Sequence[ScoredSystem]) -> list[Paragraph]:
    said: dict[str, list[str]] = {}
    for name, system, of in named_datasets(systems):
        if of.get("warning"):
            said.setdefault(of["warning"], []).append(f"{name}, {system}" if len(systems) > 1 else name)
    return [Paragraph(f"* {', '.join(names)}: {warning}", "warning") for warning, names in said.items()]


def _forests(systems: Sequence[ScoredSystem]) -> Gallery:
    model, published = published_beside()
    pictures = []
    for key, title in _MEASURES.items():
        rows: dict[str, dict[str, DrawnFigure]] = {}
        for name, system, of in named_datasets(systems):
            rows.setdefault(name, {})[system] = in_percent(of[key], of.get(f"{key}_interval"))
        beside = published if key == "weighted_f1" else None
        names = [system.name for system in systems]
        pictures.append(
            forest(
                f"{title} by data set",
                rows,
                names,
                unit="%",
                bounds=_PERCENT_AXIS,
                published=beside,
                published_name=f"{model}, published",
            )
        )
    return Gallery(tuple(pictures))


def in_percent(value: float, ends: Sequence[float] | None) -> DrawnFigure:
    """A fraction of 1 and its interval as an estimate in %."""
    return DrawnFigure(100 * value, (100 * ends[0], 100 * ends[1]) if ends else None)


def _published(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    own = {system.name: system.sections["datasets"] for system in systems}
    blocks: list[Block] = []
    for table in published_tables():
        known = dict.fromkeys(name for figures in table.models.values() for name in figures)
        names = [name for name in known if any(name in of for of in own.values())]
        if not names:
            continue
        rows = [
            (
                f"{name} (here)" if len(own) > 1 else "these predictions",
                *(percent(of[each]["weighted_f1"]) if each in of else NONE for each in names),
            )
            for name, of in own.items()
        ]
        for model, figures in table.models.items():
            rows.append((model, *(decimal(figures[each]) if each in figures else NONE for each in names)))
        notes = (f"Source: {table.source}.", f"Checked: {table.checked}")
        caption = f"Weighted F1 beside published figures, {table.name}"
        blocks.append(FigureTable(caption, ("system", *names), tuple(rows), notes=notes))
    if not blocks:
        return None
    said = (
        "Published figures were made with other test rows, prompts and readers of labels in part: read them as "
        "orientation. They came without intervals."
    )
    return ReportSection("Beside published figures", [Paragraph(said), *blocks])


def _aspects(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    rows = [
        (*cells(systems, name, system), aspect, *_score_cells(scores))
        for name, system, of in named_datasets(systems)
        for aspect, scores in (of.get("per_aspect") or {}).items()
    ]
    if not rows:
        return None
    heads = columns(
        systems, "aspect", "rows", "posts", "accuracy", "95 %", "weighted F1", "95 %", "macro F1", "95 %",
        "majority F1", "unparsed",
    )  # fmt: skip
    table = FigureTable("Correctness by aspect", heads, tuple(rows), words=2 + (len(systems) > 1), notes=("In %.",))
    return ReportSection("By aspect", [table])


def errors_section(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """Confusion matrices, the commonest confusions and the figures of each label."""
    systems = scored(systems)
    if not systems:
        return None
    parts = [ReportSection("Commonest confusions", [_common_errors(systems)])]
    for system in systems:
        drawn = tuple(_matrices(system))
        title = f"Confusion matrices of {system.name}" if len(systems) > 1 else "Confusion matrices"
        said = "Rows by gold label and label read; the darker a cell, the larger its share of the gold label's rows."
        parts.append(ReportSection(title, [Paragraph(said), Gallery(drawn)]))
    parts.append(ReportSection("Figures of each label", [_by_label(systems)]))
    return ReportSection("Errors", [], parts)


def _matrices(system: ScoredSystem) -> Iterator[Any]:
    """One of each question: of data sets with aspects one an aspect, as a label of two aspects is not one label."""
    for name, of in system.sections["datasets"].items():
        for aspect, confusion in (of.get("confusion_per_aspect") or {}).items():
            rows = sum(found for row in confusion.values() for found in row.values())
            unread = sum(row.get(_UNPARSED, 0) for row in confusion.values())
            yield confusion_picture(f"{name}, {aspect}: {count(rows)} rows, {count(unread)} unparsed", confusion)
        if not of.get("confusion_per_aspect"):
            said = f"{count(of['n'])} rows, {count(of['unparsed'])} unparsed"
            yield confusion_picture(f"{name}: {said}", of["confusion"])


def _common_errors(systems: Sequence[ScoredSystem]) -> FigureTable:
    found = list(named_datasets(systems))
    with_aspects = any(of.get("confusion_per_aspect") for _, _, of in found)
    rows = []
    for name, system, of in found:
        pairs = [
            (found, aspect, gold, label, sum(row.values()))
            for aspect, confusion in (of.get("confusion_per_aspect") or {"": of["confusion"]}).items()
            for gold, row in confusion.items()
            for label, found in row.items()
            if gold != label and found
        ]
        pairs.sort(key=lambda pair: (-pair[0], *pair[1:4]))
        for number, aspect, gold, label, total in pairs[:_ERRORS_SHOWN]:
            asked = (aspect or NONE,) if with_aspects else ()
            rows.append((*cells(systems, name, system), *asked, gold, label, count(number), percent(number / total)))
    asked = ("aspect",) if with_aspects else ()
    heads = columns(systems, *asked, "gold", "read as", "rows", "% of gold")
    notes = (f"The {_ERRORS_SHOWN} commonest of each data set.",)
    words = 3 + (len(systems) > 1) + with_aspects
    return FigureTable("Commonest confusions", heads, tuple(rows), words=words, notes=notes)


def _by_label(systems: Sequence[ScoredSystem]) -> FigureTable:
    rows = [
        (
            *cells(systems, name, system), label, count(each["support"]),
            percent(each["precision"]), percent(each["recall"]), percent(each["f1"]),
        )
        for name, system, of in named_datasets(systems)
        for label, each in of["per_class"].items()
    ]  # fmt: skip
    heads = columns(systems, "label", "gold rows", "precision", "recall", "F1")
    words = 2 + (len(systems) > 1)
    return FigureTable("Figures of each label", heads, tuple(rows), words=words, notes=("In %.",), folded=True)


def lengths_section(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """How long outputs are, and how often outputs of some length are right."""
    systems = [system for system in systems if system.sections.get("lengths")]
    if not systems:
        return None
    found = [
        *named_datasets(systems, "lengths"),
        *(("pooled", s.name, s.sections["lengths"]["pooled"]) for s in systems),
    ]
    rows, groups = [], []
    for name, system, of in found:
        first = cells(systems, name, system)
        low, high = of["quartiles"]
        counts = (count(of["rows"]), decimal(of["median"], 1), f"{low:.1f} to {high:.1f}", count(of["cut_posts"]))
        rows.append((*first, *counts))
        for each in of["by_length"]:
            ends = percent_range(each["interval"], "*" if each["warning"] else "")
            words = f"{each['shortest']} to {each['longest']}"
            groups.append((*first, words, count(each["rows"]), percent(each["accuracy"]), ends))
    wide = 1 + (len(systems) > 1)
    heads = columns(systems, "rows", "median words", "middle half", "posts cut to fit")
    table = FigureTable("Lengths of outputs", heads, tuple(rows), words=wide)
    heads = columns(systems, "words", "rows", "accuracy, %", "95 %")
    pooled = tuple(row for row in groups if row[0] == "pooled")
    short = FigureTable("Accuracy by length, all data sets", heads, pooled, words=wide)
    whole = FigureTable("Accuracy by length", heads, tuple(groups), words=wide, folded=True)
    return ReportSection("Lengths of outputs", [table, short, whole])
