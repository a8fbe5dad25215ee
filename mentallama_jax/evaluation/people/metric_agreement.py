"""How far metrics agree with people, beside how far people agree with each other. Intervals are over posts.

A metric is compared with the mean of all annotators, and, as the ceiling needs it, with the mean of all but one, on
average over the one that is left out. The ceiling is the same with the marks of the one in place of the metric: what a
further person would reach. A metric above it predicts the others better than one person does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mentallama_jax.evaluation.people.answer_scores import WORDS
from mentallama_jax.evaluation.people.corrected_mean import CorrectedMean, corrected_mean
from mentallama_jax.evaluation.people.human_marks import SCALE, HumanMarks, MarkedAnswer
from mentallama_jax.evaluation.people.krippendorff import Marks, alpha, coincidences
from mentallama_jax.evaluation.people.rank_correlation import (
    RankedPairs,
    intervals,
    mean_kendall,
    mean_spearman,
    ranked_pairs,
)
from mentallama_jax.evaluation.statistics.estimates import Estimate, estimate, estimates
from mentallama_jax.evaluation.statistics.intervals import (
    IntervalSettings,
    few_posts,
    metric_interval,
    row_scores,
    score_intervals,
)

_LEAST_ROWS = 3
Columns = list[tuple[list[float], list[float], list[str]]]
"""Pairs of scores and the posts of their rows, one entry for each correlation that is averaged."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """Rank correlations of two scores.

    Attributes:
        rows: that have both.
        posts: different posts among them.
        spearman: Spearman's; None where a score is the same in all rows, or there are fewer than three.
        kendall: Kendall's tau-b; None likewise.
    """

    rows: int
    posts: int
    spearman: Estimate | None
    kendall: Estimate | None


@dataclass(frozen=True, slots=True)
class MetricAgreement:
    """How a metric agrees with the marks by one criterion.

    Attributes:
        with_mean: with the mean of all annotators.
        with_others: with the mean of all annotators but one, on average; to be compared with `ceiling`.
        ceiling: the marks of the one that is left out in place of the metric, on the same rows.
        to_ceiling: Spearman's correlation `with_others` less that of the ceiling, over the same posts.
        to_length: Spearman's correlation `with_mean` less that of the length in words on the same rows, likewise.
    """

    with_mean: Correlation
    with_others: Correlation
    ceiling: Correlation
    to_ceiling: Estimate | None
    to_length: Estimate | None


@dataclass(frozen=True, slots=True)
class CriterionAgreement:
    """What was found of one criterion.

    Attributes:
        rows: with at least one mark.
        posts: different posts among them.
        missing: marks that annotators did not give.
        mean: of the mean marks of rows.
        alpha: Krippendorff's alpha for ordinal marks; None where all marks are equal, or none can be compared.
        pairwise: correlations of two annotators, on average over the pairs.
        ceiling: correlation of an annotator with the mean of the others, on average.
        metrics: name -> agreement.
    """

    rows: int
    posts: int
    missing: int
    mean: Estimate
    alpha: Estimate | None
    pairwise: Correlation
    ceiling: Correlation
    metrics: dict[str, MetricAgreement]


@dataclass(frozen=True, slots=True)
class SystemMarks:
    """What was found of the answers of one system.

    Attributes:
        rows: its marked answers.
        posts: different posts among them.
        marks: criterion -> mean of the mean marks of rows.
        within: criterion -> metric -> correlation with the mean of all annotators, over this system alone.
        corrected: criterion -> metric -> the mean mark of all its answers, estimated with the metric; empty where
            there are no answers without marks.
    """

    rows: int
    posts: int
    marks: dict[str, Estimate]
    within: dict[str, dict[str, Correlation]]
    corrected: dict[str, dict[str, CorrectedMean]]


@dataclass(frozen=True, slots=True)
class HumanAgreement:
    """How far people agree with each other, and metrics with people.

    Attributes:
        rows: marked answers.
        posts: different posts among them.
        annotators: their names.
        scale: the lowest and the highest mark.
        warning: what to mind of the intervals; None where there is nothing.
        criteria: criterion -> what was found.
        systems: system -> what was found of its answers.
        not_computed: metric -> why it has no figures.
        signature: what was read, and how it was computed.
    """

    rows: int
    posts: int
    annotators: tuple[str, ...]
    scale: tuple[float, float]
    warning: str | None
    criteria: dict[str, CriterionAgreement]
    systems: dict[str, SystemMarks]
    not_computed: dict[str, str]
    signature: dict[str, Any]


MetricScores = Mapping[str, Sequence[float | None]]
"""Metric -> score of each row; None where it has none."""


def agreement(
    marks: HumanMarks,
    scores: MetricScores,
    settings: IntervalSettings,
    unmarked: Mapping[str, tuple[Sequence[str], MetricScores]] | None = None,
    not_computed: Mapping[str, str] | None = None,
    signature: Mapping[str, Any] | None = None,
) -> HumanAgreement:
    """Compare metrics with marks, and marks with each other.

    Args:
        marks: of people.
        scores: of the same rows, by metric.
        settings: of the intervals, which are over posts.
        unmarked: system -> posts and scores of all its answers, for the corrected means.
        not_computed: metric -> why it is not among `scores`.
        signature: of the result.
    """
    rows = marks.rows
    systems = {}
    for name in dict.fromkeys(row.system for row in rows):
        places = [place for place, row in enumerate(rows) if row.system == name]
        own = {metric: [of_rows[place] for place in places] for metric, of_rows in scores.items()}
        answers = [rows[place] for place in places]
        systems[name] = _system(answers, marks.criteria, own, settings, (unmarked or {}).get(name))
    posts = {row.answer.post_id for row in rows}
    return HumanAgreement(
        rows=len(rows),
        posts=len(posts),
        annotators=marks.annotators,
        scale=SCALE,
        warning=few_posts(len(posts)),
        criteria={name: _criterion(rows, name, scores, settings) for name in marks.criteria},
        systems=systems,
        not_computed=dict(not_computed or {}),
        signature=dict(signature or {}),
    )


def _criterion(
    rows: Sequence[MarkedAnswer], name: str, scores: MetricScores, settings: IntervalSettings
) -> CriterionAgreement:
    marked = [place for place, row in enumerate(rows) if _mean(row.marks[name]) is not None]
    given = [rows[place].marks[name] for place in marked]
    posts = [rows[place].answer.post_id for place in marked]
    annotators = range(len(given[0]) if given else 0)
    pairs = [(one, two) for one in annotators for two in annotators if one < two]
    counts = coincidences(given, posts)
    found = None
    if counts is not None:
        found = estimate(float(alpha(counts.total())), metric_interval(counts, alpha, settings))
    own = {metric: [of_rows[place] for place in marked] for metric, of_rows in scores.items()}
    ceiling = _correlation(_left_out(given, None, posts), settings)
    return CriterionAgreement(
        rows=len(marked),
        posts=len(set(posts)),
        missing=sum(mark is None for row in rows for mark in row.marks[name]),
        mean=_mean_mark(given, posts, settings),
        alpha=found,
        pairwise=_correlation([_both(_one(given, a), _one(given, b), posts) for a, b in pairs], settings),
        ceiling=ceiling,
        metrics={
            metric: _metric(given, of_rows, None if metric == WORDS else own.get(WORDS), posts, ceiling, settings)
            for metric, of_rows in own.items()
        },
    )


def _metric(
    given: Sequence[Marks],
    scores: Sequence[float | None],
    lengths: Sequence[float | None] | None,
    posts: Sequence[str],
    ceiling: Correlation,
    settings: IntervalSettings,
) -> MetricAgreement:
    scored = [place for place, score in enumerate(scores) if score is not None]
    given, posts = [given[place] for place in scored], [posts[place] for place in scored]
    own = [scores[place] for place in scored]
    metric, people = _left_out(given, own, posts), _left_out(given, None, posts)
    means = [_mean(marks) for marks in given]
    with_mean = [_both(own, means, posts)]
    length = None if lengths is None else [_both([lengths[place] for place in scored], means, posts)]
    return MetricAgreement(
        with_mean=_correlation(with_mean, settings),
        with_others=_correlation(metric, settings),
        ceiling=ceiling if len(scored) == len(scores) else _correlation(people, settings),
        to_ceiling=_difference(metric, people, settings),
        to_length=None if length is None else _difference(with_mean, length, settings),
    )


def _difference(first: Columns, second: Columns, settings: IntervalSettings) -> Estimate | None:
    """Spearman's correlation of `first` less that of `second`, over the pairs in which something varies in both."""
    usable = [pair for pair in zip(first, second, strict=True) if all(map(_usable, pair))]
    if not usable:
        return None
    number = len(usable)
    ranked = ranked_pairs([pair[0] for pair in usable] + [pair[1] for pair in usable])

    def difference(weighed: RankedPairs) -> Any:
        sides = weighed.pairs[:number], weighed.pairs[number:]
        one, two = (mean_spearman(RankedPairs(side, weighed.sizes, weighed.weights)) for side in sides)
        return one - two

    return estimates(ranked, {"difference": difference}, settings)["difference"]


