"""Grounding of explanations: shares with intervals, from quotes to near-copies, in `mentallama evaluate` and alone."""

import json
from dataclasses import asdict

import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.evaluation.schema import FIELDS
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.trust.generic_explanations import generic_explanations
from mentallama_jax.evaluation.trust.grounding import DEFINITIONS, grounding, quotes_of_post
from mentallama_jax.evaluation.trust.label_only import reasons_of
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

YES = "Yes, the poster suffers from depression."
SECRET = "quetzal feathers at dawn"
POSTS = ["I feel empty since March and cry at 3 am.", "My boss yells at me all day.", f"I dream of {SECRET}."]
OUTPUTS = [
    f'{YES} Reasoning: They say "i feel  empty…" and "nobody loves me", since March.',
    f"{YES} Reasoning: The poster suffers from depression.",
    f'{YES} Reasoning: They "dream of" a flat in Paris at 40 and are sad.',
]
INTERVALS = IntervalSettings()


def rows(outputs=OUTPUTS, dataset="DR"):
    return [
        Prediction(
            id=f"{dataset}/test/{number}", dataset=dataset, post_id=f"p{number}", label="yes", goldens=YES,
            generated_text=text,
        )
        for number, text in enumerate(outputs, start=1)
    ]  # fmt: skip


def counts(scores):
    return {name: (each["count"], each["of"]) for name, each in asdict(scores).items() if each}


def test_what_posts_do_not_have_is_counted():
    given = rows()
    found = grounding(given, {row.id: post for row, post in zip(given, POSTS, strict=True)}, INTERVALS)
    assert found.posts_given
    assert counts(found.pooled) == {
        "label_only": (1, 3),
        "generic": (0, 3),
        "quoting": (2, 3),
        "absent_quotes": (1, 3),
        "rows_with_absent_quotes": (1, 3),
        "absent_names": (1, 2),
        "rows_with_absent_names": (1, 3),
        "absent_numbers": (1, 1),
        "rows_with_absent_numbers": (1, 3),
    }
    assert counts(found.datasets["DR"]) == counts(found.pooled)
    assert found.pooled.absent_quotes.posts == 2
    low, high = found.pooled.absent_quotes.interval
    assert 0 <= low < 1 / 3 < high <= 1
    assert counts(found.pooled).keys() == DEFINITIONS.keys()


def test_without_posts_only_what_needs_none_is_counted():
    found = grounding(rows(), None, INTERVALS)
    assert counts(found.pooled) == {"label_only": (1, 3), "generic": (0, 3), "quoting": (2, 3)}
    assert found.pooled.absent_quotes is None
    assert not found.posts_given


def test_nothing_to_count_has_no_share():
    given = rows([f"{YES} Reasoning: They cry."])
    found = grounding(given, {given[0].id: "x"}, INTERVALS).pooled
    assert found.absent_quotes is not None
    assert (found.absent_quotes.of, found.absent_quotes.share, found.absent_quotes.interval) == (0, None, None)


@pytest.mark.parametrize(
    ("output", "gives_reasons"),
    [
        (YES, False),
        ("Yes", False),
        ("", False),
        ("yes.", False),
        (f"{YES} Reasoning: {YES}", False),
        (f"{YES} Reasoning: Therefore, the post shows clear signs of depression.", False),
        ("<think>They cry.</think>Yes.", False),
        (f"{YES} Reasoning: They cry.", True),
        ("No, the poster does not suffer from depression. They sleep well.", True),
    ],
)
def test_reasons_are_what_goes_beyond_the_label(output, gives_reasons):
    assert bool(reasons_of(output, TASKS["DR"])) is gives_reasons


def test_quotes_of_labels_and_questions_are_none_of_the_post():
    text = 'The label is "Other causes." or "Work", not "Other cause"; they say "work is hard" and "other people".'
    assert [quote.text for quote in quotes_of_post(text, TASKS["SAD"])] == ["work is hard", "other people"]
    asked = 'To "Does the poster suffer from depression?" I say "No". "so sad"'
    assert [quote.text for quote in quotes_of_post(asked, TASKS["DR"])] == ["so sad"]


