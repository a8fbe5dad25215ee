"""A transfer matrix: models, each trained on one data set, scored on the test rows of all."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mentallama_jax.evaluation.correctness import DatasetScores, Scores

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class TransferCell:
    """How a model does on the test rows of a data set; shares are fractions of 1.

    Attributes:
        own: whether the model was trained on this data set.
        weighted_f1: over all rows, aspects pooled.
        weighted_f1_interval: over posts.
        majority_weighted_f1: that of always answering the commonest label of these rows.
        rows: of the test.
        unparsed: rows whose answer states no label.
    """

    own: bool
    weighted_f1: float
    weighted_f1_interval: tuple[float, float]
    majority_weighted_f1: float
    rows: int
    unparsed: int


@dataclass(frozen=True, slots=True)
class TransferMatrix:
    """What models learn for other data sets.

    Attributes:
        tested_on: the data sets, in the order of the columns.
        cells: name of a model -> data set -> its figures.
        trained_on: name of a model -> the data sets that it was trained on.
        confidence: of the intervals.
        signature: how models were trained and answers made.
    """

    tested_on: tuple[str, ...]
    cells: Mapping[str, Mapping[str, TransferCell]]
    trained_on: Mapping[str, tuple[str, ...]]
    confidence: float
    signature: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The content of `transfer.json`."""
        return {"schema_version": SCHEMA_VERSION, "metric": "weighted_f1", **asdict(self)}

    def means(self, name: str) -> tuple[float | None, float | None]:
        """The mean weighted F1 of a model over the data sets that it was trained on, and over the others."""
        found = []
        for own in (True, False):
            values = [cell.weighted_f1 for cell in self.cells[name].values() if cell.own == own]
            found.append(sum(values) / len(values) if values else None)
        return found[0], found[1]


def transfer_matrix(
    scores: Mapping[str, Scores],
    trained_on: Mapping[str, Sequence[str]],
    tested_on: Sequence[str],
    confidence: float,
    signature: Mapping[str, Any],
) -> TransferMatrix:
    """Arrange the scores of models as a matrix.

    Args:
        scores: name of a model -> its scores on the same test rows.
        trained_on: name of a model -> its data sets.
        tested_on: the data sets of the test rows, in the order of the columns.
        confidence: of the intervals.
        signature: how it all was made.
    """
    cells = {
        name: {dataset: _cell(found.datasets[dataset], dataset in trained_on[name]) for dataset in tested_on}
        for name, found in scores.items()
    }
    of_models = {name: tuple(datasets) for name, datasets in trained_on.items()}
    return TransferMatrix(tuple(tested_on), cells, of_models, confidence, signature)


def _cell(found: DatasetScores, own: bool) -> TransferCell:
    return TransferCell(
        own, found.weighted_f1, found.weighted_f1_interval, found.majority_weighted_f1, found.n, found.unparsed
    )
