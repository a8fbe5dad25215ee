"""What a run that learns from its own answers makes of them: groups, rows, losses, and what it watches."""

import base64
import json
import zlib
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_policy

from mentallama_jax.config import GrpoSection
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.rewards import open_rewards
from mentallama_jax.generation.engine import Answer, Settings
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.imhi.prompts import encode_prompt, stop_ids
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.open_tokenizer import open_tokenizer
from mentallama_jax.jobs.policy_sampling import EngineSampler
from mentallama_jax.jobs.tune import base_model, tune
from mentallama_jax.models.module import bind, init_params
from mentallama_jax.training.data.advantages import advantages
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, SAMPLED_ANSWERS
from mentallama_jax.training.data.examples import load_examples
from mentallama_jax.training.data.rollouts import PolicyData, SampledAnswer, fill_answers
from mentallama_jax.training.log_probabilities import members_of
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.objectives.policy_losses import TokenFigures, token_losses
from mentallama_jax.training.policy_watch import PolicyTools, PolicyWatch
from mentallama_jax.training.preflight import ANSWERS_AT_ONCE, warn_of_cut_prompts

grpo_config, variety = test_policy.grpo_config, test_policy.variety


class FixedSampler:
    """Gives the same answers whoever asks, and notes the names of the records."""

    def __init__(self, texts) -> None:
        self.texts, self.names = texts, []

    def __call__(self, params, records, names, count, *, temperature):
        self.names += names
        return [
            SampledAnswer((1, 2), (3, 4), True, self.texts[place % len(self.texts)])
            for place in range(len(records) * count)
        ]


def rollout_of(config, texts, records, rewards):
    """The batch of the first generation, and the sampler."""
    sampler = FixedSampler(texts)
    data = PolicyData(records, config, sampler, open_rewards(rewards), None, dict)
    data.weights = dict
    return next(data.iterate(data.state(0))), sampler


def same(records, texts):
    """A reward that is the same for all and no binary fraction."""
    return [1.1] * len(texts)


RECORD = Record("r", "dreaddit", "My chest is tight all day.", "yes", "The chest is tight.", split="train")


def test_groups_that_teach_nothing_are_counted_whatever_rounding_says(grpo_config, tmp_path) -> None:
    config = grpo_config(tmp_path / "run", {"num_generations": 6}, training={"batch_size": 12})
    batch, _ = rollout_of(config, ["a", "b", "c"], [RECORD] * 4, {f"{__name__}:same": 1.0})
    assert batch.figures["frac_reward_zero_std"] == 1
    assert batch.figures["reward_std"] == pytest.approx(0, abs=1e-9)
    assert batch.figures["reward"] == pytest.approx(1.1)
    batch, _ = rollout_of(config, ["a", "b", "c"], [RECORD] * 4, {f"{__name__}:variety": 1.0})
    values = np.array(variety(None, ["a", "b", "c"] * 2))
    assert batch.figures["frac_reward_zero_std"] == 0
    assert batch.figures["reward_std"] == pytest.approx(values.std(ddof=1))  # of a group, not of all answers


def test_a_record_that_an_update_asks_twice_is_answered_anew(grpo_config, tmp_path) -> None:
    config = grpo_config(tmp_path / "run", training={"batch_size": 8})
    _, sampler = rollout_of(config, ["a"], [RECORD] * 3, {"label": 1.0})
    assert len(set(sampler.names)) == 4
    assert {name.partition("/")[2] for name in sampler.names} == {"0", "1", "2"}


def test_prompts_that_leave_no_room_for_answers_are_found_before_the_first_update(grpo_config, tmp_path) -> None:
    """Those of training too, where no record is held out."""
    evaluation = {"max_new_tokens": 180, "generate_rows": 0, "max_rows": None, "metric": "validation_loss"}
    config = grpo_config(tmp_path / "run", data={"validation": []}, evaluation=evaluation)
    line = r"max_new_tokens 180 of data\.max_length 192 tokens leave 12 for the prompt of .* raise data\.max_length$"
    with pytest.raises(UserError, match=line):
        tune(config)


