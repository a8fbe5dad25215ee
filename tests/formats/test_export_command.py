import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from small_models import CARD, TINY, random_params

from mentallama_jax.cli.main import main
from mentallama_jax.formats.export import save_hf
from mentallama_jax.formats.hf import SINGLE
from mentallama_jax.formats.tokenizer import Tokenizer


@pytest.fixture
def source(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    save_hf(tmp_path / "source", TINY, random_params(TINY), tokenizer, card=CARD)
    return tmp_path / "source"


def test_converts_a_folder(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"datasets": {"DR": {"n": 4, "accuracy": 0.75}}, "signature": {}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    out = tmp_path / "out"
    options = ["--dtype", "bfloat16", "--scores", str(tmp_path / "scores.json")]
    assert main(["export", str(source), "--out", str(out), *options]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {source} to {out} (")
    assert {str(tensor.dtype) for tensor in load_file(out / SINGLE).values()} == {"bfloat16"}
    card = (out / "README.md").read_text()
    assert "| DR | 4 | 0.7500 |" in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere/at/all", "--out", "{tmp}/out"], "no such folder or file"),
        (["{source}", "--out", "{source}"], "exists already"),
        (["{source}", "--out", "{tmp}/out", "--checkpoint", "last"], "--checkpoint goes with a run directory"),
        (["{source}", "--out", "{tmp}/out", "--scores", "{tmp}/none.json"], "none.json: no such file"),
        (["{source}", "--out", "{tmp}/out", "--scores", "{source}/config.json"], "no scores in it"),
        (["{source}", "--out", "{tmp}/out", "--max-shard-gb", "0"], "give a size above 0"),
        (["{source}", "--out", "{tmp}/out", "--revision", "main"], "a revision (main) goes with a hub id"),
    ],
)
def test_mistakes_are_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    filled = [argument.format(source=source, tmp=tmp_path) for argument in arguments]
    assert main(["export", *filled]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert reason in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
