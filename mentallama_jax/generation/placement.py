"""Where a model, its batches and its cache live on a mesh while it answers; and both programs for absent devices."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mentallama_jax.errors import UserError
from mentallama_jax.generation.cache import CACHE, Cache, LayerCache, UnrolledLlama, extend, logits, prefill
from mentallama_jax.generation.sampling import first_largest
from mentallama_jax.models.llama import LlamaConfig, Params, abstract_params, bind, param_dimensions
from mentallama_jax.parallel.rules import RULES, current_mesh, sharding, spec, tree_shardings


def param_shardings(config: LlamaConfig, mesh: Mesh) -> Params:
    """The nested dict of a sharding for each parameter, to read a model with.

    Raises:
        UserError: a dimension of the model (such as its key/value heads) does not divide along the mesh, or the mesh
            cuts tokens, which decoding one token at a time cannot.
    """
    if mesh.shape["sequence"] > 1:
        raise UserError("mesh: answers are generated token by token, which cannot be cut: leave sequence at 1")
    try:
        return tree_shardings(mesh, param_dimensions(config), abstract_params(config))
    except ValueError as error:
        raise UserError(f"mesh: {error}; change tensor or fsdp") from None


def whole_batch(rows: int) -> int:
    """The number of rows, filled up so that it divides along the surrounding mesh."""
    mesh = current_mesh()
    parts = 1 if mesh is None else math.prod(mesh.shape[axis] for axis in RULES["batch"])
    return -(-rows // parts) * parts


def abstract_model(config: LlamaConfig, mesh: Mesh, dtype: Any) -> UnrolledLlama:
    """What `cache.unroll` gives, as `jax.ShapeDtypeStruct` with shardings.

    Raises:
        UserError: see `param_shardings`.
    """

    def place(x: Any, where: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, dtype, sharding=where)

    params = jax.tree.map(place, abstract_params(config), param_shardings(config, mesh))
    model = bind(config, params)
    layer = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape[1:], dtype, sharding=NamedSharding(mesh, PartitionSpec(*x.sharding.spec[1:]))
        ),
        model.layers,
    )
    return UnrolledLlama(params["embedding"], (layer,) * config.num_layers, model.final_norm, params.get("head"))


def abstract_prefill(
    config: LlamaConfig, mesh: Mesh, *, rows: int, prompt: int, slots: int, dtype: Any
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The jitted prefill and its abstract arguments; `jitted.lower(*arguments)` inside `use_mesh(mesh)`.

    Args:
        config: of the model.
        mesh: of devices, which need not be present.
        rows: of a batch; a multiple of the mesh's data x fsdp.
        prompt: tokens of a prompt, see `batching.prompt_slots`.
        slots: of the cache, at least `prompt`.
        dtype: of weights and activations.

    Raises:
        UserError: see `param_shardings`.
        ValueError: the rows do not divide along the mesh.
    """
    tokens = _rows(mesh, (rows, prompt))

    def program(model: UnrolledLlama, tokens_BP: jax.Array, lengths_B: jax.Array) -> tuple[jax.Array, Cache]:
        hidden_BD, cache = prefill(model, config, tokens_BP, lengths_B, slots)
        return first_largest(logits(model, hidden_BD)), cache

    return jax.jit(program), (abstract_model(config, mesh, dtype), tokens, _rows(mesh, (rows,)))


def abstract_decode(
    config: LlamaConfig, mesh: Mesh, *, rows: int, slots: int, dtype: Any
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The jitted step of one greedy token for each row, and its abstract arguments; see `abstract_prefill`.

    The cache handed in is donated, as the loop of `decode.generate` reuses it.
    """
    shape = (rows, config.num_kv_heads)
    keys, values = (*shape, config.head_dim, slots), (*shape, slots, config.head_dim)

    def place(x: tuple[int, ...]) -> Any:
        return jax.ShapeDtypeStruct(x, dtype, sharding=sharding(mesh, CACHE, x, "the cache"))

    layer = LayerCache(place(keys), place(values))
    slot = jax.ShapeDtypeStruct((), jnp.int32, sharding=NamedSharding(mesh, PartitionSpec()))
    arguments = (
        abstract_model(config, mesh, dtype),
        (layer,) * config.num_layers,
        _rows(mesh, (rows,)),
        _rows(mesh, (rows,)),
        slot,
    )
    return jax.jit(partial(_decode_step, config), donate_argnums=1), arguments


def _decode_step(
    config: LlamaConfig, model: UnrolledLlama, cache: Cache, tokens_B: jax.Array, padding_B: jax.Array, slot: jax.Array
) -> tuple[jax.Array, Cache]:
    slots_S = jnp.arange(cache[0].keys_BKHS.shape[-1])
    visible_BTS = ((slots_S >= padding_B[:, None]) & (slots_S <= slot))[:, None]
    hidden_BTD, cache = extend(model, config, cache, tokens_B[:, None], (slot - padding_B)[:, None], slot, visible_BTS)
    return first_largest(logits(model, hidden_BTD[:, 0])), cache


def _rows(mesh: Mesh, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    names = ("batch", *(None,) * (len(shape) - 1))
    sharding(mesh, names, shape, "a batch of prompts")
    return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=NamedSharding(mesh, spec(*names)))
