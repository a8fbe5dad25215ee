"""What classifiers say of outputs beside the rules: how often both read one label, and whether explanations fit labels.

Labels come in by name: the models that read them are elsewhere, so nothing here imports jax.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mentallama_jax.evaluation.statistics.f1 import Counts
from mentallama_jax.evaluation.statistics.intervals import (
    IntervalSettings,
    few_posts,
    mean_score,
    metric_interval,
    row_scores,
)
from mentallama_jax.imhi.predictions import Prediction

Labels = Sequence[str | None]
"""The label of each row; None where there is none."""


@dataclass(frozen=True, slots=True)
class ReaderAgreement:
    """Two readers of the same outputs.

    Attributes:
        rows: in which both read a label; the figures are of these.
        posts: different posts among them.
        agreement: share of rows with equal labels.
        kappa: Cohen's kappa: agreement beyond that of chance. 1 where both always read the one same label.
        kappa_interval: its lower and upper end, over posts.
        unparsed_by_rules: rows of all in which the rules read no label.
        unparsed_by_classifier: rows of all that give the classifier nothing to read.
        warning: what to mind of the interval; None where there is nothing.
    """

    rows: int
    posts: int
    agreement: float | None
    kappa: float | None
    kappa_interval: tuple[float, float] | None
    unparsed_by_rules: int
    unparsed_by_classifier: int
    warning: str | None


@dataclass(frozen=True, slots=True)
class Consistency:
    """Whether explanations alone tell a classifier the label that their outputs state.

    Attributes:
        rows: that were scored.
        posts: different posts among them.
        share: of rows whose explanation is read as the stated label.
        interval: its lower and upper end, over posts.
        method: "wilson" or "exact".
        without_label: rows that state no label, and are not scored.
        without_explanation: rows that state a label and give no explanation, and are not scored.
        gold_rows: rows with a gold explanation.
        gold_share: of these, the share whose gold explanation is read as the gold label: what the classifier can do.
        warning: what to mind of the interval; None where there is nothing.
    """

    rows: int
    posts: int
    share: float | None
    interval: tuple[float, float] | None
    method: str | None
    without_label: int
    without_explanation: int
    gold_rows: int
    gold_share: float | None
    warning: str | None


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """What `scores.json` holds under `classifiers`; `schema` documents each key.

    Attributes:
        agreement: data set -> the rules beside the classifier; None where labels were not read by it.
        consistency: data set -> consistency, and `pooled`; None where it was not asked for.
        signatures: data set -> which classifier it was.
    """

    agreement: dict[str, ReaderAgreement] | None
    consistency: dict[str, Consistency] | None
    signatures: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class LabelPairs:
    """Counts of pairs of labels, [G, C, C] by post or [..., C, C] of totals: an `intervals.PostSums`."""

    counts: Counts
    bounds: tuple[float, float] = (-1.0, 1.0)
    """The lowest and the highest Cohen's kappa there can be."""

    @property
    def groups(self) -> int:
        """The number of posts."""
        return int(self.counts.shape[0])

    @property
    def sizes(self) -> Counts:
        """The rows of each post, [G]."""
        return np.asarray(self.counts.sum(axis=(-2, -1)))

    def weighed(self, weights: Counts) -> "LabelPairs":
        """The totals when each post counts `weights` [..., G] times."""
        return LabelPairs(np.tensordot(weights, self.counts, axes=1))

    def total(self) -> "LabelPairs":
        """The totals when each post counts once."""
        return LabelPairs(self.counts.sum(axis=0))


def label_pairs(
    first: Sequence[str], second: Sequence[str], posts: Sequence[str], classes: Sequence[str]
) -> LabelPairs:
    """Count pairs of labels by post, posts in sorted order."""
    number = {label: place for place, label in enumerate(classes)}
    groups, group_R = np.unique(posts, return_inverse=True)
    counts = np.zeros((len(groups), len(classes), len(classes)))
    for group, one, other in zip(group_R, first, second, strict=True):
        counts[group, number[one], number[other]] += 1
    return LabelPairs(counts)


