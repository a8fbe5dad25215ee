from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import sentencepiece
from small_models import SAMPLE_TOKENIZER, TINY, TINY_TIED, random_params

from mentallama_jax.errors import UserError
from mentallama_jax.formats.architectures.known_architectures import model_parameters
from mentallama_jax.formats.architectures.llama_names import LLAMA_NAMES
from mentallama_jax.formats.architectures.parameter_names import leaf
from mentallama_jax.formats.gguf import GgufFile, half_split
from mentallama_jax.formats.load import load_model, load_model_config
from mentallama_jax.formats.tokenizers.gguf_tokenizer import gguf_tokenizer_files
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.models.rotary import RopeScaling

gguf = pytest.importorskip("gguf", reason="the extra gguf is not installed")


def side_by_side(rows: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """What converters to GGUF do to the rows of LLaMA's query and key projections."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(
    path: Path,
    config: LlamaConfig,
    params: Params,
    metadata: dict[str, Any] | None = None,
    kind: Any = None,
) -> Path:
    """Write a model as converters do; `kind` is the quantisation of the matrices."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    for key, value in (metadata or {}).items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, list: writer.add_array}
        add.get(type(value), writer.add_string)(key, value)
    for parameter, _, count in model_parameters(config):
        values = np.asarray(leaf(params, parameter.path))
        for layer in range(count):
            rows = parameter.to_foreign(values[layer] if parameter.stacked else values)
            if parameter.rotary:
                rows = side_by_side(rows, rows.shape[0] // config.head_dim)
            if kind is not None and parameter.inputs:
                writer.add_tensor(parameter.name("gguf", layer), gguf.quantize(rows, kind), raw_dtype=kind)
            else:
                writer.add_tensor(parameter.name("gguf", layer), rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("config", [TINY, TINY_TIED, replace(TINY, rope_scaling=RopeScaling("linear", 2.5))])
def test_a_model_comes_back_bit_equal(tmp_path: Path, config: LlamaConfig) -> None:
    params = random_params(config)
    scaling = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.5} if config.rope_scaling else {}
    path = write_gguf(tmp_path / "model.gguf", config, params, scaling)
    loaded_config, loaded = load_model(path)
    assert loaded_config == load_model_config(path) == config
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_quantised_matrices_are_expanded(tmp_path: Path) -> None:
    config = replace(TINY, hidden_size=64, intermediate_size=96, head_dim=16)
    params = random_params(config)
    path = write_gguf(tmp_path / "model.gguf", config, params, kind=gguf.GGMLQuantizationType.Q8_0)
    loaded = load_model(path)[1]
    gate, expected = np.asarray(loaded["layers"]["mlp"]["gate"]), np.asarray(params["layers"]["mlp"]["gate"])
    assert 0 < np.abs(gate - expected).max() < np.abs(expected).max() / 127
    np.testing.assert_array_equal(loaded["embedding"], params["embedding"])


def test_half_split_undoes_side_by_side() -> None:
    rows = np.arange(24.0).reshape(12, 2)
    np.testing.assert_array_equal(half_split(side_by_side(rows, 2), 6), rows)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"llama.rope.dimension_count": 4}, "llama.rope.dimension_count is 4, but heads are 8 wide"),
        ({"llama.expert_count": 8}, "llama.expert_count is 8"),
        ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2.0}, "rope.scaling.type is 'yarn'"),
        ({"llama.attention.scale": 0.5}, "llama.attention.scale is 0.5"),
    ],
)
def test_what_would_change_the_maths_is_refused_by_name(tmp_path: Path, metadata: dict[str, Any], reason: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", TINY, random_params(TINY), metadata)
    with pytest.raises(UserError, match=f"^{path}: ") as raised:
        load_model(path)
    assert reason in str(raised.value)


def test_a_tensor_too_few(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", TINY, random_params(TINY))
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_oh.weight"))
    with pytest.raises(UserError, match=r"missing tensor blk\.1\.ffn_up\.weight \(nearest: blk\.1\.ffn_oh\.weight\)"):
        load_model(path)


@pytest.mark.parametrize("keep", [0, 3, 40, 500, -1000])
def test_half_a_file(tmp_path: Path, keep: int) -> None:
    path = write_gguf(tmp_path / "model.gguf", TINY, random_params(TINY))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="not a whole GGUF file"):
        load_model(path)


def test_another_architecture(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "bert")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UserError, match="architecture is 'bert'"):
        load_model(tmp_path / "model.gguf")


