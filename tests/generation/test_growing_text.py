"""Text that is decoded as it grows: at each step that of all tokens together, whatever is decoded of them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.generation.growing_text import GrowingText

WORDS = load_tokenizer(Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer")


def byte_level() -> Tokenizer:
    """A vocabulary of the 256 bytes and some of their pairs, spelt as GPT-2 spells them."""
    import json

    import tokenizers
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(letters)} | {"<end>": 256}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    made.pre_tokenizer, made.decoder = ByteLevel(add_prefix_space=False), tokenizers.decoders.ByteLevel()
    made.add_special_tokens(["<end>"])
    config = json.dumps({"eos_token": "<end>"}).encode()
    return Tokenizer({"tokenizer.json": made.to_str().encode(), "tokenizer_config.json": config}, "bytes")


BYTES = byte_level()
BYTE_OF = {BYTES.token_bytes(id_)[0]: id_ for id_ in range(256)}
REPLACEMENT = list("\ufffd".encode())


def tokens_of(bytes_: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    return [BYTE_OF[byte] for byte in bytes_] if tokenizer is BYTES else [byte + 3 for byte in bytes_]


CHARACTERS = st.text(st.sampled_from("ab .\n\u00e9\u65e5\U0001f642\u0301\ufffd"), max_size=12).map(
    lambda text: list(text.encode())
)
STRETCHES = st.one_of(
    CHARACTERS,
    st.lists(st.sampled_from([0x80, 0xBF, 0xC3, 0xE2, 0xF0, 0xEF, 0xBD, 0x20, 0x41]), max_size=50),
    st.integers(8, 30).map(lambda count: REPLACEMENT * count),
    st.integers(1, 60).map(lambda count: [0x9F] * count),
)


@pytest.mark.parametrize("tokenizer", [WORDS, BYTES], ids=["SentencePiece", "byte level"])
@pytest.mark.parametrize("continues", [False, True])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_it_is_the_text_of_all_tokens_at_each_step(tokenizer: Tokenizer, continues: bool, data: st.DataObject) -> None:
    stretches = data.draw(st.lists(STRETCHES, max_size=4))
    tokens = tokens_of([byte for stretch in stretches for byte in stretch], tokenizer)
    others = st.integers(0, 1023) if tokenizer is WORDS else st.integers(0, 256)
    for place, token in data.draw(st.lists(st.tuples(st.integers(0, 80), others), max_size=12)):
        tokens.insert(place, token)
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    check(tokens, sizes, lambda ids: tokenizer.decode(ids, continues=continues))


def check(tokens: list[int], sizes: list[int], decode: Callable[[Sequence[int]], str]) -> None:
    growing, done, place = GrowingText(decode), 0, 0
    while done < len(tokens):
        new = tokens[done : done + sizes[place % len(sizes)]]
        done, place = done + len(new), place + 1
        assert growing.add(new) == growing.so_far == decode(tokens[:done])


@given(st.lists(st.integers(0, 1023), max_size=40))
@example([259])
def test_a_text_that_goes_on_keeps_the_blank_that_it_begins_with(tokens: list[int]) -> None:
    begun = WORDS.encode("I cannot")
    assert WORDS.decode(begun) + WORDS.decode(tokens, continues=True) == WORDS.decode([*begun, *tokens])


def test_a_text_that_goes_on_is_encoded_and_decoded_alike() -> None:
    for tokenizer in (WORDS, BYTES):
        for text in (" sleep at night", "  two", "", " ", "s\n", "\u65e5"):
            assert tokenizer.decode(tokenizer.encode(text, continues=True), continues=True) == text


@pytest.mark.parametrize(
    "tokens",
    [
        WORDS.encode("word " * 1000),
        tokens_of(REPLACEMENT * 600, WORDS),
        tokens_of([0x9F] * 2000, WORDS),
        tokens_of([0xF0, 0x9F] * 1000, WORDS),
        tokens_of(list("\U0001f642".encode()) * 500, WORDS),
    ],
    ids=["words", "replacement characters", "broken bytes", "begun characters", "characters of four tokens"],
)
def test_a_step_decodes_some_tokens_however_many_there_are(tokens: list[int]) -> None:
    decoded: list[int] = []

    def decode(ids: Sequence[int]) -> str:
        decoded.append(len(ids))
        return WORDS.decode(ids)

    growing = GrowingText(decode)
    for token in tokens:
        growing.add([token])
    assert growing.so_far == WORDS.decode(tokens)
    assert max(decoded) < 100
    assert sum(decoded) < 250 * len(tokens)