def _system(
    rows: Sequence[MarkedAnswer],
    criteria: Sequence[str],
    scores: MetricScores,
    settings: IntervalSettings,
    unmarked: tuple[Sequence[str], MetricScores] | None,
) -> SystemMarks:
    posts = [row.answer.post_id for row in rows]
    marks: dict[str, Estimate] = {}
    within: dict[str, dict[str, Correlation]] = {}
    corrected: dict[str, dict[str, CorrectedMean]] = {}
    for name in criteria:
        means = [_mean(row.marks[name]) for row in rows]
        if any(mean is not None for mean in means):
            marks[name] = _mean_mark([row.marks[name] for row in rows], posts, settings)
        within[name] = {
            metric: _correlation([_both(of_rows, means, posts)], settings) for metric, of_rows in scores.items()
        }
        if unmarked is None:
            continue
        corrected[name] = {}
        for metric, of_rows in scores.items():
            own = [
                (mean, score, post)
                for mean, score, post in zip(means, of_rows, posts, strict=True)
                if mean is not None and score is not None
            ]
            other = [
                (score, post) for score, post in zip(unmarked[1][metric], unmarked[0], strict=True) if score is not None
            ]
            mean_of_all = corrected_mean(own, other, SCALE, settings.confidence)
            if mean_of_all is not None:
                corrected[name][metric] = mean_of_all
    return SystemMarks(len(rows), len(set(posts)), marks, within, corrected)


