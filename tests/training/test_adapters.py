"""Runs that train an adapter: what is frozen, saved, resumed, refused, opened, exported; on one device and eight."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from child_processes import cpu_environment
from flax import traverse_util

from mentallama_jax.config import AdapterSection, parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.formats.hf_folder import save_model
from mentallama_jax.formats.load import load_model, load_model_config
from mentallama_jax.jobs.export import export
from mentallama_jax.jobs.open_model import open_model
from mentallama_jax.jobs.tune import base_model
from mentallama_jax.models.adapters import adapted_config, adapted_params, is_adapter, merged_params
from mentallama_jax.models.llama import forward
from mentallama_jax.models.low_rank import _dropped
from mentallama_jax.models.module import abstract_params, bind, count_params, init_params, merge_params, split_params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.planning.cost import model_flops_per_token
from mentallama_jax.storage import file_sizes
from mentallama_jax.training import loop
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, full_rows
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.preflight import estimate_memory, tree_numbers
from mentallama_jax.training.run.manifest import complete_checkpoints
from mentallama_jax.training.step import init_state, make_train_step
from mentallama_jax.training.validation import make_evaluators

TOY = replace(PRESETS["toy"], vocab_size=64, hidden_size=32, intermediate_size=48, num_layers=2, head_dim=8)
ADAPTER = {"rank": 4, "alpha": 8.0, "dropout": 0.1, "base_dtype": "float32", "rank_pattern": {"v_proj": 2}}


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model and its weights."""
    folder = tmp_path_factory.mktemp("base") / "model"
    config = load_model_config(tiny_model)
    save_model(folder, config, init_params(config, jax.random.key(3)), {})
    return folder


@pytest.fixture
def values(tiny_values, base, tmp_path):
    def make(name: str = "run", **changes):
        model = {"source": str(base), "weights": "pretrained"}
        changes = {"optimizer": {"learning_rate": 1e-2, "weight_decay": 0.1}, "adapter": ADAPTER} | changes
        return parse_config(tiny_values(tmp_path / name, **{"model": model} | changes), "test")

    return make


def config_of(**adapter):
    values = {
        "model": {"source": "toy", "weights": "random", "compute_dtype": "float32", "remat": "none"},
        "data": {"train": ["x"], "max_length": 32},
        "adapter": adapter,
        "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.1},
        "training": {"run_dir": "-", "steps": 10, "micro_batch_rows": 2},
    }
    return parse_config(values, "test")


def grpo_of(base_dtype):
    """Learns from rewards and keeps to the start, with or without an adapter."""
    values = config_of(rank=2, base_dtype=base_dtype or "int8").model_dump()
    changes = {"objective": {"kind": "grpo", "rewards": {"label": 1.0}, "beta": 0.1, "num_generations": 2}}
    evaluation = values["evaluation"] | {"max_new_tokens": 8}
    return parse_config(
        values | changes | {"evaluation": evaluation} | ({} if base_dtype else {"adapter": None}), "test"
    )


def grpo_shapes(base_dtype):
    config = grpo_of(base_dtype)
    return jax.eval_shape(partial(init_state, objective_of(TOY, config), config, 10))


def logits(config, params):
    tokens = jnp.arange(40).reshape(2, 20) * 7 % config.vocab_size
    places = jnp.broadcast_to(jnp.arange(20), (2, 20)), jnp.ones((2, 20), jnp.int32)
    return jax.jit(lambda params: forward(params, config, tokens, *places))(params)


@pytest.mark.long
def test_before_the_first_update_an_adapter_changes_no_bit() -> None:
    params = init_params(TOY, jax.random.key(0))
    model = adapted_config(TOY, AdapterSection())
    begin = jax.jit(lambda params: adapted_params(model, params, jax.random.key(1), jnp.float32))
    adapted = begin(params)
    plain = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    np.testing.assert_array_equal(logits(model, adapted), logits(TOY, plain))
    jax.tree.map(np.testing.assert_array_equal, merged_params(model, adapted), plain)
    jax.tree.map(np.testing.assert_array_equal, adapted, begin(params))
    a = adapted["layers"]["attention"]["query_adapter"]["a"]
    bound = TOY.hidden_size**-0.5  # of torch's kaiming_uniform with a = sqrt 5
    assert bound * 0.95 < float(abs(a).max()) <= bound
    assert float(a.std()) == pytest.approx(bound / 3**0.5, rel=0.1)


