"""Raw tables of posts and labels become records; what a label means is never guessed."""

import json
from pathlib import Path

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.build import build_records, match_label
from mentallama_jax.imhi.tasks import TASKS, task_named
from mentallama_jax.imhi.wording import completion_response, instruction_response


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_raw_table_becomes_instruction_and_completion_records(tmp_path: Path) -> None:
    path = table(tmp_path / "raw.csv", "post,label,explanation,note", "It is late.,1, Late hours. ,x", "Sunny.,No,,y")
    first, second = build_records(path, "Dreaddit", "validation").records
    assert instruction_response(first) == "Yes, the poster suffers from stress. Reasoning: Late hours."
    assert completion_response(first) == "yes. Reasoning: Late hours."
    assert instruction_response(second) == "No, the poster does not suffer from stress."
    assert completion_response(second) == "no."
    assert (first.id, first.split, first.source) == ("dreaddit/val/1", "val", f"{path}:1")


def test_aspects_come_from_the_column_or_the_call(tmp_path: Path) -> None:
    path = table(tmp_path / "raw.csv", "post,label,aspect", "p,1,Physical", "p,0,spiritual")
    assert [record.aspect for record in build_records(path, "MultiWD").records] == ["physical", "spiritual"]
    path = table(tmp_path / "plain.csv", "post,label", "p,1")
    (record,) = build_records(path, "IRF", aspect="perceived burdensomeness").records
    assert record.aspect == "perceived burdensomeness"
    with pytest.raises(UserError, match="column aspect is missing"):
        build_records(path, "IRF")
    with pytest.raises(UserError, match="'mood' is not an aspect of DR"):
        build_records(path, "DR", aspect="mood")


def test_numbers_and_truth_values_of_jsonl_are_labels_of_yes_no_data_sets(tmp_path: Path) -> None:
    rows = [{"post": "p", "label": label} for label in (1, True, 0, False, "yes")]
    path = table(tmp_path / "raw.jsonl", *(json.dumps(row) for row in rows))
    assert [record.label for record in build_records(path, "loneliness").records] == ["yes", "yes", "no", "no", "yes"]


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("SAD", "Emotion_Turmoil", "emotional turmoil"),
        ("SAD", "This post shows other stress causes.", "other causes"),
        ("SAD", "Health, Fatigue, or Physical Pain", "health issues"),
        ("T-SID", "PTSD", "ptsd"),
        ("T-SID", "control", "no mental disorders"),
        ("SWMH", "self.SuicideWatch", "suicide"),
        ("CAMS", "Jobs and Careers", "jobs and career"),
        ("CLP", " control ", "no"),
    ],
)
def test_labels_are_matched_by_name_and_alias(name: str, text: str, label: str) -> None:
    assert match_label(text, task_named(name)) == label


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_no_spelling_means_two_labels(task: object) -> None:
    for known in TASKS.values():
        spelled = [(text, label) for label, texts in known.label_aliases.items() for text in texts]
        spelled += [
            (text, label) for words in (known.sentences, known.completion_words) for label, text in words.items()
        ]
        spelled += [(label, label) for label in known.labels]
        for text, label in spelled:
            assert match_label(text, known) == label


@pytest.mark.parametrize(("name", "text"), [("SAD", "1"), ("T-SID", "0"), ("DR", "2"), ("DR", ""), ("CAMS", "works")])
def test_labels_without_a_meaning_are_refused(name: str, text: str) -> None:
    with pytest.raises(UserError, match="is not a label of"):
        match_label(text, task_named(name))


def test_bad_rows_and_bad_tables_are_named(tmp_path: Path) -> None:
    path = table(tmp_path / "raw.csv", "post,label", "p,1", ",1", "p,maybe", "p")
    result = build_records(path, "DR")
    assert len(result.records) == 1
    assert [(problem.row, problem.reason.split(" ")[0]) for problem in result.problems] == [
        (2, "the"),
        (3, "'maybe'"),
        (4, "1"),
    ]
    with pytest.raises(UserError, match="row 2: the post is empty"):
        build_records(path, "DR", strict=True)
    with pytest.raises(UserError, match="column label is missing"):
        build_records(table(tmp_path / "other.csv", "post,class", "p,1"), "DR")
    with pytest.raises(UserError, match="unknown data set"):
        build_records(path, "XY")
    with pytest.raises(UserError, match="unknown split"):
        build_records(path, "DR", "tset")
