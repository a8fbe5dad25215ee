"""Prompts are read in packs: rows of a few fixed widths that hold several prompts, so that little is padding.

A prompt may follow what was read before: a beginning that it shares with others, or its own, where it is longer than a
row. Then its tokens see those of the `Past` too.

Shape suffixes: P rows (one for each part of the mesh that slots are shared among), W tokens of a row, M prompts of a
row, S places of what was read before, N query heads, K key/value heads, G = N / K, H head width, V vocabulary.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.generation.batching import prompt_slots
from mentallama_jax.generation.cache_moves import COPIED, copied
from mentallama_jax.generation.decoder import UnrolledLlama, embed_tokens, logits
from mentallama_jax.generation.key_value_cache import KeyValueCache, LayerCache, as_held, empty, laid_out
from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.attention.cpu import BLOCK
from mentallama_jax.models.attention.dispatch import platform
from mentallama_jax.models.attention.forms import MASKED
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.rotary import rotary_tables
from mentallama_jax.parallel.rules import constrain

WIDTHS = (64, 128, 256, 512, 1024, 2048)
"""Widths of rows that programs are compiled for; a longer prompt is read in several."""
FULL = 512
"""The width of a row while there is enough to read: wide enough that reading the weights costs little beside the
products, and half as wide as 1,024, where each token also pays for its neighbours' places in the attention."""
PROMPTS = 16
"""Prompts of a row at most."""

_ONE_ROW = (None, "heads", None, None)


class Past(NamedTuple):
    """What was read before: one row of a cache, and the int32 number of its tokens."""

    cache: KeyValueCache
    length: Any


class Pack(NamedTuple):
    """Rows of prompts, as arrays of the host.

    Attributes:
        tokens_PW: int32.
        offsets_PW: int32, place of a token within its prompt, what was read before not counted.
        segments_PW: int32, which prompt it belongs to, from 1; 0 is padding.
        last_PM: int32, place of each prompt's last token in its row.
    """

    tokens_PW: Any
    offsets_PW: Any
    segments_PW: Any
    last_PM: Any


def pack(rows: Sequence[Sequence[Sequence[int]]], width: int) -> Pack:
    """Lay prompts side by side; each row's must fit into `width` together."""
    shape = (len(rows), width)
    tokens, offsets, segments = (np.zeros(shape, np.int32) for _ in range(3))
    arrays = Pack(tokens, offsets, segments, np.zeros((len(rows), PROMPTS), np.int32))
    for place, prompts in enumerate(rows):
        start = 0
        for number, prompt in enumerate(prompts):
            end = start + len(prompt)
            arrays.tokens_PW[place, start:end] = prompt
            arrays.offsets_PW[place, start:end] = np.arange(len(prompt))
            arrays.segments_PW[place, start:end] = number + 1
            arrays.last_PM[place, number] = end - 1
            start = end
    return arrays


def width_of(tokens: int) -> int:
    """The smallest width that holds so many tokens; there must be one."""
    return next(width for width in WIDTHS if tokens <= width)


@partial(jax.jit, static_argnames=("config", "cache_dtype"))
def read(
    model: UnrolledLlama, pack: Pack, past: Past | None, *, config: LlamaConfig, cache_dtype: Any = None
) -> tuple[KeyValueCache, jax.Array]:
    """Read prompts.

    Args:
        model: the parameters.
        pack: the prompts.
        past: what each of them follows; None where they follow nothing.
        config: of the model.
        cache_dtype: int8, or None for that of the activations.

    Returns:
        Keys and values of the rows, `COPIED` free places behind them. Scores of each prompt's next token, [P, M, V]
        fp32.
    """
    begun = jnp.int32(0) if past is None else jnp.asarray(past.length)
    places = Places(jnp.asarray(pack.offsets_PW), jnp.asarray(pack.segments_PW))
    rotary = rotary_tables(begun + places.positions_BT, config.head_dim, config.rope_theta, config.rope_scaling)
    x_PWD = embed_tokens(model, jnp.asarray(pack.tokens_PW))
    caches = []
    for number, layer in enumerate(model.layers):

        def attend(q_PWNH: jax.Array, k_PWKH: jax.Array, v_PWKH: jax.Array, number: int = number) -> jax.Array:
            caches.append(laid_out(k_PWKH, v_PWKH, COPIED, cache_dtype))
            k_PWKH, v_PWKH = as_held(k_PWKH, cache_dtype), as_held(v_PWKH, cache_dtype)
            if past is None:
                return attention(q_PWNH, k_PWKH, v_PWKH, places)
            return _attention_with_past(q_PWNH, k_PWKH, v_PWKH, places.segment_ids_BT, past.cache[number], begun)

        x_PWD = constrain(layer(x_PWD, rotary, attend), "batch", None, None)
    last_PM = jnp.asarray(pack.last_PM)
    last_PMD = jnp.take_along_axis(x_PWD, last_PM[..., None], axis=1)
    P, M, D = last_PMD.shape
    scores = logits(model, model.final_norm(last_PMD).reshape(P * M, D))
    return tuple(caches), constrain(scores.reshape(P, M, -1), "batch", None, "vocabulary")


