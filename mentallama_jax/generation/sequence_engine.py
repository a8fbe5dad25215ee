"""An encoder-decoder that answers: sources of tokens in, targets of tokens and their scores out.

Shape suffixes: B sources, S source slots, C candidates, U places of a candidate, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.generation.batching import batches_by_length, prompt_slots
from mentallama_jax.generation.beam_search import BeamSearch, search_beams, write_targets
from mentallama_jax.generation.candidates import pad_candidates
from mentallama_jax.generation.engine import Settings
from mentallama_jax.generation.key_value_cache import KeyValueCache
from mentallama_jax.generation.placement import whole_batch
from mentallama_jax.generation.sampling import row_keys
from mentallama_jax.generation.sequence_decoder import SequenceDecoder
from mentallama_jax.generation.target_rules import TargetRules
from mentallama_jax.models.module import Params
from mentallama_jax.models.registry import SequenceConfig


class Written(NamedTuple):
    """One target.

    Attributes:
        tokens: what was written behind the tokens that open every target, the end token included.
        score: of the target, see `beam_search.Targets`.
        ended: whether it ends with the end token.
    """

    tokens: tuple[int, ...]
    score: float
    ended: bool


class SequenceEngine:
    """Holds an encoder-decoder and answers with it."""

    def __init__(self, config: SequenceConfig, dtype: Any, opening: Sequence[int] = ()) -> None:
        """Prepare for a model.

        Args:
            config: its shape.
            dtype: of weights and activations.
            opening: the tokens that open every target behind the start token, such as `<s>` in a BART.
        """
        self.config, self._dtype, self._opening = config, jnp.dtype(dtype), tuple(opening)
        self._params: Params | None = None

    def update(self, params: Params) -> None:
        """Answer with these parameters from now on; they stay where they are."""
        self._params = params

    def release(self) -> None:
        """Hold no parameters."""
        self._params = None

    def rules(self, max_new_tokens: int, no_repeat_ngram: int = 0) -> TargetRules:
        """The rules on targets: their opening, and how long they may become."""
        longest = min(1 + len(self._opening) + max_new_tokens, self.config.longest_text)
        first = self._opening[0] if self._opening else None
        return TargetRules(longest, (self.config.end_id,), no_repeat_ngram=no_repeat_ngram, forced_first_id=first)

    def answers(
        self,
        sources: Sequence[Sequence[int]],
        ids: Sequence[str],
        settings: Settings,
        search: BeamSearch | None = None,
        no_repeat_ngram: int = 0,
    ) -> Iterator[dict[int, Written]]:
        """Write a target for each source.

        Args:
            sources: tokens, at most as many as the model has positions.
            ids: of the sources; they name their random streams.
            settings: see `engine.Settings`.
            search: by beams; None writes one token after another, greedily or by `settings.sampling`.
            no_repeat_ngram: n-grams of this size occur once in a target; 0 for no rule.

        Yields:
            Place among the sources -> what was written, for those of each batch as it finishes.

        Raises:
            UserError: stop strings or a penalty of repetition, which are for decoders alone.
        """
        if settings.stop_strings or settings.sampling.repetition_penalty != 1:
            raise UserError("--stop and --repetition-penalty are for LLaMA models; BART and T5 have --no-repeat-ngram")
        rules = self.rules(settings.max_new_tokens, no_repeat_ngram)
        for members, tokens_BS, lengths_B in self._batches(sources, settings.batch_size):
            arguments = (self._params, tokens_BS, lengths_B)
            shared = {"config": self.config, "rules": rules, "dtype": self._dtype}
            if search is None:
                keys_B = row_keys(
                    settings.seed, [ids[place] for place in members] + [""] * (len(lengths_B) - len(members))
                )
                found = write_targets(*arguments, keys_B, sampling=settings.sampling, **shared)
            else:
                found = search_beams(*arguments, search=search, **shared)
            tokens_BT, counts_B, scores_B = (np.asarray(values)[:, 0] for values in found)
            yield {
                place: self._written(tokens_BT[row, : counts_B[row]].tolist(), float(scores_B[row]))
                for row, place in enumerate(members)
            }

    def scores(
        self, sources: Sequence[Sequence[int]], candidates: Sequence[Sequence[Sequence[int]]], settings: Settings
    ) -> Iterator[dict[int, np.ndarray]]:
        """Score the candidates of each source, each as the beginning of its target.

        Args:
            sources: tokens.
            candidates: of each source, token ids without start and end.
            settings: the batch size alone matters.

        Yields:
            Place among the sources -> the log-probability (nats) of each candidate.
        """
        C = max(map(len, candidates))
        U = max(len(tokens) for row in candidates for tokens in row)
        for members, tokens_BS, lengths_B in self._batches(sources, settings.batch_size):
            shape = (len(lengths_B), C, U)
            padded_BCU, counts_BC = pad_candidates([candidates[place] for place in members], shape)
            scores_BC = np.asarray(
                score_targets(
                    self._params, tokens_BS, lengths_B, padded_BCU, counts_BC, config=self.config, dtype=self._dtype
                )
            )
            yield {place: scores_BC[row, : len(candidates[place])] for row, place in enumerate(members)}

    def _batches(
        self, sources: Sequence[Sequence[int]], batch_size: int
    ) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        """Places, int32 tokens [B, S] padded on the right, and int32 lengths [B]; rows that only fill up have one."""
        rows = whole_batch(min(batch_size, len(sources)))
        for members in batches_by_length([len(source) for source in sources], rows):
            lengths_B = np.ones(rows, np.int32)
            lengths_B[: len(members)] = [len(sources[place]) for place in members]
            slots = min(prompt_slots(int(lengths_B.max())), self.config.longest_text)
            tokens_BS = np.full((rows, slots), self.config.pad_id, np.int32)
            for row, place in enumerate(members):
                tokens_BS[row, : len(sources[place])] = sources[place]
            yield members, tokens_BS, lengths_B

    def _written(self, tokens: list[int], score: float) -> Written:
        behind = tokens[1 + len(self._opening) :]
        return Written(tuple(behind), score, tokens[-1] == self.config.end_id and len(behind) > 0)


@partial(jax.jit, static_argnames=("config", "dtype"))
def score_targets(
    params: Params,
    tokens_BS: jax.Array,
    lengths_B: jax.Array,
    candidates_BCU: jax.Array,
    counts_BC: jax.Array,
    *,
    config: Any,
    dtype: Any,
) -> jax.Array:
    """Log-probability (nats, fp32) of each candidate as the beginning of the target of its source; [B, C].

    A source is read once; its candidates go through the decoder side by side, token by token.

    Args:
        params: of the model.
        tokens_BS: int32 sources, padded on the right.
        lengths_B: int32 real tokens of each, from 1.
        candidates_BCU: int32, padded on the right.
        counts_BC: int32 real tokens of each; one with none scores 0.
        config: of the model.
        dtype: of the computation.
    """
    B, C, U = candidates_BCU.shape
    decoder = SequenceDecoder.of(config, params, dtype)
    source = decoder.read(tokens_BS, lengths_B)

    def step(
        carry: tuple[KeyValueCache, jax.Array, jax.Array], place: jax.Array
    ) -> tuple[tuple[KeyValueCache, jax.Array, jax.Array], None]:
        cache, last_BC, sums_BC = carry
        logits_RV, cache = decoder.extend(source, cache, last_BC, place)
        wanted_BC = candidates_BCU[:, :, place]
        logs_RV = jax.nn.log_softmax(logits_RV)
        logs_BC = jnp.take_along_axis(logs_RV, wanted_BC.reshape(-1, 1), axis=1).reshape(B, C)
        return (cache, wanted_BC, sums_BC + jnp.where(place < counts_BC, logs_BC, 0)), None

    start_BC = jnp.full((B, C), config.start_id, jnp.int32)
    first = (decoder.empty_cache(source, C, U), start_BC, jnp.zeros((B, C), jnp.float32))
    candidates_BCU = jnp.asarray(candidates_BCU)
    (_, _, sums_BC), _ = jax.lax.scan(step, first, jnp.arange(U, dtype=jnp.int32))
    return sums_BC