def _mean_mark(given: Sequence[Marks], posts: Sequence[str], settings: IntervalSettings) -> Estimate:
    """The mean of the mean marks of rows; rows without marks are left out."""
    known = [(mean, post) for marks, post in zip(given, posts, strict=True) if (mean := _mean(marks)) is not None]
    means = [mean for mean, _ in known]
    scores = row_scores(means, [post for _, post in known], SCALE)
    return estimate(float(np.mean(means)), score_intervals({"mean": scores}, settings)["mean"])


def _correlation(columns: Columns, settings: IntervalSettings) -> Correlation:
    """The mean of the correlations over the pairs of columns in which something varies."""
    posts = [post for *_, of_rows in columns for post in of_rows]
    rows = max((len(of_rows) for *_, of_rows in columns), default=0)
    usable = [column for column in columns if _usable(column)]
    if not usable:
        return Correlation(rows, len(set(posts)), None, None)
    figures: dict[Literal["spearman", "kendall"], Callable[[RankedPairs], Any]] = {
        "spearman": mean_spearman,
        "kendall": mean_kendall,
    }
    found = intervals(ranked_pairs(usable), {str(name): figure for name, figure in figures.items()}, settings)
    return Correlation(rows, len(set(posts)), found["spearman"], found["kendall"])


def _usable(column: tuple[list[float], list[float], list[str]]) -> bool:
    return len(column[2]) >= _LEAST_ROWS and not ranked_pairs([column]).pairs[0].constant()


def _left_out(given: Sequence[Marks], scores: Sequence[float | None] | None, posts: Sequence[str]) -> Columns:
    """Pair, for each annotator, the scores, or where there are none the own marks, with the mean of the others' marks.

    Rows are those that the annotator and another one marked, for metric and person alike.
    """
    columns = []
    for one in range(len(given[0]) if given else 0):
        own = _one(given, one)
        others = [_mean([*marks[:one], *marks[one + 1 :]]) for marks in given]
        both = [mean if mark is not None else None for mark, mean in zip(own, others, strict=True)]
        columns.append(_both(own if scores is None else scores, both, posts))
    return columns


def _both(
    first: Sequence[float | None], second: Sequence[float | None], posts: Sequence[str]
) -> tuple[list[float], list[float], list[str]]:
    """The rows that have both scores."""
    kept = [
        (one, two, post)
        for one, two, post in zip(first, second, posts, strict=True)
        if one is not None and two is not None
    ]
    return [row[0] for row in kept], [row[1] for row in kept], [row[2] for row in kept]


def _one(given: Sequence[Marks], annotator: int) -> list[float | None]:
    return [marks[annotator] for marks in given]


def _mean(marks: Marks) -> float | None:
    known = [mark for mark in marks if mark is not None]
    return float(np.mean(known)) if known else None
