"""Small model files, made here byte by byte, and strict readers of them that share nothing with the package."""

import json
import random
import struct
from typing import Any

import ml_dtypes
import numpy as np
from hostile import WrongError

VOCABULARY_SIZE = 288
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "tie_word_embeddings": False,
    "max_position_embeddings": 64,
    "attention_bias": False,
    "torch_dtype": "float32",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_TYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}


def shapes(layers: int = 2) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors of `CONFIG`, as Hugging Face names them."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY_SIZE, 32)}
    for layer in range(layers):
        start = f"model.layers.{layer}."
        found |= {
            start + "input_layernorm.weight": (32,),
            start + "self_attn.q_proj.weight": (32, 32),
            start + "self_attn.k_proj.weight": (16, 32),
            start + "self_attn.v_proj.weight": (16, 32),
            start + "self_attn.o_proj.weight": (32, 32),
            start + "post_attention_layernorm.weight": (32,),
            start + "mlp.gate_proj.weight": (48, 32),
            start + "mlp.up_proj.weight": (48, 32),
            start + "mlp.down_proj.weight": (32, 48),
        }
    return found | {"model.norm.weight": (32,), "lm_head.weight": (VOCABULARY_SIZE, 32)}


def tensors() -> dict[str, np.ndarray[Any, Any]]:
    """Numbers for all of them, all different, of three types."""
    rng = np.random.default_rng(0)
    kinds = list(_TYPES.values())
    return {
        name: rng.normal(0, 1, shape).astype(kinds[place % 3]) for place, (name, shape) in enumerate(shapes().items())
    }


def write_safetensors(values: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """The bytes of a safetensors file."""
    header, data = {}, b""
    names = {dtype: name for name, dtype in _TYPES.items()}
    for name, value in values.items():
        content = value.tobytes()
        end = len(data) + len(content)
        header[name] = {"dtype": names[value.dtype], "shape": list(value.shape), "data_offsets": [len(data), end]}
        data += content
    return frame(json.dumps(header).encode(), data)


def frame(header: bytes, data: bytes) -> bytes:
    """A safetensors file with any header."""
    return struct.pack("<Q", len(header)) + header + data


def read_safetensors(content: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """What a safetensors file holds.

    Raises:
        ValueError: the header and the data do not fit to the byte.
    """
    (length,) = struct.unpack("<Q", content[:8])
    if length > len(content) - 8:
        raise ValueError("header is cut off")
    header, data = json.loads(content[8 : 8 + length], object_pairs_hook=_once), content[8 + length :]
    found, places = {}, []
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        begin, end = facts["data_offsets"]
        dtype = _TYPES[facts["dtype"]]
        if not 0 <= begin <= end <= len(data) or (end - begin) != dtype.itemsize * int(np.prod(facts["shape"])):
            raise ValueError(f"{name} does not fit")
        places.append((begin, end))
        found[name] = np.frombuffer(data[begin:end], dtype).reshape(facts["shape"])
    edges = [0, *(edge for place in sorted(places) for edge in place), len(data)]
    if any(edges[at] != edges[at + 1] for at in range(0, len(edges), 2)):
        raise ValueError("tensors overlap or leave gaps")
    return found


def strict_json(content: bytes) -> Any:
    """The value of a JSON text that a reader has accepted.

    Raises:
        WrongError: it should not have: a key stands twice.
    """
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise WrongError("what is not UTF-8 was read") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise WrongError("a key that stands twice was read")
    return dict(pairs)


# GGUF ----------------------------------------------------------------------------------------------------------

_U32, _F32, _BOOL, _TEXT, _LIST, _U64, _I32 = 4, 6, 7, 8, 9, 10, 5
_CODES = {0: "<B", 1: "<b", 2: "<H", 3: "<h", _U32: "<I", _I32: "<i", _F32: "<f", _BOOL: "<?", _U64: "<Q", 11: "<q"}
_F32_TENSOR, _F16_TENSOR, _Q8_TENSOR = 0, 1, 8
ALIGNMENT = 32
Pieces = list[tuple[str, str, bytes]]
"""What a file consists of: (the record that it belongs to, what it is, bytes)."""

_GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
VOCABULARY = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), "\u2581", *"abcdefghijklmnopqrstuvwxyz.,"]
METADATA: list[tuple[str, int, Any]] = [
    ("general.architecture", _TEXT, "llama"),
    ("general.alignment", _U32, ALIGNMENT),
    ("llama.block_count", _U32, 2),
    ("llama.context_length", _U32, 64),
    ("llama.embedding_length", _U32, 32),
    ("llama.feed_forward_length", _U32, 48),
    ("llama.attention.head_count", _U32, 4),
    ("llama.attention.head_count_kv", _U32, 2),
    ("llama.attention.layer_norm_rms_epsilon", _F32, 1e-5),
    ("llama.rope.dimension_count", _U32, 8),
    ("llama.rope.freq_base", _F32, 5000.0),
    ("llama.vocab_size", _U32, VOCABULARY_SIZE),
    ("tokenizer.ggml.model", _TEXT, "llama"),
    ("tokenizer.ggml.tokens", _TEXT, VOCABULARY),
    ("tokenizer.ggml.scores", _F32, [-float(place) for place in range(VOCABULARY_SIZE)]),
    ("tokenizer.ggml.token_type", _I32, [2, 3, 3, *[6] * 256, *[1] * 29]),
    ("tokenizer.ggml.bos_token_id", _U32, 1),
    ("tokenizer.ggml.eos_token_id", _U32, 2),
    ("tokenizer.ggml.add_bos_token", _BOOL, True),
    ("tokenizer.chat_template", _TEXT, "{{ bos_token }}{{ messages[0]['content'] }}"),
]