@pytest.mark.long
def test_frozen_bits_stay_and_only_the_adapter_has_moments() -> None:
    config = config_of(rank=4, targets=["q_proj", "o_proj", "down_proj"], dora=True, dropout=0.2, base_dtype="int8")
    objective = objective_of(TOY, config)
    state = jax.jit(partial(init_state, objective, config, 10))()
    assert tree_numbers(state["opt_state"]) == pytest.approx(2 * tree_numbers(state["params"]), abs=8)  # and counters
    assert tree_numbers(state["params"]) < 0.5 * count_params(TOY)
    assert state["frozen"]["layers"]["mlp"]["up"].dtype == jnp.int8
    assert state["frozen"]["embedding"].dtype == jnp.bfloat16
    before = jax.tree.map(np.asarray, (state["params"], state["frozen"]))
    arrays = {name: jnp.asarray(value)[None] for name, value in full_rows(2, 32, TOY.vocab_size).items()}
    step = make_train_step(objective, config, 10)
    losses = []
    for _ in range(3):
        state, metrics = step(state, arrays | {MICRO_BATCHES: jnp.int32(1)})
        losses.append(float(metrics["loss"]))
    assert losses[2] < losses[0]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), before[1], state["frozen"]))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before[0], state["params"])
    assert jax.tree.all(moved)
    merged = merged_params(objective.model, merge_params(state["params"], state["frozen"]))
    assert jax.tree.map(jnp.shape, merged) == jax.tree.map(jnp.shape, abstract_params(TOY))


def test_what_dropout_leaves_is_scaled_up() -> None:
    x = jnp.full((1, 64, 64), 3.0)
    found = _dropped(x, 0.25, jax.random.key(0))
    assert set(np.unique(found).tolist()) == {0.0, 4.0}
    assert float(jnp.mean(found == 0)) == pytest.approx(0.25, abs=0.02)


def test_lengths_that_are_learnt_count_in_bfloat16_too() -> None:
    """They are near their first values for long, and bfloat16 has no number between 1 and 1.0078."""
    model = adapted_config(TOY, AdapterSection(rank=2, targets=["q_proj"], dora=True, base_dtype="float32"))
    params = adapted_params(model, init_params(TOY, jax.random.key(0)), jax.random.key(1), jnp.float32)
    place = params["layers"]["attention"]["query_adapter"]
    place["magnitude"] = place["magnitude"] * 1.003
    layer = jax.tree.map(lambda x: x[0].astype(jnp.bfloat16), bind(model, params).layers.attention.query_adapter)
    x = jax.random.normal(jax.random.key(2), (1, 64, TOY.hidden_size), jnp.bfloat16)
    weight = params["layers"]["attention"]["query"][0]
    y = jnp.einsum("BTD,DNH->BTNH", x, weight.astype(jnp.bfloat16))
    ratio = jnp.sum(jnp.abs(layer(x, y, weight).astype(jnp.float32))) / jnp.sum(jnp.abs(y.astype(jnp.float32)))
    assert float(ratio) == pytest.approx(1.003, abs=5e-4)


@pytest.mark.parametrize("base_dtype", ["float32", "int8"])
def test_label_f1_is_that_of_the_adapted_model(base_dtype) -> None:
    config = config_of(rank=2, targets=["q_proj"], base_dtype=base_dtype)
    objective = objective_of(TOY, config)
    params = adapted_params(objective.model, None, jax.random.key(1), jnp.float32)
    place = params["layers"]["attention"]["query_adapter"]
    place["b"] = place["b"] + 0.5
    trained, frozen = split_params(params, objective.is_trained)
    answered = []
    examples = SimpleNamespace(validation=None, to_answer=["record"])
    evaluators = make_evaluators(config, objective, examples, lambda p, r: answered.append((p, r)) or 0.5, None, None)
    assert [(one.name, one.measure({"params": trained, "frozen": frozen}, 1)) for one in evaluators] == [
        ("label_f1", 0.5)
    ]
    ((merged, records),) = answered
    assert records == ["record"]
    assert jax.tree.map(jnp.shape, merged) == jax.tree.map(jnp.shape, abstract_params(TOY))
    np.testing.assert_allclose(logits(TOY, merged), logits(objective.model, params), rtol=0.1, atol=0.02)
    plain = merged_params(objective.model, adapted_params(objective.model, None, jax.random.key(1), jnp.float32))
    assert float(abs(logits(TOY, plain) - logits(TOY, merged)).max()) > 0.1


