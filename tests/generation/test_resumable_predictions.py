"""A predictions file after every kind of stop: no row lost, none twice, none half, none under other settings."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.generation import resumable
from mentallama_jax.generation.resumable import (
    params_fingerprint,
    records_fingerprint,
    signature_path,
    write_predictions,
)
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record

RECORDS = [Record(f"DR/test/{number}", "DR", f"post {number}", "yes") for number in range(1, 8)]
SIGNATURE = {
    "model": "runs/toy",
    "weights": "abc",
    "style": "plain",
    "sampling": {"temperature": 0.0},
    "versions": {"jax": "1"},
}


def answered(record: Record, text: str) -> Prediction:
    return Prediction(id=record.id, dataset="DR", post_id=record.post_id, label=record.label, generated_text=text)


class Answerer:
    """Answers from the last record to the first, two at a time; remembers what it was asked."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.stop_after = stop_after

    def __call__(self, records):
        for done, start in enumerate(range(0, len(records), 2)):
            if done == self.stop_after:
                raise KeyboardInterrupt
            rows = records[::-1][start : start + 2]
            self.asked += [record.id for record in rows]
            yield [answered(record, f"é answer to {record.id}") for record in rows]


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text("utf-8").splitlines()]


def test_the_first_process_tells_the_others_what_is_left_and_they_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, told = tmp_path / "p.jsonl", []
    monkeypatch.setattr(resumable, "first_tells", lambda data: told.append(data) or data)
    first, other = Answerer(stop_after=2), Answerer()
    with pytest.raises(KeyboardInterrupt):
        write_predictions(path, RECORDS, SIGNATURE, first)
    first.stop_after = None
    write_predictions(path, RECORDS, SIGNATURE, first)
    monkeypatch.setattr(resumable, "first_tells", lambda data: told[-1])
    monkeypatch.setattr(resumable, "writes_files", lambda: False)
    elsewhere = tmp_path / "absent" / "p.jsonl"
    returned = write_predictions(elsewhere, RECORDS, SIGNATURE, other)
    assert other.asked == first.asked[4:] == ["DR/test/3", "DR/test/2", "DR/test/1"]
    assert [row.id for row in returned] == ["DR/test/1", "DR/test/2", "DR/test/3"]
    assert not elsewhere.parent.exists()
    monkeypatch.setattr(resumable, "first_tells", lambda data: bytes(len(data)))
    assert write_predictions(elsewhere, RECORDS, SIGNATURE, other) == []  # all is done
    assert len(other.asked) == 3


def test_rows_come_in_input_order_with_their_signature(tmp_path: Path) -> None:
    path = tmp_path / "new" / "p.jsonl"
    batches = []
    returned = write_predictions(path, RECORDS, SIGNATURE, Answerer(), batches.append)
    assert ids(path) == [record.id for record in RECORDS] == [row.id for row in returned]
    assert [len(batch) for batch in batches] == [2, 2, 2, 1]
    assert json.loads(signature_path(path).read_text()) == SIGNATURE


def test_each_batch_is_on_disk_before_the_next_begins(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_predictions(path, RECORDS, SIGNATURE, Answerer(stop_after=2))
    assert ids(path) == ["DR/test/7", "DR/test/6", "DR/test/5", "DR/test/4"]
    again = Answerer()
    write_predictions(path, RECORDS, SIGNATURE, again)
    assert again.asked == ["DR/test/3", "DR/test/2", "DR/test/1"]
    assert ids(path) == [record.id for record in RECORDS]
    finished = Answerer()
    write_predictions(path, RECORDS, SIGNATURE, finished)
    assert finished.asked == []


def test_a_file_cut_anywhere_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, RECORDS[:3], SIGNATURE, Answerer())
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        answerer = Answerer()
        write_predictions(path, RECORDS[:3], SIGNATURE, answerer)
        assert path.read_bytes() == whole
        assert len(answerer.asked) == 3 - whole[:size].count(b"\n")


def test_a_cut_line_is_gone_before_rows_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, RECORDS[:1], SIGNATURE, Answerer())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(KeyboardInterrupt):
        write_predictions(path, RECORDS, SIGNATURE, Answerer(stop_after=1))
    assert ids(path) == ["DR/test/7", "DR/test/6"]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_resumable_predictions import RECORDS, SIGNATURE, Answerer, Path, write_predictions
def answer(records):
    for number, rows in enumerate(Answerer()(records)):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield rows
