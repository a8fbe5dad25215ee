"""Ends a run whose figure no longer improves."""

from pathlib import Path

from mentallama_jax.config import RunConfig
from mentallama_jax.parallel.processes import any_says, writes_files
from mentallama_jax.training.run.checkpoints import Checkpoints
from mentallama_jax.training.run.metrics import read_metrics


class EarlyStopping:
    """Counts the evaluations since the best one; a resumed run counts on from its own metrics."""

    def __init__(self, config: RunConfig, metrics: Path, checkpoints: Checkpoints) -> None:
        """Look at the evaluations that the run has made; all processes must do so together."""
        self._patience = config.evaluation.patience
        self._metric = config.evaluation.metric
        self._checkpoints = checkpoints
        best = checkpoints.best
        steps = [row["step"] for row in _evaluations(metrics)] if best is not None and writes_files() else []
        self._since_best = any_says(sum(step > best.step for step in steps) if best is not None else 0)

    def evaluated(self, step: int) -> None:
        """Count the evaluation after `step` updates, whose scores its checkpoint has."""
        best = self._checkpoints.best
        self._since_best = 0 if best is None or best.step == step else self._since_best + 1

    @property
    def due(self) -> bool:
        """Whether the run is to end."""
        return self._patience is not None and self._since_best >= self._patience

    @property
    def reason(self) -> str:
        """Why, for people."""
        return f"{self._metric} was not better in the last {self._since_best} evaluations"


def _evaluations(metrics: Path) -> list[dict[str, int]]:
    return [row for row in read_metrics(metrics) if row["kind"] == "validation"]
