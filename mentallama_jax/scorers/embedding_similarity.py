"""How near two texts are as wholes: the cosine of the means of their tokens' states (Reimers and Gurevych 2019).

Shape suffixes: R rows, M texts of a row, T places, D hidden.
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
from mentallama_jax.scorers.packed_texts import MOST_TEXTS, of_different_texts

_PAIRS_AT_ONCE = 512


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
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = [[tuple(ids) for ids in side[start : start + _PAIRS_AT_ONCE]] for side in sides]
            means = self._means([*part[0], *part[1]])
            yield {
                start + place: float(means[one] @ means[other])
                for place, (one, other) in enumerate(zip(*part, strict=True))
            }

    def embeddings(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """[N, D] fp32 of length 1, of texts that are cut at the longest that the model has positions for."""
        encoded = [tuple(ids) for ids in self._tokenizer.encode(texts, self._config.longest_text)]
        means = self._means(encoded)
        return np.stack([means[ids] for ids in encoded])

    def _means(self, texts: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], np.ndarray]:
        """The embedding of each different text, [D] fp32 of length 1."""
        return of_different_texts(
            texts,
            self._room,
            self._rows,
            lambda side: _unit_means(self._params, side.tokens_RT, side.places, config=self._config, dtype=self._dtype),
            lambda means_MD, segments_T, segment: means_MD[segment - 1],
        )


@partial(jax.jit, static_argnames=("config", "dtype"))
def _unit_means(params: Params, tokens_RT: jax.Array, places: Places, *, config: BertConfig, dtype: Any) -> jax.Array:
    """[R, MOST_TEXTS, D] fp32: the mean of the states of each text of a row, of length 1."""
    hidden_RTD, _ = bind(config, params).hidden(tokens_RT, *places, dtype=dtype)
    means_RMD = mean_of_tokens(hidden_RTD, places.segment_ids_BT, MOST_TEXTS)
    return means_RMD / jnp.maximum(jnp.linalg.norm(means_RMD, axis=-1, keepdims=True), 1e-30)
