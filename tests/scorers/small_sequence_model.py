"""A tiny random BART with a byte-level vocabulary, written as a Hugging Face folder without torch."""

import json
from pathlib import Path

import jax
import numpy as np

from mentallama_jax.formats.hf_folder import save_model
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.module import Params, init_params

CONFIG = BartConfig(
    vocab_size=270,
    hidden_size=16,
    encoder_layers=2,
    decoder_layers=2,
    encoder_heads=4,
    decoder_heads=2,
    encoder_intermediate=24,
    decoder_intermediate=20,
    max_positions=64,
    activation="gelu",
    scale_embedding=False,
    logits_bias=True,
    dropout=0.1,
    pad_id=1,
    start_id=2,
    end_id=2,
)


def letters() -> list[str]:
    """How byte-level vocabularies spell the 256 bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def random_params(seed: int = 0) -> Params:
    """Parameters far from 0, so that texts differ in score."""
    source = np.random.default_rng(seed)
    first = init_params(CONFIG, jax.random.key(seed))
    return jax.tree.map(lambda x: x + 0.3 * source.normal(size=x.shape).astype(np.float32), first)


def write_bart(folder: Path, seed: int = 0) -> Params:
    """Write the folder; return its parameters."""
    names = ["<s>", "<pad>", "</s>", "<unk>", *letters(), "Ġt", "he", "Ġthe"]
    vocabulary = {name: number for number, name in enumerate(names)}
    files = {
        "vocab.json": json.dumps(vocabulary).encode(),
        "merges.txt": "#version: 0.2\nĠ t\nh e\nĠt he\n".encode(),
    }
    params = random_params(seed)
    save_model(folder, CONFIG, params, files)
    return params
