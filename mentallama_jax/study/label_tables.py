"""Tables of a study on labels: correctness, differences, held-out tasks, classes of high risk, calibration."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from mentallama_jax.evaluation.comparison import POOLED
from mentallama_jax.evaluation.reports.document import Block, Gallery, Paragraph, ReportSection
from mentallama_jax.evaluation.reports.numerals import NONE
from mentallama_jax.evaluation.reports.pictures import DrawnFigure, forest
from mentallama_jax.evaluation.reports.published import published_tables
from mentallama_jax.imhi.tasks import TASKS, task_named
from mentallama_jax.study.study_graph import StudySystem
from mentallama_jax.study.traced_figures import FEW, Cell, FiguresFile, TracedTables

SystemScores = Mapping[str, tuple[StudySystem, FiguresFile]]
"""Name -> a system and its scores.json."""

NumberedEntry = tuple[int, Mapping[str, Any]]
"""The place of a standing or a difference in its list, and the entry itself."""

_F1 = "weighted_f1"
_PUBLISHED = "published.yaml"
_MOST_PAIRS = 30
_MOST_DRAWN = 24


def datasets_of(scored: SystemScores) -> list[str]:
    """The data sets that any system was scored on, in the order of the benchmark."""
    found = {name for _, file in scored.values() for name in file.get("datasets") or {}}
    return [name for name in TASKS if name in found] + sorted(found - set(TASKS))


def published_file() -> FiguresFile:
    """The published figures as a file that cells name; its tables by number."""
    path = Path(str(files("mentallama_jax.evaluation.reports").joinpath(_PUBLISHED)))
    tables = [{"name": table.name, "models": table.models} for table in published_tables()]
    return FiguresFile(path, _PUBLISHED, {"tables": tables})


def correctness(scored: SystemScores, comparison: FiguresFile | None, tables: TracedTables) -> ReportSection:
    """Weighted F1 of each system on each data set, beside published figures."""
    names = datasets_of(scored)
    rows: list[list[Cell]] = []
    for system, file in scored.values():
        cells = [_f1(file, "datasets", name) for name in names]
        pooled = [_f1(file, "pooled"), file.cell("percent", ("mean_over_datasets", _F1))] if len(names) > 1 else []
        counts = [file.cell("count", ("pooled", key)) for key in ("n", "unparsed")]
        rows.append([system.title, *cells, *pooled, *counts])
    published = published_file()
    blank = [NONE] * (4 if len(names) > 1 else 2)
    for model, figures in published_tables()[0].models.items():
        cells = [published.cell("decimal", ("tables", 0, "models", model, name)) for name in names]
        if any(name in figures for name in names):
            rows.append([f"{model} (published)", *cells, *blank])
    head = ["system", *names, *(["all rows", "mean of data sets"] if len(names) > 1 else []), "rows", "unparsed"]
    source = published_tables()[0]
    notes = (
        "Weighted F1 in %, with 95 % intervals over posts. An answer without a readable label is wrong, and counted.",
        f"Published: {source.source}. Other test rows, prompts and readers of labels in part; without intervals.",
        *_parts_of_test_sets(scored, names),
        FEW,
    )
    files_used = [file for _, file in scored.values()] + [published]
    table = tables.table("Correctness: weighted F1", head, rows, files_used, notes=notes)
    blocks: list[Block] = [table, *_best(scored, comparison), _picture(scored)]
    return ReportSection("Correctness", blocks)


def _parts_of_test_sets(scored: SystemScores, names: Sequence[str]) -> Iterator[str]:
    """On how many rows published figures are, where those here are fewer."""
    found = []
    for name in names:
        sizes = TASKS[name].sizes if name in TASKS else None
        here = max(file.get("datasets", name, "n") or 0 for _, file in scored.values())
        if sizes and here < sizes[2]:
            found.append(f"{name} {here:,} of {sizes[2]:,}")
    if found:
        yield f"Published figures are of whole test sets, those here of fewer rows: {', '.join(found)}."


def _f1(file: FiguresFile, *place: str) -> Cell:
    return file.cell("percent with interval", (*place, _F1), (*place, f"{_F1}_interval"), (*place, "warning"))


def _best(scored: SystemScores, comparison: FiguresFile | None) -> Iterator[Paragraph]:
    """Which systems are not known to be worse than the best."""
    found = (comparison.get("standings") if comparison else None) or ()
    for _, each in over_all_rows([(place, each) for place, each in enumerate(found) if each["metric"] == _F1]):
        alike = [title_of(scored, name) for name in each["not_distinguished"] if name != each["best"]]
        said = f"not distinguished from it: {'; '.join(alike)}" if alike else "all others are known to be worse"
        yield Paragraph(f"Best over all rows: {title_of(scored, each['best'])}; {said} (Holm's method).")


def over_all_rows(found: Sequence[NumberedEntry]) -> Sequence[NumberedEntry]:
    """The entries of a comparison that are of all rows together; all of them where one data set makes the rows."""
    return [(place, each) for place, each in found if each["dataset"] == POOLED] or found


def title_of(scored: SystemScores, name: str) -> str:
    """What the tables call a system of a comparison."""
    return scored[name][0].title if name in scored else name


def _picture(scored: SystemScores) -> Gallery:
    rows = {}
    for name, (_, file) in list(scored.items())[:_MOST_DRAWN]:
        value, ends = file.get("pooled", _F1), file.get("pooled", f"{_F1}_interval")
        if value is not None:
            drawn = DrawnFigure(100 * value, (100 * ends[0], 100 * ends[1]) if ends else None)
            rows[name] = {"weighted F1": drawn}
    picture = forest("Weighted F1, all rows together", rows, ["weighted F1"], unit="%", bounds=(0.0, 100.0))
    return Gallery((picture,))


def differences(scored: SystemScores, comparison: FiguresFile | None, tables: TracedTables) -> ReportSection | None:
    """Differences of weighted F1 between all pairs of systems on the same rows."""
    if comparison is None:
        return None
    found = [(place, each) for place, each in enumerate(comparison.get("differences") or ()) if each["metric"] == _F1]
    pooled = over_all_rows(found)
    head = ["first less second", "rows", "difference, points", "p", "p, Holm"]
    rows = [_difference(scored, comparison, place) for place, _ in pooled]
    notes = (
        "Paired by rows, intervals and exchange tests over posts; Holm's method over all pairs (and data sets).",
        *(f"{key}: {left} rows were left out, as other systems lack them." for key, left in _left_out(comparison)),
        *_not_compared(scored, comparison),
    )
    blocks: list[Block] = [
        tables.table(
            "Differences of weighted F1", head, rows, [comparison], notes=notes, folded=len(rows) > _MOST_PAIRS
        )
    ]
    by_set = [(place, each) for place, each in found if each["dataset"] != POOLED]
    if len(pooled) < len(found):
        long = [[each["dataset"], *_difference(scored, comparison, place)] for place, each in by_set]
        heads = ["data set", *head]
        caption = "Differences of weighted F1, by data set"
        blocks.append(tables.table(caption, heads, long, [comparison], words=2, folded=True, printed=False))
    return ReportSection("Differences", blocks)


def _not_compared(scored: SystemScores, comparison: FiguresFile) -> Iterator[str]:
    """Which systems have scores and no differences."""
    there = comparison.get("systems") or {}
    titles = [system.title for name, (system, _) in scored.items() if name not in there]
    if titles:
        yield f"Not compared: {', '.join(titles)}: rows are matched by the ids of the benchmark, which such files lack."


def _left_out(comparison: FiguresFile) -> list[tuple[str, int]]:
    found = comparison.get("left_out") or {}
    return [(Path(key).stem, left) for key, left in found.items() if left]


def _difference(scored: SystemScores, comparison: FiguresFile, place: int) -> list[Cell]:
    at = ("differences", place)
    first, second = (title_of(scored, comparison.get(*at, key)) for key in ("first", "second"))
    return [
        f"{first} less {second}",
        comparison.cell("count", (*at, "rows")),
        comparison.cell("points with interval", (*at, "difference"), (*at, "interval")),
        comparison.cell("p", (*at, "p")),
        comparison.cell("p", (*at, "p_holm")),
    ]


def generalisation(scored: SystemScores, held_out: Sequence[str], tables: TracedTables) -> ReportSection | None:
    """Weighted F1 on tasks that some systems were not trained on."""
    names = [task_named(name).name for name in held_out]
    names = [name for name in names if name in datasets_of(scored)]
    if not names:
        return None
    rows: list[list[Cell]] = []
    for system, file in scored.values():
        seen = None if system.trained_on is None else [name for name in names if name in system.trained_on]
        said = "not known" if seen is None else ", ".join(seen) if seen else "none of them"
        rows.append([system.title, said, *(_f1(file, "datasets", name) for name in names)])
    rows.sort(key=lambda row: row[1] != "none of them")
    published, table = published_file(), published_tables()[1]
    for model in table.models:
        cells = [published.cell("decimal", ("tables", 1, "models", model, name)) for name in names]
        if any(cell != NONE for cell in cells):
            rows.append([f"{model} (published)", "none of them", *cells])
    notes = (
        "Weighted F1 in %, with 95 % intervals over posts. Trained on: which of these tasks the system learnt from; of "
        "models that were not tuned here, what they were pre-trained on is not known.",
        f"Published: {table.source}.",
        FEW,
    )
    files_used = [*(file for _, file in scored.values()), published]
    head = ["system", "trained on", *names]
    made = tables.table("Generalisation: weighted F1 on held-out tasks", head, rows, files_used, words=2, notes=notes)
    return ReportSection("Generalisation on held-out tasks", [made])


def high_risk(scored: SystemScores, tables: TracedTables) -> ReportSection | None:
    """Recall and precision of the classes whose miss may cost most."""
    classes: dict[tuple[str, str, str], None] = {}
    for _, file in scored.values():
        for name, found in (file.get("high_risk", "datasets") or {}).items():
            classes |= {(name, each["label"], each["aspect"]): None for each in found}
    if not classes:
        return None
    columns = [(*wanted, share) for wanted in classes for share in ("recall", "precision")]
    rows = [
        [system.title, *(_high_risk_share(file, *column) for column in columns)] for system, file in scored.values()
    ]
    heads = [f"{name}: {aspect + ', ' if aspect else ''}{label}, {share}" for name, label, aspect, share in columns]
    notes = (
        "In %, with 95 % intervals over posts. Recall: the share of the rows of the class that the system calls so. "
        "Precision: the share of the rows that it calls so which are of the class. Who calls every row so misses none.",
        FEW,
    )
    files_used = [file for _, file in scored.values()]
    table = tables.table(
        "Classes of high risk: recall and precision", ["system", *heads], rows, files_used, notes=notes
    )
    return ReportSection("Classes of high risk", [table])


def _high_risk_share(file: FiguresFile, name: str, label: str, aspect: str, share: str) -> Cell:
    for place, each in enumerate(file.get("high_risk", "datasets", name) or ()):
        if (each["label"], each["aspect"]) == (label, aspect):
            at = ("high_risk", "datasets", name, place, share)
            return file.cell("percent with interval", (*at, "share"), (*at, "interval"), (*at, "warning"))
    return NONE


def calibration(scored: SystemScores, tables: TracedTables) -> ReportSection | None:
    """How true the probabilities of labels are, before and after a temperature."""
    names = datasets_of(scored)
    rows: list[list[Cell]] = []
    used = []
    for system, file in scored.values():
        if file.get("calibration"):
            used.append(file)
            cells = [
                file.cell("percent", ("calibration", "datasets", name, which, "ece", "value"))
                for name in names
                for which in ("as_given", "tempered")
            ]
            rows.append([system.title, *cells])
    if not rows:
        return None
    heads = ["system", *(f"{name}, {which}" for name in names for which in ("as given", "tempered"))]
    notes = ("Expected calibration error in %. Tempered: one temperature a data set, fitted on validation rows.",)
    return ReportSection(
        "Calibration", [tables.table("Calibration of label probabilities", heads, rows, used, notes=notes)]
    )