@pytest.mark.long
def test_int8_weights_are_near_and_zero_columns_stay() -> None:
    model = adapted_config(TOY, AdapterSection(base_dtype="int8"))
    params = init_params(TOY, jax.random.key(0))
    params["layers"]["mlp"]["up"] = params["layers"]["mlp"]["up"].at[:, :, 5].set(0)
    adapted = adapted_params(model, params, jax.random.key(1), jnp.float32)
    scales = adapted["layers"]["mlp"]["up_scale"].astype(jnp.float32)[:, None]
    dense = adapted["layers"]["mlp"]["up"].astype(jnp.float32) * scales
    assert float(abs(dense - params["layers"]["mlp"]["up"]).max()) <= float(scales.max()) * 0.51
    assert not dense[:, :, 5].any()


def test_memory_falls_with_what_is_trained() -> None:
    needs = {}
    sections = {name: {"rank": 2, "base_dtype": name} for name in ("bfloat16", "int8", "int4")}
    for name, section in {"whole": None, **sections}.items():
        config = config_of(**section) if section is not None else config_of().model_copy(update={"adapter": None})
        shapes = jax.eval_shape(partial(init_state, objective_of(TOY, config), config, 10))
        needs[name] = estimate_memory(TOY, config, 4, 64, shapes)
    whole, bfloat16, int8, int4 = needs.values()
    numbers = tree_numbers(split_params(_abstract(TOY, rank=2), is_adapter)[0])
    assert whole.params == 4 * count_params(TOY)
    assert bfloat16.params == 2 * count_params(TOY) + 4 * numbers
    assert int8.params < 1.5 * count_params(TOY) + 4 * numbers
    # Half a byte for each weight, and two for each scale: one for all inputs of a head or the model, which are few.
    flat = traverse_util.flatten_dict(abstract_params(TOY))
    weights = {path: x for path, x in flat.items() if path[0] == "layers" and x.ndim > 2}
    scales = sum(x.size // x.shape[2 if path[-1] == "output" else 1] for path, x in weights.items())
    small = sum(x.size for x in weights.values())
    assert int4.params == small // 2 + 2 * scales + 2 * (count_params(TOY) - small) + 4 * numbers
    beside = {name: estimate_memory(TOY, grpo_of(name), 4, 64, grpo_shapes(name)).params for name in (None, "int4")}
    assert beside[None] == 2 * whole.params  # the start is held beside the policy, but for an adapter
    assert beside["int4"] == int4.params
    assert bfloat16.moments == int8.moments == pytest.approx(2 * 4 * numbers, abs=64)
    assert bfloat16.gradients == 4 * numbers * 2  # accumulated over micro-batches
    assert bfloat16.checkpoint == bfloat16.moments + 4 * numbers


@pytest.mark.parametrize("base_dtype", ["int8", "int4"])
def test_no_weight_of_few_bits_is_kept_as_floats_for_the_backward_pass(base_dtype) -> None:
    """Else a run that recomputes nothing would hold the base as floats after all."""
    config = config_of(rank=4, base_dtype=base_dtype)  # its `remat` is `none`
    objective = objective_of(TOY, config)
    state = jax.eval_shape(partial(init_state, objective, config, 10))
    batch = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in full_rows(2, 20, TOY.vocab_size).items()}

    def loss(trained, frozen, batch):
        return objective.loss(trained, frozen, batch, None, training=True)[0]

    traced = jax.make_jaxpr(jax.grad(loss))(state["params"], state["frozen"], batch)
    forward = next(equation for equation in traced.eqns if equation.primitive.name == "scan")
    kept = [(one.aval.shape, jnp.issubdtype(one.aval.dtype, jnp.floating)) for one in forward.outvars]
    weights = [x.shape for x in jax.tree.leaves(abstract_params(TOY)["layers"]) if x.ndim > 2]
    assert ((2, 2, 20, TOY.hidden_size), True) in kept  # activations are
    assert not [shape for shape in weights if (shape, True) in kept]


