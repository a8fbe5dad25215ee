"""The moments of the optimizers: their dtype whatever that of the parameters, and what Adafactor takes for a matrix."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mentallama_jax.config import AdapterSection, OptimizerSection, parse_config
from mentallama_jax.models.adapters import adapted_config
from mentallama_jax.models.low_rank import ADAPTER
from mentallama_jax.models.module import abstract_params, param_dimensions
from mentallama_jax.models.presets import ENCODER_PRESETS, PRESETS, SEQUENCE_PRESETS
from mentallama_jax.models.projections import projections_of
from mentallama_jax.parallel.mesh import make_mesh
from mentallama_jax.training.adafactor import View, scale_by_adafactor
from mentallama_jax.training.mesh_placement import abstract_state
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.optimizer import learning_rate_schedule, make_optimizer
from mentallama_jax.training.preflight import estimate_memory, tree_numbers
from mentallama_jax.training.run.checkpoints import Checkpoints
from mentallama_jax.training.step import init_state

TOY = PRESETS["toy"]
OF_EACH_ARCHITECTURE = {
    model.model_type: model for model in (*PRESETS.values(), *ENCODER_PRESETS.values(), *SEQUENCE_PRESETS.values())
}
ADAPTERS = pytest.mark.parametrize("adapter", [None, {"rank": 2, "dora": True}], ids=["full", "adapter"])


def config_of(adapter=None, **optimizer):
    values = {
        "model": {"source": "toy", "weights": "random", "parameter_dtype": "bfloat16"},
        "data": {"train": ["x"], "max_length": 32},
        "adapter": adapter,
        "optimizer": optimizer,
        "training": {"run_dir": "-", "steps": 10, "micro_batch_rows": 2},
    }
    return parse_config(values, "test")


def shapes_of(config):
    """The state of a run in bfloat16, by shapes, and its parts that hold moments of floats."""
    objective = objective_of(TOY, config)
    shapes = jax.eval_shape(partial(init_state, objective, config, 10))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes["params"])} == {jnp.dtype(jnp.bfloat16)}
    floats = [leaf for leaf in jax.tree.leaves(shapes["opt_state"]) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert floats
    return shapes, floats


@ADAPTERS
@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_moments_of_parameters_in_bfloat16_are_float32(adapter, name) -> None:
    _, floats = shapes_of(config_of(adapter, name=name))
    assert {leaf.dtype for leaf in floats} == {jnp.dtype(jnp.float32)}


@ADAPTERS
def test_only_the_first_moment_is_bfloat16_on_request_and_memory_says_so(adapter) -> None:
    for dtype, width in (("float32", 4), ("bfloat16", 2)):
        config = config_of(adapter, first_moment_dtype=dtype)
        shapes, floats = shapes_of(config)
        trained = tree_numbers(shapes["params"])
        assert sum(leaf.size for leaf in floats if leaf.dtype == jnp.float32) == trained * (2 if width == 4 else 1)
        need = estimate_memory(TOY, config, 2, 32, shapes)
        assert need.moments == pytest.approx((4 + width) * trained, abs=64)  # and counters
        placed = abstract_state(objective_of(TOY, config), config, 10, make_mesh(config.mesh))
        assert jax.tree.map(lambda leaf: leaf.dtype, placed) == jax.tree.map(lambda leaf: leaf.dtype, shapes)


def test_the_second_moment_of_a_parameter_in_bfloat16_is_that_of_one_in_float32() -> None:
    section = OptimizerSection(schedule="constant", warmup_fraction=0.0, clip_norm=None, learning_rate=1.0)
    optimizer = make_optimizer(section, learning_rate_schedule(section, 1000), TOY)

    def last_update(dtype):
        gradient = {"weight": jnp.ones((3, 5), jnp.float32)}
        params = {"weight": jnp.zeros((3, 5), dtype)}

        def step(_, carry):
            return optimizer.update(gradient, carry[1], params)

        zeros = {"weight": jnp.zeros((3, 5), jnp.float32)}
        return jax.lax.fori_loop(0, 1000, step, (zeros, optimizer.init(params)))

    (update, state), (wanted, exact) = (jax.jit(last_update, static_argnums=0)(d) for d in (jnp.bfloat16, jnp.float32))
    jax.tree.map(np.testing.assert_array_equal, state, exact)
    nu = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state) if ".nu" in jax.tree_util.keystr(path)]
    np.testing.assert_allclose(nu[0], 1 - 0.999**1000, rtol=1e-4)
    np.testing.assert_allclose(update["weight"], wanted["weight"], rtol=1e-6)
    np.testing.assert_allclose(update["weight"], -1.0, rtol=1e-4)


def test_a_checkpoint_with_a_second_moment_in_bfloat16_goes_on_in_float32(tmp_path) -> None:
    config = config_of({"rank": 2})
    objective = objective_of(TOY, config)
    shapes = abstract_state(objective, config, 10, make_mesh(config.mesh))
    state = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5).astype(leaf.dtype), shapes)
    older = state | {"opt_state": jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state["opt_state"])}
    with Checkpoints(tmp_path / "checkpoints", config) as checkpoints:
        checkpoints.save(4, older | {"step": jnp.int32(4)}, {"step": 4})
        checkpoints.wait()
        _, restored = checkpoints.restore(shapes, print)
    wanted = {name: shapes[name] for name in restored}
    assert jax.tree.map(lambda x: (x.shape, x.dtype), restored) == jax.tree.map(lambda x: (x.shape, x.dtype), wanted)


@pytest.mark.parametrize("model_type", OF_EACH_ARCHITECTURE)
def test_every_matrix_of_an_adapter_is_one_to_adafactor(model_type: str) -> None:
    base = OF_EACH_ARCHITECTURE[model_type]
    model = adapted_config(base, AdapterSection(rank=3, dora=True))
    names, shapes = (traverse_util.flatten_dict(tree) for tree in (param_dimensions(model), abstract_params(model)))
    found = 0
    for path, one in projections_of(base).items():
        layers, *shape = shapes[path].shape
        rows, columns = (int(np.prod(part)) for part in (shape[: one.inputs], shape[one.inputs :]))
        for part, wanted in (("a", (rows, 3)), ("b", (3, columns)), ("magnitude", (columns,))):
            place = (*path[:-1], path[-1] + ADAPTER, part)
            view = View.of(place, names[place], shapes[place].shape)
            assert (view.shape, view.is_matrix) == ((layers, *wanted), part != "magnitude"), place
            found += 1
        assert View.of(path, names[path], shapes[path].shape).shape == (layers, rows, columns)
    assert found == sum(any(part.endswith(ADAPTER) for part in path) for path in shapes)


def test_the_update_of_a_matrix_with_heads_is_that_of_the_same_numbers_without() -> None:
    gradient = jax.random.normal(jax.random.key(0), (2, 4, 6, 3)) * jnp.arange(1, 4)
    updates = []
    for names, shape in ((("layers", "heads", None, None), (2, 4, 6, 3)), (("layers", "width", None), (2, 24, 3))):
        transformation = scale_by_adafactor({"layers": {"a": names}})
        params = {"layers": {"a": gradient.reshape(shape)}}
        update, state = transformation.update(params, transformation.init(params))
        assert (state.rows["layers"]["a"].shape, state.columns["layers"]["a"].shape) == ((2, 24), (2, 3))
        updates.append(np.asarray(update["layers"]["a"]).ravel())
    np.testing.assert_array_equal(*updates)