def _attention_with_past(
    q_PWNH: jax.Array, k_PWKH: jax.Array, v_PWKH: jax.Array, segments_PW: jax.Array, past: LayerCache, begun: Any
) -> jax.Array:
    """Tokens see what was read before, and those of their own prompt that stand in front of them.

    On CPUs in blocks of Q queries, whose scores stay in the processor's cache; a block meets no key behind its end.
    """
    P, W, N, H = q_PWNH.shape
    K, S = past.values_BKSH.shape[1:3]
    dtype = q_PWNH.dtype
    q_PKWGH = q_PWNH.reshape(P, W, K, N // K, H).swapaxes(1, 2)
    k_PKWH, v_PKWH = k_PWKH.swapaxes(1, 2), v_PWKH.swapaxes(1, 2)
    past_keys_KHS, past_values_KSH = past.keys_BKHS[0].astype(dtype), past.values_BKSH[0].astype(dtype)
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)
    out_PKQGH = []
    size = BLOCK if platform() == "cpu" else W
    for start in range(0, W, size):
        end = min(start + size, W)
        q_PKQGH = q_PKWGH[:, :, start:end]
        before = product("PKQGH,KHS->PKQGS", q_PKQGH, past_keys_KHS) * H**-0.5
        if past.key_scales_BK1S is not None:
            before = before * past.key_scales_BK1S.astype(jnp.float32)[:, :, None]
        before = jnp.where(jnp.arange(S) < begun, before, MASKED)
        own = product("PKQGH,PKXH->PKQGX", q_PKQGH, k_PKWH[:, :, :end]) * H**-0.5
        earlier_QX = jnp.arange(end) <= jnp.arange(start, end)[:, None]
        visible_PQX = (segments_PW[:, start:end, None] == segments_PW[:, None, :end]) & earlier_QX
        own = jnp.where(visible_PQX[:, None, :, None], own, MASKED)
        highest = jnp.maximum(jnp.max(before, axis=-1, keepdims=True), jnp.max(own, axis=-1, keepdims=True))
        before, own = jnp.exp(before - highest), jnp.exp(own - highest)
        total = jnp.sum(before, axis=-1, keepdims=True) + jnp.sum(own, axis=-1, keepdims=True)
        if past.value_scales_BK1S is not None:
            before = before * past.value_scales_BK1S.astype(jnp.float32)[:, :, None]
        out = product("PKQGS,KSH->PKQGH", before.astype(dtype), past_values_KSH)
        out = out + product("PKQGX,PKXH->PKQGH", own.astype(dtype), v_PKWH[:, :, :end])
        out_PKQGH.append((out / total).astype(dtype))
    out_PWNH = jnp.concatenate(out_PKQGH, axis=2).swapaxes(1, 2).reshape(P, W, N, H)
    return constrain(out_PWNH, "batch", None, "heads", None)


def read_past(
    model: UnrolledLlama,
    tokens: Sequence[int],
    parts: int,
    *,
    config: LlamaConfig,
    dtype: Any,
    cache_dtype: Any = None,
) -> Past:
    """Read the beginning of prompts, in several rows where it is long.

    Args:
        model: the parameters.
        tokens: of the beginning.
        parts: of the mesh, see `Pack`; they all compute the same.
        config: of the model.
        dtype: of the activations.
        cache_dtype: int8, or None for that of the activations.
    """
    past: Past | None = None
    for start in range(0, len(tokens), FULL):
        chunk = tokens[start : start + FULL]
        rows = pack([[chunk]] * parts, width_of(len(chunk)))
        made, _ = read(model, rows, past, config=config, cache_dtype=cache_dtype)
        room = (
            _room(config=config, places=prompt_slots(len(tokens)), dtype=cache_dtype or dtype)
            if past is None
            else past.cache
        )
        cache = _extended(room, made, np.int32(start), np.int32(len(chunk)))
        past = Past(cache, np.int32(start + len(chunk)))
    assert past is not None
    return past


@partial(jax.jit, static_argnames=("config", "places", "dtype"))
def _room(*, config: LlamaConfig, places: int, dtype: Any) -> KeyValueCache:
    return empty(config, 1, places, dtype, _ONE_ROW)


@partial(jax.jit, donate_argnames="cache")
def _extended(cache: KeyValueCache, made: KeyValueCache, start: jax.Array, count: jax.Array) -> KeyValueCache:
    first = jax.tree.map(lambda x: constrain(x[:1], *_ONE_ROW), made)
    whole = copied(cache, first, 0, start, 0, count)
    constrained: KeyValueCache = jax.tree.map(lambda x: constrain(x, *_ONE_ROW), whole)
    return constrained
