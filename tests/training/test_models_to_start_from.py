"""What a run may start from: another run, and copies of LLaMA 2 whose padding token has no embedding."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.model_card import ModelCard
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.jobs.open_model import is_run, open_model
from mentallama_jax.jobs.tune import base_model, tune
from mentallama_jax.models.module import init_params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.training.run.opened_run import load_run

SAMPLE_TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"
SHORT = {"epochs": None, "steps": 1}


@pytest.fixture(scope="module")
def first_run(tiny_values: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    tune(parse_config(tiny_values(folder, training={"epochs": None, "steps": 4}), "here"))
    return folder


@pytest.mark.long
def test_the_next_run_starts_from_a_run(first_run: Path, tiny_values: Callable[..., Any], tmp_path: Path) -> None:
    model = {"source": str(first_run), "weights": "pretrained", "tokenizer": None}
    config = parse_config(tiny_values(tmp_path / "second", model=model, training=SHORT), "here")
    base = base_model(config)
    trained = load_run(first_run)
    assert base.config == trained.model_config
    assert base.tokenizer.fingerprint == load_tokenizer(trained.tokenizer).fingerprint
    assert base.load_params is not None
    first = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    jax.tree.map(
        np.testing.assert_array_equal, base.load_params(jax.tree.map(lambda _: first, trained.params)), trained.params
    )
    result = tune(config)
    assert result.steps == 1
    second = load_run(tmp_path / "second")
    assert not np.array_equal(second.params["embedding"], trained.params["embedding"])
    np.testing.assert_allclose(second.params["embedding"], trained.params["embedding"], atol=0.01)


def test_opening_a_run(first_run: Path) -> None:
    opened = open_model(str(first_run))
    assert is_run(first_run)
    assert (opened.update, opened.identity["update"]) == (4, 4)
    assert opened.name == f"{first_run}, checkpoint of update 4"
    assert opened.load_params(jnp.bfloat16, None)["embedding"].dtype == jnp.bfloat16
    with pytest.raises(UserError, match=r"a revision \(main\) goes with a hub id, but this is a run directory"):
        open_model(str(first_run), revision="main")


@pytest.mark.long
def test_opening_what_is_no_run(tmp_path: Path) -> None:
    config = replace(PRESETS["toy"], num_layers=1)
    card = ModelCard("tiny", "org/base", base_is_hub_id=True)
    save_hf(
        tmp_path / "model", config, init_params(config, jax.random.key(0)), load_tokenizer(SAMPLE_TOKENIZER), card=card
    )
    opened = open_model(str(tmp_path / "model"))
    assert (opened.config, opened.run, opened.update, opened.name) == (config, None, None, str(tmp_path / "model"))
    with pytest.raises(UserError, match="--checkpoint goes with a run directory, but this is not one"):
        open_model(str(tmp_path / "model"), checkpoint="best")


@pytest.mark.parametrize("damage", ['{"num_layers": 3}', "[]", "{", '{"rope_scaling": 3}'])
def test_a_run_whose_model_config_is_damaged(first_run: Path, damage: str) -> None:
    path = first_run / "model_config.json"
    whole = path.read_text()
    try:
        path.write_text(damage)
        with pytest.raises(UserError, match=r"model_config\.json: "):
            open_model(str(first_run))
    finally:
        path.write_text(whole)


@pytest.mark.long
def test_a_padding_token_without_an_embedding(
    tiny_values: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Many copies of LLaMA 2 added `<pad>` with id 32000 to 32,000 embeddings."""
    config = replace(PRESETS["toy"], num_layers=1, max_positions=512)
    tokenizer = load_tokenizer(SAMPLE_TOKENIZER)
    folder = tmp_path / "mirror"
    card = ModelCard("mirror", "org/base", base_is_hub_id=True)
    save_hf(folder, config, init_params(config, jax.random.key(0)), tokenizer, card=card)
    spec = json.loads((folder / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    spec["added_tokens"].append({"id": 1024, "content": "<pad>", **flags})
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    named = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(named | {"pad_token": "<pad>"}))
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"pad_token_id": 1024}))

    model = {"source": str(folder), "weights": "pretrained", "tokenizer": None}
    tune(parse_config(tiny_values(tmp_path / "run", model=model, training=SHORT), "here"))
    said = [line for line in capsys.readouterr().err.splitlines() if "pad_token" in line]
    assert said == [
        f"note: {folder}: pad_token '<pad>' has id 1024, but the model has 1,024 embeddings; "
        "'<unk>' (id 0) is used instead"
    ]
    for source in (folder, tmp_path / "run"):
        out = tmp_path / f"{source.name}.jsonl"
        words = ["generate", str(source), "--data", "sample:test", "--out", str(out), "--max-rows", "1"]
        assert main([*words, "--max-new-tokens", "2", "--datasets", "DR", "--max-length", "400"]) == 0
        assert len(out.read_text().splitlines()) == 1
    # A tokenizer named apart from the model has no config.json beside it that would say how many rows there are.
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer, Tokenizer)
    apart = model | {"tokenizer": str(_without(folder, tmp_path / "apart", "config.json"))}
    base = base_model(parse_config(tiny_values(tmp_path / "other", model=apart, training=SHORT), "here"))
    assert (base.tokenizer.vocab_size, base.tokenizer.pad_id) == (1024, 0)


def _without(folder: Path, copy: Path, name: str) -> Path:
    copy.mkdir()
    for file in folder.glob("tokenizer*"):
        (copy / file.name).write_bytes(file.read_bytes())
    assert not (copy / name).exists()
    return copy
