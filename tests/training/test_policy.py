"""GRPO: losses, gradients, advantages, ratio 1 at step 0, and runs that are cut anywhere and sample the same again."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mentallama_jax.config import GrpoSection, MeshSection
from mentallama_jax.errors import UserError
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.jobs import policy_sampling
from mentallama_jax.jobs.policy_sampling import EngineSampler
from mentallama_jax.jobs.tune import base_model, tune
from mentallama_jax.models.module import init_params
from mentallama_jax.parallel.mesh import make_mesh
from mentallama_jax.training.data.advantages import advantages, deviations
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, SAMPLED_ANSWERS
from mentallama_jax.training.data.rollouts import PolicyData, SampledAnswer, _packed, _unpacked, fill_answers
from mentallama_jax.training.log_probabilities import members_of
from mentallama_jax.training.mesh_placement import place_batch
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.objectives.policy_losses import TokenFigures, answer_weights, token_losses
from mentallama_jax.training.policy_watch import AnswerLogProbabilities
from mentallama_jax.training.run.metrics import MetricsLog, read_metrics

GOLDENS = json.loads(Path(__file__).with_name("trl_goldens.json").read_text("utf-8"))
INPUTS = GOLDENS["grpo_inputs"]
CLOCK = ("tokens_per_second",)


def figures_of_goldens(dtype=jnp.float32) -> tuple[TokenFigures, jax.Array]:
    mask = np.arange(8)[None] < np.array(INPUTS["lengths"])[:, None]
    given = {name: jnp.array(INPUTS[name], dtype) for name in ("now", "old", "reference")}
    advantages_BT = jnp.array(INPUTS["advantages"], dtype)[:, None] * jnp.ones((1, 8), dtype)
    figures = TokenFigures(advantages=advantages_BT, mask=jnp.array(mask, dtype), **given)
    return figures, members_of(jnp.array(mask, jnp.int32), 1)


def total(figures: TokenFigures, members: jax.Array, section: GrpoSection) -> jax.Array:
    weights = answer_weights(section.loss_type, INPUTS["lengths"], INPUTS["max_completion_length"])
    losses = token_losses(figures, members, section).losses
    return jnp.sum(losses * jnp.array(weights)[:, None] * figures.mask) / jnp.sum(figures.mask)


def section_of(case: dict) -> GrpoSection:
    names = ("loss_type", "importance_sampling_level", "beta", "use_bias_correction_kl")
    return GrpoSection(
        kind="grpo",
        rewards={"label": 1.0},
        epsilon=INPUTS["epsilon"],
        epsilon_high=INPUTS["epsilon_high"],
        **{name: case[name] for name in names},
    )


@pytest.mark.parametrize("case", GOLDENS["grpo"], ids=lambda c: f"{c['loss_type']}-{c['importance_sampling_level']}")
def test_losses_and_gradients_are_those_of_trl(case: dict) -> None:
    figures, members = figures_of_goldens()
    section = section_of(case)
    loss, gradient = jax.value_and_grad(lambda now: total(figures._replace(now=now), members, section))(figures.now)
    np.testing.assert_allclose(loss, case["loss"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, case["gradient"], rtol=1e-4, atol=1e-7)
    if case["beta"]:
        found = token_losses(figures, members, section)
        np.testing.assert_allclose(
            jnp.sum(found.divergences * figures.mask) / jnp.sum(figures.mask), case["kl"], rtol=1e-5
        )


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_gradients_are_slopes(level: str) -> None:
    with jax.enable_x64(True):
        figures, members = figures_of_goldens(jnp.float64)
        case = {"loss_type": "dapo", "importance_sampling_level": level, "beta": 0.04, "use_bias_correction_kl": True}
        section = section_of(case)
        check_grads(
            lambda now: total(figures._replace(now=now), members, section), (figures.now,), order=1, modes=("rev",)
        )


def test_advantages_are_those_of_trl() -> None:
    rewards = np.array([1.0, 0.0, 0.5, 2.0, 2.0, 2.0, np.nan, 1.0, np.nan, np.nan, np.nan, np.nan])
    found = advantages(rewards, 4, "group").reshape(3, 4)
    first = rewards[:4]
    np.testing.assert_allclose(found[0], (first - first.mean()) / (first.std(ddof=1) + 1e-4))
    assert found[1, 2] == 0
    assert found[2].tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(advantages(first, 4, "none"), first - first.mean())
    eight = np.array([1.0, 0.0, 0.5, 2.0, 3.0, 0.0, 0.0, 1.0])
    gains = eight.reshape(2, 4) - eight.reshape(2, 4).mean(1, keepdims=True)
    np.testing.assert_allclose(advantages(eight, 4, "batch"), gains.ravel() / (eight.std(ddof=1) + 1e-4))


def test_deviations_are_those_of_trl() -> None:
    rewards = np.array([1.1] * 6 + [1.1, 0.0, np.nan, 0.5, 1.1, 0.1] + [np.nan] * 5 + [2.0])
    found = deviations(rewards, 6, "group")
    assert found[0] != 0  # the mean of six times 1.1 is another number, and what a group differs by is rounding
    assert np.isclose(found, 0).tolist() == [True, False, True]
    assert found[1] == pytest.approx(np.std([1.1, 0.0, 0.5, 1.1, 0.1], ddof=1))
    assert deviations(rewards, 6, "none").tolist() == found.tolist()
    everything = np.nanstd(rewards, ddof=1)
    assert deviations(rewards, 6, "batch").tolist() == [everything] * 3


@pytest.fixture(scope="module")
def grpo_config(tiny_config):
    def make(run_dir: Path, objective: dict | None = None, **changes):
        sections = {
            "data": {"datasets": ["dreaddit"], "max_rows": 6},
            "objective": {"kind": "grpo", "num_generations": 2, "rewards": {f"{__name__}:variety": 1.0, "label": 1.0}}
            | (objective or {}),
            "training": {"epochs": None, "steps": 5, "batch_size": 4, "micro_batch_rows": 2},
            "evaluation": {
                "every_steps": 4,
                "max_rows": 3,
                "generate_rows": 3,
                "max_new_tokens": 12,
                "metric": "reward",
            },
            "checkpoint": {"every_steps": 2},
        }
        merged = {name: sections.get(name, {}) | changes.get(name, {}) for name in {*sections, *changes}}
        return tiny_config(run_dir, **merged)

    return make


def variety(records, texts):
    """A reward that random answers differ in."""
    return [sum(map(ord, text)) % 101 / 100 for text in texts]


class StoppedError(Exception):
    pass


def run(config, seen: list, stop_after: int | None = None) -> None:
    """Tune, and note every sampled answer; fall over after an update as a killed process does."""
    write, sample = MetricsLog.write, EngineSampler.__call__

    def noted(self, *args, **kwargs):
        found = sample(self, *args, **kwargs)
        seen.append([answer.tokens for answer in found])
        return found

    def write_and_stop(self, kind, step, figures):
        write(self, kind, step, figures)
        if kind == "train" and step == stop_after:
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_sampling.EngineSampler, "__call__", noted)
        patch.setattr(MetricsLog, "write", write_and_stop)
        if stop_after is None:
            tune(config)
        else:
            with pytest.raises(StoppedError):
                tune(config)


def figures(folder: Path) -> list[dict]:
    return [
        {name: value for name, value in row.items() if name not in CLOCK}
        for row in read_metrics(folder / "metrics.jsonl")
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    ("objective", "killed"),
    [
        pytest.param({}, 3, marks=pytest.mark.slow),
        ({"num_iterations": 2, "beta": 0.04, "loss_type": "grpo"}, 4),
    ],
)
def test_a_killed_run_samples_and_learns_the_same_bit_for_bit(grpo_config, tmp_path, objective, killed) -> None:
    """The second run is killed between two updates from the same answers, whose weights are gone."""
    repeats = objective.get("num_iterations", 1)
    checkpoint = {"every_steps": 3 if repeats > 1 else 2}
    whole, cut, again = [], [], []
    run(grpo_config(tmp_path / "whole", objective, checkpoint=checkpoint), whole)
    run(grpo_config(tmp_path / "cut", objective, checkpoint=checkpoint), cut, killed)
    run(grpo_config(tmp_path / "cut", objective, checkpoint=checkpoint), again)
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")
    assert len({json.dumps(batch) for batch in whole}) > 3
    assert all(batch in whole for batch in (*cut, *again))
    assert again[-1] == whole[-1]
    rows = figures(tmp_path / "whole")
    train, held_out = ([row for row in rows if row["kind"] == kind] for kind in ("train", "validation"))
    assert {"reward", "rewards/label", "completions/unparsed", "clip_ratio"} <= set(train[0])
    assert {"reward", "label_f1", "unparsed", "answer_tokens", "kl"} <= set(held_out[0])
    assert held_out[0]["step"] == 0
    assert held_out[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert held_out[-1]["kl"] > 0
    assert train[0]["ratio"] == pytest.approx(1, abs=1e-5)
    if repeats > 1:
        assert train[1]["ratio"] != 1
        assert train[0]["kl"] == pytest.approx(0, abs=1e-6)


@pytest.mark.long
def test_a_run_goes_on_between_updates_from_the_same_answers_with_other_micro_batches(grpo_config, tmp_path) -> None:
    """The batch of the checkpoint was cut into micro-batches of 4 rows; it is cut anew into larger and smaller ones."""

    def config_of(name: str, micro_batch_rows: int):
        return grpo_config(
            tmp_path / name,
            {"num_iterations": 2, "beta": 0.04},
            data={"max_rows": 12, "validation": []},
            training={"steps": 4, "batch_size": 14, "micro_batch_rows": micro_batch_rows},
            evaluation={"max_new_tokens": 12, "generate_rows": 0, "max_rows": None, "metric": "validation_loss"},
            checkpoint={"every_steps": 3},
        )

    run(config_of("killed", 4), [], 4)
    found = {}
    for rows in (4, 2, 1, 8):
        shutil.copytree(tmp_path / "killed", tmp_path / str(rows))
        run(config_of(str(rows), rows), sampled := [])
        assert sampled == []
        found[rows] = [row for row in figures(tmp_path / str(rows)) if row["kind"] == "train"][-1]
        assert found[rows]["step"] == 4
    names = ("loss", "grad_norm", "target_tokens", "ratio", "kl", "clip_ratio", "reward")
    for rows in (2, 1, 8):
        for name in names:
            assert found[rows][name] == pytest.approx(found[4][name], rel=1e-4, abs=1e-6), (rows, name)


@pytest.mark.long
def test_the_learner_and_the_engine_agree_on_the_log_probabilities_of_answers(grpo_config, tmp_path) -> None:
    config = grpo_config(tmp_path / "run")
    base = base_model(config)
    objective = objective_of(base.config, config)
    params = init_params(objective.model, jax.random.key(0), jnp.float32)
    engine = Engine(base.config, "float32")
    engine.update(params)
    prompts = [tuple(range(5, 25)), tuple(range(40, 50))]
    settings = Settings(9, Sampling(1.0), 0, 4)
    found = {}
    for batch in engine.answers(prompts, ["a", "b"], settings, (2,)):
        found |= batch
    answers = [SampledAnswer(prompt, found[n].tokens, found[n].ended, "") for n, prompt in enumerate(prompts)]
    arrays = SAMPLED_ANSWERS.empty(2, config.data.max_length)
    places = fill_answers(arrays, [[0, 1]], answers)
    arrays[MICRO_BATCHES] = np.array(1, np.int32)
    compute = AnswerLogProbabilities(objective, make_mesh(MeshSection()))
    ours = compute(params, arrays)
    for place, row, begun, end in places:
        np.testing.assert_allclose(ours[row, begun - 1 : end - 1], found[place].log_probabilities, atol=1e-4)
    # The weights that sampled give the ratio 1, whatever the answers share rows with.
    arrays |= {"old_log_probabilities": ours, "token_weights": np.ones_like(ours), "advantages": np.ones_like(ours)}
    config = grpo_config(tmp_path / "run", {"num_iterations": 2})
    placed = place_batch(arrays, 2, make_mesh(MeshSection()), SAMPLED_ANSWERS)
    micro = {name: value[0] for name, value in placed.items() if name != MICRO_BATCHES}
    _, extras = objective_of(base.config, config).loss(params, {}, micro, None, training=True)
    assert extras["ratio"] / arrays["loss_mask"].sum() == pytest.approx(1, abs=1e-5)


def test_truncated_answers_are_left_out_where_that_is_asked(grpo_config, tmp_path) -> None:
    answers = [SampledAnswer((1, 2), (3, 4, 5), True, "a"), SampledAnswer((1, 2), (3, 4), False, "b")]
    for masked in (False, True):
        config = grpo_config(tmp_path / "run", {"mask_truncated_completions": masked})
        arrays = PolicyData([None], config, None, None, None, None)._arrays(answers, np.array([0.5, -0.5]))
        assert int(arrays["loss_mask"].sum()) == (3 if masked else 5)
        row = arrays["advantages"][0]
        assert [value for value in row.tolist() if value] == [0.5] * 3 + [-0.5] * 2


def test_every_prompt_is_asked_once_before_any_is_asked_again(grpo_config, tmp_path) -> None:
    config = grpo_config(tmp_path / "run", training={"epochs": 2, "steps": None})
    data = PolicyData([None] * 5, config, None, None, None, None)
    asked = [place for generation in range(data.steps) for place in data.chosen(generation)]
    assert (sorted(asked[:5]), sorted(asked[5:10])) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    assert asked[:5] != asked[5:10]
    assert (data.steps, data.epoch_ends) == (5, [3, 5])


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("count", [3, 32, 33, 45, 47, 48, 64, 79])
@pytest.mark.parametrize("epochs", [1, 2, 3, 1.1])
def test_an_epoch_asks_every_record_whatever_an_update_asks(grpo_config, tmp_path, repeats, count, epochs) -> None:
    config = grpo_config(
        tmp_path / "run", {"num_iterations": repeats}, training={"epochs": epochs, "steps": None, "batch_size": 64}
    )
    data = PolicyData([None] * count, config, None, None, None, None)
    asked = [place for update in range(0, data.steps, repeats) for place in data.chosen(update // repeats)]
    for epoch in range(int(epochs)):
        assert set(asked[count * epoch : count * (epoch + 1)]) == set(range(count))
    for number, end in enumerate(data.epoch_ends, start=1):  # all were asked then, and learnt from as often
        assert 32 * (end - 1) < count * number * repeats <= 32 * end
    if epochs == int(epochs):
        assert data.epoch_ends[-1] == data.steps
        assert data.steps - 1 < epochs * count * repeats / 32 <= data.steps


@pytest.mark.parametrize(
    ("epochs", "steps"), [(0.01, 1), (0.5, 5), (0.25, 3), (0.24, 2), (1.0, 10), (1.04, 10), (0.7, 7)]
)
def test_a_fraction_of_an_epoch_is_the_nearest_number_of_updates(grpo_config, tmp_path, epochs, steps) -> None:
    config = grpo_config(tmp_path / "run", training={"epochs": epochs, "steps": None})
    assert PolicyData([None] * 20, config, None, None, None, None).steps == steps


def test_a_batch_in_a_checkpoint_is_exact_and_a_damaged_one_is_refused() -> None:
    arrays = SAMPLED_ANSWERS.empty(2, 8)
    arrays["advantages"][0, 3] = np.float32(0.1) / np.float32(3)
    arrays[MICRO_BATCHES] = np.array(1, np.int32)
    kept = json.loads(json.dumps(_packed({"arrays": arrays, "figures": {"reward": 0.1}, "examples": [3]})))
    back = _unpacked(kept)
    for name, values in arrays.items():
        np.testing.assert_array_equal(back["arrays"][name], values)
    assert (back["figures"], back["examples"]) == ({"reward": 0.1}, [3])
    kept["arrays"]["tokens"][2] = "AAAA"
    with pytest.raises(UserError, match="damaged"):
        _unpacked(kept)
