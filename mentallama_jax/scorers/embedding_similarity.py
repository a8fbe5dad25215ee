"""How near two texts are as wholes: the cosine of the means of their tokens' states (Reimers and Gurevych 2019).

Shape suffixes: R rows, T places, D hidden.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.models.attention import Places
from mentallama_jax.models.bert import BertConfig, mean_of_tokens
from mentallama_jax.models.module import Params, bind
from mentallama_jax.scorers.packed_texts import MOST_TEXTS, packed_batches


class EmbeddingSimilarity:
    """Cosines of sentence embeddings under an encoder; the mean is over all tokens, special ones included."""

    def __init__(
        self,
        config: BertConfig,
        params: Params,
        tokenizer: EncoderTokenizer,
        *,
        dtype: Any = jnp.float32,
        room: int = 256,
        rows: int = 4,
    ) -> None:
        """Hold a model.

        Args:
            config: of the model.
            params: of the model.
            tokenizer: of the model.
            dtype: of activations and products; means and cosines are fp32.
            room: tokens of a packed row.
            rows: of a batch; a multiple of the devices that rows are cut along.
        """
        self._config, self._params, self._tokenizer, self._dtype = config, params, tokenizer, jnp.dtype(dtype)
        self._room, self._rows = room, rows

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[dict[int, float]]:
        """Compare the texts of pairs, which are cut at the longest text that the model has positions for.

        Yields:
            Place among `pairs` -> the cosine, for the pairs of each batch as it finishes.
        """
        sides = [self._tokenizer.encode([pair[side] for pair in pairs], self._config.longest_text) for side in (0, 1)]
        for batch in packed_batches(list(zip(*sides, strict=True)), self._room, self._rows):
            cosines_RM = np.asarray(
                _cosines(
                    self._params,
                    *(array for side in batch.sides for array in (side.tokens_RT, side.places)),
                    config=self._config,
                    dtype=self._dtype,
                )
            )
            yield {
                place: float(cosines_RM[number, order])
                for number, row in enumerate(batch.rows)
                for order, place in enumerate(row)
            }


@partial(jax.jit, static_argnames=("config", "dtype"))
def _cosines(
    params: Params,
    tokens_RT: jax.Array,
    places: Places,
    others_RT: jax.Array,
    other_places: Places,
    *,
    config: BertConfig,
    dtype: Any,
) -> jax.Array:
    """[R, MOST_TEXTS] fp32: the cosine of each pair of a row."""
    model = bind(config, params)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), (tokens_RT, *places), (others_RT, *other_places))
    hidden, _ = model.hidden(*both, dtype=dtype)
    means = mean_of_tokens(hidden, both[2], MOST_TEXTS)
    ours, theirs = jnp.split(means / jnp.maximum(jnp.linalg.norm(means, axis=-1, keepdims=True), 1e-30), 2)
    return jnp.sum(ours * theirs, axis=-1)
