"""A comparison of systems as `comparison.json` and as tables in the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mentallama_jax.evaluation.comparison import LABEL_METRICS, POOLED, Comparison, PairedFigures, Standing
from mentallama_jax.evaluation.statistics.intervals import FEW_POSTS
from mentallama_jax.evaluation.statistics.paired_tests import PairedTestName
from mentallama_jax.files import write_json

if TYPE_CHECKING:
    from rich.table import Table

_Figures = TypeVar("_Figures", Standing, PairedFigures)

HEADLINE = "weighted_f1"
_SYSTEMS_A_TABLE = 4
_TENTH = 0.0005
"""Shares that would be 0.0 % with one decimal are shown with two."""
_TESTS: Mapping[PairedTestName, str] = {
    "mcnemar": "McNemar's exact test",
    "exchange, all": "exchanging the answers of posts in all ways (mid-p)",
    "exchange, drawn": "exchanging the answers of posts in ways drawn by chance (mid-p)",
    "t over posts and seeds": "Student's t over posts and seeds",
}


def write_comparison(folder: Path, comparison: Comparison) -> Path:
    """Write `comparison.json` into a folder; return its path."""
    path = folder / "comparison.json"
    write_json(path, asdict(comparison))
    return path


def standing_tables(comparison: Comparison) -> list["Table"]:
    """The figures of the systems, some systems a table: weighted F1 of each data set, other metrics of all rows."""
    names = list(comparison.systems)
    groups = [names[start : start + _SYSTEMS_A_TABLE] for start in range(0, len(names), _SYSTEMS_A_TABLE)]
    return [_standing_table(comparison, group) for group in groups]


def difference_tables(comparison: Comparison) -> list["Table"]:
    """The differences of each pair of systems, a table a pair."""
    return [
        _difference_table(comparison, [each for each in comparison.differences if (each.first, each.second) == pair])
        for pair in combinations(comparison.systems, 2)
    ]


def comparison_notes(comparison: Comparison) -> list[str]:
    """What to know besides the tables, each in a line."""
    said = [f"{count} rows of {file} left out, as others lack them" for file, count in comparison.left_out.items()]
    few = {each.dataset: each.posts for each in comparison.differences if each.warning and each.dataset != POOLED}
    if few:
        named = ", ".join(f"{name} ({posts})" for name, posts in few.items())
        said.append(f"* fewer than {FEW_POSTS} posts, so the interval may be too narrow: {named}")
    if any(seed["posts"] != "post_id" for seeds in comparison.systems.values() for seed in seeds):
        said.append("every row is taken for a post of its own, as some files have no post_id")
    if any(seed.get("ids") == "row numbers" for seeds in comparison.systems.values() for seed in seeds):
        said.append("rows are paired by their order, as some files have no ids")
    tests = "; ".join(_TESTS[each] for each in dict.fromkeys(each.test for each in comparison.differences))
    said += [
        f"= not distinguished from the best of the row. p: {tests}; corrected by Holm's procedure over data sets and "
        "pairs of systems. = goes by p, which near 0 may say otherwise than the interval",
        "least found: the smallest true difference that 4 of 5 such comparisons find. posts needed: on so many 4 of 5 "
        "would find the difference seen, with these seeds; none where no number would",
    ]
    return said


def _standing_table(comparison: Comparison, names: Sequence[str]) -> "Table":
    nats = "nats" in comparison.units.values()
    unit = "shares in %, log-probabilities in nats" if nats else "in %"
    table = _table(f"Weighted F1 of each data set, then other metrics of all rows, {unit}")
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for group in _grouped(comparison.standings):
        for each in group:
            cells = [_value(each.values[name], comparison.units[each.metric]) for name in names]
            marks = ["=" if name in each.not_distinguished else " " for name in names]
            table.add_row(_row_name(each), *(f"{cell} {mark}" for cell, mark in zip(cells, marks, strict=True)))
        table.add_section()
    return table


def _difference_table(comparison: Comparison, differences: Sequence[PairedFigures]) -> "Table":
    first, second = differences[0].first, differences[0].second
    nats = any(comparison.units[each.metric] == "nats" for each in differences)
    table = _table(f"{first} less {second}, in points{', log-probabilities in nats' if nats else ''}")
    for heading in ("differ-\nence", "95 %", "p", "p, Holm", "least\nfound", "posts", "posts\nneeded"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in _grouped(differences):
        for each in group:
            unit = comparison.units[each.metric]
            ends = "" if each.interval is None else " to ".join(_signed(end, unit) for end in each.interval)
            least = "" if each.minimum_detectable is None else _shown(each.minimum_detectable, unit)
            table.add_row(
                _row_name(each),
                _signed(each.difference, unit),
                ends + ("*" if each.warning else ""),
                _p(each.p),
                _p(each.p_holm),
                least,
                str(each.posts),
                "" if each.posts_needed is None else _count(each.posts_needed),
            )
        table.add_section()
    return table


def _grouped(figures: Sequence[_Figures]) -> list[list[_Figures]]:
    """Weighted F1 of each data set, then the other metrics of all rows."""
    datasets = {each.dataset for each in figures}
    whole = POOLED if POOLED in datasets else next(iter(datasets))
    headline = [each for each in figures if each.metric == HEADLINE]
    return [headline, [each for each in figures if each.metric != HEADLINE and each.dataset == whole]]


def _row_name(figure: Standing | PairedFigures) -> str:
    if figure.metric == HEADLINE:
        return figure.dataset
    if figure.metric in LABEL_METRICS:
        return figure.metric.replace("_", " ").replace(" f1", " F1")
    return figure.metric.replace("explanation)", "expl.)").replace("response)", "resp.)")


def _table(title: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", overflow="fold")
    return table


def _value(seeds: Sequence[float], unit: str) -> str:
    mean = sum(seeds) / len(seeds)
    if len(seeds) == 1:
        return _shown(mean, unit)
    deviation = (sum((value - mean) ** 2 for value in seeds) / (len(seeds) - 1)) ** 0.5
    return f"{_shown(mean, unit)} ±{_shown(deviation, unit)}"


def _shown(value: float, unit: str, sign: str = "") -> str:
    if unit != "share":
        return f"{value:{sign}z.2f}"
    return f"{100 * value:{sign}z.{1 if abs(value) >= _TENTH or not value else 2}f}"


def _signed(value: float, unit: str) -> str:
    return _shown(value, unit, "+")


def _p(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}"


def _count(number: int) -> str:
    return str(number) if number < 100_000 else ">99,999"
