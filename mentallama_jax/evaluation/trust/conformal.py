"""Sets of labels that hold the gold label with a promised chance: split conformal prediction.

The score of a row is -log P(gold label). The threshold is a quantile of the scores of validation rows; a test row's set
holds the labels whose score is not above it (Sadinle et al. 2019: the smallest sets on average). Probabilities are
taken as given: a temperature fitted on the same validation rows would break the promise a little.

The promise needs rows that could change places. Rows of one post cannot, posts can. So validation is counted by posts:
each of n posts has a weight of 1, shared evenly by its rows, and the threshold is the smallest score at which the
weight reaches (n + 1) 0.9. Where each post has one row, that is the quantile ceil((n + 1) (1 - a)) / n of n scores, a
being 0.1 (Lee, Barber and Willett 2023, hierarchical conformal prediction). The promise is of a row drawn at random
from a new post. With fewer than 9 posts no score reaches it: then a set holds all labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mentallama_jax.evaluation.statistics.estimates import Estimate, mean_estimates
from mentallama_jax.evaluation.statistics.f1 import Counts
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, row_scores
from mentallama_jax.evaluation.trust.label_probabilities import LabelProbabilities

PROMISED = 0.9
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Conformal:
    """Sets of labels of the test rows.

    Attributes:
        promised: the coverage that was asked for.
        coverage: share of rows whose set holds the gold label.
        mean_size: mean number of labels in a set.
        labels: the number of labels of the data set, which is the size of a set that says nothing.
        sizes: size of a set -> rows; an empty set is possible, where no label is likely enough.
        threshold: the lowest probability that a label in a set has; 0 where sets hold all labels.
        calibration_rows: validation rows behind the threshold.
        calibration_posts: different posts among them.
        remark: what to mind of it; None where there is nothing.
    """

    promised: float
    coverage: Estimate
    mean_size: Estimate
    labels: int
    sizes: dict[str, int]
    threshold: float
    calibration_rows: int
    calibration_posts: int
    remark: str | None


def conformal_sets(calibration: LabelProbabilities, test: LabelProbabilities, settings: IntervalSettings) -> Conformal:
    """The sets of test rows, with the threshold of validation rows; at least one of each."""
    threshold = score_threshold(_gold_scores(calibration), calibration.posts)
    inside_RC = -test.log_RC <= threshold
    covered = inside_RC[np.arange(test.rows), test.gold_R].astype(np.float64)
    size_R = inside_RC.sum(axis=1)
    labels = len(test.labels)
    posts = len(set(calibration.posts))
    return Conformal(
        promised=PROMISED,
        **mean_estimates(
            {
                "coverage": row_scores(covered.tolist(), test.posts),
                "mean_size": row_scores(size_R.tolist(), test.posts, (0.0, float(labels))),
            },
            settings,
        ),
        labels=labels,
        sizes={str(size): int((size_R == size).sum()) for size in range(labels + 1)},
        threshold=float(np.exp(-threshold)),
        calibration_rows=calibration.rows,
        calibration_posts=posts,
        remark=None if np.isfinite(threshold) else f"{posts} posts of validation are too few: sets hold all labels",
    )


def score_threshold(scores: Sequence[float] | Counts, posts: Sequence[str], promised: float = PROMISED) -> float:
    """The score up to which labels are in a set; infinite where there are too few posts.

    Args:
        scores: of the validation rows; the higher, the stranger the gold label.
        posts: the post of each row.
        promised: the coverage.
    """
    groups, group_R, sizes = np.unique(posts, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum((1 / sizes[group_R])[order])
    needed = promised * (len(groups) + 1)
    enough = np.flatnonzero(reached >= needed - _SLACK)
    return float(np.asarray(scores)[order][enough[0]]) if len(enough) else float("inf")


def _gold_scores(found: LabelProbabilities) -> Counts:
    return -found.log_RC[np.arange(found.rows), found.gold_R]
