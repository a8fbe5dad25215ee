"""Tables of names, both ways: biases, ties, prefixes, old spellings, several stacks, by the real import and export."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from mentallama_jax.errors import UserError
from mentallama_jax.formats.architectures.known_architectures import (
    ARCHITECTURES,
    Architecture,
    foreign_shapes,
    model_parameters,
)
from mentallama_jax.formats.architectures.llama_names import LLAMA_NAMES
from mentallama_jax.formats.architectures.parameter_names import NameTable, Parameter, leaf
from mentallama_jax.formats.assembly import assemble, check_names
from mentallama_jax.formats.hf import SafetensorsFile
from mentallama_jax.models.module import abstract_params, init_params

D, N, H, V = 6, 2, 3, 10


@dataclass(frozen=True)
class TwoStacks:
    """An encoder-decoder as no library has it."""

    model_type: ClassVar[str] = "two-stacks"
    encoder_layers: int = 3
    decoder_layers: int = 2
    tied: bool = True
    pooler: bool = False

    def build(self, rngs: nnx.Rngs, dtype: Any) -> nnx.Module:
        def param(*shape: int) -> nnx.Param:
            value = jax.random.normal(rngs.params(), shape, dtype)
            return nnx.Param(value, dimensions=(None,) * len(shape))

        def stack(layers: int) -> nnx.Module:
            block = nnx.Module()
            block.query, block.query_bias = param(layers, D, N, H), param(layers, N, H)
            block.output, block.scale = param(layers, N, H, D), param(layers, D)
            return block

        model = nnx.Module()
        model.embedding = param(V, D)
        for name, layers in (("encoder", self.encoder_layers), ("decoder", self.decoder_layers)):
            side = nnx.Module()
            side.layers = stack(layers)
            setattr(model, name, side)
        model.logits_bias = param(V)
        if not self.tied:
            model.head = param(D, V)
        if self.pooler:
            model.pooler = param(D, D)
        return model

    def to_json(self) -> dict[str, Any]:
        return {"model_type": self.model_type, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{key: value for key, value in values.items() if key != "model_type"})


def stack_names(side: str) -> tuple[Parameter, ...]:
    ours, theirs = (side, "layers"), f"model.{side}.block.{{layer}}"
    return (
        Parameter((*ours, "query"), f"{theirs}.q.weight", inputs=1),
        Parameter((*ours, "query_bias"), f"{theirs}.q.bias", flat=True),
        Parameter((*ours, "output"), f"{theirs}.o.weight", inputs=2),
        Parameter((*ours, "scale"), f"{theirs}.norm.weight"),
    )


NAMES = NameTable(
    (
        Parameter(("embedding",), "model.shared.weight"),
        *stack_names("encoder"),
        *stack_names("decoder"),
        Parameter(("logits_bias",), "final_bias", row=True),
        Parameter(("head",), "lm_head.weight", inputs=1, tied_to=("embedding",)),
        Parameter(("pooler",), "model.pooler.weight", inputs=1),
    ),
    prefix="model.",
    renamed=((r"\.gamma$", ".weight"),),
    ignored=(r".*position_ids", r"cls\..*"),
)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    read = lambda values, origin: TwoStacks.from_json(values)  # noqa: E731
    monkeypatch.setitem(ARCHITECTURES, "two-stacks", Architecture(read, lambda config, _: config.to_json(), NAMES))


def tensors_of(params: Any, config: TwoStacks) -> dict[str, np.ndarray]:
    """The file of a model, written by the table."""
    written = {}
    for parameter, _, count in model_parameters(config):
        for layer in range(count):
            value = np.asarray(leaf(params, parameter.path))
            written[parameter.name("hf", layer)] = parameter.to_foreign(value[layer] if parameter.stacked else value)
    return written


def read_back(folder: Path, tensors: Mapping[str, np.ndarray], config: TwoStacks) -> Any:
    folder.mkdir()
    save_file(dict(tensors), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_json()))
    return assemble(SafetensorsFile(folder), config, jnp.float32)


@pytest.mark.parametrize("config", [TwoStacks(), TwoStacks(tied=False, pooler=True), TwoStacks(2, 4)])
def test_every_form_comes_back_bit_for_bit(config: TwoStacks, tmp_path: Path) -> None:
    params = init_params(config, jax.random.key(0))
    tensors = tensors_of(params, config)
    assert {name: value.shape for name, value in tensors.items()} == foreign_shapes(config, "hf")
    assert sum("encoder" in name for name in tensors) == 4 * config.encoder_layers
    assert sum("decoder" in name for name in tensors) == 4 * config.decoder_layers
    assert tensors["final_bias"].shape == (1, V)
    assert tensors["model.decoder.block.0.q.bias"].shape == (N * H,)
    np.testing.assert_array_equal(
        tensors["model.encoder.block.1.q.weight"], np.asarray(params["encoder"]["layers"]["query"][1]).reshape(D, -1).T
    )
    again = read_back(tmp_path / "model", tensors, config)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again, params))


@pytest.mark.parametrize("change", ["bare", "old names", "more than needed", "tied and there"])
def test_files_of_other_makes_are_the_same_model(change: str, tmp_path: Path) -> None:
    config = TwoStacks()
    params = init_params(config, jax.random.key(0))
    tensors = tensors_of(params, config)
    if change == "bare":  # a file of the model without a head has no prefix
        tensors = {name.removeprefix("model."): value for name, value in tensors.items()}
    elif change == "old names":
        tensors = {name.replace("norm.weight", "norm.gamma"): value for name, value in tensors.items()}
    elif change == "more than needed":
        tensors |= {"model.position_ids": np.arange(4), "cls.predictions.bias": np.ones(3, np.float32)}
    else:
        tensors |= {"lm_head.weight": tensors["model.shared.weight"].copy()}
    again = read_back(tmp_path / "model", tensors, config)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again, params))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lm_head.weight": np.ones((V, D), np.float32)}, r"lm_head\.weight differs from model\.shared\.weight"),
        ({"model.pooler.weight": np.ones((D, D), np.float32)}, r"unknown tensor model\.pooler\.weight"),
        ({"model.decoder.block.0.norm.gamma": np.ones(D, np.float32)}, r"norm\.weight and model.*norm\.gamma are both"),
        ({"model.decoder.block.0.q.bias": np.ones((N, H), np.float32)}, r"wrong shape: .*\[2, 3\].*\[6\]"),
        ({"final_bias": np.ones((1, V), np.int64)}, "final_bias is stored as I64"),
        ({"model.decoder.block.0.o.weight": None}, r"missing tensor model\.decoder\.block\.0\.o\.weight"),
    ],
)
def test_what_is_not_this_model_is_refused_by_name(change: dict, said: str, tmp_path: Path) -> None:
    config = TwoStacks()
    tensors = tensors_of(init_params(config, jax.random.key(0)), config) | change
    with pytest.raises(UserError, match=said):
        read_back(tmp_path / "model", {name: value for name, value in tensors.items() if value is not None}, config)


def test_absurd_numbers_of_layers_are_refused_before_names_are_made(tmp_path: Path) -> None:
    save_file({"final_bias": np.ones((1, V), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="100000000 layers are asked for, but it holds 1 tensors"):
        check_names(SafetensorsFile(tmp_path), TwoStacks(encoder_layers=10**8))


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    data=st.data(),
    seed=st.integers(0, 99),
)
def test_to_foreign_and_back_changes_nothing(shape: list[int], data: Any, seed: int) -> None:
    inputs = data.draw(st.integers(0, len(shape) - 1))
    forms = [{"inputs": inputs}] if inputs else [{}, {"flat": True}, {"row": True}]
    parameter = Parameter(("x",), "x", **data.draw(st.sampled_from(forms)))
    tensor = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    outside = parameter.to_foreign(tensor)
    assert outside.shape == parameter.foreign_shape(tuple(shape))
    assert outside.flags.c_contiguous
    assert parameter.to_ours(outside, tuple(shape)).tobytes() == tensor.tobytes()


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_no_two_entries_share_a_path_or_a_name(architecture: Architecture) -> None:
    parameters = architecture.names.parameters
    assert len({parameter.path for parameter in parameters}) == len(parameters)
    assert len({parameter.hf for parameter in parameters}) == len(parameters)
    ties = {parameter.tied_to for parameter in parameters} - {None}
    assert ties <= {parameter.path for parameter in parameters}
    assert all(("{layer}" in parameter.hf) == parameter.stacked for parameter in parameters)


def test_the_table_of_llama_is_whole() -> None:
    from mentallama_jax.models.presets import PRESETS

    for shape in PRESETS.values():
        paths = {tuple(key.key for key in path) for path, _ in jax.tree.leaves_with_path(abstract_params(shape))}
        assert paths == {parameter.path for parameter, _, _ in LLAMA_NAMES.entries(shape)}
