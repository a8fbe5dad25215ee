"""Tables of a study on explanations: metrics, how answers look, agreement of metrics with people, transfer."""

from collections.abc import Sequence

from mentallama_jax.evaluation.reports.document import Block, Paragraph, ReportSection
from mentallama_jax.evaluation.reports.numerals import NONE
from mentallama_jax.study.label_tables import SystemScores, over_all_rows, title_of
from mentallama_jax.study.traced_figures import FEW, Cell, FiguresFile, TracedTables

_PARTS = {"response": "whole responses", "explanation": "explanations alone"}
_LOOKS = (
    ("unparsed", ("output_faults", "unparsed")),
    ("cut at the limit", ("output_faults", "over_length")),
    ("repeated", ("output_faults", "repeated")),
    ("label only", ("grounding", "label_only")),
    ("quotes that the post lacks", ("grounding", "absent_quotes")),
)


def explanations(scored: SystemScores, comparison: FiguresFile | None, tables: TracedTables) -> ReportSection | None:
    """Metrics of explanations of each system that writes some, and how its answers look."""
    writing = {name: each for name, each in scored.items() if each[0].explains}
    if not writing:
        return None
    blocks: list[Block] = []
    for part, said in _PARTS.items():
        blocks += _metrics(writing, part, said, tables)
    if not blocks:
        blocks.append(Paragraph("No metrics of explanations were asked for; evaluation.metrics names them."))
    blocks.append(_looks(writing, tables))
    if comparison is not None:
        blocks.append(_differences(scored, comparison, tables))
    return ReportSection("Explanations", blocks)


def _pool(file: FiguresFile, section: str) -> tuple[str, ...]:
    """Where the figures of all rows stand; those of the one data set where there is one."""
    if file.get(section, "pooled"):
        return (section, "pooled")
    return (section, "datasets", next(iter(file.get(section, "datasets") or {"": 0})))


def _metrics(writing: SystemScores, part: str, said: str, tables: TracedTables) -> list[Block]:
    names: dict[str, str] = {}
    for _, file in writing.values():
        found = file.get(*_pool(file, "explanations"), part, "metrics") or {}
        names |= {name: figure["unit"] for name, figure in found.items()}
    if not names:
        return []
    rows: list[list[Cell]] = []
    for system, file in writing.values():
        at = (*_pool(file, "explanations"), part)
        cells: list[Cell] = []
        for name, unit in names.items():
            form = "percent with interval" if unit == "share" else "decimal with interval"
            place = (*at, "metrics", name)
            cells.append(file.cell(form, (*place, "mean"), (*place, "interval"), (*at, "warning")))
        rows.append([system.title, *cells, file.cell("count", (*at, "rows"))])
    heads = ["system", *(f"{name}{'' if unit == 'share' else f', {unit}'}" for name, unit in names.items()), "rows"]
    notes = ("Shares in %, means over rows with gold, with 95 % intervals over posts: nearness to one gold text.", FEW)
    files_used = [file for _, file in writing.values()]
    return [tables.table(f"Metrics of explanations, {said}", heads, rows, files_used, notes=notes)]


def _looks(writing: SystemScores, tables: TracedTables) -> Block:
    rows: list[list[Cell]] = []
    for system, file in writing.values():
        cells: list[Cell] = []
        for _, (section, what) in _LOOKS:
            at = (*_pool(file, section), what)
            cells.append(file.cell("percent with interval", (*at, "share"), (*at, "interval"), (*at, "warning")))
        lengths = _pool(file, "lengths")
        cells += [file.cell("decimal", (*lengths, "median")), file.cell("count", (*lengths, "cut_posts"))]
        rows.append([system.title, *cells])
    heads = ["system", *(name for name, _ in _LOOKS), "median words", "posts cut to fit"]
    notes = ("In % of rows, of quotes where it says so, over all data sets; 95 % intervals over posts.", FEW)
    files_used = [file for _, file in writing.values()]
    return tables.table("How answers look", heads, rows, files_used, notes=notes)


def _differences(scored: SystemScores, comparison: FiguresFile, tables: TracedTables) -> Block:
    rows: list[list[Cell]] = []
    units = comparison.get("units") or {}
    found = [
        (place, each)
        for place, each in enumerate(comparison.get("differences") or ())
        if each["metric"].endswith("(response)")
    ]
    for place, each in over_all_rows(found):
        at = ("differences", place)
        form = "points with interval" if units.get(each["metric"]) == "share" else "difference with interval"
        first, second = (title_of(scored, each[which]) for which in ("first", "second"))
        rows.append(
            [
                each["metric"],
                f"{first} less {second}",
                comparison.cell(form, (*at, "difference"), (*at, "interval")),
                comparison.cell("p", (*at, "p_holm")),
            ]
        )
    heads = ["metric", "first less second", "difference", "p, Holm"]
    return tables.table(
        "Differences of explanations, whole responses", heads, rows, [comparison], words=2, folded=True, printed=False
    )


def people(agreement: FiguresFile | None, tables: TracedTables) -> ReportSection | None:
    """How far people agree with each other, and metrics with them."""
    if agreement is None:
        return None
    marks: list[list[Cell]] = []
    beside: list[list[Cell]] = []
    for criterion, of in (agreement.get("criteria") or {}).items():
        at = ("criteria", criterion)
        marks.append(
            [
                criterion,
                agreement.cell("count", (*at, "rows")),
                *(_estimate(agreement, (*at, key)) for key in ("mean", "alpha")),
                _estimate(agreement, (*at, "ceiling", "spearman")),
            ]
        )
        for metric in of["metrics"]:
            place = (*at, "metrics", metric)
            cells = [
                _estimate(agreement, (*place, which, "spearman")) for which in ("with_mean", "with_others", "ceiling")
            ]
            beside.append([criterion, metric, *cells])
    heads = ["criterion", "rows", "mean mark", "Krippendorff's alpha", "one with the others, Spearman"]
    notes = ("95 % intervals over posts.",)
    blocks: list[Block] = [tables.table("Marks by people", heads, marks, [agreement], notes=notes)]
    heads = ["criterion", "metric", "with the mean mark", "with all but one", "the one left out"]
    notes = ("Spearman's rank correlation. A metric that does not beat `words` says little that the length does not.",)
    blocks.append(tables.table("Metrics beside people", heads, beside, [agreement], words=2, notes=notes))
    return ReportSection("Agreement with people", blocks)


def _estimate(file: FiguresFile, at: tuple[str, ...]) -> Cell:
    if not file.get(*at):
        return NONE
    return file.cell("decimal with interval", (*at, "value"), (*at, "interval"))


def transfer(matrices: Sequence[tuple[str, FiguresFile]], tables: TracedTables) -> ReportSection | None:
    """Matrices of models trained on one data set and tested on all."""
    blocks: list[Block] = []
    for title, file in matrices:
        tested = file.get("tested_on") or []
        rows: list[list[Cell]] = []
        for model in file.get("cells") or {}:
            at = ("cells", model)
            cells = [
                file.cell("percent with interval", (*at, name, "weighted_f1"), (*at, name, "weighted_f1_interval"))
                for name in tested
            ]
            rows.append([model, *cells])
        notes = ("Weighted F1 in %, with 95 % intervals over posts. Rows: trained on; columns: tested on.",)
        blocks.append(tables.table(f"Transfer, {title}", ["trained on", *tested], rows, [file], notes=notes))
    return ReportSection("Transfer between data sets", blocks) if blocks else None
