"""Where a model, its batches and its cache live on a mesh while it answers; and its program for absent devices."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mentallama_jax.errors import UserError
from mentallama_jax.generation.decode import generate
from mentallama_jax.generation.decoder import UnrolledLlama
from mentallama_jax.generation.sampling import Sampling, row_keys
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, abstract_params, bind, param_dimensions
from mentallama_jax.parallel.rules import RULES, current_mesh, tree_shardings

_END = 2
"""An end token; which one does not change what a program costs."""


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


def lower_generate(
    config: LlamaConfig, mesh: Mesh, *, rows: int, prompt: int, new_tokens: int, dtype: Any
) -> jax.stages.Lowered:
    """The greedy program of `decode.generate`, lowered as if the model lay on the mesh; inside `use_mesh(mesh)`.

    Args:
        config: of the model.
        mesh: of devices, which need not be present.
        rows: of a batch, see `whole_batch`.
        prompt: tokens of a prompt, see `batching.prompt_slots`.
        new_tokens: of an answer.
        dtype: of weights and activations.

    Raises:
        UserError: see `param_shardings`.
    """
    # Prompts come from the host and have no place of their own.
    tokens_BP = jax.ShapeDtypeStruct((rows, prompt), jnp.int32)
    lengths_B = jax.ShapeDtypeStruct((rows,), jnp.int32)
    keys_B = jax.eval_shape(lambda: row_keys(0, [""] * rows))
    return generate.lower(
        abstract_model(config, mesh, dtype),
        tokens_BP,
        lengths_B,
        keys_B,
        config=config,
        sampling=Sampling(),
        end_ids=(_END,),
        max_new_tokens=new_tokens,
    )