def gguf_name(name: str) -> str:
    """Hugging Face's name of a tensor as GGUF writes it."""
    for ours, theirs in _GGUF_NAMES.items():
        name = name.replace(ours, theirs)
    return name.replace("model.layers.", "blk.")


def write_gguf() -> Pieces:
    """The pieces of a whole GGUF file: one quantised tensor, some of fp16, the norms and the rest of fp32."""
    rng = np.random.default_rng(1)
    pieces: Pieces = [("start", "magic", b"GGUF"), ("start", "version", struct.pack("<I", 3))]
    pieces += [("start", "tensor count", _u64(len(shapes()))), ("start", "key count", _u64(len(METADATA)))]
    for key, kind, value in METADATA:
        pieces += [(key, "key", _u64(len(key)) + key.encode())]
        if isinstance(value, list):
            pieces += [(key, "type", struct.pack("<I", _LIST)), (key, "item type", struct.pack("<I", kind))]
            pieces += [(key, "count", _u64(len(value))), *((key, "item", _plain(kind, item)) for item in value)]
        else:
            pieces += [(key, "type", struct.pack("<I", kind)), (key, "value", _plain(kind, value))]
    data, contents = 0, []
    for place, (ours, shape) in enumerate(shapes().items()):
        name = gguf_name(ours)
        kind = _F32_TENSOR if len(shape) == 1 else (_Q8_TENSOR, _F32_TENSOR, _F16_TENSOR)[place % 3]
        kind = _F32_TENSOR if shape[-1] % 32 and kind == _Q8_TENSOR else kind
        pieces += [(name, "name", _u64(len(name)) + name.encode()), (name, "rank", struct.pack("<I", len(shape)))]
        pieces += [(name, "dimension", _u64(size)) for size in reversed(shape)]
        pieces += [(name, "tensor type", struct.pack("<I", kind)), (name, "offset", _u64(data))]
        numbers = rng.normal(0, 1, shape)
        if kind == _Q8_TENSOR:
            blocks = int(np.prod(shape)) // 32
            scales = rng.uniform(0.01, 0.1, blocks).astype(np.float16)
            quants = rng.integers(-127, 128, (blocks, 32)).astype(np.int8)
            content = b"".join(s.tobytes() + q.tobytes() for s, q in zip(scales, quants, strict=True))
        else:
            content = numbers.astype(np.float16 if kind == _F16_TENSOR else np.float32).tobytes()
        padding = -len(content) % ALIGNMENT
        contents.append(("data", name, content + b"\0" * padding))
        data += len(content) + padding
    length = sum(len(content) for _, _, content in pieces)
    return [*pieces, ("data", "padding", b"\0" * (-length % ALIGNMENT)), *contents]


def _u64(value: int) -> bytes:
    return struct.pack("<Q", value % 2**64)


def _plain(kind: int, value: Any) -> bytes:
    return _u64(len(value.encode())) + value.encode() if kind == _TEXT else struct.pack(_CODES[kind], value)


