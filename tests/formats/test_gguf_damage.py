"""GGUF files whose header lies: about offsets, sizes, types, counts and lengths."""

import resource
import struct
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from small_models import TINY, random_params
from test_gguf import tokenizer_metadata, write_gguf

from mentallama_jax.errors import UserError
from mentallama_jax.formats.load import load_model, load_model_config
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer

gguf = pytest.importorskip("gguf", reason="the extra gguf is not installed")
F32, F16, BF16, I32, Q8_0 = 0, 1, 30, 26, 8
NORM, UP = "blk.1.attn_norm.weight", "blk.1.ffn_up.weight"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "model.gguf", TINY, random_params(TINY), tokenizer_metadata())


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def patch(path: Path, place: int, form: str, value: Any) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, place, value)
    path.write_bytes(content)


def entry(path: Path, name: str) -> tuple[int, int, int]:
    """Places of the first dimension, the type and the offset of a tensor in its file."""
    content = path.read_bytes()
    place = content.index(text(name)) + 8 + len(name)
    dimensions = struct.unpack_from("<I", content, place)[0]
    return place + 4, place + 4 + 8 * dimensions, place + 8 + 8 * dimensions


def value_of(path: Path, key: str) -> int:
    """Place of the type of a key's value; the value comes four bytes later."""
    return path.read_bytes().index(text(key)) + 8 + len(key)


def refuses(path: Path, *parts: str, read: Any = load_model) -> None:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as raised:
        read(path)
    message = str(raised.value)
    assert all(part in message for part in (str(path), *parts)), message
    assert message.isprintable()
    assert len(message) < 400
    assert time.perf_counter() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # KB


@pytest.mark.parametrize("shift", [1, 16, 32, -32, 64, 2**20, 2**63, "last", "first"])
@pytest.mark.parametrize("name", [NORM, UP])
def test_an_offset_that_is_shifted(path: Path, name: str, shift: int | str) -> None:
    place = entry(path, name)[2]
    offset = struct.unpack_from("<Q", path.read_bytes(), place)[0]
    patch(path, place, "<Q", {"last": 2**64 - 1, "first": 0}.get(shift) if isinstance(shift, str) else offset + shift)
    refuses(path, "not a whole GGUF file", "offset")


@pytest.mark.parametrize("kind", [F16, BF16, I32, Q8_0, 4, 99, 2**32 - 1])
def test_a_tensor_of_another_type(path: Path, kind: int) -> None:
    """With half the bytes, the tensors no longer fill the file; an integer is no weight."""
    patch(path, entry(path, UP)[1], "<I", kind)
    refuses(path)


@pytest.mark.parametrize("kind", [F16, BF16])
def test_the_last_tensor_of_another_type(path: Path, kind: int) -> None:
    patch(path, entry(path, "output.weight")[1], "<I", kind)
    refuses(path, "its tensors end at byte")


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**63, 2**64 - 1])
def test_a_dimension_that_is_wrong(path: Path, size: int) -> None:
    patch(path, entry(path, UP)[0], "<Q", size)
    refuses(path)


def test_two_tensors_of_different_sizes_that_swap_places(path: Path) -> None:
    first, second = entry(path, NORM)[2], entry(path, UP)[2]
    content = path.read_bytes()
    offsets = [struct.unpack_from("<Q", content, place)[0] for place in (first, second)]
    patch(path, first, "<Q", offsets[1])
    patch(path, second, "<Q", offsets[0])
    refuses(path, "offset")


@pytest.mark.parametrize(("place", "form"), [(8, "<Q"), (16, "<Q")])
@pytest.mark.parametrize("count", [10**6, 2**40, 2**63, 2**64 - 1])
def test_counts_that_the_file_does_not_hold(path: Path, place: int, form: str, count: int) -> None:
    patch(path, place, form, count)
    refuses(path, "not a whole GGUF file")


@pytest.mark.parametrize("count", [10**6, 2**22, 2**40, 2**64 - 1])
@pytest.mark.parametrize("key", ["tokenizer.ggml.tokens", "tokenizer.ggml.scores"])
def test_lists_that_the_file_does_not_hold(path: Path, key: str, count: int) -> None:
    patch(path, value_of(path, key) + 8, "<Q", count)
    refuses(path, "not a whole GGUF file")
    refuses(path, "not a whole GGUF file", read=load_tokenizer)


