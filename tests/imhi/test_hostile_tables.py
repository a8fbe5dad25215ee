"""Tables that are damaged, hostile or odd: what is not there is empty, and everything else is one line, in bounds."""

import json
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.audit.inventory import survey
from mentallama_jax.imhi.data_files.build import build_records
from mentallama_jax.imhi.data_files.readers import read_records, records_from_dataset
from mentallama_jax.imhi.data_files.tables import read_table

GOOD = {"dataset": "DR", "post": "All is grey.", "label": "yes"}


def lines(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def parquet(path: Path, columns: dict[str, object]) -> Path:
    import pyarrow
    import pyarrow.parquet

    arrays = [pyarrow.array(values) if isinstance(values, list) else values for values in columns.values()]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names=list(columns)), path)
    return path


# What is not there


def raw_jsonl(folder: Path) -> Path:
    rows = ('{"post": NaN, "label": "yes"}', '{"post": null, "label": 1}', '{"post": "p", "label": NaN}')
    return lines(folder / "raw.jsonl", *rows, '{"post": "p", "label": 1}')


def raw_parquet(folder: Path) -> Path:
    import pyarrow

    posts = pyarrow.array([float("nan"), None, 2.5, 7.0], pyarrow.float64())
    return parquet(folder / "raw.parquet", {"post": posts, "label": ["yes", "yes", None, "no"]})


@pytest.mark.parametrize("make", [raw_jsonl, raw_parquet])
def test_a_missing_value_is_an_empty_cell_and_counted(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    result = build_records(make(tmp_path), "DR")
    assert [problem.row for problem in result.problems] == [1, 2, 3]
    assert [record.post for record in result.records] in (["p"], ["7"])
    assert "the post is empty" in result.problems[0].reason


def test_missing_values_of_pandas_are_empty_cells_and_counted() -> None:
    import numpy as np
    import pandas as pd

    posts = [float("nan"), np.float64("nan"), np.float32("nan"), pd.NA, pd.NaT, None]
    rows = [{"dataset": "DR", "post": post, "label": np.str_("no")} for post in posts]
    result = records_from_dataset([*rows, GOOD])
    assert [problem.reason for problem in result.problems] == ["post is missing"] * 6
    assert len(result.records) == 1


def test_nan_in_csv_is_a_text(tmp_path: Path) -> None:
    result = build_records(lines(tmp_path / "raw.csv", "post,label", "nan,no"), "DR")
    assert result.records[0].post == "nan"


@pytest.mark.parametrize("post", [["a list"], {"a": "dict"}])
def test_a_cell_that_is_no_text_is_never_spelt_out(tmp_path: Path, post: object) -> None:
    path = lines(tmp_path / "raw.jsonl", json.dumps({"post": post, "label": 1}), '{"post": "p", "label": 1}')
    result = build_records(path, "DR")
    assert result.problems[0].reason == f"post must be a text, not {type(post).__name__}"


# Suffixes and folders


def test_suffixes_are_read_in_any_case(tmp_path: Path) -> None:
    import pyarrow

    lines(tmp_path / "DR.CSV", "query,gpt-3.5-turbo", *[
        '"Consider this post: ""p"" Question: Does the poster suffer from depression?",'
        '"Yes, the poster suffers from depression."'
    ])  # fmt: skip
    lines(tmp_path / "more.JsonL", json.dumps(GOOD))
    parquet(tmp_path / "table.PARQUET", {key: [value] for key, value in GOOD.items()})
    table = pyarrow.table({key: [value] for key, value in GOOD.items()})
    with pyarrow.ipc.new_stream(str(tmp_path / "data.Arrow"), table.schema) as stream:
        stream.write_table(table)
    lines(tmp_path / "SAD.csv", "dataset,post,label", "SAD,p,work")
    assert len(read_records([tmp_path]).records) == 5
    assert len(survey([str(tmp_path)]).records) == 5


def test_a_subfolder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines(tmp_path / "rows.jsonl", json.dumps(GOOD))
    locked = tmp_path / "locked"
    locked.mkdir()
    (tmp_path / ".hidden").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path).name in ("locked", ".hidden"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=f"^{locked}: cannot be read"):
        read_records([tmp_path])
    assert survey([str(tmp_path)]).unreadable == [f"{locked}: cannot be read (Permission denied); give the right to, or"
                                                  " move it away"]  # fmt: skip


def test_links_are_followed_once_and_broken_ones_named(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    lines(elsewhere / "rows.jsonl", json.dumps(GOOD))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "round").symlink_to(folder)
    assert len(read_records([folder]).records) == 1
    (folder / "gone.csv").symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match="leads nowhere"):
        read_records([folder])
    (folder / "gone.csv").unlink()
    os.mkfifo(folder / "pipe.csv")
    with pytest.raises(UserError, match="no regular file"):
        read_records([folder])


# Twice


def test_a_key_twice_is_a_bad_row(tmp_path: Path) -> None:
    twice = '{"dataset": "DR", "post": "p", "label": "yes", "label": "no"}'
    result = read_records([lines(tmp_path / "rows.jsonl", json.dumps(GOOD), twice)])
    assert [str(problem) for problem in result.problems] == [
        f"{tmp_path / 'rows.jsonl'}, row 2: the key 'label' stands twice in one object"
    ]
    assert len(result.records) == 1


