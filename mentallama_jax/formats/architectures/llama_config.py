"""Hugging Face's `config.json` to `LlamaConfig` and back. A key that changes the maths is read or refused by name."""

from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.formats.architectures.config_values import (
    note_unknown_keys,
    number,
    refuse_other_maths,
    same,
    short,
    whole,
)
from mentallama_jax.formats.architectures.llama_keys import HARMLESS, READ, REFUSED_UNLESS
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.rotary import RopeScaling

# What an absent key means in this format (the first LLaMA-2 configs lack rope_theta, for example).
_FORMAT_DEFAULTS: dict[str, Any] = {"rope_theta": 10000.0, "tie_word_embeddings": False}

# Keys of rope_scaling / rope_parameters that carry a number, by kind.
_ROPE_NUMBERS: dict[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
_ROPE_OTHER = ("rope_type", "type", "rope_theta", "partial_rotary_factor")


def read_config(values: dict[str, Any], origin: str) -> LlamaConfig:
    """Turn the values of a `config.json` into a `LlamaConfig`; `origin` names the file in errors.

    Raises:
        UserError: not a LLaMA, a needed key is absent, or a key asks for maths that the model does not have.
    """
    _refuse_other_models(values, origin)
    theta, scaling = _rope(values, origin)
    heads = whole(values, "num_attention_heads", origin)
    hidden = whole(values, "hidden_size", origin)
    has_head_dim = values.get("head_dim") is not None
    if not has_head_dim and hidden % heads:
        raise UserError(f"{origin}: hidden_size {hidden} is not a multiple of num_attention_heads {heads}")
    try:
        return LlamaConfig(
            vocab_size=whole(values, "vocab_size", origin),
            hidden_size=hidden,
            intermediate_size=whole(values, "intermediate_size", origin),
            num_layers=whole(values, "num_hidden_layers", origin),
            num_heads=heads,
            num_kv_heads=heads
            if values.get("num_key_value_heads") is None
            else whole(values, "num_key_value_heads", origin),
            head_dim=whole(values, "head_dim", origin) if has_head_dim else hidden // heads,
            rms_norm_eps=number(values, "rms_norm_eps", origin),
            rope_theta=theta,
            rope_scaling=scaling,
            tie_embeddings=_truth(values, "tie_word_embeddings", origin),
            max_positions=whole(values, "max_position_embeddings", origin),
        )
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from None


def write_config(config: LlamaConfig, dtype: str) -> dict[str, Any]:
    """The values of a `config.json` (without token ids) that `read_config` turns into `config`.

    Rotary keys are written in the form that every version of transformers reads.
    """
    scaling = config.rope_scaling
    rope = None
    if scaling is not None:
        rope = {
            "rope_type": scaling.kind,
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_max_positions,
        }
        rope = {key: value for key, value in rope.items() if value is not None}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": rope,
        "tie_word_embeddings": config.tie_embeddings,
        "max_position_embeddings": config.max_positions,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": dtype,
    }


def _refuse_other_models(values: dict[str, Any], origin: str) -> None:
    if values.get("model_type") != "llama":
        raise UserError(f"{origin}: model_type is {short(values.get('model_type'))}; only llama is supported")
    architectures = values.get("architectures") or ["LlamaForCausalLM"]
    if not isinstance(architectures, list) or "LlamaForCausalLM" not in architectures:
        raise UserError(f"{origin}: architectures is {short(architectures)}; only LlamaForCausalLM is supported")
    refuse_other_maths(values, REFUSED_UNLESS, origin)
    layer_types = values.get("layer_types")
    if layer_types is not None and not (
        isinstance(layer_types, list) and all(kind == "full_attention" for kind in layer_types)
    ):
        raise UserError(
            f"{origin}: layer_types is {short(layer_types)}; only full_attention in all layers is supported"
        )
    note_unknown_keys(values, READ | REFUSED_UNLESS.keys() | HARMLESS | {"layer_types"}, origin)


def _rope(values: dict[str, Any], origin: str) -> tuple[float, RopeScaling | None]:
    """Base and scaling from `rope_parameters` (transformers 5) or from `rope_theta` and `rope_scaling`."""
    new, old = values.get("rope_parameters"), values.get("rope_scaling")
    if new and old and new != old:
        raise UserError(f"{origin}: rope_parameters and rope_scaling are both there and differ; remove the wrong one")
    key = "rope_parameters" if values.get("rope_parameters") else "rope_scaling"
    rope = values.get(key) or {}
    if not isinstance(rope, dict):
        raise UserError(f"{origin}: {key} is {short(rope)}; expected an object")
    # Inside wins over outside, as in transformers.
    base = {"rope_theta": _FORMAT_DEFAULTS["rope_theta"]} | {k: v for k, v in values.items() if k == "rope_theta"}
    theta = number(rope if "rope_theta" in rope else base, "rope_theta", origin)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if not isinstance(kind, str) or (kind != "default" and kind not in _ROPE_NUMBERS):
        known = ", ".join(_ROPE_NUMBERS)
        raise UserError(f"{origin}: {key} has rope_type {short(kind)}, which this model does not have (it has {known})")
    numbers = _ROPE_NUMBERS.get(kind, ())
    partial = rope.get("partial_rotary_factor")
    if partial is not None and not same(partial, 1):
        raise UserError(f"{origin}: {key} has partial_rotary_factor {short(partial)}, which this model does not have")
    # An original length is bookkeeping except where the formula of `llama3` uses it.
    unknown = [k for k in rope if k not in (*numbers, *_ROPE_OTHER, "original_max_position_embeddings")]
    if unknown:
        raise UserError(f"{origin}: {key} has {shown(unknown[0])}, which rope_type {kind!r} does not have")
    if kind == "default":
        return theta, None
    if kind == "llama3":
        return theta, _llama3(values, rope, origin)
    return theta, RopeScaling(kind="linear" if kind == "linear" else "dynamic", factor=number(rope, "factor", origin))


def _llama3(values: dict[str, Any], rope: dict[str, Any], origin: str) -> RopeScaling:
    """The scaling of LLaMA 3. Here, and here alone, the original length outside wins over that inside."""
    length = "original_max_position_embeddings"
    given = values if values.get(length) is not None else {length: values.get("max_position_embeddings")} | rope
    low, high = number(rope, "low_freq_factor", origin), number(rope, "high_freq_factor", origin)
    if low >= high:
        raise UserError(f"{origin}: low_freq_factor {low} is not below high_freq_factor {high}")
    return RopeScaling(
        kind="llama3",
        factor=number(rope, "factor", origin),
        low_frequency_factor=low,
        high_frequency_factor=high,
        original_max_positions=whole(given, length, origin),
    )


def _truth(values: dict[str, Any], key: str, origin: str) -> bool:
    value = values.get(key, _FORMAT_DEFAULTS[key])
    if not isinstance(value, bool):
        raise UserError(f"{origin}: {key} is {short(value)}; write true or false")
    return value
