"""Direct preference optimisation: losses, gradients, pairs in rows, the reference on disk, whole runs."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mentallama_jax.config import MeshSection
from mentallama_jax.errors import UserError
from mentallama_jax.formats.hf_folder import save_model
from mentallama_jax.formats.load import load_model_config
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
from mentallama_jax.imhi.data_files.preference_pairs import AnswerPair, pair_texts, read_pairs
from mentallama_jax.imhi.prompts import encode_example, encode_prompt
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import instruction_query, instruction_response
from mentallama_jax.jobs.open_tokenizer import open_tokenizer
from mentallama_jax.jobs.tune import base_model, tune
from mentallama_jax.models.module import init_params
from mentallama_jax.parallel.mesh import make_mesh
from mentallama_jax.training import loop
from mentallama_jax.training import reference_answers as reference
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES
from mentallama_jax.training.data.batches import evaluation_batches
from mentallama_jax.training.data.preferred import preference_store
from mentallama_jax.training.log_probabilities import token_log_probabilities
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.objectives.preference_losses import PAIR_LOSSES, PairFigures
from mentallama_jax.training.run.metrics import MetricsLog, read_metrics

GOLDENS = json.loads((Path(__file__).with_name("trl_goldens.json")).read_text("utf-8"))
POST = "I have not slept since the exam and my chest is tight all day long."


def pairs_of(count: int) -> list[AnswerPair]:
    return [
        AnswerPair(
            f"p{number}",
            f'Consider this post: "{POST} {"More of it. " * number}" Question: Does the poster suffer from stress?',
            "Yes, the poster suffers from stress. Reasoning: the chest is tight.",
            f"No, the poster does not suffer from stress. Reasoning: {'nothing ' * (1 + number % 3)}.",
        )
        for number in range(count)
    ]


def write_pairs(path: Path, count: int) -> str:
    rows = [{"id": p.id, "prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs_of(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return open_tokenizer("sample", rows=1024)


@pytest.fixture(scope="module")
def dpo_config(tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    train, held_out = write_pairs(folder / "train.jsonl", 12), write_pairs(folder / "val.jsonl", 4)

    def make(run_dir: Path, objective: dict | None = None, **changes):
        sections = {
            "data": {"train": [train], "validation": [held_out], "max_rows": None, "max_length": 320},
            "objective": {"kind": "dpo", "beta": 0.5} | (objective or {}),
            "training": {"epochs": None, "steps": 6, "batch_size": 4, "micro_batch_rows": 2},
            "evaluation": {"every_steps": 3, "max_rows": None, "metric": "rewards/accuracies"},
            "checkpoint": {"every_steps": 2},
        }
        merged = {name: sections.get(name, {}) | changes.get(name, {}) for name in {*sections, *changes}}
        return tiny_config(run_dir, **merged)

    return make


PAIR_CASES = [case for case in GOLDENS["dpo"] if case["loss_type"] != "sft"]


@pytest.mark.parametrize("case", PAIR_CASES, ids=lambda case: case["loss_type"])
def test_losses_are_those_of_trl(case: dict) -> None:
    arrays = {name: jnp.array(values, jnp.float32) for name, values in GOLDENS["dpo_inputs"].items()}
    found = PAIR_LOSSES[case["loss_type"]](PairFigures(**arrays), case["beta"], case["label_smoothing"])
    np.testing.assert_allclose(jnp.mean(found), case["loss"], rtol=1e-5)


def test_every_loss_but_the_one_of_tokens_has_a_golden() -> None:
    assert {case["loss_type"] for case in PAIR_CASES} == set(PAIR_LOSSES)
    figures = PairFigures(**{name: np.array(values) for name, values in GOLDENS["dpo_inputs"].items()})
    rewards = PAIR_CASES[0]["metrics"]
    assert 0.1 * np.mean(figures.margin) == pytest.approx(rewards["rewards/margins"], rel=1e-5)
    assert np.mean(figures.margin > 0) == pytest.approx(rewards["rewards/accuracies"])


@pytest.mark.parametrize("name", sorted(PAIR_LOSSES))
def test_gradients_of_the_losses_are_their_slopes(name: str) -> None:
    with jax.enable_x64(True):
        arrays = {key: jnp.array(values, jnp.float64) for key, values in GOLDENS["dpo_inputs"].items()}
        figures = PairFigures(**{**arrays, "reference_chosen": arrays["reference_chosen"] + 0.01})
        loss = PAIR_LOSSES[name]
        check_grads(
            lambda chosen, rejected: loss(figures._replace(chosen=chosen, rejected=rejected), 0.1, 0.1),
            (figures.chosen, figures.rejected),
            order=1,
            modes=("rev",),
        )


@pytest.mark.long
def test_log_probabilities_are_those_of_a_softmax_and_so_is_their_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mentallama_jax.training.log_probabilities.CHUNK_TOKENS", 8)
    keys = jax.random.split(jax.random.key(0), 4)
    hidden, head = jax.random.normal(keys[0], (3, 7, 5)), jax.random.normal(keys[1], (5, 11))
    targets, weights = jax.random.randint(keys[2], (3, 7), 0, 11), jax.random.normal(keys[3], (3, 7))

    def plain(hidden, head):
        return jnp.take_along_axis(jax.nn.log_softmax(hidden @ head), targets[..., None], -1)[..., 0]

    np.testing.assert_allclose(token_log_probabilities(hidden, head, targets), plain(hidden, head), atol=1e-5)
    ours = jax.grad(lambda h, w: jnp.sum(weights * token_log_probabilities(h, w, targets)), (0, 1))(hidden, head)
    theirs = jax.grad(lambda h, w: jnp.sum(weights * plain(h, w)), (0, 1))(hidden, head)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)


@pytest.mark.parametrize("style", ["plain", "chatml", "llama2-chat"])
def test_a_pair_is_tokenised_as_the_record_that_it_was_made_of(tokenizer, style) -> None:
    record = Record("r", "dreaddit", POST, "yes", "the chest is tight.", split="train")
    if style == "chatml" and not tokenizer.chat_template:
        pytest.skip("the sample's tokenizer has no marks of ChatML")
    pair = AnswerPair("r", instruction_query(record), instruction_response(record), "No.")
    store, left_out = preference_store([pair], style, tokenizer, 400)
    encoded = encode_example(record, style, tokenizer, 400)
    assert store.tokens[: store.middles[0]].tolist() == encoded.tokens
    assert not left_out
    assert store.targets[: store.middles[0]].tolist() == [
        any(start <= place < stop for start, stop in encoded.targets) for place in range(len(encoded.tokens))
    ]
    assert store.tokens[store.middles[0] :].tolist()[: len(encode_prompt(record, style, tokenizer, 400).tokens)] == (
        encode_prompt(record, style, tokenizer, 400).tokens
    )


def test_a_long_post_loses_its_end_and_another_long_prompt_is_left_out(tokenizer) -> None:
    post = "word " * 400
    long = AnswerPair("a", f'Consider this post: "{post}" Question: Is it?', "Yes.", "No.")
    store, left_out = preference_store([long, AnswerPair("b", post, "Yes.", "No.")], "plain", tokenizer, 128)
    assert (store.ids, left_out, store.truncated_examples) == (("a",), 1, 1)
    assert store.lengths[0] <= 128
    text = tokenizer.decode(store.tokens[: store.middles[0]].tolist())
    assert text.endswith('" Question: Is it? Yes.')


FORMS = [
    {"prompt": "q", "chosen": "a", "rejected": "b"},
    {
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": "a"}],
        "rejected": [{"role": "assistant", "content": "b"}],
    },
    {
        "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
    },
]


@pytest.mark.parametrize("row", FORMS)
def test_pairs_are_read_in_the_forms_of_trl(row: dict) -> None:
    assert pair_texts(row) == ("q", "a", "b")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "the same"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "rejected is empty"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "not one message of a user"),
        ({"chosen": [{"role": "user", "content": "q"}], "rejected": []}, "not one message of a user"),
        (
            {"chosen": [{"role": "user", "content": "q"}] * 2, "rejected": [{"role": "user", "content": "x"}] * 2},
            "differ before",
        ),
        ({"prompt": "q", "chosen": [{"role": "user", "content": "a"}], "rejected": "b"}, "not one message of an assis"),
    ],
)
def test_what_is_no_pair_is_named_without_its_text(row: dict, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        pair_texts(row)


def test_rows_that_are_no_pairs_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(FORMS[0]) + "\n" + json.dumps({**FORMS[0], "rejected": ""}) + "\n", "utf-8")
    pairs, problems = read_pairs([str(path)])
    assert [pair.id for pair in pairs] == [f"{path}:1"]
    assert [problem.row for problem in problems] == [2]
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n', "utf-8")
    with pytest.raises(UserError, match="pairs have the columns prompt, chosen, rejected"):
        read_pairs([str(tmp_path / "other.jsonl")])


@pytest.mark.long
def test_packed_pairs_have_the_sums_of_pairs_alone(dpo_config, tmp_path, tokenizer) -> None:
    config = dpo_config(tmp_path / "run")
    base = base_model(config)
    objective = objective_of(base.config, config)
    store, _ = preference_store(pairs_of(5), "plain", tokenizer, 320)
    params = reference_params(objective)
    compute = reference._Computing(objective, one_device())
    together = compute(params, store)
    alone = np.concatenate([compute(params, reference._part(store, slice(n, n + 1))) for n in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-4)
    batches = evaluation_batches(store, 2, 320)
    assert any(int(batch.arrays["segment_ids"].max()) > 2 for batch in batches)
    # The loss `sft` is the mean over the tokens of all chosen answers together, as in TRL.
    of_tokens = dpo_config(
        tmp_path / "run", {"loss_type": "sft", "beta": 0.1}, evaluation={"metric": "validation_loss"}
    )
    sft = objective_of(base.config, of_tokens)
    found = [
        (sft.loss(params, {}, arrays, None, training=True)[0], sft.weight(arrays))
        for batch in batches
        for arrays in [{name: values for name, values in batch.arrays.items() if name != MICRO_BATCHES}]
    ]
    tokens = sum(int(store.targets[a : a + m].sum()) for a, m in zip(store.offsets, store.middles, strict=False))
    assert sum(float(weight) for _, weight in found) == tokens
    np.testing.assert_allclose(sum(float(loss) for loss, _ in found), -together[:, 0].sum(), rtol=1e-5)


def test_a_normalised_loss_is_that_of_means(dpo_config, tmp_path, tokenizer) -> None:
    config = dpo_config(tmp_path / "run")
    base = base_model(config)
    store, _ = preference_store(pairs_of(3), "plain", tokenizer, 320)
    params = reference_params(objective_of(base.config, config))
    (arrays, *_) = (batch.arrays for batch in evaluation_batches(store, 2, 320))
    arrays.pop(MICRO_BATCHES)
    found = []
    for keys in ({"length_normalised": True}, {"loss_type": "sigmoid_norm"}, {}):
        objective = objective_of(base.config, dpo_config(tmp_path / "run", keys))
        found.append(float(objective.loss(params, {}, arrays, None, training=True)[0]))
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[0] != pytest.approx(found[2], rel=1e-2)


def test_the_loss_of_tokens_reads_no_reference(dpo_config, tmp_path, monkeypatch) -> None:
    class ReadError(Exception):
        pass

    def read(*_args):
        raise ReadError

    def stops(*_args):
        raise StoppedError

    monkeypatch.setattr(loop, "examples_with_reference", read)
    monkeypatch.setattr(loop, "plan_updates", stops)
    evaluation = {"metric": "validation_loss"}
    with pytest.raises(StoppedError):
        tune(dpo_config(tmp_path / "run", {"loss_type": "sft", "beta": 0.1}, evaluation=evaluation))
    with pytest.raises(ReadError):
        tune(dpo_config(tmp_path / "run", evaluation=evaluation))


def test_the_loss_of_tokens_is_that_of_trl() -> None:
    (case,) = (case for case in GOLDENS["dpo"] if case["loss_type"] == "sft")
    inputs = GOLDENS["dpo_inputs"]
    assert -sum(inputs["chosen"]) / sum(inputs["chosen_tokens"]) == pytest.approx(case["loss"], rel=1e-6)


def reference_params(objective):
    return init_params(objective.model, jax.random.key(0), jnp.float32)


def one_device():
    return make_mesh(MeshSection())


@pytest.mark.long
def test_a_run_raises_the_margin_and_resumes_bit_for_bit(dpo_config, tmp_path, monkeypatch) -> None:
    whole = dpo_config(tmp_path / "whole")
    assert tune(whole).best is not None
    rows = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    train = [row for row in rows if row["kind"] == "train"]
    assert train[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert train[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert train[-1]["rewards/margins"] > 0.1
    assert [row["rewards/accuracies"] for row in rows if row["kind"] == "validation"][-1] == 1.0

    def computed_again(*_args):
        raise AssertionError("the reference is on disk")

    monkeypatch.setattr(reference._Computing, "__call__", computed_again)
    cut = dpo_config(tmp_path / "cut")
    stopped_after(cut, 3)
    tune(cut)
    again = [row for row in read_metrics(tmp_path / "cut" / "metrics.jsonl") if row["kind"] == "train"]
    clock = ("tokens_per_second",)
    assert [{k: v for k, v in row.items() if k not in clock} for row in again] == [
        {k: v for k, v in row.items() if k not in clock} for row in train
    ]


class StoppedError(Exception):
    pass


def stopped_after(config, updates: int) -> None:
    """Run until an update was logged, and fall over as a killed process does: nothing more is saved."""
    write = MetricsLog.write

    def write_and_stop(self, kind, step, figures):
        write(self, kind, step, figures)
        if kind == "train" and step == updates:
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MetricsLog, "write", write_and_stop)
        with pytest.raises(StoppedError):
            tune(config)


@pytest.mark.long
def test_a_run_whose_start_holds_other_weights_now_does_not_go_on(
    dpo_config, tiny_model, tmp_path, monkeypatch
) -> None:
    """It is refused before the reference is computed anew; one that compares with nothing goes on."""
    shape = load_model_config(tiny_model)

    def config_of(loss_type: str):
        return dpo_config(
            tmp_path / loss_type,
            {"loss_type": loss_type, "beta": 0.1},
            model={"source": str(tmp_path / "base"), "weights": "pretrained"},
            data={"validation": []},
            training={"steps": 3},
            evaluation={"metric": "validation_loss"},
            checkpoint={"every_steps": 1},
        )

    save_model(tmp_path / "base", shape, init_params(shape, jax.random.key(1)), {})
    for loss_type in ("sigmoid", "sft"):
        stopped_after(config_of(loss_type), 2)
    shutil.move(tmp_path / "base", tmp_path / "kept")
    save_model(tmp_path / "base", shape, init_params(shape, jax.random.key(2)), {})
    with monkeypatch.context() as patch:
        patch.setattr(reference._Computing, "__call__", None)
        with pytest.raises(
            UserError, match=r"compares answers with the weights that it started from, which are others"
        ):
            tune(config_of("sigmoid"))
    assert tune(config_of("sft")).steps == 3
    shutil.rmtree(tmp_path / "base")
    shutil.move(tmp_path / "kept", tmp_path / "base")
    assert tune(config_of("sigmoid")).steps == 3


def test_a_reference_belongs_to_its_weights_dtypes_and_tokens(dpo_config, tmp_path, tokenizer) -> None:
    store, _ = preference_store(pairs_of(3), "plain", tokenizer, 320)
    configs = [
        dpo_config(tmp_path, model=model)
        for model in ({}, {"compute_dtype": "bfloat16"}, {"parameter_dtype": "bfloat16"})
    ]
    cases = [(slice(0, 2), config, "model") for config in configs]
    cases += [(slice(0, 2), configs[0], "another model"), (slice(1, 3), configs[0], "model")]
    keys = [reference._key(store, *case) for case in cases]
    assert len(set(keys)) == len(cases)
    assert reference._key(store, *cases[0]) == keys[0]


def test_a_damaged_reference_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "x.reference.json"
    reference._write(path, np.array([[-1.5, -2.25]], np.float32))
    assert reference._read(path, 1).tolist() == [[-1.5, -2.25]]
    path.write_text(path.read_text().replace("-1.5", "-1.6"))
    assert reference._read(path, 1) is None
    assert reference._read(tmp_path / "absent", 1) is None
