"""Scores of predictions from Python: files, rows in memory and data frames give the same figures."""

import json
import sys
from pathlib import Path

import pandas
import pytest

import mentallama_jax as mj
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.schema import SCHEMA_VERSION

ROWS = [
    {"id": f"r{number}", "answer": gold, "output": f"{said}, it is so. Reasoning: a grey day {number}.",
     "post_id": f"p{number}"}
    for number, (gold, said) in enumerate([("yes", "Yes"), ("no", "No"), ("no", "Yes"), ("yes", "Hm"), ("no", "No")])
]  # fmt: skip
COLUMNS = {"gold": "answer", "text": "output"}


def figures(found: object) -> dict:
    scores = dict(found.scores)  # type: ignore[attr-defined]
    return {key: value for key, value in scores.items() if key != "signature"}


def test_rows_in_memory_score_as_a_file_of_them(tmp_path: Path) -> None:
    file = tmp_path / "theirs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    of_file = mj.evaluate(file, columns=COLUMNS, dataset="DR")
    for given in (ROWS, iter(ROWS), pandas.DataFrame(ROWS)):
        of_rows = mj.evaluate(given, columns=COLUMNS, dataset="DR")
        assert figures(of_rows) == figures(of_file)
        assert of_rows.scores["signature"]["predictions"][0]["file"] == "rows in memory"
    assert of_file.scores["schema_version"] == SCHEMA_VERSION
    assert of_file.scores["pooled"]["n"] == 5
    assert of_file.paths == ()


def test_one_of_what_may_be_several_is_given_alone() -> None:
    alone = mj.evaluate(ROWS, columns=COLUMNS, dataset="DR", metrics="chrf")
    several = mj.evaluate(ROWS, columns=COLUMNS, dataset="DR", metrics=["chrf"])
    assert figures(alone) == figures(several)
    with pytest.raises(UserError, match="row 'r0': its post is not in"):
        mj.evaluate(ROWS, columns=COLUMNS, dataset="DR", data="sample:test")


def test_files_are_written_where_a_folder_is_named(tmp_path: Path) -> None:
    found = mj.evaluate(ROWS, columns=COLUMNS, dataset="DR", out=tmp_path / "scores")
    assert found.paths[0] == tmp_path / "scores" / "scores.json"
    assert json.loads(found.paths[0].read_text()) == found.scores
    assert (tmp_path / "scores" / "report.html").read_text() == found.to_html()
    assert found.to_html().startswith("<!DOCTYPE html>")


def test_figures_are_shown_as_a_frame_and_in_a_notebook() -> None:
    found = mj.evaluate(ROWS, columns=COLUMNS, dataset="DR")
    frame = found.to_pandas()
    assert list(frame.index) == ["DR", "pooled"]
    assert frame.index.name == "data set"
    summary = found.scores["datasets"]["DR"]
    assert frame.loc["DR", "weighted_f1"] == summary["weighted_f1"]
    assert [frame.loc["DR", "accuracy_low"], frame.loc["DR", "accuracy_high"]] == summary["accuracy_interval"]
    assert frame.loc["DR", "unparsed"] == 1
    assert repr(found).startswith(f"<Evaluation of 5 rows (DR): weighted F1 {summary['weighted_f1']:.3f} (")
    assert f"<td>{summary['accuracy']:.3f}</td>" in found._repr_html_()


def test_pandas_is_asked_for_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = mj.evaluate(ROWS, columns=COLUMNS, dataset="DR")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        found.to_pandas()


def test_empty_cells_of_a_frame_are_no_text() -> None:
    frame = pandas.DataFrame([*ROWS, {"id": "r9", "answer": "yes", "post_id": "p9"}])
    found = mj.evaluate(frame, columns=COLUMNS, dataset="DR")
    assert found.scores["pooled"]["n"] == 6
    assert found.scores["pooled"]["unparsed"] == 2


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        (3, {}, "give a file, a folder, a data frame or rows, not int"),
        ({"a": 1}, {}, "not dict"),
        ([], {}, "there are none"),
        ([3], {}, "row 1 is no mapping of columns to cells, but int"),
        (ROWS, {"columns": {"golds": "answer"}}, "columns: 'golds' is nothing that a column is for"),
        (ROWS, {"columns": COLUMNS, "reader": "magic"}, "there is no 'magic'"),
        (ROWS, {"columns": {"filter": "x"}}, "a filter says nothing"),
        ([{**ROWS[0], "answer": "zanzibar is a place"}], {"columns": COLUMNS, "dataset": "DR"}, "none can be scored"),
        ("gone.jsonl", {}, "no such file"),
    ],
    ids=["number", "mapping", "none", "numbers", "role", "reader", "filter", "gold", "gone"],
)
def test_what_cannot_be_scored_is_refused_and_not_quoted(given, more: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        mj.evaluate(given, **more)
    assert "zanzibar" not in str(caught.value)
