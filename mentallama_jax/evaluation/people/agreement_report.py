"""The tables of human agreement for a terminal of 80 columns, and what to know besides."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mentallama_jax.evaluation.people.corrected_mean import CorrectedMean
from mentallama_jax.evaluation.people.human_marks import HumanMarks, Matches
from mentallama_jax.evaluation.people.metric_agreement import Correlation, Estimate, HumanAgreement

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = 3


def agreement_tables(found: HumanAgreement) -> Iterator["Table"]:
    """How far people agree, how far metrics agree with them, and the marks of systems, as rich tables."""
    yield _people(found)
    yield _metrics(found, "Metrics and the mean mark of all annotators: Spearman", "spearman", with_ceiling=False)
    yield _metrics(found, "The same: Kendall's tau-b", "kendall", with_ceiling=False)
    if len(found.annotators) > 1:
        title = "Metrics, or one person, and the mean mark of the others: Spearman"
        yield _metrics(found, title, "spearman", with_ceiling=True)
    yield _marks(found)
    for name, system in found.systems.items():
        if any(system.corrected.values()):
            yield _corrected(name, system.corrected)


def notes(found: HumanAgreement, marks: HumanMarks, matches: Matches | None) -> list[str]:
    """What to know besides the tables, each in one line."""
    said = list(marks.notes)
    if marks.problems:
        shown = "; ".join(map(str, marks.problems[:_SHOWN]))
        more = f"; and {len(marks.problems) - _SHOWN} more" if len(marks.problems) > _SHOWN else ""
        said.append(f"{len(marks.problems)} rows of marks cannot be read and are left out: {shown}{more}")
    if matches is not None and matches.alike:
        said.append(f"{matches.alike} posts were found by their words, as their text differs from that of --data")
    if matches is not None and matches.none:
        said.append(f"{matches.none} marked answers have no gold, as their post is not in --data")
    if matches is not None and matches.other_labels:
        said.append(f"{matches.other_labels} answers have another label in the marks than in --data; the marks' counts")
    said += [f"{name}: not computed, as {reason}" for name, reason in found.not_computed.items()]
    if found.warning:
        said.append(f"* {found.warning}")
    if len(found.systems) > 1:
        said.append("Correlations are over the answers of all systems; those within each system are in the file.")
    return said


def _people(found: HumanAgreement) -> "Table":
    number = len(found.annotators)
    table = _table(
        f"{number} annotators, {found.rows} answers, {found.posts} posts",
        ("criterion", "rows", "missing", "mean mark", "alpha", "one with\nthe others", "two with\neach other"),
    )
    for name, each in found.criteria.items():
        star = "*" if found.warning else ""
        cells = [_figure(figure, star) for figure in (each.mean, each.alpha, each.ceiling.spearman)]
        table.add_row(
            name, str(each.rows), str(each.missing), *cells, _figure(each.pairwise.spearman, star), end_section=True
        )
    return table


def _metrics(found: HumanAgreement, title: str, kind: str, *, with_ceiling: bool) -> "Table":
    criteria = found.criteria
    star = "*" if found.warning else ""

    def figure(correlation: Correlation) -> Estimate | None:
        return correlation.spearman if kind == "spearman" else correlation.kendall

    names = list(dict.fromkeys(metric for each in criteria.values() for metric in each.metrics))

    def strength(metric: str) -> float:
        known = [figure(each.metrics[metric].with_mean) for each in criteria.values()]
        return sum(each.value for each in known if each is not None)

    table = _table(title, ("metric", *criteria))
    if with_ceiling:
        table.add_row("one person", *(_figure(figure(each.ceiling), star) for each in criteria.values()))
        table.add_section()
    for metric in sorted(names, key=strength, reverse=True):
        own = [each.metrics[metric] for each in criteria.values()]
        cells = [_figure(figure(each.with_others if with_ceiling else each.with_mean), star) for each in own]
        table.add_row(metric, *cells)
    return table


def _marks(found: HumanAgreement) -> "Table":
    star = "*" if found.warning else ""
    table = _table("Mean marks of systems", ("system", "rows", *found.criteria))
    for name, system in found.systems.items():
        table.add_row(
            name, str(system.rows), *(_figure(system.marks.get(criterion), star) for criterion in found.criteria)
        )
    return table


def _corrected(name: str, corrected: dict[str, dict[str, CorrectedMean]]) -> "Table":
    first = next(each for of_metric in corrected.values() for each in of_metric.values())
    title = f"Mean mark of all answers of {name}, marks corrected by metrics"
    table = _table(title, ("metric", *corrected))
    plain = [next(iter(of_metric.values()), None) for of_metric in corrected.values()]
    table.add_row(
        f"marks alone\n({first.marked_rows} rows)",
        *("" if each is None else _ends(each.marked_mean, each.marked_interval) for each in plain),
    )
    table.add_section()
    for metric in dict.fromkeys(metric for of_metric in corrected.values() for metric in of_metric):
        own = [of_metric.get(metric) for of_metric in corrected.values()]
        table.add_row(metric, *("" if each is None else _ends(each.estimate, each.interval) for each in own))
    return table


def _table(title: str, headings: tuple[str, ...]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(headings[0])
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _figure(estimate: Estimate | None, star: str) -> str:
    return "" if estimate is None else _ends(estimate.value, estimate.interval, star)


def _ends(value: float, interval: tuple[float, float], star: str = "") -> str:
    return f"{value:.2f}\n{interval[0]:.2f} to {interval[1]:.2f}{star}"
