"""Writes a SentencePiece BPE model as `tokenizer.json`.

So one library encodes for both kinds. And an export brings this file along: transformers converts a lone
`tokenizer.model` by the order of its ids and not by the scores of its pieces, which cuts runs of spaces differently.
"""

import json
from collections.abc import Sequence
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.formats.tokenizers.sentencepiece_kinds import marker_ids

_SPACE = "\u2581"
# Where models differ: runs of spaces, space at the ends, characters that normalisation or byte fallback changes.
_PROBES = (
    "Consider this post: it's  2024 (really).",
    "  two   and    more      spaces ",
    "line\n\n\ttab e\u0301 \ufb01 \uff21 \u00c9\u4f60\U0001f642",
    "nevertheless, unanswerable misunderstandings aaaaaaaabbbb",
)


def convert(model: bytes, added: dict[str, int], adds_bos: bool, origin: str) -> tuple[bytes, dict[str, str]]:
    """The bytes of a `tokenizer.json` that gives the ids of a `tokenizer.model`, and what it calls special tokens.

    Args:
        model: contents of `tokenizer.model`.
        added: tokens beyond its own vocabulary.
        adds_bos: whether transformers is to put the beginning-of-text token before a text.
        origin: names the model in errors.

    Returns:
        The file, and `bos_token`, `eos_token`, `unk_token` as far as the model has them.

    Raises:
        UserError: not a SentencePiece model, or of a kind (unigram, with text normalisation) whose ids would differ.
    """
    import sentencepiece
    import tokenizers

    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{origin} is not a SentencePiece model ({shown(' '.join(str(error).split()), 120)})") from None
    ids = range(processor.vocab_size())
    pieces: list[str] = processor.id_to_piece(list(ids))
    own = {f"{role}_token": getattr(processor, f"{role}_id")() for role in ("bos", "eos", "unk")}
    named = {role: pieces[id_] for role, id_ in own.items() if id_ >= 0}
    if "unk_token" not in named:
        raise UserError(f"{origin} is not a SentencePiece model (it has no unknown piece)")
    bos = named.get("bos_token") if adds_bos else None
    control = {pieces[id_]: id_ for id_ in ids if processor.is_control(id_) or processor.is_unknown(id_)} | added
    control |= {pieces[id_]: id_ for id_ in marker_ids(model, pieces, origin)}
    ordinary = [id_ for id_ in ids if pieces[id_] not in control and not processor.is_byte(id_)]
    scores = {pieces[id_]: processor.get_score(id_) for id_ in ordinary}
    spec = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            added_token(token, id_, special=True) for token, id_ in sorted(control.items(), key=lambda item: item[1])
        ],
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(processor)},
        "pre_tokenizer": None,
        "post_processor": None if bos is None else start_with(bos, control[bos]),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": named["unk_token"],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": any(processor.is_byte(id_) for id_ in ids),
            "vocab": {piece: id_ for id_, piece in enumerate(pieces)} | added,
            "merges": _merges(scores),
        },
    }
    text = json.dumps(spec, indent=2, ensure_ascii=False)
    converted = tokenizers.Tokenizer.from_str(text)
    for probe in _PROBES:
        if converted.encode(probe, add_special_tokens=False).ids != processor.encode(probe):
            raise UserError(
                f"{origin}: only SentencePiece models of LLaMA's kind (BPE, no text normalisation, spaces kept) "
                "can be read; give the tokenizer.json that belongs to this one"
            )
    return text.encode(), named


def _merges(scores: dict[str, float]) -> list[Sequence[str]]:
    """Pairs that join into a piece, in the order in which SentencePiece joins: by score, long left parts first."""
    merges = [
        (-score, -cut, cut - len(piece), piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    merges.sort(key=lambda merge: merge[:3])
    return [merge[3:] for merge in merges]


def _normalizers(processor: Any) -> list[dict[str, Any]]:
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    if processor.normalize("a").startswith(_SPACE):
        return [{"type": "Prepend", "prepend": _SPACE}, replace]
    return [replace]


def added_token(token: str, id_: int, *, special: bool) -> dict[str, Any]:
    """An entry of `added_tokens` in `tokenizer.json`."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id_, "content": token, **flags, "special": special}


def start_with(token: str, id_: int) -> dict[str, Any]:
    """A post-processor that puts a token before each text."""

    def sequence(name: str, type_id: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": token, "type_id": type_id}}, {"Sequence": {"id": name, "type_id": type_id}}]

    return {
        "type": "TemplateProcessing",
        "single": sequence("A", 0),
        "pair": sequence("A", 0) + sequence("B", 1),
        "special_tokens": {token: {"id": token, "ids": [id_], "tokens": [token]}},
    }
