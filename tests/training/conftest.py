"""A model that trains in milliseconds, and configs for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mentallama_jax.config import RunConfig, parse_config

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
}

Values = dict[str, Any]


@pytest.fixture(scope="session")
def training_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens and compiled programs that all runs of a session share."""
    return tmp_path_factory.mktemp("training_cache")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shape of a tiny LLaMA, without weights."""
    folder = tmp_path_factory.mktemp("tiny_model")
    (folder / "config.json").write_text(json.dumps(TINY))
    return folder


@pytest.fixture(scope="session")
def tiny_values(tiny_model: Path, training_cache: Path) -> Callable[..., Values]:
    """Sections of a config, to be changed key by key: `tiny_values(run_dir, training={"steps": 3})`.

    As it stands: 12 updates in two epochs over 90 rows of the bundled sample, evaluated after each epoch.
    """
    sections: Values = {
        "model": {
            "source": str(tiny_model),
            "weights": "random",
            "tokenizer": "sample",
            "compute_dtype": "float32",
            "remat": "none",
        },
        "data": {
            "train": ["sample"],
            "validation": ["sample"],
            "max_length": 192,
            "max_rows": 90,
            "cache_dir": str(training_cache / "tokens"),
        },
        "optimizer": {"learning_rate": 1e-3},
        "training": {
            "epochs": 2,
            "batch_size": 16,
            "micro_batch_rows": 4,
            "compile_cache_dir": str(training_cache / "xla"),
        },
        "evaluation": {"max_rows": 12},
        "checkpoint": {"every_steps": 4, "keep_last": 2},
    }

    def make(run_dir: Path, **changes: Values) -> Values:
        values = {name: sections.get(name, {}) | changes.get(name, {}) for name in {*sections, *changes}}
        return values | {"training": values["training"] | {"run_dir": str(run_dir)}}

    return make


@pytest.fixture(scope="session")
def tiny_config(tiny_values: Callable[..., Values]) -> Callable[..., RunConfig]:
    """`tiny_values` as a config."""
    return lambda run_dir, **changes: parse_config(tiny_values(run_dir, **changes), "test")
