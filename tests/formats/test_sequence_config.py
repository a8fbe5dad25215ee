"""`config.json` of BART and T5: published ones are read, what would change the maths is refused in one line."""

import re

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.formats.architectures.sequence_config import (
    fit_t5,
    read_bart_config,
    read_t5_config,
    write_bart_config,
    write_t5_config,
)

# The keys of a summarisation model as they are published, old spellings among them.
BART = {
    "_num_labels": 3,
    "activation_dropout": 0.0,
    "activation_function": "gelu",
    "add_final_layer_norm": False,
    "architectures": ["BartForConditionalGeneration"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "classif_dropout": 0.0,
    "classifier_dropout": 0.0,
    "d_model": 1024,
    "decoder_attention_heads": 16,
    "decoder_ffn_dim": 4096,
    "decoder_layerdrop": 0.0,
    "decoder_layers": 12,
    "decoder_start_token_id": 2,
    "dropout": 0.1,
    "early_stopping": True,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "encoder_layerdrop": 0.0,
    "encoder_layers": 12,
    "eos_token_id": 2,
    "force_bos_token_to_be_generated": True,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
    "gradient_checkpointing": False,
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "length_penalty": 2.0,
    "max_length": 142,
    "max_position_embeddings": 1024,
    "min_length": 56,
    "model_type": "bart",
    "no_repeat_ngram_size": 3,
    "normalize_before": False,
    "num_beams": 4,
    "num_hidden_layers": 12,
    "output_past": True,
    "pad_token_id": 1,
    "prefix": " ",
    "scale_embedding": False,
    "vocab_size": 50264,
}
T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "d_ff": 2816,
    "d_kv": 64,
    "d_model": 1024,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "gated-gelu",
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "n_positions": 512,
    "num_decoder_layers": 24,
    "num_heads": 16,
    "num_layers": 24,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "vocab_size": 32128,
}


def test_published_configs_are_read_without_a_note(capsys):
    bart, t5 = read_bart_config(BART, "bart.json"), read_t5_config(T5, "t5.json")
    assert (bart.hidden_size, bart.encoder_layers, bart.max_positions, bart.start_id) == (1024, 12, 1024, 2)
    assert (t5.gated, t5.activation, t5.tie_embeddings, t5.scale_outputs, t5.max_distance) == (
        True,
        "gelu_new",
        False,
        False,
        128,
    )
    assert read_bart_config(write_bart_config(bart, "float32"), "written") == bart
    assert fit_t5(read_t5_config(write_t5_config(t5, "float32"), "written"), {"lm_head.weight": (1, 1)}) == t5
    assert "not known" not in capsys.readouterr().err


def test_newer_configs_of_t5_leave_the_head_to_the_weights():
    newer = read_t5_config(T5 | {"tie_word_embeddings": True, "scale_decoder_outputs": False}, "t5.json")
    assert not newer.scale_outputs
    assert fit_t5(newer, {}).tie_embeddings
    assert not fit_t5(newer, {"lm_head.weight": (32128, 1024)}).tie_embeddings
    first = read_t5_config({**T5, "feed_forward_proj": "relu", "tie_word_embeddings": None}, "t5.json")
    assert (first.gated, first.activation, first.tie_embeddings, first.scale_outputs) == (False, "relu", True, True)


@pytest.mark.parametrize(
    ("read", "change", "message"),
    [
        (read_bart_config, {"add_final_layer_norm": True}, "c.json: add_final_layer_norm is True, which this model"),
        (read_bart_config, {"d_model": None}, "c.json: d_model is absent; a positive number is needed"),
        (read_bart_config, {"d_model": 10**9}, "c.json: d_model is 1000000000; at most 1,048,576 can be read"),
        (read_bart_config, {"encoder_attention_heads": 15}, "c.json: hidden_size 1024 is not a multiple"),
        (read_bart_config, {"activation_function": "swish"}, "c.json: activation_function is 'swish'; there are: gelu"),
        (read_bart_config, {"tie_word_embeddings": False}, "c.json: tie_word_embeddings is False; BART ties them"),
        (read_bart_config, {"eos_token_id": 50264}, "c.json: end token id is 50264; expected an id"),
        (read_bart_config, {"dropout": 1.0}, "c.json: dropout is 1.0; a number from 0, below 1, is needed"),
        (read_bart_config, {"scale_embedding": 1}, "c.json: scale_embedding is 1; true or false is needed"),
        (read_t5_config, {"feed_forward_proj": "gated-silu"}, "c.json: feed_forward_proj is 'gated-silu'; relu and"),
        (read_t5_config, {"feed_forward_proj": 3}, "c.json: feed_forward_proj is 3; relu and"),
        (read_t5_config, {"relative_attention_num_buckets": 30}, "c.json: 30 buckets up to distance 128"),
        (read_t5_config, {"scale_decoder_outputs": True}, "c.json: scale_decoder_outputs with tie_word_embeddings"),
        (read_t5_config, {"is_encoder_decoder": False}, "c.json: is_encoder_decoder is False, which this model"),
        (read_t5_config, {"decoder_start_token_id": "<pad>"}, "c.json: start token id is '<pad>'; expected an id"),
    ],
)
def test_what_cannot_be_computed_is_one_line(read, change, message):
    values = (BART if read is read_bart_config else T5) | change
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        read(values, "c.json")