def test_frozen_weights_cost_two_thirds_of_the_operations() -> None:
    whole, frozen = (model_flops_per_token(TOY, 64, frozen=frozen) for frozen in (False, True))
    matrices = count_params(TOY) - TOY.vocab_size * TOY.hidden_size * (1 - TOY.tie_embeddings)
    matrices -= (2 * TOY.num_layers + 1) * TOY.hidden_size  # norms
    assert whole - frozen == pytest.approx(2 * matrices)


@pytest.mark.long
def test_a_run_of_an_adapter_resumes_exactly_and_opens_as_a_model(values, base, tmp_path, monkeypatch) -> None:
    config, stopped = values("whole"), values("stopped")
    whole = loop.train(config, base_model(config))
    make = loop.make_train_step

    def stops_at_5(*arguments):
        step = make(*arguments)

        def stopping(state, batch):
            if int(state["step"]) == 4:
                signal.raise_signal(signal.SIGTERM)
            return step(state, batch)

        stopping._cache_size = step._cache_size
        return stopping

    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_train_step", stops_at_5)
        assert loop.train(stopped, base_model(stopped)).stopped_by == "SIGTERM"
    resumed = loop.train(stopped, base_model(stopped))
    assert resumed.steps == whole.steps == 12
    lines = [
        [row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if row["kind"] == "train"]
        for run in (whole.run_dir, resumed.run_dir)
    ]
    assert [row["loss"] for row in lines[0]] == [row["loss"] for row in lines[1]]
    checkpoint = complete_checkpoints(resumed.run_dir / "checkpoints")[-1]
    names = (checkpoint.path / "params" / "_METADATA").read_text()
    assert "query_adapter" in names
    assert "embedding" not in names
    model = load_model(base)[0]
    trained = tree_numbers(split_params(_abstract(model), is_adapter)[0])
    assert sum(file_sizes(checkpoint.path).values()) < 3 * 4 * trained + 400_000  # and descriptions of the arrays

    opened = [open_model(str(run.run_dir)) for run in (whole, resumed)]
    params = [one.load_params(jnp.float32, None) for one in opened]
    jax.tree.map(np.testing.assert_array_equal, *params)
    assert opened[0].fingerprint() != open_model(str(base)).fingerprint()
    assert float(abs(params[0]["layers"]["mlp"]["up"] - load_model(base)[1]["layers"]["mlp"]["up"]).max()) > 1e-3

    done = export(str(resumed.run_dir), tmp_path / "adapter", adapter_only=True)
    assert done.what == "adapter of step 12"
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (written["r"], written["rank_pattern"], written["lora_dropout"]) == (4, {"v_proj": 2}, 0.1)
    assert "library_name: peft" in (tmp_path / "adapter" / "README.md").read_text()
    beside = open_model(str(base), adapter=tmp_path / "adapter")
    jax.tree.map(np.testing.assert_array_equal, beside.load_params(jnp.float32, None), params[0])
    assert beside.identity["adapter"] == str(tmp_path / "adapter")
    with pytest.raises(UserError, match="--adapter-only goes with the run directory of an adapter"):
        export(str(base), tmp_path / "none", adapter_only=True)

    _refuses_another_base(values, base, tmp_path)


def _abstract(model, **adapter):
    section = AdapterSection(**adapter)
    return jax.eval_shape(lambda: adapted_params(adapted_config(model, section), None, jax.random.key(0), jnp.float32))


