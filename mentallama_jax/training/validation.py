"""What is measured between updates, as a list of evaluators: the validation loss, and the F1 of answers or classes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh
from numpy.typing import NDArray

from mentallama_jax.config import DocumentsSection, RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.statistics.f1 import tally_of_confusion, weighted_f1
from mentallama_jax.imhi.records import Record
from mentallama_jax.models.adapters import merged_params
from mentallama_jax.models.module import Params
from mentallama_jax.training.data.batches import Batch, evaluation_batches
from mentallama_jax.training.data.examples import Examples
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.mesh_placement import held_rows, place_batch
from mentallama_jax.training.objectives.classification import CONFUSION, Classification
from mentallama_jax.training.objectives.objective import Objective
from mentallama_jax.training.objectives.preference import Preference
from mentallama_jax.training.step import TrainState, make_eval_step, model_params

_LARGEST_LOSS = 690.0
LabelF1 = Callable[[Params, Sequence[Record]], float]
"""Answers records by generation and returns the weighted F1 of their labels, pooled over data sets."""


@runtime_checkable
class Clocked(Protocol):
    """What knows the times of its last measurement."""

    def clock(self) -> dict[str, float]:
        """Return them by name."""


class Evaluator(NamedTuple):
    """One figure of a state of training; `config.HIGHER_IS_BETTER` has those that may choose a checkpoint.

    Attributes:
        name: of the figure.
        measure: (state, updates done) -> the figure; None where it was asked to stop before it was known.
        clock: the times that the last measurement took, by name; they are logged, and belong to no comparison.
    """

    name: str
    measure: Callable[[TrainState, int], float | None]
    clock: Callable[[], dict[str, float]] = dict


def make_evaluators(
    config: RunConfig,
    objective: Objective,
    examples: Examples,
    label_f1: LabelF1 | None,
    stop: StopRequest,
    mesh: Mesh,
) -> list[Evaluator]:
    """The evaluators that a run asks for, in the order in which they measure; each takes the same rows every time.

    Raises:
        ValueError: the config asks for `label_f1` and there is no function for it.
    """
    found = []
    if examples.validation is not None:
        rows, length = config.training.micro_batch_rows, config.data.max_length
        batches = evaluation_batches(examples.validation, rows, length, held=held_rows(mesh, rows))
        loss = ValidationLoss(objective, batches, rows, stop, mesh)
        found.append(Evaluator("validation_loss", loss))
        if isinstance(objective, Classification):
            found.append(Evaluator("weighted_f1", ClassF1(loss, objective.groups)))
        if isinstance(objective, Preference) and objective.compares:
            for name in ("rewards/accuracies", "rewards/margins"):
                found.append(Evaluator(name, MeanOfSum(loss, name)))
        if isinstance(config.objective, DocumentsSection):
            assert examples.validation.text_bytes
            found.append(Evaluator("perplexity", Perplexity(loss)))
            bits = int(examples.validation.target_counts.sum()) / examples.validation.text_bytes / math.log(2)
            found.append(Evaluator("bits_per_byte", Perplexity(loss, bits)))
    if examples.to_answer:

        def merged(state: TrainState) -> Params:
            return merged_params(objective.model, model_params(state))

        if label_f1 is None:
            raise ValueError("evaluation.generate_rows needs a label_f1 function")
        clock = label_f1.clock if isinstance(label_f1, Clocked) else dict
        found.append(Evaluator("label_f1", lambda state, _: label_f1(merged(state), examples.to_answer), clock))
    return found


def before_and_after(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What training on documents did to held-out text, for people, from the lines of `metrics.jsonl`."""
    measured = [row for row in rows if row["kind"] == "validation" and "perplexity" in row]
    if not measured or measured[0]["step"]:
        return []
    first, last = measured[0], measured[-1]
    return [
        f"held-out text: {name} {first[key]:.4f} before the first update, {last[key]:.4f} after update {last['step']}"
        for key, name in (("perplexity", "perplexity"), ("bits_per_byte", "bits per byte"))
    ]


def measure_all(evaluators: Sequence[Evaluator], state: TrainState, step: int, stop: StopRequest) -> dict[str, float]:
    """The figures of the state after `step` updates; none where it was asked to stop before all were known.

    Raises:
        UserError: the validation loss is not finite.
    """
    scores: dict[str, float] = {}
    for evaluator in evaluators:
        figure = None if stop else evaluator.measure(state, step)
        if figure is None:
            return {}
        scores[evaluator.name] = figure
    return {} if stop else scores


def clocks(evaluators: Sequence[Evaluator]) -> dict[str, float]:
    """The times of the last measurements."""
    return {name: seconds for evaluator in evaluators for name, seconds in evaluator.clock().items()}


def words_on_idling(times: Mapping[str, float]) -> str:
    """How long the answers of an evaluation took and how idle their places were, behind its figures; "" without any."""
    if "label_f1_idle" not in times:
        return ""
    seconds, idle = times["label_f1_seconds"], times["label_f1_idle"]
    return f" (answered in {seconds:.1f} s; places for answers were idle for {idle:.0%} of it, compiling included)"


