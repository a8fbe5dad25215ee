"""Pairs of a gold answer and one with a fault."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.evaluation.answer_pairs import faulty_pairs
from mentallama_jax.imhi.data_files.preference_pairs import read_pairs
from mentallama_jax.imhi.data_files.writers import write_records
from mentallama_jax.imhi.predictions import Prediction, answer_to
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import instruction_response

RECORD = Record(
    "dreaddit/train/1",
    "dreaddit",
    "My chest is tight all day and I cannot sleep before the exam.",
    "yes",
    "The poster cannot sleep.",
    split="train",
)
TEXTS = {
    "wrong_label": "No, the poster does not suffer from stress. Reasoning: all is calm.",
    "no_label": "Hard to tell from this alone.",
    "inconsistent": "Yes, the poster suffers from stress. Reasoning: The poster does not suffer from stress at all.",
    "invented_quote": 'Yes, the poster suffers from stress. Reasoning: It says "I want to run away from it all".',
    "no fault": 'Yes, the poster suffers from stress. Reasoning: It says "my chest is tight all day".',
}


def row(text: str, finish: str = "eos", number: int = 0, samples: tuple[str, ...] = ()) -> Prediction:
    made = answer_to(RECORD, text)
    return Prediction(**{**{f: getattr(made, f) for f in made.__slots__}, "finish": finish, "samples": samples})


@pytest.mark.parametrize("kind", TEXTS)
def test_each_fault_is_found(kind: str) -> None:
    found = faulty_pairs([row(TEXTS[kind])], {RECORD.id: RECORD}, one_sided=True)
    if kind == "no fault":
        assert (found.pairs, found.left_out) == ([], {"no fault": 1})
        return
    (pair,) = found.pairs
    assert (pair.kind, pair.chosen, pair.rejected) == (kind, instruction_response(RECORD), TEXTS[kind])


def test_what_makes_no_pair_is_counted() -> None:
    samples = (TEXTS["wrong_label"], TEXTS["no_label"], instruction_response(RECORD))
    rows = [row(TEXTS["wrong_label"], samples=samples), row(TEXTS["no_label"], finish="length")]
    found = faulty_pairs(rows, {RECORD.id: RECORD}, kinds=("wrong_label",), one_sided=True)
    assert [pair.id for pair in found.pairs] == ["dreaddit/train/1#0"]
    assert found.left_out == {"seen already": 2, "fault not asked for": 1, "cut at the limit": 1}


def test_a_fault_of_the_gold_answer_too_prefers_nothing() -> None:
    record = replace(RECORD, explanation='It says "nobody would ever miss me here".')
    rows = [row(TEXTS["invented_quote"]), row(TEXTS["inconsistent"])]
    found = faulty_pairs(rows, {RECORD.id: record})
    assert [pair.kind for pair in found.pairs] == ["inconsistent"]
    assert found.left_out == {"gold answer has it too": 1}


def test_a_kept_sample_that_was_cut_makes_no_pair() -> None:
    voted_for = row(TEXTS["no fault"], samples=(TEXTS["no fault"], TEXTS["wrong_label"], TEXTS["no_label"]))
    rows = [replace(voted_for, samples_finish=("eos", "length", "eos"))]
    found = faulty_pairs(rows, {RECORD.id: RECORD})
    assert [pair.kind for pair in found.pairs] == ["no_label"]
    assert found.left_out == {"no fault": 2, "cut at the limit": 1}


def test_the_command_writes_pairs_that_training_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    records, outputs, out = tmp_path / "r.jsonl", tmp_path / "p.jsonl", tmp_path / "pairs.jsonl"
    write_records(records, [RECORD])
    outputs.write_text(row(TEXTS["wrong_label"], samples=(TEXTS["no_label"],)).to_line(), "utf-8")
    command = ["data", "pairs", str(outputs), "--data", str(records), "--out", str(out)]
    assert main([*command, "--kinds", "wrong_label"]) == 2
    assert "one-sided 1" in capsys.readouterr().err
    assert main([*command, "--one-sided", "--reward-data", str(tmp_path / "reward")]) == 0
    said = capsys.readouterr().out
    assert "dreaddit wrong_label: 1 pairs" in said
    assert RECORD.post not in said
    pairs, problems = read_pairs([str(out)])
    assert [(pair.id, pair.rejected) for pair in pairs] == [
        ("dreaddit/train/1#0", TEXTS["wrong_label"]),
        ("dreaddit/train/1#1", TEXTS["no_label"]),
    ]
    assert problems == []
    assert json.loads(out.read_text().splitlines()[0])["kind"] == "wrong_label"
    assert main(["data", "pairs", str(outputs), "--data", str(records), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    missing = ["data", "pairs", str(outputs), "--data", "sample:train", "--out", str(tmp_path / "x.jsonl")]
    assert main(missing) == 2
    assert "not in --data" in capsys.readouterr().err
