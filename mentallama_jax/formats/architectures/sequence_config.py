"""`config.json` of BART and T5 to our configs and back; what changes the maths is read or refused by name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from mentallama_jax.errors import UserError
from mentallama_jax.formats.architectures.bart_names import LOGITS_BIAS
from mentallama_jax.formats.architectures.config_values import (
    note_unknown_keys,
    number,
    refuse_other_maths,
    share,
    short,
    whole,
)
from mentallama_jax.formats.architectures.llama_keys import HARMLESS
from mentallama_jax.formats.architectures.t5_names import HEAD
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.biased_layers import Activation
from mentallama_jax.models.t5 import T5Config

# Keys that would change the maths, and the values under which they do not. `None` (absent) is always fine.
_REFUSED_UNLESS: dict[str, tuple[Any, ...]] = {
    "is_decoder": (False,),
    "is_encoder_decoder": (True,),
    "add_cross_attention": (False,),
    "quantization_config": (),
    "pruned_heads": ({},),
    "add_bias_logits": (False,),
    "add_final_layer_norm": (False,),
    "normalize_before": (False,),
    "normalize_embedding": (True,),
    "extra_pos_embeddings": (2,),
    "static_position_embeddings": (False,),
    "tie_encoder_decoder": (False,),
}
_BART_READ = frozenset(
    {
        *("architectures", "model_type", "vocab_size", "d_model", "encoder_layers", "decoder_layers"),
        *("encoder_attention_heads", "decoder_attention_heads", "encoder_ffn_dim", "decoder_ffn_dim"),
        *("max_position_embeddings", "activation_function", "scale_embedding", "dropout", "pad_token_id"),
        *("decoder_start_token_id", "eos_token_id", "tie_word_embeddings"),
    }
)
_T5_READ = frozenset(
    {
        *("architectures", "model_type", "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers"),
        *("num_heads", "relative_attention_num_buckets", "relative_attention_max_distance", "layer_norm_epsilon"),
        *("feed_forward_proj", "dense_act_fn", "is_gated_act", "tie_word_embeddings", "scale_decoder_outputs"),
        *("dropout_rate", "pad_token_id", "decoder_start_token_id", "eos_token_id"),
    }
)
_PASSED_OVER = HARMLESS | {
    *("attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "classif_dropout"),
    *("classifier_dropout", "init_std", "num_hidden_layers", "force_bos_token_to_be_generated", "initializer_factor"),
    *("n_positions", "output_past", "_num_labels", "forced_bos_token_id", "forced_eos_token_id"),
}
_BART_DEFAULTS: dict[str, Any] = {
    "activation_function": "gelu",
    "max_position_embeddings": 1024,
    "pad_token_id": 1,
    "decoder_start_token_id": 2,
    "eos_token_id": 2,
}
_T5_DEFAULTS: dict[str, Any] = {
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
}


def read_bart_config(values: dict[str, Any], origin: str) -> BartConfig:
    """Turn the values of a `config.json` into a config; `origin` names the file in errors.

    Whether tokens have biases in the output is said by the weights (see `fit_bart`).

    Raises:
        UserError: a needed key is absent, or a key asks for maths that the model does not have.
    """
    given = _checked(values, origin, _BART_READ, _BART_DEFAULTS)
    if given.get("tie_word_embeddings", True) is not True:
        raise UserError(f"{origin}: tie_word_embeddings is {short(given['tie_word_embeddings'])}; BART ties them")
    try:
        return BartConfig(
            vocab_size=whole(given, "vocab_size", origin),
            hidden_size=whole(given, "d_model", origin),
            encoder_layers=whole(given, "encoder_layers", origin),
            decoder_layers=whole(given, "decoder_layers", origin),
            encoder_heads=whole(given, "encoder_attention_heads", origin),
            decoder_heads=whole(given, "decoder_attention_heads", origin),
            encoder_intermediate=whole(given, "encoder_ffn_dim", origin),
            decoder_intermediate=whole(given, "decoder_ffn_dim", origin),
            max_positions=whole(given, "max_position_embeddings", origin),
            activation=_activation(given["activation_function"], "activation_function", origin),
            scale_embedding=_switch(given, "scale_embedding", False, origin),
            logits_bias=False,
            dropout=share(given, "dropout", 0.1, origin),
            **_ids(given, origin),
        )
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from None


def fit_bart(config: BartConfig, shapes: Mapping[str, tuple[int, ...]]) -> BartConfig:
    """The config with the biases of the output where the weights have them; `shapes` are by their names."""
    return replace(config, logits_bias=LOGITS_BIAS in shapes)


def write_bart_config(config: BartConfig, dtype: str) -> dict[str, Any]:
    """The values of a `config.json` that `read_bart_config` turns into `config`."""
    return {
        "architectures": ["BartForConditionalGeneration"],
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "encoder_attention_heads": config.encoder_heads,
        "decoder_attention_heads": config.decoder_heads,
        "encoder_ffn_dim": config.encoder_intermediate,
        "decoder_ffn_dim": config.decoder_intermediate,
        "max_position_embeddings": config.max_positions,
        "activation_function": config.activation,
        "scale_embedding": config.scale_embedding,
        "dropout": config.dropout,
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        **_written_ids(config),
        "forced_eos_token_id": config.end_id,
        "torch_dtype": dtype,
    }


def read_t5_config(values: dict[str, Any], origin: str) -> T5Config:
    """Turn the values of a `config.json` into a config; `origin` names the file in errors.

    Raises:
        UserError: a needed key is absent, or a key asks for maths that the model does not have.
    """
    given = _checked(values, origin, _T5_READ, _T5_DEFAULTS)
    tied = _switch(given, "tie_word_embeddings", True, origin)
    scaled = _switch(given, "scale_decoder_outputs", tied, origin)
    if scaled and not tied:
        raise UserError(
            f"{origin}: scale_decoder_outputs with tie_word_embeddings false, which this model does not have"
        )
    activation, gated = _t5_activation(given["feed_forward_proj"], origin)
    layers = whole(given, "num_layers", origin)
    try:
        return T5Config(
            vocab_size=whole(given, "vocab_size", origin),
            hidden_size=whole(given, "d_model", origin),
            head_dim=whole(given, "d_kv", origin),
            intermediate_size=whole(given, "d_ff", origin),
            encoder_layers=layers,
            decoder_layers=whole(given, "num_decoder_layers", origin) if "num_decoder_layers" in given else layers,
            num_heads=whole(given, "num_heads", origin),
            buckets=whole(given, "relative_attention_num_buckets", origin),
            max_distance=whole(given, "relative_attention_max_distance", origin),
            layer_norm_eps=number(given, "layer_norm_epsilon", origin),
            activation=activation,
            gated=gated,
            tie_embeddings=tied,
            scale_outputs=scaled,
            dropout=share(given, "dropout_rate", 0.1, origin),
            **_ids(given, origin),
        )
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from None


def fit_t5(config: T5Config, shapes: Mapping[str, tuple[int, ...]]) -> T5Config:
    """The config with a head of its own where the weights have one that is not scaled.

    Newer configs of v1.1 say `tie_word_embeddings: true` beside `scale_decoder_outputs: false`, whatever the weights.
    """
    return config if config.scale_outputs else replace(config, tie_embeddings=HEAD not in shapes)


def write_t5_config(config: T5Config, dtype: str) -> dict[str, Any]:
    """The values of a `config.json` that `read_t5_config` turns into `config`."""
    activation = {"gelu_new": "gelu"}.get(config.activation, config.activation) if config.gated else config.activation
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "d_kv": config.head_dim,
        "d_ff": config.intermediate_size,
        "num_layers": config.encoder_layers,
        "num_decoder_layers": config.decoder_layers,
        "num_heads": config.num_heads,
        "relative_attention_num_buckets": config.buckets,
        "relative_attention_max_distance": config.max_distance,
        "layer_norm_epsilon": config.layer_norm_eps,
        "feed_forward_proj": f"gated-{activation}" if config.gated else activation,
        "tie_word_embeddings": config.scale_outputs,  # what transformers reads the scaling from
        "dropout_rate": config.dropout,
        "is_encoder_decoder": True,
        **_written_ids(config),
        "torch_dtype": dtype,
    }


def _checked(values: dict[str, Any], origin: str, read: frozenset[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are there, over the defaults of the format."""
    refuse_other_maths(values, _REFUSED_UNLESS, origin)
    note_unknown_keys(values, read | _REFUSED_UNLESS.keys() | _PASSED_OVER, origin)
    return {**defaults, **{key: value for key, value in values.items() if value is not None}}