def test_posts_that_are_cut_for_answers_are_counted(grpo_config, tmp_path) -> None:
    tokenizer = open_tokenizer("sample", rows=1024)
    for new_tokens in (1, 110):
        config = grpo_config(tmp_path / "run", data={"max_rows": 60}, evaluation={"max_new_tokens": new_tokens})
        examples = load_examples(config, tokenizer, lambda _: None)
        room = config.data.max_length - new_tokens
        cut = sum(encode_prompt(record, "plain", tokenizer, room).truncated > 0 for record in examples.records)
        said: list[str] = []
        warn_of_cut_prompts(config, examples.train, said.append)
        if new_tokens == 1:
            assert (cut, said) == (0, [])
        else:
            assert 0 < cut < len(examples.records)
            assert said[0].startswith(f"training: {cut} of {len(examples.records)} posts lose their end")


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_learner_divides_logits_by_the_temperature(grpo_config, tmp_path, dtype) -> None:
    config = grpo_config(tmp_path / "run", {"temperature": 0.7}, model={"compute_dtype": dtype})
    objective = objective_of(base_model(config).config, config)
    params = init_params(objective.model, jax.random.key(0), jnp.float32)
    params["embedding"] = params["embedding"] * 50  # logits as far apart as a tuned model's
    arrays = SAMPLED_ANSWERS.empty(2, 96)
    answers = [SampledAnswer((5, 6), tuple(range(first, first + 90)), True, "") for first in (10, 300)]
    fill_answers(arrays, [[0], [1]], answers)
    model = bind(objective.model, params)
    places = (arrays[name] for name in ("tokens", "positions", "segment_ids"))
    hidden = model.hidden(*places, dtype=jnp.dtype(dtype), remat="none", offload=False)
    logits = jnp.einsum("BTD,DV->BTV", hidden, model.head_DV().astype(dtype), preferred_element_type=jnp.float32) / 0.7
    wanted = jnp.take_along_axis(jax.nn.log_softmax(logits)[:, 1:91], arrays["tokens"][:, 2:92, None], 2)[..., 0]
    found = objective.log_probabilities(params, arrays)[:, 1:91]
    # Roundings of bfloat16 are as often up as down. A rounded temperature would make all numbers larger by 0.11 %.
    assert float(jnp.sum(found) / jnp.sum(wanted)) == pytest.approx(1, abs=1e-6 if dtype == "float32" else 2e-4)
    np.testing.assert_allclose(found, wanted, rtol=1e-5 if dtype == "float32" else 0.01)


ADVANTAGES = np.array([0.5, -1.0, 2.0, 0.25])
LENGTHS = np.array([3, 5, 2, 4])


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("dapo", -(ADVANTAGES * LENGTHS).sum() / LENGTHS.sum()),
        ("bnpo", -(ADVANTAGES * LENGTHS).sum() / LENGTHS.sum()),
        ("grpo", -ADVANTAGES.mean()),
        ("dr_grpo", -(ADVANTAGES * LENGTHS).sum() / (4 * 12)),
    ],
)
def test_answers_in_rows_have_the_loss_that_the_formula_gives(grpo_config, tmp_path, loss_type, expected) -> None:
    """With the ratio 1 the loss is the weighted mean of advantages, whatever rows the answers share."""
    config = grpo_config(tmp_path / "run", {"loss_type": loss_type})
    objective = objective_of(base_model(config).config, config)
    answers = [SampledAnswer(tuple(range(5, 9)), tuple(range(20, 20 + n)), True, "") for n in LENGTHS.tolist()]
    arrays = PolicyData([None], config, None, None, None, None)._arrays(answers, ADVANTAGES)
    assert arrays["segment_ids"].max() > 1
    arrays.pop(MICRO_BATCHES)
    params = init_params(objective.model, jax.random.key(0), jnp.float32)
    loss, _ = jax.jit(lambda params, arrays: objective.loss(params, {}, arrays, None, training=True))(params, arrays)
    assert float(loss / objective.weight(arrays)) == pytest.approx(expected, rel=1e-5)


def test_a_batch_has_the_advantages_that_the_config_asks_for(grpo_config, tmp_path) -> None:
    texts = ["a", "b", "c"]
    values = np.array(variety(None, texts * 4))
    for scale in ("group", "batch", "none"):
        config = grpo_config(
            tmp_path / "run", {"num_generations": 6, "scale_rewards": scale}, training={"batch_size": 12}
        )
        batch, _ = rollout_of(config, texts, [RECORD] * 4, {f"{__name__}:variety": 2.0})
        found = batch.arrays["advantages"]
        expected = np.repeat(advantages(2 * values, 6, scale), 2).astype(np.float32)
        assert sorted(found[found != 0].tolist()) == pytest.approx(sorted(expected.tolist()), rel=1e-6)


