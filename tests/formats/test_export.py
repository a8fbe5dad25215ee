import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import CARD, TINY, TINY_TIED, random_params

from mentallama_jax.errors import UserError
from mentallama_jax.formats import hf_folder as export
from mentallama_jax.formats.architectures.known_architectures import foreign_shapes
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.load import load_model, load_model_config
from mentallama_jax.formats.shards import SAFETENSORS
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, abstract_params, count_params

Tensors = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def params() -> Params:
    return random_params(TINY)


@pytest.fixture
def exported(tmp_path: Path, params: Params, tokenizer: Tokenizer) -> Path:
    save_hf(tmp_path / "model", TINY, params, tokenizer, card=CARD)
    return tmp_path / "model"


def assert_bit_equal(left: Params, right: Params) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("config", [TINY, TINY_TIED])
def test_what_is_exported_comes_back_bit_equal(tmp_path: Path, tokenizer: Tokenizer, config: LlamaConfig) -> None:
    params = random_params(config)
    save_hf(tmp_path / "model", config, params, tokenizer, card=CARD)
    assert load_model_config(tmp_path / "model") == config
    loaded_config, loaded = load_model(tmp_path / "model")
    assert loaded_config == config
    assert_bit_equal(loaded, params)
    assert load_tokenizer(tmp_path / "model").fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_import_then_export_is_bit_equal_per_tensor(tmp_path: Path, tokenizer: Tokenizer, dtype: Any) -> None:
    """Through fp32 in memory, whatever the source stores."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    save_hf(source, TINY, random_params(TINY), tokenizer, card=CARD, dtype=dtype)
    config, params = load_model(source)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    save_hf(copy, config, params, tokenizer, card=CARD, dtype=dtype, max_shard_bytes=10_000)
    before = load_file(source / SAFETENSORS.single)
    after: Tensors = {}
    for path in copy.glob("*.safetensors"):
        after |= load_file(path)
    assert before.keys() == after.keys() == foreign_shapes(TINY, "hf").keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype == jnp.dtype(dtype)
        assert after[name].tobytes() == tensor.tobytes()


def test_shards_stay_below_their_size_and_the_index_names_each_tensor(tmp_path: Path, tokenizer: Tokenizer) -> None:
    params, folder, limit = random_params(TINY), tmp_path / "model", 40_000
    save_hf(folder, TINY, params, tokenizer, card=CARD, max_shard_bytes=limit)
    index = json.loads((folder / SAFETENSORS.index).read_text())
    assert index["metadata"]["total_size"] == 4 * count_params(TINY)
    files = sorted(folder.glob("model-*.safetensors"))
    assert len(files) > 2
    for path in files:
        tensors = load_file(path)
        assert {name for name, file in index["weight_map"].items() if file == path.name} == tensors.keys()
        assert sum(tensor.nbytes for tensor in tensors.values()) <= limit or len(tensors) == 1
    assert_bit_equal(load_model(folder)[1], params)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_loads_into_the_dtype_asked_for(exported: Path, params: Params, dtype: Any) -> None:
    loaded = load_model(exported, dtype=dtype)[1]
    assert_bit_equal(loaded, jax.tree.map(lambda x: x.astype(dtype), params))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), loaded) == jax.tree.map(
        lambda x: (x.shape, x.dtype), abstract_params(TINY, dtype)
    )


def change(folder: Path, **changes: np.ndarray[Any, Any] | None) -> None:
    """Replace tensors of the file (None removes); the names have `__` for `.`."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    tensors = {**load_file(folder / SAFETENSORS.single), **named}
    save_file({name: value for name, value in tensors.items() if value is not None}, folder / SAFETENSORS.single)


def test_a_missing_and_an_extra_tensor_name_each_other(exported: Path) -> None:
    name = "model.layers.1.mlp.gate_proj.weight"
    tensors = load_file(exported / SAFETENSORS.single)
    tensors["model.layers.1.mlp.gate.weight"] = tensors.pop(name)
    save_file(tensors, exported / SAFETENSORS.single)
    with pytest.raises(UserError) as raised:
        load_model(exported)
    assert str(raised.value) == (
        f"{exported}: missing tensor {name} (nearest: model.layers.1.mlp.gate.weight); "
        f"unknown tensor model.layers.1.mlp.gate.weight (nearest: {name})"
    )


def test_a_misshapen_tensor_is_named_with_both_shapes(exported: Path) -> None:
    change(exported, model__norm__weight=np.zeros(31, np.float32))
    with pytest.raises(UserError, match=r"wrong shape: model.norm.weight is \[31\], the config asks for \[32\]"):
        load_model(exported)


def test_many_problems_are_summed_up(exported: Path) -> None:
    config = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    with pytest.raises(UserError, match=r"missing tensor model\.layers\.3\..* and 15 more$"):
        load_model(exported)


