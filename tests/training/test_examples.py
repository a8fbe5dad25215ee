"""Which rows train, validate and are answered, and what data.json says of them."""

import json
from importlib import resources
from pathlib import Path

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.training.data.examples import load_examples

POSTS = {
    "train": ["I cannot sleep before exams.", "My week was calm.", "The rent is due again.", "We talked for hours."],
    "val": ["Nothing helps any more.", "A walk by the river."],
    "test": ["The rent is due again.", "Another quiet Sunday."],
}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(Path(str(resources.files("mentallama_jax.imhi"))) / "sample" / "tokenizer")


def write(path: Path, dataset: str, splits=("train", "val", "test"), *, bad: int = 0) -> str:
    rows = [
        {"dataset": dataset, "split": split, "post": post, "label": "no", "explanation": "The post is calm."}
        for split in splits
        for post in POSTS[split]
    ]
    rows += [{"dataset": dataset, "split": "train", "post": "x", "label": "perhaps"}] * bad
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def load(tiny_config, tmp_path, tokenizer):
    """Load the examples of two data sets: (examples, lines said)."""
    files = [write(tmp_path / "dr.jsonl", "DR"), write(tmp_path / "dreaddit.jsonl", "dreaddit")]

    def run(evaluation=None, **data):
        sections = {"train": files, "validation": files, "max_rows": None, **data}
        said: list[str] = []
        config = tiny_config(tmp_path / "run", data=sections, evaluation={"max_rows": None, **(evaluation or {})})
        return load_examples(config, tokenizer, said.append), said

    return run


def test_whole_files_give_their_training_and_validation_rows(load):
    examples, said = load()
    assert examples.rows == {"DR": 4, "dreaddit": 4}
    assert all("/train/" in name for name in examples.train.ids)
    assert len(examples.validation) == 4
    assert all("/val/" in name for name in examples.validation.ids)
    (missing,) = said
    assert missing.startswith("data.train: 8 of the 72,093 training rows: without CLP, ")
    assert missing.endswith("DR 4 of 1,003; dreaddit 4 of 2,837")


def test_test_posts_of_data_sets_left_out_never_train(load):
    """The rent is due: a training post of DR that occurs in the held-out test of dreaddit."""
    examples, _ = load(exclude=["dreaddit"])
    assert examples.rows == {"DR": 3}
    assert examples.facts["posts_kept_out_of_training"] == 2
    assert len(examples.validation) == 2


def test_posts_of_named_files_never_train(load, tmp_path):
    row = {"dataset": "CLP", "split": "test", "post": "MY week  was calm.", "label": "no"}
    (tmp_path / "held_out.jsonl").write_text(json.dumps(row) + "\n")
    examples, _ = load(drop_posts_in=[str(tmp_path / "held_out.jsonl")])
    assert examples.rows == {"DR": 3, "dreaddit": 3}
    assert examples.facts["posts_kept_out_of_training"] == 1


def test_near_copies_of_posts_of_named_files_never_train(load, tmp_path):
    post = "my week was calm! www.example.org/x"
    row = {"dataset": "CLP", "split": "test", "post": post, "label": "no", "id": "held/1"}
    (tmp_path / "held_out.jsonl").write_text(json.dumps(row) + "\n")
    examples, said = load(drop_posts_in=[str(tmp_path / "held_out.jsonl")])
    assert examples.rows == {"DR": 3, "dreaddit": 3}
    kept_out = examples.facts["near_copies_kept_out_of_training"]
    assert kept_out["pairs"] == [{"row": "DR/train/2", "of": "held/1", "similarity": 1.0}]
    assert (kept_out["alike"], kept_out["contained"]) == (0.8, 0.9)
    assert any("near-copies" in line for line in said)
    assert not any("calm" in line for line in said)


def test_rows_without_a_label_cannot_be_trained_on(load, tmp_path):
    rows = [{"dataset": "DR", "split": "train", "post": "A calm week.", "id": f"p{number}"} for number in range(3)]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"^data.train: .*posts.jsonl, row 1: label is missing; no row of the file"):
        load(train=[str(tmp_path / "posts.jsonl")])


def test_bad_rows_are_told_counted_and_with_strict_an_error(load, tmp_path):
    source = write(tmp_path / "bad.jsonl", "DR", bad=2)
    examples, said = load(train=[source])
    assert examples.rows == {"DR": 4}
    assert len(said) == 2
    assert said[0].startswith("data.train: 2 rows cannot be read and are left out, the first: ")
    assert [problem["row"] for problem in examples.facts["problems"]] == [9, 10]
    with pytest.raises(UserError, match=r"^data.train: .*bad.jsonl"):
        load(train=[source], strict=True)


