"""Predictions that carry log-probabilities of labels, for tests."""

from collections.abc import Sequence

import numpy as np

from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS


def scored_row(
    number: int,
    sums: Sequence[float] | None,
    gold: int = 0,
    *,
    dataset: str = "DR",
    post: str = "",
    split: str = "test",
) -> Prediction:
    task = TASKS[dataset]
    best = task.labels[int(np.argmax(sums))] if sums is not None else task.labels[0]
    scores = None
    if sums is not None:
        scores = {label: {"sum": float(each), "mean": 0.0} for label, each in zip(task.labels, sums, strict=True)}
    return Prediction(
        id=f"{dataset}/{split}/{number}",
        dataset=dataset,
        split=split,
        post_id=post or f"{split} {number}",
        label=task.labels[gold],
        generated_text=task.sentences[best],
        finish="label",
        label_log_probabilities=scores,
    )


def predictions_of(rows: Sequence[Prediction], generation: dict[str, object] | None = None) -> Predictions:
    return Predictions(tuple(rows), ({"file": "p.jsonl", "sha256": "0"},), generation, "label of each row", True)
