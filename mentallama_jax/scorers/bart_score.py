"""BARTScore (Yuan et al. 2021): how likely one text is, given another, under a BART.

score(source, target) = mean over the tokens of the target, `<s>` and `</s>` among them, of ln p(token | those before,
source); the decoder reads `</s>` first, so that the probability of `<s>` counts. Both texts are cut at 1,024 tokens.

Shape suffixes: R rows, S source places, T target places, D hidden, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mentallama_jax.models.attention import Places
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.encoder_decoder import EncoderDecoder
from mentallama_jax.models.module import Params, abstract_params, bind, param_dimensions
from mentallama_jax.models.t5 import T5Config
from mentallama_jax.parallel.rules import tree_shardings
from mentallama_jax.scorers.packed_texts import packed_batches

DIRECTIONS: Mapping[str, str] = {
    "bartscore": "ln p(reference | output), as the MentaLLaMA paper's evaluation calls it",
    "bartscore_precision": "ln p(output | reference)",
    "bartscore_f1": "the mean of both",
    "bartscore_faithfulness": "ln p(output | source), the source being the post",
}
"""Name of the figure -> what is scored."""
ROOM = 512
"""Tokens of a packed row of sources, and of targets."""
ROWS_OF_A_DEVICE = 8
"""Rows of a batch on each accelerator."""
_CHUNK = 128
ROOM_ON_CPU, ROWS_ON_CPU = 256, 2
"""The same on a CPU, whose caches hold less."""


class SequenceScorer:
    """The mean log-probability of target texts given source texts, under an encoder-decoder."""

    def __init__(
        self,
        config: BartConfig | T5Config,
        params: Params,
        *,
        dtype: Any = jnp.float32,
        room: int = ROOM_ON_CPU,
        rows: int = ROWS_ON_CPU,
    ) -> None:
        """Hold a model.

        Args:
            config: of the model.
            params: of the model.
            dtype: of activations and products; log-probabilities are fp32.
            room: tokens of a packed row.
            rows: of a batch; a multiple of the devices that rows are cut along.
        """
        self._config, self._params, self._dtype = config, params, jnp.dtype(dtype)
        self._room, self._rows = room, rows

    def scores(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Iterator[dict[int, float]]:
        """Score (source, target) pairs of token ids.

        Yields:
            Place among `pairs` -> the mean of the log-probabilities (nats) of the target's tokens, for the pairs of
            each batch as it finishes.
        """
        for batch in packed_batches(pairs, self._room, self._rows):
            sources, targets = batch.sides
            log_RT = np.asarray(
                _token_logs(
                    self._params,
                    sources.tokens_RT,
                    sources.places,
                    targets.tokens_RT,
                    targets.places,
                    config=self._config,
                    dtype=self._dtype,
                ),
                np.float64,
            )
            yield {
                place: float(log_RT[number][targets.segments_RT[number] == segment].mean())
                for number, row in enumerate(batch.rows)
                for segment, place in enumerate(row, start=1)
            }


def lower_scores(config: BartConfig | T5Config, mesh: Mesh, *, rows: int, room: int) -> jax.stages.Lowered:
    """The program of `SequenceScorer.scores` in full fp32, lowered as if the model lay on the mesh; inside `use_mesh`.

    Args:
        config: of the model.
        mesh: of devices, which need not be present.
        rows: of a batch.
        room: tokens of a row.
    """
    shapes = abstract_params(config)
    places = tree_shardings(mesh, param_dimensions(config), shapes)
    params = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=at), shapes, places)
    # Tokens come from the host and have no place of their own; positions and segments are on every device.
    tokens = jax.ShapeDtypeStruct((rows, room), jnp.int32)
    whole: Any = jax.ShapeDtypeStruct((rows, room), jnp.int32, sharding=NamedSharding(mesh, PartitionSpec()))
    side = (tokens, Places(whole, whole))
    with jax.default_matmul_precision("highest"):
        return _token_logs.lower(params, *side, *side, config=config, dtype=jnp.dtype(jnp.float32))


@partial(jax.jit, static_argnames=("config", "dtype"))
def _token_logs(
    params: Params,
    tokens_RS: jax.Array,
    source_places: Places,
    targets_RT: jax.Array,
    target_places: Places,
    *,
    config: BartConfig | T5Config,
    dtype: Any,
) -> jax.Array:
    """[R, T] fp32: ln p of each target token; what stands at padding means nothing."""
    model: EncoderDecoder = bind(config, params)  # type: ignore[assignment]
    first_RT = target_places.positions_BT == 0
    read_RT = jnp.where(first_RT, config.start_id, jnp.roll(targets_RT, 1, axis=1))
    memory_RSD = model.encode(tokens_RS, source_places, dtype=dtype)
    hidden_RTD = model.decode(read_RT, target_places, memory_RSD, source_places, dtype=dtype)
    return log_probabilities(model, hidden_RTD, targets_RT)


def log_probabilities(model: EncoderDecoder, hidden_RTD: jax.Array, targets_RT: jax.Array) -> jax.Array:
    """[R, T] fp32: ln p of each token, from the states that predict it; few logits exist at a time."""
    R, T, D = hidden_RTD.shape
    chunk = min(T, _CHUNK)

    def of_chunk(part: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden_RCD, targets_RC = part
        logits_RCV = model.logits(hidden_RCD)
        chosen_RC = jnp.take_along_axis(logits_RCV, targets_RC[..., None], axis=-1)[..., 0]
        return chosen_RC - jax.nn.logsumexp(logits_RCV, axis=-1)

    hidden = hidden_RTD.reshape(R, T // chunk, chunk, D).swapaxes(0, 1)
    targets = targets_RT.reshape(R, T // chunk, chunk).swapaxes(0, 1)
    return jax.lax.map(of_chunk, (hidden, targets)).swapaxes(0, 1).reshape(R, T)
