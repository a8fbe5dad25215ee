"""Whether probabilities mean what they say: expected calibration error with its bins, Brier score, log loss.

The expected calibration error (ECE) looks at the likeliest label: rows are put into bins by its probability, and in
each bin the mean probability is compared with the share of right rows. Bins hold equally many rows ("equal mass"):
models are sure of most answers, and bins of equal width would stand almost all rows in the last one and none in
others. Rows with one probability stay in one bin, so the order of rows does not matter, and a bin that holds none does
not exist. There are 10 bins, or fewer, so that each has 10 rows.

ECE is never below 0, so chance alone lifts it: a perfectly calibrated model has an ECE above 0 too, the more so the
fewer rows there are. What it would have on these rows is given beside the figure (`ece_if_calibrated`): an ECE near it
shows nothing. The figure is too high by at most that, so the lower end of its interval is set lower by as much. Brier
score and log loss do not have this bias.

Shape suffixes: R rows, G posts, B bins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from mentallama_jax.evaluation.statistics.estimates import Estimate, estimates, mean_estimates
from mentallama_jax.evaluation.statistics.f1 import Counts
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, row_scores
from mentallama_jax.evaluation.trust.label_probabilities import Outcomes

MOST_BINS = 10
ROWS_A_BIN = 10
_NO_WIDTH = 1e-12


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Rows of similar confidence: a point of the reliability diagram.

    Attributes:
        lowest: confidence in the bin.
        highest: confidence in the bin.
        rows: in the bin.
        confidence: the mean.
        right: the share of right rows.
    """

    lowest: float
    highest: float
    rows: int
    confidence: float
    right: Estimate


@dataclass(frozen=True, slots=True)
class Reliability:
    """Figures of calibration.

    Attributes:
        ece: expected calibration error, 0 to 1.
        ece_if_calibrated: what it would be on average if every probability were true and rows independent.
        brier: mean of the squared differences summed over labels, 0 to 2.
        log_loss: mean of -log P(gold label), nats.
        confidence: mean probability of the likeliest label.
        accuracy: share of rows whose likeliest label is right.
        bins: of the ECE, by rising confidence.
    """

    ece: Estimate
    ece_if_calibrated: float
    brier: Estimate
    log_loss: Estimate
    confidence: Estimate
    accuracy: Estimate
    bins: list[ReliabilityBin]


@dataclass(frozen=True, slots=True)
class BinGaps:
    """Sums of (right - confidence) by bin, [G, B] by post or [..., B] of totals: an `intervals.PostSums`."""

    gaps: Counts
    rows: Counts
    bounds: tuple[float, float] = (0.0, 1.0)
    """The lowest and the highest expected calibration error there can be."""

    @property
    def groups(self) -> int:
        """The number of posts."""
        return int(self.rows.shape[0])

    @property
    def sizes(self) -> Counts:
        """The rows of each post, [G]."""
        return self.rows

    def weighed(self, weights: Counts) -> "BinGaps":
        """The totals when each post counts `weights` [..., G] times."""
        return BinGaps(weights @ self.gaps, weights @ self.rows)

    def total(self) -> "BinGaps":
        """The totals when each post counts once."""
        return BinGaps(self.gaps.sum(axis=0), self.rows.sum(axis=0))


def expected_calibration_error(gaps: BinGaps) -> Counts:
    """Mean over rows of the distance of confidence and accuracy in the row's bin, [...]."""
    return np.abs(gaps.gaps).sum(axis=-1) / gaps.rows


def equal_mass_bins(confidence_R: Counts) -> NDArray[np.int64]:
    """The bin of each row, from 0, none of them empty; rows with equal confidence share a bin."""
    count = min(MOST_BINS, max(1, len(confidence_R) // ROWS_A_BIN))
    _, first_R, number_R, size = np.unique(confidence_R, return_index=True, return_inverse=True, return_counts=True)
    del first_R
    middle = np.cumsum(size) - size / 2
    bin_R = np.minimum((middle / len(confidence_R) * count).astype(np.int64), count - 1)[number_R]
    return np.unique(bin_R, return_inverse=True)[1]


def reliability(found: Outcomes, settings: IntervalSettings) -> Reliability:
    """The figures of at least one row."""
    bin_R = equal_mass_bins(found.confidence_R)
    count = int(bin_R.max()) + 1
    variance_B = np.bincount(bin_R, found.confidence_R * (1 - found.confidence_R), count)
    bounds = {"brier": (0.0, 2.0), "log_loss": (0.0, np.inf), "confidence": (0.0, 1.0), "accuracy": (0.0, 1.0)}
    values = (found.brier_R, found.log_loss_R, found.confidence_R, found.right_R)
    sums = {
        name: row_scores(value_R.tolist(), found.posts, bounds[name])
        for name, value_R in zip(bounds, values, strict=True)
    }
    # The mean distance from its mean of a normal variable.
    by_chance = float(np.sqrt(2 / np.pi * variance_B).sum() / len(bin_R))
    return Reliability(
        ece=_ece(_gaps(found, bin_R, count), by_chance, settings),
        ece_if_calibrated=by_chance,
        **mean_estimates(sums, settings),
        bins=[_bin(found, np.flatnonzero(bin_R == number), settings) for number in range(count)],
    )


def _ece(sums: BinGaps, by_chance: float, settings: IntervalSettings) -> Estimate:
    """ECE with the interval of Student's t over posts, its lower end set lower by what chance alone would give.

    Where no post differs from the others, the interval is exact.
    """
    total = sums.total()
    value = float(expected_calibration_error(total))
    share_G = (sums.gaps @ np.sign(total.gaps) - value * sums.rows) / total.rows
    if sums.groups < 2 or np.ptp(share_G) < _NO_WIDTH:
        return estimates(sums, {"ece": expected_calibration_error}, settings)["ece"]
    variance = sums.groups / (sums.groups - 1) * float((share_G**2).sum())
    reach = float(stdtrit(sums.groups - 1, (1 + settings.confidence) / 2)) * np.sqrt(variance)
    return Estimate(value, (max(0.0, value - reach - by_chance), min(1.0, value + reach)), "t")


def _bin(found: Outcomes, places: NDArray[np.int64], settings: IntervalSettings) -> ReliabilityBin:
    confidence = found.confidence_R[places]
    right = row_scores(found.right_R[places].tolist(), [found.posts[place] for place in places])
    return ReliabilityBin(
        lowest=float(confidence.min()),
        highest=float(confidence.max()),
        rows=len(places),
        confidence=float(confidence.mean()),
        **mean_estimates({"right": right}, settings),
    )


def _gaps(found: Outcomes, bin_R: NDArray[np.int64], count: int) -> BinGaps:
    groups, group_R = np.unique(found.posts, return_inverse=True)
    shape = (len(groups), count)
    flat_R = group_R * count + bin_R
    gaps = np.bincount(flat_R, found.right_R - found.confidence_R, shape[0] * shape[1]).reshape(shape)
    return BinGaps(gaps.astype(np.float64), np.bincount(group_R, minlength=len(groups)).astype(np.float64))
