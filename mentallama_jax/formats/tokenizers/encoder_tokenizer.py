"""Tokenizers of encoders and encoder-decoders: a text between the special tokens of its model, cut to a length.

It reads `tokenizer.json`, and the older `vocab.txt` (WordPiece) and `vocab.json` with `merges.txt` (byte-level BPE).
The text of a post never becomes a special token, however it is spelt.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_open
from mentallama_jax.foreign import reading
from mentallama_jax.formats.folder import read_object, read_small

FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
"""Names of the files that may make one; they go with an exported encoder."""
_UNKNOWN_WORD = 100
"""Characters of a word from which on WordPiece takes it for unknown, in every published BERT."""


class EncoderTokenizer:
    """Text to ids.

    Attributes:
        files: name -> content of the files that it was made of.
        fingerprint: SHA-256 of all that decides ids.
        vocab_size: one above the largest id.
    """

    def __init__(self, folder: Path) -> None:
        """Read a folder.

        Raises:
            UserError: no vocabulary is there, or a file is malformed.
        """
        self.files = {name: read_small(folder / name) for name in FILES if (folder / name).is_file()}
        with reading(folder, "tokenizer"):
            self._tokenizer = _build(folder, self.files)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        self.fingerprint = hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()
        self.vocab_size = 1 + max(self._tokenizer.get_vocab().values())

    def save(self, folder: Path) -> None:
        """Write the files of the tokenizer into a folder, made where absent."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            with atomic_open(folder / name, "wb") as stream:
                stream.write(content)

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Ids of each text with the special tokens around it, at most `max_length`; a longer one loses its end.

        Raises:
            ValueError: `max_length` has no room for a token besides the special ones.
        """
        special = self._tokenizer.num_special_tokens_to_add(False)
        if max_length <= special:
            raise ValueError(f"max_length {max_length} is no more than the {special} special tokens")
        encoded = self._tokenizer.encode_batch(list(texts))
        return [_cut(one.ids, one.special_tokens_mask, max_length) for one in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


def _cut(ids: list[int], is_special: list[int], length: int) -> list[int]:
    """The ids without the last of those that are not special, so that `length` are left."""
    if len(ids) <= length:
        return ids
    trailing = next(count for count in range(len(ids)) if not is_special[-1 - count])
    return [*ids[: length - trailing], *ids[len(ids) - trailing :]]


def _build(folder: Path, files: dict[str, bytes]) -> Any:
    import tokenizers

    if "tokenizer.json" in files:
        spec = read_object(folder / "tokenizer.json")
        return tokenizers.Tokenizer.from_str(json.dumps(spec))
    config = read_object(folder / "tokenizer_config.json") if "tokenizer_config.json" in files else {}
    if "vocab.txt" in files:
        return _wordpiece(folder, files["vocab.txt"].decode("utf-8"), config)
    if {"vocab.json", "merges.txt"} <= files.keys():
        return _byte_level(folder, files, config)
    raise UserError(
        f"{folder}: no tokenizer.json, vocab.txt or vocab.json with merges.txt; name the tokenizer's folder"
    )


def _wordpiece(folder: Path, text: str, config: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = {piece: number for number, piece in enumerate(text.removesuffix("\n").split("\n"))}
    vocabulary = {piece.removesuffix("\r"): number for piece, number in vocabulary.items()}
    for token in ("[UNK]", "[CLS]", "[SEP]"):
        if token not in vocabulary:
            raise UserError(f"{folder / 'vocab.txt'}: has no {token}; is it the vocabulary of a BERT?")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=_UNKNOWN_WORD))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=bool(config.get("do_lower_case", True)),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    tokenizer.add_special_tokens(
        [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in vocabulary]
    )
    return tokenizer


def _byte_level(folder: Path, files: dict[str, bytes], config: dict[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    vocabulary = read_object(folder / "vocab.json")
    if not all(isinstance(number, int) for number in vocabulary.values()):
        raise UserError(f"{folder / 'vocab.json'}: expected ids")
    lines = [
        line for line in files["merges.txt"].decode("utf-8").split("\n") if line and not line.startswith("#version")
    ]
    merges = [(first, second) for first, _, second in (line.removesuffix("\r").partition(" ") for line in lines)]
    if not all(first and second and " " not in second for first, second in merges):
        raise UserError(f"{folder / 'merges.txt'}: has a line that is no pair")
    for token in ("<s>", "</s>"):
        if token not in vocabulary:
            raise UserError(f"{folder / 'vocab.json'}: has no {token}; is it the vocabulary of a RoBERTa?")
    before = bool(config.get("add_prefix_space", False))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=before)
    tokenizer.decoder = decoders.ByteLevel()
    ends = (("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]))
    tokenizer.post_processor = processors.RobertaProcessing(*ends, trim_offsets=True, add_prefix_space=before)
    special = [token for token in ("<s>", "<pad>", "</s>", "<unk>") if token in vocabulary]
    tokenizer.add_special_tokens([*special, AddedToken("<mask>", lstrip=True)] if "<mask>" in vocabulary else special)
    return tokenizer
