"""Predictions of several seeds, scored as one."""

import argparse
import json

import pytest

from mentallama_jax.cli import evaluate_command as command
from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.reading import Predictions, pool
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.imhi.predictions import Prediction


def predictions(name: str, answers: list[str]) -> Predictions:
    """Twelve posts, alternately gold yes and no."""
    rows = tuple(
        Prediction(
            id=f"DR/test/{i}",
            dataset="DR",
            post_id=f"post{i}",
            label=("yes", "no")[i % 2],
            generated_text=answer,
        )
        for i, answer in enumerate(answers)
    )
    return Predictions(rows, ({"file": name, "sha256": name},), {"seed": name}, "label of each row", True)


def scores(parts: list[Predictions]):
    return evaluate(pool(parts), reader="templates+words", settings=IntervalSettings())


def test_pooled_counts_are_the_sum_and_posts_stay_one() -> None:
    right = ["Yes.", "No."] * 6
    wrong = [*right[:9], "Yes.", "Yes.", "Yes."]
    pooled = scores([predictions("a", right), predictions("b", wrong)]).pooled
    assert (pooled.n, pooled.posts) == (24, 12)
    assert pooled.accuracy == pytest.approx(22 / 24)


def test_repeating_the_same_answers_does_not_narrow_the_interval() -> None:
    answers = ["Yes."] * 12
    once, thrice = (scores([predictions(str(k), answers) for k in range(times)]).pooled for times in (1, 3))
    assert once.weighted_f1_interval == pytest.approx(thrice.weighted_f1_interval)
    assert once.weighted_f1 == pytest.approx(thrice.weighted_f1)


def test_one_part_is_itself_and_several_keep_their_signatures() -> None:
    first, second = predictions("a", ["Yes."]), predictions("b", ["Yes."])
    assert pool([first]) is first
    both = pool([first, second])
    assert [file["file"] for file in both.files] == ["a", "b"]
    assert both.generation == {"pooled": [{"seed": "a"}, {"seed": "b"}]}
    assert len({row.id for row in both.rows}) == 2


def test_the_command_pools(tmp_path) -> None:
    files = []
    for name in ("a.jsonl", "b.jsonl"):
        row = {"id": "1", "dataset": "DR", "post_id": "p", "label": "yes", "generated_text": "Yes.", "aspect": ""}
        (tmp_path / name).write_text(json.dumps(row) + "\n", encoding="utf-8")
        files.append(str(tmp_path / name))

    def run(*more: str) -> int:
        parser = argparse.ArgumentParser()
        command.add_parser(parser.add_subparsers())
        options = parser.parse_args(["evaluate", *files, "--out", str(tmp_path / "out"), *more])
        return options.run(options)

    assert run() == 0
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["pooled"]["n"] == 2
