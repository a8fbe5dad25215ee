"""transformers on torch reads what we write and computes the same, and the other way round."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from small_models import CARD, TINY, TINY_TIED, random_params

from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.load import load_model
from mentallama_jax.formats.locate import locate
from mentallama_jax.formats.shards import SAFETENSORS
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.models.llama import LlamaConfig, forward
from mentallama_jax.models.module import Params
from mentallama_jax.models.rotary import RopeScaling

torch = pytest.importorskip("torch", reason="the extra parity is not installed")

LLAMA3 = RopeScaling("llama3", 8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_max_positions=16)
CONFIGS = [TINY, TINY_TIED, replace(TINY, rope_scaling=LLAMA3), replace(TINY, rope_scaling=RopeScaling("linear", 2.0))]


def our_logits(config: LlamaConfig, params: Params, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    return np.asarray(forward(params, config, jnp.asarray(ids), positions, jnp.ones_like(positions)))


def their_logits(model: Any, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return model(torch.from_numpy(ids)).logits.float().numpy()


@pytest.mark.parametrize("shard_bytes", [2**30, 40_000])
@pytest.mark.parametrize("config", CONFIGS)
def test_transformers_loads_an_export_and_agrees(
    tmp_path: Path, tokenizer: Tokenizer, config: LlamaConfig, shard_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    import transformers

    params = random_params(config)
    save_hf(tmp_path / "model", config, params, tokenizer, card=CARD, max_shard_bytes=shard_bytes)
    transformers.logging.enable_propagation()
    model, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert model.dtype == torch.float32
    assert (model.config.eos_token_id, model.generation_config.eos_token_id) == (2, 2)
    ids = np.random.default_rng(0).integers(3, config.vocab_size, (2, 40))
    np.testing.assert_allclose(our_logits(config, params, ids), their_logits(model, ids), atol=1e-4, rtol=0)


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_we_load_what_transformers_saves(tmp_path: Path, tokenizer: Tokenizer, dtype: str) -> None:
    import transformers

    torch.manual_seed(0)
    shape = transformers.LlamaConfig(
        vocab_size=1024, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=10, rms_norm_eps=1e-4, max_position_embeddings=64,
        rope_parameters={"rope_type": "linear", "rope_theta": 3000.0, "factor": 2.0},
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(shape).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "theirs", max_shard_size="60KB")
    assert len(list((tmp_path / "theirs").glob("model-*.safetensors"))) > 1
    config, params = load_model(tmp_path / "theirs")
    save_hf(tmp_path / "ours", config, params, tokenizer, card=CARD, dtype=dtype)  # type: ignore[arg-type]
    ours = load_file(tmp_path / "ours" / SAFETENSORS.single)
    theirs = {k: v for path in (tmp_path / "theirs").glob("*.safetensors") for k, v in load_file(path).items()}
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
    ids = np.random.default_rng(0).integers(3, 1024, (2, 20))
    np.testing.assert_allclose(our_logits(config, params, ids), their_logits(model.float(), ids), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_smollm2_from_gguf_agrees_with_transformers_own_load(smollm2: str, tmp_path: Path) -> None:
    """fp32 on both sides: logits within 1e-3, greedy continuations equal, exported weights bit-equal."""
    import transformers

    pytest.importorskip("accelerate", reason="transformers loads GGUF through it; it is in the extra parity")
    path = locate(smollm2, weights=True)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    config, params = load_model(smollm2)
    tokenizer = load_tokenizer(smollm2)
    largest = 0.0
    for text in (
        "The capital of France is",
        "<|im_start|>user\nWhy do people feel lonely?<|im_end|>\n<|im_start|>assistant\n",
        "def mean(values):\n    ",
    ):
        ids: list[int] = []
        for part in re.split(r"(<\|im_start\|>|<\|im_end\|>)", text):
            special = part.startswith("<|im_")
            ids += [tokenizer.special_id(part)] if special else tokenizer.encode(part, continues=True)
        expected = theirs.generate(
            torch.tensor([ids]), max_new_tokens=24, do_sample=False, pad_token_id=0, eos_token_id=None
        )[0].tolist()
        row = np.asarray([expected])
        ours = our_logits(config, params, row)
        # Each token is our choice after the ones before it, so our own greedy decoding would go the same way.
        assert ours[0, len(ids) - 1 : -1].argmax(-1).tolist() == expected[len(ids) :]
        largest = max(largest, float(np.abs(ours - their_logits(theirs, row)).max()))
    print(f"largest difference of logits: {largest:.2e}")
    assert largest < 1e-3

    save_hf(tmp_path / "export", config, params, tokenizer, card=CARD)
    stored = load_file(tmp_path / "export" / SAFETENSORS.single)
    reference = theirs.state_dict()
    assert all(np.array_equal(tensor, reference[name].numpy()) for name, tensor in stored.items())


@pytest.mark.slow
def test_smollm2_tokenizer_agrees_with_transformers_conversion(smollm2: str, tmp_path: Path) -> None:
    import transformers

    path = locate(smollm2, weights=True)
    ours = load_tokenizer(smollm2)
    ours.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    exported = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("Hello, it's me.", "caf\u00e9 \u4f60\u597d \U0001f62d\n\n  two  spaces", "  lead and tail  "):
        assert ours.encode(text) == exported(text).input_ids == theirs(text).input_ids
