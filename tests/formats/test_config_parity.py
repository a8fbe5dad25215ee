"""Whatever a config.json says beyond the usual: the logits of transformers, or a refusal that names the key."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from small_models import CARD, TINY, random_params

from mentallama_jax.errors import UserError
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.load import load_model
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
from mentallama_jax.models.llama import forward

torch = pytest.importorskip("torch", reason="the extra parity is not installed")

# Long positions and a large head, so that each way of turning pairs gives clearly other logits.
SHAPE = replace(TINY, num_layers=1, head_dim=16, rope_theta=10000.0, max_positions=64)
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LENGTH = "original_max_position_embeddings"

EQUAL: dict[str, dict[str, Any]] = {
    "llama3, length inside": {"rope_scaling": LLAMA3 | {LENGTH: 16}},
    "llama3, length outside alone": {"rope_scaling": LLAMA3, LENGTH: 16},
    "llama3, length outside and inside": {"rope_scaling": LLAMA3 | {LENGTH: 48}, LENGTH: 16},
    "llama3 in rope_parameters, length outside": {"rope_parameters": LLAMA3 | {"rope_theta": 500.0}, LENGTH: 16},
    "linear, length outside": {"rope_scaling": LINEAR, LENGTH: 16},
    "both, the same": {"rope_scaling": LINEAR, "rope_parameters": LINEAR},
    "older key of the kind": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "both keys of the kind": {"rope_scaling": {"type": "dynamic", **LINEAR}},
    "theta inside and outside": {"rope_parameters": {"rope_type": "default", "rope_theta": 77.0}, "rope_theta": 3.0},
    "an emptied rope_parameters": {"rope_parameters": {}, "rope_scaling": LINEAR},
    "dynamic": {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
    "full attention in every layer": {"layer_types": ["full_attention"]},
    "harmless values": {"is_causal": True, "pretraining_tp": 2, "attention_dropout": 0, "use_sliding_window": False},
    "unknown keys": {"logit_scale": 3.0, "qk_norm": True, "no_rope_layers": [0], "alibi": True},
}
REFUSED: dict[str, dict[str, Any]] = {
    "rope_parameters and rope_scaling": {"rope_parameters": {"rope_type": "default"}, "rope_scaling": LINEAR},
    "is_causal": {"is_causal": False},
    "is_encoder_decoder": {"is_encoder_decoder": True},
    "layer_types": {"layer_types": ["sliding_attention"], "sliding_window": None},
    "sliding_window": {"sliding_window": 4},
    "partial_rotary_factor": {"partial_rotary_factor": 0.5},
    "hidden_act": {"hidden_act": "gelu"},
    "mlp_bias": {"mlp_bias": True},
    "attention_chunk_size": {"attention_chunk_size": 4},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
    "longrope": {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}},
    "per layer type": {"rope_parameters": {"full_attention": LINEAR}, "layer_types": ["full_attention"]},
}


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity") / "model"
    save_hf(folder, SHAPE, random_params(SHAPE), tokenizer, card=CARD)
    values = json.loads((folder / "config.json").read_text())
    for key in ("rope_theta", "rope_scaling"):
        del values[key]
    (folder / "plain.json").write_text(json.dumps(values))
    return folder


def change(folder: Path, changes: dict[str, Any]) -> None:
    values = json.loads((folder / "plain.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


@pytest.mark.parametrize("case", EQUAL)
def test_the_logits_of_transformers(folder: Path, case: str) -> None:
    import transformers

    change(folder, EQUAL[case])
    ids = np.random.default_rng(0).integers(3, SHAPE.vocab_size, (1, 60))
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(ids)).logits.numpy()
    config, params = load_model(folder)
    positions = jnp.arange(60)[None]
    ours = np.asarray(forward(params, config, jnp.asarray(ids), positions, jnp.ones_like(positions)))
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(folder: Path, case: str) -> None:
    change(folder, REFUSED[case])
    with pytest.raises(UserError, match=r"config\.json: ") as raised:
        load_model(folder)
    assert next(iter(REFUSED[case])) in str(raised.value)
