"""One attention function; every implementation honours causality, positions, segments and grouped heads.

Shape suffixes: B batch, T queries, S keys (the same tokens), N query heads, K key/value heads, G = N / K, H head width.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.models.blockwise_attention import BLOCK, blockwise_attention
from mentallama_jax.models.remat import KEY, QUERY, VALUE, kept_as
from mentallama_jax.models.splash_attention import splash_attention
from mentallama_jax.parallel.rules import check_divides, current_mesh, spec

_MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)
"""A finite minus infinity: a fully masked row must give numbers, not NaN."""


class Places(NamedTuple):
    """Where each token stands: int32 position within its segment, and int32 segment id (0 is padding), [B, T]."""

    positions_BT: jax.Array
    segment_ids_BT: jax.Array


def attention(
    q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, places: Places, *, unpacked: bool = False
) -> jax.Array:
    """Causal softmax attention within segments, scores scaled by 1/sqrt(H).

    A query sees the keys of its own segment at its own and earlier positions. Segment 0 is padding: nothing sees
    it, and its own outputs are 0. Query head n uses key/value head n // (N / K). The tokens of a segment stand in
    order of their positions, which makes every key after a query invisible to it: the implementations for TPUs
    (`splash_attention`), for GPUs (`segment_attention`) and for rows of whole blocks elsewhere (`blockwise_attention`)
    leave that half of the work out.

    Args:
        q_BTNH: queries, rotated.
        k_BTKH: keys, rotated; N is a multiple of K.
        v_BTKH: values.
        places: of the tokens.
        unpacked: the caller's word that each row holds one segment at most, from its first token on, and padding behind
            it. It allows cuDNN, which knows no segments; a promise that does not hold would drop them.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; the softmax is in fp32.

    Raises:
        ValueError: on several devices: rows, tokens or heads do not divide along the mesh.
    """
    mesh = current_mesh()
    if mesh is None:
        return _on_one_device(q_BTNH, k_BTKH, v_BTKH, places, unpacked)
    heads = ("batch", "length", "heads", None)
    for name, x in (("queries", q_BTNH), ("keys", k_BTKH)):
        check_divides(mesh, heads, x.shape, name)
        if x.shape[2] % (mesh.shape["tensor"] * mesh.shape["sequence"]):
            raise ValueError(
                f"{name} {x.shape}: their {x.shape[2]} heads do not divide along mesh axes tensor "
                f"{mesh.shape['tensor']} x sequence {mesh.shape['sequence']}, which attention cuts them by"
            )
    place_specs = jax.tree.map(lambda _: spec("batch", "length"), places)
    in_specs = (spec(*heads), spec(*heads), spec(*heads), place_specs)
    each_device = partial(_on_each_device, unpacked=unpacked)
    return jax.shard_map(each_device, in_specs=in_specs, out_specs=spec(*heads), check_vma=False)(
        q_BTNH, k_BTKH, v_BTKH, places
    )


def _on_each_device(
    q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, places: Places, unpacked: bool
) -> jax.Array:
    """A device's part under `shard_map`: its rows and heads, and where tokens are cut too, all tokens of fewer heads.

    Cut tokens are exchanged for cut heads and back by an all-to-all each (Jacobs et al. 2023, "DeepSpeed Ulysses").
    """
    if jax.lax.axis_size("sequence") == 1:
        return _on_one_device(q_BTNH, k_BTKH, v_BTKH, places, unpacked)

    def all_tokens(x_BTNH: jax.Array) -> jax.Array:
        return jax.lax.all_to_all(x_BTNH, "sequence", split_axis=2, concat_axis=1, tiled=True)

    whole = Places(*(jax.lax.all_gather(x_BT, "sequence", axis=1, tiled=True) for x_BT in places))
    out_BTNH = _on_one_device(all_tokens(q_BTNH), all_tokens(k_BTKH), all_tokens(v_BTKH), whole, unpacked)
    return jax.lax.all_to_all(out_BTNH, "sequence", split_axis=1, concat_axis=2, tiled=True)


def _on_one_device(
    q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, places: Places, unpacked: bool
) -> jax.Array:
    """The first implementation that the device has and the rows allow; all but cuDNN honour segments."""
    platform = _platform()
    if platform == "tpu":
        return splash_attention(q_BTNH, k_BTKH, v_BTKH, places.segment_ids_BT)  # keeps its inputs as it lays them out
    q_BTNH, k_BTKH, v_BTKH = kept_as(QUERY, q_BTNH), kept_as(KEY, k_BTKH), kept_as(VALUE, v_BTKH)
    if platform == "gpu":
        # Imported for GPUs alone: jax means to part with its way to Triton, which must not break other devices.
        from mentallama_jax.models.gpu_attention import cudnn_attention, cudnn_serves, segment_attention

        if unpacked and cudnn_serves(q_BTNH):
            return cudnn_attention(q_BTNH, k_BTKH, v_BTKH, places.segment_ids_BT)
        return segment_attention(q_BTNH, k_BTKH, v_BTKH, places.segment_ids_BT)
    if q_BTNH.shape[1] % BLOCK == 0:
        return blockwise_attention(q_BTNH, k_BTKH, v_BTKH, places.segment_ids_BT)
    return reference_attention(q_BTNH, k_BTKH, v_BTKH, places)


def _platform() -> str:
    """What the program is compiled for: the mesh's devices, which need not be present, or else the default ones."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    platform = jax.default_backend() if device is None else str(device.platform)
    return "gpu" if platform == "cuda" else platform


def reference_attention(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, places: Places) -> jax.Array:
    """`attention` by the textbook, in whatever order the tokens stand: forms all [B, N, T, T] scores."""
    B, T, N, H = q_BTNH.shape
    K = k_BTKH.shape[2]
    positions_BT, segment_ids_BT = places
    visible_BTS = (
        (segment_ids_BT[:, :, None] == segment_ids_BT[:, None, :])
        & (segment_ids_BT[:, None, :] != 0)
        & (positions_BT[:, None, :] <= positions_BT[:, :, None])
    )
    q_BTKGH = q_BTNH.reshape(B, T, K, N // K, H)
    scores = jnp.einsum("BTKGH,BSKH->BKGTS", q_BTKGH, k_BTKH, preferred_element_type=jnp.float32) * H**-0.5
    scores = jnp.where(visible_BTS[:, None, None], scores, _MASKED)
    weights = jax.nn.softmax(scores, axis=-1) * jnp.any(visible_BTS, -1)[:, None, None, :, None]
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights.astype(v_BTKH.dtype), v_BTKH).reshape(B, T, N, H)
