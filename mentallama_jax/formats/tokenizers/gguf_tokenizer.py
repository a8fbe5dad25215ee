"""Rebuilds a tokenizer's own files from the metadata of a GGUF file."""

import json
import math
import struct
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.formats.tokenizers.sentencepiece_json import added_token, start_with
from mentallama_jax.formats.tokenizers.sentencepiece_kinds import is_marker

# Token types of GGUF; SentencePiece uses the same numbers.
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _BYTE_LEVEL,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL]},
}


def gguf_tokenizer_files(metadata: dict[str, Any], origin: str) -> dict[str, bytes]:
    """The files of the tokenizer that a GGUF file carries: byte-level BPE (`gpt2`) or SentencePiece BPE (`llama`).

    Raises:
        UserError: another kind of vocabulary, an unknown pre-tokenizer, or lists that are absent.
    """
    values = {k.removeprefix("tokenizer.ggml."): v for k, v in metadata.items() if k.startswith("tokenizer.ggml.")}
    kind = values.get("model")
    needed = {"gpt2": ("tokens", "token_type", "merges"), "llama": ("tokens", "token_type", "scores")}
    if not isinstance(kind, str) or kind not in needed:
        raise UserError(f"{origin}: tokenizer.ggml.model is {shown(kind)}; supported are {', '.join(needed)}")
    for key in needed[kind]:
        _check_list(values, key, origin)
    config = _config(values, metadata.get("tokenizer.chat_template"))
    if kind == "gpt2":
        vocabulary = {"tokenizer.json": json.dumps(_byte_level(values, config, origin), ensure_ascii=False).encode()}
    else:
        vocabulary = {"tokenizer.model": _sentencepiece(values, origin)}
    files = {**vocabulary, "tokenizer_config.json": (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()}
    if ends := _ends(values):
        files["generation_config.json"] = (json.dumps({"eos_token_id": ends}) + "\n").encode()
    return files


def _ends(values: dict[str, Any]) -> list[int]:
    """Ids at which an answer ends where they are others than the end of a text: the ends of a turn and of a message."""
    known = range(len(values["tokens"]))
    ids = [values.get(f"{key}_token_id") for key in ("eos", "eot", "eom")]
    found = list(dict.fromkeys(id_ for id_ in ids if type(id_) is int and id_ in known))
    return found if len(found) > 1 else []


def _check_list(values: dict[str, Any], key: str, origin: str) -> None:
    """Refuse a list that is absent, of other things than it should hold, or of another length than the vocabulary."""
    found = values.get(key)
    if not isinstance(found, list):
        raise UserError(f"{origin}: tokenizer.ggml.{key} is absent")
    kinds: dict[str, type] = {"tokens": str, "merges": str, "token_type": int, "scores": float}
    if not all(type(entry) is kinds[key] for entry in found):
        raise UserError(f"{origin}: tokenizer.ggml.{key} has entries that are no {kinds[key].__name__}")
    if key != "merges" and len(found) != len(values["tokens"]):
        raise UserError(f"{origin}: tokenizer.ggml.{key} has {len(found)} entries for {len(values['tokens'])} tokens")
    if key == "tokens" and (not found or len(set(found)) < len(found)):
        raise UserError(f"{origin}: tokenizer.ggml.tokens is empty, or has a token twice")
    if key == "merges" and any(len(merge.split(" ")) != 2 for merge in found):
        raise UserError(f"{origin}: tokenizer.ggml.merges has an entry that is no pair")
    if key == "token_type" and not all(1 <= kind <= _BYTE for kind in found):
        raise UserError(f"{origin}: tokenizer.ggml.token_type has an entry that is not from 1 to {_BYTE}")
    if key == "scores" and not all(math.isfinite(score) for score in found):
        raise UserError(f"{origin}: tokenizer.ggml.scores has an entry that is not finite")


def _config(values: dict[str, Any], chat_template: Any) -> dict[str, Any]:
    tokens: list[str] = values["tokens"]
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        id_ = values.get(f"{key}_token_id")
        if isinstance(id_, int) and 0 <= id_ < len(tokens):
            config[f"{role}_token"] = tokens[id_]
    # The format's default: SentencePiece vocabularies put BOS first, byte-level ones do not.
    config["add_bos_token"] = bool(values.get("add_bos_token", values["model"] == "llama"))
    if isinstance(chat_template, str):
        config["chat_template"] = chat_template
    return config


def _byte_level(values: dict[str, Any], config: dict[str, Any], origin: str) -> dict[str, Any]:
    """The contents of a `tokenizer.json`."""
    pre_tokenizer = _PRE_TOKENIZERS.get(str(values.get("pre", "")))
    if pre_tokenizer is None:
        known = ", ".join(_PRE_TOKENIZERS)
        raise UserError(f"{origin}: tokenizer.ggml.pre is {shown(values.get('pre'))}; supported are {known}")
    tokens: list[str] = values["tokens"]
    for token, type_ in zip(tokens, values["token_type"], strict=True):
        if type_ == _USER_DEFINED and not is_marker(token):
            raise UserError(
                f"{origin}: token {shown(token)} is user-defined, which is read for markers like <pad> only; "
                "take the tokenizer.json of this model"
            )
    added = [
        added_token(tokens[id_], id_, special=type_ == _CONTROL)
        for id_, type_ in enumerate(values["token_type"])
        if type_ in (_CONTROL, _USER_DEFINED)
    ]
    post_processor: dict[str, Any] = {"type": "ByteLevel", **{k: v for k, v in _BYTE_LEVEL.items() if k != "type"}}
    if config["add_bos_token"] and "bos_token" in config:
        bos = config["bos_token"]
        post_processor = start_with(bos, tokens.index(bos))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: id_ for id_, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in values["merges"]],
        },
    }


def _sentencepiece(values: dict[str, Any], origin: str) -> bytes:
    """The bytes of a `tokenizer.model`: SentencePiece's ModelProto.

    Written in wire format by hand: the generated protobuf classes of sentencepiece and of transformers register the
    same file name and cannot be loaded into one process.
    """
    if values.get("precompiled_charsmap"):
        raise UserError(f"{origin}: tokenizer.ggml.precompiled_charsmap: text normalisation is not supported")
    tokens: list[str] = values["tokens"]
    if values["token_type"].count(_UNKNOWN) != 1:
        raise UserError(f"{origin}: tokenizer.ggml.token_type marks no single unknown token")
    pieces = []
    for token, score, type_ in zip(tokens, values["scores"], values["token_type"], strict=True):
        # SentencePiece would find user-defined pieces in plain text, where no added token may be read.
        kind = _CONTROL if type_ == _USER_DEFINED and is_marker(token) else type_
        pieces.append(_message(1, _text(1, token) + b"\x15" + struct.pack("<f", score) + _number(3, kind)))
    trainer = (
        _number(3, 2) + _number(4, len(tokens)) + _number(35, _BYTE in values["token_type"])
    )  # BPE, size, byte fallback
    trainer += _text(45, tokens[values["token_type"].index(_UNKNOWN)])
    for field, key in ((46, "bos"), (47, "eos"), (48, "padding")):
        id_ = values.get(f"{key}_token_id")
        trainer += _text(field, tokens[id_]) if isinstance(id_, int) and 0 <= id_ < len(tokens) else b""
    normalizer = _text(1, "identity")
    normalizer += _number(3, values.get("add_space_prefix", True))
    normalizer += _number(4, values.get("remove_extra_whitespaces", False)) + _number(5, 1)
    return b"".join(pieces) + _message(2, trainer) + _message(3, normalizer)


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(int(value))


def _message(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(payload)) + payload


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())