@pytest.mark.parametrize("suffix", ["csv", "parquet", "arrow"])
def test_a_column_twice_is_refused(tmp_path: Path, suffix: str) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / f"rows.{suffix}"
    names, cells = ["dataset", "post", "label", "label"], ["DR", "p", "yes", "no"]
    table = pyarrow.Table.from_arrays([pyarrow.array([cell]) for cell in cells], names=names)
    if suffix == "csv":
        lines(path, ",".join(names), ",".join(cells))
    elif suffix == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with pyarrow.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table)
    with pytest.raises(UserError, match="names the column label twice"):
        read_records([path])


# Sizes and types


def test_long_cells_are_read(tmp_path: Path) -> None:
    post = "grey " * 60_000
    path = lines(tmp_path / "DR.csv", "dataset,post,label", f"DR,{post},yes")
    assert read_records([path]).records[0].post == post


def odd_parquet(path: Path) -> Path:
    import pyarrow

    rows = 3
    ends = pyarrow.array([0, 1, 2, 3], pyarrow.int32()).buffers()[1]
    bad = pyarrow.Array.from_buffers(pyarrow.string(), rows, [None, ends, pyarrow.py_buffer(b"a\xffb")])
    columns = {
        "dataset": ["DR"] * rows,
        "post": bad,
        "label": ["yes"] * rows,
        "when": pyarrow.array([-(2**62)] * rows, pyarrow.timestamp("us")),
        "day": pyarrow.array([2**31 - 1] * rows, pyarrow.date32()),
        "long": pyarrow.array([2**60 + 1] * rows, pyarrow.duration("ns")),
        "nested": pyarrow.array([[{"a": [1]}]] * rows),
        "bytes": pyarrow.array([b"\xff"] * rows),
    }
    return parquet(path, columns)


def test_parquet_with_odd_cells_is_read_but_for_the_row_that_is_no_text(tmp_path: Path) -> None:
    result = read_records([odd_parquet(tmp_path / "odd.parquet")])
    assert [record.post for record in result.records] == ["a", "b"]
    assert [str(problem) for problem in result.problems] == [f"{tmp_path / 'odd.parquet'}, row 2: a text is not UTF-8"]


@pytest.mark.parametrize("column", ["when", "day", "long", "nested", "bytes"])
def test_a_needed_column_of_an_odd_type_is_named(tmp_path: Path, column: str) -> None:
    table = read_table(odd_parquet(tmp_path / "odd.parquet"))
    rows = [{"dataset": "DR", "post": row[column], "label": "yes"} for _, row in table.rows]
    with pytest.raises(UserError, match="post must be a text, not "):
        records_from_dataset(rows)


def many_columns_csv(path: Path) -> None:
    names = ",".join(f"c{number}" for number in range(100_000))
    lines(path, f"dataset,post,label,{names}", "DR,p,yes" + ",x" * 100_000)


def many_columns_jsonl(path: Path) -> None:
    lines(path, json.dumps(GOOD | {f"explanatio{number}": 1 for number in range(100_000)}))


def many_columns_of_many_rows(path: Path) -> None:
    lines(path, *(json.dumps(GOOD | {f"c{number}": 1}) for number in range(20_000)))


def many_columns_parquet(path: Path) -> None:
    parquet(path, {"dataset": ["DR"], "post": ["p"], "label": ["no"]} | {f"c{number}": [1] for number in range(20_000)})


def many_nulls(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([("dataset", pyarrow.null()), ("post", pyarrow.null()), ("label", pyarrow.null())])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for _ in range(20):
            writer.write_table(pyarrow.table([pyarrow.nulls(10**6)] * 3, schema=schema))


def one_post_many_times(path: Path) -> None:
    import pyarrow

    rows = 60_000
    words = [pyarrow.DictionaryArray.from_arrays([0] * rows, [text]) for text in ("DR", os.urandom(50_000).hex(), "no")]
    parquet(path, dict(zip(("dataset", "post", "label"), words, strict=True)))


def deep_json(path: Path) -> None:
    lines(path, '{"dataset": "DR", "post": "p", "label": "yes", "x": ' + "[" * 1_000_000)


def long_number(path: Path) -> None:
    lines(path, '{"dataset": "DR", "post": "p", "label": ' + "1" * 100_000 + "}")


def no_object(path: Path) -> None:
    lines(path, '["DR", "p", "yes"]')


def damaged_parquet(path: Path) -> None:
    parquet(path, {key: [value] * 50 for key, value in GOOD.items()})
    content = bytearray(path.read_bytes())
    content[20:40] = b"\xff" * 20
    path.write_bytes(content)


ABSURD = [
    (many_columns_csv, "csv", "100,003 columns"),
    (many_columns_jsonl, "jsonl", "100,003 columns"),
    (many_columns_of_many_rows, "jsonl", "20,003 columns"),
    (many_columns_parquet, "parquet", "20,003 columns"),
    (many_nulls, "parquet", "claims 20,000,000 rows"),
    (one_post_many_times, "parquet", "unpacks to far more"),
    (deep_json, "jsonl", "nested too deeply"),
    (long_number, "jsonl", "line 1: a number of 100,000 digits is too large"),
    (no_object, "jsonl", "expected a JSON object, found list"),
    (damaged_parquet, "parquet", "not (a )?valid"),
]


@pytest.mark.parametrize(("make", "suffix", "words"), ABSURD, ids=lambda part: getattr(part, "__name__", ""))
def test_what_is_absurd_is_one_line_within_bounds(
    tmp_path: Path, make: Callable[[Path], None], suffix: str, words: str
) -> None:
    path = tmp_path / f"rows.{suffix}"
    make(path)
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(UserError, match=words) as error:
            read_records([path])
        taken, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < 300 + len(str(path))
    assert "\n" not in str(error.value)
    assert taken < 5
    assert peak < 1 << 30