def test_old_and_reference_log_probabilities_are_of_their_own_weights(grpo_config, tmp_path) -> None:
    config = grpo_config(tmp_path / "run", {"num_iterations": 2, "beta": 0.1})

    def computes(params, arrays):
        return np.full(arrays["tokens"].shape, params["w"], np.float32)

    sampler, rewards = FixedSampler(["a", "b"]), open_rewards({"label": 1.0})
    data = PolicyData([RECORD] * 2, config, sampler, rewards, computes, lambda: {"w": -1.5})
    data.weights = lambda: {"w": -1.0}
    batches = data.iterate(data.state(0))
    first, second = next(batches), next(batches)
    assert set(np.unique(first.arrays["old_log_probabilities"])) == {-1.0}
    assert set(np.unique(first.arrays["reference_log_probabilities"])) == {-1.5}
    assert second.arrays is first.arrays or all(
        (second.arrays[name] == first.arrays[name]).all() for name in first.arrays
    )
    assert len(sampler.names) == 2  # both updates learn from the same answers


def between_updates(config, count=7):
    """What `count` records with an answer each leave in a checkpoint between two updates, and the second batch."""

    def computes(params, arrays):
        return np.where(arrays["loss_mask"] > 0, -np.arange(1.0, arrays["tokens"].shape[1] + 1), 0).astype(np.float32)

    data = PolicyData([RECORD] * count, config, FixedSampler("abcde"), open_rewards({"label": 1.0}), computes, dict)
    data.weights = dict
    batches = data.iterate(data.state(0))
    next(batches)
    return json.loads(json.dumps(data.state(1))), next(batches)


