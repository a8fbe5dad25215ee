import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_models import TINY, TINY_TIED

from mentallama_jax.errors import UserError
from mentallama_jax.formats.architectures.llama_config import read_config, write_config
from mentallama_jax.formats.architectures.llama_keys import HARMLESS, READ, REFUSED_UNLESS
from mentallama_jax.formats.hf import read_hf_config
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.models.rotary import RopeScaling

LLAMA3 = RopeScaling("llama3", 8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_max_positions=32)

LLAMA2_7B_AS_PUBLISHED = {
    "_name_or_path": "meta-llama/Llama-2-7b-hf",
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0.dev0",
    "use_cache": True,
    "vocab_size": 32000,
}


def values(**changes: Any) -> dict[str, Any]:
    return {**write_config(TINY, "float32"), **changes}


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in values().items() if key not in keys}


@pytest.mark.parametrize("scaling", [None, RopeScaling("linear", 2.0), RopeScaling("dynamic", 4.0), LLAMA3])
@pytest.mark.parametrize("config", [TINY, TINY_TIED, *PRESETS.values()])
def test_written_config_reads_back(config: Any, scaling: RopeScaling | None) -> None:
    config = replace(config, rope_scaling=scaling)
    assert read_config(json.loads(json.dumps(write_config(config, "float32"))), "here") == config


def test_a_published_config() -> None:
    assert read_config(LLAMA2_7B_AS_PUBLISHED, "here") == PRESETS["llama2-7b"]


def test_every_key_of_the_reference_is_read_refused_or_harmless() -> None:
    import dataclasses

    from transformers import LlamaConfig

    fields = {field.name for field in dataclasses.fields(LlamaConfig)}
    assert len(fields) > 25
    assert fields <= READ | REFUSED_UNLESS.keys() | HARMLESS
    written = LlamaConfig().to_dict().keys()
    assert written <= READ | REFUSED_UNLESS.keys() | HARMLESS


def test_each_key_has_one_treatment() -> None:
    assert len(READ | HARMLESS | REFUSED_UNLESS.keys()) == len(READ) + len(HARMLESS) + len(REFUSED_UNLESS)


def test_an_unknown_key_is_said_once_and_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    changed = values(**{"qk_norm": True, "evil\x1b[31m": 1})
    assert read_config(changed, "there") == read_config(changed, "there") == TINY
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "note: there: keys that are not known here are passed over, as transformers does: 'evil\\x1b[31m', 'qk_norm'"
    ]
    read_config(values(), "elsewhere")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("scaling", [None, RopeScaling("linear", 2.0), LLAMA3])
def test_what_transformers_writes_reads_as_what_we_write(tmp_path: Path, scaling: RopeScaling | None) -> None:
    from transformers import LlamaConfig

    config = replace(TINY, rope_scaling=scaling)
    LlamaConfig(**write_config(config, "float32")).save_pretrained(tmp_path)
    assert "rope_parameters" in json.loads((tmp_path / "config.json").read_text())
    assert read_hf_config(tmp_path) == config


def test_absent_optional_keys_mean_what_the_format_says() -> None:
    config = read_config(without("num_key_value_heads", "head_dim", "rope_theta", "tie_word_embeddings"), "here")
    assert (config.num_kv_heads, config.head_dim, config.rope_theta, config.tie_embeddings) == (4, 8, 10000.0, False)
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling = read_config(values(rope_scaling=llama3), "here").rope_scaling
    assert scaling is not None
    assert scaling.original_max_positions == TINY.max_positions


def test_the_older_key_of_the_scaling_type() -> None:
    assert read_config(values(rope_scaling={"type": "linear", "factor": 2}), "here").rope_scaling == RopeScaling(
        "linear", 2.0
    )


