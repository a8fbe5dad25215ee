"""The one table of shardings: what it refuses, and where it puts the arrays of the shipped configs."""

import json
from pathlib import Path

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.models.module import abstract_params, param_dimensions
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.parallel import rules
from mentallama_jax.parallel.mesh import AXES, make_mesh
from mentallama_jax.parallel.rules import check_divides, spec
from mentallama_jax.training.mesh_placement import check_batch

GOLDEN = Path(__file__).with_name("golden_shardings.json")


def abstract_mesh(data=1, fsdp=1, tensor=1, sequence=1):
    return AbstractMesh((data, fsdp, tensor, sequence), AXES, axis_types=(AxisType.Auto,) * 4)


def config(**mesh):
    return parse_config(
        {
            "model": {"source": "toy", "weights": "random"},
            "data": {"train": ["sample"], "max_length": 64},
            "training": {"run_dir": "unused", "steps": 1},
            "mesh": mesh,
        },
        "test",
    )


def test_every_rule_names_axes_of_the_mesh():
    assert {axis for axes in rules.RULES.values() for axis in axes} == set(AXES)


def test_an_unknown_name_and_a_collision_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="'widht' is no logical dimension"):
        spec("widht")
    with pytest.raises(ValueError, match="collide on mesh axis tensor"):
        spec("heads", "vocabulary")
    with pytest.raises(ValueError, match="collide on mesh axis fsdp"):
        spec("batch", "width")


@pytest.mark.parametrize(
    ("mesh", "names", "shape", "message"),
    [
        ({"tensor": 4}, ("width", "heads"), (8, 6), r"query \(8, 6\): its heads dimension of 6 .* tensor 4"),
        ({"data": 2, "fsdp": 3}, ("batch",), (4,), r"its batch dimension of 4 .* data 2 x fsdp 3"),
        ({}, ("width",), (8, 6), r"query has shape \(8, 6\), and 1 names"),
    ],
)
def test_a_dimension_that_does_not_divide_names_the_array(mesh, names, shape, message):
    with pytest.raises(ValueError, match=message):
        check_divides(abstract_mesh(**mesh), names, shape, "query")


def shardings(preset):
    """Path -> [shape, spec] of each parameter."""
    shapes, names = abstract_params(PRESETS[preset]), param_dimensions(PRESETS[preset])
    rows = jax.tree_util.tree_leaves_with_path(shapes)
    leaves = jax.tree.leaves(names, is_leaf=lambda x: isinstance(x, tuple))
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): [list(x.shape), list(spec(*leaf))]
        for (path, x), leaf in zip(rows, leaves, strict=True)
    }


def test_shardings_are_those_that_were_reviewed():
    """After a change that is meant: write what this returns to the file, and read its difference."""
    assert json.loads(json.dumps({name: shardings(name) for name in PRESETS})) == json.loads(GOLDEN.read_text("utf-8"))


@pytest.mark.parametrize(
    ("preset", "mesh"),
    [
        ("llama2-7b", {"fsdp": 64}),
        ("llama2-7b", {"fsdp": 16, "tensor": 4}),
        ("llama2-13b", {"fsdp": 32}),
        ("llama2-70b", {"data": 4, "fsdp": 32, "tensor": 8}),
    ],
)
def test_the_published_shapes_divide_along_usual_meshes(preset, mesh):
    names = jax.tree.leaves(param_dimensions(PRESETS[preset]), is_leaf=lambda x: isinstance(x, tuple))
    for x, leaf in zip(jax.tree.leaves(abstract_params(PRESETS[preset])), names, strict=True):
        check_divides(abstract_mesh(**mesh), leaf, x.shape, preset)


def test_a_mesh_of_the_wrong_size_is_one_clear_line():
    devices = jax.devices()[:1]
    assert make_mesh(config().mesh, devices).shape == dict.fromkeys(AXES, 1)
    assert make_mesh(config(fsdp=1).mesh, devices * 3).devices.tolist() == [[[devices]]]
    with pytest.raises(UserError, match=r"data 1 x fsdp 1 x tensor 3 x sequence 1 is 3 devices and there are 1"):
        make_mesh(config(tensor=3).mesh, devices)


def test_rows_tokens_and_heads_that_do_not_divide_are_one_clear_line():
    toy = PRESETS["toy"]
    check_batch(toy, config(), abstract_mesh(fsdp=4, sequence=2))
    with pytest.raises(UserError, match=r"micro_batch_rows .*batch dimension of 4 .*fsdp 8"):
        check_batch(toy, config(), abstract_mesh(fsdp=8))
    with pytest.raises(UserError, match=r"length dimension of 64 .*sequence 3"):
        check_batch(toy, config(), abstract_mesh(sequence=3))
    with pytest.raises(UserError, match=r"2 key/value heads of toy .*sequence 4"):
        check_batch(toy, config(), abstract_mesh(sequence=4))


def test_sharding_outside_of_a_mesh_is_no_sharding():
    x = jax.numpy.ones((2, 3))
    assert rules.current_mesh() is None
    assert rules.constrain(x, "batch", None) is x
    assert spec("batch", "length", None) == PartitionSpec(("data", "fsdp"), "sequence", None)
