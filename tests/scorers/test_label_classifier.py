"""Label classifiers: what their classes mean, packed texts, and `mentallama evaluate` with them."""

import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jax
import numpy as np
import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.schema import FIELDS
from mentallama_jax.formats.hf_folder import save_model
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS, Task
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import init_params
from mentallama_jax.scorers.label_classifier import (
    open_classifier,
    open_classifiers,
    read_classes,
    read_explanations,
    read_outputs,
)

SAMPLE = Path(str(resources.files("mentallama_jax.imhi"))) / "sample" / "encoder_tokenizer"
TEXTS = [f"I feel {'very ' * n}tired of the exam {n}." for n in range(13)] + ["", "word " * 90]


def make(folder: Path, task: Task, card: dict | None = None, names: tuple[str, ...] = (), seed: int = 0) -> Path:
    """A random classifier of a task, with weights so large that its answers differ."""
    config = BertConfig(
        vocab_size=1024,
        hidden_size=16,
        intermediate_size=32,
        num_layers=2,
        num_heads=2,
        max_positions=64,
        position_offset=0,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        activation="gelu",
        pooler=True,
        num_labels=len(task.labels),
        dropout=0.1,
        classifier_dropout=0.1,
    )
    params = jax.tree.map(lambda x: 20 * x, init_params(config, jax.random.key(seed)))
    files = dict(EncoderTokenizer(SAMPLE).files)
    if card is not None:
        files["classifier.json"] = json.dumps(card).encode()
    save_model(folder, config, params, files, label_names=names)
    return folder


@pytest.mark.long
def test_texts_give_the_same_figures_alone_together_and_in_any_order(tmp_path: Path) -> None:
    classifier = open_classifier(make(tmp_path / "SAD", TASKS["SAD"]), TASKS["SAD"])
    together, lost = classifier.log_probabilities(TEXTS)
    assert together.shape == (15, 9)
    np.testing.assert_allclose(np.exp(together).sum(-1), 1, atol=1e-5)
    assert len({row.argmax() for row in together}) > 1
    backwards, _ = classifier.log_probabilities(TEXTS[::-1])
    np.testing.assert_allclose(backwards[::-1], together, atol=1e-4)
    for place in (0, 7, 13, 14):
        alone, _ = classifier.log_probabilities([TEXTS[place]])
        np.testing.assert_allclose(alone[0], together[place], atol=1e-4)
    assert lost[:14].tolist() == [0] * 14
    assert lost[14] > 0
    assert classifier.read(TEXTS) == [TASKS["SAD"].labels[place] for place in together.argmax(-1)]
    assert classifier.log_probabilities([])[0].shape == (0, 9)


ORDERED = ["school", "financial", "family", "social", "work", "health", "emotional", "everyday", "other"]


def test_classes_are_mapped_by_name_and_the_signature_says_how(tmp_path: Path) -> None:
    """The same weights under three descriptions: columns follow the names, never the position alone."""
    task = TASKS["SAD"]
    turned = ORDERED[::-1]
    plain = open_classifier(make(tmp_path / "plain", task), task)
    by_card = open_classifier(make(tmp_path / "card", task, {"labels": turned, "input": "response"}), task)
    by_names = open_classifier(make(tmp_path / "names", task, names=tuple(turned)), task)
    first, second, third = (each.log_probabilities(TEXTS)[0] for each in (plain, by_card, by_names))
    np.testing.assert_array_equal(first, second[:, ::-1])  # SAD's own order is that of ORDERED
    np.testing.assert_array_equal(second, third)
    assert plain.signature()["classes_named_by"].startswith("the order of the published classifiers")
    assert plain.signature()["classes"] == list(task.labels)
    assert by_card.signature()["classes_named_by"] == "classifier.json"
    assert by_names.signature()["classes_named_by"] == "id2label of config.json"
    assert by_card.signature()["classes"] == list(task.labels)[::-1]
    assert (plain.classes.input, by_card.classes.input) == (None, "response")
    assert plain.signature()["weights"] != by_names.signature()["weights"]  # its config.json is another


# As the page on the benchmark words them: classifier checkpoints number their classes in an order of their own.
NUMBERED = {
    "SWMH": "depression, suicide, anxiety, bipolar, no mental",
    "T-SID": "depression, suicide, ptsd, control",
    "SAD": "school, financial, family, social, work, health, emotional, everyday, other",
    "CAMS": "none, bias, job, medication, relation, alienation",
    **dict.fromkeys(("DR", "CLP", "dreaddit", "loneliness", "MultiWD", "IRF"), "no, yes"),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_classes_without_names_are_taken_in_the_published_order_and_it_is_said(tmp_path, capsys, task) -> None:
    (tmp_path / "config.json").write_text("{}")
    found = read_classes(tmp_path, task, len(task.labels))
    assert len(found.labels) == len(task.labels)
    for label, word in zip(found.labels, NUMBERED[task.name].split(", "), strict=True):
        assert word in (label, *task.label_aliases.get(label, ())) or label.startswith(word)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"note: {tmp_path}: its classes have no names; they are taken for {', '.join(found.labels)}" in said
    (tmp_path / "classifier.json").write_text(json.dumps({"labels": list(task.labels)}))
    assert read_classes(tmp_path, task, len(task.labels)).labels == task.labels
    assert not capsys.readouterr().err


def test_classes_without_names_of_another_data_set_are_refused(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}))
    own = replace(TASKS["DR"], name="preferred")
    with pytest.raises(UserError, match=r"classifiers of preferred number its labels is not known \(yes, no\); write"):
        read_classes(tmp_path, own, 2)


