"""The metrics of explanations that need a model, and which models those are. Imports nothing large."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DIRECTIONS_OF_BARTSCORE = ("bartscore", "bartscore_precision", "bartscore_f1", "bartscore_faithfulness")
MODEL_METRICS = (*DIRECTIONS_OF_BARTSCORE, "bertscore", "embedding", "lm")
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
        lm_adapter: the folder of an adapter to merge into it; None merges none.
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
    lm_adapter: Path | None = None
    data: Sequence[str] = ()