@pytest.mark.parametrize("length", [10**6, 2**40, 2**64 - 1])
def test_texts_that_the_file_does_not_hold(path: Path, length: int) -> None:
    patch(path, value_of(path, "tokenizer.ggml.model") + 4, "<Q", length)
    refuses(path, "not a whole GGUF file")


def test_lists_in_lists(path: Path) -> None:
    patch(path, value_of(path, "tokenizer.ggml.tokens") + 4, "<I", 9)
    refuses(path, "a list of the type 9")


@pytest.mark.parametrize("alignment", [0, 3, 48, 2**20, 2**32 - 1])
def test_an_alignment_that_is_none(tmp_path: Path, alignment: int) -> None:
    path = write_gguf(tmp_path / "model.gguf", TINY, random_params(TINY), {"general.alignmenX": 32})
    path.write_bytes(path.read_bytes().replace(b"general.alignmenX", b"general.alignment"))
    patch(path, value_of(path, "general.alignment") + 4, "<I", alignment)
    refuses(path, "general.alignment is")


def test_a_tensor_twice_and_a_key_twice(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"blk.1.attn_norm.weight", b"blk.0.attn_norm.weight"))
    refuses(path, "blk.0.attn_norm.weight stands twice")
    path.write_bytes(content.replace(b"tokenizer.ggml.bos_token_id", b"tokenizer.ggml.eos_token_id"))
    refuses(path, "the key 'tokenizer.ggml.eos_token_id' stands twice")


@pytest.mark.parametrize("value", [False, 0, 0.0, "false", "0", [0]])
def test_attention_that_is_not_causal(tmp_path: Path, value: Any) -> None:
    path = write_gguf(tmp_path / "model.gguf", TINY, random_params(TINY), {"llama.attention.causal": value})
    refuses(path, "llama.attention.causal is")
    refuses(path, "llama.attention.causal is", read=load_model_config)


def test_attention_that_is_causal(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", TINY, random_params(TINY), {"llama.attention.causal": True})
    assert load_model_config(path) == TINY


@pytest.mark.parametrize(
    ("key", "form", "value"),
    [
        ("llama.attention.layer_norm_rms_epsilon", "<f", float("nan")),
        ("llama.attention.layer_norm_rms_epsilon", "<f", float("inf")),
        ("llama.attention.layer_norm_rms_epsilon", "<f", 0.0),
        ("llama.attention.layer_norm_rms_epsilon", "<f", -1.0),
        ("llama.rope.freq_base", "<f", float("nan")),
        ("llama.rope.freq_base", "<f", float("inf")),
        ("llama.block_count", "<I", 2**32 - 1),
        ("llama.block_count", "<I", 0),
        ("llama.embedding_length", "<I", 2**31 - 1),
        ("llama.feed_forward_length", "<I", 2**31 - 1),
        ("llama.attention.head_count", "<I", 2**31 - 1),
        ("llama.attention.key_length", "<I", 2**31 - 2),
        ("llama.context_length", "<I", 2**32 - 1),
    ],
)
def test_numbers_that_are_absurd(path: Path, key: str, form: str, value: Any) -> None:
    patch(path, value_of(path, key) + 4, form, value)
    refuses(path)
    refuses(path, read=load_model_config)


def test_a_linear_factor_without_its_kind_means_linear(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", TINY, random_params(TINY), {"llama.rope.scaling.factor": 2.0})
    scaling = load_model_config(path).rope_scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor) == ("linear", 2.0)


@pytest.mark.parametrize("tail", [b"\0" * 32, b"\0", b"x" * 1000])
def test_bytes_after_the_last_tensor(path: Path, tail: bytes) -> None:
    path.write_bytes(path.read_bytes() + tail)
    refuses(path, "its tensors end at byte")


def test_any_changed_byte_of_the_header_is_refused_or_harmless(path: Path) -> None:
    """No damage of keys or table gives other weights; what only renames or changes the vocabulary may pass."""
    expected_config, expected = load_model(path)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    table = content.index(text("token_embd.weight"))
    keys = content.index(text("tokenizer.ggml.model"))
    data = content.index(text("output.weight")) + 64
    read = 0
    for place in [*random.integers(table, data, 250), *random.integers(0, keys, 100)]:
        changed = bytearray(content)
        changed[place] ^= 1 << random.integers(8)
        path.write_bytes(changed)
        try:
            config, params = load_model(path)
        except UserError:
            continue
        read += 1
        if config == expected_config:
            jax.tree.map(np.testing.assert_array_equal, params, expected)
        else:  # a number of the config is a number like any other
            assert int(place) < keys
    assert read < 100
