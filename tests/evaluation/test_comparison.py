"""`mentallama compare`: what is matched, tested, corrected and written, and what is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from mentallama_jax.cli.compare_command import named_system
from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.comparison import compare_systems
from mentallama_jax.evaluation.comparison_report import standing_tables
from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.pair_metrics import Figure
from mentallama_jax.evaluation.row_matching import SeedAnswers, System
from mentallama_jax.evaluation.schema import COMPARISON_FIELDS
from mentallama_jax.evaluation.score_store import ScoredRows
from mentallama_jax.evaluation.statistics.paired_tests import ExchangeSettings, holm
from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.jobs.compare import compare
from mentallama_jax.jobs.score import score

READER = "templates+words"
SETTINGS = ExchangeSettings(draws=300)
POSTS = 40


def answers(right, dataset="DR", rows=1):
    """Answers of which some are right: of the gold yes, no, yes, no ..."""
    found = []
    for number in range(POSTS):
        gold, other = ("yes", "no") if number % 2 else ("no", "yes")
        text = gold if number in right else other
        found.append(
            Prediction(
                id=f"{dataset}/{number}", dataset=dataset, post_id=f"post {number // rows}", label=gold,
                goldens=f"{gold.capitalize()}. Reasoning: the post says so in {number} words.",
                generated_text=f"{text.capitalize()}. Reasoning: the post says it in {len(right)} words.",
            )
        )  # fmt: skip
    return found


def system(name, *seeds):
    def given(rows, number):
        file = f"{name}{number}.jsonl"
        return SeedAnswers(file, Predictions(tuple(rows), ({"file": file, "sha256": "0"},), None, "gold", True))

    return System(name, tuple(given(rows, number) for number, rows in enumerate(seeds)))


def compared(*systems, **how):
    return compare_systems(systems, reader=READER, settings=SETTINGS, **how)


def of(comparison, metric="accuracy", dataset="DR", pair=("good", "bad")):
    (found,) = (
        each
        for each in comparison.differences
        if (each.metric, each.dataset, (each.first, each.second)) == (metric, dataset, pair)
    )
    return found


GOOD, BAD = set(range(36)), set(range(20)) | {38, 39}


def test_figures_are_those_of_evaluate_and_rows_are_paired_by_id():
    good, bad = answers(GOOD), answers(BAD)
    found = compared(system("good", good), system("bad", list(reversed(bad))))
    for metric in ("accuracy", "weighted_f1", "macro_f1"):
        expected = [
            getattr(evaluate(system("x", rows).seeds[0].predictions, reader=READER, settings=SETTINGS).pooled, metric)
            for rows in (good, bad)
        ]
        difference = of(found, metric)
        assert (difference.first_value, difference.second_value) == pytest.approx(tuple(expected))
        assert difference.difference == pytest.approx(expected[0] - expected[1])
        assert difference.interval[0] < difference.difference < difference.interval[1]
    # One row a post: McNemar, of 16 rows that the first alone has right and 2 that the second has.
    assert of(found).test == "mcnemar"
    assert of(found).p == pytest.approx(binomtest(2, 18).pvalue)
    assert of(found, "weighted_f1").test == "exchange, drawn"
    assert (of(found).rows, of(found).posts, of(found).icc) == (POSTS, POSTS, None)


def test_rows_of_one_post_are_no_independent_rows():
    good, bad = answers(GOOD, rows=4), answers(BAD, rows=4)
    found = of(compared(system("good", good), system("bad", bad)))
    assert (found.test, found.posts) == ("exchange, all", 10)
    assert found.p > binomtest(2, 18).pvalue
    assert found.icc > 0.5
    assert found.design_effect == pytest.approx(1 + 3 * found.icc)
    assert "10 posts are few" in found.warning


def test_the_best_and_those_that_cannot_be_distinguished_from_it_after_holm():
    systems = [system("bad", answers(BAD)), system("good", answers(GOOD)), system("also", answers(GOOD - {0}))]
    found = compared(*systems)
    (standing,) = (each for each in found.standings if each.metric == "accuracy")
    assert (standing.best, standing.not_distinguished) == ("good", ["good", "also"])
    family = [each for each in found.differences if each.metric == "accuracy"]
    assert [(each.first, each.second) for each in family] == [("bad", "good"), ("bad", "also"), ("good", "also")]
    assert [each.p_holm for each in family] == pytest.approx(holm([each.p for each in family]))
    assert family[2].posts_needed > family[0].posts_needed
    assert family[2].minimum_detectable > abs(family[2].difference)


def test_holm_is_over_data_sets_and_the_pool_is_a_family_of_its_own():
    good, bad = ([*answers(right), *answers(right, "dreaddit")] for right in (GOOD, BAD))
    found = compared(system("good", good), system("bad", bad))
    assert of(found).p_holm == pytest.approx(2 * of(found).p)
    assert of(found, dataset="pooled").p_holm == of(found, dataset="pooled").p
    # The posts of two data sets that have one name are one post.
    assert of(found, dataset="pooled").posts == POSTS


def test_seeds_of_a_system_are_one_system_whose_seeds_vary():
    seeds = [answers(set(range(count))) for count in (30, 33, 36)]
    found = of(compared(system("good", *seeds), system("bad", answers(BAD))))
    assert found.test == "t over posts and seeds"
    assert found.first_value == pytest.approx(33 / POSTS)
    assert found.seed_variance == pytest.approx(np.var([30 / 40, 33 / 40, 36 / 40], ddof=1) / 3)
    assert found.post_variance > 0
    assert 0 < found.p < 0.05


def test_where_seeds_hide_the_difference_no_number_of_posts_is_needed():
    apart = [answers(set(range(count))) for count in (20, 40)]
    found = of(compared(system("good", *apart), system("bad", answers(set(range(28))))))
    assert found.p > 0.5
    assert found.posts_needed is None
    alike = [answers(set(range(count))) for count in (36, 36)]
    found = of(compared(system("good", *alike), system("bad", answers(BAD))))
    assert found.seed_variance == 0
    assert found.posts_needed < POSTS


def test_other_rows_are_refused_or_left_out_and_counted():
    good, bad = answers(GOOD), answers(BAD)
    with pytest.raises(UserError, match=r"1 row, such as 'DR/0', are in others and not in bad0.jsonl.*--matched-only"):
        compared(system("good", good), system("bad", bad[1:]))
    found = compared(system("good", good), system("bad", bad[1:]), matched_only=True)
    assert found.left_out == {"good0.jsonl": 1}
    assert of(found).rows == POSTS - 1
    with pytest.raises(UserError, match="the gold of 1 row, such as 'DR/0', differs"):
        compared(system("good", good), system("bad", [replace(bad[0], label="yes"), *bad[1:]]))
    with pytest.raises(UserError, match="have no row in common"):
        compared(system("good", good), system("bad", answers(BAD, "dreaddit")), matched_only=True)


def test_answers_that_are_the_same_do_not_differ():
    found = of(compared(system("good", answers(GOOD)), system("bad", answers(GOOD))))
    assert (found.difference, found.p, found.posts_needed, found.minimum_detectable) == (0, 1, None, None)
    assert found.interval[0] < 0 < found.interval[1]


def write(path, rows):
    path.write_text("".join(row.to_line() for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path):
    return [write(tmp_path / f"{name}.jsonl", answers(right)) for name, right in (("good", GOOD), ("bad", BAD))]


def test_the_command_writes_and_shows_what_is_documented(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    seeds = ",".join(str(file) for file in files)
    for out in ("a", "b"):
        assert main(["compare", *map(str, files), "--system", f"mixed={seeds}", "--out", str(tmp_path / out)]) == 0
    assert (tmp_path / "a/comparison.json").read_bytes() == (tmp_path / "b/comparison.json").read_bytes()
    written = json.loads((tmp_path / "a/comparison.json").read_text())
    assert list(written) == list(COMPARISON_FIELDS)
    for key in ("standings", "differences"):
        assert all(list(each) == list(COMPARISON_FIELDS[key]) for each in written[key])
    assert written["signature"]["settings"]["draws"] == 5000
    assert [seed["predictions"][0]["file"] for seed in written["systems"]["mixed"]] == list(map(str, files))
    printed = capsys.readouterr().out
    tables = printed.partition("= not distinguished")[0]
    assert max(map(len, tables.splitlines())) <= 80
    assert "good less bad, in points" in tables
    assert "90.0 =" in tables


def test_scores_by_row_of_folders_are_compared(files, tmp_path):
    for file in files:
        score([file], tmp_path / "scores" / file.stem, metrics=["rouge"])
    folders = {file.stem: [tmp_path / "scores" / file.stem] for file in files}
    found = compare(folders, tmp_path / "out", draws=200).comparison
    metric = "rouge1 (explanation)"
    scores = [json.loads((folders[name][0] / "scores.json").read_text()) for name in ("good", "bad")]
    means = [each["explanations"]["pooled"]["explanation"]["metrics"]["rouge1"]["mean"] for each in scores]
    assert of(found, metric).difference == pytest.approx(means[0] - means[1])
    assert found.units[metric] == "share"
    again = compare({file.stem: [file] for file in files}, tmp_path / "new", metrics=["rouge"], draws=200).comparison
    assert of(again, metric) == of(found, metric)
    files[0].write_text(files[0].read_text() + "\n")
    with pytest.raises(UserError, match=r"good\.jsonl: was changed after"):
        compare(folders, tmp_path / "out")


def test_scores_are_compared_where_they_were_moved_with_their_predictions(files, tmp_path):
    old = tmp_path / "old"
    (old / "predictions").mkdir(parents=True)
    for file in files:
        file.rename(old / "predictions" / file.name)
        score([old / "predictions" / file.name], old / "scores" / file.stem, metrics=["rouge"])
    new = tmp_path / "new"
    old.rename(new)
    folders = {file.stem: [new / "scores" / file.stem] for file in files}
    assert compare(folders, tmp_path / "out", draws=200).comparison.units["rouge1 (explanation)"] == "share"
    good = new / "predictions" / files[0].name
    good.write_text(good.read_text() + "\n")
    with pytest.raises(UserError, match=r"was made of '.*good\.jsonl', which is not there"):
        compare(folders, tmp_path / "out")


def test_wrong_use_is_told(files, tmp_path, capsys):
    good = str(files[0])
    seeds = ["--system", f"good={','.join(map(str, files))}"]
    for arguments, said in (
        ([good], "two systems or more"),
        ([good, good], "good.jsonl: given twice"),
        ([good, *seeds], "two systems are called good"),
        (["--system", f"a={good}", "--system", f"b={good}"], "good.jsonl: given twice"),
        ([good, "--system", f"b={good},{good}"], "good.jsonl: given twice"),
        ([*map(str, files), "--draws", "5"], "--draws must be 100 or more"),
        ([*map(str, files), "--confidence", "95"], "--confidence must be between"),
        ([*map(str, files), "--reader", "classifier"], "go together"),
    ):
        assert main(["compare", *arguments, "--out", str(tmp_path / "out")]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["compare", good, "--system", "nameless", "--out", str(tmp_path / "out")])
    assert "expected NAME=FILE" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_files_of_a_named_system_expand_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    name, places = named_system("tuned=~/a.jsonl,b.jsonl")
    assert (name, [str(place) for place in places]) == ("tuned", ["/home/somebody/a.jsonl", "b.jsonl"])


def test_metrics_that_were_computed_in_different_ways_are_refused():
    def scored(name, right, signature):
        (seed,) = system(name, answers(right)).seeds
        scores = {("response", row.id): float(number in right) for number, row in enumerate(answers(right))}
        return System(name, (replace(seed, scored=ScoredRows({"lm": Figure("lm", signature)}, {"lm": scores})),))

    found = compared(scored("good", GOOD, "v1"), scored("bad", BAD, "v1"))
    assert of(found, "lm (response)").difference == pytest.approx(of(found).difference)
    with pytest.raises(UserError, match=r"lm of good0.jsonl and of bad0.jsonl was computed in different ways"):
        compared(scored("good", GOOD, "v1"), scored("bad", BAD, "v2"))


FIGURES = [
    Figure("lm", "v1", "nats", (-math.inf, 0.0)),
    Figure("bertscore_f1", "v1, rescaled", "share", (-math.inf, 1.0)),
    Figure("embedding", "v1", "share", (-1.0, 1.0)),
]


@pytest.mark.parametrize("values", [(-0.25, -0.5), (-2.5, -1.5), (-0.9, -0.9)])
@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_the_unit_of_a_metric_is_what_it_says_whatever_its_values_are(figure, values):
    def scored(name, low):
        (seed,) = system(name, answers(GOOD)).seeds
        scores = {("response", row.id): low + number / 1000 for number, row in enumerate(answers(GOOD))}
        return System(name, (replace(seed, scored=ScoredRows({figure.name: figure}, {figure.name: scores})),))

    found = compared(*(scored(name, low) for name, low in zip(("good", "bad"), values, strict=True)))
    metric = f"{figure.name} (response)"
    assert found.units == {"accuracy": "share", "weighted_f1": "share", "macro_f1": "share", metric: figure.unit}
    (standing,) = (each for each in found.standings if each.metric == metric)
    mean = standing.values["good"][0]
    (table,) = standing_tables(found)
    shown = [cell.strip(" =") for cell in table.columns[1].cells]
    assert (f"{100 * mean:z.1f}" if figure.unit == "share" else f"{mean:z.2f}") in shown
    assert ("nats" in table.title) == (figure.unit == "nats")
    # Nothing differs from post to post: an interval has ends where the metric has bounds.
    assert (of(found, metric).interval is None) == (figure.bounds[0] == -math.inf)


def test_labels_may_be_read_by_any_reader():
    def always_yes(text, task, aspect):
        return "yes"

    systems = system("good", answers(GOOD)), system("bad", answers(BAD))
    found = compare_systems(systems, reader=always_yes, settings=SETTINGS)
    assert (of(found).first_value, of(found).difference, found.signature["reader"]) == (0.5, 0, "always_yes")
