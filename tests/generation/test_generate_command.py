"""`mentallama generate` as a user runs it."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import jax.numpy as jnp
import pytest
from child_processes import cpu_environment
from command_words import changed
from tiny_decoder import random_params, shape

from mentallama_jax.cli.answerer_options import STYLES
from mentallama_jax.cli.main import main
from mentallama_jax.config import Style, parse_config
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.model_card import ModelCard
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.generation.answers import answer_batches
from mentallama_jax.jobs import answer as job
from mentallama_jax.training.run.checkpoints import Checkpoints
from mentallama_jax.training.run.run_directory import RunDirectory

SAMPLE_TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    config = shape(vocab_size=1024, num_layers=1, max_positions=512)
    save_hf(
        folder,
        config,
        random_params(config),
        load_tokenizer(SAMPLE_TOKENIZER),
        card=ModelCard("tiny", "org/base", base_is_hub_id=True),
    )
    return folder


def generate(model: Path, out: Path, *more: str) -> int:
    few = ["--max-new-tokens", "4", "--max-rows", "1"]
    return main(changed(["generate", str(model), "--data", "sample:test", "--out", str(out), *few], *more))


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_writes_one_row_of_each_data_set_and_says_what_it_did(model: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "p.jsonl"
    assert generate(model, out, "--show", "1") == 0
    printed = capsys.readouterr().out
    rows = rows_of(out)
    assert len(rows) == len({row["dataset"] for row in rows}) == 10
    assert "style: plain (the tokenizer has no <|im_start|>)" in printed
    assert "wrote 10 predictions" in printed
    assert "hit the limit of 4 tokens: " in printed
    assert f"{rows[0]['id']} (gold: {rows[0]['label']})" in printed
    meta = json.loads((tmp_path / "p.meta.json").read_text())
    assert meta["style"] == "plain"
    assert meta["sampling"] == {"temperature": 0.0, "top_k": None, "top_p": 1.0, "seed": None}
    assert meta["max_length"] == 512
    assert meta["versions"]["jax"]


@pytest.mark.long
def test_a_mesh_gives_the_answers_of_one_device(model: Path, tmp_path: Path) -> None:
    words = ["generate", str(model), "--data", "sample:test", "--max-new-tokens", "4", "--max-rows", "1", "--out"]
    program = (
        "import sys; from mentallama_jax.cli.main import main\n"
        f"sys.exit(main({[*words, str(tmp_path / 'one.jsonl')]!r})\n"
        f"  or main({[*words, str(tmp_path / 'mesh.jsonl'), '--mesh', 'fsdp=2', 'tensor=2']!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=cpu_environment(8), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "mesh.jsonl") == rows_of(tmp_path / "one.jsonl")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sequence=2"], "--mesh sequence=2: give data=N, fsdp=N or tensor=N"),
        (["fsdp=0"], "--mesh fsdp=0"),
        (["fsdp"], "--mesh fsdp:"),
        (["fsdp=999"], "999 devices"),
    ],
)
def test_a_mesh_that_is_none_is_refused(model: Path, tmp_path: Path, capsys, words: list[str], said: str) -> None:
    assert generate(model, tmp_path / "p.jsonl", "--mesh", *words) == 2
    assert said in capsys.readouterr().err


def test_the_same_command_goes_on_and_another_is_refused(model: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "p.jsonl"
    sampled = ["--datasets", "DR", "SAD", "IRF", "--temperature", "1", "--top-p", "0.9"]
    assert generate(model, out, *sampled) == 0
    whole = out.read_bytes()
    out.write_bytes(b"".join(whole.splitlines(keepends=True)[:1]) + b'{"id": "SA')
    capsys.readouterr()
    assert generate(model, out, *sampled, "--batch-size", "2") == 0
    captured = capsys.readouterr()
    assert out.read_bytes() == whole
    assert "going on: 1 rows are there, 2 are left" in captured.err
    assert "(2 now, " in captured.out
    assert generate(model, out, *sampled, "--seed", "1") == 2
    assert "sampling.seed was 0, is 1" in capsys.readouterr().err
    assert out.read_bytes() == whole


def test_int8_is_in_the_signature_and_other_words_are_refused(model: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "p.jsonl"
    assert generate(model, out, "--datasets", "DR", "--cache-dtype", "int8", "--weights", "int8") == 0
    assert json.loads((tmp_path / "p.meta.json").read_text())["int8"] == ["cache", "weights"]
    capsys.readouterr()
    assert generate(model, out, "--datasets", "DR", "--weights", "int8") == 2
    assert "int8" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        generate(model, out, "--weights", "int4")


def test_ctrl_c_keeps_what_is_finished(model: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments, **options):
        yield next(answer_batches(*arguments, **options))
        raise KeyboardInterrupt

    out, few = tmp_path / "p.jsonl", ["--datasets", "DR", "SAD", "--batch-size", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(job, "answer_batches", interrupted)
        assert generate(model, out, *few) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert len(rows_of(out)) == 1
    assert generate(model, out, *few) == 0
    assert len(rows_of(out)) == 2


def test_a_full_disk_is_one_line_and_loses_nothing(
    model: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:  # the signature is there, the first batch is not
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "p.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert generate(model, out, "--datasets", "DR") == 2
    assert capsys.readouterr().err.startswith(f"error: {out}: cannot be written (No space left on device)")
    assert generate(model, out, "--datasets", "DR") == 0
    assert len(rows_of(out)) == 1


def test_answers_with_a_run_in_its_own_style(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse_config(
        {
            "model": {"source": "toy", "weights": "random"},
            "data": {"train": ["sample"], "style": "completion", "max_length": 300},
            "training": {"run_dir": "run", "steps": 1},
        },
        "test",
    )
    model_config = shape(vocab_size=1024, num_layers=1, max_positions=512)
    run = RunDirectory("run")
    with run.locked():
        run.prepare(config, model_config, {"fingerprints": {}}, load_tokenizer(SAMPLE_TOKENIZER), say=print)
    with Checkpoints(run.checkpoints, config) as checkpoints:
        checkpoints.save(1, {"params": random_params(model_config), "opt_state": {}, "step": jnp.int32(1)})
    assert generate(Path("run"), Path("p.jsonl"), "--datasets", "DR") == 0
    printed = capsys.readouterr().out
    assert "model: run, checkpoint of update 1" in printed
    assert "style: completion (as trained)" in printed
    meta = json.loads(Path("p.meta.json").read_text())
    assert (meta["style"], meta["max_length"], meta["update"]) == ("completion", 300, 1)
    assert generate(Path("run"), Path("q.jsonl"), "--revision", "main") == 2
    assert "goes with a hub id, but this is a run directory" in capsys.readouterr().err


def test_scores_labels(model: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "p.jsonl"
    assert generate(model, out, "--score-labels", "--datasets", "DR", "CAMS") == 0
    rows = rows_of(out)
    assert {len(row["label_log_probabilities"]) for row in rows} == {2, 6}
    assert main(["evaluate", str(out), "--out", str(tmp_path / "scores")]) == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert {name: values["unparsed"] for name, values in scores["datasets"].items()} == {"DR": 0, "CAMS": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--top-k", "5"], "temperature above 0"),
        (["--max-rows", "0"], "--max-rows 0"),
        (["--max-length", "513"], "512 positions"),
        (["--checkpoint", "last"], "not one"),
        (["--datasets", "DRR"], "did you mean DR?"),
    ],
)
def test_mistakes_are_one_line(model: Path, tmp_path: Path, capsys, change: list[str], message: str) -> None:
    assert generate(model, tmp_path / "p.jsonl", *change) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_styles_offered_are_those_there_are() -> None:
    assert get_args(Style) == STYLES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--distributed", "--process", "1"], "either --distributed alone"),
        (["--distributed", "--beams", "4"], "encoder-decoders answer on one host"),
    ],
)
def test_what_one_host_alone_can_do_is_refused_before_anything_is_read(tmp_path, capsys, words, said) -> None:
    asked = ["generate", str(tmp_path / "absent"), "--data", str(tmp_path / "absent"), "--out", "p.jsonl"]
    assert main([*asked, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    one = ["generate", "absent", "--post", "text", "--task", "DR", "--coordinator", "h:1", "--processes", "2"]
    assert main([*one, "--process", "0"]) == 2
    assert "--post is answered by one host" in capsys.readouterr().err
