import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from small_models import CARD, TINY, random_params

from mentallama_jax.cli.main import main
from mentallama_jax.config import parse_config
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.load import load_model
from mentallama_jax.formats.shards import SAFETENSORS
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.training.run.checkpoints import Checkpoints
from mentallama_jax.training.run.run_directory import RunDirectory


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
    assert {str(tensor.dtype) for tensor in load_file(out / SAFETENSORS.single).values()} == {"bfloat16"}
    card = (out / "README.md").read_text()
    assert "| DR | 4 | 0.7500 |" in card
    assert str(tmp_path) not in card


def test_exports_the_best_or_the_last_checkpoint_of_a_run(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse_config(
        {
            "model": {"source": "toy", "weights": "random"},
            "data": {"train": ["/home/somebody/secret/train.csv", "sample"]},
            "training": {"run_dir": "run", "steps": 2},
        },
        "test",
    )
    run = RunDirectory("run")
    with run.locked():
        run.prepare(config, TINY, {"fingerprints": {}}, tokenizer, say=print)
    params = {step: jax.tree.map(lambda x, step=step: x * step, random_params(TINY)) for step in (1, 2)}
    with Checkpoints(run.checkpoints, config) as checkpoints:
        for step in (1, 2):
            state = {"params": params[step], "opt_state": {"count": jnp.zeros(1)}, "step": jnp.int32(step)}
            checkpoints.save(step, state)
            checkpoints.add_scores(step, {"validation_loss": float(step)})
    for options, step in (([], 1), (["--checkpoint", "last"], 2)):
        out = Path(f"out-{step}")
        assert main(["export", "run", "--out", str(out), *options]) == 0
        jax.tree.map(np.testing.assert_array_equal, load_model(out)[1], params[step])
        assert load_tokenizer(out).fingerprint == tokenizer.fingerprint
        card = (out / "README.md").read_text()
        assert "`none: random weights in the shape of toy`" in card
        assert f"| updates | {step} |" in card
        assert "| files | train.csv, sample |" in card
        assert "secret" not in card


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
