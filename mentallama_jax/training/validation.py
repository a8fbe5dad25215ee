"""What is measured between updates: the validation loss, and the label F1 of generated answers."""

import math
from collections.abc import Callable, Sequence

import jax
from jax.sharding import Mesh

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.records import Record
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params
from mentallama_jax.training.data.batches import Batch, evaluation_batches
from mentallama_jax.training.data.examples import Examples
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.mesh_placement import held_rows, place_batch
from mentallama_jax.training.step import make_eval_step

LabelF1 = Callable[[Params, Sequence[Record]], float]
"""Answers records by generation and returns the weighted F1 of their labels, pooled over data sets."""


class Validation:
    """The evaluation of a run, the same rows each time."""

    def __init__(
        self,
        config: RunConfig,
        model: LlamaConfig,
        examples: Examples,
        label_f1: LabelF1 | None,
        stop: StopRequest,
        mesh: Mesh,
    ) -> None:
        """Make the batches; `stop` cuts an evaluation short.

        Raises:
            ValueError: the config asks for `label_f1` and there is no function for it.
        """
        if examples.to_answer and label_f1 is None:
            raise ValueError("evaluation.generate_rows needs a label_f1 function")
        self._eval_step = make_eval_step(model, config)
        self._batches: list[Batch] = []
        if examples.validation is not None:
            rows, length = config.training.micro_batch_rows, config.data.max_length
            self._batches = evaluation_batches(examples.validation, rows, length, held=held_rows(mesh, rows))
        self._label_f1 = label_f1
        self._to_answer = examples.to_answer
        self._stop = stop
        self._mesh = mesh
        self._rows = config.training.micro_batch_rows

    def scores(self, params: Params, step: int) -> dict[str, float]:
        """Measure the parameters after `step` updates: `validation_loss` in nats a target token, and `label_f1`.

        Returns:
            The scores; none where it was asked to stop before all were known.

        Raises:
            UserError: the loss is not finite.
        """
        sums = []
        for batch in self._batches:
            if self._stop.agreed():
                return {}
            sums.append(self._eval_step(params, place_batch(batch.arrays, self._rows, self._mesh)))
        totals = [(float(loss), float(count)) for loss, count in jax.device_get(sums)]
        scores = {"validation_loss": math.fsum(loss for loss, _ in totals) / sum(count for _, count in totals)}
        if not math.isfinite(scores["validation_loss"]):
            raise UserError(
                f"after update {step} the validation loss is {scores['validation_loss']}; start again in a new "
                "training.run_dir with a lower optimizer.learning_rate"
            )
        if self._to_answer and self._label_f1 is not None and not self._stop:
            scores["label_f1"] = self._label_f1(params, self._to_answer)
        return {} if self._stop else scores
