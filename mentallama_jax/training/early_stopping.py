"""Ends a run whose figure no longer improves."""

from pathlib import Path

from mentallama_jax.config import RunConfig
from mentallama_jax.parallel.processes import any_says, writes_files
from mentallama_jax.training.run.checkpoints import Checkpoints
from mentallama_jax.training.run.metrics import read_metrics


class EarlyStopping:
    """Counts the evaluations since the best one; a resumed run counts on from its own metrics.

    The process that writes the files counts, and the others ask it: they may see a score later than it is written.
    """

    def __init__(self, config: RunConfig, metrics: Path, checkpoints: Checkpoints) -> None:
        """Look at the evaluations that the run has made."""
        self._patience = config.evaluation.patience
        self._metric = config.evaluation.metric
        self._checkpoints = checkpoints
        self._since_best = 0
        if self._counts and (best := checkpoints.best) is not None:
            steps = [row["step"] for row in read_metrics(metrics) if row["kind"] == "validation"]
            self._since_best = sum(step > best.step for step in steps)

    @property
    def _counts(self) -> bool:
        return self._patience is not None and writes_files()

    def evaluated(self, step: int) -> None:
        """Count the evaluation after `step` updates, whose scores its checkpoint has."""
        if self._counts:
            best = self._checkpoints.best
            self._since_best = 0 if best is None or best.step == step else self._since_best + 1

    def agreed(self) -> bool:
        """Whether the run is to end; the same in all processes, which must ask together."""
        if self._patience is None:
            return False
        self._since_best = any_says(self._since_best if self._counts else 0)
        return self._since_best >= self._patience

    @property
    def reason(self) -> str:
        """Why, for people."""
        return f"{self._metric} was not better in the last {self._since_best} evaluations"