def _refuses_another_base(values, base: Path, tmp_path: Path) -> None:
    """The base under the same name has other weights now."""
    kept = base.rename(base.with_name("kept"))
    model, params = load_model(kept)
    save_model(base, model, jax.tree.map(lambda x: x * 1.01, params), {})
    with pytest.raises(UserError, match=r"adapts other weights than .* holds now"):
        open_model(str(tmp_path / "whole"))
    config = values("whole")
    with pytest.raises(UserError, match=r"this run adapts other weights than .* holds now; put them back"):
        loop.train(config, base_model(config))
    base.rename(base.with_name("changed"))
    with pytest.raises(UserError, match="the base model of its adapter cannot be read"):
        open_model(str(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            {"targets": ["query"]},
            r"adapter\.targets: 'query' is no projection .* there are: q_proj, k_proj, .*all-linear",
        ),
        ({"targets": ["lm_head"]}, r"adapter\.targets: 'lm_head' is no projection that can be adapted"),
        (
            {"targets": ["q_proj"], "rank_pattern": {"v_proj": 2}},
            r"adapter\.rank_pattern: 'v_proj' is none of the adapted",
        ),
        ({"alpha_pattern": {"layers.0.q_proj": 2.0}}, r"adapter\.alpha_pattern: 'layers\.0\.q_proj' is none"),
    ],
)
def test_an_adapter_that_matches_nothing_is_refused(adapter, message: str) -> None:
    with pytest.raises(UserError, match=message):
        objective_of(TOY, config_of(**adapter))


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"kind": "ia3"}, r"adapter\.kind: Input should be 'lora'"),
        ({"rank": 0}, r"adapter\.rank: .*greater than or equal to 1"),
        ({"dropout": 1.0}, r"adapter\.dropout: .*less than 1"),
        ({"base_dtype": "int3"}, r"adapter\.base_dtype: .*'float32', 'bfloat16', 'int8' or 'int4'"),
        ({"alhpa": 3.0}, r"unknown key adapter\.alhpa; did you mean adapter\.alpha\?"),
        ({"targets": []}, r"adapter\.targets: .*at least 1"),
    ],
)
def test_a_wrong_section_is_one_clear_line(adapter, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config_of(**adapter)


ON_EIGHT_DEVICES = """
import sys
import jax, numpy as np
from dataclasses import replace
from functools import partial
from mentallama_jax.config import parse_config
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, full_rows
from mentallama_jax.training.mesh_placement import abstract_state, place_batch
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.step import init_state, make_train_step

toy = PRESETS["toy"]
toy = replace(toy, vocab_size=64, hidden_size=32, intermediate_size=48, num_layers=2, head_dim=8)
arrays = full_rows(8, 16, toy.vocab_size) | {MICRO_BATCHES: np.asarray(1, np.int32)}
outcomes = []
for sizes in ({"fsdp": 1}, {"data": 2, "fsdp": 2, "tensor": 2}):
    config = parse_config({"model": {"source": "toy", "weights": "random", "compute_dtype": "float32"},
        "data": {"train": ["x"], "max_length": 16}, "mesh": sizes, "optimizer": {"learning_rate": 1e-2},
        "adapter": {"rank": 4, "targets": ["q_proj", "o_proj", "down_proj"], "dora": True, "dropout": 0.1,
            "base_dtype": sys.argv[1]},
        "training": {"run_dir": "-", "steps": 10, "micro_batch_rows": 8}}, "test")
    mesh = make_mesh(config.mesh, jax.devices()[:8 if len(sizes) > 1 else 1])
    objective = objective_of(toy, config)
    with use_mesh(mesh):
        shapes = abstract_state(objective, config, 10, mesh)
        shardings = jax.tree.map(lambda x: x.sharding, shapes)
        state = jax.jit(partial(init_state, objective, config, 10), out_shardings=shardings)()
        step = make_train_step(objective, config, 10, shardings)
        for _ in range(2):
            state, metrics = step(state, place_batch(arrays, 8, mesh))
    if len(sizes) > 1:
        query = shapes["params"]["layers"]["attention"]["query_adapter"]
        assert query["a"].sharding.shard_shape(query["a"].shape) == (2, 16, 4)
        assert query["b"].sharding.shard_shape(query["b"].shape) == (2, 4, 2, 8)
    outcomes.append((float(metrics["loss"]), float(metrics["grad_norm"]), jax.device_get(state["params"])))
(one, norm, params), (other, other_norm, sharded) = outcomes
assert abs(one - other) < 1e-5 * abs(one), (one, other)
assert abs(norm - other_norm) < 1e-4 * norm, (norm, other_norm)
for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(sharded), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3)
print("equal")
"""


@pytest.mark.slow
@pytest.mark.parametrize("base_dtype", ["int8", "int4"])
def test_eight_devices_train_the_same_adapter(base_dtype) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_EIGHT_DEVICES, base_dtype],
        capture_output=True,
        text=True,
        env=cpu_environment(8),
        cwd=Path(__file__).parent,
        check=False,
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
