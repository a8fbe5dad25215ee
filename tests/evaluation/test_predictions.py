"""Reading predictions: both layouts, and one clear line for all that is wrong with them."""

import csv
import hashlib
import json

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.imhi.records import post_id

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
    assert (first.id, first.dataset, first.post_id, first.label) == ("DR/test/1", "DR", "0f", "yes")
    assert (first.generated_text, first.explanation) == ("Yes.", "A made-up one.")
    assert (second.dataset, second.aspect) == ("IRF", "thwarted belongingness")
    assert predictions.generation == {"model": "toy"}
    assert predictions.posts_known
    assert predictions.files == ({"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"post_id": None}, "line 1: post_id is a NoneType"),
        ({"generated_text": 3}, "line 1: generated_text is a int"),
        ({"dataset": "dredit"}, "line 1: unknown data set 'dredit'; did you mean dreaddit?"),
        ({"label": "maybe"}, "none of its 1 rows can be scored; row 1: its gold 'maybe' is not a label of DR"),
        ({"aspect": "social"}, "line 1: 'social' is not an aspect of DR (none)"),
    ],
)
def test_a_wrong_value_names_its_row(tmp_path, change, expected):
    assert expected in message(write_jsonl(tmp_path / "p.jsonl", ROW | change))


def test_missing_keys_are_named(tmp_path):
    bare = {key: value for key, value in ROW.items() if key not in ("label", "generated_text")}
    assert "line 2: has no label, generated_text" in message(write_jsonl(tmp_path / "p.jsonl", ROW, bare))


def test_an_id_twice_is_refused(tmp_path):
    assert "line 2: id 'DR/test/1' is that of line 1 too" in message(write_jsonl(tmp_path / "p.jsonl", ROW, ROW))


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
            "none of its 1 rows can be scored; row 1: its gold does not begin with a label of DR",
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
    assert "p.meta.json: not valid JSON" in message(path)


