"""Descriptions of models: their type, and one line for what cannot be read; trained and frozen parameters."""

import re

import jax
import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.bert import BertConfig, RobertaConfig
from mentallama_jax.models.module import abstract_params, count_params, merge_params, split_params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.models.registry import MODEL_CONFIGS, language_model, model_config_from_json
from mentallama_jax.models.t5 import T5Config

TOY = PRESETS["toy"]


ENCODER = {"vocab_size": 60, "hidden_size": 24, "intermediate_size": 40, "num_layers": 2, "num_heads": 4}
ENCODER |= {"max_positions": 40, "position_offset": 0, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "num_labels": 0}
ENCODER |= {"activation": "gelu", "pooler": False, "dropout": 0.1, "classifier_dropout": 0.1}
IDS = {"vocab_size": 60, "hidden_size": 24, "pad_id": 0, "start_id": 0, "end_id": 1, "dropout": 0.1}
BART = IDS | {"encoder_layers": 2, "decoder_layers": 1, "encoder_heads": 4, "decoder_heads": 2, "max_positions": 9}
BART |= {"encoder_intermediate": 40, "decoder_intermediate": 30, "activation": "gelu", "scale_embedding": False}
BART |= {"logits_bias": True}
T5 = IDS | {"head_dim": 5, "intermediate_size": 40, "encoder_layers": 2, "decoder_layers": 1, "num_heads": 4}
T5 |= {"buckets": 8, "max_distance": 20, "layer_norm_eps": 1e-6, "activation": "gelu_new", "gated": True}
T5 |= {"tie_embeddings": False, "scale_outputs": False}
CONFIGS = [*PRESETS.values(), BertConfig(**ENCODER), RobertaConfig(**ENCODER | {"position_offset": 2})]
CONFIGS += [BartConfig(**BART), T5Config(**T5)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.model_type} {config.vocab_size}")
def test_a_description_is_read_back_as_it_was(config):
    assert model_config_from_json(config.to_json(), "here") == config
    assert MODEL_CONFIGS[config.to_json()["model_type"]] is type(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model_type": "perceiver"},
            "here: model_type 'perceiver' is unknown; there are: llama, bert, roberta, bart, t5",
        ),
        ({"model_type": []}, "here: model_type [] is unknown"),
        ({"num_layers": None}, "here: num_layers is None"),
        ({"num_layers": True}, "here: num_layers is True"),
        ({"rms_norm_eps": float("nan")}, "here: rms_norm_eps is nan"),
        ({"rope_scaling": {"kind": "linear"}}, "here: rope_scaling: "),
        ({"num_kv_heads": 3}, "here: num_heads 4 is not a multiple of num_kv_heads 3"),
        ({"width": 3}, "here: 'width' is no key of a llama model"),
    ],
)
def test_a_wrong_description_is_one_line(change, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        model_config_from_json(TOY.to_json() | change, "here")
    with pytest.raises(UserError, match=r"^here: 'vocab_size' is missing"):
        model_config_from_json(
            {name: 1 for name in TOY.to_json() if name != "vocab_size"} | {"model_type": "llama"}, "here"
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_labels": 3}, "here: num_labels 3: a classifier needs the pooler"),
        ({"activation": "silu"}, "here: activation 'silu' is unknown; there are: gelu, gelu_new, relu"),
        ({"num_heads": 5}, "here: hidden_size 24 is not a multiple of num_heads 5"),
        ({"num_heads": 0}, "here: num_heads is 0"),
        ({"dropout": "much"}, "here: dropout is 'much'"),
    ],
)
def test_a_wrong_description_of_an_encoder_is_one_line(change, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        model_config_from_json({"model_type": "bert", **ENCODER, **change}, "here")


def test_an_encoder_cannot_answer():
    assert language_model(TOY, "here") is TOY
    with pytest.raises(UserError, match=r"^here: is an encoder \(bert\)"):
        language_model(BertConfig(**ENCODER), "here")


def test_parameters_are_split_and_merged():
    params = abstract_params(TOY)
    trained, frozen = split_params(params, lambda path: "query" in path)
    counts = [sum(leaf.size for leaf in jax.tree.leaves(part)) for part in (trained, frozen)]
    assert counts[0] == TOY.num_layers * TOY.hidden_size**2
    assert sum(counts) == count_params(TOY)
    assert merge_params(trained, frozen) == params
    with pytest.raises(ValueError, match=r"layers\.attention\.query is trained and frozen at once"):
        merge_params(trained, params)
