"""Adapters trained by preferences, by rewards and in encoder-decoders: where they begin, resume, sample, and go."""

import io
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from rich.console import Console
from test_classifier_runs import SECTIONS as CLASSIFIER_SECTIONS
from test_policy import figures, grpo_config, run, variety  # noqa: F401  # the config names the reward `variety`
from test_preference import dpo_config, pairs_of, stopped_after, tokenizer  # noqa: F401
from test_sequence_runs import SECTIONS as SEQUENCE_SECTIONS

from mentallama_jax import imhi
from mentallama_jax.config import AdapterSection, MeshSection, RunConfig, parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.formats.assembly import assemble
from mentallama_jax.formats.hf_folder import save_model, tensors_of_params
from mentallama_jax.formats.load import load_model_config
from mentallama_jax.formats.peft import TensorsAsFile, read_adapter
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.export import export
from mentallama_jax.jobs.open_model import open_model
from mentallama_jax.jobs.open_sequence import open_sequence
from mentallama_jax.jobs.open_shape import trained_shape
from mentallama_jax.jobs.tune import base_model, tune
from mentallama_jax.models.adapters import adapted_params
from mentallama_jax.models.low_rank import ADAPTER
from mentallama_jax.models.module import init_params
from mentallama_jax.models.presets import SEQUENCE_PRESETS
from mentallama_jax.parallel.mesh import make_mesh
from mentallama_jax.scorers.label_classifier import open_classifiers
from mentallama_jax.training import loop, setup
from mentallama_jax.training import reference_answers as reference
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, SAMPLED_ANSWERS
from mentallama_jax.training.data.preferred import preference_store
from mentallama_jax.training.data.rollouts import SampledAnswer, fill_answers
from mentallama_jax.training.mesh_placement import abstract_batch, abstract_state
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.policy_watch import AnswerLogProbabilities, StartWeights
from mentallama_jax.training.run.manifest import complete_checkpoints
from mentallama_jax.training.step import make_train_step

