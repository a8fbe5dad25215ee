"""The bytes of tokens: joined, those of the text, in both alphabets of LLaMA's tokenizers."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mentallama_jax.formats.tokenizers.token_bytes import bytes_of, is_byte_level
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer

SAMPLE = load_tokenizer(Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer")


def byte_level() -> Tokenizer:
    """Every byte, a merge, and an end, spelt as GPT-2 does."""
    import tokenizers
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate([*letters, "Ġa"])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("Ġ", "a")]))
    made.pre_tokenizer, made.decoder = ByteLevel(add_prefix_space=False), tokenizers.decoders.ByteLevel()
    made.add_special_tokens(["<|end|>"])
    files = {"tokenizer.json": made.to_str(), "tokenizer_config.json": json.dumps({"eos_token": "<|end|>"})}
    return Tokenizer({name: text.encode() for name, text in files.items()}, "made here")


BYTE_LEVEL = byte_level()


@settings(max_examples=60)
@example(" ", SAMPLE)
@example("  a ", SAMPLE)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.sampled_from([SAMPLE, BYTE_LEVEL]))
def test_joined_they_are_the_text(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text, continues=True)
    found = b"".join(map(tokenizer.token_bytes, ids)).decode()
    before = tokenizer.encode("a", continues=True)  # at the start of a text SentencePiece drops a blank
    assert "a" + found == tokenizer.decode([*before, *ids])
    if tokenizer is BYTE_LEVEL:
        assert found == text


def test_a_blank_in_front_belongs_to_its_token() -> None:
    assert SAMPLE.token_bytes(SAMPLE.encode(" depression", continues=True)[0]) == b" depression"
    assert BYTE_LEVEL.token_bytes(BYTE_LEVEL.encode(" a")[0]) == b" a"


@pytest.mark.parametrize("tokenizer", [SAMPLE, BYTE_LEVEL])
def test_special_tokens_give_their_spelling_and_ids_without_a_token_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes(tokenizer.eos_id) in (b"</s>", b"<|end|>")
    assert tokenizer.eos_id in tokenizer.special_ids
    assert tokenizer.token_bytes(50_000) == b""


def test_the_alphabet_is_known_by_the_decoder_or_the_pre_tokenizer() -> None:
    assert is_byte_level({"decoder": {"type": "Sequence", "decoders": [{"type": "ByteLevel"}]}})
    assert is_byte_level({"decoder": None, "pre_tokenizer": {"type": "ByteLevel"}})
    assert not is_byte_level({"decoder": {"type": "ByteFallback"}})
    assert bytes_of("<0xE6>", byte_level=False) == b"\xe6"
    assert bytes_of("▁a▁", byte_level=False) == b" a "
    assert bytes_of("ĠÃ©", byte_level=True) == " é".encode()
