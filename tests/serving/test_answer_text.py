"""Pieces of a stream: together the whole text, without halves of characters and without what a stop string cuts off."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.generation.requests import Answer
from mentallama_jax.serving.answer_text import AnswerText

TOKENIZER = load_tokenizer(Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer")
TEXTS = st.text(st.sampled_from("ab .\nENDé日🙂\u0301"), max_size=24)


def streamed(
    tokens: list[int], answer: Answer, cuts: list[int], stops: tuple[str, ...] = (), blank: str = ""
) -> list[str]:
    text = AnswerText(TOKENIZER.decode, stops, blank)
    pieces, start = [], 0
    for cut in sorted({cut for cut in cuts if cut < len(tokens)}):
        pieces.append(text.add(tokens[start:cut]))
        start = cut
    pieces.append(text.add(tokens[start:], answer))
    assert "".join(pieces) == text.so_far
    return pieces


@settings(max_examples=60)
@given(TEXTS, st.lists(st.integers(0, 30)))
def test_pieces_are_the_whole_text_and_hold_whole_characters(text: str, cuts: list[int]) -> None:
    tokens = TOKENIZER.encode(text, continues=True)
    pieces = streamed(tokens, Answer(tuple(tokens), (), True), cuts)
    assert "".join(pieces) == TOKENIZER.decode(tokens)
    assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=60)
@given(TEXTS, TEXTS, st.lists(st.integers(0, 30)))
def test_nothing_of_a_stop_string_is_given(before: str, after: str, cuts: list[int]) -> None:
    tokens = TOKENIZER.encode(f"{before}END{after}", continues=True)
    kept = next(n for n in range(1, len(tokens) + 1) if "END" in TOKENIZER.decode(tokens[:n]))
    answer = Answer(tuple(tokens[:kept]), (), False, "END")
    pieces = streamed(tokens[:kept], answer, cuts, ("END", "ENDURE"))
    assert "".join(pieces) == TOKENIZER.decode(tokens).partition("END")[0]


def test_the_blank_of_a_style_is_left_out_even_where_it_comes_alone() -> None:
    text = AnswerText(lambda ids: " yes"[: len(ids)], (), " ")
    assert [text.add([1]), text.add([1]), text.add([1, 1], Answer((1,) * 4, (), True))] == ["", "y", "es"]


@pytest.mark.parametrize("tokens", [[], [TOKENIZER.eos_id]])
def test_an_empty_answer(tokens: list[int]) -> None:
    assert "".join(streamed(tokens, Answer(tuple(tokens), (), True), [0, 1], ("END",), " ")) == ""
