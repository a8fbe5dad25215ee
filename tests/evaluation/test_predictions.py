"""Reading predictions: both layouts, and one clear line for all that is wrong with them."""

import csv
import hashlib
import json

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.predictions import read_predictions

ROW = {
    "id": "DR/test/1",
    "dataset": "DR",
    "aspect": "",
    "split": "test",
    "post_id": "0f",
    "label": "yes",
    "goldens": "Yes, the poster suffers from depression. Reasoning: A made-up one.",
    "generated_text": "Yes.",
    "finish": "eos",
    "new_tokens": 2,
    "prompt_truncated": 0,
}


def write_jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path, header, *rows):
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def message(path) -> str:
    with pytest.raises(UserError) as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_jsonl_rows_and_their_run(tmp_path):
    path = write_jsonl(
        tmp_path / "p.jsonl", ROW, ROW | {"id": "IRF/1", "dataset": "Irf", "aspect": "thwarted belongingness"}
    )
    (tmp_path / "p.meta.json").write_text('{"model": "toy"}')
    predictions = read_predictions(path)
    first, second = predictions.rows
    assert (first.id, first.dataset, first.post, first.gold, first.text) == ("DR/test/1", "DR", "0f", "yes", "Yes.")
    assert (second.dataset, second.aspect) == ("IRF", "thwarted belongingness")
    assert predictions.generation == {"model": "toy"}
    assert predictions.posts_known
    assert predictions.files == ({"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"post_id": None}, "row 1: post_id is a NoneType"),
        ({"generated_text": 3}, "row 1: generated_text is a int"),
        ({"dataset": "dredit"}, "row 1: unknown data set 'dredit'; did you mean dreaddit?"),
        ({"label": "maybe"}, "row 1: 'maybe' is not a label of DR (yes, no)"),
        ({"aspect": "social"}, "row 1: 'social' is not an aspect of DR (none)"),
    ],
)
def test_a_wrong_value_names_its_row(tmp_path, change, expected):
    assert expected in message(write_jsonl(tmp_path / "p.jsonl", ROW | change))


def test_missing_keys_are_named(tmp_path):
    bare = {key: value for key, value in ROW.items() if key not in ("label", "generated_text")}
    assert "row 2: has no label, generated_text" in message(write_jsonl(tmp_path / "p.jsonl", ROW, bare))


def test_an_id_twice_is_refused(tmp_path):
    assert "row 2: id 'DR/test/1' is that of row 1 too" in message(write_jsonl(tmp_path / "p.jsonl", ROW, ROW))


def test_a_half_written_last_line_is_told(tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", ROW)
    path.write_text(path.read_text() + json.dumps(ROW | {"id": "DR/test/2"})[:40])
    told = message(path)
    assert "line 2: is cut off" in told
    assert "mentallama generate" in told


def test_a_last_line_without_line_feed_is_whole(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(ROW))
    assert len(read_predictions(path).rows) == 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.jsonl", b"", "holds no rows"),
        ("p.jsonl", b'{"id": "\xff"}\n', "byte 8 is not UTF-8"),
        ("p.jsonl", b"[]\n", "expected a JSON object"),
        ("p.txt", b"", "expected a .jsonl file or a folder"),
        ("DR.csv", b"goldens,generated_text\n\xff,a\n", "is not UTF-8"),
        ("DR.csv", b'goldens,generated_text\n"a', "not valid CSV"),
        ("DR.csv", b"goldens,generated_text\n", "holds no rows"),
        ("DR.csv", b"goldens,text\na,b\n", "has no column generated_text (found: goldens, text)"),
        ("DR.csv", b"goldens,generated_text\na,b,c\n", "row 1: 3 cells under 2 columns"),
        (
            "DR.csv",
            b"goldens,generated_text\nPerhaps. Reasoning: x,b\n",
            "row 1: the response does not begin with a label",
        ),
        ("unheard.csv", b"goldens,generated_text\na,b\n", "unknown data set 'unheard'"),
    ],
)
def test_malformed_files_are_one_line(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert expected in message(tmp_path / name)


def test_wrong_paths(tmp_path):
    assert "no such file or folder" in message(tmp_path / "absent")
    assert "no such file" in message(tmp_path / "absent.jsonl")
    assert "holds no DATASET.csv" in message(tmp_path)


def test_a_broken_signature_is_told(tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", ROW)
    (tmp_path / "p.meta.json").write_text("{")
    assert "p.meta.json: not JSON" in message(path)


def test_a_folder_of_csv_files(tmp_path):
    write_csv(tmp_path / "t-sid.csv", ["goldens", "generated_text", "labels"], ["ptsd. Reasoning: x", "", "control"])
    write_csv(tmp_path / "DR.csv", ["goldens", "generated_text"], [ROW["goldens"], "No\n\nno"], [ROW["goldens"], "Yes"])
    (tmp_path / "notes.txt").write_text("not data")
    predictions = read_predictions(tmp_path)
    assert [(row.id, row.gold, row.text, row.post) for row in predictions.rows] == [
        ("DR/1", "yes", "No\n\nno", "DR/1"),
        ("DR/2", "yes", "Yes", "DR/2"),
        ("T-SID/1", "ptsd", "", "T-SID/1"),
    ]
    assert not predictions.posts_known
    assert predictions.generation is None


def test_csv_columns_for_posts_and_aspects_are_used(tmp_path):
    header = ["goldens", "generated_text", "aspect", "post_id"]
    row = ["Yes, this wellness dimension exists in the post. Reasoning: x", "yes", "social", "ab"]
    predictions = read_predictions(write_csv(tmp_path / "MultiWD.csv", header, row))
    assert (predictions.rows[0].aspect, predictions.rows[0].post) == ("social", "ab")
    assert predictions.posts_known


def test_two_files_of_one_data_set_are_refused(tmp_path):
    for name in ("Irf.csv", "irf.csv"):
        write_csv(tmp_path / name, ["goldens", "generated_text"], ["no. Reasoning: x", "no"])
    assert "IRF is in Irf.csv already" in message(tmp_path)
