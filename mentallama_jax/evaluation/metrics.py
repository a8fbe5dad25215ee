"""Accuracy and F1 from counts, for one sample or for thousands of resamples at once.

F1 is that of scikit-learn with `zero_division=0`: a class's F1 is 2 hits / (predicted + support), 0 where that is
0/0; weighted F1 weighs classes by support; macro F1 is the plain mean over classes that occur in gold or prediction.

Shape suffixes: R rows, G groups (posts), C classes, `...` any leading axes (resamples).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts per class, float64 of shape [..., C]: all that accuracy and F1 depend on.

    Attributes:
        hits: rows whose prediction is right, by class.
        predicted: rows predicted to be of the class.
        support: rows whose gold is the class.
    """

    hits: Counts
    predicted: Counts
    support: Counts

    def weighed(self, weights: Counts) -> "Tally":
        """Of counts by group [G, C], the totals [..., C] when each group counts `weights` [..., G] times."""
        return Tally(weights @ self.hits, weights @ self.predicted, weights @ self.support)

    def total(self) -> "Tally":
        """Of counts by group [G, C], the totals [C]."""
        return Tally(self.hits.sum(axis=0), self.predicted.sum(axis=0), self.support.sum(axis=0))


Metric = Callable[[Tally], Counts]


def tally(gold: Sequence[str], predicted: Sequence[str], posts: Sequence[str], classes: Sequence[str]) -> Tally:
    """Count by post: `hits`, `predicted` and `support` of shape [G, C]; posts in sorted order.

    Args:
        gold: label of each row; one of `classes`.
        predicted: predicted label of each row; one of `classes`.
        posts: post of each row.
        classes: the classes, in the order of C.
    """
    number = {label: index for index, label in enumerate(classes)}
    gold_R = np.array([number[label] for label in gold])
    predicted_R = np.array([number[label] for label in predicted])
    groups, group_R = np.unique(posts, return_inverse=True)

    def counted(class_R: NDArray[np.int_], weight_R: NDArray[np.bool_]) -> Counts:
        counts_GC = np.zeros((len(groups), len(classes)))
        np.add.at(counts_GC, (group_R, class_R), weight_R)
        return counts_GC

    every_R = np.ones(len(gold_R), dtype=bool)
    return Tally(counted(gold_R, gold_R == predicted_R), counted(predicted_R, every_R), counted(gold_R, every_R))


def f1_by_class(counts: Tally) -> Counts:
    """F1 of each class, [..., C]."""
    return _ratio(2 * counts.hits, counts.predicted + counts.support)


def precision_by_class(counts: Tally) -> Counts:
    """Precision of each class, [..., C]."""
    return _ratio(counts.hits, counts.predicted)


def recall_by_class(counts: Tally) -> Counts:
    """Recall of each class, [..., C]."""
    return _ratio(counts.hits, counts.support)


def accuracy(counts: Tally) -> Counts:
    """Share of right rows, [...]."""
    return _ratio(counts.hits.sum(axis=-1), counts.support.sum(axis=-1))


def weighted_f1(counts: Tally) -> Counts:
    """Mean of the classes' F1 by support, [...]: the benchmark's headline metric."""
    return _ratio((f1_by_class(counts) * counts.support).sum(axis=-1), counts.support.sum(axis=-1))


def macro_f1(counts: Tally) -> Counts:
    """Plain mean of the F1 of the classes that occur in gold or prediction, [...]."""
    occurs = (counts.predicted + counts.support) > 0
    return _ratio(f1_by_class(counts).sum(axis=-1), occurs.sum(axis=-1, dtype=np.float64))


def _ratio(numerator: Counts, denominator: Counts) -> Counts:
    return np.divide(numerator, denominator, out=np.zeros(np.shape(denominator)), where=denominator > 0)
