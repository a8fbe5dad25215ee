"""Figures of updates and evaluations on their way to the logs of a run."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.files import write_json
from mentallama_jax.parallel.processes import writes_files
from mentallama_jax.training.data.batches import Batch
from mentallama_jax.training.early_stopping import EarlyStopping
from mentallama_jax.training.progress import Speed, TrainingProgress
from mentallama_jax.training.run.checkpoints import Checkpoints
from mentallama_jax.training.run.disk import naming
from mentallama_jax.training.run.loss_picture import draw_loss_curve
from mentallama_jax.training.run.metrics import MetricsLog
from mentallama_jax.training.run.run_directory import RunDirectory
from mentallama_jax.training.setup import RunData
from mentallama_jax.training.step import Metrics
from mentallama_jax.training.validation import words_on_idling


class Recorder:
    """Reads the figures of an update while the next one is computed; refuses those that are not finite."""

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        data: RunData,
        ids: Sequence[str],
        metrics: MetricsLog,
        progress: TrainingProgress,
    ) -> None:
        self._log_every, self._last = config.training.log_every, data.steps
        self._metric = config.evaluation.metric
        self._run, self._ids, self._metrics, self._progress = run, ids, metrics, progress
        self._speed, self._tokens = Speed(), 0
        self._pending: tuple[Batch, Metrics] | None = None
        self._clock: float | None = None

    def add(self, batch: Batch, figures: Metrics) -> None:
        """Take the figures of an update that was just dispatched, and log those of the one before."""
        self.flush()
        self._pending = (batch, figures)

    def flush(self) -> None:
        """Log the update taken last, waiting for it.

        Raises:
            UserError: its loss or its gradient norm is not finite.
        """
        if self._pending is None:
            return
        (batch, arrays), self._pending = self._pending, None
        figures: dict[str, float] = {name: value.item() for name, value in jax.device_get(arrays).items()}
        if not (math.isfinite(figures["loss"]) and math.isfinite(figures["grad_norm"])):
            self._refuse(batch, figures)
        now = time.monotonic()
        if self._clock is not None:
            self._speed.add(now - self._clock, batch.real_tokens)
        self._clock = now
        self._tokens += batch.real_tokens
        step = batch.step + 1
        if step % self._log_every == 0 or step == self._last:
            figures |= batch.figures
            figures |= {"real_tokens": self._tokens, "pad_share": round(batch.pad_share, 6)}
            self._tokens = 0  # those of the updates since the last line
            if self._speed.known:
                figures["tokens_per_second"] = round(self._speed.tokens_per_second, 1)
            self._metrics.write("train", step, {"epoch": batch.epoch + 1, **figures})
        self._progress.update(step, figures["loss"], figures["learning_rate"], batch.pad_share, self._speed)

    def add_scores(
        self,
        step: int,
        scores: dict[str, float],
        times: dict[str, float],
        checkpoints: Checkpoints,
        early: EarlyStopping,
    ) -> None:
        """Log what an evaluation found and note it for its checkpoint; there are no scores where it was interrupted."""
        self._clock = None  # the next update is left out of the speed: the evaluation took time as well
        if scores:
            self._metrics.write("validation", step, scores | times)
            self._run.publish()
            if step:  # before the first update there is no checkpoint
                checkpoints.add_scores(step, scores)
                early.evaluated(step)
            if writes_files():
                draw_loss_curve(self._run.metrics, self._run.loss_curve, self._metric)
            figures = ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
            self._progress.say(f"after update {step}: {figures}{words_on_idling(times)}")

    @contextmanager
    def compile_time(self, train_step: Any, batch: Batch) -> Iterator[None]:
        """Around a call of the step: say how long it compiled, if it did."""
        before, start = step_compiles(train_step), time.monotonic()
        yield
        if step_compiles(train_step) > before:
            rows, length = batch.arrays["tokens"].shape
            seconds = time.monotonic() - start
            self._progress.say(f"compiled the training step for {rows} rows of {length} tokens in {seconds:.1f} s")
            self._clock = None

    def _refuse(self, batch: Batch, figures: dict[str, float]) -> None:
        ids = [self._ids[example] for example in batch.examples]
        if writes_files():
            with naming(self._run.bad_batch):
                write_json(self._run.bad_batch, {"step": batch.step + 1, "epoch": batch.epoch + 1, "examples": ids})
        listed = self._run.path / self._run.bad_batch.name
        shown = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        raise UserError(
            f"update {batch.step + 1} (epoch {batch.epoch + 1}): loss {figures['loss']}, gradient norm "
            f"{figures['grad_norm']}; its rows: {shown} (all in {listed}). The checkpoints before it are "
            "kept. Look at these rows, or start again in a new training.run_dir with a lower optimizer.learning_rate"
        )


def step_compiles(train_step: Any) -> int:
    """How often a training step was compiled so far."""
    return int(train_step._cache_size())
