"""What is compared, an output beside its reference, and what a metric of such pairs offers."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

from mentallama_jax.evaluation.overlap import overlap_metrics, score_in_processes

Unit = Literal["share", "nats"]
UNITS: Mapping[str, Unit] = {unit: unit for unit in get_args(Unit)}

ResponsePart = Literal["response", "explanation"]
PARTS: tuple[ResponsePart, ...] = ("response", "explanation")


@dataclass(frozen=True, slots=True)
class Pair:
    """An output beside its reference; both may be empty."""

    id: str
    dataset: str
    post: str
    output: str
    reference: str

    @property
    def content(self) -> str:
        """A key that changes with anything that a score can depend on: the row and both texts."""
        joined = "\0".join((self.id, self.output, self.reference))
        return hashlib.sha256(joined.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a metric gives for a pair.

    Attributes:
        name: of the figure.
        signature: how it is computed; equal signatures and pairs mean equal numbers.
        unit: "share" of 1, shown in %, or "nats", the natural logarithm of a probability.
        bounds: the lowest and the highest score there can be; infinite where there is none.
        corpus: counts of rows -> the figure of all rows together, where the metric has one of its own.
    """

    name: str
    signature: str
    unit: Unit = "share"
    bounds: tuple[float, float] = (0.0, 1.0)
    corpus: Callable[[Sequence[Sequence[float]]], float] | None = None


class Score(NamedTuple):
    """A number for a pair, and the counts that `Figure.corpus` reads."""

    value: float
    counts: Sequence[float] = ()


class PairMetric(Protocol):
    """A metric, or several that are computed together."""

    @property
    def figures(self) -> Sequence[Figure]:
        """The numbers that it gives for each pair."""

    @property
    def empty_score(self) -> float | None:
        """The score of an empty output; None where the metric computes one."""

    def scores(self, pairs: Sequence[Pair]) -> Iterator[dict[int, tuple[Score, ...]]]:
        """Score pairs that have a reference.

        Yields:
            Place among `pairs` -> the numbers of its figures, for some pairs at a time.
        """


class OverlapScores:
    """The metrics of some of `overlap.FAMILIES`; see `PairMetric`."""

    empty_score = None  # the libraries give 0

    def __init__(self, families: Sequence[str], processes: int = 1) -> None:
        """Load the libraries.

        Args:
            families: words of the command line.
            processes: that score rows side by side, where there are many.

        Raises:
            UserError: no such family, or the extra is not installed.
        """
        found = overlap_metrics(families)
        self.figures = [Figure(metric.name, metric.signature, corpus=metric.corpus) for metric in found]
        self._families, self._processes = list(families), processes

    def scores(self, pairs: Sequence[Pair]) -> Iterator[dict[int, tuple[Score, ...]]]:
        """See `PairMetric`."""
        texts = [(pair.output, pair.reference) for pair in pairs]
        for place, found in enumerate(score_in_processes(self._families, texts, self._processes)):
            yield {
                place: tuple(
                    Score(found.scores[figure.name], found.statistics.get(figure.name, ())) for figure in self.figures
                )
            }
