"""What a run that learns from its own answers needs beside the loop: log-probabilities, start weights, what it watches.

A reward can rise while answers get worse. So each evaluation answers held-out records and reports, beside the rewards,
the F1 of labels, answers without a label, their length, and how far the model has moved from where it began.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from mentallama_jax.config import GrpoSection, RunConfig
from mentallama_jax.evaluation.correctness import label_rows, pooled_f1
from mentallama_jax.evaluation.label_readers import RULES
from mentallama_jax.evaluation.rewards import Rewards
from mentallama_jax.imhi.predictions import answer_to
from mentallama_jax.imhi.records import Record
from mentallama_jax.models.module import Params, merge_params
from mentallama_jax.training.agreed_rewards import agreed_rewards
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, SAMPLED_ANSWERS
from mentallama_jax.training.data.packing import pack_rows
from mentallama_jax.training.data.rollouts import SampledAnswer, Sampler, fill_answers, reward_means
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.mesh_placement import held_part, place_batch
from mentallama_jax.training.objectives.policy import Policy
from mentallama_jax.training.step import TrainState, model_params
from mentallama_jax.training.validation import Evaluator


@dataclass(frozen=True, slots=True)
class PolicyTools:
    """What sampling asks of the rooms above.

    Attributes:
        sampler: answers records.
        rewards: judge the answers.
    """

    sampler: Sampler
    rewards: Rewards


class AnswerLogProbabilities:
    """Log-probabilities of sampled answers by the very computation of the objective."""

    def __init__(self, objective: Policy, mesh: Mesh) -> None:
        """Take the objective and the mesh of all devices."""
        self._mesh, self._rows = mesh, objective.config.training.micro_batch_rows
        whole = NamedSharding(mesh, PartitionSpec())
        self._compute = jax.jit(objective.log_probabilities, out_shardings=whole)

    def __call__(self, params: Params, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Float32 [rows, T], nats, at the positions that predict tokens which are learnt; else 0."""
        own = held_part(arrays, self._rows, self._mesh)
        placed = place_batch(own, self._rows, self._mesh, SAMPLED_ANSWERS)
        found = np.zeros(arrays["tokens"].shape, np.float32)
        for number in range(int(arrays[MICRO_BATCHES])):
            micro = {name: value[number] for name, value in placed.items() if name != MICRO_BATCHES}
            found[number * self._rows : (number + 1) * self._rows] = np.asarray(self._compute(params, micro))
        return found


class StartWeights:
    """Gives the weights that a run starts from, as often as they are asked for.

    Of a run that trains an adapter they are the frozen ones of the moment and the first adapter: no second model.
    """

    def __init__(self, load: Callable[[], Params], config: RunConfig) -> None:
        """Take what reads all of them, which is not called where there is an adapter."""
        assert isinstance(config.objective, GrpoSection)
        self._load = load
        # The loss asks for them at every update; an evaluation alone does not keep a second model.
        self._keeps = config.objective.beta > 0
        self._held: Params | None = None
        self._frozen: Callable[[], Params] | None = None

    def beside(self, adapter: Params, frozen: Callable[[], Params]) -> None:
        """Take the first adapter, and what gives the frozen weights of the moment."""
        self._held, self._frozen = jax.tree.map(jnp.copy, adapter), frozen  # an update gives its buffers away

    def __call__(self) -> Params:
        """All parameters of the model."""
        if self._frozen is not None:
            assert self._held is not None
            return merge_params(self._held, self._frozen())
        if self._held is not None:
            return self._held
        params = self._load()
        if self._keeps:
            self._held = params
        return params


class PolicyWatch:
    """Figures of held-out records: of answers sampled as in training, and of greedy ones."""

    def __init__(
        self,
        config: RunConfig,
        tools: PolicyTools,
        records: Sequence[Record],
        log_probabilities: AnswerLogProbabilities,
        start: Callable[[], Params],
        stop: StopRequest,
    ) -> None:
        """Take what measures; `start` gives the weights that the run starts from."""
        self._config, self._tools, self._records, self._stop = config, tools, records, stop
        self._compute, self._start = log_probabilities, start
        assert isinstance(config.objective, GrpoSection)
        self._temperature = config.objective.temperature
        self._measured: tuple[int, dict[str, float]] | None = None

    @property
    def evaluators(self) -> list[Evaluator]:
        """One for each figure; all are measured together."""
        names = ["reward", *(f"rewards/{name}" for name in self._tools.rewards.functions)]
        return [Evaluator(name, self._reader(name)) for name in [*names, "label_f1", "unparsed", "answer_tokens", "kl"]]

    def _reader(self, name: str) -> Callable[[TrainState, int], float | None]:
        def read(state: TrainState, step: int) -> float | None:
            figures = self._all(state, step)
            return None if figures is None else figures[name]

        return read

    def _all(self, state: TrainState, step: int) -> dict[str, float] | None:
        if self._measured is not None and self._measured[0] == step:
            return self._measured[1]
        params, names = model_params(state), [f"held-out/{record.id}" for record in self._records]
        sampled = self._tools.sampler(params, self._records, names, 1, temperature=self._temperature)
        if self._stop.agreed():
            return None
        greedy = self._tools.sampler(params, self._records, names, 1, temperature=0)
        if self._stop.agreed():
            return None
        rewards = self._tools.rewards
        values_AR = agreed_rewards(rewards, self._records, [answer.text for answer in sampled])
        rows = [answer_to(record, answer.text) for record, answer in zip(self._records, greedy, strict=True)]
        stated = label_rows(rows, RULES)
        figures = {
            **reward_means(rewards, values_AR, rewards.totals(values_AR)),
            "label_f1": pooled_f1(stated),
            "unparsed": float(np.mean([row.unparsed for row in stated])),
            "answer_tokens": float(np.mean([len(answer.tokens) for answer in greedy])),
            "kl": self._divergence(params, sampled),
        }
        self._measured = (step, figures)
        return figures

    def _divergence(self, params: Params, answers: Sequence[SampledAnswer]) -> float:
        """The mean over tokens of sampled answers of an estimate (k3) of the divergence from the start, in nats."""
        micro = self._config.training.micro_batch_rows
        sizes = np.array([len(answer.prompt) + len(answer.tokens) for answer in answers], np.int64)
        packed = pack_rows(sizes, self._config.data.max_length)
        arrays = SAMPLED_ANSWERS.empty(-(-len(packed) // micro) * micro, self._config.data.max_length)
        learnt = np.zeros(arrays["tokens"].shape, np.bool_)
        for _, row, begun, end in fill_answers(arrays, packed, answers):
            learnt[row, begun - 1 : end - 1] = True
        arrays[MICRO_BATCHES] = np.array(-(-len(packed) // micro), np.int32)
        now, start = self._compute(params, arrays), self._compute(self._start(), arrays)
        gaps = (start - now)[learnt].astype(np.float64)
        return float(np.mean(np.exp(gaps) - gaps - 1)) if len(gaps) else 0.0
