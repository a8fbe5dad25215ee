"""`config.json` of BERT and RoBERTa to our configs and back; what changes the maths is read or refused by name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from mentallama_jax.errors import UserError
from mentallama_jax.formats.architectures.config_values import (
    note_unknown_keys,
    number,
    refuse_other_maths,
    share,
    short,
    whole,
)
from mentallama_jax.formats.architectures.llama_keys import HARMLESS
from mentallama_jax.models.bert import BertConfig, RobertaConfig
from mentallama_jax.models.biased_layers import Activation

# Keys that would change the maths, and the values under which they do not. `None` (absent) is always fine.
_REFUSED_UNLESS: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({},),
    "quantization_config": (),
    "embedding_size": (),
    "problem_type": ("single_label_classification",),
}
_READ = frozenset(
    {
        *("architectures", "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
        *("intermediate_size", "hidden_act", "hidden_dropout_prob", "classifier_dropout", "max_position_embeddings"),
        *("type_vocab_size", "layer_norm_eps", "pad_token_id", "id2label", "num_labels"),
    }
)
_PASSED_OVER = HARMLESS | {
    *("attention_probs_dropout_prob", "chunk_size_feed_forward", "gradient_checkpointing", "layer_norm_eps"),
    *("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head"),
    *("pooler_type", "directionality", "tie_word_embeddings", "_num_labels"),
}
_FORMAT_DEFAULTS: dict[str, Any] = {"layer_norm_eps": 1e-12, "type_vocab_size": 2, "hidden_act": "gelu"}
_CLASSIFIER = "ForSequenceClassification"


def read_bert_config(values: dict[str, Any], origin: str) -> BertConfig:
    """Turn the values of a `config.json` into a config; `origin` names the file in errors.

    Whether there is a pooler, and how many classes there are, is said by the weights (see `fit_to_weights`).

    Raises:
        UserError: a needed key is absent, or a key asks for maths that the model does not have.
    """
    refuse_other_maths(values, _REFUSED_UNLESS, origin)
    note_unknown_keys(values, _READ | _REFUSED_UNLESS.keys() | _PASSED_OVER, origin)
    given = _FORMAT_DEFAULTS | {key: value for key, value in values.items() if value is not None}
    activation = given["hidden_act"]
    if activation not in get_args(Activation):
        raise UserError(f"{origin}: hidden_act is {short(activation)}; there are: {', '.join(get_args(Activation))}")
    is_roberta = values.get("model_type") == RobertaConfig.model_type
    padding = given.get("pad_token_id", 1)
    if is_roberta and (type(padding) is not int or not 0 <= padding < 2**27):
        raise UserError(f"{origin}: pad_token_id is {short(padding)}; expected an id")
    dropout = share(given, "hidden_dropout_prob", 0.1, origin)
    kind = RobertaConfig if is_roberta else BertConfig
    try:
        return kind(
            vocab_size=whole(given, "vocab_size", origin),
            hidden_size=whole(given, "hidden_size", origin),
            intermediate_size=whole(given, "intermediate_size", origin),
            num_layers=whole(given, "num_hidden_layers", origin),
            num_heads=whole(given, "num_attention_heads", origin),
            max_positions=whole(given, "max_position_embeddings", origin),
            position_offset=padding + 1 if is_roberta else 0,
            type_vocab_size=whole(given, "type_vocab_size", origin),
            layer_norm_eps=number(given, "layer_norm_eps", origin),
            activation=activation,
            pooler=False,
            num_labels=0,
            dropout=dropout,
            classifier_dropout=share(given, "classifier_dropout", dropout, origin),
        )
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from None


def fit_to_weights(config: BertConfig, shapes: Mapping[str, tuple[int, ...]]) -> BertConfig:
    """The config with the pooler and the classes that the weights have; published files name other numbers of classes.

    Args:
        config: as `read_bert_config` gives it.
        shapes: of the tensors, by their names in the table.
    """
    is_roberta = config.model_type == RobertaConfig.model_type
    pooler, classifier = (
        ("classifier.dense.weight", "classifier.out_proj.weight")
        if is_roberta
        else ("bert.pooler.dense.weight", "classifier.weight")
    )
    classes = shapes[classifier][0] if len(shapes.get(classifier, ())) == 2 else 0
    return replace(config, pooler=pooler in shapes, num_labels=classes if pooler in shapes else 0)


def write_bert_config(config: BertConfig, dtype: str) -> dict[str, Any]:
    """The values of a `config.json` that `read_bert_config` turns into `config`."""
    is_roberta = config.model_type == RobertaConfig.model_type
    family = "Roberta" if is_roberta else "Bert"
    labels = {str(number): f"LABEL_{number}" for number in range(config.num_labels)}
    return {
        "architectures": [f"{family}{_CLASSIFIER if config.num_labels else 'Model'}"],
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_act": config.activation,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "classifier_dropout": config.classifier_dropout,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.type_vocab_size,
        "layer_norm_eps": config.layer_norm_eps,
        "position_embedding_type": "absolute",
        **({"pad_token_id": config.position_offset - 1} if is_roberta else {}),
        **({"id2label": labels, "label2id": {name: int(key) for key, name in labels.items()}} if labels else {}),
        "torch_dtype": dtype,
    }
