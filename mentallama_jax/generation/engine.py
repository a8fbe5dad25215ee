"""The engine: it holds the weights of a model, takes prompts of tokens, and gives tokens with their log-probabilities.

It knows nothing of records and labels (see `answers`). It is made once; `update` gives it other weights, and what was
compiled stays. It works on the mesh that surrounds its calls, or on one device.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mentallama_jax.generation.batching import batches_by_length, pad_left
from mentallama_jax.generation.cache_moves import places_for
from mentallama_jax.generation.candidates import pad_candidates, score_candidates
from mentallama_jax.generation.decoder import UnrolledLlama, unroll
from mentallama_jax.generation.decoding import Decoding, Model
from mentallama_jax.generation.drafts import usual_drafts
from mentallama_jax.generation.label_trie import FREE, Constraint
from mentallama_jax.generation.placement import whole_batch
from mentallama_jax.generation.requests import Answer, Request, Settings
from mentallama_jax.generation.shared_beginnings import shared_beginnings
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params

__all__ = ["Answer", "Engine", "Request", "Settings"]


class Engine:
    """A decoder with its weights, for answers and for the scores of given candidates.

    Attributes:
        config: of the model.
        dtype: of weights and activations.
        drafts: tokens that a step guesses besides the one it chooses, see `drafts`.
        busy_seconds: see `Decoding.busy_seconds`, of all answers so far.
    """

    def __init__(
        self,
        config: LlamaConfig,
        dtype: Any = jnp.float32,
        *,
        int8_cache: bool = False,
        int8_weights: bool = False,
        drafts: int | None = None,
    ) -> None:
        """Make an engine without weights.

        Args:
            config: of the model.
            dtype: of weights and activations.
            int8_cache: keep keys and values in int8.
            int8_weights: keep the projections in int8.
            drafts: see `Engine.drafts`; None for `usual_drafts`.
        """
        self.config, self.dtype = config, jnp.dtype(dtype)
        self._cache_dtype = jnp.dtype(jnp.int8) if int8_cache else None
        self._int8_weights = int8_weights
        self.drafts = usual_drafts() if drafts is None else drafts
        self.busy_seconds = 0.0
        self._model: UnrolledLlama | None = None

    def update(self, params: Params, *, donate: bool = False) -> None:
        """Take over weights; those held before are freed first.

        Args:
            params: nested dict with stacked layers, see `models.module.abstract_params`.
            donate: delete the stacked arrays of `params` on the way, so that the device never holds two models.
        """
        self.release()
        self._model = unroll(self.config, params, self.dtype, donate=donate, int8_weights=self._int8_weights)

    def release(self) -> None:
        """Free the weights, until the next `update`."""
        self._model = None

    def decoding(
        self,
        slots: int,
        *,
        fewer: Sequence[int] = (),
        constraint: Constraint | None = None,
        text_of: Callable[[Sequence[int]], str] | None = None,
        patience: bool = True,
        places: Callable[[int], int] = places_for,
        learns_prompts: bool = True,
    ) -> Decoding:
        """Answer requests step by step with the present weights; see `Decoding` for the arguments."""
        model = Model(self.config, self.weights, self.dtype, self._cache_dtype)
        return Decoding(
            model,
            slots,
            fewer=fewer,
            constraint=constraint,
            text_of=text_of,
            patience=patience,
            places=places,
            drafts=self.drafts,
            learns_prompts=learns_prompts,
        )

    def answers(
        self,
        prompts: Sequence[Sequence[int]],
        names: Sequence[str],
        settings: Settings,
        end_ids: Sequence[int],
        constraint: Constraint | None = None,
        roots: Sequence[int] = (),
        *,
        text_of: Callable[[Sequence[int]], str] | None = None,
    ) -> Iterator[dict[int, Answer]]:
        """Answer prompts, the longest first.

        Args:
            prompts: token ids.
            names: of the rows; what a row draws depends on the seed and its name alone.
            settings: see `Settings`.
            end_ids: tokens that end an answer.
            constraint: trees of the tokens that answers may begin with; None where all are free.
            roots: with a constraint: the root of each prompt's tree, or `label_trie.FREE`.
            text_of: decodes tokens; needed for stop strings.

        Yields:
            Place among `prompts` -> its answer, for the rows that are complete, as soon as they are.
        """
        found = self.samples(prompts, names, settings, end_ids, constraint=constraint, roots=roots, text_of=text_of)
        for batch in found:
            yield {place: answer for (place, _), answer in batch.items()}

    def samples(
        self,
        prompts: Sequence[Sequence[int]],
        names: Sequence[str],
        settings: Settings,
        end_ids: Sequence[int],
        *,
        count: int = 1,
        constraint: Constraint | None = None,
        roots: Sequence[int] = (),
        text_of: Callable[[Sequence[int]], str] | None = None,
    ) -> Iterator[dict[tuple[int, int], Answer]]:
        """Answer each prompt `count` times; it is read once. The other arguments are those of `answers`.

        Yields:
            (place among `prompts`, number of the sample) -> its answer, for those that are complete. Sample 0 is the
            one answer of `answers`.
        """
        slots = min(settings.batch_size, max(1, len(prompts) * count))
        decoding = self.decoding(slots, constraint=constraint, text_of=text_of)
        order = []
        for place, shared in shared_beginnings(prompts):
            root = roots[place] if constraint is not None else FREE
            decoding.submit(Request(prompts[place], names[place], settings, end_ids, count, root, shared))
            order.append(place)
        for events in decoding.run():
            self.busy_seconds += decoding.busy_seconds
            decoding.busy_seconds = 0.0
            done = {(order[one.request], one.sample): one.answer for one in events if one.answer is not None}
            if done:
                yield done

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
        batch_size = whole_batch(min(settings.batch_size, max(1, len(prompts))))
        for batch in batches_by_length([len(prompt) for prompt in prompts], batch_size):
            tokens_BP, lengths_B = pad_left([prompts[place] for place in batch], batch_size)
            padded = pad_candidates([candidates[place] for place in batch], (batch_size, *width))
            fixed = {"config": self.config, "cache_dtype": self._cache_dtype}
            scores_BC = np.asarray(score_candidates(self.weights, tokens_BP, lengths_B, *padded, **fixed))
            yield {place: scores_BC[row, : len(candidates[place])] for row, place in enumerate(batch)}

    @property
    def weights(self) -> UnrolledLlama:
        """What `update` took over."""
        if self._model is None:
            raise RuntimeError("the engine holds no weights: call `update` first")
        return self._model