@pytest.mark.parametrize(
    ("card", "names", "message"),
    [
        ({"labels": ["yes"]}, (), "'yes' are not the 2 labels of DR, each once, for 2 classes"),
        ({"labels": ["yes", "yes"]}, (), "are not the 2 labels of DR, each once"),
        ({"labels": ["yes", 3]}, (), "are not the 2 labels of DR, each once"),
        ({}, (), "labels: none are not the 2 labels of DR"),
        ({"labels": ["no", "yes"], "input": "title"}, (), "input is 'title'; there are: post, explanation, response"),
        ({"labels": ["no", "yes"], "max_length": "x"}, (), "max_length is 'x'; expected a number of tokens"),
        ({"labels": ["no", "yes"], "dataset": "SAD"}, (), "is of 'SAD', not of DR"),
        ({"data_sets": ["yes", "no"]}, (), "data_sets does not hold the labels of each data set"),
        ({"data_sets": {"DR": "yes"}}, (), "data_sets does not hold the labels of each data set"),
        ({"data_sets": {"DR": ["yes", "no"], "CLP": ["yes", "no"]}}, (), "data_sets holds 4 labels for 2 classes"),
        ({"data_sets": {"CLP": ["yes", "no"]}}, (), "is a classifier of 'CLP', not of DR"),
        ({"data_sets": {"DR": ["yes"], "x": ["no"]}}, (), "data_sets: DR: 'yes' are not the 2 labels of DR"),
        ({"data_sets": {"DR": ["no", "yes"]}, "input": 3}, (), "input is '3'; there are: post, explanation, response"),
        (None, ("happy", "sad"), "config.json: id2label: 'happy', 'sad' are not the 2 labels of DR"),
    ],
)
def test_classes_that_are_not_the_labels_are_refused_in_one_line(tmp_path: Path, card, names, message: str) -> None:
    folder = make(tmp_path / "DR", TASKS["DR"], card, names)
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        open_classifier(folder, TASKS["DR"])
    assert "\n" not in str(refused.value)


def test_a_length_without_room_and_a_foreign_tokenizer_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "DR", TASKS["DR"], {"labels": ["no", "yes"], "max_length": 2})
    with pytest.raises(UserError, match=r"the classifier of DR: max_length 2 .*; raise it in its classifier\.json"):
        open_classifier(folder, TASKS["DR"]).read(["text"])
    with (folder / "vocab.txt").open("a") as stream:
        stream.write("further\n")
    with pytest.raises(UserError, match="its tokenizer has 1025 tokens and it embeds 1024"):
        open_classifier(folder, TASKS["DR"])


def test_another_number_of_classes_than_labels_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "DR", TASKS["SAD"])
    with pytest.raises(UserError, match="has 9 classes, and DR 2 labels"):
        open_classifier(folder, TASKS["DR"])


def test_a_directory_of_classifiers_is_found_by_names_and_aliases(tmp_path: Path) -> None:
    tasks = [TASKS["DR"], TASKS["T-SID"]]
    with pytest.raises(UserError, match="no such folder of classifiers"):
        open_classifiers(tmp_path / "none", tasks)
    make(tmp_path / "reddit", TASKS["DR"])
    (tmp_path / "notes").mkdir()
    with pytest.raises(UserError, match=r"holds no classifier of T-SID; name its folder T-SID \(found: DR\)"):
        open_classifiers(tmp_path, tasks)
    make(tmp_path / "tsid" / "classifier", TASKS["T-SID"])  # a run directory
    assert list(open_classifiers(tmp_path, tasks)) == ["DR", "T-SID"]
    make(tmp_path / "DR", TASKS["DR"])
    with pytest.raises(UserError, match=r"reddit: DR is the classifier of DR already; keep one of the two"):
        open_classifiers(tmp_path, tasks)


def outputs(dataset: str = "DR", count: int = 24) -> list[Prediction]:
    task = TASKS[dataset]
    found = []
    for n in range(count):
        label = task.labels[n % len(task.labels)]
        text = f"{task.sentences[label]} Reasoning: They feel {'very ' * (n % 7)}tired of thing {n}."
        gold = f"{task.sentences[label]} Reasoning: They say it {n} times."
        found.append(
            Prediction(
                id=f"{dataset}/{n}", dataset=dataset, post_id=f"p{n}", label=label, goldens=gold, generated_text=text
            )
        )
    return found


