"""A random model in memory, ready to answer; for the tests of what is built on `jobs.answer`."""

from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.config import Style
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.generation.engine import Engine
from mentallama_jax.jobs.answer import Answerer
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, abstract_params

TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"
CONFIG = LlamaConfig(
    vocab_size=1024, hidden_size=32, intermediate_size=40, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=8,
    rms_norm_eps=1e-5, rope_theta=1e4, rope_scaling=None, tie_embeddings=False, max_positions=1024,
)  # fmt: skip


def toy_params() -> Params:
    """The same weights each time, large enough that answers depend on every part of the prompt."""
    source = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(source.normal(0, 0.3, x.shape), x.dtype), abstract_params(CONFIG))


def toy_answerer(style: Style = "plain", max_length: int = 256) -> Answerer:
    """An engine with the weights of `toy_params`."""
    engine = Engine(CONFIG, "float32")
    engine.update(toy_params())
    opened = cast(Any, None)  # where the weights come from does not matter to answers
    tokenizer = load_tokenizer(TOKENIZER)
    return Answerer(opened, engine, tokenizer, style, "as asked", max_length, "float32", "of the toy", None)
