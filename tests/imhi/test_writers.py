"""What is written is read back equal."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.data_files.writers import write_queries, write_records, write_release
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
sources = st.sampled_from(["", "reddit", "my data/DR train.csv:17", "x" * 200])
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@st.composite
def records(draw: st.DrawFn, name: str | None = None, text: st.SearchStrategy[str] = texts) -> Record:
    task = TASKS[name or draw(st.sampled_from(list(TASKS)))]
    return Record(
        id="",
        dataset=task.name,
        post=draw(text.filter(str.strip)),
        label=draw(st.sampled_from(task.labels)),
        explanation=draw(text),
        aspect=draw(st.sampled_from(task.aspects or ("",))),
        split=draw(st.sampled_from(["train", "val", "test", ""])),
        source=draw(sources),
        original_label=draw(st.sampled_from(["", *task.labels])),
    )


def numbered(found: list[Record]) -> list[Record]:
    return [replace(record, id=f"row {number}") for number, record in enumerate(found)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(records(), min_size=1, max_size=5).map(numbered))
def test_records_survive_writing_and_reading(tmp_path: Path, suffix: str, found: list[Record]) -> None:
    path = tmp_path / f"records{suffix}"
    write_records(path, found)
    result = read_records([path])
    assert result.records == found
    assert not result.problems


@pytest.mark.parametrize("layout", ["instruction", "completion"])
@pytest.mark.parametrize("name", TASKS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_released_layouts_carry_post_label_and_explanation(
    tmp_path: Path, name: str, layout: str, data: st.DataObject
) -> None:
    found = data.draw(st.lists(records(name, cells), min_size=1, max_size=3))
    path = tmp_path / f"{name}_test.csv"
    write_queries(path, found, layout)
    back = read_records([path], strict=True).records
    expected = [(record.post, record.label, record.explanation.strip(), record.aspect) for record in found]
    assert [(record.post, record.label, record.explanation, record.aspect) for record in back] == expected


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.lists(records("IRF", texts), min_size=1, max_size=2),
    times=st.sampled_from([1, 140_000]),
)
def test_a_released_folder_is_read_back_or_not_written(tmp_path: Path, found: list[Record], times: int) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path)) / "release"
    found = [replace(record, post=record.post * times, split=record.split or "train") for record in found]
    if any("\0" in record.post + record.explanation for record in found):
        with pytest.raises(UserError, match="NUL character"):
            write_release(folder, found)
        assert not folder.exists()
        return
    write_release(folder, found)
    expected = sorted((record.post, record.label, record.explanation.strip(), record.split) for record in found)
    for source in (folder, *folder.glob("*/*complete*")):
        back = read_records([source], strict=True).records
        kept = [(record.post, record.label, record.explanation, record.split) for record in back]
        splits = {record.split for record in back}
        assert sorted(kept) == [row for row in expected if row[3] in splits]


def test_records_without_gold_are_written_where_they_can_be_read_back(tmp_path: Path) -> None:
    found = [Record("a", "DR", "p", split="test"), Record("b", "DR", "q", "yes", split="test")]
    for name in ("rows.jsonl", "rows.parquet"):
        write_records(tmp_path / name, found)
        assert [record.label for record in read_records([tmp_path / name], need_labels=False).records] == ["", "yes"]
        (problem,) = read_records([tmp_path / name]).problems
        assert problem.reason == "label is missing"
    with pytest.raises(UserError, match=r"^a: has no label"):
        write_release(tmp_path / "release", found)
    assert not (tmp_path / "release").exists()


def test_a_line_of_jsonl_has_every_key(tmp_path: Path) -> None:
    write_records(tmp_path / "one.jsonl", [Record("a", "DR", "é", "yes")])
    (line,) = (tmp_path / "one.jsonl").read_text(encoding="utf-8").splitlines()
    assert "é" in line
    assert list(json.loads(line)) == [
        "id",
        "dataset",
        "post",
        "label",
        "explanation",
        "aspect",
        "split",
        "source",
        "original_label",
    ]


def test_nothing_is_written_where_nothing_can_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.jsonl or \.parquet"):
        write_records(tmp_path / "records.json", [Record("a", "DR", "p", "yes")])
    with pytest.raises(UserError, match="no records"):
        write_records(tmp_path / "records.jsonl", [])
    with pytest.raises(UserError, match="no records"):
        write_queries(tmp_path / "records.csv", [], "instruction")
    assert not list(tmp_path.iterdir())


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    write_records(path, [Record("a", "DR", "p", "yes")])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"not a valid \.parquet file") as error:
        read_records([path])
    assert "\n" not in str(error.value)
    path.with_suffix(".arrow").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"not a valid \.arrow file"):
        read_records([path.with_suffix(".arrow")])
