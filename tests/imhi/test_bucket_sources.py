"""Sources on buckets: read as the same files here are, under their own names."""

import json
from pathlib import Path

import pytest

from mentallama_jax.cli import main as command_line
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.audit.inventory import survey
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.data_files.writers import write_records, write_release
from mentallama_jax.storage import as_path

SAMPLE = read_records(["sample"]).records


def put(folder: Path, url: str) -> None:
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        (as_path(url) / file.relative_to(folder).as_posix()).write_bytes(file.read_bytes())


@pytest.fixture
def release(tmp_path: Path, remote: str) -> tuple[Path, str]:
    """The sample in the released layout, here and on the bucket, with files that are not to be read."""
    folder = tmp_path / "imhi"
    write_release(folder, SAMPLE)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "DR.csv").write_text("not,read\n")
    (folder / "notes.txt").write_text("not read")
    put(folder, remote)
    return folder, remote


def essence(records: list) -> list:
    return [(r.id, r.dataset, r.post, r.label, r.explanation, r.aspect, r.split) for r in records]


@pytest.mark.parametrize("split", ["", ":train", ":val", ":test"])
def test_a_folder_gives_what_it_gives_here(release, split):
    folder, url = release
    here, there = read_records([f"{folder}{split}"]), read_records([f"{url}{split}"])
    assert essence(there.records) == essence(here.records)
    assert there.records[0].source.startswith(f"{url}/")
    assert [str(path) for path in there.passed_over] == [
        str(path).replace(str(folder), url, 1) for path in here.passed_over
    ]


def test_a_survey_finds_the_same_twins(release):
    folder, url = release
    here, there = survey([str(folder)]), survey([url])
    assert len(there.twins) == len(here.twins) > 0
    assert [file.file for file in there.files] == [file.file.replace(str(folder), url, 1) for file in here.files]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_one_file_may_be_named_twice(suffix, remote, tmp_path):
    write_records(tmp_path / f"mine{suffix}", SAMPLE)
    put(tmp_path, remote)
    found = read_records([f"{remote}/mine{suffix}:train", f"{remote}/mine{suffix}:val", remote + "/:val"])
    assert essence(found.records) == essence([r for r in SAMPLE if r.split in ("train", "val")])


def test_what_is_wrong_names_the_url(remote):
    (as_path(remote) / "bad.csv").write_bytes(b"query,gpt-3.5-turbo\n\xff,\n")
    with pytest.raises(UserError, match=f"^{remote}/bad.csv, line 2: is not UTF-8"):
        read_records([remote])
    with pytest.raises(UserError, match=f"^{remote}/absent: no such file or folder"):
        read_records([f"{remote}/absent"])
    with pytest.raises(UserError, match=f"^{remote}:trian: no such file or folder, and 'trian' is no split"):
        read_records([f"{remote}:trian"])


def test_the_data_commands_read_urls_and_write_files(release, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command_line, "COMMANDS", ("data",))
    _, url = release
    assert command_line.main(["data", "check", url, "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert sum(part["rows"] for part in report["parts"]) == len(SAMPLE)
    assert command_line.main(["data", "convert", f"{url}:train", "--out", str(tmp_path / "train.jsonl")]) == 0
    assert len(read_records([tmp_path / "train.jsonl"]).records) == sum(r.split == "train" for r in SAMPLE)

    (as_path(url) / "raw.csv").write_bytes(b"post,label\nAll is grey.,yes\n")
    build = ["data", "build", f"{url}/raw.csv", "--dataset", "DR", "--out"]
    assert command_line.main([*build, str(tmp_path / "built.jsonl")]) == 0
    assert read_records([tmp_path / "built.jsonl"]).records[0].source == f"{url}/raw.csv:1"

    capsys.readouterr()
    assert command_line.main([*build, f"{url}/built.jsonl"]) == 2
    assert capsys.readouterr().err == (
        f"error: {url}/built.jsonl: has to be on a file system here; copy it from or to the bucket yourself\n"
    )
    assert not Path(f"{url.split(':')[0]}:").exists()


def test_predictions_on_a_bucket_are_scored(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "COMMANDS", ("evaluate",))
    gold = '"Yes, the poster suffers from depression."'
    (tmp_path / "DR.csv").write_text(f"goldens,generated_text\n{gold},{gold}\n")
    put(tmp_path, remote)
    assert command_line.main(["evaluate", remote, "--out", str(tmp_path / "scores")]) == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text("utf-8"))
    assert scores["datasets"]["DR"]["accuracy"] == 1.0
    assert f"{remote}/DR.csv" in json.dumps(scores["signature"])
