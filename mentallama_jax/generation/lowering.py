"""The programs of answering, lowered for devices that need not be present."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from mentallama_jax.generation.cache_moves import STEPS, append, places_for, sized_for
from mentallama_jax.generation.drafts import Drafts
from mentallama_jax.generation.key_value_cache import CACHE, empty
from mentallama_jax.generation.packs import FULL, WIDTHS, pack, read, width_of
from mentallama_jax.generation.placement import abstract_model, batch_parts
from mentallama_jax.generation.sampling import Uses
from mentallama_jax.generation.slots import Slots, decode, empty_slots, idle_rows
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.parallel.rules import spec

_TOKEN = 2
"""A token; which one does not change what a program costs."""


class LoweredParts(NamedTuple):
    """The programs of answering, lowered: reading a pack of prompts, a loop of steps, and what follows the loop."""

    read: jax.stages.Lowered
    decode: jax.stages.Lowered
    append: jax.stages.Lowered


def lower_answers(
    config: LlamaConfig,
    mesh: Mesh,
    *,
    rows: int,
    prompt: int,
    new_tokens: int,
    dtype: Any,
    int8_cache: bool = False,
    int8_weights: bool = False,
    drafts: int = 0,
) -> LoweredParts:
    """The greedy programs of `Decoding`, lowered as if the model lay on the mesh; inside `use_mesh(mesh)`.

    Args:
        config: of the model.
        mesh: of devices, which need not be present.
        rows: slots, see `whole_batch`.
        prompt: tokens of a prompt.
        new_tokens: of an answer.
        dtype: of weights and activations.
        int8_cache: keep keys and values in int8.
        int8_weights: keep the projections in int8.
        drafts: tokens that a step guesses, see `drafts`.

    Raises:
        UserError: see `param_shardings`.
    """
    model = abstract_model(config, mesh, dtype, int8_weights=int8_weights)
    cache_dtype = jnp.dtype(jnp.int8) if int8_cache else None
    parts = batch_parts()
    arrays = pack([[[_TOKEN]]] * parts, pack_width(prompt))
    longest = prompt + (new_tokens - 2) // STEPS * STEPS  # when the last loop begins
    places = places_for(sized_for(longest, prompt + new_tokens - 1))
    # What the host sends has no place of its own.
    table = Drafts(drafts).table if drafts else None
    sent = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (arrays, idle_rows(rows), table))

    def placed(x: Any, *names: str | None) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec(*names)))

    held = cache_dtype or jnp.dtype(dtype)
    shapes = jax.eval_shape(partial(empty_slots, config=config, slots=rows, places=places, dtype=held, penalty=False))
    slots = Slots(
        jax.tree.map(lambda x: placed(x, *CACHE), shapes.cache),
        placed(shapes.logits_BV, "batch", "vocabulary"),
        None,
    )
    recent = jax.tree.map(lambda x: placed(x, *CACHE), jax.eval_shape(lambda: empty(config, rows, STEPS, held)))
    fixed = {"config": config, "uses": Uses(), "alternatives": False, "drafts": drafts, "table": sent[2]}
    count = jax.ShapeDtypeStruct((), jnp.int32)
    return LoweredParts(
        read.lower(model, sent[0], None, config=config, cache_dtype=cache_dtype),
        decode.lower(model, slots.cache, slots.logits_BV, None, sent[1], None, count, count, **fixed),
        append.lower(slots.cache, recent, sent[1].lengths_B, room=longest + STEPS <= places),
    )


def pack_width(prompt: int) -> int:
    """The width of the rows that prompts of this length are read in, while there are enough of them."""
    return width_of(min(max(prompt, FULL), WIDTHS[-1]))
