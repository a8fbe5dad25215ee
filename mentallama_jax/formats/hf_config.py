"""Hugging Face's `config.json` to `LlamaConfig` and back. A key that changes the maths is read or refused by name."""

from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.rotary import RopeScaling

# What an absent key means in this format (the first LLaMA-2 configs lack rope_theta, for example).
_FORMAT_DEFAULTS: dict[str, Any] = {"rope_theta": 10000.0, "tie_word_embeddings": False, "hidden_act": "silu"}

READ_KEYS = frozenset(
    {
        "architectures",
        "model_type",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "rms_norm_eps",
        "max_position_embeddings",
        "tie_word_embeddings",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
    }
)

# Keys that would change the maths, and the values under which they do not. `None` (absent) is always fine.
REFUSED_UNLESS: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "attention_dropout": (0,),
    "rope_interleaved": (False,),
    "partial_rotary_factor": (1,),
    "quantization_config": (),
    "sliding_window": (),
}

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
    heads = _whole(values, "num_attention_heads", origin)
    hidden = _whole(values, "hidden_size", origin)
    has_head_dim = values.get("head_dim") is not None
    if not has_head_dim and hidden % heads:
        raise UserError(f"{origin}: hidden_size {hidden} is not a multiple of num_attention_heads {heads}")
    try:
        return LlamaConfig(
            vocab_size=_whole(values, "vocab_size", origin),
            hidden_size=hidden,
            intermediate_size=_whole(values, "intermediate_size", origin),
            num_layers=_whole(values, "num_hidden_layers", origin),
            num_heads=heads,
            num_kv_heads=heads
            if values.get("num_key_value_heads") is None
            else _whole(values, "num_key_value_heads", origin),
            head_dim=_whole(values, "head_dim", origin) if has_head_dim else hidden // heads,
            rms_norm_eps=_number(values, "rms_norm_eps", origin),
            rope_theta=theta,
            rope_scaling=scaling,
            tie_embeddings=bool(values.get("tie_word_embeddings", _FORMAT_DEFAULTS["tie_word_embeddings"])),
            max_positions=_whole(values, "max_position_embeddings", origin),
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
        raise UserError(f"{origin}: model_type is {values.get('model_type')!r}; only llama is supported")
    architectures = values.get("architectures") or ["LlamaForCausalLM"]
    if "LlamaForCausalLM" not in architectures:
        raise UserError(f"{origin}: architectures is {architectures}; only LlamaForCausalLM is supported")
    for key, allowed in REFUSED_UNLESS.items():
        value = values.get(key)
        if value is not None and value not in allowed:
            raise UserError(f"{origin}: {key} is {_short(value)}, which this model does not have")


def _rope(values: dict[str, Any], origin: str) -> tuple[float, RopeScaling | None]:
    """Base and scaling from `rope_parameters` (transformers 5) or from `rope_theta` and `rope_scaling`."""
    key = "rope_parameters" if values.get("rope_parameters") else "rope_scaling"
    rope = values.get(key) or {}
    if not isinstance(rope, dict):
        raise UserError(f"{origin}: {key} is {_short(rope)}; expected an object")
    # Inside wins over outside, as in transformers.
    base = {"rope_theta": _FORMAT_DEFAULTS["rope_theta"]} | {k: v for k, v in values.items() if k == "rope_theta"}
    theta = _number(rope if "rope_theta" in rope else base, "rope_theta", origin)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default" and kind not in _ROPE_NUMBERS:
        known = ", ".join(_ROPE_NUMBERS)
        raise UserError(f"{origin}: {key} has rope_type {kind!r}, which this model does not have (it has {known})")
    numbers = _ROPE_NUMBERS.get(kind, ())
    partial = rope.get("partial_rotary_factor")
    if partial not in (None, 1):
        raise UserError(f"{origin}: {key} has partial_rotary_factor {partial}, which this model does not have")
    # An original length is bookkeeping except where the formula of `llama3` uses it.
    unknown = [k for k in rope if k not in (*numbers, *_ROPE_OTHER, "original_max_position_embeddings")]
    if unknown:
        raise UserError(f"{origin}: {key} has {unknown[0]}, which rope_type {kind!r} does not have")
    if kind == "default":
        return theta, None
    if kind == "llama3":
        rope = {"original_max_position_embeddings": values.get("max_position_embeddings")} | rope
        return theta, RopeScaling(
            kind="llama3",
            factor=_number(rope, "factor", origin),
            low_frequency_factor=_number(rope, "low_freq_factor", origin),
            high_frequency_factor=_number(rope, "high_freq_factor", origin),
            original_max_positions=_whole(rope, "original_max_position_embeddings", origin),
        )
    return theta, RopeScaling(kind=kind, factor=_number(rope, "factor", origin))


def _number(values: dict[str, Any], key: str, origin: str) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        found = "is absent" if value is None else f"is {_short(value)}"
        raise UserError(f"{origin}: {key} {found}; a positive number is needed")
    return float(value)


def _whole(values: dict[str, Any], key: str, origin: str) -> int:
    number = _number(values, key, origin)
    if number != int(number):
        raise UserError(f"{origin}: {key} is {number}; a whole number is needed")
    return int(number)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
