"""The projections of each architecture that an adapter can stand beside, by their names in Hugging Face's files."""

from collections.abc import Mapping
from dataclasses import dataclass

from flax import traverse_util

from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.bert import BertConfig, RobertaConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import abstract_params
from mentallama_jax.models.registry import AnyModelConfig
from mentallama_jax.models.t5 import T5Config

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """A projection that can be adapted.

    Attributes:
        name: of the module in Hugging Face's and PEFT's files; `{layer}` stands for the layer's number.
        inputs: how many axes it contracts.
    """

    name: str
    inputs: int = 1


def _bert(prefix: str) -> dict[Path, Projection]:
    layer = f"{prefix}.encoder.layer.{{layer}}"
    return {
        ("layers", "attention", "query"): Projection(f"{layer}.attention.self.query"),
        ("layers", "attention", "key"): Projection(f"{layer}.attention.self.key"),
        ("layers", "attention", "value"): Projection(f"{layer}.attention.self.value"),
        ("layers", "attention", "output"): Projection(f"{layer}.attention.output.dense", 2),
        ("layers", "mlp", "up"): Projection(f"{layer}.intermediate.dense"),
        ("layers", "mlp", "down"): Projection(f"{layer}.output.dense"),
    }


def _bart(side: str) -> dict[Path, Projection]:
    layer = f"model.{side}.layers.{{layer}}"
    found: dict[Path, Projection] = {
        (side, "layers", ours, part): Projection(f"{layer}.{theirs}.{name}", 2 if part == "output" else 1)
        for ours, theirs in (("attention", "self_attn"), ("cross_attention", "encoder_attn"))
        for part, name in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "out_proj"))
        if side == "decoder" or ours == "attention"
    }
    feed_forward = {"up": "fc1", "down": "fc2"}
    return found | {(side, "layers", "mlp", ours): Projection(f"{layer}.{name}") for ours, name in feed_forward.items()}


def _t5(side: str) -> dict[Path, Projection]:
    layer, last = f"{side}.block.{{layer}}.layer", 2 if side == "decoder" else 1
    found: dict[Path, Projection] = {
        (side, "layers", ours, part): Projection(f"{layer}.{theirs}.{name}", 2 if part == "output" else 1)
        for ours, theirs in (("attention", "0.SelfAttention"), ("cross_attention", "1.EncDecAttention"))
        for part, name in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o"))
        if side == "decoder" or ours == "attention"
    }
    feed_forward = {"inner": "wi", "gate": "wi_0", "up": "wi_1", "down": "wo"}
    return found | {
        (side, "layers", "mlp", ours): Projection(f"{layer}.{last}.DenseReluDense.{name}")
        for ours, name in feed_forward.items()
    }


_PROJECTIONS: Mapping[str, Mapping[Path, Projection]] = {
    LlamaConfig.model_type: {
        ("layers", "attention", "query"): Projection("model.layers.{layer}.self_attn.q_proj"),
        ("layers", "attention", "key"): Projection("model.layers.{layer}.self_attn.k_proj"),
        ("layers", "attention", "value"): Projection("model.layers.{layer}.self_attn.v_proj"),
        ("layers", "attention", "output"): Projection("model.layers.{layer}.self_attn.o_proj", 2),
        ("layers", "mlp", "gate"): Projection("model.layers.{layer}.mlp.gate_proj"),
        ("layers", "mlp", "up"): Projection("model.layers.{layer}.mlp.up_proj"),
        ("layers", "mlp", "down"): Projection("model.layers.{layer}.mlp.down_proj"),
    },
    BertConfig.model_type: _bert("bert"),
    RobertaConfig.model_type: _bert("roberta"),
    BartConfig.model_type: _bart("encoder") | _bart("decoder"),
    T5Config.model_type: _t5("encoder") | _t5("decoder"),
}


def projections_of(model: AnyModelConfig) -> Mapping[Path, Projection]:
    """The path of each parameter of a model that can be adapted -> the projection that it is."""
    there = traverse_util.flatten_dict(abstract_params(model))
    return {path: one for path, one in _PROJECTIONS[model.model_type].items() if path in there}