def cohens_kappa(pairs: LabelPairs) -> Counts:
    """(Agreement - chance) / (1 - chance), [...]; 1 where both readers give all rows the one same label."""
    counts = pairs.counts
    rows = counts.sum(axis=(-2, -1))
    agreement = np.trace(counts, axis1=-2, axis2=-1) / rows
    chance = np.einsum("...c,...c->...", counts.sum(axis=-1), counts.sum(axis=-2)) / rows**2
    left = 1 - chance
    return np.where(left > 1e-12, (agreement - chance) / np.where(left > 1e-12, left, 1), 1.0)


def reader_agreement(
    rows: Sequence[Prediction], by_rules: Labels, by_classifier: Labels, settings: IntervalSettings
) -> dict[str, ReaderAgreement]:
    """The rules beside the classifier, for each data set in its order."""
    return {
        name: _agreement(places, rows, by_rules, by_classifier, settings) for name, places in _by_dataset(rows).items()
    }


def _agreement(
    places: Sequence[int],
    rows: Sequence[Prediction],
    by_rules: Labels,
    by_classifier: Labels,
    settings: IntervalSettings,
) -> ReaderAgreement:
    pairs = [(by_rules[place], by_classifier[place], rows[place].post_id) for place in places]
    both = [(one, other, post) for one, other, post in pairs if one is not None and other is not None]
    unread = sum(one is None for one, _, _ in pairs), sum(other is None for _, other, _ in pairs)
    if not both:
        return ReaderAgreement(0, 0, None, None, None, *unread, None)
    first, second, posts = ([each[column] for each in both] for column in range(3))
    counted = label_pairs(first, second, posts, rows[places[0]].task.labels)
    return ReaderAgreement(
        rows=len(both),
        posts=counted.groups,
        agreement=sum(one == other for one, other, _ in both) / len(both),
        kappa=float(cohens_kappa(counted.total())),
        kappa_interval=metric_interval(counted, cohens_kappa, settings).ends,
        unparsed_by_rules=unread[0],
        unparsed_by_classifier=unread[1],
        warning=few_posts(counted.groups),
    )


def differing_rows(rows: Sequence[Prediction], by_rules: Labels, by_classifier: Labels) -> list[dict[str, str | None]]:
    """The rows that the readers read differently, without their texts."""
    return [
        {"id": row.id, "dataset": row.dataset, "gold": row.label, "rules": one, "classifier": other}
        for row, one, other in zip(rows, by_rules, by_classifier, strict=True)
        if one != other
    ]


def consistency(
    rows: Sequence[Prediction], stated: Labels, explained: Labels, gold_explained: Labels, settings: IntervalSettings
) -> dict[str, Consistency]:
    """Whether explanations fit labels, for each data set in its order and `pooled`.

    Args:
        rows: the outputs.
        stated: the label that each output states.
        explained: the label that a classifier reads from its explanation alone; None without an explanation.
        gold_explained: the same of the gold explanations.
        settings: of the intervals, which are over posts.
    """
    parts: Mapping[str, Sequence[int]] = {**_by_dataset(rows), "pooled": range(len(rows))}
    return {
        name: _consistency(places, rows, stated, explained, gold_explained, settings) for name, places in parts.items()
    }


def _consistency(
    places: Sequence[int],
    rows: Sequence[Prediction],
    stated: Labels,
    explained: Labels,
    gold_explained: Labels,
    settings: IntervalSettings,
) -> Consistency:
    labelled = [place for place in places if stated[place] is not None]
    scored = [place for place in labelled if explained[place] is not None]
    gold = [gold_explained[place] == rows[place].label for place in places if gold_explained[place] is not None]
    share, ends, method, posts = None, None, None, 0
    if scored:
        fits = [float(stated[place] == explained[place]) for place in scored]
        sums = row_scores(fits, [rows[place].post_id for place in scored])
        interval = metric_interval(sums, mean_score, settings)
        share, ends, method, posts = float(mean_score(sums.total())), interval.ends, interval.method, sums.groups
    return Consistency(
        rows=len(scored),
        posts=posts,
        share=share,
        interval=ends,
        method=method,
        without_label=len(places) - len(labelled),
        without_explanation=len(labelled) - len(scored),
        gold_rows=len(gold),
        gold_share=sum(gold) / len(gold) if gold else None,
        warning=few_posts(posts) if scored else None,
    )


def _by_dataset(rows: Sequence[Prediction]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        found.setdefault(row.dataset, []).append(place)
    return found
