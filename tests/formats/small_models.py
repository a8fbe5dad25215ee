"""Small models for the tests of formats."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.formats.model_card import ModelCard
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, abstract_params

SAMPLE_TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"

TINY = LlamaConfig(
    vocab_size=1024,
    hidden_size=32,
    intermediate_size=48,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    rms_norm_eps=3e-6,
    rope_theta=5000.0,
    rope_scaling=None,
    tie_embeddings=False,
    max_positions=64,
)
# head_dim is not hidden_size / num_heads here.
TINY_TIED = replace(TINY, num_kv_heads=4, head_dim=12, tie_embeddings=True)
CARD = ModelCard("tiny", "org/base", base_is_hub_id=True)


def random_params(config: LlamaConfig) -> Params:
    """Parameters in which every tensor of every layer differs from all others, norm scales included."""
    source = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(source.normal(0, 0.1, x.shape), x.dtype), abstract_params(config))
