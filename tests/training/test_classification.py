"""The objective of classifiers: beside torch and transformers, on meshes, and the batches that it reads."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from child_processes import cpu_environment

from mentallama_jax.config import ClassificationSection, RunConfig, parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.formats.load import load_model
from mentallama_jax.imhi.learnt_classes import learnt_classes
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import bind, init_params
from mentallama_jax.training.data.batch_spec import CLASSIFIED_TEXTS, MICRO_BATCHES
from mentallama_jax.training.data.batches import evaluation_batches
from mentallama_jax.training.data.classified import class_store
from mentallama_jax.training.data.tokens import TokenStore
from mentallama_jax.training.objectives.classification import CONFUSION, Classification, class_weights
from mentallama_jax.training.run.run_directory import data_fingerprint
from mentallama_jax.training.step import init_state, make_eval_step, make_train_step
from mentallama_jax.training.validation import mean_weighted_f1

ROOT = Path(__file__).resolve().parents[2]
SHAPE = BertConfig(
    vocab_size=60,
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=4,
    max_positions=32,
    position_offset=0,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    activation="gelu",
    pooler=True,
    num_labels=3,
    dropout=0.0,
    classifier_dropout=0.0,
)
WEIGHTS = (0.5, 2.0, 1.25)


def run_config(**optimizer: object) -> RunConfig:
    values = {
        "model": {"source": "x", "compute_dtype": "float32", "remat": "none"},
        "data": {"train": ["sample"], "datasets": ["DR"], "max_length": 32},
        "objective": {"kind": "classification"},
        "optimizer": {"learning_rate": 1e-3, "warmup_fraction": 0.2, "schedule": "linear", **optimizer},
        "training": {"run_dir": "-", "steps": 8, "batch_size": 4, "micro_batch_rows": 2},
    }
    return parse_config(values, "test")


def texts(seed: int, count: int = 8) -> tuple[list[list[int]], list[int]]:
    """Texts as tokens, and their classes."""
    source = np.random.default_rng(seed)
    lengths = source.integers(3, 15, count)
    return [[2, *source.integers(5, 60, n), 3] for n in lengths], source.integers(0, 3, count).tolist()


def store_of(tokens: list[list[int]], labels: list[int]) -> TokenStore:
    offsets = np.cumsum([0, *map(len, tokens)]).astype(np.int64)
    flat = np.array([token for text in tokens for token in text], np.int32)
    targets = np.zeros(len(flat), np.bool_)
    targets[offsets[:-1]] = True
    ids = tuple(map(str, range(len(tokens))))
    return TokenStore("", ids, flat, offsets, targets, np.zeros(len(tokens), np.int32), np.array(labels, np.int32))


def packed(tokens: list[list[int]], labels: list[int], rows: int = 2) -> dict[str, jax.Array]:
    """The texts as micro-batches of packed rows, as the step takes them."""
    batches = evaluation_batches(store_of(tokens, labels), rows, 32)
    arrays = {name: jnp.stack([batch.arrays[name] for batch in batches]) for name in CLASSIFIED_TEXTS.names}
    return {**arrays, MICRO_BATCHES: jnp.int32(len(batches))}


def test_a_label_stands_at_the_first_token_of_its_text_alone() -> None:
    tokens, labels = texts(0)
    (batch,) = evaluation_batches(store_of(tokens, labels), 8, 32)
    found = batch.arrays["labels"]
    begins = (batch.arrays["positions"] == 0) & (batch.arrays["segment_ids"] > 0)
    assert (found[~begins] == -1).all()
    assert found[begins].tolist() == [labels[place] for place in batch.examples]
    assert batch.target_tokens == len(tokens)
    assert set(batch.arrays) == {*CLASSIFIED_TEXTS.names, MICRO_BATCHES}


def test_classes_are_a_part_of_the_fingerprint_of_the_data() -> None:
    tokens, labels = texts(0)
    same, other = store_of(tokens, labels), store_of(tokens, [2 - label for label in labels])
    assert data_fingerprint(same) == data_fingerprint(store_of(tokens, list(labels))) != data_fingerprint(other)


def test_class_weights_are_those_of_scikit_learn() -> None:
    balanced = ClassificationSection(kind="classification", class_weights="balanced")
    plain = ClassificationSection(kind="classification")
    counts = np.array([10, 0, 30])
    assert class_weights(balanced, counts) == (40 / (2 * 10), 1.0, 40 / (2 * 30))
    assert class_weights(plain, counts) == (1.0, 1.0, 1.0)
    several = np.array([10, 30, 5, 5])  # each data set by itself
    assert class_weights(balanced, several, (0, 0, 1, 1)) == (40 / (2 * 10), 40 / (2 * 30), 1.0, 1.0)


@pytest.mark.long
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), WEIGHTS], ids=["equal weights", "class weights"])
def test_the_loss_is_the_cross_entropy_of_torch_on_the_same_logits(weights: tuple[float, ...]) -> None:
    torch = pytest.importorskip("torch", reason="the extra parity is not installed")
    tokens, labels = texts(1)
    objective = Classification(SHAPE, run_config(), weights)
    params = jax.tree.map(lambda x: 5 * x, init_params(SHAPE, jax.random.key(0)))
    batch = packed(tokens, labels, rows=8)
    micro = {name: value[0] for name, value in batch.items() if name != MICRO_BATCHES}
    total, extras = objective.loss(params, {}, micro, None, training=False)
    model = bind(SHAPE, params)
    hidden, _ = model.hidden(micro["tokens"], micro["positions"], micro["segment_ids"], dtype=jnp.float32)
    begins = np.asarray(micro["labels"]) >= 0
    logits, truth = np.asarray(model.class_logits(hidden))[begins], np.asarray(micro["labels"])[begins]
    wanted = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(truth, dtype=torch.long), torch.tensor(weights)
    )
    assert float(total / objective.weight(micro)) == pytest.approx(float(wanted), rel=1e-6)
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (truth, logits.argmax(-1)), 1)
    np.testing.assert_array_equal(extras[CONFUSION], confusion)
    accuracy = objective.loss(params, {}, micro, None, training=True)[1]["accuracy"] / objective.weight(micro)
    right = np.array(weights)[truth] * (logits.argmax(-1) == truth)
    assert float(accuracy) == pytest.approx(right.sum() / np.array(weights)[truth].sum(), rel=1e-6)


@pytest.mark.long
def test_updates_are_those_of_a_plain_loop_of_torch_and_transformers(tmp_path: Path) -> None:
    """Five updates of packed texts in micro-batches, beside padded ones at once: losses, gradients' norms, weights."""
    torch = pytest.importorskip("torch", reason="the extra parity is not installed")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    names = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    theirs = transformers.BertForSequenceClassification(
        transformers.BertConfig(
            **names,
            vocab_size=60,
            max_position_embeddings=32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=3,
        )
    )
    theirs.save_pretrained(tmp_path)
    shape, params = load_model(tmp_path)
    assert shape == SHAPE
    config = run_config(weight_decay=0.1, clip_norm=0.7)
    objective = Classification(shape, config, WEIGHTS)
    step, state = make_train_step(objective, config, 8), init_state(objective, config, 8, params)

    plain = [p for name, p in theirs.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    others = [p for name, p in theirs.named_parameters() if not (name.endswith("bias") or "LayerNorm" in name)]
    groups = [{"params": others, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, eps=1e-8)
    for number in range(5):
        tokens, labels = texts(number)
        width = max(map(len, tokens))
        mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in tokens])
        padded = torch.tensor([text + [0] * (width - len(text)) for text in tokens])
        logits = theirs(input_ids=padded, attention_mask=mask).logits
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), torch.tensor(WEIGHTS))
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.7)
        state, metrics = step(state, packed(tokens, labels))
        for group in optimizer.param_groups:
            group["lr"] = float(metrics["learning_rate"])
        optimizer.step()
        assert float(metrics["loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)
        assert float(metrics["grad_norm"]) == pytest.approx(float(norm), rel=1e-5)
    theirs.save_pretrained(tmp_path / "after")
    wanted = load_model(tmp_path / "after")[1]
    for trained in (state["params"], wanted):  # their gradients are rounding errors, which AdamW makes large
        del trained["layers"]["attention"]["key_bias"]
    jax.tree.map(lambda ours, other: np.testing.assert_allclose(ours, other, atol=1e-5), state["params"], wanted)


def test_an_evaluation_counts_texts_and_drops_nothing() -> None:
    tokens, labels = texts(3)
    config = run_config()
    shape = replace(SHAPE, dropout=0.5, classifier_dropout=0.5)
    objective = Classification(shape, config, WEIGHTS)
    assert objective.draws
    assert not Classification(SHAPE, config, WEIGHTS).draws
    params = init_params(shape, jax.random.key(1))
    batch = packed(tokens, labels, rows=8)
    (loss, extras), weight = make_eval_step(objective)(params, {}, batch)
    assert float(extras[CONFUSION].sum()) == len(tokens)
    assert extras[CONFUSION].sum(axis=1).tolist() == [labels.count(label) for label in range(3)]
    assert float(weight) == pytest.approx(sum(WEIGHTS[label] for label in labels))
    micro = {name: value[0] for name, value in batch.items() if name != MICRO_BATCHES}
    without = Classification(SHAPE, config, WEIGHTS)
    assert float(loss) == pytest.approx(float(without.loss(params, {}, micro, None, training=True)[0]), rel=1e-6)
    key = jax.random.key(0)
    dropped = objective.loss(params, {}, micro, key, training=True)[0]
    assert abs(float(dropped - loss)) > 1e-3
    assert float(dropped) == float(objective.loss(params, {}, micro, key, training=True)[0])


def record(number: int, **changes: str) -> Record:
    values = {"id": f"r{number}", "dataset": "DR", "post": f"post {number}", "label": "yes", "explanation": "It is so."}
    return Record(**{**values, **changes})


class Words:
    """A tokenizer of words: 1 and 2 stand around a text."""

    fingerprint = "words"
    vocab_size = 60

    def encode(self, texts, max_length):
        if max_length < 3:
            raise ValueError("max_length has no room")
        return [[1, *(3 + len(word) % 50 for word in text.split()[: max_length - 2]), 2] for text in texts]


def test_records_become_texts_with_classes_and_those_without_a_text_are_left_out() -> None:
    rows = [record(1), record(2, label="no"), record(3, explanation="")]
    dr = learnt_classes(["DR"])
    store, left_out = class_store(rows, dr, "explanation", Words(), 16)
    assert left_out == 1
    assert (store.ids, store.labels.tolist()) == (("r1", "r2"), [0, 1])
    store, left_out = class_store([record(1, post=" ".join("word" for _ in range(20)))], dr, "post", Words(), 16)
    assert (left_out, store.lengths.tolist(), store.truncated.tolist()) == (0, [16], [6])
    with pytest.raises(UserError, match=r"objective\.input explanation: none of the 1 rows has one"):
        class_store([record(1, explanation="")], dr, "explanation", Words(), 16)
    with pytest.raises(UserError, match=r"data\.max_length: max_length has no room; raise it"):
        class_store(rows, dr, "post", Words(), 2)


def test_classes_of_several_data_sets_stand_side_by_side_in_the_order_of_the_table() -> None:
    several = learnt_classes(["IRF", "reddit", "SAD"], exclude=["SAD"])
    assert several.names == ("DR: yes", "DR: no", "IRF: yes", "IRF: no")
    assert (several.groups, several.first("IRF"), several.asks) == ((0, 0, 1, 1), 2, True)
    irf = record(3, dataset="IRF", label="no", aspect=TASKS["IRF"].aspects[0])
    store, _ = class_store([record(1, label="no"), irf, record(2)], several, "post", Words(), 32)
    assert store.labels.tolist() == [1, 3, 0]
    question = TASKS["DR"].question.split()
    assert store.tokens[: store.offsets[1]].tolist()[1:-1] == [3 + len(word) for word in [*question, "post", "1"]]
    every = learnt_classes(["all"])
    assert len(every.names) == sum(len(task.labels) for task in TASKS.values())
    assert learnt_classes(["all"], exclude=[name for name in TASKS if name != "DR"]).names == ("yes", "no")
    with pytest.raises(UserError, match=r"data\.exclude leaves out every data set"):
        learnt_classes(["DR"], exclude=["DR"])


@pytest.mark.long
def test_classes_of_other_data_sets_are_masked_in_the_loss() -> None:
    """Two data sets of two and one classes: the loss is that of each text over its own, by hand."""
    tokens, labels = texts(1)
    groups = (0, 0, 1)
    objective = Classification(SHAPE, run_config(), (1.0, 1.0, 1.0), groups=groups)
    params = jax.tree.map(lambda x: 5 * x, init_params(SHAPE, jax.random.key(0)))
    batch = packed(tokens, labels, rows=8)
    micro = {name: value[0] for name, value in batch.items() if name != MICRO_BATCHES}
    model = bind(SHAPE, params)
    hidden, _ = model.hidden(micro["tokens"], micro["positions"], micro["segment_ids"], dtype=jnp.float32)
    begins = np.asarray(micro["labels"]) >= 0
    logits, truth = np.asarray(model.class_logits(hidden), np.float64)[begins], np.asarray(micro["labels"])[begins]
    wanted = 0.0
    for row, label in zip(logits, truth, strict=True):
        own = [c for c in range(3) if groups[c] == groups[label]]
        wanted += np.log(np.exp(row[own] - row[label]).sum())
    total, extras = objective.loss(params, {}, micro, None, training=False)
    assert float(total) == pytest.approx(wanted, rel=1e-5)
    confusion = np.asarray(extras[CONFUSION])
    assert not confusion[:2, 2].any()
    assert not confusion[2, :2].any()
    assert confusion[2, 2] == labels.count(2)  # the only label of its data set
    gradient = jax.grad(lambda p: objective.loss(p, {}, micro, None, training=True)[0])(params)
    assert not np.asarray(gradient["classifier"])[:, 2].any()
    assert np.asarray(gradient["classifier"])[:, 0].any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_best_checkpoint_of_several_data_sets_has_the_best_mean() -> None:
    confusion = np.zeros((5, 5))
    confusion[:2, :2] = [[90, 10], [10, 90]]
    confusion[2:4, 2:4] = [[1, 1], [1, 1]]  # the third has no rows
    assert mean_weighted_f1(confusion, (0, 0, 1, 1, 2)) == pytest.approx((0.9 + 0.5) / 2)
    assert mean_weighted_f1(confusion[:2, :2]) == pytest.approx(0.9)


ON_MESHES = """
import dataclasses, json, sys
import jax, jax.numpy as jnp, numpy as np
from mentallama_jax.config import parse_config
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.training.data.batch_spec import CLASSIFIED_TEXTS
from mentallama_jax.training.mesh_placement import abstract_state, place_batch
from mentallama_jax.training.objectives.classification import Classification
from mentallama_jax.training.validation import mean_weighted_f1
from mentallama_jax.training.step import init_state, make_eval_step, make_train_step

model = BertConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=8, max_positions=128,
                   position_offset=0, type_vocab_size=2, layer_norm_eps=1e-12, activation="gelu", pooler=True,
                   num_labels=3, dropout=0.1, classifier_dropout=0.1)
rows, length = 16, 128
random = np.random.default_rng(0)
arrays = CLASSIFIED_TEXTS.empty(rows, length)
for row in range(rows - 1):  # the last one is empty
    start = 0
    for segment in range(1, row % 4 + 2):
        size = int(random.integers(8, 32))
        place = slice(start, start + size)
        arrays["tokens"][row, place] = random.integers(1, 64, size)
        arrays["segment_ids"][row, place] = segment
        arrays["positions"][row, place] = np.arange(size)
        arrays["labels"][row, start] = random.integers(0, 3)
        start += size
arrays["micro_batches"] = np.array(2, np.int32)

def outcome(sizes):
    mesh = dict(zip(("data", "fsdp", "tensor", "sequence"), sizes))
    config = parse_config({
        "model": {"source": "toy-encoder", "weights": "random", "compute_dtype": "float32", "remat": "none"},
        "data": {"train": ["sample"], "datasets": ["DR"], "max_length": length},
        "objective": {"kind": "classification"},
        "optimizer": {"learning_rate": 1e-2, "clip_norm": None},
        "training": {"run_dir": "-", "steps": 10, "micro_batch_rows": 8}, "mesh": mesh}, "test")
    mesh = make_mesh(config.mesh, jax.devices()[: int(np.prod(sizes))])
    with use_mesh(mesh):
        objective = Classification(model, config, (0.5, 1.0, 2.0))
        shapes = abstract_state(objective, config, 10, mesh)
        shardings = jax.tree.map(lambda x: x.sharding, shapes)
        state = jax.device_put(init_state(objective, config, 10), shardings)
        batch = place_batch(arrays, 8, mesh, CLASSIFIED_TEXTS)
        one = {name: value[:8] for name, value in arrays.items() if name != "micro_batches"}
        placed = place_batch(one, 8, mesh, CLASSIFIED_TEXTS)
        evaluated = make_eval_step(objective)(state["params"], {}, placed)
        step = make_train_step(objective, config, 10, shardings)
        state, first = step(state, batch)
        moments = jax.device_get(state["opt_state"])
        assert step._cache_size() == 1
        return jax.device_get((first, moments, evaluated))

def difference(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return float(np.max([np.linalg.norm(a - b) for a, b in pairs]))

plain = outcome((1, 1, 1, 1))
for sizes in json.loads(sys.argv[1]):
    print(json.dumps([sizes, difference(outcome(sizes), plain)]), flush=True)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "meshes",
    [
        pytest.param([(8, 1, 1, 1), (1, 2, 2, 2)], id="each axis"),
        pytest.param([(1, 8, 1, 1), (1, 1, 8, 1)], id="eight weights or heads", marks=pytest.mark.slow),
    ],
)
def test_eight_devices_give_the_update_of_one(meshes: list[tuple[int, ...]]) -> None:
    """Loss, gradients as first moments, and an evaluation; dropout draws the same numbers on every mesh."""
    command = [sys.executable, "-c", ON_MESHES, json.dumps(meshes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=cpu_environment(8), check=False)
    assert done.returncode == 0, done.stderr
    differences = {tuple(sizes): value for sizes, value in map(json.loads, done.stdout.splitlines())}
    assert set(differences) == set(meshes)
    assert all(value < 1e-5 for value in differences.values()), differences