class ValidationLoss:
    """The loss of an objective over validation rows, divided by all their targets together."""

    def __init__(
        self, objective: Objective, batches: Sequence[Batch], rows: int, stop: StopRequest, mesh: Mesh
    ) -> None:
        """Take batches of `rows` rows over all hosts; `stop` cuts an evaluation short."""
        self._eval_step = make_eval_step(objective)
        self._batches, self._rows, self._stop, self._mesh = batches, rows, stop, mesh
        self._spec = objective.batch_spec
        self._measured: tuple[int, float, dict[str, NDArray[np.float64]]] | None = None
        self.weight = 0.0

    def further_sums(self, state: TrainState, step: int) -> dict[str, NDArray[np.float64]] | None:
        """The objective's further sums over all rows, of the pass that measures the loss; None where it was cut short.

        Raises:
            UserError: the loss is not finite.
        """
        if (self._measured is None or self._measured[0] != step) and self(state, step) is None:
            return None
        assert self._measured is not None
        return self._measured[2]

    def mean(self, state: TrainState, step: int) -> float | None:
        """The loss after `step` updates, measured once; None where it was cut short.

        Raises:
            UserError: the loss is not finite.
        """
        return self._measured[1] if self._measured is not None and self._measured[0] == step else self(state, step)

    def __call__(self, state: TrainState, step: int) -> float | None:
        """Measure the state after `step` updates, in nats a target; None where it was asked to stop.

        Raises:
            UserError: the loss is not finite.
        """
        sums = []
        for batch in self._batches:
            if self._stop.agreed():
                return None
            arrays = place_batch(batch.arrays, self._rows, self._mesh, self._spec)
            sums.append(self._eval_step(state["params"], state["frozen"], arrays))
        sums = jax.device_get(sums)
        totals = [(float(loss), float(weight)) for (loss, _), weight in sums]
        self.weight = sum(weight for _, weight in totals)
        mean = math.fsum(loss for loss, _ in totals) / self.weight
        if not math.isfinite(mean):
            raise UserError(
                f"after update {step} the validation loss is {mean}; start again in a new "
                "training.run_dir with a lower optimizer.learning_rate"
            )
        extras = [extras for (_, extras), _ in sums]
        self._measured = (
            step,
            mean,
            {name: np.sum([np.asarray(each[name], np.float64) for each in extras], axis=0) for name in extras[0]},
        )
        return mean


class MeanOfSum:
    """One of the objective's further sums over validation rows, divided as the loss is."""

    def __init__(self, loss: "ValidationLoss", name: str) -> None:
        """Take what measures the loss, and the name of the sum."""
        self._loss, self._name = loss, name

    def __call__(self, state: TrainState, step: int) -> float | None:
        """Measure the state after `step` updates; None where it was asked to stop."""
        sums = self._loss.further_sums(state, step)
        return None if sums is None else float(sums[self._name]) / self._loss.weight


class Perplexity:
    """The validation loss in another unit: the exponential of it, or bits for each byte of the text.

    Perplexity depends on the tokenizer, bits per byte do not: they are those of all tokens but the first of each
    document (BOS, where there is one), EOS among them, over the bytes of the texts in UTF-8.
    """

    def __init__(self, loss: "ValidationLoss", factor: float | None = None) -> None:
        """Take what measures the loss, and the factor between nats a token and the unit; None for perplexity."""
        self._loss, self._factor = loss, factor

    def __call__(self, state: TrainState, step: int) -> float | None:
        """Measure the state after `step` updates; None where it was asked to stop."""
        loss = self._loss.mean(state, step)
        if loss is None:
            return None
        # A model that is sure of the wrong token can have a loss whose exponential is no float.
        return math.exp(min(loss, _LARGEST_LOSS)) if self._factor is None else loss * self._factor


class ClassF1:
    """The weighted F1 of the classes that validation texts are taken for; of several data sets the mean of theirs."""

    def __init__(self, loss: ValidationLoss, groups: tuple[int, ...] = ()) -> None:
        """Take what measures the loss: both figures come from one pass. `groups` are those of `Classification`."""
        self._loss, self._groups = loss, groups

    def __call__(self, state: TrainState, step: int) -> float | None:
        """Measure the state after `step` updates; None where it was asked to stop."""
        sums = self._loss.further_sums(state, step)
        return None if sums is None else mean_weighted_f1(sums[CONFUSION], self._groups)


def mean_weighted_f1(confusion_CC: NDArray[np.float64], groups: tuple[int, ...] = ()) -> float:
    """The mean of the weighted F1 of each data set that has rows; the largest does not decide alone.

    Args:
        confusion_CC: rows of each class that were taken for each.
        groups: of each class a number that the classes of its data set share; () where all are of one.
    """
    groups_C = np.array(groups or (0,) * len(confusion_CC))
    parts = [confusion_CC[np.ix_(groups_C == group, groups_C == group)] for group in np.unique(groups_C)]
    return float(np.mean([weighted_f1(tally_of_confusion(part)) for part in parts if part.any()]))
