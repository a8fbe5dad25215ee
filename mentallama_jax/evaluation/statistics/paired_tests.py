"""Tests of whether two systems differ on the same rows, and Holm's correction for several tests.

Under the null hypothesis it does not matter which system gave which answers to a post. So the answers of a post are
exchanged as a whole, post by post, and the p-value is the share of exchanges with a difference as large as that seen.
For a mean over rows that is the sign-flip test. Where only few posts differ, all exchanges are gone through. Exchanges
with the very difference that was seen count half (mid-p): few posts have few possible differences, and the test would
find hardly any.

Shape suffixes: G posts, D posts in which the systems differ, N exchanges.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from mentallama_jax.evaluation.statistics.f1 import Counts, Tally
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, Sums

PairedTestName = Literal["mcnemar", "exchange, all", "exchange, drawn", "t over posts and seeds"]

MOST_ENUMERATED = 13
"""With more posts that differ, exchanges are drawn."""

_WEIGHTS_AT_ONCE = 2_000_000
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class ExchangeSettings(IntervalSettings):
    """How sure intervals are, and how many exchanges are drawn for a test, from which seed."""

    draws: int = 5000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The two-sided p-value of a test, and which it was."""

    p: float
    test: PairedTestName


def mcnemar(only_first: int, only_second: int) -> PairedTest:
    """The exact test of McNemar, for rows that are independent of each other.

    Args:
        only_first: rows that the first system alone has right.
        only_second: rows that the second alone has right.
    """
    number = only_first + only_second
    p = min(1.0, 2 * float(bdtr(min(only_first, only_second), number, 0.5))) if number else 1.0
    return PairedTest(p, "mcnemar")


def exchange_tests(
    first: Sums, second: Sums, metrics: Mapping[str, Callable[[Sums], Counts]], draws: int, seed: int
) -> dict[str, PairedTest]:
    """Test the difference of each metric by exchanging the answers of posts.

    Args:
        first: counts or sums by post.
        second: those of another system on the same rows, its posts in the same order.
        metrics: name -> function from totals to values [...].
        draws: how many exchanges are drawn where they are too many to go through.
        seed: of the draws.
    """
    places_D = _differing(first, second)
    if not len(places_D):
        return dict.fromkeys(metrics, PairedTest(1.0, "exchange, all"))
    exact = len(places_D) <= MOST_ENUMERATED
    joined = _joined(first, second, places_D)
    seen = {name: abs(_difference(metric, joined, np.zeros((1, len(places_D))))[0]) for name, metric in metrics.items()}
    as_large = dict.fromkeys(metrics, 0.0)
    number = 0
    for exchanged_ND in _all(len(places_D)) if exact else _drawn(len(places_D), draws, seed):
        number += len(exchanged_ND)
        for name, metric in metrics.items():
            beyond = np.abs(_difference(metric, joined, exchanged_ND)) - seen[name]
            as_large[name] += int((beyond > _ROUNDING).sum()) + int((np.abs(beyond) <= _ROUNDING).sum()) / 2
    if exact:
        return {name: PairedTest(count / number, "exchange, all") for name, count in as_large.items()}
    # The answers as they are count as one of the exchanges.
    return {name: PairedTest((count + 0.5) / (number + 1), "exchange, drawn") for name, count in as_large.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, corrected by Holm's step-down procedure."""
    order = np.argsort(p_values, kind="stable")
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def _arrays(sums: Any) -> dict[str, NDArray[np.float64]]:
    values = {field.name: getattr(sums, field.name) for field in fields(sums)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _differing(first: Sums, second: Sums) -> NDArray[np.intp]:
    others = _arrays(second)
    differ = [(value != others[name]).reshape(first.groups, -1).any(axis=1) for name, value in _arrays(first).items()]
    return np.flatnonzero(np.any(differ, axis=0))


def _joined(first: Sums, second: Sums, places_D: NDArray[np.intp]) -> Sums:
    """The posts in which nothing differs as one, then those of the first that differ, then those of the second."""
    others, both = _arrays(second), {}
    for name, value in _arrays(first).items():
        alike = np.delete(value, places_D, axis=0).sum(axis=0, keepdims=True)
        both[name] = np.concatenate([alike, value[places_D], others[name][places_D]])
    return replace(first, **both)  # type: ignore[type-var]


def _difference(metric: Callable[[Sums], Counts], joined: Sums, exchanged_ND: Counts) -> Counts:
    alike_N, kept_ND = np.ones((len(exchanged_ND), 1)), 1 - exchanged_ND
    values = []
    for weights in ([alike_N, kept_ND, exchanged_ND], [alike_N, exchanged_ND, kept_ND]):
        totals = joined.weighed(np.hstack(weights))
        if isinstance(totals, Tally):
            totals = replace(totals, whole=None)  # an exchanged system is a system of its own
        values.append(metric(totals))
    return np.asarray(values[0] - values[1])


def _all(posts: int) -> Iterator[Counts]:
    """All exchanges, but for those that exchange the posts that others leave, and the other way round."""
    numbers = np.arange(2 ** (posts - 1))
    yield (numbers[:, None] >> np.arange(posts) & 1).astype(np.float64)


def _drawn(posts: int, draws: int, seed: int) -> Iterator[Counts]:
    generator = np.random.default_rng(seed)
    step = max(1, _WEIGHTS_AT_ONCE // posts)
    for start in range(0, draws, step):
        yield generator.integers(2, size=(min(step, draws - start), posts)).astype(np.float64)
