"""What the card writes and scores is what the CPU does: answers, label scores, beam search, BARTScore, BERTScore."""

import json

import numpy as np
import pytest
from computations import BARTS, BERTS, answer, bart_scores, beams, bert_scores, finished


def of_cpu(folder, name):
    text = (finished(folder, "answers") / name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def texts(predictions):
    return {row["id"]: row["generated_text"] for row in predictions}


def numbers(scores, place=()):
    """The numbers of nested scores, each with where it stands."""
    if isinstance(scores, dict):
        for name, inner in scores.items():
            yield from numbers(inner, (*place, name))
    else:
        yield place, scores


def test_greedy_answers_of_a_run_are_those_of_the_cpu(on_cpu, exact_products, tmp_path, measured):
    theirs = texts(of_cpu(on_cpu, "answers.jsonl"))
    ours = texts(answer(on_cpu / "toy-float32", tmp_path / "answers.jsonl"))
    measured(answers=len(ours), different=sum(ours[one] != theirs[one] for one in theirs))
    assert ours == theirs


def test_greedy_answers_with_the_products_of_the_card_differ_in_few_rows(on_cpu, tmp_path, measured):
    theirs = texts(of_cpu(on_cpu, "answers.jsonl"))
    ours = texts(answer(on_cpu / "toy-float32", tmp_path / "answers.jsonl"))
    different = sum(ours[one] != theirs[one] for one in theirs)
    measured(answers=len(ours), different=different)
    assert different <= 0.25 * len(theirs)


def test_label_scores_are_those_of_the_cpu(on_cpu, exact_products, tmp_path, measured):
    theirs = {row["id"]: row for row in of_cpu(on_cpu, "labels.jsonl")}
    ours = {row["id"]: row for row in answer(on_cpu / "toy-float32", tmp_path / "labels.jsonl", "--score-labels")}
    assert ours.keys() == theirs.keys()
    apart = []
    for one, row in theirs.items():
        there, here = (dict(numbers(side["label_log_probabilities"])) for side in (row, ours[one]))
        assert here.keys() == there.keys()
        apart += [abs(here[place] - there[place]) for place in there]
    measured(rows=len(ours), scores=len(apart), worst=max(apart))
    assert max(apart) < 1e-3


@pytest.mark.parametrize("name", BARTS)
def test_beam_search_writes_the_targets_of_the_cpu(name, on_cpu, exact_products, measured):
    with np.load(finished(on_cpu, "scores") / "scores.npz") as arrays:
        tokens, scores = (arrays[f"beams {name} {key}"] for key in ("tokens", "scores"))
    ours = beams(name)
    measured(worst_score=float(np.max(np.abs(ours["scores"] - scores))))
    np.testing.assert_allclose(ours["scores"], scores, atol=1e-4, rtol=1e-4)
    np.testing.assert_array_equal(ours["tokens"], tokens)


@pytest.mark.parametrize(
    ("name", "compute"),
    [
        *((f"bart {name}", bart_scores) for name in BARTS),
        *((f"bert {one.name}", bert_scores) for one in BERTS.iterdir()),
    ],
)
def test_scores_of_explanations_are_those_of_the_cpu(name, compute, on_cpu, exact_products, measured):
    with np.load(finished(on_cpu, "scores") / "scores.npz") as arrays:
        theirs = arrays[name]
    ours = compute(name.partition(" ")[2])
    measured(worst=float(np.max(np.abs(ours - theirs))))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
