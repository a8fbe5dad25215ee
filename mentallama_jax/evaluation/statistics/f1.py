"""Accuracy and F1 from counts, of one sample or of many at once, such as those with a post left out.

F1 is that of scikit-learn with `labels=` the classes: a class's F1 is 2 hits / (predicted + support). A prediction that
is none of the classes, such as an unparsed output, is wrong for the class of its gold and counts for no other. Weighted
F1 weighs classes by support. Macro F1 is the plain mean over the classes that occur in gold or prediction of the whole
sample; one that occurs nowhere has no F1 (0/0) and is left out, as scikit-learn does with `zero_division=nan`.

A part of a sample keeps its classes. A class of which it holds no gold row keeps its F1 of the whole sample, so
that macro F1 is always the mean of the same classes.

Shape suffixes: R rows, G groups (posts), C classes, `...` any leading axes (samples).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

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
        whole: of a part of a sample, the totals [C] of that sample.
    """

    hits: Counts
    predicted: Counts
    support: Counts
    whole: Optional["Tally"] = None

    @property
    def groups(self) -> int:
        """The number of groups G."""
        return int(self.support.shape[0])

    @property
    def sizes(self) -> Counts:
        """The number of rows of each group, [G]."""
        return np.asarray(self.support.sum(axis=-1))

    def weighed(self, weights: Counts) -> "Tally":
        """The totals [..., C] when each group counts `weights` [..., G] times."""
        return Tally(weights @ self.hits, weights @ self.predicted, weights @ self.support, self.total())

    def total(self) -> "Tally":
        """The totals over groups, [C]."""
        return Tally(self.hits.sum(axis=0), self.predicted.sum(axis=0), self.support.sum(axis=0))


TallyMetric = Callable[[Tally], Counts]


def tally_of_confusion(confusion_CC: Counts) -> Tally:
    """The totals of a confusion matrix, gold by row and predicted by column."""
    return Tally(np.diagonal(confusion_CC), confusion_CC.sum(axis=0), confusion_CC.sum(axis=1))


def tally(gold: Sequence[str], predicted: Sequence[str], posts: Sequence[str], classes: Sequence[str]) -> Tally:
    """Count by post: `hits`, `predicted` and `support` of shape [G, C]; posts in sorted order.

    Args:
        gold: label of each row; one of `classes`.
        predicted: predicted label of each row; what is not one of `classes` counts for none.
        posts: post of each row.
        classes: the classes, in the order of C.
    """
    number = {label: index for index, label in enumerate(classes)}
    gold_R = np.array([number[label] for label in gold], dtype=np.int64)
    predicted_R = np.array([number.get(label, -1) for label in predicted], dtype=np.int64)
    groups, group_R = np.unique(posts, return_inverse=True)
    shape = (len(groups), len(classes))

    def counted(class_R: NDArray[np.int64], which_R: NDArray[np.bool_]) -> Counts:
        places = group_R[which_R] * shape[1] + class_R[which_R]
        return np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)

    every_R = np.ones(len(gold_R), dtype=bool)
    return Tally(
        counted(gold_R, gold_R == predicted_R), counted(predicted_R, predicted_R >= 0), counted(gold_R, every_R)
    )


def f1_by_class(counts: Tally) -> Counts:
    """F1 of each class, [..., C]; 0 where it is 0/0."""
    f1 = _ratio(2 * counts.hits, counts.predicted + counts.support)
    if counts.whole is None:
        return f1
    lacking = (counts.support == 0) & (counts.whole.support > 0)
    return np.where(lacking, f1_by_class(counts.whole), f1)


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
    """Plain mean of the F1 of the classes that occur in gold or prediction of the whole sample, [...]."""
    whole = counts.whole or counts
    occurs = ((whole.predicted + whole.support) > 0).astype(np.float64)
    return _ratio((f1_by_class(counts) * occurs).sum(axis=-1), occurs.sum(axis=-1))


def _ratio(numerator: Counts, denominator: Counts) -> Counts:
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator > 0)