def change_gguf(pieces: Pieces, rng: random.Random) -> tuple[bytes, str]:
    """The file with one of its pieces replaced, or a whole record gone, twice or elsewhere."""
    heads = [place for place, (record, _, _) in enumerate(pieces) if record != "data"]
    # Most pieces are items of the lists of the tokenizer: choose a record first.
    record = rng.choice(sorted({pieces[place][0] for place in heads}))
    own = [place for place in heads if pieces[place][0] == record]
    kind = rng.choice(["piece"] * 8 + ["gone", "twice", "moved"])
    if kind != "piece":
        rest = [piece for piece in pieces if piece[0] != record]
        at = rng.randrange(4, len(heads) - len(own) + 1) if kind == "moved" else own[0]
        records = [pieces[place] for place in own]
        copies = {"gone": [], "twice": records * 2, "moved": records}[kind]
        return _joined([*rest[:at], *copies, *rest[at:]]), f"{record} {kind}"
    place = rng.choice([at for at in own if pieces[at][1] != "item"] or own) if rng.random() < 0.8 else rng.choice(own)
    _, what, content = pieces[place]
    new = _other(content, what, rng)
    return _joined([*pieces[:place], (record, what, new), *pieces[place + 1 :]]), f"{record}: {what} {new[:12]!r}"


def _other(content: bytes, what: str, rng: random.Random) -> bytes:
    width = len(content)
    if width not in (1, 4, 8) or what in ("key", "name"):
        length = rng.choice([0, 1, width - 8, width, 2**20, 2**40, 2**63, 2**64 - 1])
        return rng.choice([_u64(length) + content[8:], content[:8] + rng.randbytes(max(width - 8, 0)), content[:-1]])
    value = int.from_bytes(content, "little")
    floats = [struct.pack("<f", number) for number in (float("nan"), float("inf"), -1.0, 0.0, 1e-45, 1e38)]
    near = [value + step for step in (1, -1, 2, 16, 32, -32, value)]
    far = [0, 1, 3, 7, 8, 9, 30, 255, 2**16, 2**31, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1, 2**64 - 32]
    options = [(number % 256**width).to_bytes(width, "little") for number in (*near, *far)]
    return rng.choice(options + (floats if width == 4 else []))


def _joined(pieces: Pieces) -> bytes:
    return b"".join(content for _, _, content in pieces)


class _Cursor:
    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.content) - self.at:
            raise ValueError("cut off")
        self.at += count
        return self.content[self.at - count : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            item, count = self.number("<I"), self.number("<Q")
            if count > len(self.content):
                raise ValueError("a list longer than the file")
            return [self.value(item) for _ in range(count)]
        if kind not in _CODES:
            raise ValueError("no such type")
        return self.number(_CODES[kind])


def read_gguf(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """The metadata and the tensors, in fp32, of a GGUF file with the types that `write_gguf` uses.

    Raises:
        ValueError: it is not whole, or its tensors do not follow each other from the first byte of the data on.
    """
    cursor = _Cursor(content)
    if cursor.take(4) != b"GGUF" or cursor.number("<I") not in (2, 3):
        raise ValueError("no GGUF")
    tensor_count, key_count = cursor.number("<Q"), cursor.number("<Q")
    metadata: dict[str, Any] = {}
    for _ in range(key_count):
        key = cursor.text()
        if key in metadata:
            raise ValueError("a key stands twice")
        metadata[key] = cursor.value(cursor.number("<I"))
    facts = {}
    for _ in range(tensor_count):
        name = cursor.text()
        sizes = [cursor.number("<Q") for _ in range(cursor.number("<I"))]
        if name in facts or len(sizes) > 4:
            raise ValueError("a tensor stands twice")
        facts[name] = (sizes[::-1], cursor.number("<I"), cursor.number("<Q"))
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if alignment < 8 or alignment & (alignment - 1):
        raise ValueError("alignment")
    cursor.take(-cursor.at % alignment)
    data, expected, found = content[cursor.at :], 0, {}
    for name, (sizes, kind, offset) in facts.items():
        count = 1
        for size in sizes:
            count *= size
        length = {_F32_TENSOR: 4 * count, _F16_TENSOR: 2 * count, _Q8_TENSOR: count // 32 * 34}[kind]
        if offset != expected or offset + length > len(data) or (kind == _Q8_TENSOR and sizes[-1] % 32):
            raise ValueError(f"{name} does not follow the tensor before it")
        expected = offset + length + -length % alignment
        found[name] = _numbers(data[offset : offset + length], kind).reshape(sizes)
    return metadata, found


def _numbers(content: bytes, kind: int) -> np.ndarray[Any, Any]:
    if kind == _Q8_TENSOR:
        blocks = np.frombuffer(content, np.uint8).reshape(-1, 34)
        scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        return scales * blocks[:, 2:].copy().view(np.int8).astype(np.float32)
    return np.frombuffer(content, np.float16 if kind == _F16_TENSOR else np.float32).astype(np.float32)