def tokenizer_metadata(**changes: Any) -> dict[str, Any]:
    """The bundled SentencePiece vocabulary as converters write it into GGUF."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(SAMPLE_TOKENIZER / "tokenizer.model"))
    ids = range(processor.vocab_size())
    kinds = [
        2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1
        for i in ids
    ]
    values = {
        "model": "llama",
        "tokens": [processor.id_to_piece(i) for i in ids],
        "scores": [processor.get_score(i) for i in ids],
        "token_type": kinds,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
        **changes,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


BYTE_LEVEL = {
    "model": "gpt2",
    "pre": "smollm",
    "tokens": [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        *"aehtx ".replace(" ", "\u0120"),
        "\u0120t",
        "he",
        "\u0120the",
    ],
    "token_type": [3, 3, 3, *[1] * 9],
    "merges": ["\u0120 t", "h e", "\u0120t he"],
    "scores": None,
    "unknown_token_id": 0,
}


def test_a_sentencepiece_vocabulary(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = write_gguf(tmp_path / "model.gguf", TINY, random_params(TINY), tokenizer_metadata())
    rebuilt = load_tokenizer(path)
    assert rebuilt.fingerprint == tokenizer.fingerprint
    text = "I can't sleep.  It's 3am </s> \U0001f62d"
    assert rebuilt.encode(text) == tokenizer.encode(text)
    rebuilt.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").fingerprint == tokenizer.fingerprint


def test_a_byte_level_vocabulary(tmp_path: Path) -> None:
    metadata = tokenizer_metadata(**BYTE_LEVEL) | {"tokenizer.chat_template": "{{ x }}"}
    rebuilt = load_tokenizer(write_gguf(tmp_path / "model.gguf", TINY, random_params(TINY), metadata))
    assert (rebuilt.bos_id, rebuilt.eos_id, rebuilt.pad_id, rebuilt.vocab_size) == (None, 2, 0, 12)
    assert rebuilt.chat_template == "{{ x }}"
    ids = rebuilt.encode("hat the the")
    assert [rebuilt.decode([i]) for i in ids] == ["h", "a", "t", " the", " the"]
    assert rebuilt.encode("the", continues=True) == rebuilt.encode("the")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "bert"}, "tokenizer.ggml.model is 'bert'; supported are gpt2, llama"),
        ({**BYTE_LEVEL, "pre": "qwen2"}, "tokenizer.ggml.pre is 'qwen2'; supported are gpt-2, smollm"),
        ({**BYTE_LEVEL, "merges": None}, "tokenizer.ggml.merges is absent"),
        ({"scores": None}, "tokenizer.ggml.scores is absent"),
        ({"model": 3}, "tokenizer.ggml.model is '3'"),
        ({"tokens": [1, 2]}, "tokenizer.ggml.tokens has entries that are no str"),
        ({"tokens": ["<s>", "<s>"]}, "tokenizer.ggml.tokens is empty, or has a token twice"),
        ({"token_type": [1, 2]}, "tokenizer.ggml.token_type has 2 entries for 1024 tokens"),
        ({"token_type": [-1] * 1024}, "tokenizer.ggml.token_type has an entry that is not from 1 to 6"),
        ({"token_type": ["1"] * 1024}, "tokenizer.ggml.token_type has entries that are no int"),
        ({"scores": [float("nan")] * 1024}, "tokenizer.ggml.scores has an entry that is not finite"),
        ({**BYTE_LEVEL, "merges": ["ab"]}, "tokenizer.ggml.merges has an entry that is no pair"),
        ({**BYTE_LEVEL, "pre": [1]}, "tokenizer.ggml.pre is '[1]'"),
        ({**BYTE_LEVEL, "token_type": [3, 3, 3, *[1] * 8, 4]}, "is user-defined, which is read for markers"),
        (
            {"eos_token_id": None, "tokens": ["<a>", "<b>", "<c>"], "token_type": [2, 3, 3], "scores": [0.0] * 3},
            "no eos",
        ),
    ],
)
def test_vocabularies_that_cannot_be_rebuilt(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", TINY, random_params(TINY), tokenizer_metadata(**changes))
    with pytest.raises(UserError, match=f"^{path}: ") as raised:
        load_tokenizer(path)
    assert reason in str(raised.value)


def test_smollm2_is_read_as_it_was_published(smollm2: str) -> None:
    assert load_model_config(smollm2) == PRESETS["smollm2-135m"]
    tokenizer = load_tokenizer(smollm2)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.vocab_size) == (None, 2, 0, 49152)
    assert tokenizer.special_id("<|im_start|>") == 1
    assert tokenizer.chat_template is not None
    text = 'Consider this post: "I\'m 23, na\u00efve & <|im_end|>\n\n  tired \U0001f62d" Question: why?'
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert 2 not in ids
    # Digits one by one, as the model was trained.
    assert [tokenizer.decode([i]) for i in tokenizer.encode("in 2024 the")] == ["in", " ", "2", "0", "2", "4", " the"]


@pytest.mark.parametrize("kind", sorted(gguf.GGML_QUANT_SIZES, key=int), ids=lambda kind: kind.name)
def test_each_type_is_read_as_by_the_package_that_defines_it(tmp_path: Path, kind: Any) -> None:
    """Random bytes, so that scales, signs and codes of every form occur."""
    numbers, width = gguf.GGML_QUANT_SIZES[kind]
    content = np.random.default_rng(int(kind)).integers(0, 256, (6, 4 * width), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("first.weight", np.ones((3, 5), np.float32))
    writer.add_tensor("some.weight", content, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile(tmp_path / "model.gguf")
    assert file.shapes == {"first.weight": (3, 5), "some.weight": (6, 4 * numbers)}
    (theirs,) = [t for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors if t.name == "some.weight"]
    with np.errstate(all="ignore"):
        try:
            expected = gguf.dequantize(theirs.data, kind)
        except NotImplementedError:
            with pytest.raises(UserError, match=rf"some\.weight is stored as {kind.name}, which cannot be expanded"):
                file.read("some.weight", LLAMA_NAMES.parameters[0])
            return
        ours = file.read("some.weight", LLAMA_NAMES.parameters[0])
    assert ours.dtype == np.float32
    assert ours.tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ({"eos_token_id": 2, "eot_token_id": 1}, (1, 2)),
        ({"eos_token_id": 2, "eot_token_id": 1, "eom_token_id": 0}, (0, 1, 2)),
        ({"eos_token_id": 2, "eot_token_id": 2}, (2,)),
        ({"eos_token_id": 2, "eot_token_id": 99}, (2,)),
        ({"eos_token_id": 2}, (2,)),
    ],
)
def test_the_ends_of_turns_and_messages_end_answers_too(values: dict, ends: tuple[int, ...]) -> None:
    metadata = {f"tokenizer.ggml.{key}": value for key, value in values.items()} | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": ["<m>", "<t>", "</s>", "a", "b", "ab"],
        "tokenizer.ggml.token_type": [3, 3, 3, 1, 1, 1],
        "tokenizer.ggml.merges": ["a b"],
    }
    tokenizer = Tokenizer(gguf_tokenizer_files(metadata, "made up"), "made up")
    assert tuple(sorted(tokenizer.end_ids)) == ends
    assert tokenizer.eos_id == 2
