"""The engine: it holds the weights of a model, takes prompts of tokens, and gives tokens with their log-probabilities.

It knows nothing of records and labels (see `answers`). It is made once; `update` gives it other weights, and what was
compiled stays. It works on the mesh that surrounds its calls, or on one device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.generation.batching import batches_by_length, pad_left
from mentallama_jax.generation.candidates import pad_candidates, score_candidates
from mentallama_jax.generation.decode import generate
from mentallama_jax.generation.decoder import UnrolledLlama, unroll
from mentallama_jax.generation.label_trie import FREE, Constraint
from mentallama_jax.generation.placement import whole_batch
from mentallama_jax.generation.sampling import Sampling, row_keys
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params


@dataclass(frozen=True, slots=True)
class Settings:
    """How prompts are answered.

    Attributes:
        max_new_tokens: longest answer, end token included.
        sampling: how tokens are chosen.
        seed: of sampling; each row has its own stream from (seed, its name).
        batch_size: rows decoded together; changes speed and memory, not answers.
    """

    max_new_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name.replace('_', '-')} {getattr(self, name)}: give a number from 1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What follows a prompt.

    Attributes:
        tokens: the end token included where there is one.
        log_probabilities: of each token under the model itself, before temperature and filters; nats, fp32.
        ended: whether the last token is an end token; otherwise the limit was reached.
    """

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    ended: bool


class Engine:
    """A decoder with its weights, for answers and for the scores of given candidates."""

    def __init__(self, config: LlamaConfig, dtype: Any = jnp.float32) -> None:
        """Make an engine without weights.

        Args:
            config: of the model.
            dtype: of weights and activations.
        """
        self.config = config
        self._dtype = jnp.dtype(dtype)
        self._model: UnrolledLlama | None = None

    def update(self, params: Params, *, donate: bool = False) -> None:
        """Take over weights; those held before are freed first.

        Args:
            params: nested dict with stacked layers, see `models.module.abstract_params`.
            donate: delete the stacked arrays of `params` on the way, so that the device never holds two models.
        """
        self.release()
        self._model = unroll(self.config, params, self._dtype, donate=donate)

    def release(self) -> None:
        """Free the weights, until the next `update`."""
        self._model = None

    def answers(
        self,
        prompts: Sequence[Sequence[int]],
        names: Sequence[str],
        settings: Settings,
        end_ids: Sequence[int],
        constraint: Constraint | None = None,
        roots: Sequence[int] = (),
    ) -> Iterator[dict[int, Answer]]:
        """Answer prompts, a batch at a time, the longest first.

        Args:
            prompts: token ids.
            names: of the rows; what a row draws depends on the seed and its name alone.
            settings: see `Settings`.
            end_ids: tokens that end an answer.
            constraint: trees of the tokens that answers may begin with; None where all are free.
            roots: with a constraint: the root of each prompt's tree, or `label_trie.FREE`.

        Yields:
            Place among `prompts` -> its answer, for the rows of each batch as it finishes.
        """
        batch_size = self._batch_size(settings, len(prompts))
        for batch in batches_by_length([len(prompt) for prompt in prompts], batch_size):
            tokens_BP, lengths_B = pad_left([prompts[place] for place in batch], batch_size)
            fill = [""] * (batch_size - len(batch))
            nodes_B = None
            if constraint is not None:
                nodes_B = np.array([roots[place] for place in batch] + [FREE] * len(fill), np.int32)
            generated = generate(
                self._weights,
                tokens_BP,
                lengths_B,
                row_keys(settings.seed, [names[place] for place in batch] + fill),
                constraint,
                nodes_B,
                config=self.config,
                sampling=settings.sampling,
                end_ids=tuple(end_ids),
                max_new_tokens=settings.max_new_tokens,
            )
            tokens_BT, logs_BT, counts_B, ended_B = jax.device_get(generated)
            yield {
                place: Answer(
                    tuple(tokens_BT[row, : counts_B[row]].tolist()),
                    tuple(logs_BT[row, : counts_B[row]].tolist()),
                    bool(ended_B[row]),
                )
                for row, place in enumerate(batch)
            }

    def scores(
        self,
        prompts: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[Sequence[int]]],
        settings: Settings,
        width: tuple[int, int],
    ) -> Iterator[dict[int, np.ndarray[Any, Any]]]:
        """Score each prompt's candidates as its continuation; of the settings, the batch size alone matters.

        Args:
            prompts: token ids.
            candidates: of each prompt, token ids.
            settings: see `Settings`.
            width: how many candidates a row has room for, and how many tokens a candidate: what is compiled for.

        Yields:
            Place among `prompts` -> the sum of log-probabilities (nats, fp32) of each of its candidates.
        """
        batch_size = self._batch_size(settings, len(prompts))
        for batch in batches_by_length([len(prompt) for prompt in prompts], batch_size):
            tokens_BP, lengths_B = pad_left([prompts[place] for place in batch], batch_size)
            padded = pad_candidates([candidates[place] for place in batch], (batch_size, *width))
            scores_BC = np.asarray(score_candidates(self._weights, tokens_BP, lengths_B, *padded, config=self.config))
            yield {place: scores_BC[row, : len(candidates[place])] for row, place in enumerate(batch)}

    @property
    def _weights(self) -> UnrolledLlama:
        if self._model is None:
            raise RuntimeError("the engine holds no weights: call `update` first")
        return self._model

    def _batch_size(self, settings: Settings, prompts: int) -> int:
        return whole_batch(min(settings.batch_size, max(1, prompts)))