def test_near_copies_of_other_posts_are_generic():
    long = "the poster speaks of a heavy heart and of long nights without any sleep or hope at all in the end"
    texts = [
        long,
        long.upper(),
        long.replace("long nights", "dark nights"),
        "they lost a job",
        "they lost a job",
        "",
        "",
    ]
    assert generic_explanations(texts, list("abcdefg")) == [True, True, False, True, True, False, False]
    near = f"{long} and more words to make the change of one word small enough to be a near copy of it"
    assert generic_explanations([near, near.replace("more", "other")], ["a", "b"]) == [True, True]
    assert generic_explanations([near, near.replace("more", "other")], ["a", "a"]) == [False, False]


def test_equal_explanations_of_many_posts_are_looked_at_once():
    text = "they speak of a heavy heart and of long nights"
    assert all(generic_explanations([text] * 20_000, [str(number) for number in range(20_000)]))


@pytest.fixture
def files(tmp_path):
    predictions, posts = tmp_path / "answers.jsonl", tmp_path / "posts.jsonl"
    given = [*rows(), *rows([f"{YES} Reasoning: You are just lazy."], "CLP")]
    predictions.write_text("".join(row.to_line() for row in given), "utf-8")
    data = [
        {"id": row.id, "dataset": row.dataset, "split": "test", "post": post, "label": "yes", "explanation": ""}
        for row, post in zip(given, [*POSTS, "x"], strict=True)
    ]
    posts.write_text("".join(json.dumps(row) + "\n" for row in data), "utf-8")
    return predictions, posts, tmp_path / "scores"


def test_evaluate_writes_both_sections_and_shows_no_text(files, capsys, monkeypatch):
    predictions, posts, out = files
    monkeypatch.setenv("COLUMNS", "80")
    command = ["evaluate", str(predictions), "--data", str(posts), "--out", str(out)]
    assert main(command) == 0
    scores = json.loads((out / "scores.json").read_text("utf-8"))
    assert scores["grounding"].keys() == FIELDS["grounding"].keys()
    assert scores["care"].keys() == FIELDS["care"].keys()
    assert scores["grounding"]["pooled"]["absent_quotes"]["count"] == 1
    assert scores["care"]["pooled"]["ids"]["judgement"] == ["CLP/test/1"]
    shown = capsys.readouterr().out
    assert "judgement in: CLP/test/1" in shown
    assert "quotes not" in shown
    assert not any(word in shown + json.dumps(scores) for word in ("lazy", SECRET, "nobody loves"))
    tables = shown[: shown.index("written")]
    assert max(map(len, tables[tables.index("Grounding of") : tables.index("judgement in:")].splitlines())) <= 80
    first = (out / "scores.json").read_bytes()
    assert main([*command, "--show-posts"]) == 0
    assert "you are just lazy" in capsys.readouterr().out
    assert (out / "scores.json").read_bytes() == first


def test_evaluate_pools_runs_over_the_same_posts(files, capsys):
    predictions, posts, out = files
    other = predictions.with_name("another_seed.jsonl")
    other.write_bytes(predictions.read_bytes() + b"\n")
    both = [str(predictions), str(other), "--pool"]
    assert main(["evaluate", *both, "--data", str(posts), "--out", str(out)]) == 0
    found = json.loads((out / "scores.json").read_text("utf-8"))["grounding"]["pooled"]
    assert (found["absent_quotes"]["count"], found["absent_quotes"]["posts"]) == (2, 2)
    assert found["generic"]["count"] == 0  # two runs on one post may say the same


def test_evaluate_says_what_it_needs(files, capsys):
    predictions, posts, out = files
    assert main(["evaluate", str(predictions), "--out", str(out)]) == 0
    assert "name the posts with --data" in capsys.readouterr().out
    posts.write_text(posts.read_text("utf-8").replace("DR/test/2", "DR/test/77"), "utf-8")
    assert main(["evaluate", str(predictions), "--data", str(posts), "--out", str(out)]) == 2
    assert "row 'DR/test/2': its post is not in --data" in capsys.readouterr().err
