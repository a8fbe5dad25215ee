"""Is one model's weighted F1 above another's on the same rows?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.correctness import (
    LabelledRow,
    by_dataset,
    label_rows,
    separate_labels,
    sign,
    tally_rows,
)
from mentallama_jax.evaluation.label_readers import LabelReader
from mentallama_jax.evaluation.reading import Predictions
from mentallama_jax.evaluation.statistics.bootstrap import Bootstrap, Difference, paired_bootstrap
from mentallama_jax.evaluation.statistics.f1 import weighted_f1


@dataclass(frozen=True, slots=True)
class Comparison:
    """Weighted F1 of one set of predictions less that of another.

    Attributes:
        datasets: data set -> difference.
        pooled: of all rows together.
        other: signature of the other predictions.
    """

    datasets: dict[str, Difference]
    pooled: Difference
    other: dict[str, Any]


def compare(first: Predictions, second: Predictions, *, reader: str | LabelReader, bootstrap: Bootstrap) -> Comparison:
    """Weighted F1 of `first` less that of `second`, the intervals from the same posts drawn for both.

    Raises:
        UserError: the two do not hold the same rows with the same gold.
    """
    _refuse_other_rows(first, second)
    mine, theirs = (label_rows(sorted(each.rows, key=lambda row: row.id), reader) for each in (first, second))
    # The posts of `first` count for both: a post drawn is drawn for both.
    theirs = [replace(other, post=row.post) for row, other in zip(mine, theirs, strict=True)]

    def difference(rows: Sequence[LabelledRow], others: Sequence[LabelledRow]) -> Difference:
        return paired_bootstrap(tally_rows(rows), tally_rows(others), weighted_f1, bootstrap)

    others_of = by_dataset(theirs)
    return Comparison(
        datasets={name: difference(rows, others_of[name]) for name, rows in by_dataset(mine).items()},
        pooled=difference(separate_labels(mine), separate_labels(theirs)),
        other=sign(second, reader, bootstrap),
    )


def _refuse_other_rows(first: Predictions, second: Predictions) -> None:
    gold, other_gold = ({row.id: (row.dataset, row.label) for row in each.rows} for each in (first, second))
    name, other = (each.files[0]["file"] for each in (first, second))
    for rows, others, where in ((gold, other_gold, name), (other_gold, gold, other)):
        only = sorted(rows.keys() - others.keys())
        if only:
            what = f"{len(only)} rows, such as {only[0]}, are only in {where}"
            raise UserError(f"{name} and {other} cannot be compared: {what}; generate both from the same records")
    differing = sorted(row for row in gold if gold[row] != other_gold[row])
    if differing:
        what = f"the gold of {len(differing)} rows, such as {differing[0]}, differs"
        raise UserError(f"{name} and {other} cannot be compared: {what}; generate both from the same records")
