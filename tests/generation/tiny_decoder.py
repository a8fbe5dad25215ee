"""A tiny decoder and its plain computations, for the tests of generation."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.models.llama import LlamaConfig, forward
from mentallama_jax.models.module import Params, abstract_params
from mentallama_jax.models.rotary import RopeScaling

VOCABULARY = 48
_WIDTH = 200  # few widths, few compilations
_forward = jax.jit(forward, static_argnums=1)


def shape(**changes) -> LlamaConfig:
    values = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_layers": 3,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_embeddings": False,
        "max_positions": 1024,
    }
    return LlamaConfig(**(values | changes))


SHAPES = {
    "grouped, untied": shape(),
    "all heads, tied": shape(num_kv_heads=4, tie_embeddings=True),
    "one key head, odd width, scaled": shape(
        num_kv_heads=1, head_dim=12, rope_theta=500.0, rope_scaling=RopeScaling("linear", 2.0)
    ),
}


def random_params(config: LlamaConfig, seed: int = 0) -> Params:
    """Parameters large enough that answers depend on every part of the prompt."""
    source = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(source.normal(0, 0.3, x.shape), x.dtype), abstract_params(config))


def random_prompts(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    source = np.random.default_rng(seed)
    return [source.integers(3, VOCABULARY, length).tolist() for length in lengths]


def full_logits(params: Params, config: LlamaConfig, tokens: Sequence[int]) -> np.ndarray:
    """[T, V]: scores of the next token at every place, by the plain forward pass over one row."""
    width = -(-len(tokens) // _WIDTH) * _WIDTH
    places = np.arange(width)[None]
    row = np.zeros((1, width), np.int32)
    row[0, : len(tokens)] = tokens
    logits_BTV = _forward(params, config, row, places, (places < len(tokens)).astype(np.int32))
    return np.asarray(logits_BTV[0, : len(tokens)])


def continue_greedily(params: Params, config: LlamaConfig, tokens: Sequence[int], count: int) -> list[int]:
    """The likeliest `count` next tokens, a whole forward pass for each."""
    row = list(tokens)
    for _ in range(count):
        row.append(int(full_logits(params, config, row)[-1].argmax()))
    return row[len(tokens) :]
