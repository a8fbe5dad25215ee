"""The tables of human agreement for a terminal of 80 columns, and what to know besides."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mentallama_jax.evaluation.people.corrected_mean import CorrectedMean
from mentallama_jax.evaluation.people.human_marks import HumanMarks, Matches
from mentallama_jax.evaluation.people.metric_agreement import Correlation, HumanAgreement
from mentallama_jax.evaluation.statistics.estimates import Estimate

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = 3


def agreement_tables(found: HumanAgreement) -> Iterator["Table"]:
    """How far people agree, how far metrics agree with them, and the marks of systems, as rich tables."""
    yield _people(found)
    yield _metrics(found)
    if len(found.annotators) > 1:
        yield _beside_ceiling(found)
    if len(_by_strength(found)) > 1:
        yield _beyond_length(found)
    yield _marks(found)
    for name, system in found.systems.items():
        if any(system.corrected.values()):
            yield _corrected(name, system.corrected)


def notes(found: HumanAgreement, marks: HumanMarks, matches: Matches | None) -> list[str]:
    """What to know besides the tables, each in one line."""
    said = list(marks.notes)
    missing = {name: each.missing for name, each in found.criteria.items() if each.missing}
    if missing:
        said.append(f"marks that are missing: {', '.join(f'{name} {count}' for name, count in missing.items())}")
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
    table = _table(
        f"{found.rows} answers, {found.posts} posts, annotators: {len(found.annotators)}",
        ("criterion", "rows", "mean mark", "alpha", "one with\nthe others", "two with\neach other"),
    )
    for name, each in found.criteria.items():
        figures = (each.mean, each.alpha, each.ceiling.spearman, each.pairwise.spearman)
        table.add_row(name, str(each.rows), *(_figure(figure, found) for figure in figures))
    return table


def _metrics(found: HumanAgreement) -> "Table":
    title = "Metrics and the mean mark of all annotators:\nSpearman / Kendall's tau-b, and 95 % of Spearman"
    table = _table(title, ("metric", *found.criteria))
    for metric in _by_strength(found):
        table.add_row(metric, *(_both(each.metrics[metric].with_mean, found) for each in found.criteria.values()))
    return table


def _beside_ceiling(found: HumanAgreement) -> "Table":
    title = "One person, or a metric, and the mean mark of the other persons: Spearman"
    table = _table(title, ("", *found.criteria))
    table.add_row("one person", *(_figure(each.ceiling.spearman, found) for each in found.criteria.values()))
    table.add_section()
    for metric in _by_strength(found):
        own = [each.metrics[metric].with_others.spearman for each in found.criteria.values()]
        table.add_row(metric, *(_figure(each, found) for each in own))
    return table


def _beyond_length(found: HumanAgreement) -> "Table":
    title = "Spearman with the mean mark, less that of the length in words"
    table = _table(title, ("metric", *found.criteria))
    for metric in _by_strength(found):
        own = [each.metrics[metric].to_length for each in found.criteria.values()]
        if any(own):
            table.add_row(metric, *(_figure(each, found, signed=True) for each in own))
    return table


def _by_strength(found: HumanAgreement) -> list[str]:
    """The metrics, those that agree best over all criteria first."""
    criteria = found.criteria.values()
    names = dict.fromkeys(metric for each in criteria for metric in each.metrics)

    def strength(metric: str) -> float:
        known = [each.metrics[metric].with_mean.spearman for each in criteria]
        return sum(each.value for each in known if each is not None)

    return sorted(names, key=strength, reverse=True)


def _marks(found: HumanAgreement) -> "Table":
    table = _table("Mean marks of systems", ("system", "rows", *found.criteria))
    for name, system in found.systems.items():
        table.add_row(
            name, str(system.rows), *(_figure(system.marks.get(criterion), found) for criterion in found.criteria)
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
    table.add_column(headings[0], overflow="fold")
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _figure(estimate: Estimate | None, found: HumanAgreement, *, signed: bool = False) -> str:
    if estimate is None:
        return ""
    return _ends(estimate.value, estimate.interval, "*" if found.warning else "", "+z.2f" if signed else "z.2f")


def _both(correlation: Correlation, found: HumanAgreement) -> str:
    if correlation.spearman is None or correlation.kendall is None:
        return ""
    ends = _figure(correlation.spearman, found).partition("\n")[2]
    return f"{correlation.spearman.value:z.2f} / {correlation.kendall.value:z.2f}\n{ends}"


def _ends(value: float, interval: tuple[float, float] | None, star: str = "", form: str = "z.2f") -> str:
    if interval is None:
        return f"{value:{form}}"
    low, high = (f"{end:{form}}" for end in interval)
    to = "-" if low[0].isdigit() and high[0].isdigit() else " to "
    return f"{value:{form}}\n{low}{to}{high}{star}"