def test_only_test_rows_are_no_training_data(load, tmp_path):
    source = write(tmp_path / "test_only.jsonl", "DR", ("test",))
    with pytest.raises(UserError, match=r"data.train: no row of split train \(only test\); name other files"):
        load(train=[source])
    with pytest.raises(UserError, match=r"data.validation: no row of split val"):
        load(validation=[source])


def test_rows_without_a_split_are_taken_for_what_they_are_named_as(load, tmp_path):
    row = {"dataset": "DR", "post": "A walk.", "label": "no", "explanation": "It is a walk."}
    (tmp_path / "plain.jsonl").write_text(json.dumps(row) + "\n")
    examples, _ = load(train=[str(tmp_path / "plain.jsonl")], validation=[str(tmp_path / "plain.jsonl")])
    assert (len(examples.train), len(examples.validation)) == (1, 1)


def test_the_sample_to_answer_is_fixed_and_among_the_validation_rows(load):
    first, _ = load(evaluation={"generate_rows": 3})
    second, _ = load(evaluation={"generate_rows": 3}, weights={"DR": 2})
    assert len(first.to_answer) == 3
    assert first.to_answer == second.to_answer
    assert {record.id for record in first.to_answer} <= set(first.validation.ids)
    assert first.facts["label_f1_rows"] == [record.id for record in first.to_answer]


def test_labels_are_balanced_on_request(load, tmp_path):
    rows = [
        {"dataset": "DR", "post": f"A walk of {number} miles.", "label": label, "explanation": "It is a walk."}
        for number, label in enumerate(["yes"] * 2 + ["no"] * 6)
    ]
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = [str(tmp_path / "plain.jsonl")]
    as_they_are, _ = load(train=source)
    assert [record.label for record in as_they_are.records] == ["yes"] * 2 + ["no"] * 6
    balanced, _ = load(train=source, balance_labels=True)
    assert [record.label for record in balanced.records][:4] == ["yes"] * 4
    assert len(balanced.records) < 10
    assert len(balanced.train) == len(balanced.records)


def test_the_facts_add_up(load):
    examples, _ = load()
    facts = examples.facts["train"]
    assert facts["examples"] == len(examples.train) == sum(facts["rows"].values())
    assert facts["posts"] == 4
    assert facts["tokens"] == len(examples.train.tokens)
    assert facts["target_tokens"] == int(examples.train.target_counts.sum())
    assert facts["longest_example"] == max(examples.train.lengths)
    assert examples.facts["fingerprints"].keys() == {"train", "validation"}


def test_cut_posts_are_told(load):
    examples, said = load(max_length=42)
    assert examples.train.truncated_examples
    told = f"training: {examples.train.truncated_examples} of 8 posts lose their end"
    assert any(line.startswith(told) for line in said)


PAIR_POSTS = {
    "same": "The rent is due again and I have no idea how I am to pay for it this time.",
    "copy": "the rent is due AGAIN, and I have no idea how I am to pay for it this time! www.example.org/x",
    "other": "We talked for hours about nothing and I came home calm.",
}


@pytest.fixture
def load_pairs(tmp_path, tiny_config, tokenizer):
    """Load pairs about `PAIR_POSTS`, with the first of these held out: (examples, lines said)."""
    held_out = {"dataset": "CLP", "split": "test", "post": PAIR_POSTS["same"], "label": "no"}
    (tmp_path / "held_out.jsonl").write_text(json.dumps(held_out) + "\n")

    def write_pairs(name: str, posts) -> str:
        question = "Question: Does the poster suffer from stress?"
        rows = [
            {
                "id": post,
                "prompt": f'Consider this post: "{PAIR_POSTS[post]}" {question}',
                "chosen": "No.",
                "rejected": "Yes.",
            }
            for post in posts
        ]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    def run(train, validation=()):
        data = {"train": [write_pairs("train.jsonl", train)], "max_rows": None}
        data["validation"] = [write_pairs("val.jsonl", validation)] if validation else []
        data["drop_posts_in"] = [str(tmp_path / "held_out.jsonl")]
        said: list[str] = []
        config = tiny_config(tmp_path / "run", data=data, objective={"kind": "dpo"}, evaluation={"max_rows": None})
        return load_examples(config, tokenizer, said.append), said

    return run


def test_pairs_about_posts_of_named_files_and_their_copies_never_train(load_pairs):
    examples, said = load_pairs(["same", "copy", "other"], ["same"])
    assert examples.train.ids == ("other",)
    assert examples.validation.ids == ("same",)
    assert said == ["data.train: 2 pairs are about posts that must not be trained on and are left out"]
    assert (examples.facts["train"]["leaks"], examples.facts["validation"]["leaks"]) == (2, 0)


def test_pairs_that_are_all_held_out_are_not_called_too_long(load_pairs):
    with pytest.raises(UserError, match=r"^data\.train: every pair is about a post of data\.drop_posts_in"):
        load_pairs(["same", "copy"])
