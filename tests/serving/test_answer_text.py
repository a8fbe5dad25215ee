"""Pieces of a stream: together the whole text, without halves of characters and without what a stop string cuts off."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.generation.requests import Answer, Event
from mentallama_jax.serving.answer_text import AnswerText
from mentallama_jax.serving.choices import GrowingChoice
from mentallama_jax.serving.service import ServedModel

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
    pieces = streamed(tokens, Answer(tuple(tokens), (), False), cuts)
    assert "".join(pieces) == TOKENIZER.decode(tokens)
    assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=60)
@example([840, 31, 186, 833], [1, 2, 3])
@given(st.lists(st.one_of(st.integers(3, 258), st.integers(3, 1023)), max_size=16), st.lists(st.integers(0, 16)))
def test_pieces_of_any_tokens_are_the_whole_text(tokens: list[int], cuts: list[int]) -> None:
    """Models may write bytes that are no character."""
    assert "".join(streamed(tokens, Answer(tuple(tokens), (), False), cuts)) == TOKENIZER.decode(tokens)


@settings(max_examples=60)
@given(TEXTS, TEXTS, st.lists(st.integers(0, 30)), st.sampled_from(["END", "日", "🙂", "é 日", "N🙂"]))
def test_nothing_of_a_stop_string_is_given(before: str, after: str, cuts: list[int], stop: str) -> None:
    tokens = TOKENIZER.encode(f"{before}{stop}{after}", continues=True)
    kept = next(n for n in range(1, len(tokens) + 1) if stop in TOKENIZER.decode(tokens[:n]))
    answer = Answer(tuple(tokens[:kept]), (), False, stop)
    pieces = streamed(tokens[:kept], answer, cuts, (stop, "ENDURE"))
    assert "".join(pieces) == TOKENIZER.decode(tokens).partition(stop)[0]


def test_what_may_begin_a_stop_string_is_given_where_time_is_up() -> None:
    model = ServedModel("m", "fp", 0, 1024, "plain", " ", (2,), TOKENIZER)
    choice = GrowingChoice(0, model, ("END",), None, chat=True)
    tokens = TOKENIZER.encode(" so EN🙂", continues=True)[:-1]  # the last character is not whole
    given = choice.add(Event(0, 0, tuple(tokens), (-1.0,) * len(tokens)))
    assert given == "so "
    assert (choice.cut(), choice.text, choice.finish) == ("EN", "so EN", "length")
    assert choice.cut() == ""


def test_offsets_of_tokens_count_characters_that_are_whole() -> None:
    tokens = TOKENIZER.encode("a🙂日b", continues=True)
    model = ServedModel("m", "fp", 0, 1024, "plain", "", (2,), TOKENIZER)
    choice = GrowingChoice(0, model, (), 0, chat=False)
    choice.add(Event(0, 0, tuple(tokens), (-1.0,) * len(tokens), Answer(tuple(tokens), (), False)))
    found = choice.to_json()
    starts = [len(bytes_.decode("utf-8", "ignore")) for bytes_ in before(tokens)]
    assert found["logprobs"]["text_offset"] == starts
    assert found["text"][starts[-1] :] == "b"


@settings(max_examples=60)
@example([828, 840, 31, 186, 833, 670], 2)  # two bytes that are no character between two words
@example([227, 131, 242, 0, 133, 175, 229, 1, 133], 4)  # what is begun and no character; special tokens in between
@given(st.lists(st.sampled_from([0, 1, *range(131, 1024)]), max_size=12), st.integers(0, 12))
def test_offsets_of_any_tokens_are_places_in_the_text(tokens: list[int], cut: int) -> None:
    model = ServedModel("m", "fp", 0, 1024, "plain", "", (2,), TOKENIZER)
    choice = GrowingChoice(0, model, (), 0, chat=False)
    choice.add(Event(0, 0, tuple(tokens[:cut]), (-1.0,) * len(tokens[:cut])))
    offsets = choice.piece("")["logprobs"]["text_offset"]
    choice.add(Event(0, 0, tuple(tokens[cut:]), (-1.0,) * len(tokens[cut:]), Answer(tuple(tokens), (), False)))
    later = choice.to_json()
    offsets += later["logprobs"]["text_offset"]
    assert offsets == sorted(offsets)
    for place, (token, start) in enumerate(zip(tokens, offsets, strict=True)):
        if token > 258:  # of a whole word
            assert later["text"][start:].startswith(TOKENIZER.token_bytes(token).decode())
        # With a character that goes on behind it, a token may be at the place where that began.
        text = TOKENIZER.decode(tokens[:place], continues=True)
        assert len(text.rstrip("\ufffd")) <= start <= len(text)
        assert later["text"].startswith(text[:start])


def test_a_completion_goes_on_with_the_blank_of_its_first_word() -> None:
    model = ServedModel("m", "fp", 0, 1024, "plain", " ", (2,), TOKENIZER)
    tokens = TOKENIZER.encode(" sleep at night", continues=True)
    answer = Answer(tuple(tokens), (-1.0,) * len(tokens), False)
    found = {}
    for chat in (False, True):
        choice = GrowingChoice(0, model, (), None, chat=chat)
        pieces = [choice.add(Event(0, 0, (token,), (-1.0,))) for token in tokens[:-1]]
        found[chat] = "".join([*pieces, choice.add(Event(0, 0, (tokens[-1],), (-1.0,), answer))])
        assert choice.text == found[chat]
    assert found == {False: " sleep at night", True: "sleep at night"}


def test_bytes_that_are_no_text_by_themselves_have_names_of_their_own() -> None:
    """As OpenAI spells them; of several tokens of one text the likeliest stands."""
    model = ServedModel("m", "fp", 0, 1024, "plain", "", (2,), TOKENIZER)
    choice = GrowingChoice(0, model, (), 5, chat=False)
    letter = TOKENIZER.encode("a", continues=True)[0]
    likely = ((3 + 0xF0, -0.5), (3 + 0x9F, -1.0), (3 + 0xE2, -1.5), (letter, -2.0), (3 + ord("a"), -4.0))
    answer = Answer((3 + 0xF0,), (-0.5,), False)
    choice.add(Event(0, 0, (3 + 0xF0,), (-0.5,), answer, (likely,)))
    found = choice.to_json()["logprobs"]
    assert found["tokens"] == ["bytes:\\xf0"]
    named = {"bytes:\\xf0": -0.5, "bytes:\\x9f": -1.0, "bytes:\\xe2": -1.5, "a": -2.0}
    assert found["top_logprobs"] == [named]
    assert list(found["top_logprobs"][0]) == list(named)


@pytest.mark.parametrize("chat", [False, True])
def test_what_a_token_costs_does_not_grow_with_the_answer(chat: bool) -> None:
    decoded: list[int] = []

    class Counting:
        special_ids, token_bytes = TOKENIZER.special_ids, staticmethod(TOKENIZER.token_bytes)

        def decode(self, ids: list[int], *, continues: bool = False) -> str:
            decoded.append(len(ids))
            return TOKENIZER.decode(ids, continues=continues)

    tokens = TOKENIZER.encode("so it goes \U0001f642 " * 200, continues=True)
    model = ServedModel("m", "fp", 0, 1024, "plain", " ", (2,), Counting())  # type: ignore[arg-type]
    choice = GrowingChoice(0, model, ("END",), 0, chat=chat)
    for token in tokens:
        choice.add(Event(0, 0, (token,), (-1.0,)))
        choice.piece("")
    choice.cut()
    assert choice.text == TOKENIZER.decode(tokens, continues=not chat)
    assert len(tokens) > 1000
    assert max(decoded) < 40


def before(tokens: list[int]) -> list[bytes]:
    """The bytes in front of each token."""
    spelt = [TOKENIZER.token_bytes(token) for token in tokens]
    return [b"".join(spelt[:place]) for place in range(len(spelt))]


def test_the_blank_of_a_style_is_left_out_even_where_it_comes_alone() -> None:
    text = AnswerText(lambda ids: " yes"[: len(ids)], (), " ")
    assert [text.add([1]), text.add([1]), text.add([1, 1], Answer((1,) * 4, (), False))] == ["", "y", "es"]


@pytest.mark.parametrize("tokens", [[], [TOKENIZER.eos_id]])
def test_an_empty_answer(tokens: list[int]) -> None:
    assert "".join(streamed(tokens, Answer(tuple(tokens), (), True), [0, 1], ("END",), " ")) == ""