write_predictions(Path(sys.argv[2]), RECORDS, SIGNATURE, answer)
"""


def test_kill_9_loses_at_most_the_batch_under_way(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(path)]
    assert subprocess.run(command, cwd=Path(__file__).parents[2]).returncode == -signal.SIGKILL
    assert len(ids(path)) == 4
    write_predictions(path, RECORDS, SIGNATURE, Answerer())
    assert ids(path) == [record.id for record in RECORDS]


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, RECORDS, SIGNATURE, Answerer())
    before = path.read_bytes()
    with pytest.raises(UserError, match="style was plain, is chatml"):
        write_predictions(path, RECORDS, SIGNATURE | {"style": "chatml"}, Answerer())
    with pytest.raises(UserError, match=r"top_p was None, is 0\.9"):
        write_predictions(path, RECORDS, SIGNATURE | {"top_p": 0.9}, Answerer())
    assert path.read_bytes() == before
    # Another path to the same weights, or another version, does not change what was asked.
    moved = {"model": "elsewhere", "adapter": "elsewhere/adapter", "versions": {"jax": "2"}}
    write_predictions(path, RECORDS, SIGNATURE | moved, Answerer())


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"other": 1}\n')
    with pytest.raises(UserError, match=r"exists without p\.meta\.json"):
        write_predictions(path, RECORDS, SIGNATURE, Answerer())
    path.unlink()
    write_predictions(path, RECORDS, SIGNATURE, Answerer())
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "not json\n", *lines[1:]]))
    with pytest.raises(UserError, match="line 2: not a prediction"):
        write_predictions(path, RECORDS, SIGNATURE, Answerer())
    path.write_text("".join(lines))
    with pytest.raises(UserError, match="4 rows of other records"):
        write_predictions(path, RECORDS[:3], SIGNATURE, Answerer())
    signature_path(path).write_text("{")
    with pytest.raises(UserError, match="damaged"):
        write_predictions(path, RECORDS, SIGNATURE, Answerer())


def test_bad_places_and_repeated_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in \.jsonl"):
        write_predictions(tmp_path / "p.csv", RECORDS, SIGNATURE, Answerer())
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        write_predictions(tmp_path / "folder.jsonl", RECORDS, SIGNATURE, Answerer())
    with pytest.raises(UserError, match="repeat an id"):
        write_predictions(tmp_path / "p.jsonl", [RECORDS[0], RECORDS[0]], SIGNATURE, Answerer())
    assert sorted(os.listdir(tmp_path)) == ["folder.jsonl"]


def test_two_writers_of_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"

    def answer(records):
        with pytest.raises(UserError, match="another process"):
            write_predictions(path, RECORDS, SIGNATURE, Answerer())
        yield from Answerer()(records)

    write_predictions(path, RECORDS, SIGNATURE, answer)
    assert ids(path) == [record.id for record in RECORDS]


def test_fingerprints_see_what_matters() -> None:
    moved = [Record(r.id, r.dataset, r.post, r.label, source="other.csv:1") for r in RECORDS]
    changed = [*RECORDS[:-1], Record(RECORDS[-1].id, "DR", "post 7 ", "yes")]
    assert records_fingerprint(moved) == records_fingerprint(RECORDS)
    assert records_fingerprint(changed) != records_fingerprint(RECORDS) != records_fingerprint(RECORDS[::-1])

    params = {"a": jnp.arange(10_000.0).reshape(100, 100), "b": {"c": jnp.ones(3)}}
    same = {"a": jnp.arange(10_000.0).reshape(100, 100), "b": {"c": jnp.ones(3)}}
    assert params_fingerprint(params) == params_fingerprint(same)
    for other in (
        {"a": params["a"] * 1.0001, "b": params["b"]},
        {"a": params["a"], "b": {"c": jnp.ones(3, jnp.bfloat16)}},
        {"a": params["a"].reshape(50, 200), "b": params["b"]},
    ):
        assert params_fingerprint(other) != params_fingerprint(params)


@pytest.mark.parametrize("damage", [b"NaN", b'{"a": 1, "a": 2}', b"[" * 50_000, b'"\\ud800"', b"[]", b"\xff"])
def test_a_damaged_signature_is_one_line(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, RECORDS, SIGNATURE, Answerer())
    signature_path(path).write_bytes(damage)
    with pytest.raises(UserError, match=r"p\.meta\.json: .*it is damaged, so p\.jsonl cannot be continued"):
        write_predictions(path, RECORDS, SIGNATURE, Answerer())


def test_a_whole_line_that_is_no_prediction_is_never_dropped(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, RECORDS[:3], SIGNATURE, Answerer())
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for last, expected in ((lines[2].replace(b'"DR"', b"NaN"), "line 3: not a prediction"), (lines[0], "line 3: id")):
        path.write_bytes(b"".join([*lines[:2], last]))
        with pytest.raises(UserError, match=expected):
            write_predictions(path, RECORDS[:3], SIGNATURE, Answerer())
        assert path.read_bytes() == b"".join([*lines[:2], last])


def test_without_locks_the_file_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    write_predictions(tmp_path / "p.jsonl", RECORDS, SIGNATURE, Answerer())
    assert len(ids(tmp_path / "p.jsonl")) == len(RECORDS)
