"""A weight that is no number stops every way of reading a model, with the tensor's name."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import CARD, TINY, random_params

from mentallama_jax.cli.main import main
from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.load import load_model
from mentallama_jax.formats.shards import SAFETENSORS
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
from mentallama_jax.models.finite import nonfinite_parameter, unfit
from mentallama_jax.training.run.checkpoints import Checkpoints
from mentallama_jax.training.run.opened_run import load_run
from mentallama_jax.training.run.run_directory import RunDirectory

SHAPE = replace(TINY, max_positions=512)
NORM = "model.layers.1.post_attention_layernorm.weight"


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_hf(tmp_path / "model", SHAPE, random_params(SHAPE), tokenizer, card=CARD)
    return tmp_path / "model"


def put(folder: Path, value: float, dtype: Any = np.float32, name: str = NORM) -> None:
    """Store the model as `dtype` with one number of one tensor replaced."""
    tensors = {key: tensor.astype(dtype) for key, tensor in load_file(folder / SAFETENSORS.single).items()}
    tensors[name].reshape(-1)[-1] = value
    save_file(tensors, folder / SAFETENSORS.single)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_stored_number_that_is_none(folder: Path, value: float, dtype: Any) -> None:
    put(folder, value, dtype)
    with pytest.raises(UserError, match=f"{NORM} holds NaN or infinity"):
        load_model(folder)


@pytest.mark.parametrize(("value", "dtype"), [(3.4e38, "bfloat16"), (-7e4, "float16")])
def test_a_number_that_the_wanted_type_cannot_hold(folder: Path, value: float, dtype: str) -> None:
    put(folder, value)
    assert load_model(folder)[0] == SHAPE
    with pytest.raises(UserError, match=f"{NORM} holds .*, which {dtype} cannot hold"):
        load_model(folder, dtype=dtype)


def test_the_largest_number_of_a_type_is_none_too_many(folder: Path) -> None:
    put(folder, 65504.0)
    load_model(folder, dtype="float16")


def test_in_a_gguf_file(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    from test_gguf import write_gguf

    params = random_params(TINY)
    params["layers"]["attention"]["key"] = params["layers"]["attention"]["key"].at[2, 3, 1, 4].set(jnp.nan)
    with pytest.raises(UserError, match=r"blk\.2\.attn_k\.weight holds NaN or infinity"):
        load_model(write_gguf(tmp_path / "model.gguf", TINY, params))


def test_in_a_checkpoint_of_a_run(tokenizer: Tokenizer, tmp_path: Path) -> None:
    sections = {
        "model": {"source": "toy", "weights": "random"},
        "data": {"train": ["sample"], "style": "plain", "max_length": 64},
        "training": {"steps": 2, "run_dir": str(tmp_path)},
        "checkpoint": {"keep_last": 2},
    }
    config = parse_config(sections, "here")
    run = RunDirectory(tmp_path)
    params = random_params(TINY)
    with run.locked():
        run.prepare(config, TINY, {"fingerprints": {}}, tokenizer, say=print)
        with Checkpoints(run.checkpoints, config) as checkpoints:
            checkpoints.save(1, {"params": params, "opt_state": {}, "step": jnp.zeros((), jnp.int32)})
            params["final_norm"]["scale"] = params["final_norm"]["scale"].at[5].set(jnp.inf)
            checkpoints.save(2, {"params": params, "opt_state": {}, "step": jnp.zeros((), jnp.int32)})
    assert load_run(tmp_path, 1).checkpoint.step == 1
    with pytest.raises(UserError, match=r"final_norm\.scale holds NaN or infinity"):
        load_run(tmp_path, 2)


@pytest.mark.parametrize("command", ["train", "generate", "score", "export"])
def test_every_command_stops(folder: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder, np.nan)
    answering = ["generate", str(folder), "--data", "sample:test", "--max-rows", "1", "--max-length", "64"]
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "model": {"source": str(folder)},
                "data": {"train": ["sample:train"], "max_length": 512, "style": "plain"},
                "training": {"steps": 1, "run_dir": str(tmp_path / "run")},
            }
        )
    )
    words = {
        "train": ["train", str(config)],
        "generate": [*answering, "--out", str(tmp_path / "p.jsonl")],
        "score": [*answering, "--score-labels", "--out", str(tmp_path / "p.jsonl")],
        "export": ["export", str(folder), "--out", str(tmp_path / "out")],
    }[command]
    assert main(words) != 0
    assert re.search(rf"{re.escape(NORM)}:? holds NaN or infinity", capsys.readouterr().err)
    assert not (tmp_path / "p.jsonl").exists()
    assert not (tmp_path / "out").exists()


def test_unfit_looks_at_every_place() -> None:
    for size in (1, 5, 1 << 22, (1 << 22) + 3):
        for dtype in (np.float32, np.float16, jnp.bfloat16):
            tensor = np.ones(size, dtype)
            assert unfit(tensor, np.float16) is None
            tensor[-1] = np.nan
            assert unfit(tensor, np.float32) == "holds NaN or infinity"


def test_the_path_of_a_parameter() -> None:
    params = random_params(TINY)
    assert nonfinite_parameter(params) is None
    bad = jax.tree.map(lambda x: x, params)
    bad["layers"]["mlp"]["up"] = bad["layers"]["mlp"]["up"].at[0, 0, 0].set(jnp.nan)
    assert nonfinite_parameter(bad) == "layers.mlp.up"
