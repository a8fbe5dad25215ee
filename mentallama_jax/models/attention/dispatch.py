"""One attention function; every implementation honours positions, segments and grouped heads.

An implementation says itself which forms it can do (`supports`) and refuses the others; the first one on the list of
the platform that can do the form is taken. The last one, the reference, can do all of them; it is also taken for the
few queries of a decoder's step.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax

from mentallama_jax.models.attention import cpu, cudnn, tpu
from mentallama_jax.models.attention.forms import Form, Places
from mentallama_jax.models.attention.reference import reference_attention
from mentallama_jax.models.remat import KEY, QUERY, VALUE, kept_as
from mentallama_jax.parallel.rules import check_divides, current_mesh, spec

FEW_QUERIES = 16
"""Cross-attention of no more queries, as of a decoder that writes token by token, is left to the reference: its scores
take little memory beside the keys that are read anyway, and the kernels would pad the queries to a block."""


class Call(NamedTuple):
    """The arguments of a call besides queries, keys and values; `form` is their summary."""

    places: Places
    key_places: Places | None
    bias: jax.Array | None
    form: Form

    @property
    def key_segment_ids_BS(self) -> jax.Array | None:
        """The segments of the keys where they belong to another sequence."""
        return None if self.key_places is None else self.key_places.segment_ids_BT


class Implementation(NamedTuple):
    """One way to compute attention on one device.

    Attributes:
        name: for messages and tests.
        supports: (form, queries) -> whether it can do the call.
        attend: (q_BTNH, k_BSKH, v_BSKH, call) -> o_BTNH.
        keeps_inputs: whether it names queries, keys and values for remat itself, in a layout of its own.
    """

    name: str
    supports: Callable[[Form, jax.Array], bool]
    attend: Callable[[jax.Array, jax.Array, jax.Array, Call], jax.Array]
    keeps_inputs: bool = False


def attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    places: Places,
    *,
    key_places: Places | None = None,
    causal: bool = True,
    bias: jax.Array | None = None,
    unpacked: bool = False,
) -> jax.Array:
    """Softmax attention within segments, scores scaled by 1/sqrt(H).

    A query sees the keys of its own segment, and where `causal` only those at its own and earlier positions. Segment 0
    is padding: nothing sees it, and its own outputs are 0; so are those of a query whose segment has no key. Query head
    n uses key/value head n // (N / K). In causal self-attention the tokens of a segment stand in order of their
    positions, which makes every key after a query invisible to it: the implementations for TPUs (`tpu`), for GPUs
    (`gpu`) and for rows of whole blocks elsewhere (`cpu`) leave that half of the work out. Without causality those for
    TPUs and GPUs take any order of segments; only a bias, and causal cross-attention, they leave to the others.

    Args:
        q_BTNH: queries, rotated where the model rotates.
        k_BSKH: keys, likewise; N is a multiple of K.
        v_BSKH: values.
        places: of the queries, and of the keys too where `key_places` is None.
        key_places: of the keys of another sequence, [B, S] each (cross-attention).
        causal: whether later positions are hidden.
        bias: numbers to add to the scaled scores, [B or 1, N or 1, T or 1, S or 1]; finite, above -1e30.
        unpacked: the caller's word that each row holds one segment at most, from its first token on, and padding behind
            it. It allows cuDNN, which knows no segments; a promise that does not hold would drop them.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; the softmax is in fp32.

    Raises:
        ValueError: the keys have another length and no places; the bias does not fit; or on several devices: rows,
            tokens or heads do not divide along the mesh.
    """
    if bias is not None:
        _check_bias(bias, q_BTNH, k_BSKH)
    form = Form(causal, key_places is not None, bias is not None, unpacked)
    mesh = current_mesh()
    if mesh is None:
        return _on_one_device(q_BTNH, k_BSKH, v_BSKH, Call(places, key_places, bias, form))
    heads = ("batch", "length", "heads", None)
    for name, x in (("queries", q_BTNH), ("keys", k_BSKH)):
        check_divides(mesh, heads, x.shape, name)
        if x.shape[2] % (mesh.shape["tensor"] * mesh.shape["sequence"]):
            raise ValueError(
                f"{name} {x.shape}: their {x.shape[2]} heads do not divide along mesh axes tensor "
                f"{mesh.shape['tensor']} x sequence {mesh.shape['sequence']}, which attention cuts them by"
            )
    place_specs, key_specs = jax.tree.map(lambda _: spec("batch", "length"), (places, key_places))
    bias_spec = None if bias is None else _bias_spec(bias)
    in_specs = (spec(*heads), spec(*heads), spec(*heads), place_specs, key_specs, bias_spec)
    each_device = partial(_on_each_device, form=form)
    return jax.shard_map(each_device, in_specs=in_specs, out_specs=spec(*heads), check_vma=False)(
        q_BTNH, k_BSKH, v_BSKH, places, key_places, bias
    )


def _check_bias(bias_BNTS: jax.Array, q_BTNH: jax.Array, k_BSKH: jax.Array) -> None:
    B, T, N = q_BTNH.shape[:3]
    whole = (B, N, T, k_BSKH.shape[1])
    if bias_BNTS.ndim != 4 or any(size not in (1, full) for size, full in zip(bias_BNTS.shape, whole, strict=False)):
        raise ValueError(f"a bias of shape {bias_BNTS.shape} does not broadcast to the scores {whole}")


def _bias_spec(bias_BNTS: jax.Array) -> jax.sharding.PartitionSpec:
    """Where a bias goes: rows as those of the queries, heads as attention trades them for tokens, tokens whole."""
    rows, heads = bias_BNTS.shape[:2]
    return spec("batch" if rows > 1 else None, "traded_heads" if heads > 1 else None, None, None)


def _on_each_device(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    places: Places,
    key_places: Places | None,
    bias: jax.Array | None,
    form: Form,
) -> jax.Array:
    """Compute a device's part under `shard_map`: its rows and heads; where tokens are cut, all tokens of fewer heads.

    Cut tokens are exchanged for cut heads and back by an all-to-all each (Jacobs et al. 2023, "DeepSpeed Ulysses").
    """
    if jax.lax.axis_size("sequence") == 1:
        return _on_one_device(q_BTNH, k_BSKH, v_BSKH, Call(places, key_places, bias, form))

    def all_tokens(x_BTNH: jax.Array) -> jax.Array:
        return jax.lax.all_to_all(x_BTNH, "sequence", split_axis=2, concat_axis=1, tiled=True)

    places, key_places = jax.tree.map(
        lambda x_BT: jax.lax.all_gather(x_BT, "sequence", axis=1, tiled=True), (places, key_places)
    )
    call = Call(places, key_places, bias, form)
    out_BTNH = _on_one_device(all_tokens(q_BTNH), all_tokens(k_BSKH), all_tokens(v_BSKH), call)
    return jax.lax.all_to_all(out_BTNH, "sequence", split_axis=1, concat_axis=2, tiled=True)


def _on_one_device(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, call: Call) -> jax.Array:
    chosen = choose(platform(), call.form, q_BTNH)
    if not chosen.keeps_inputs:
        q_BTNH, k_BSKH, v_BSKH = kept_as(QUERY, q_BTNH), kept_as(KEY, k_BSKH), kept_as(VALUE, v_BSKH)
    return chosen.attend(q_BTNH, k_BSKH, v_BSKH, call)


def choose(platform: str, form: Form, q_BTNH: jax.Array) -> Implementation:
    """The first implementation of a platform that can do a form; the last one, the reference, for few queries."""
    all_of_them = implementations(platform)
    if form.cross and q_BTNH.shape[1] <= FEW_QUERIES:
        return all_of_them[-1]
    return next(one for one in all_of_them if one.supports(form, q_BTNH))


def implementations(platform: str) -> tuple[Implementation, ...]:
    """The implementations of a platform, the best first; all but cuDNN honour segments."""
    anywhere = (
        Implementation("blockwise", cpu.supports, _blockwise),
        Implementation("reference", lambda form, q_BTNH: True, _reference),
    )
    if platform == "tpu":
        return (Implementation("splash", tpu.supports, _splash, keeps_inputs=True), *anywhere)
    if platform == "gpu":
        # Imported for GPUs alone: jax means to part with its way to Triton, which must not break other devices.
        from mentallama_jax.models.attention import gpu

        return (
            Implementation(
                "cudnn",
                cudnn.supports,
                lambda q, k, v, call: cudnn.cudnn_attention(q, k, v, call.places.segment_ids_BT, form=call.form),
            ),
            Implementation(
                "segments",
                gpu.supports,
                lambda q, k, v, call: gpu.segment_attention(
                    q,
                    k,
                    v,
                    call.places.segment_ids_BT,
                    key_segment_ids_BS=call.key_segment_ids_BS,
                    form=call.form,
                ),
            ),
            *anywhere,
        )
    return anywhere


def _splash(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, call: Call) -> jax.Array:
    own, other = call.places.segment_ids_BT, call.key_segment_ids_BS
    return tpu.splash_attention(q_BTNH, k_BSKH, v_BSKH, own, key_segment_ids_BS=other, form=call.form)


def _blockwise(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, call: Call) -> jax.Array:
    return cpu.blockwise_attention(
        q_BTNH,
        k_BSKH,
        v_BSKH,
        call.places,
        key_places=call.key_places,
        causal=call.form.causal,
        bias=call.bias,
    )


def _reference(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, call: Call) -> jax.Array:
    return reference_attention(
        q_BTNH, k_BSKH, v_BSKH, call.places, key_places=call.key_places, causal=call.form.causal, bias=call.bias
    )


def platform() -> str:
    """What the program is compiled for: the mesh's devices, which need not be present, or else the default ones."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    platform = jax.default_backend() if device is None else str(device.platform)
    return "gpu" if platform == "cuda" else platform
