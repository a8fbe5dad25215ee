"""The one specification of a batch: what is placed, what is planned for, and what is refused."""

import jax
import numpy as np
import pytest

from mentallama_jax.config import parse_config
from mentallama_jax.parallel.mesh import make_mesh
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, PACKED_TOKENS, ArraySpec, BatchSpec
from mentallama_jax.training.mesh_placement import abstract_batch, place_batch

CONFIG = parse_config(
    {
        "model": {"source": "toy", "weights": "random"},
        "data": {"train": ["sample"], "max_length": 16},
        "training": {"run_dir": "unused", "steps": 1, "micro_batch_rows": 2},
    },
    "test",
)
WITH_CLASSES = BatchSpec({**PACKED_TOKENS.arrays, "classes": ArraySpec(("batch",))})


@pytest.mark.parametrize("spec", [PACKED_TOKENS, WITH_CLASSES], ids=["packed tokens", "with a class a row"])
def test_what_is_placed_is_what_is_planned_for(spec):
    mesh = make_mesh(CONFIG.mesh, jax.devices()[:1])
    given = spec.empty(6, 16) | {MICRO_BATCHES: np.int32(3)}
    placed, planned = place_batch(given, 2, mesh, spec), abstract_batch(CONFIG, mesh, 3, spec)
    assert set(placed) == set(planned) == {*spec.names, MICRO_BATCHES}
    for name, x in planned.items():
        assert (x.shape, x.dtype) == (placed[name].shape, placed[name].dtype), name
        assert placed[name].sharding.is_equivalent_to(x.sharding, x.ndim), name


def test_every_row_keeps_its_place_in_arrays_of_any_rank():
    mesh = make_mesh(CONFIG.mesh, jax.devices()[:1])
    given = WITH_CLASSES.empty(6, 16) | {MICRO_BATCHES: np.int32(3)}
    given["classes"][:], given["tokens"][:] = np.arange(6), np.arange(6)[:, None]
    placed = place_batch(given, 2, mesh, WITH_CLASSES)
    assert placed["classes"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert placed["tokens"][..., 0].tolist() == placed["classes"].tolist()


def test_a_batch_with_other_arrays_is_refused():
    mesh = make_mesh(CONFIG.mesh, jax.devices()[:1])
    given = PACKED_TOKENS.empty(2, 16)
    lacking = {name: value for name, value in given.items() if name != "loss_mask"}
    with pytest.raises(ValueError, match="this one lacks loss_mask; has also mask"):
        place_batch({**lacking, "mask": given["loss_mask"]}, 2, mesh)


def test_a_dimension_without_a_size_is_refused():
    with pytest.raises(ValueError, match="dimension 'choices' of a batch has no size"):
        BatchSpec({"answers": ArraySpec(("batch", "choices"))}).empty(2, 16)