def test_a_folder_of_csv_files(tmp_path):
    write_csv(tmp_path / "t-sid.csv", ["goldens", "generated_text", "labels"], ["ptsd. Reasoning: x", "", "control"])
    write_csv(tmp_path / "DR.csv", ["goldens", "generated_text"], [ROW["goldens"], "No\n\nno"], [ROW["goldens"], "Yes"])
    (tmp_path / "notes.txt").write_text("not data")
    predictions = read_predictions(tmp_path)
    assert [(row.id, row.label, row.generated_text, row.post_id) for row in predictions.rows] == [
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
    assert (predictions.rows[0].aspect, predictions.rows[0].post_id) == ("social", "ab")
    assert predictions.posts_known


QUERY = 'Consider this post: "A made-up one." Question: Does the post show risk of thwarted belongingness?'


@pytest.mark.parametrize("header", ["query", "Query", "post", "query,post", "query,label"])
def test_a_csv_that_holds_queries_or_posts_is_read_with_them(tmp_path, header):
    cells = {"query": QUERY, "post": "A made-up one.", "label": "other"}
    columns = header.split(",")
    answers = [["no. Reasoning: x", "No."], ["yes", "No."]]
    rows = [[*(cells[column.lower()] for column in columns), *answer] for answer in answers]
    found = read_predictions(write_csv(tmp_path / "IRF.csv", [*columns, *HEADER], *rows))
    aspect = "" if columns == ["post"] else "thwarted belongingness"
    assert [(row.id, row.label, row.aspect, row.generated_text) for row in found.rows] == [
        ("IRF/1", "no", aspect, "No."),
        ("IRF/2", "yes", aspect, "No."),
    ]
    assert {row.post_id for row in found.rows} == {post_id("A made-up one.")}
    assert found.posts_known
    assert [row.goldens for row in found.rows] == ["no. Reasoning: x", ""]


def test_the_prompt_of_a_csv_is_taken_off_its_outputs(tmp_path):
    path = write_csv(tmp_path / "DR.csv", ["prompt", *HEADER], ["Is it no?", "yes", "Is it no? Yes."])
    assert read_predictions(path).rows[0].generated_text == " Yes."


@pytest.mark.parametrize(
    ("dataset", "gold", "is_text"),
    [
        ("DR", "yes", False),
        ("DR", " Yes. ", False),
        ("DR", "no. Reasoning:", False),
        ("DR", "no. Reasoning: x", True),
        ("DR", "Yes, the poster suffers from depression.", True),
        ("DR", "Yes, the poster suffers from depression. Reasoning: x", True),
        ("SAD", "work", False),
        ("SAD", "emotional turmoil.", False),
        ("SAD", "This post shows other stress causes.", True),
        ("T-SID", "ptsd", False),
    ],
)
@pytest.mark.parametrize("columns", [["goldens"], ["post", "goldens"]])
def test_the_name_of_a_label_is_no_text_to_compare_with(tmp_path, dataset, gold, is_text, columns):
    path = write_csv(
        tmp_path / f"{dataset}.csv", [*columns, "generated_text"], [*["x"] * (len(columns) - 1), gold, "no"]
    )
    (row,) = read_predictions(path).rows
    assert row.goldens.strip() == (gold.strip() if is_text else "")


def test_two_files_of_one_data_set_are_refused(tmp_path):
    for name in ("Irf.csv", "irf.csv"):
        write_csv(tmp_path / name, ["goldens", "generated_text"], ["no. Reasoning: x", "no"])
    assert "IRF is in Irf.csv already" in message(tmp_path)


GOLDENS = ROW["goldens"]
HEADER = ["goldens", "generated_text"]
MARKER = "marker of a post that nobody may see in a message, and long enough to be one"


def test_suffixes_and_names_in_any_case_are_read(tmp_path):
    write_csv(tmp_path / "DR.CSV", HEADER, [GOLDENS, "Yes"])
    write_csv(tmp_path / "sad.Csv", HEADER, ["work", "work"])
    write_csv(tmp_path / "SWMH.csv", HEADER, ["suicide", "no"])
    assert [row.dataset for row in read_predictions(tmp_path).rows] == ["DR", "SWMH", "SAD"]
    assert read_predictions(tmp_path / "DR.CSV").rows[0].dataset == "DR"


def test_what_is_no_data_set_is_passed_over_and_named(tmp_path):
    write_csv(tmp_path / "DR.csv", HEADER, [GOLDENS, "Yes"])
    write_csv(tmp_path / "notes.csv", ["when", "what"], ["today", "a b c"])
    write_csv(tmp_path / "dredit.csv", HEADER, [GOLDENS, "Yes"])
    (tmp_path / "old.jsonl").write_text("{")
    (tmp_path / "kept").mkdir()
    predictions = read_predictions(tmp_path)
    assert len(predictions.rows) == 1
    passed_over = "\n".join(predictions.passed_over)
    assert "'notes.csv': unknown data set 'notes'" in passed_over
    assert "'dredit.csv': unknown data set 'dredit'; did you mean dreaddit?" in passed_over
    assert "'old.jsonl': does not end in .csv" in passed_over
    assert "'kept': a folder" in passed_over
    assert len(predictions.passed_over) == 4
    (tmp_path / "DR.csv").unlink()
    assert "passed over: 'dredit.csv'" in message(tmp_path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write_csv(tmp_path / "DR.csv", HEADER, [GOLDENS, "Yes"])
    (tmp_path / "secret").mkdir()
    real = type(tmp_path).iterdir

    def refuse(path):
        if path.name == "secret":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(type(tmp_path), "iterdir", refuse)
    assert "secret: cannot be read (Permission denied)" in message(tmp_path)


def test_gold_that_cannot_be_read_is_counted_and_left_out(tmp_path):
    path = write_csv(tmp_path / "DR.csv", HEADER, [GOLDENS, "Yes"], [MARKER, "No"], [GOLDENS, "No"], ["", "No"])
    write_csv(tmp_path / "SAD.csv", HEADER, [MARKER, "work"])
    predictions = read_predictions(tmp_path)
    assert [row.id for row in predictions.rows] == ["DR/1", "DR/3"]
    assert [(row.dataset, row.file, row.row) for row in predictions.left_out] == [
        ("DR", str(path), 2),
        ("DR", str(path), 4),
        ("SAD", str(tmp_path / "SAD.csv"), 1),
    ]
    assert "marker" not in "".join(map(str, predictions.left_out))


def test_rows_without_gold_are_counted_and_left_out(tmp_path):
    rows = [ROW, ROW | {"id": "2", "label": ""}, ROW | {"id": "3", "label": MARKER}]
    predictions = read_predictions(write_jsonl(tmp_path / "p.jsonl", *rows))
    assert len(predictions.rows) == 1
    told = [str(row) for row in predictions.left_out]
    assert "p.jsonl, row 2: it has no gold label" in told[0]
    assert "row 3: its gold (a text of" in told[1]
    assert "marker" not in told[1]


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(ROW).replace("2", "NaN").encode(),
        json.dumps(ROW).replace('"finish"', '"id"').encode(),
        json.dumps(ROW | {"generated_text": MARKER + "\ud800"}).encode(),
        json.dumps(ROW | {"generated_text": MARKER}).encode().replace(b"post", b"po\0st"),
        json.dumps(ROW | {"label": [MARKER]}).encode(),
        json.dumps(ROW | {"dataset": MARKER}).encode(),
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_one_line_that_names_it_and_quotes_nothing(tmp_path, line):
    path = tmp_path / "p.jsonl"
    path.write_bytes(json.dumps(ROW | {"id": "0"}).encode() + b"\n\n" + line + b"\n")
    told = message(path)
    assert told.startswith(f"{path}, line 3: ")
    assert "marker" not in told
    assert len(told.replace(str(path), "")) < 300


def test_a_last_line_without_line_feed_that_is_wrong_is_not_called_cut_off(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(ROW | {"dataset": "other"}))
    assert "line 1: unknown data set" in message(path)


@pytest.mark.parametrize("name", ["p.jsonl", "DR.csv"])
def test_long_answers_are_read(tmp_path, name):
    text = "Yes. " + "x" * 300_000
    path = tmp_path / name
    if name == "DR.csv":
        write_csv(path, HEADER, [GOLDENS, text])
    else:
        write_jsonl(path, ROW | {"generated_text": text})
    assert read_predictions(path).rows[0].generated_text == text


def test_a_csv_with_nul_or_a_column_twice_is_one_line(tmp_path):
    (tmp_path / "DR.csv").write_bytes(b"goldens,generated_text\nno,a\0b\n")
    assert "line 2: holds a NUL byte" in message(tmp_path)
    write_csv(tmp_path / "DR.csv", ["goldens", "generated_text", "goldens"], ["no", "no", "yes"])
    assert "goldens twice" in message(tmp_path)
    write_csv(tmp_path / "DR.csv", [MARKER, "b"], ["no", "no"])
    assert "marker" not in message(tmp_path)


@pytest.mark.parametrize("content", [b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[]", b'"\\ud800"', b"{" * 9, b"\xff", b"["])
def test_a_damaged_signature_says_what_to_do(tmp_path, content):
    path = write_jsonl(tmp_path / "p.jsonl", ROW)
    (tmp_path / "p.meta.json").write_bytes(content)
    told = message(path)
    assert told.startswith(f"{tmp_path / 'p.meta.json'}: ")
    assert told.endswith("delete it to score without the signature of the run")
