"""Opens the metrics of explanations by their names: libraries for the ones that count, models for the others."""

import os
from collections.abc import Sequence

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.overlap import FAMILIES
from mentallama_jax.evaluation.pair_metrics import OverlapScores, PairMetric
from mentallama_jax.jobs.metric_models import MODEL_METRICS, MetricModels

METRICS = (*FAMILIES, *MODEL_METRICS)
"""Names of the command line."""


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
