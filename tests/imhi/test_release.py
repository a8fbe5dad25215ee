"""Over the released files: every row is read, and renders its own file's format byte for byte."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from mentallama_jax.imhi.data_files.annotations import read_annotations
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.data_files.writers import write_queries
from mentallama_jax.imhi.labels.gold_response import read_gold
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import completion_query, completion_response, instruction_query, instruction_response

INSTRUCTION = ("instruction_data", "test_instruction", "test_instruction_expert")
COMPLETION = ("complete_data", "test_complete")

# What reading strips or repairs in completion responses; everything else must come back as it was.
LEADING_BLANK = "a blank before the label"
AROUND_REASONING = "white space other than one blank around `Reasoning:`"
LONG_LABEL = "the whole sentence instead of the label"


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


def files(release: Path, folders: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in release.rglob("*.csv") if set(path.parts) & set(folders))


def test_instruction_files_render_byte_for_byte(imhi_release: Path, tmp_path: Path) -> None:
    rows = 0
    for path in files(imhi_release, INSTRUCTION):
        result = read_records([path])
        assert not result.problems, path
        for record, row in zip(result.records, cells(path), strict=True):
            assert instruction_query(record) == row["query"], record.source
            assert instruction_response(record) == row["gpt-3.5-turbo"], record.source
        write_queries(tmp_path / "copy.csv", result.records, "instruction")
        assert (tmp_path / "copy.csv").read_bytes() == path.read_bytes(), path
        rows += len(result.records)
    assert rows > 0


def repair(response: str, record: Record) -> tuple[str, set[str]]:
    """The response with the listed strips and repairs alone, and which of them it needed."""
    done = set()
    if response.startswith(" "):
        response, done = response[1:], {LEADING_BLANK}
    head, tail = response.split("Reasoning:", 1)
    if (head, tail) != (f"{head.strip()} ", f" {tail.strip()}"):
        response = f"{head.strip()} Reasoning: {tail.strip()}"
        done.add(AROUND_REASONING)
    sentence = record.task.sentences[record.label]
    sentence = sentence[0].lower() + sentence[1:]
    if response.startswith(sentence):
        response = f"{record.label}.{response.removeprefix(sentence)}"
        done.add(LONG_LABEL)
    return response, done


def test_completion_files_render_byte_for_byte_after_the_listed_repairs(imhi_release: Path) -> None:
    repairs: Counter[str] = Counter()
    rows = 0
    for path in files(imhi_release, COMPLETION):
        result = read_records([path])
        assert not result.problems, path
        for record, row in zip(result.records, cells(path), strict=True):
            query = row["query"] if "query" in row else f"{row['post']} {row['question']}"
            assert completion_query(record) == query, record.source
            response = row["gpt-3.5-turbo"] if "query" in row else row["response"]
            response, done = repair(response, record)
            assert completion_response(record) == response, record.source
            repairs.update(done)
            rows += 1
    assert rows > 0
    # Rare ones stay rare: a reader that takes more than the release needs would show here.
    assert repairs[LEADING_BLANK] < rows // 2
    assert repairs[AROUND_REASONING] < rows // 100
    assert repairs[LONG_LABEL] < rows // 1000


def test_both_formats_of_a_row_give_one_label_and_one_id(imhi_release: Path) -> None:
    folders = {
        "train_data/instruction_data": "train_data/complete_data",
        "test_data/test_instruction": "test_data/test_complete",
    }
    compared = 0
    for instruction, completion in folders.items():
        twins = {record.id: record for record in read_records([imhi_release / completion]).records}
        for record in read_records([imhi_release / instruction]).records:
            twin = twins.get(record.id)
            if twin is not None:
                assert (twin.label, twin.aspect, twin.dataset) == (record.label, record.aspect, record.dataset), (
                    record.id
                )
                compared += 1
    assert compared > 0


def test_every_gold_response_parses(imhi_release: Path) -> None:
    for path in files(imhi_release, INSTRUCTION + COMPLETION):
        for record in read_records([path]).records:
            for response in (instruction_response(record), completion_response(record)):
                assert read_gold(response, record.task) == (record.label, record.explanation)


def test_annotations_come_back_byte_for_byte(imhi_release: Path) -> None:
    (path,) = imhi_release.glob("human_evaluation/DR_annotation/gpt3_data.csv")
    annotations, problems = read_annotations(path)
    assert not problems
    assert [annotation.row() for annotation in annotations] == cells(path)


def test_the_whole_folder_is_read_at_once(imhi_release: Path) -> None:
    result = read_records([imhi_release])
    assert not result.problems
    assert all("instruction" in record.source for record in result.records)
    assert {record.split for record in result.records} == {"train", "val", "test"}
    assert len({record.id for record in result.records}) == len(result.records)


@pytest.mark.parametrize("name", ["response_generation_examples", "label_data_examples"])
def test_model_outputs_are_no_records(imhi_release: Path, name: str) -> None:
    from mentallama_jax.errors import UserError

    with pytest.raises(UserError, match="mentallama evaluate"):
        read_records([imhi_release / "examples" / name])
