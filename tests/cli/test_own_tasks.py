"""Two tasks of one's own, from a table to a report by commands alone: German, three labels; Chinese, two aspects.

The posts in `tests/own_tasks` were written for the tests.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mentallama_jax.cli import main as command_line
from mentallama_jax.imhi.tasks import TASKS

TABLES = Path(__file__).resolve().parents[1] / "own_tasks"
ROOT = TABLES.parents[1]
SENTENCES = {
    "schlaf": {
        "sentence: 'gut.'": "sentence: Die Person schläft gut.",
        "sentence: 'Einschlafstörung.'": "sentence: Die Person kann abends nicht einschlafen.",
        "sentence: 'Durchschlafstörung.'": "sentence: Die Person wacht nachts auf.",
        "question: 'What does this post show?'": "question: Wie schläft die Person?",
        "# high_risk:\n#   labels: ['gut']\n#   reason: why these": (
            "high_risk:\n  labels: [Durchschlafstörung]\n  reason: wer nie durchschläft, wird krank"
        ),
        "# answer_leads: [Answer, The answer is]": "answer_leads: [Antwort]",
    },
    "xinqing": {
        "sentence: 'yes.'": "sentence: 是的，帖子里有这个问题。",
        "sentence: 'no.'": "sentence: 不，帖子里没有这个问题。",
        "completion: 'yes'": "completion: 有",
        "completion: 'no'": "completion: 没有",
        "question: 'What does this post show about {aspect}?'": "question: 帖子里的{aspect}有问题吗？",
    },
}
"""What a person changes in the template of each task."""

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
}

QUICK = [
    "model.source=shape",
    "data.max_length=256",
    "training.epochs=null",
    "training.steps=2",
    "training.batch_size=2",
    "training.micro_batch_rows=1",
    "evaluation.generate_rows=0",
    "evaluation.metric=validation_loss",
    "evaluation.every_steps=2",
    "checkpoint.every_steps=2",
]


def command(*words: str | Path) -> int:
    status = command_line.main([*map(str, words)])
    assert TASKS.own == (), "a command's tasks must not stay known"
    return status


NO_TASKS = {
    "mentallama bench",
    "mentallama completion",
    "mentallama configs copy",
    "mentallama configs list",
    "mentallama quickstart",
    "mentallama data new-task",
    "mentallama study",
}
"""Commands that read neither records nor predictions, and `study`, whose file names them in `evaluation.tasks`."""


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of commands, of their actions where they have some."""
    children = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in children:
        for child in action.choices.values():
            yield from leaves(child)
    if not children:
        yield parser


def test_every_command_that_reads_data_or_predictions_takes_task_files() -> None:
    without = {
        parser.prog
        for parser in leaves(command_line.build_parser())
        if not any(action.dest == "tasks" for action in parser._actions)
    }
    assert without == NO_TASKS


def test_a_list_of_task_files_leaves_changes_of_the_config_alone() -> None:
    options = command_line.parse(["train", "configs/toy.yaml", "--tasks", "a.yaml", "b.yaml", "training.steps=2"])
    assert [str(path) for path in options.tasks] == ["a.yaml", "b.yaml"]
    assert options.overrides == ["training.steps=2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with task files, records, a run and its predictions, made by commands that start in it."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "shape").mkdir()
        (folder / "shape/config.json").write_text(json.dumps(TINY))
        columns = {"schlaf": ["--label-column", "befund", "--language", "de"]}
        columns["xinqing"] = ["--label-column", "有无", "--aspect-column", "方面"]
        for name, options in columns.items():
            assert command("data", "new-task", TABLES / f"{name}.csv", *options, "--out", f"{name}.yaml") == 0
            fill_in(folder / f"{name}.yaml", SENTENCES[name])
            build = ["data", "build", TABLES / f"{name}.csv", "--dataset", name, "--tasks", f"{name}.yaml"]
            assert command(*build, "--shares", "train=0.6", "val=0.1", "test=0.3", "--out", f"{name}.jsonl") == 0
        data = ["data.train=[schlaf.jsonl,xinqing.jsonl]", "data.validation=[schlaf.jsonl]", "training.run_dir=run"]
        assert command("train", ROOT / "configs/toy.yaml", *data, *QUICK, "--tasks", "schlaf.yaml", "xinqing.yaml") == 0
        yield folder