def test_rope_theta_inside_rope_parameters_wins() -> None:
    assert read_config(values(rope_parameters={"rope_type": "default", "rope_theta": 7.0}), "here").rope_theta == 7.0


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (values(model_type="mistral"), "model_type is 'mistral'"),
        (values(architectures=["LlamaForSequenceClassification"]), "architectures is"),
        (values(hidden_act="gelu"), "hidden_act is 'gelu'"),
        (values(attention_bias=True), "attention_bias is True"),
        (values(mlp_bias=True), "mlp_bias is True"),
        (values(attention_dropout=0.1), "attention_dropout is 0.1"),
        (values(partial_rotary_factor=0.5), "partial_rotary_factor is 0.5"),
        (values(quantization_config={"bits": 4}), "quantization_config is"),
        (values(rope_scaling={"rope_type": "yarn", "factor": 2.0}), "rope_type 'yarn'"),
        (values(rope_scaling={"rope_type": "linear"}), "factor is absent"),
        (values(rope_scaling={"rope_type": "linear", "factor": 2.0, "beta_fast": 3}), "has 'beta_fast'"),
        (values(rope_scaling="linear"), "expected an object"),
        (values(rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5}), "partial_rotary_factor 0.5"),
        (values(num_key_value_heads=3), "num_heads 4 is not a multiple of num_kv_heads 3"),
        (values(head_dim=7), "head_dim 7 is odd"),
        (values(hidden_size="32"), "hidden_size is '32'"),
        (values(num_hidden_layers=2.5), "num_hidden_layers is 2.5"),
        (without("rms_norm_eps"), "rms_norm_eps is absent"),
        (values(rms_norm_eps=float("nan")), "rms_norm_eps is nan"),
        (values(rms_norm_eps=float("inf")), "rms_norm_eps is inf"),
        (values(rms_norm_eps=0), "rms_norm_eps is 0"),
        (values(rms_norm_eps=-1e-5), "rms_norm_eps is -1e-05"),
        (values(rope_theta=float("nan")), "rope_theta is nan"),
        (values(rope_theta=10**400), "rope_theta is "),
        (values(rope_parameters={"rope_theta": float("inf")}), "rope_theta is inf"),
        (values(tie_word_embeddings=None), "tie_word_embeddings is None; write true or false"),
        (values(tie_word_embeddings="false"), "tie_word_embeddings is 'false'; write true or false"),
        (values(tie_word_embeddings=1), "tie_word_embeddings is 1; write true or false"),
        (values(attention_bias="false"), "attention_bias is 'false'"),
        (values(attention_bias=0), "attention_bias is 0"),
        (values(is_causal=False), "is_causal is False"),
        (values(is_causal=0), "is_causal is 0"),
        (values(is_encoder_decoder=True), "is_encoder_decoder is True"),
        (values(layer_types=["full_attention", "sliding_attention", "full_attention"]), "layer_types is"),
        (values(layer_types="full_attention"), "layer_types is"),
        (values(per_layer_config={"0": {"head_dim": 4}}), "per_layer_config is"),
        (values(transformers_weights="other.safetensors"), "transformers_weights is"),
        (values(architectures="LlamaForCausalLM"), "architectures is"),
        (values(architectures=3), "architectures is 3"),
        (values(model_type=["llama"]), "model_type is"),
        (values(rope_scaling={"rope_type": ["linear"], "factor": 2.0}), "rope_type"),
        (values(rope_scaling={"rope_type": "linear", "factor": "2"}), "factor is '2'"),
        (
            values(rope_parameters={"rope_type": "default"}, rope_scaling={"rope_type": "linear", "factor": 2.0}),
            "rope_parameters and rope_scaling are both there and differ",
        ),
        (
            values(rope_scaling={"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}),
            "low_freq_factor 4.0 is not below",
        ),
        (values(num_hidden_layers=10**9), "num_hidden_layers is 1000000000; at most"),
        (values(vocab_size=10**12), "vocab_size is 1000000000000; at most"),
        (values(hidden_size=True), "hidden_size is True"),
        (without("max_position_embeddings"), "max_position_embeddings is absent"),
        (without("head_dim") | {"hidden_size": 30}, "not a multiple of num_attention_heads"),
    ],
)
def test_what_would_change_the_maths_is_refused_by_name(bad: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=r"^here: ") as raised:
        read_config(bad, "here")
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "no config.json"),
        ({"adapter_config.json": "{}"}, "merge it into its base model"),
        ({"config.json": '{"model_type": '}, "not valid JSON"),
        ({"config.json": "[]"}, "expected a JSON object"),
    ],
)
def test_bad_config_files(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=reason):
        read_hf_config(tmp_path)
