"""Floors: probabilities by hand, beside scikit-learn itself, and the command from training rows to scores."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mentallama_jax.baselines.floors import QuestionModel, TextSettings, learn_majority, learn_text
from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS

DR, IRF = TASKS["DR"], TASKS["IRF"]
ALONE, BURDEN = IRF.aspects


def rows(task: str, posts: dict[str, str], aspect: str = "") -> list[Record]:
    """Records of posts with their labels."""
    return [
        Record(f"{task}{aspect}{n}", task, post, label, aspect=aspect) for n, (post, label) in enumerate(posts.items())
    ]


SAD_POSTS = {
    "I feel low and cry at night": "yes",
    "I feel low, nothing helps at all": "yes",
    "I cry at night and nothing helps": "yes",
    "the match was great fun": "no",
    "great fun at the lake today": "no",
}


def test_the_majority_is_that_of_the_training_rows_with_one_row_added_to_each_label() -> None:
    floor = learn_majority(DR, rows("DR", SAD_POSTS))
    found = floor.log_probabilities(rows("DR", {"great fun": "no", "x": "no"}))
    np.testing.assert_allclose(np.exp(found), [[4 / 7, 3 / 7]] * 2)
    with pytest.raises(UserError, match="DR: no training row"):
        learn_majority(DR, [])


def test_probabilities_are_those_of_scikit_learn() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text", reason="the extra baselines is not installed")
    linear = pytest.importorskip("sklearn.linear_model")
    train = rows("DR", SAD_POSTS)
    floor = learn_text(DR, train, settings=TextSettings((3.0,), "balanced"))
    asked = ["I cry and feel low", "fun at the lake", "Nichts davon"]
    words = text.TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    vectors = words.fit_transform(SAD_POSTS)
    model = linear.LogisticRegression(C=3.0, class_weight="balanced", max_iter=5000).fit(vectors, [*SAD_POSTS.values()])
    wanted = model.predict_proba(words.transform(asked))[:, [list(model.classes_).index(label) for label in DR.labels]]
    found = np.exp(floor.log_probabilities([Record(post, "DR", post) for post in asked]))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found.argmax(axis=1)[:2].tolist() == [0, 1]


def test_each_question_of_a_task_has_a_model_of_its_own() -> None:
    pytest.importorskip("sklearn", reason="the extra baselines is not installed")
    turned = {post: {"yes": "no", "no": "yes"}[label] for post, label in SAD_POSTS.items()}
    train = rows("IRF", SAD_POSTS, ALONE) + rows("IRF", turned, BURDEN)
    lines: list[str] = []
    floor = learn_text(IRF, train, on_question=lines.append)
    asked = [Record(aspect, "IRF", "I cry at night", aspect=aspect) for aspect in (BURDEN, ALONE, BURDEN)]
    assert [IRF.labels[place] for place in floor.log_probabilities(asked).argmax(axis=1)] == ["no", "yes", "no"]
    assert [line.partition(":")[0] for line in lines] == [f"IRF ({ALONE})", f"IRF ({BURDEN})"]
    with pytest.raises(UserError, match=f"IRF: no training row asks about {BURDEN}"):
        learn_text(IRF, rows("IRF", SAD_POSTS, ALONE)).log_probabilities(asked)


def test_a_label_without_training_rows_has_the_share_of_one_row() -> None:
    one = QuestionModel(DR, (9, 0), 1.0)
    np.testing.assert_allclose(np.exp(one.log_probabilities(["a", "b"])), [[0.9, 0.1]] * 2)
    assert one.log_probabilities([]).shape == (0, 2)


def test_validation_rows_choose_the_strength_the_smallest_of_equals() -> None:
    pytest.importorskip("sklearn", reason="the extra baselines is not installed")
    posts = {f"{word} again today {n}": label for n in range(6) for word, label in (("low", "yes"), ("fun", "no"))}
    posts |= {"today was low again": "yes", "again today it is": "yes", "again it was today": "yes"}
    validation = rows("DR", {"fun": "no", "low": "yes"})
    weak = learn_text(DR, rows("DR", posts), settings=TextSettings((1e-4,)))
    assert weak.log_probabilities(validation).argmax(axis=1).tolist() == [0, 0]  # the commonest label
    chosen = learn_text(DR, rows("DR", posts), validation, TextSettings((30.0, 1e-4, 10.0)))
    assert (chosen.models[""].strength, chosen.models[""].on_validation) == (10.0, 1.0)
    with pytest.raises(UserError, match="DR: no validation row chooses among 2 values of C"):
        learn_text(DR, rows("DR", posts), settings=TextSettings((1.0, 2.0)))


def test_scripts_without_blanks_are_read_by_characters() -> None:
    pytest.importorskip("sklearn", reason="the extra baselines is not installed")
    posts = {"昨日も眠れなかった": "yes", "また眠れない夜だ": "yes", "今日は楽しかった": "no", "楽しい一日だった": "no"}
    asked = [Record("a", "DR", "今夜も眠れない"), Record("b", "DR", "とても楽しい")]
    floor = learn_text(DR, rows("DR", posts), settings=TextSettings(units="characters"))
    assert floor.log_probabilities(asked).argmax(axis=1).tolist() == [0, 1]
    with pytest.raises(UserError, match="its 4 training posts share no two words; give more rows, or --units char"):
        learn_text(DR, rows("DR", posts))


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(UserError, match=r"^TF-IDF needs scikit-learn: pip install 'mentallama-jax\[baselines\]'$"):
        learn_text(DR, rows("DR", SAD_POSTS))


def run(tmp_path: Path, *words: str) -> list[Record]:
    out = tmp_path / "out.jsonl"
    assert main(["baseline", *words, "--train", "sample:train", "--data", "sample:test", "--out", str(out)]) == 0
    return read_predictions(out).rows


def test_the_command_answers_every_row_and_evaluate_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = run(tmp_path, "majority")
    test = read_records(["sample:test"]).records
    assert [row.id for row in found] == [record.id for record in test]
    counts: dict[str, Counter[str]] = {}
    for record in read_records(["sample:train"]).records:
        counts.setdefault(record.dataset, Counter())[record.label] += 1
    for row in found:
        commonest = max(row.task.labels, key=lambda label, name=row.dataset: counts[name][label])
        assert (row.generated_text, row.finish) == (row.task.sentences[commonest], "label")
    assert main(["evaluate", str(tmp_path / "out.jsonl"), "--out", str(tmp_path / "scores")]) == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores["pooled"]["unparsed"] == 0
    assert scores["calibration"]["datasets"]["DR"]["rows"] == sum(row.dataset == "DR" for row in found)
    meta = json.loads((tmp_path / "out.meta.json").read_text())
    assert (meta["model"], meta["mode"], meta["rows"]) == ("majority", "baseline", len(test))
    assert meta["learnt"]["DR"]["training_rows"] == {label: counts["DR"][label] for label in TASKS["DR"].labels}
    assert "next: mentallama evaluate" in capsys.readouterr().out


def test_tfidf_is_the_same_again_and_other_settings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("sklearn", reason="the extra baselines is not installed")
    words = ["tfidf", "--validation", "sample:val", "--strengths", "1", "10", "--datasets", "DR", "IRF"]
    first = run(tmp_path, *words)
    text = (tmp_path / "out.jsonl").read_bytes()
    assert run(tmp_path, *words) == first
    assert (tmp_path / "out.jsonl").read_bytes() == text
    learnt = json.loads((tmp_path / "out.meta.json").read_text())["learnt"]
    assert set(learnt["IRF"]) == set(IRF.aspects)
    assert learnt["DR"]["question"]["C"] in (1.0, 10.0)
    again = ["baseline", *words, "--class-weights", "balanced", "--train", "sample:train", "--data", "sample:test"]
    assert main([*again, "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "was begun with other settings (class_weights was none, is balanced" in capsys.readouterr().err
    (tmp_path / "out.jsonl").unlink()
    (tmp_path / "out.meta.json").unlink()
    assert run(tmp_path, *words) == first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["majority", "--train", "sample:test"], "--train: no row of split train (only test); name other files"),
        (["majority", "--train", "/nowhere"], "--train: /nowhere: no such file or folder"),
        (["tfidf", "--strengths", "1", "2"], "--strengths: --validation is needed to choose among 2 values"),
        (["tfidf", "--strengths", "0"], "--strengths: give numbers above 0"),
        (["tfidf", "--seed", "-1"], "--seed -1: give a whole number from 0"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], said: str) -> None:
    usual = {"--train": "sample:train", "--data": "sample:test", "--out": str(tmp_path / "x.jsonl")}
    given = [word for key, value in usual.items() if key not in words for word in (key, value)]
    assert main(["baseline", *words, *given]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.jsonl").exists()
