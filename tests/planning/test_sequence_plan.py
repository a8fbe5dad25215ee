"""What is counted for encoder-decoders: operations by the shapes of their weights, and factored moments."""

from dataclasses import replace
from math import prod

import jax
import pytest
from flax import traverse_util

from mentallama_jax.config import parse_config
from mentallama_jax.models.module import abstract_params
from mentallama_jax.models.presets import SEQUENCE_PRESETS
from mentallama_jax.planning.cost import model_flops_per_token
from mentallama_jax.planning.plan import analytic_memory
from mentallama_jax.planning.topologies import parse_topology

SHAPES = {
    "bart": SEQUENCE_PRESETS["toy-bart"],
    "t5": SEQUENCE_PRESETS["toy-t5"],
    "t5, gated": replace(SEQUENCE_PRESETS["toy-t5"], gated=True, activation="gelu_new", encoder_layers=3),
}


@pytest.mark.parametrize("name", SHAPES)
def test_operations_are_those_of_every_matrix(name: str) -> None:
    """Each multiplies the sources or the targets, once forward and twice backward; attention comes to it."""
    model, S, T = SHAPES[name], 96, 40
    width, operations = 64, 0
    for path, shape in traverse_util.flatten_dict(abstract_params(model)).items():
        if "layers" in path and path[-1] in ("query", "key", "value", "output", "inner", "down", "gate", "up"):
            reads_source = path[0] == "encoder" or (path[-2] == "cross_attention" and path[-1] in ("key", "value"))
            operations += 2 * (S if reads_source else T) * prod(shape.shape)
    operations += 2 * T * model.vocab_size * model.hidden_size
    operations += model.encoder_layers * 4 * S * S * width
    operations += model.decoder_layers * (2 * T * T + 4 * T * S) * width
    assert model_flops_per_token(model, S, T) == pytest.approx(3 * operations / S)
    attention = model.encoder_layers * 4 * S * S * width + model.decoder_layers * (2 * T * T + 4 * T * S) * width
    frozen = model_flops_per_token(model, S, T, frozen=True)
    assert frozen == pytest.approx((2 * operations + attention) / S)


def test_the_estimate_counts_factored_moments() -> None:
    values = {
        "model": {"source": "toy-t5", "weights": "random", "tokenizer": "sample"},
        "data": {"train": ["sample"], "style": "completion", "max_length": 128},
        "objective": {"kind": "sequence_to_sequence", "target_length": 128},
        "training": {"run_dir": "-", "steps": 9, "batch_size": 8},
    }
    needs = {}
    for name in ("adamw", "adafactor"):
        config = parse_config(values | {"optimizer": {"name": name}}, "test")
        needs[name] = analytic_memory(SHAPES["t5"], config, parse_topology("h100-1"), 1)[0]
    count = sum(x.size for x in jax.tree.leaves(abstract_params(SHAPES["t5"])))
    assert needs["adamw"].params == needs["adafactor"].params == 4 * count
    assert needs["adamw"].moments == pytest.approx(8 * count, rel=1e-3)
    assert needs["adafactor"].moments < 0.05 * needs["adamw"].moments
    assert needs["adafactor"].activations == needs["adamw"].activations > 0