def test_a_classifier_of_posts_reads_no_outputs_and_one_of_responses_no_explanations_alone(tmp_path: Path) -> None:
    task = TASKS["DR"]
    reads = {
        what: {"DR": open_classifier(make(tmp_path / what, task, {"labels": ["no", "yes"], "input": what}), task)}
        for what in ("post", "explanation", "response")
    }
    rows = [*outputs(), Prediction(id="e", dataset="DR", post_id="e", label="yes", generated_text=" ")]
    with pytest.raises(UserError, match="learnt to read posts, which outputs do not hold"):
        read_outputs(reads["post"], rows)
    for what in ("post", "response"):
        with pytest.raises(UserError, match=f"learnt to read the {what}; consistency takes one that reads"):
            read_explanations(reads[what], rows)
    assert read_outputs(reads["response"], rows)[-1] is None
    explained, gold = read_explanations(reads["explanation"], rows)
    assert read_outputs(reads["explanation"], rows) == explained
    assert (explained[-1], gold[-1]) == (None, None)
    # The label sentence is not read: another one before the same explanation changes nothing.
    other = [
        Prediction(**{**row.to_json(), "generated_text": row.generated_text.partition("Reasoning:")[2]}) for row in rows
    ]
    assert read_explanations(reads["explanation"], other)[0] == explained


def test_the_command_shows_rules_and_classifier_side_by_side(tmp_path: Path, capsys) -> None:
    make(
        tmp_path / "classifiers" / "DR",
        TASKS["DR"],
        {"labels": ["no", "yes"], "input": "explanation", "max_length": 48},
    )
    make(tmp_path / "classifiers" / "SAD", TASKS["SAD"])
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(row.to_line() for row in [*outputs(), *outputs("SAD", 27)]))
    arguments = ["evaluate", str(path), "--classifiers", str(tmp_path / "classifiers")]
    assert main([*arguments, "--reader", "classifier", "--consistency", "--out", str(tmp_path / "a")]) == 0
    shown = capsys.readouterr().out
    assert "Correctness in %, reader classifier" in shown
    assert "Labels read by rules beside labels read by classifiers" in shown
    assert "Explanations alone, read as the label that the output states" in shown
    written = json.loads((tmp_path / "a" / "scores.json").read_text())
    found = written["classifiers"]
    assert found.keys() == FIELDS["classifiers"].keys()
    assert written["signature"]["reader"] == "classifier"
    assert found["signatures"]["SAD"]["classes_named_by"].startswith("the order of the published classifiers")
    again = tmp_path / "again.jsonl"
    again.write_text(path.read_text() + "\n")  # a copy is refused
    systems = [
        "compare",
        str(path),
        str(again),
        "--reader",
        "classifier",
        "--out",
        str(tmp_path / "c"),
    ]
    assert main([*systems, "--classifiers", str(tmp_path / "classifiers")]) == 0
    comparison = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert comparison["signature"]["reader"] == "classifier"
    assert comparison["signature"]["classifiers"] == found["signatures"]
    (pooled,) = (
        each for each in comparison["standings"] if (each["metric"], each["dataset"]) == ("accuracy", "pooled")
    )
    assert pooled["values"]["again"] == [written["pooled"]["accuracy"]]
    capsys.readouterr()
    assert found["signatures"]["DR"]["max_length"] == 48
    differing = [json.loads(line) for line in (tmp_path / "a" / "readers_differ.jsonl").read_text().splitlines()]
    equal = sum(each["rows"] * each["agreement"] for each in found["agreement"].values())
    assert len(differing) == 51 - round(equal)
    assert all(row.keys() == {"id", "dataset", "gold", "rules", "classifier"} for row in differing)
    right = sum(each["accuracy"] * each["n"] for each in written["datasets"].values())
    assert round(right) == 51 - len(differing)  # the rules read the gold label of every row
    assert set(found["consistency"]) == {"DR", "SAD", "pooled"}
    assert found["consistency"]["pooled"]["rows"] == 51

    assert main([*arguments, "--consistency", "--out", str(tmp_path / "b")]) == 0
    alone = json.loads((tmp_path / "b" / "scores.json").read_text())
    assert alone["signature"]["reader"] == "templates+words"
    assert alone["classifiers"]["agreement"] is None
    assert alone["classifiers"]["consistency"] == found["consistency"]
    assert not (tmp_path / "b" / "readers_differ.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reader", "classifier"], "--reader classifier and --consistency need --classifiers"),
        (["--consistency"], "--reader classifier and --consistency need --classifiers"),
        (["--classifiers", "here"], "--classifiers goes with --reader classifier or --consistency"),
        (["--reader", "classifier", "--as-upstream"], "are two ways to read labels; give one"),
        (["--reader", "classifier", "--classifiers", "/nowhere"], "/nowhere: no such folder of classifiers"),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(tmp_path: Path, capsys, arguments, message: str) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(row.to_line() for row in outputs()))
    assert main(["evaluate", str(path), "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