@pytest.mark.parametrize("rows", [4, 2, 1, 8, 3])
def test_a_batch_of_a_checkpoint_is_cut_into_the_micro_batches_of_now(grpo_config, tmp_path, rows) -> None:
    def config_of(rows):
        changes = {"batch_size": 14, "micro_batch_rows": rows}
        return grpo_config(
            tmp_path / "run",
            {"num_iterations": 2},
            data={"max_length": 13},  # three answers of four tokens a row, so five rows
            training=changes,
            evaluation={"max_new_tokens": 4},
        )

    state, wanted = between_updates(config_of(4))
    data = PolicyData([RECORD] * 7, config_of(rows), None, open_rewards({"label": 1.0}), None, dict)
    batch = next(data.iterate(state))
    assert int(batch.arrays[MICRO_BATCHES]) == -(-5 // rows)
    for name in SAMPLED_ANSWERS.names:
        found = batch.arrays[name]
        assert (len(found), found.flags.writeable) == (-(-14 // rows) * rows, True)
        np.testing.assert_array_equal(found[:5], wanted.arrays[name][:5])
        assert not found[5:].any()
    assert (batch.real_tokens, batch.target_tokens) == (wanted.real_tokens, wanted.target_tokens)
    assert batch.pad_share == pytest.approx(1 - 56 / (-(-5 // rows) * rows * 13))


@pytest.mark.parametrize("spoil", ["rows", "length", "dimensions"])
def test_a_batch_of_a_checkpoint_that_no_update_fills_is_refused(grpo_config, tmp_path, spoil) -> None:
    config = grpo_config(tmp_path / "run", {"num_iterations": 2}, training={"batch_size": 8})
    state, _ = between_updates(config, 4)
    for name, (dtype, shape, _) in state["batch"]["arrays"].items():
        if name != MICRO_BATCHES:
            rows, length = shape
            shape = {"rows": (rows + 1, length), "length": (rows, 1), "dimensions": (rows * length,)}[spoil]
            packed = base64.b64encode(zlib.compress(np.ones(shape, dtype).tobytes())).decode()
            state["batch"]["arrays"][name] = [dtype, list(shape), packed]
    data = PolicyData([RECORD] * 4, config, None, open_rewards({"label": 1.0}), None, dict)
    with pytest.raises(UserError, match="the checkpoint's sampled answers are damaged"):
        next(data.iterate(state))


@pytest.mark.parametrize(("high", "expected"), [(None, -1.2), (0.5, -1.4)])
def test_the_upper_bound_is_the_lower_one_where_it_is_null(high, expected) -> None:
    one = jnp.ones((1, 1))
    figures = TokenFigures(jnp.log(1.4) * one, 0 * one, 0 * one, one, one)
    section = GrpoSection(kind="grpo", rewards={"label": 1.0}, epsilon_high=high)
    found = token_losses(figures, members_of(jnp.ones((1, 1), jnp.int32), 1), section)
    assert float(found.losses[0, 0]) == pytest.approx(expected, rel=1e-6)
    assert float(found.clipped[0, 0]) == (high is None)


def test_what_is_watched_comes_of_greedy_answers_and_rewards_of_sampled_ones(grpo_config, tmp_path) -> None:
    config = grpo_config(tmp_path / "run", {"rewards": {"label": 1.0}, "temperature": 0.7})
    texts = {0.7: "No, the poster does not suffer from stress.", 0: "Yes, the poster suffers from stress."}
    asked = []

    def sampler(params, records, names, count, *, temperature):
        asked.append((params["w"], names, count, temperature))
        long = (3, 4, 5) if temperature else (3, 4)
        return [SampledAnswer((1, 2), long, True, texts[temperature])] * len(records)

    def log_probabilities(params, arrays):
        assert int(arrays["loss_mask"].sum()) == 6  # of the sampled answers
        return np.full(arrays["tokens"].shape, params["w"], np.float32)

    records = [RECORD, replace(RECORD, id="s")]
    tools = PolicyTools(sampler, open_rewards({"label": 1.0}))
    never = SimpleNamespace(agreed=lambda: False)
    watch = PolicyWatch(config, tools, records, log_probabilities, lambda: {"w": -1.5}, never)
    state = {"params": {"w": -1.0}, "frozen": {}}
    found = {one.name: one.measure(state, 3) for one in watch.evaluators}
    assert found["reward"] == found["rewards/label"] == 0
    assert (found["label_f1"], found["unparsed"], found["answer_tokens"]) == (1, 0, 2)
    assert found["kl"] == pytest.approx(np.exp(-0.5) + 0.5 - 1)  # exp(start - now) - (start - now) - 1
    names = ["held-out/r", "held-out/s"]
    assert asked == [(-1.0, names, 1, 0.7), (-1.0, names, 1, 0)]  # measured once for all figures


class NotingEngine:
    """Notes how it is asked, and answers the last prompt first."""

    def __init__(self) -> None:
        self.asked: dict = {}

    def update(self, params) -> None: ...

    def release(self) -> None: ...

    def samples(self, prompts, names, settings, ends, *, count):
        self.asked = {"prompts": prompts, "names": names, "settings": settings, "ends": ends}
        for place in reversed(range(len(prompts))):
            yield {
                (place, sample): Answer((20 + place, 40 + sample), (0.0, 0.0), not sample) for sample in range(count)
            }


def test_answers_are_sampled_as_the_config_says(grpo_config, tmp_path) -> None:
    config = grpo_config(tmp_path / "run", training={"seed": 7})
    tokenizer = open_tokenizer("sample", rows=1024)
    sampler = EngineSampler(config, base_model(config).config, tokenizer)
    sampler._engine = engine = NotingEngine()
    long = replace(RECORD, post="I cannot sleep before exams. " * 40)
    found = sampler({}, [RECORD, long], ["a", "b"], 2, temperature=0.7)
    prompts = [tuple(encode_prompt(record, "plain", tokenizer, 192 - 12).tokens) for record in (RECORD, long)]
    assert 170 < len(prompts[1]) <= 180  # cut, so that the longest answer fits behind it
    assert engine.asked == {
        "prompts": prompts,
        "names": ["a", "b"],
        "settings": Settings(12, Sampling(0.7), 7, ANSWERS_AT_ONCE),
        "ends": stop_ids("plain", tokenizer),
    }
    assert [(one.prompt, one.tokens, one.ended) for one in found] == [
        (prompts[place], (20 + place, 40 + sample), not sample) for place in (0, 1) for sample in (0, 1)
    ]
    assert [one.text for one in found[:2]] == [tokenizer.decode(ids).strip() for ids in ([20], [20, 41])]
