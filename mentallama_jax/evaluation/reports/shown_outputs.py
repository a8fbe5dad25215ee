"""Outputs that a report may show: a few of each data set that were read wrong or not at all.

They stand in `examples.json` only where somebody asked for them, and masked unless they were asked for raw.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mentallama_jax.evaluation.correctness import label_rows
from mentallama_jax.evaluation.label_readers import LabelReader
from mentallama_jax.evaluation.reports.masking import masked
from mentallama_jax.evaluation.reports.systems import EXAMPLES
from mentallama_jax.files import write_json
from mentallama_jax.imhi.predictions import Prediction

_A_DATASET = 5
_LONGEST = 1200


def choose_examples(rows: Sequence[Prediction], reader: str | LabelReader, *, raw: bool) -> list[dict[str, str]]:
    """The first wrong outputs of each data set by their ids, unread ones before those read wrong.

    Args:
        rows: predictions.
        reader: what reads labels.
        raw: whether to leave texts as they are.
    """
    wrong = [
        (row, labelled)
        for row, labelled in zip(rows, label_rows(rows, reader), strict=True)
        if labelled.gold != labelled.predicted
    ]
    wrong.sort(key=lambda pair: (not pair[1].unparsed, pair[0].id))
    taken: dict[str, int] = {}
    found = []
    for row, labelled in wrong:
        taken[row.dataset] = taken.get(row.dataset, 0) + 1
        if taken[row.dataset] <= _A_DATASET:
            text = row.generated_text.strip()
            text = text if raw else masked(text)
            cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
            gold = f"{labelled.gold} ({row.aspect})" if row.aspect else labelled.gold
            found.append({"dataset": row.dataset, "gold": gold, "read": labelled.predicted, "text": cut})
    return sorted(found, key=lambda each: each["dataset"])


def write_examples(folder: Path, examples: Iterable[dict[str, str]] | None) -> list[Path]:
    """Write `examples.json`; None removes one that an earlier evaluation left, as it belongs to other scores."""
    path = folder / EXAMPLES
    if examples is None:
        path.unlink(missing_ok=True)
        return []
    write_json(path, {"examples": list(examples)})
    return [path]
