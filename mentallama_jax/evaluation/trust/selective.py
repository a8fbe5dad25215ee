"""Answering only where the model is sure: risk by coverage, and the area below that curve.

Rows are ranked by the probability of their likeliest label, as given. At a coverage of k of n rows the risk is the
share of wrong rows among the k surest. Rows with equal probability have no order: the risk inside such a block is that
on average over all its orders, so the order of a file does not matter. AURC is the mean of the risk over k = 1 ... n.
The best AURC that an ordering can have with as many errors puts all of them last; AURC less that is the excess.

Shape suffixes: R rows, G posts, K blocks of equal confidence.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.evaluation.statistics.estimates import Estimate, estimates
from mentallama_jax.evaluation.statistics.f1 import Counts
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.trust.label_probabilities import Outcomes

COVERAGE = 0.8
_POINTS = 50


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point of the risk-coverage curve.

    Attributes:
        coverage: share of rows that are answered.
        risk: share of wrong rows among them.
        threshold: the lowest confidence among them.
    """

    coverage: float
    risk: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Selective:
    """Figures of selective prediction.

    Attributes:
        aurc: area under the risk-coverage curve.
        excess_aurc: that less the area of the best ordering with as many errors.
        accuracy_at_80: share of right rows among the 80 % surest (rounded up).
        risk_coverage: the curve, from small coverage to 1.
    """

    aurc: Estimate
    excess_aurc: Estimate
    accuracy_at_80: Estimate
    risk_coverage: list[CurvePoint]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Rows and errors of each block of equal confidence, the surest first: an `intervals.PostSums`.

    By post the rows stand as they are, with the post and the block of each; totals [..., K] are made of them. Weights
    of posts are whole numbers.

    Attributes:
        rows: by block, [..., K]; by post of no use.
        errors: by block, [..., K].
        group_R: the post of each row.
        block_R: the block of each row; rows stand in the order of blocks.
        error_R: 1 where the row is wrong.
        sizes: the rows of each post, [G].
        bounds: the lowest and the highest value of the figures.
    """

    rows: Counts
    errors: Counts
    group_R: NDArray[np.int64]
    block_R: NDArray[np.int64]
    error_R: Counts
    sizes: Counts
    bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def groups(self) -> int:
        """The number of posts."""
        return int(self.sizes.shape[0])

    def weighed(self, weights: Counts) -> "Ranked":
        """The totals when each post counts `weights` [..., G] times."""
        weight_R = weights[..., self.group_R]
        starts = np.flatnonzero(np.diff(self.block_R, prepend=-1))
        rows = np.add.reduceat(weight_R, starts, axis=-1)
        errors = np.add.reduceat(weight_R * self.error_R, starts, axis=-1)
        return Ranked(rows, errors, self.group_R, self.block_R, self.error_R, self.sizes)

    def total(self) -> "Ranked":
        """The totals when each post counts once."""
        return self.weighed(np.ones(self.groups))


def ranked(found: Outcomes) -> Ranked:
    """Rank rows by confidence; the order in which they come does not matter."""
    groups, group_R = np.unique(found.posts, return_inverse=True)
    _, block_R = np.unique(-found.confidence_R, return_inverse=True)
    order = np.argsort(block_R, kind="stable")
    sizes = np.bincount(group_R, minlength=len(groups)).astype(np.float64)
    empty = np.zeros(0)
    return Ranked(empty, empty, group_R[order], block_R[order], 1 - found.right_R[order], sizes)


def area_under_risk(totals: Ranked) -> Counts:
    """AURC, [...]: the mean over k of the risk among the k surest rows."""
    return _area(totals.rows, totals.errors)


def excess_area(totals: Ranked) -> Counts:
    """AURC less that of the ordering with all errors last, [...]."""
    wrong = totals.errors.sum(axis=-1)
    right = totals.rows.sum(axis=-1) - wrong
    best = _area(np.stack([right, wrong], axis=-1), np.stack([np.zeros_like(wrong), wrong], axis=-1))
    return np.maximum(_area(totals.rows, totals.errors) - best, 0.0)


def accuracy_at_coverage(totals: Ranked) -> Counts:
    """The share of right rows among the surest, a share of `COVERAGE` of all, rounded up, [...]."""
    count = np.ceil(COVERAGE * totals.rows.sum(axis=-1) - 1e-9)
    return 1 - _errors_among(totals, count) / count


def selective(found: Outcomes, settings: IntervalSettings) -> Selective:
    """The figures of at least one row."""
    rows = ranked(found)
    metrics = {"aurc": area_under_risk, "excess_aurc": excess_area, "accuracy_at_80": accuracy_at_coverage}
    return Selective(
        **estimates(rows, metrics, settings),
        risk_coverage=_curve(rows.total(), np.sort(found.confidence_R)[::-1]),
    )


def _curve(totals: Ranked, falling_R: Counts) -> list[CurvePoint]:
    n = len(falling_R)
    counts = sorted({-(-n * part // _POINTS) for part in range(1, _POINTS + 1)})
    return [
        CurvePoint(
            coverage=count / n,
            risk=float(_errors_among(totals, np.asarray(float(count)))) / count,
            threshold=float(falling_R[count - 1]),
        )
        for count in counts
    ]


def _errors_among(totals: Ranked, count: Counts) -> Counts:
    """Errors among the `count` [...] surest rows, on average over the orders of equal ones."""
    before = totals.rows.cumsum(axis=-1) - totals.rows
    taken = np.clip(count[..., None] - before, 0.0, totals.rows)
    share = np.divide(totals.errors, totals.rows, out=np.zeros_like(totals.rows), where=totals.rows > 0)
    return np.asarray((taken * share).sum(axis=-1))


def _area(rows: Counts, errors: Counts) -> Counts:
    """Mean over k of the risk, of blocks [..., K].

    Inside a block of w rows with e errors, behind N rows with E errors, the risk at the j-th row is
    (E + j e / w) / (N + j) on average. Summed over j that is e + (E - N e / w) (H(N + w) - H(N)), where H are harmonic
    numbers.
    """
    n, wrong = rows.cumsum(axis=-1), errors.cumsum(axis=-1)
    n_before, wrong_before = n - rows, wrong - errors
    share = np.divide(errors, rows, out=np.zeros_like(rows), where=rows > 0)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n.max() + 1))])
    steps = np.diff(harmonic[n.astype(np.int64)], axis=-1, prepend=0.0)
    return np.asarray((errors + (wrong_before - n_before * share) * steps).sum(axis=-1) / n[..., -1])
