"""Opens the metrics of explanations by their names: libraries for the ones that count, models for the others."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.overlap import FAMILIES
from mentallama_jax.evaluation.pair_metrics import OverlapScores, PairMetric

DIRECTIONS_OF_BARTSCORE = ("bartscore", "bartscore_precision", "bartscore_f1", "bartscore_faithfulness")
MODEL_METRICS = (*DIRECTIONS_OF_BARTSCORE, "bertscore", "embedding", "lm")
METRICS = (*FAMILIES, *MODEL_METRICS)
"""Names of the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricModels:
    """Which models the metrics are computed with; each a folder or a hub id.

    Attributes:
        bartscore: a BART, or a T5, with its tokenizer.
        bartscore_weights: a torch file of other weights for it, such as bart_score.pth; None for its own.
        bertscore: a BERT or RoBERTa.
        bertscore_layer: the layer that is compared; None for that of the table.
        bertscore_idf: whether tokens weigh by how rare they are among the references.
        bertscore_rescale: whether the English baseline of the model becomes 0.
        embedding: an encoder of sentences, whose tokens' mean counts.
        lm: a model as `jobs.open_model` opens it; None where no such metric is asked for.
        data: sources of the questions and posts, matched by the ids of rows.
    """

    bartscore: str = "facebook/bart-large-cnn"
    bartscore_weights: Path | None = None
    bertscore: str = "FacebookAI/roberta-large"
    bertscore_layer: int | None = None
    bertscore_idf: bool = False
    bertscore_rescale: bool = False
    embedding: str = "sentence-transformers/all-MiniLM-L6-v2"
    lm: str | None = None
    data: Sequence[str] = ()


def open_metrics(names: Sequence[str], models: MetricModels, references: Sequence[str]) -> list[PairMetric]:
    """Open metrics, the cheapest first; jax is imported only for those that need a model.

    Args:
        names: of `METRICS`.
        models: of those that need one.
        references: all gold texts, for idf.

    Raises:
        UserError: an unknown name, a missing extra, or a model that cannot be opened.
    """
    names = list(dict.fromkeys(names))
    if unknown := [name for name in names if name not in METRICS]:
        raise UserError(f"--metrics {unknown[0]}: there are: {', '.join(METRICS)}")
    found: list[PairMetric] = []
    if families := [name for name in names if name in FAMILIES]:
        found.append(OverlapScores(families, os.cpu_count() or 1))
    if any(name in MODEL_METRICS for name in names):
        from mentallama_jax.jobs.open_scorers import open_model_metrics

        found += open_model_metrics([name for name in names if name in MODEL_METRICS], models, references)
    return found
