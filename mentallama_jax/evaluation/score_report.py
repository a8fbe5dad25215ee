"""Scores as tables in the terminal and as `scores.json`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.evaluation.beside_classifiers import ClassifierReport, Consistency, ReaderAgreement
from mentallama_jax.evaluation.correctness import DatasetScores, Scores, Summary
from mentallama_jax.evaluation.coverage import Coverage, Covered, coverage_note
from mentallama_jax.evaluation.explanations import ExplanationScores, MetricFigure
from mentallama_jax.evaluation.how_answered import answering, is_unusual
from mentallama_jax.evaluation.output_lengths import Lengths
from mentallama_jax.evaluation.statistics.intervals import FEW_POSTS
from mentallama_jax.evaluation.trust.trust_sections import TrustSections
from mentallama_jax.files import write_json

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN_REASONS = 5


def write_report(
    folder: Path,
    scores: Scores,
    explanations: ExplanationScores | None = None,
    classifiers: ClassifierReport | None = None,
    trust: TrustSections | None = None,
    lengths: Lengths | None = None,
    covered: Covered | None = None,
) -> list[Path]:
    """Write `scores.json` into `folder`; return its path, in a list."""
    value = asdict(scores)
    if trust:
        # What is missed of high risk comes first.
        value = {"schema_version": value.pop("schema_version"), "high_risk": asdict(trust.high_risk), **value}
        value["output_faults"] = asdict(trust.output_faults)
        if trust.calibration:
            value["calibration"] = asdict(trust.calibration)
        value["grounding"] = asdict(trust.grounding)
        if trust.care:
            value["care"] = asdict(trust.care)
    if covered:
        value["coverage"] = {name: [asdict(each) for each in of] for name, of in covered.items()}
    if lengths:
        value["lengths"] = asdict(lengths)
    if explanations:
        value["explanations"] = asdict(explanations)
    if classifiers:
        value["classifiers"] = asdict(classifiers)
    paths = [folder / "scores.json"]
    write_json(paths[0], value)
    return paths


def score_table(scores: Scores, covered: Covered | None = None) -> "Table":
    """The scores of each data set, of the pool and their mean, as a rich table (in %).

    Where rows of the benchmark are known to be missing, the table says how many there are.
    """
    upstream = any(summary.as_upstream for summary in scores.datasets.values())
    unread = "out of\ndomain" if upstream else "unparsed"
    headings = ("rows", "acc.", "weighted\nF1", "95 %", "majority\nF1", "macro\nF1", unread)
    how = answering(scores.signature.get("generation"))
    said = f"\n{how.text}" if how and is_unusual(how) else ""
    table = _table(f"Correctness in %, reader {scores.signature['reader']}{said}", headings)
    for name, summary in scores.datasets.items():
        count = summary.as_upstream.out_of_domain if summary.as_upstream else summary.unparsed
        rows, *figures = _cells(summary, count)
        table.add_row(name, _of_known(rows, (covered or {}).get(name, ())), *figures)
        for aspect, of_aspect in (summary.per_aspect or {}).items():
            table.add_row(f"- {aspect}", *_cells(of_aspect, "" if upstream else of_aspect.unparsed), style="dim")
    if len(scores.datasets) > 1:
        table.add_section()
        counts = [summary.as_upstream.out_of_domain for summary in scores.datasets.values() if summary.as_upstream]
        table.add_row("pooled", *_cells(scores.pooled, sum(counts) if upstream else scores.pooled.unparsed))
        mean = {metric: _percent(value) for metric, value in scores.mean_over_datasets.items()}
        f1s = (mean["weighted_f1"], "", mean["majority_weighted_f1"], mean["macro_f1"])
        table.add_row("mean", "", mean["accuracy"], *f1s, "")
    return table


def _of_known(rows: str, covered: Sequence[Coverage]) -> str:
    """Rows, and of how many where some are known to be missing: `40/405`."""
    missing = any(each.is_part for each in covered) and all(each.of is not None for each in covered)
    scored = sum(each.rows for each in covered)
    if not missing or rows != f"{scored:,}":  # seeds answer each row several times; the note tells of them
        return rows
    return f"{rows}/{sum(each.of or 0 for each in covered):,}"


def side_by_side_table(systems: Mapping[str, Scores], covered: Mapping[str, Covered]) -> "Table":
    """The scores of several systems, those of a data set below one another, as a rich table (in %)."""
    names = dict.fromkeys(name for scores in systems.values() for name in scores.datasets)
    readers = ", ".join(dict.fromkeys(str(scores.signature["reader"]) for scores in systems.values()))
    table = _table(f"Systems side by side, correctness in %, reader {readers}", ())
    table.add_column("system")
    for heading in ("rows", "acc.", "weighted\nF1", "95 %", "macro\nF1", "unparsed"):
        table.add_column(heading, justify="right", no_wrap=True)
    # Pooled figures of other data sets are no comparison.
    alike = len(names) > 1 and all(scores.datasets.keys() == names.keys() for scores in systems.values())
    for dataset in [*names, *(["pooled"] if alike else [])]:
        found = {
            system: scores.pooled if dataset == "pooled" else scores.datasets[dataset]
            for system, scores in systems.items()
            if dataset == "pooled" or dataset in scores.datasets
        }
        for place, (system, summary) in enumerate(found.items()):
            rows, accuracy, weighted, ends, _, macro, unread = _cells(summary, summary.unparsed)
            rows = _of_known(rows, covered[system].get(dataset, ()))
            table.add_row("" if place else dataset, system, rows, accuracy, weighted, ends, macro, unread)
        table.add_section()
    return table


def explanation_tables(systems: Mapping[str, ExplanationScores]) -> list["Table"]:
    """The means of each metric with their intervals, of each data set and part; a few metrics a table.

    Args:
        systems: all of the same metrics; several are below one another in each data set and part.
    """
    systems = {name: scores for name, scores in systems.items() if not _all_without_gold(scores)}
    names = list(dict.fromkeys(metric for scores in systems.values() for metric in scores.signatures))
    most = 2 if "nats" in _units(systems, names) else 3 if _with_counts(systems) else 4
    groups = [names[start : start + most] for start in range(0, len(names), most)]
    return [_explanation_table(systems, group) for group in groups]


def _all_without_gold(scores: ExplanationScores) -> int:
    """The number of rows, where metrics were asked for and no row has a gold text; else 0."""
    parts = list(scores.pooled.values())
    return 0 if any(found.rows for found in parts) else max((found.without_reference for found in parts), default=0)


def _units(systems: Mapping[str, ExplanationScores], names: Sequence[str]) -> set[str]:
    parts = [of for scores in systems.values() for of in scores.pooled.values()]
    return {figure.unit for of in parts for name, figure in of.metrics.items() if name in names}


def _with_counts(systems: Mapping[str, ExplanationScores]) -> bool:
    parts = [of for scores in systems.values() for of in scores.pooled.values()]
    return any(found.without_reference or found.empty for found in parts)


def _explanation_table(systems: Mapping[str, ExplanationScores], names: Sequence[str]) -> "Table":
    units = _units(systems, names)
    unit = (
        "in %" if units == {"share"} else "in nats" if units == {"nats"} else "shares in %, log-probabilities in nats"
    )
    several, counted = len(systems) > 1, _with_counts(systems)
    table = _table(f"Explanations beside the gold responses, {unit}", ())
    for heading in ("part", *(["system"] if several else [])):
        table.add_column(heading)
    for heading in ("rows", *(("no gold", "empty") if counted else ()), *(n.replace("_", "_\n", 1) for n in names)):
        table.add_column(heading, justify="right", no_wrap=True)
    datasets = list(dict.fromkeys(name for scores in systems.values() for name in scores.datasets))
    # Pooled figures of other data sets are no comparison.
    alike = len(datasets) > 1 and all(scores.datasets.keys() == set(datasets) for scores in systems.values())
    for dataset in [*datasets, *(["pooled"] if alike else [])]:
        found = {
            system: scores.pooled if dataset == "pooled" else scores.datasets.get(dataset, {})
            for system, scores in systems.items()
        }
        for place, part in enumerate(dict.fromkeys(part for of in found.values() for part in of)):
            for at, (system, of) in enumerate((system, of[part]) for system, of in found.items() if part in of):
                counts = [str(count or "") for count in (of.without_reference, of.empty)] if counted else []
                cells = [_with_interval(of.metrics[metric], of.warning) if of.rows else "" for metric in names]
                named = [dataset if place == at == 0 else "", "" if at else part, *([system] if several else [])]
                table.add_row(*named, str(of.rows), *counts, *cells)
    return table


def metric_notes(scores: ExplanationScores) -> list[str]:
    """How each metric is computed, and its figure of all rows together where it has one, in a line each."""
    if rows := _all_without_gold(scores):
        names = ", ".join(scores.signatures)
        return [f"{names}: none of {rows} rows has a gold text; --gold SOURCE takes it by the ids of rows"]
    by_signature: dict[str, list[str]] = {}
    for name, signature in scores.signatures.items():
        found = {part: of.metrics[name].corpus for part, of in scores.pooled.items() if name in of.metrics}
        whole = ", ".join(f"{part} {_percent(value)}" for part, value in found.items() if value is not None)
        line = signature + (f"; of all rows together, in %: {whole}" if whole else "")
        by_signature.setdefault(line, []).append(name)
    return [f"{', '.join(names)}: {line}" for line, names in by_signature.items()]


def agreement_table(agreement: Mapping[str, ReaderAgreement]) -> "Table":
    """The rules beside the classifier, of each data set, as a rich table (agreement in %)."""
    headings = ("rows", "agree", "kappa", "95 %", "no label\nby rules", "nothing\nto read")
    table = _table("Labels read by rules beside labels read by classifiers", headings)
    for name, found in agreement.items():
        cells = ["", "", ""]
        if found.agreement is not None and found.kappa_interval is not None:
            low, high = found.kappa_interval
            ends = f"{low:z.2f} to {high:z.2f}{'*' if found.warning else ''}"
            cells = [_percent(found.agreement), f"{found.kappa:z.2f}", ends]
        table.add_row(name, str(found.rows), *cells, str(found.unparsed_by_rules), str(found.unparsed_by_classifier))
    return table


def consistency_table(scores: Mapping[str, Consistency]) -> "Table":
    """How often explanations alone are read as the stated label, as a rich table (in %)."""
    headings = ("rows", "consistent", "95 %", "gold\nconsistent", "no label", "no expla-\nnation")
    table = _table("Explanations alone, read as the label that the output states, in %", headings)
    for name, found in scores.items():
        if name == "pooled" and len(scores) == 2:
            continue
        cells = ["", ""]
        if found.share is not None and found.interval is not None:
            low, high = found.interval
            cells = [_percent(found.share), f"{_percent(low)}-{_percent(high)}{'*' if found.warning else ''}"]
        gold = "" if found.gold_share is None else _percent(found.gold_share)
        table.add_row(name, str(found.rows), *cells, gold, str(found.without_label), str(found.without_explanation))
    return table


def _with_interval(figure: MetricFigure, warning: str | None) -> str:
    show = _percent if figure.unit == "share" else _nats
    if figure.interval is None:
        return show(figure.mean)
    low, high = figure.interval
    to = "-" if figure.unit == "share" and low >= 0 else " to "
    return f"{show(figure.mean)}\n{show(low)}{to}{show(high)}{'*' if warning else ''}"


def cautions(scores: Scores, covered: Covered | None = None) -> list[str]:
    """What to know before the table is believed, a line each: rows that are odd, not scored, too many, of training."""
    said = list(scores.signature["remarks"])
    for name, of in (covered or {}).items():
        for each in of:
            if each.split == "train":
                said.append(
                    f"{name}: {each.rows:,} of the rows are training rows, which flatter what was tuned on them"
                )
            if each.is_more:
                said.append(f"{name}: {each.rows:,} rows are more than the {each.of:,} of the benchmark's {each.split}")
    left_out = scores.signature["left_out"]
    if left_out:
        every = scores.pooled.n + len(left_out)
        said.append(f"{len(left_out):,} of {every:,} rows are not scored: {'; '.join(_reasons(left_out))}")
    return said


def _reasons(left_out: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Why rows are not scored, the commonest reasons first, each with a row that has it."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in left_out:
        first.setdefault(row["reason"], row)
    counts = Counter(row["reason"] for row in left_out).most_common()
    for reason, count in counts[:_SHOWN_REASONS]:
        others = f" and {count - 1:,} more" if count > 1 else ""
        yield f"{first[reason]['file']}, row {first[reason]['row']}{others}: {reason}"
    if rest := sum(count for _, count in counts[_SHOWN_REASONS:]):
        yield f"and {rest:,} more in scores.json"


def notes(scores: Scores, covered: Covered | None = None) -> list[str]:
    """What to know besides the table, a line each: what is missing or passed over, few posts, the released scorer."""
    missing = coverage_note(covered or {})
    said = [*([missing] if missing else []), *(f"passed over {name}" for name in scores.signature["passed_over"])]
    few = [f"{name} ({each.posts})" for name, each in scores.datasets.items() if each.warning]
    if few:
        said.append(f"* fewer than {FEW_POSTS} posts, so the interval may be too narrow: {', '.join(few)}")
    for name, each in scores.datasets.items():
        said += _of_the_released_scorer(name, each)
    return said


def _of_the_released_scorer(name: str, scores: DatasetScores) -> Iterator[str]:
    counts = scores.as_upstream
    if counts is None:
        return
    if counts.fails_on:
        yield (
            f"{name}: the released scorer fails on this data set and gives no figures, as it cannot read the gold of "
            f"{_rows(counts.fails_on)}; the figures here are of all rows, read as it reads outputs"
        )
    if counts.leaves_out:
        what = f"leaves out {_rows(counts.leaves_out)}, as it cannot read their gold; here they are scored"
        yield f"{name}: the released scorer {what}"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _table(title: str, headings: tuple[str, ...]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("data set")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cells(summary: Summary, unread: object) -> list[str]:
    low, high = summary.weighted_f1_interval
    mark = "*" if summary.warning else ""
    return [
        f"{summary.n:,}",
        _percent(summary.accuracy),
        _percent(summary.weighted_f1),
        f"{_percent(low)}-{_percent(high)}{mark}",
        _percent(summary.majority_weighted_f1),
        _percent(summary.macro_f1),
        str(unread),
    ]


def _percent(value: Any) -> str:
    return f"{100 * value:.1f}"


def _nats(value: float) -> str:
    return f"{value:z.2f}"