def fill_in(path: Path, changes: Mapping[str, str]) -> None:
    text = path.read_text("utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1, (old, text)
        text = text.replace(old, new)
    path.write_text(text, "utf-8")


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_run_keeps_its_tasks_and_its_answers_are_scored(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ["--tasks", "schlaf.yaml", "xinqing.yaml"]
    test = ["schlaf.jsonl:test", "xinqing.jsonl:test"]
    assert command("data", "check", "schlaf.jsonl", "xinqing.jsonl", *both) == 0
    floor = ["--train", "schlaf.jsonl", "xinqing.jsonl", "--data", *test, "--out"]
    assert command("baseline", "majority", *floor, "majority.jsonl", *both) == 0
    next_ = "next: mentallama evaluate majority.jsonl --tasks schlaf.yaml xinqing.yaml --out SCORES"
    assert next_ in capsys.readouterr().out
    assert command("evaluate", "majority.jsonl", "--out", "majority", *both) == 0
    assert command("generate", "run", "--data", *test, "--score-labels", "--out", "labels.jsonl") == 0
    assert command("generate", "run", "--data", *test, "--max-new-tokens", "3", "--out", "answers.jsonl") == 0
    assert "next: mentallama evaluate answers.jsonl --tasks run --out SCORES" in capsys.readouterr().out
    assert command("evaluate", "answers.jsonl", "--tasks", "run", "--out", "scores0") == 0
    capsys.readouterr()
    answers = rows(place / "labels.jsonl")
    kept = json.loads((place / "run/tasks.json").read_text("utf-8"))["tasks"]
    sentences = {task["name"]: task["sentences"] for task in kept}
    assert {row["dataset"] for row in answers} == {"schlaf", "xinqing"}
    assert all(row["generated_text"] in sentences[str(row["dataset"])].values() for row in answers)
    assert {row["aspect"] for row in answers if row["dataset"] == "xinqing"} == {"食欲", "精力"}

    data = ["--data", "schlaf.jsonl", "--data", "xinqing.jsonl"]
    assert command("evaluate", "labels.jsonl", *data, *both, "--out", "scores") == 0
    said = capsys.readouterr().out
    scores = json.loads((place / "scores/scores.json").read_text("utf-8"))
    assert set(scores["datasets"]) == {"schlaf", "xinqing"}
    assert scores["pooled"]["unparsed"] == 0
    assert set(scores["high_risk"]["datasets"]) == {"schlaf"}
    assert scores["high_risk"]["reasons"]["schlaf"] == "Durchschlafstörung: wer nie durchschläft, wird krank"
    assert set(scores["datasets"]["xinqing"]["per_aspect"]) == {"食欲", "精力"}
    assert "care" not in scores
    assert "Care: no row, as its rules are English" in said

    assert command("report", "scores", "--out", "report", *both) == 0
    page = (place / "report/report.html").read_text("utf-8")
    assert "schlaf" in page
    assert "食欲" in page
    assert command("evaluate", "labels.jsonl", "--out", "scores2") == 2
    assert "--tasks FILE adds your own" in capsys.readouterr().err
    assert command("evaluate", "labels.jsonl", *both, "--as-upstream", "--out", "scores3") == 2
    assert "knows the ten data sets" in capsys.readouterr().err


def test_own_tasks_are_asked_in_parts_with_examples_and_answered_label_first(place: Path) -> None:
    asked = ["--prompt", "zero-shot", "--label-first", "--shots", "1", "--shots-from"]
    data = ["--data", "schlaf.jsonl:test", "xinqing.jsonl:test", "--max-rows", "2", "--max-new-tokens", "90"]
    training = ["schlaf.jsonl:train", "xinqing.jsonl:train"]
    assert command("generate", "run", *data, *asked, *training, "--max-length", "512", "--out", "first.jsonl") == 0
    kept = json.loads((place / "run/tasks.json").read_text("utf-8"))["tasks"]
    sentences = {task["name"]: task["sentences"] for task in kept}
    answers = rows(place / "first.jsonl")
    assert {row["dataset"] for row in answers} == {"schlaf", "xinqing"}
    for row in answers:
        assert str(row["generated_text"]).startswith(
            f"{sentences[str(row['dataset'])][str(row['decided_label'])]} Reasoning:"
        )
    both = ["--tasks", "schlaf.yaml", "xinqing.yaml"]
    assert command("evaluate", "first.jsonl", *both, "--out", "scores-first") == 0
    assert json.loads((place / "scores-first/scores.json").read_text("utf-8"))["pooled"]["unparsed"] == 0


def test_a_changed_wording_is_another_recipe(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (place / "schlaf.yaml").read_text("utf-8")
    (place / "changed.yaml").write_text(text.replace("schläft gut.", "schläft ruhig."), "utf-8")
    data = ["data.train=[schlaf.jsonl,xinqing.jsonl]", "data.validation=[schlaf.jsonl]", "training.run_dir=run"]
    again = ["train", ROOT / "configs/toy.yaml", *data, *QUICK, "--tasks", "xinqing.yaml"]
    capsys.readouterr()
    assert command(*again, "changed.yaml") == 2
    assert "started with another task (schlaf.sentences.gut was Die Person schläft gut." in capsys.readouterr().err
    test = ["generate", "run", "--data", "schlaf.jsonl:test", "--score-labels", "--out", "other.jsonl"]
    assert command(*test, "--tasks", "changed.yaml") == 2
    assert "another task schlaf is known already" in capsys.readouterr().err
    assert command(*again, "schlaf.yaml") == 0


@pytest.mark.slow
def test_a_classifier_and_an_export_know_the_task(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["data.train=[schlaf.jsonl]", "data.validation=[schlaf.jsonl]", "data.datasets=[schlaf]"]
    run = [*data, "objective.test=[schlaf.jsonl]", "training.run_dir=classifiers/schlaf", "training.epochs=1"]
    assert command("train", ROOT / "configs/classifier-toy.yaml", *run, "data.tasks=[schlaf.yaml]") == 0
    scores = json.loads((place / "classifiers/schlaf/test/scores.json").read_text("utf-8"))
    assert set(scores["datasets"]) == {"schlaf"}
    assert command("export", "run", "--out", "exported") == 0
    card = (place / "exported/README.md").read_text("utf-8")
    assert "| task schlaf | Wie schläft die Person? Die Person" in card
    answers = ["--max-new-tokens", "2", "--out", "exported.jsonl"]
    assert command("generate", "exported", "--data", "schlaf.jsonl:test", *answers) == 0
    assert rows(place / "exported.jsonl")
