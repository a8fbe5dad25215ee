"""Folders whose files contradict each other, point elsewhere, or claim more than they hold."""

import json
import os
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import CARD, TINY, random_params

from mentallama_jax.errors import UserError
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.load import load_model, load_model_config
from mentallama_jax.formats.shards import SAFETENSORS
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture
def whole(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_hf(tmp_path / "whole", TINY, random_params(TINY), tokenizer, card=CARD)
    return tmp_path / "whole"


@pytest.fixture
def cut(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A model in several files."""
    save_hf(tmp_path / "cut", TINY, random_params(TINY), tokenizer, card=CARD, max_shard_bytes=60_000)
    return tmp_path / "cut"


def refuses(folder: Path, *parts: str, read: Callable[[Path], Any] = load_model) -> None:
    start = time.perf_counter()
    with pytest.raises(UserError) as raised:
        read(folder)
    assert time.perf_counter() - start < 5
    message = str(raised.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 400


def change_index(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    index = json.loads((folder / SAFETENSORS.index).read_text())
    change(index["weight_map"])
    (folder / SAFETENSORS.index).write_text(json.dumps(index))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*.safetensors"))


def test_a_whole_file_beside_an_index_of_others(whole: Path, cut: Path) -> None:
    (cut / SAFETENSORS.single).write_bytes((whole / SAFETENSORS.single).read_bytes())
    refuses(cut, f"{cut}: holds a whole {SAFETENSORS.single}", "remove the one that is not meant")


def test_an_index_of_the_whole_file_is_fine(whole: Path) -> None:
    names = load_file(whole / SAFETENSORS.single)
    (whole / SAFETENSORS.index).write_text(json.dumps({"weight_map": dict.fromkeys(names, SAFETENSORS.single)}))
    assert load_model(whole)[0] == TINY


def several(folder: Path) -> tuple[str, str]:
    """The name of a file with more than one tensor, and of the first of these."""
    file, tensors = next((file, names) for file in shards(folder) if len(names := sorted(load_file(file))) > 1)
    return file.name, tensors[0]


def test_an_index_that_contradicts_its_files(cut: Path) -> None:
    first, held = several(cut)
    last = shards(cut)[-1].name
    change_index(cut, lambda weight_map: weight_map.update({held: last}))
    refuses(cut, first, f"holds {held}", f"places in '{last}'")


def test_an_index_that_lists_too_much_or_too_little(cut: Path) -> None:
    change_index(cut, lambda weight_map: weight_map.update({"extra": shards(cut)[0].name}))
    refuses(cut, SAFETENSORS.index, "places extra in", "does not hold it")
    _, held = several(cut)
    change_index(cut, lambda weight_map: (weight_map.pop("extra"), weight_map.pop(held)))
    refuses(cut, SAFETENSORS.index, f"does not list {held}")


def test_a_tensor_in_two_files(cut: Path) -> None:
    first, last = shards(cut)[0], shards(cut)[-1]
    name, value = next(iter(load_file(first).items()))
    save_file(load_file(last) | {name: value + 1}, last)
    refuses(cut, last.name, f"{name} is in {first.name} too")


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "{tmp}/outside.safetensors", "", ".", "..", "a\x1b[31mb", "a/b", "x" * 300]
)
def test_a_file_name_that_leaves_the_folder(cut: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.safetensors").write_bytes(shards(cut)[0].read_bytes())
    wanted = name.format(tmp=tmp_path)
    change_index(cut, lambda weight_map: weight_map.update(dict.fromkeys(list(weight_map), wanted)))
    refuses(cut, SAFETENSORS.index, "no name of a file in this folder")


def test_a_link_out_of_the_folder(cut: Path, tmp_path: Path) -> None:
    shards(cut)[0].rename(tmp_path / "outside.safetensors")
    (cut / "model-00001-of-00009.safetensors").unlink(missing_ok=True)
    listed = sorted(set(json.loads((cut / SAFETENSORS.index).read_text())["weight_map"].values()))[0]
    (cut / listed).symlink_to(tmp_path / "outside.safetensors")
    refuses(cut, listed, "a link out of the folder")


def test_the_links_of_the_hubs_cache_are_followed(cut: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "abc", tmp_path / "hub" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(cut.iterdir()):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    assert load_model(snapshot)[0] == TINY


@pytest.mark.parametrize("file", ["config.json", "model", "index", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file(whole: Path, cut: Path, file: str, kind: str) -> None:
    folder = cut if file == "index" else whole
    path = folder / {"model": SAFETENSORS.single, "index": SAFETENSORS.index}.get(file, file)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    read = load_tokenizer if file.startswith("tokenizer") else load_model
    refuses(folder, str(path), "not a regular file", read=read)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 2**14),
        ("num_hidden_layers", 4),
        ("vocab_size", 10**12),
        ("vocab_size", 2**27),
        ("intermediate_size", 2**24),
        ("hidden_size", 2**20),
        ("head_dim", 2**13),
        ("num_attention_heads", 2**13),
        ("max_position_embeddings", 10**15),
    ],
)
def test_sizes_that_the_weights_do_not_have(whole: Path, key: str, value: int) -> None:
    values = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps(values | {key: value}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuses(whole, str(whole))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # KB
    if value > 4 and key != "max_position_embeddings":
        refuses(whole, "config.json", read=load_model_config)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"model_type": ' * 100_000,
        b'{"hidden_size": ' + b"9" * 5_000 + b"}",
        b'{"model_type": "\\ud800"}',
        b'{"model_type": "llama", "model_type": "llama"}',
        b"\xff\xfe",
        b"",
        b"3",
        b'"text"',
    ],
    ids=lambda text: repr(text[:20]),
)
@pytest.mark.parametrize("file", ["config.json", "index", "tokenizer.json", "tokenizer_config.json"])
def test_json_that_is_none(whole: Path, file: str, text: bytes) -> None:
    path = whole / (SAFETENSORS.index if file == "index" else file)
    path.write_bytes(text)
    read = load_tokenizer if file.startswith("tokenizer") else load_model
    refuses(whole, str(whole), path.name, read=read)


@pytest.mark.parametrize("weight_map", [None, 3, [], {}, {"a": 3}, {"a": None}, {"a": ["b"]}])
def test_an_index_of_wrong_types(cut: Path, weight_map: Any) -> None:
    (cut / SAFETENSORS.index).write_text(json.dumps({"weight_map": weight_map}))
    refuses(cut, SAFETENSORS.index)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_header(path: Path, header: bytes, data: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


@pytest.mark.parametrize(
    "harm",
    [
        "shifted",
        "overlapping",
        "gap",
        "longer",
        "shorter",
        "other type",
        "negative",
        "no offsets",
        "twice",
        "huge shape",
    ],
)
def test_a_safetensors_header_that_is_wrong(whole: Path, harm: str) -> None:
    header, data = header_of(whole / SAFETENSORS.single)
    names = sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    entry = header[names[1]]
    start, end = entry["data_offsets"]
    changes: dict[str, dict[str, Any]] = {
        "shifted": {"data_offsets": [start + 4, end + 4]},
        "overlapping": {"data_offsets": header[names[0]]["data_offsets"]},
        "gap": {"data_offsets": [start, end - 4], "shape": [1, (end - start) // 4 - 1]},
        "other type": {"dtype": "F16"},
        "negative": {"shape": [-1, -1]},
        "no offsets": {"data_offsets": None},
        "huge shape": {"shape": [2**62, 2**62]},
    }
    entry.update(changes.get(harm, {}))
    data = {"longer": data + b"\0" * 8, "shorter": data[:-8]}.get(harm, data)
    text = json.dumps(header)
    if harm == "twice":
        text = text[:-1] + f", {json.dumps(names[0])}: {json.dumps(header[names[0]])}}}"
    write_header(whole / SAFETENSORS.single, text.encode(), data)
    refuses(whole, str(whole / SAFETENSORS.single), "not a whole safetensors file")


@pytest.mark.parametrize("length", [0, 1, 2**40, 2**63, 2**64 - 1])
def test_a_safetensors_header_that_claims_a_length(whole: Path, length: int) -> None:
    content = (whole / SAFETENSORS.single).read_bytes()
    (whole / SAFETENSORS.single).write_bytes(struct.pack("<Q", length) + content[8:])
    refuses(whole, "not a whole safetensors file")


def test_any_changed_byte_of_the_index_or_header_is_refused_or_harmless(whole: Path) -> None:
    """No damage of the table gives other weights."""
    expected = load_model(whole)[1]
    content = bytearray((whole / SAFETENSORS.single).read_bytes())
    random = np.random.default_rng(0)
    length = struct.unpack("<Q", content[:8])[0]
    for place in random.integers(0, 8 + length, 60):
        changed = bytearray(content)
        changed[place] = random.integers(256)
        (whole / SAFETENSORS.single).write_bytes(changed)
        try:
            params = load_model(whole)[1]
        except UserError:
            continue
        for one, other in zip(_leaves(params), _leaves(expected), strict=True):
            np.testing.assert_array_equal(one, other)


def _leaves(params: Any) -> list[Any]:
    import jax

    return jax.tree.leaves(params)


def test_names_of_tensors_are_made_safe(whole: Path) -> None:
    save_file(
        load_file(whole / SAFETENSORS.single) | {"\x1b[31m" + "x" * 1000: np.zeros(1, np.float32)},
        whole / SAFETENSORS.single,
    )
    refuses(whole, "unknown tensor '\\x1b[31mxxx", "(1005 characters)")