def _ids(values: dict[str, Any], origin: str) -> dict[str, int]:
    """The ids that batches are filled up with, that start targets and that end them."""
    ends = values["eos_token_id"]
    found = {
        "pad_id": values["pad_token_id"],
        "start_id": values["decoder_start_token_id"],
        "end_id": ends[0] if isinstance(ends, list) and ends else ends,
    }
    for name, value in found.items():
        if type(value) is not int or not 0 <= value < whole(values, "vocab_size", origin):
            raise UserError(f"{origin}: {name.replace('_id', '')} token id is {short(value)}; expected an id")
    return found


def _written_ids(config: BartConfig | T5Config) -> dict[str, int]:
    return {"pad_token_id": config.pad_id, "decoder_start_token_id": config.start_id, "eos_token_id": config.end_id}


def _activation(value: Any, key: str, origin: str) -> Activation:
    if value not in get_args(Activation):
        raise UserError(f"{origin}: {key} is {short(value)}; there are: {', '.join(get_args(Activation))}")
    known: Activation = value
    return known


def _t5_activation(value: Any, origin: str) -> tuple[Activation, bool]:
    """The activation, and whether it is gated; "gated-gelu" has always meant the approximate one."""
    name = value if isinstance(value, str) else ""
    gated = name.startswith("gated-")
    name = name.removeprefix("gated-")
    if gated and name == "gelu":
        name = "gelu_new"
    if name not in get_args(Activation):
        raise UserError(f"{origin}: feed_forward_proj is {short(value)}; relu and gated-gelu can be read")
    known: Activation = name  # type: ignore[assignment]
    return known, gated


def _switch(values: dict[str, Any], key: str, default: bool, origin: str) -> bool:
    value = values.get(key, default)
    if not isinstance(value, bool):
        raise UserError(f"{origin}: {key} is {short(value)}; true or false is needed")
    return value
