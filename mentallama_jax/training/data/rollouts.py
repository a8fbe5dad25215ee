"""The batches of a run that learns from its own answers: sampled from the weights of the moment, rewarded, packed.

What is sampled depends on the weights, the seed and the number of the update alone, so a checkpoint that holds the
weights and that number is enough to sample the same answers again. Several processes sample together and all have every
answer; each gives the devices its own rows. Where several updates are made from the same answers
(`objective.num_iterations`), a checkpoint between them holds the batch itself, as its weights are gone.
"""

import base64
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.config import GrpoSection, RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.rewards import Rewards
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.records import Record
from mentallama_jax.models.module import Params
from mentallama_jax.training.agreed_rewards import agreed_rewards
from mentallama_jax.training.data.advantages import advantages, deviations
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, SAMPLED_ANSWERS
from mentallama_jax.training.data.batches import Batch
from mentallama_jax.training.data.packing import pack_rows
from mentallama_jax.training.objectives.policy_losses import answer_weights

_DAMAGED = "the checkpoint's sampled answers are damaged; resume from an earlier checkpoint"


@dataclass(frozen=True, slots=True)
class SampledAnswer:
    """An answer of the model that is tuned.

    Attributes:
        prompt: tokens.
        tokens: of the answer, the end token included where there is one.
        ended: whether it ended by itself, before the limit.
        text: of the answer.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    ended: bool
    text: str


class Sampler(Protocol):
    """Answers records with given weights."""

    def __call__(
        self, params: Params, records: Sequence[Record], names: Sequence[str], count: int, *, temperature: float
    ) -> list[SampledAnswer]:
        """Return `count` answers to each record, side by side.

        Args:
            params: of the whole model.
            records: what is asked.
            names: of the records; with the seed of the run they decide what is drawn.
            count: answers to each.
            temperature: of sampling; 0 takes the likeliest tokens.
        """


Computes = Callable[[Params, Mapping[str, NDArray[Any]]], NDArray[np.float32]]
"""(parameters, arrays of a batch) -> log-probabilities [rows, T] of the tokens that are learnt, where they stand."""


class PolicyData:
    """The batches of a run, by update; see `batches.BatchSource`.

    Attributes:
        steps: updates of the whole run.
        rows: rows of a batch, a multiple of `training.micro_batch_rows`.
        row_lengths: the one row length.
        epoch_ends: updates after which every prompt was asked once more.
        pad_share: 0: padding is not known before answers are.
    """

    pad_share = 0.0

    def __init__(
        self,
        records: Sequence[Record],
        config: RunConfig,
        sampler: Sampler,
        rewards: Rewards,
        log_probabilities: Computes,
        start: Callable[[], Params],
        held: Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]] = dict,
    ) -> None:
        """Plan which prompts are asked when.

        Args:
            records: the prompts.
            config: the run.
            sampler: answers them.
            rewards: judge the answers.
            log_probabilities: of the objective.
            start: gives the weights that the run starts from, as often as they are needed.
            held: of whole arrays, the rows that the devices of this process hold.
        """
        assert isinstance(config.objective, GrpoSection)
        self._records, self._config, self._objective = records, config, config.objective
        self._sample, self._rewards, self._compute, self._start = sampler, rewards, log_probabilities, start
        self._held_part = held
        self._prompts = config.training.batch_size // config.objective.num_generations
        self._repeats = config.objective.num_iterations
        epoch = Fraction(len(records) * self._repeats, self._prompts)  # updates
        self.steps = config.training.steps or _updates(epoch, config.training.epochs or 1)
        self.epoch_ends = [ceil(epoch * n) for n in range(1, floor(self.steps / epoch) + 1)]
        micro = config.training.micro_batch_rows
        self.rows = -(-config.training.batch_size // micro) * micro
        self.row_lengths = (config.data.max_length,)
        self._orders: dict[int, NDArray[np.int64]] = {}
        self._current: dict[str, Any] | None = None
        self.weights: Callable[[], Params] | None = None

    def epoch_of(self, step: int) -> int:
        """The epoch that the first prompt of the update after `step` updates belongs to, from 0."""
        return step // self._repeats * self._prompts // len(self._records)

    def state(self, step: int) -> dict[str, Any]:
        """The place after `step` updates; between updates from the same answers, with the batch."""
        if step % self._repeats == 0 or self._current is None:
            return {"step": step}
        return {"step": step, "batch": _packed(self._current)}

    def iterate(self, state: Mapping[str, Any]) -> Generator[Batch, None, None]:
        """Sample and yield batches, each from the weights of the moment, which `weights` gives.

        Raises:
            UserError: the state is none of `state`.
        """
        step = state.get("step")
        if type(step) is not int or not 0 <= step <= self.steps or (step % self._repeats and "batch" not in state):
            raise UserError("the checkpoint's place in the data is no update of this run")
        if "batch" in state:
            self._current = self._in_rows_of_now(_unpacked(state["batch"]))
        while step < self.steps:
            if step % self._repeats == 0:
                self._current = self._rollout(step // self._repeats)
            assert self._current is not None
            yield self._batch(step, self._current)
            step += 1

    def chosen(self, generation: int) -> list[int]:
        """The records that are asked in a generation: all of them once before any is asked again."""
        count = len(self._records)
        places = range(generation * self._prompts, (generation + 1) * self._prompts)
        return [int(self._order(place // count)[place % count]) for place in places]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            key = np.array([self._config.training.seed % 2**64, epoch], dtype=np.uint64)
            draws = np.random.Philox(key=key).random_raw(len(self._records))
            self._orders = {epoch: np.argsort(draws, kind="stable"), **dict(list(self._orders.items())[:1])}
        return self._orders[epoch]

    def _rollout(self, generation: int) -> dict[str, Any]:
        """Sample the answers of one generation and lay them out: arrays and figures of a batch."""
        assert self.weights is not None
        objective, group = self._objective, self._objective.num_generations
        chosen = self.chosen(generation)
        records = [self._records[place] for place in chosen]
        first = generation * self._prompts
        epochs = [place // len(self._records) for place in range(first, first + len(chosen))]
        names = [f"{epoch}/{place}" for epoch, place in zip(epochs, chosen, strict=True)]
        answers = self._sample(self.weights(), records, names, group, temperature=objective.temperature)
        asked = [record for record in records for _ in range(group)]
        values_AR = agreed_rewards(self._rewards, asked, [answer.text for answer in answers])
        totals_A = self._rewards.totals(values_AR)
        gains_A = advantages(totals_A, group, objective.scale_rewards)
        arrays = self._arrays(answers, gains_A)
        if self._repeats > 1:
            arrays["old_log_probabilities"] = self._compute(self.weights(), arrays)
        if objective.beta:
            arrays["reference_log_probabilities"] = self._compute(self._start(), arrays)
        figures = self._figures(asked, answers, values_AR, totals_A)
        return {"arrays": arrays, "figures": figures, "examples": chosen}

    def _arrays(self, answers: Sequence[SampledAnswer], gains_A: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        objective = self._objective
        length, longest = self._config.data.max_length, self._config.evaluation.max_new_tokens
        masked = objective.mask_truncated_completions
        learnt = [len(answer.tokens) if answer.ended or not masked else 0 for answer in answers]
        weights = answer_weights(objective.loss_type, learnt, longest)
        sizes = np.array([len(answer.prompt) + len(answer.tokens) for answer in answers], np.int64)
        arrays = SAMPLED_ANSWERS.empty(self.rows, length)
        packed = pack_rows(sizes, length)
        for place, row, begun, end in fill_answers(arrays, packed, answers):
            arrays["loss_mask"][row, begun:end] = learnt[place] > 0
            arrays["advantages"][row, begun - 1 : end - 1] = gains_A[place]
            arrays["token_weights"][row, begun - 1 : end - 1] = weights[place]
        arrays[MICRO_BATCHES] = self._micro_batches(len(packed))
        return arrays

    def _micro_batches(self, rows: int) -> NDArray[np.int32]:
        """How many micro-batches hold so many rows."""
        return np.array(-(-rows // self._config.training.micro_batch_rows), np.int32)

    def _in_rows_of_now(self, made: Mapping[str, Any]) -> dict[str, Any]:
        """A batch of a checkpoint in the rows of this run, which may have other micro-batches than when it was made.

        Raises:
            UserError: its rows are not those of an update of this run.
        """
        length = self.row_lengths[0]
        arrays: dict[str, NDArray[Any]] = SAMPLED_ANSWERS.empty(self.rows, length)
        try:
            is_used = made["arrays"]["segment_ids"].any(axis=1)
            used = int(is_used.sum())
            for name in SAMPLED_ANSWERS.names:
                arrays[name][:used] = made["arrays"][name][is_used].reshape(used, length)
        except (ValueError, IndexError):
            raise UserError(_DAMAGED) from None
        return {**made, "arrays": {**arrays, MICRO_BATCHES: self._micro_batches(used)}}

    def _figures(
        self,
        asked: Sequence[Record],
        answers: Sequence[SampledAnswer],
        values_AR: NDArray[np.float64],
        totals_A: NDArray[np.float64],
    ) -> dict[str, float]:
        unread = [
            read_label(answer.text, record.task, record.aspect) is None
            for record, answer in zip(asked, answers, strict=True)
        ]
        spreads_P = deviations(totals_A, self._objective.num_generations, self._objective.scale_rewards)
        return {
            **reward_means(self._rewards, values_AR, totals_A),
            "reward_std": float(spreads_P.mean()),
            "frac_reward_zero_std": float(np.mean(np.isclose(spreads_P, 0))),
            "completions/mean_length": float(np.mean([len(answer.tokens) for answer in answers])),
            "completions/clipped_ratio": float(np.mean([not answer.ended for answer in answers])),
            "completions/unparsed": float(np.mean(unread)),
        }

    def _batch(self, step: int, made: Mapping[str, Any]) -> Batch:
        arrays = made["arrays"]
        micro = self._config.training.micro_batch_rows
        computed = int(arrays[MICRO_BATCHES]) * micro * arrays["tokens"].shape[1]
        real = int(np.count_nonzero(arrays["segment_ids"]))
        return Batch(
            arrays=self._held_part(arrays),
            step=step,
            epoch=self.epoch_of(step),
            examples=np.array(made["examples"], np.int64),
            real_tokens=real,
            target_tokens=int(arrays["loss_mask"].sum()),
            pad_share=1 - real / computed,
            figures=made["figures"],
        )


def fill_answers(
    arrays: Mapping[str, NDArray[Any]], packed: Sequence[Sequence[int]], answers: Sequence[SampledAnswer]
) -> list[tuple[int, int, int, int]]:
    """Lay prompts with their answers out, all tokens of answers to be learnt.

    Args:
        arrays: of `SAMPLED_ANSWERS`, empty.
        packed: the answers of each row.
        answers: what to lay out.

    Returns:
        (place among `answers`, row, where its first token stands, where it ends) of each.
    """
    found = []
    for row, members in enumerate(packed):
        end = 0
        for segment, place in enumerate(members, start=1):
            answer = answers[place]
            start, begun = end, end + len(answer.prompt)
            end = begun + len(answer.tokens)
            arrays["tokens"][row, start:end] = [*answer.prompt, *answer.tokens]
            arrays["segment_ids"][row, start:end] = segment
            arrays["positions"][row, start:end] = np.arange(end - start)
            arrays["loss_mask"][row, begun:end] = 1
            found.append((place, row, begun, end))
    return found


def reward_means(rewards: Rewards, values_AR: NDArray[np.float64], totals_A: NDArray[np.float64]) -> dict[str, float]:
    """The means of the weighted sum and of each reward, over the answers that have one."""
    columns = {f"rewards/{name}": _mean(values_AR[:, place]) for place, name in enumerate(rewards.functions)}
    return {"reward": _mean(totals_A)} | columns


def _updates(epoch: Fraction, epochs: float) -> int:
    """Updates of so many epochs of `epoch` updates each, at least one.

    Whole epochs are rounded up, so that every record is asked in each; a further fraction is the nearest number of
    whole updates, a half rounded up.
    """
    return max(ceil(epoch * floor(epochs)), floor(epoch * Fraction(repr(epochs)) + Fraction(1, 2)), 1)


def _mean(values: NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else 0.0


def _packed(made: Mapping[str, Any]) -> dict[str, Any]:
    """A batch as plain JSON values, exactly."""
    arrays = {
        name: [
            str(values.dtype),
            list(values.shape),
            base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes())).decode(),
        ]
        for name, values in made["arrays"].items()
    }
    return {"arrays": arrays, "figures": dict(made["figures"]), "examples": list(made["examples"])}


def _unpacked(given: Any) -> dict[str, Any]:
    """What `_packed` made.

    Raises:
        UserError: it is something else.
    """
    try:
        arrays = {
            name: np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype).reshape(shape)
            for name, (dtype, shape, data) in given["arrays"].items()
        }
        SAMPLED_ANSWERS.check(arrays)
        return {"arrays": arrays, "figures": dict(given["figures"]), "examples": list(given["examples"])}
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error):
        raise UserError(_DAMAGED) from None