ADAPTER_KEYS = {"rank": 4, "alpha": 8.0, "base_dtype": "float32"}


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model and its weights."""
    folder = tmp_path_factory.mktemp("base") / "model"
    config = load_model_config(tiny_model)
    save_model(folder, config, init_params(config, jax.random.key(3)), {})
    return folder


def with_adapter(config: RunConfig, base: Path, **keys) -> RunConfig:
    model = config.model.model_copy(update={"source": str(base), "weights": "pretrained"})
    optimizer = config.optimizer.model_copy(update={"learning_rate": 1e-2})
    return config.model_copy(
        update={"model": model, "optimizer": optimizer, "adapter": AdapterSection(**ADAPTER_KEYS | keys)}
    )


def names_in(run_dir: Path) -> str:
    return (complete_checkpoints(run_dir / "checkpoints")[-1].path / "params" / "_METADATA").read_text()


@pytest.mark.slow
def test_dpo_of_an_adapter_begins_at_the_base_and_raises_the_margin(dpo_config, base, tmp_path) -> None:  # noqa: F811
    config = with_adapter(dpo_config(tmp_path / "run", training={"steps": 3}), base)
    tune(config)
    train = [row for row in figures(tmp_path / "run") if row["kind"] == "train"]
    assert train[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert train[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert train[-1]["rewards/margins"] > 0.05
    assert "query_adapter" in names_in(tmp_path / "run")
    assert "embedding" not in names_in(tmp_path / "run")
    opened = open_model(str(tmp_path / "run")).load_params(jnp.float32, None)
    export(str(tmp_path / "run"), tmp_path / "adapter", adapter_only=True)
    beside = open_model(str(base), adapter=tmp_path / "adapter").load_params(jnp.float32, None)
    jax.tree.map(np.testing.assert_array_equal, beside, opened)


def test_the_reference_is_kept_for_the_frozen_weights_as_they_are(dpo_config, base, tmp_path, tokenizer) -> None:  # noqa: F811
    plain = dpo_config(tmp_path / "plain")
    store, _ = preference_store(pairs_of(2), "plain", tokenizer, 320)
    configs = [plain, *(with_adapter(plain, base, base_dtype=name) for name in ("float32", "bfloat16", "int8", "int4"))]
    keys = {reference._key(store, slice(0, 2), config, "model") for config in configs}
    assert len(keys) == 5  # other bits say other things
    assert reference._key(store, slice(0, 2), with_adapter(plain, base, base_dtype="int4", rank=2), "model") in keys


@pytest.mark.slow
def test_grpo_of_an_adapter_holds_one_model(grpo_config, base, tmp_path, monkeypatch) -> None:  # noqa: F811
    """The base is in int4 and answers in int4; the divergence is from the base without the adapter."""
    config = grpo_config(
        tmp_path / "run",
        {"num_iterations": 2, "beta": 0.04, "loss_type": "grpo"},
        training={"steps": 2},
        evaluation={"every_steps": None},
    )
    config, states = with_adapter(config, base, base_dtype="int4"), []
    first_state = setup.first_state
    for module in (loop, setup):
        monkeypatch.setattr(module, "first_state", lambda *given: states.append(1) or first_state(*given))
    run(config, [])
    assert len(states) == 1  # nothing is read again for the divergence
    rows = figures(tmp_path / "run")
    train, held_out = ([row for row in rows if row["kind"] == kind] for kind in ("train", "validation"))
    assert train[0]["ratio"] == pytest.approx(1, abs=1e-5)
    assert train[1]["ratio"] != 1
    assert train[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert held_out[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert held_out[-1]["kl"] > 1e-6
    assert "embedding" not in names_in(tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize(
    "base_dtype", ["int4", *(pytest.param(name, marks=pytest.mark.slow) for name in ("float32", "int8"))]
)
def test_what_samples_is_what_learns(grpo_config, base, tmp_path, base_dtype) -> None:  # noqa: F811
    """The engine has the adapter beside the frozen weights as they are, of however few bits."""
    config = with_adapter(grpo_config(tmp_path / "run"), base, base_dtype=base_dtype, dora=base_dtype == "int4")
    objective = objective_of(base_model(config).config, config)
    params = jax.jit(lambda: moved(adapted_params(objective.model, None, jax.random.key(1), jnp.float32)))()
    engine = Engine(objective.model, "float32")
    engine.update(params)
    layer = engine.weights.layers[0].attention
    assert layer.query.dtype == jnp.dtype(base_dtype)
    assert getattr(layer, "query" + ADAPTER).a.dtype == jnp.float32
    prompts, found = [tuple(range(5, 25)), tuple(range(40, 50))], {}
    for batch in engine.answers(prompts, ["a", "b"], Settings(6, Sampling(1.0), 0, 4), (2,)):
        found |= batch
    answers = [SampledAnswer(prompt, found[n].tokens, found[n].ended, "") for n, prompt in enumerate(prompts)]
    arrays = SAMPLED_ANSWERS.empty(2, config.data.max_length)
    places = fill_answers(arrays, [[0, 1]], answers)
    arrays[MICRO_BATCHES] = np.array(1, np.int32)
    ours = AnswerLogProbabilities(objective, make_mesh(MeshSection()))(params, arrays)
    for place, row, begun, end in places:
        np.testing.assert_allclose(ours[row, begun - 1 : end - 1], found[place].log_probabilities, atol=1e-4)


def moved(params):
    """The parameters with an adapter that adds something."""

    def other(path, x):
        return 0.1 * jnp.sin(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape) if path[-1].key == "b" else x

    return jax.tree.map_with_path(other, params)


@pytest.mark.parametrize("kind", ["dpo", "grpo", "sequence_to_sequence", "classification"])
def test_a_step_trains_the_adapter_alone(dpo_config, grpo_config, tmp_path, kind) -> None:  # noqa: F811
    """Traced, not compiled: whole runs of each are slow tests."""
    made = {"dpo": dpo_config, "grpo": grpo_config}
    if kind in made:
        config = made[kind](tmp_path / "run")
        model = load_model_config(config.model.source)
    else:
        sections = SEQUENCE_SECTIONS if kind == "sequence_to_sequence" else CLASSIFIER_SECTIONS
        config = parse_config({**sections, "training": sections["training"] | {"run_dir": "-"}}, "test")
        model = trained_shape(config)
    config = config.model_copy(update={"adapter": AdapterSection(**ADAPTER_KEYS | {"base_dtype": "int4"})})
    objective, mesh = objective_of(model, config), make_mesh(MeshSection())
    state = abstract_state(objective, config, 5, mesh)
    trained = traverse_util.flatten_dict(state["params"])
    whole = {"pooler", "pooler_bias", "classifier", "classifier_bias"} if kind == "classification" else set()
    assert {path[0] for path in trained if not any(part.endswith(ADAPTER) for part in path)} == whole
    assert any(leaf.dtype == jnp.int4 for leaf in jax.tree.leaves(state["frozen"]))
    batch = abstract_batch(config, mesh, 2, objective.batch_spec)
    after, metrics = jax.eval_shape(make_train_step(objective, config, 5), state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {"loss", "grad_norm"} <= metrics.keys()


def test_the_start_of_an_adapter_is_what_is_frozen_now_and_the_first_adapter(grpo_config, tmp_path) -> None:  # noqa: F811
    loads, frozen = [], {"head": jnp.ones(2)}
    plain = grpo_config(tmp_path / "run")
    for beta, kept in ((0.0, 2), (0.1, 1)):  # what the loss asks for is held, what an evaluation asks for is read again
        loads.clear()
        config = plain.model_copy(update={"objective": plain.objective.model_copy(update={"beta": beta})})
        start = StartWeights(lambda: loads.append(1) or {"a": 1}, config)
        assert start() == start() == {"a": 1}
        assert len(loads) == kept
    adapter = {"layers": {"b": jnp.zeros(3)}}
    start.beside(adapter, lambda: frozen)
    adapter["layers"]["b"].delete()  # as an update gives its buffers away
    frozen = {"head": jnp.full(2, 2.0)}
    assert start()["layers"]["b"].tolist() == [0, 0, 0]
    assert start()["head"].tolist() == [2, 2]


@pytest.mark.parametrize("kind", ["dpo", "grpo"])
def test_dropout_between_two_models_is_refused(dpo_config, grpo_config, tmp_path, kind) -> None:  # noqa: F811
    config = (dpo_config if kind == "dpo" else grpo_config)(tmp_path / "run")
    with pytest.raises(ValueError, match=rf"adapter\.dropout 0\.1: {kind} compares answers"):
        type(config).model_validate(config.model_dump() | {"adapter": {"dropout": 0.1}})


@pytest.mark.slow
def test_an_adapter_of_an_encoder_decoder_opens_and_goes_as_peft_has_it(tmp_path, training_cache) -> None:
    base = tmp_path / "base"
    shape = SEQUENCE_PRESETS["toy-bart"]
    files = open_tokenizer_files()
    save_model(base, shape, jax.jit(lambda: init_params(shape, jax.random.key(3)))(), files)
    values = {name: dict(keys) for name, keys in SEQUENCE_SECTIONS.items()}
    values["model"] |= {"source": str(base), "weights": "pretrained", "tokenizer": None}
    values["optimizer"] = {"learning_rate": 1e-2}
    values["evaluation"] = {}
    values["adapter"] = {**ADAPTER_KEYS, "dropout": 0.1, "targets": ["q_proj", "out_proj", "fc1", "fc2"]}
    places = {"run_dir": str(tmp_path / "run"), "compile_cache_dir": str(training_cache / "xla"), "steps": 3}
    values["training"] |= places
    config = parse_config(values, "test")
    assert objective_of(shape, config).draws
    tune(config)
    losses = [row["loss"] for row in figures(tmp_path / "run") if row["kind"] == "train"]
    assert losses[-1] < losses[0]
    assert "embedding" not in names_in(tmp_path / "run")
    opened = open_sequence(str(tmp_path / "run")).load_params(jnp.float32, None)
    done = export(str(tmp_path / "run"), tmp_path / "adapter", adapter_only=True)
    assert done.what == "adapter of step 3"
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert written["task_type"] == "SEQ_2_SEQ_LM"
    assert sorted(written["target_modules"]) == ["fc1", "fc2", "out_proj", "q_proj"]
    beside = open_sequence(str(base), adapter=tmp_path / "adapter")
    assert beside.identity["adapter"] == str(tmp_path / "adapter")
    jax.tree.map(np.testing.assert_array_equal, beside.load_params(jnp.float32, None), opened)
    plain = open_sequence(str(base)).load_params(jnp.float32, None)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), plain, opened)
    assert same["decoder"]["layers"]["mlp"]["up"] is False
    assert same["decoder"]["layers"]["attention"]["key"] is True
    base.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="the base model of its adapter cannot be read"):
        open_sequence(str(tmp_path / "run"))


def open_tokenizer_files() -> dict[str, bytes]:
    """The files of the sample's tokenizer of encoders."""
    folder = Path(imhi.__file__).parent / "sample" / "encoder_tokenizer"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_an_adapter_of_a_classifier_becomes_a_folder_that_reads_outputs(tmp_path, training_cache) -> None:
    values = {name: dict(keys) for name, keys in CLASSIFIER_SECTIONS.items()}
    values["objective"] |= {"input": "response", "test": []}
    values["data"] |= {"validation": []}
    values["evaluation"] = {}
    values["adapter"] = ADAPTER_KEYS
    values["training"] |= {"run_dir": str(tmp_path / "run"), "compile_cache_dir": str(training_cache / "xla")}
    values["training"] |= {"epochs": 1}
    tune(parse_config(values, "test"), console=Console(file=io.StringIO()))
    classifier = open_classifiers(tmp_path / "run", [TASKS["dreaddit"]])["dreaddit"]
    text = "Yes, the poster suffers from stress."
    assert np.exp(classifier.log_probabilities([text])[0]).sum() == pytest.approx(1, abs=1e-5)
    export(str(tmp_path / "run"), tmp_path / "adapter", adapter_only=True)
    run_config = classifier.config
    adapter = read_adapter(tmp_path / "adapter", run_config)
    start = init_params(run_config, jax.random.key(values["training"].get("seed", 0)))
    read = adapter.merged(tensors_of_params(start))
    merged = assemble(TensorsAsFile(run_config, read, "merged"), run_config, jnp.float32)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), merged, classifier.params)
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert written["task_type"] == "SEQ_CLS"
    assert written["modules_to_save"] == ["bert.pooler.dense", "classifier"]
    assert "pipeline_tag: text-classification" in (tmp_path / "adapter" / "README.md").read_text()
