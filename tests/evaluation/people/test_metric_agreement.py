"""Agreement of metrics with people: the figures are those of scipy on the same rows, made ones and released ones."""

import csv
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.schema import AGREEMENT_FIELDS
from mentallama_jax.imhi.data_files.annotations import CRITERIA, read_annotations
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.records import post_id
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.imhi.wording import instruction_response
from mentallama_jax.jobs.agree import Agreed, agree
from mentallama_jax.jobs.metric_models import MetricModels

WITHIN = 1e-6

Marks = dict[str, np.ndarray]
"""Criterion -> marks [rows, annotators], NaN where there is none."""


def written(folder: Path, rows: int = 40, garbled: bool = False) -> list[Path]:
    """Annotated files of two models that answered the same posts, with some marks missing, and records with gold."""
    generator = np.random.default_rng(11)
    words = [first + middle + last for first in "bdfgl" for middle in ("a", "ea", "oo") for last in "dmnrst"]
    posts = [" ".join(generator.choice(words, size=25)) + f" {number} it’s so" for number in range(rows)]
    golds = [" ".join(generator.choice(words, size=12)) for _ in posts]
    folder.mkdir(exist_ok=True)
    paths = []
    for model in ("first-model", "second-model"):
        path = folder / f"{model}.csv"
        with path.open("w", encoding="utf-8-sig", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\r\n")
            writer.writerow(["text", "label", model, *CRITERIA])
            for number, (post, gold) in enumerate(zip(posts, golds, strict=True)):
                kept = int(generator.integers(0, 13))
                said = "Yes" if number % 2 else "No"
                answer = f"{said}, because " + " ".join(gold.split()[:kept])
                marks = [
                    [
                        None if generator.random() < 0.1 else int(np.clip(kept // 4 + generator.integers(-1, 2), 0, 3))
                        for _ in range(3)
                    ]
                    for _ in CRITERIA
                ]
                text = post.replace("’s", "鈥檚") if garbled else post
                writer.writerow([text, number % 3 % 2, answer, *map(str, marks)])
        paths.append(path)
    records = [
        {
            "dataset": "DR",
            "post": post,
            "label": "no" if number % 3 % 2 == 0 else "yes",
            "explanation": gold,
            "split": "test",
        }
        for number, (post, gold) in enumerate(zip(posts, golds, strict=True))
    ]
    data = folder / "gold.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return [*paths, data]


def by_scipy(score: np.ndarray, marks: np.ndarray) -> dict[str, dict[str, float]]:
    """The correlations of a score, and of people, with people: every step by numpy and scipy."""

    def mean(values: np.ndarray) -> np.ndarray:
        known = ~np.isnan(values)
        return np.where(known.any(axis=1), np.nansum(values, axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)

    def both(one: np.ndarray, two: np.ndarray) -> tuple[float, float]:
        kept = ~np.isnan(one) & ~np.isnan(two)
        return stats.spearmanr(one[kept], two[kept])[0], stats.kendalltau(one[kept], two[kept])[0]

    others = [mean(np.delete(marks, one, axis=1)) for one in range(3)]
    marked = [~np.isnan(marks[:, one]) for one in range(3)]
    found = {
        "with_mean": both(score, mean(marks)),
        "with_others": np.mean(
            [both(score[kept], other[kept]) for kept, other in zip(marked, others, strict=True)], axis=0
        ),
        "ceiling": np.mean([both(marks[:, one], others[one]) for one in range(3)], axis=0),
        "pairwise": np.mean([both(marks[:, one], marks[:, two]) for one, two in combinations(range(3), 2)], axis=0),
    }
    return {name: {"spearman": float(pair[0]), "kendall": float(pair[1])} for name, pair in found.items()}


def check(agreed: Agreed, scores: dict[str, np.ndarray], marks: Marks) -> None:
    """Compare every correlation of the file with scipy's."""
    found: dict[str, Any] = json.loads(agreed.path.read_text("utf-8"))
    for criterion, own in found["criteria"].items():
        assert set(own["metrics"]) == set(scores)
        for metric, figures in own["metrics"].items():
            wanted = by_scipy(scores[metric], marks[criterion])
            of_people = {"pairwise": own["pairwise"], "ceiling": own["ceiling"]}
            for name, correlation in {
                **of_people,
                **{key: figures[key] for key in ("with_mean", "with_others")},
            }.items():
                for kind, value in wanted[name].items():
                    assert correlation[kind]["value"] == pytest.approx(value, abs=WITHIN), (criterion, metric, name)
                    low, high = correlation[kind]["interval"]
                    assert low < value < high
            if figures["to_length"] is not None:
                length = by_scipy(scores["words"], marks[criterion])["with_mean"]["spearman"]
                difference = wanted["with_mean"]["spearman"] - length
                assert figures["to_length"]["value"] == pytest.approx(difference, abs=WITHIN)
            to_ceiling = wanted["with_others"]["spearman"] - wanted["ceiling"]["spearman"]
            assert figures["to_ceiling"]["value"] == pytest.approx(to_ceiling, abs=WITHIN)


def rouge_and_chrf(outputs: list[str], references: list[str]) -> dict[str, np.ndarray]:
    """The scores of the libraries."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import CHRF

    kinds = ("rouge1", "rouge2", "rougeL")
    scorer, chrf = RougeScorer(list(kinds)), CHRF()
    pairs = list(zip(outputs, references, strict=True))
    rouge = [scorer.score(reference, output) for output, reference in pairs]
    found = {kind: np.array([each[kind].fmeasure for each in rouge]) for kind in kinds}
    return found | {"chrf": np.array([chrf.sentence_score(output, [reference]).score for output, reference in pairs])}


def of_files(paths: list[Path], data: list[str]) -> tuple[dict[str, np.ndarray], Marks]:
    """Scores and marks by hand, in the order of the files."""
    rows = [row for path in paths for row in read_annotations(path)[0]]
    golds = {record.post_id: instruction_response(record) for record in read_records(data).records}
    outputs, task = [row.explanation.strip() for row in rows], TASKS["DR"]
    scores = rouge_and_chrf(outputs, [golds[post_id(row.post)] for row in rows])
    scores["words"] = np.array([len(output.split()) for output in outputs], dtype=float)
    scores["label_correct"] = np.array([float(read_label(row.explanation, task) == row.label) for row in rows])
    marks = {name: np.array([row.marks[name] for row in rows], dtype=float) for name in CRITERIA}
    return scores, marks


def test_all_correlations_are_those_of_scipy(tmp_path: Path) -> None:
    *paths, data = written(tmp_path / "marks")
    models = MetricModels(data=[str(data)])
    agreed = agree(paths, tmp_path / "out", metrics=["rouge", "chrf"], metric_models=models)
    check(agreed, *of_files(paths, [str(data)]))
    found = agreed.found
    assert (found.rows, found.posts, list(found.systems)) == (80, 40, ["first-model", "second-model"])
    assert found.criteria["overall"].missing > 10
    marked = [row for row in agreed.marks.rows if any(mark is not None for mark in row.marks["overall"])]
    own = sum(row.system == "first-model" for row in marked)
    assert found.systems["first-model"].within["overall"]["chrf"].rows == own
    again = agree(paths, tmp_path / "again", metrics=["rouge", "chrf"], metric_models=models)
    assert again.path.read_bytes() == agreed.path.read_bytes()


def test_intervals_are_over_posts_not_over_answers(tmp_path: Path) -> None:
    """Two equal files are twice the answers, and not a bit more to know."""
    path, _, _ = written(tmp_path / "marks")
    twin = tmp_path / "twin.csv"
    twin.write_text(path.read_text("utf-8").replace("first-model", "twin"), "utf-8")
    one = agree([path], tmp_path / "one").found.criteria["overall"].metrics["words"].with_mean
    two = agree([path, twin], tmp_path / "two").found.criteria["overall"].metrics["words"].with_mean
    assert (two.rows, two.posts) == (2 * one.rows, one.posts)
    assert one.spearman is not None
    assert two.spearman is not None
    assert two.spearman.value == pytest.approx(one.spearman.value)
    assert two.spearman.interval == pytest.approx(one.spearman.interval)


def test_garbled_posts_find_their_gold_by_their_words(tmp_path: Path) -> None:
    *paths, data = written(tmp_path / "marks", garbled=True)
    agreed = agree(paths, tmp_path / "out", metric_models=MetricModels(data=[str(data)]))
    assert agreed.matches is not None
    assert (agreed.matches.exact, agreed.matches.alike, agreed.matches.none) == (0, 80, 0)
    assert agreed.found.posts == 40
    golds = [record.post for record in read_records([str(data)]).records]
    for row in agreed.marks.rows:
        assert row.post.replace("鈥檚", "’s") == golds[int(row.answer.id.rpartition("/")[2]) - 1]


def test_metrics_without_gold_say_what_is_missing(tmp_path: Path) -> None:
    *paths, _ = written(tmp_path / "marks")
    with pytest.raises(UserError, match="no answer has a gold to compare it with; name records with gold by --data"):
        agree(paths, tmp_path / "out", metrics=["chrf"])
    found = agree(paths, tmp_path / "out", metrics=["chrf"], against=["post"]).found
    assert list(found.criteria["overall"].metrics) == ["words", "label_correct", "chrf:post"]


def test_a_score_that_is_the_same_in_all_rows_has_no_figure(tmp_path: Path) -> None:
    path, *_ = written(tmp_path / "marks")
    rows = list(csv.reader(path.read_text("utf-8-sig").splitlines()))
    for row in rows[1:]:
        row[2], row[6] = "So it is.", "[1, 1, 1]"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    found = agree([path], tmp_path / "out").found
    assert found.criteria["overall"].alpha is None
    assert found.criteria["overall"].ceiling.spearman is None
    assert found.criteria["fluency"].metrics["words"].with_mean.spearman is None


def test_bad_rows_are_named_and_counted_and_no_post_is_quoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, *_ = written(tmp_path / "marks")
    text = path.read_text("utf-8-sig")
    broken = text.replace("[", "[9, ", 1)
    path.write_text(broken, "utf-8")
    assert main(["agree", str(path), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert f"{path}, row 1: fluency is not a list of 3 marks from 0 to 3" in printed
    assert "1 rows of marks cannot be read" in printed
    out = (tmp_path / "out" / "human_agreement.json").read_text("utf-8")
    assert not any(row[0][:40] in printed + out for row in list(csv.reader(text.splitlines()))[1:])
    assert main(["agree", str(path), "--out", str(tmp_path / "out"), "--strict"]) == 2
    assert "row 1" in capsys.readouterr().err


def test_every_key_of_the_file_is_documented(tmp_path: Path) -> None:
    *paths, data = written(tmp_path / "marks")
    agreed = agree(paths, tmp_path / "out", metric_models=MetricModels(data=[str(data)]))
    found = json.loads(agreed.path.read_text("utf-8"))
    assert set(found) == set(AGREEMENT_FIELDS)
    assert set(found["criteria"]["overall"]) == set(AGREEMENT_FIELDS["criteria"])
    assert set(found["criteria"]["overall"]["metrics"]["words"]) == {
        word
        for word in ("with_mean", "with_others", "ceiling", "to_ceiling", "to_length")
        if word in AGREEMENT_FIELDS["criteria"]["metrics"]
    }
    assert set(found["systems"]["first-model"]) == set(AGREEMENT_FIELDS["systems"])
    assert set(found["signature"]) == set(AGREEMENT_FIELDS["signature"])


def test_the_released_marks(imhi_release: Path, tmp_path: Path) -> None:
    """Every figure on the released marks is that of scipy; all posts are found in the test set."""
    folder = imhi_release / "human_evaluation" / "DR_annotation"
    test = str(imhi_release / "test_data" / "test_instruction" / "DR.csv")
    models = MetricModels(data=[test])
    agreed = agree([folder], tmp_path / "out", metrics=["rouge", "chrf"], metric_models=models)
    assert agreed.matches is not None
    assert agreed.matches.none == 0
    rows = agreed.marks.rows
    outputs = [row.answer.generated_text.strip() for row in rows]
    scores = rouge_and_chrf(outputs, [row.answer.goldens.strip() for row in rows])
    scores["words"] = np.array([len(output.split()) for output in outputs], dtype=float)
    read = [read_label(row.answer.generated_text, TASKS["DR"]) == row.answer.label for row in rows]
    scores["label_correct"] = np.array(read, dtype=float)
    check(agreed, scores, {name: np.array([row.marks[name] for row in rows], dtype=float) for name in CRITERIA})
    if len(rows) == 121:
        overall = agreed.found.criteria["overall"]
        assert overall.alpha is not None
        assert overall.metrics["rouge1"].with_mean.spearman is not None
        assert overall.alpha.value == pytest.approx(0.58, abs=0.01)
        assert overall.metrics["rouge1"].with_mean.spearman.value == pytest.approx(0.79, abs=0.01)