def test_buffers_of_old_checkpoints_are_no_strangers(exported: Path, params: Params) -> None:
    change(exported, model__layers__0__self_attn__rotary_emb__inv_freq=np.zeros(4, np.float32))
    assert_bit_equal(load_model(exported)[1], params)


def test_a_head_beside_tied_embeddings_must_equal_them(tmp_path: Path, tokenizer: Tokenizer) -> None:
    params, folder = random_params(TINY_TIED), tmp_path / "model"
    save_hf(folder, TINY_TIED, params, tokenizer, card=CARD)
    embedding = np.asarray(params["embedding"])
    change(folder, lm_head__weight=embedding)
    assert_bit_equal(load_model(folder)[1], params)
    change(folder, lm_head__weight=embedding + 1)
    with pytest.raises(UserError, match=r"lm_head.weight differs from model.embed_tokens.weight"):
        load_model(folder)


def test_quantised_tensors_are_refused_by_name(exported: Path) -> None:
    change(exported, model__norm__weight=np.zeros(32, np.int8))
    with pytest.raises(UserError, match=r"model.norm.weight is stored as I8"):
        load_model(exported)


def test_half_a_file(exported: Path) -> None:
    path = exported / SAFETENSORS.single
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=f"^{path}: not a whole safetensors file"):
        load_model(exported)


def test_a_missing_shard(tmp_path: Path, params: Params, tokenizer: Tokenizer) -> None:
    save_hf(tmp_path / "model", TINY, params, tokenizer, card=CARD, max_shard_bytes=40_000)
    second = sorted((tmp_path / "model").glob("model-*"))[1]
    second.unlink()
    with pytest.raises(UserError, match=f"^{second}: missing, though"):
        load_model(tmp_path / "model")


def test_a_folder_without_safetensors(exported: Path) -> None:
    (exported / SAFETENSORS.single).unlink()
    with pytest.raises(UserError, match=r"no model.safetensors"):
        load_model(exported)
    (exported / "pytorch_model.bin").touch()
    with pytest.raises(UserError, match="but the weights have 0 bytes"):
        load_model(exported)


def test_everybody_may_read_an_export(exported: Path) -> None:
    assert {oct(path.stat().st_mode & 0o777) for path in exported.iterdir()} == {"0o644"}
    assert exported.stat().st_mode & 0o777 == 0o755


def test_ids_of_config_and_generation_config(exported: Path) -> None:
    expected = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    assert json.loads((exported / "generation_config.json").read_text()) == expected
    assert json.loads((exported / "config.json").read_text()).items() >= expected.items()


@pytest.mark.long
def test_the_card_tells_what_it_is_told(tmp_path: Path, params: Params, tokenizer: Tokenizer) -> None:
    scores = {"datasets": {"DR": {"n": 10, "weighted_f1": 0.5}}, "signature": {"style": "plain"}}
    card = replace(CARD, data={"files": ("a.csv", "b|c.csv")}, recipe={"training.epochs": 3}, scores=scores)
    save_hf(tmp_path / "model", TINY, params, tokenizer, card=card)
    text = (tmp_path / "model" / "README.md").read_text()
    for part in (
        "base_model: org/base\n",
        "| files | a.csv, b\\|c.csv |",
        "| training.epochs | 3 |",
        "| DR | 10 |  | 0.5000 |",
        "| style | plain |",
        "Not for clinical use",
        "crisis line",
        f"{count_params(TINY):,} parameters",
    ):
        assert part in text


def test_an_existing_folder_is_left_alone(exported: Path, params: Params, tokenizer: Tokenizer) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in exported.iterdir()}
    with pytest.raises(UserError, match="exists already"):
        save_hf(exported, TINY, params, tokenizer, card=CARD)
    assert before == {path.name: path.stat().st_mtime_ns for path in exported.iterdir()}


def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, params: Params, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        save_hf(tmp_path / "model", TINY, params, tokenizer, card=CARD)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_seen_before_writing(
    tmp_path: Path, params: Params, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(export.shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    with pytest.raises(UserError, match=r"needs 0\.07 GB of disk, 0\.01 GB are free"):
        save_hf(tmp_path / "model", TINY, params, tokenizer, card=CARD)
    assert not list(tmp_path.iterdir())


def test_values_beyond_float16_are_named(tmp_path: Path, params: Params, tokenizer: Tokenizer) -> None:
    large = params | {"final_norm": {"scale": params["final_norm"]["scale"].at[3].set(1e5)}}
    with pytest.raises(UserError, match=r"model.norm.weight: has values that float16 cannot hold"):
        save_hf(tmp_path / "model", TINY, large, tokenizer, card=CARD, dtype="float16")
    save_hf(tmp_path / "model", TINY, large, tokenizer, card=CARD, dtype="bfloat16")
    stored = load_file(tmp_path / "model" / SAFETENSORS.single)["model.norm.weight"]
    assert stored[3] == ml_dtypes.bfloat16(1e5)
