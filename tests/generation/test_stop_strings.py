"""Where an answer stops by its text: at the same token however it is cut into pieces, and before the stop string."""

from itertools import chain
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.generation.growing_text import settled
from mentallama_jax.generation.requests import Answer
from mentallama_jax.generation.stop_strings import StopSearch, text_before_stop, without_end

TOKENIZER = load_tokenizer(Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer")
STOPS = ["END", "日", "\n", "é 日", "N🙂"]
TEXTS = st.text(st.sampled_from("ab .\nENDé日🙂\u0301"), max_size=16).map(
    lambda text: TOKENIZER.encode(text, continues=True)
)
BYTES = st.integers(3, 258).map(lambda byte: [byte])
PARTS = st.lists(TEXTS | BYTES | st.integers(3, 1023).map(lambda token: [token]), max_size=8)
NEW_LINE = TOKENIZER.encode("\n", continues=True)
BROKEN = [186]


@given(PARTS, st.lists(st.integers(1, 12), min_size=1), st.sampled_from(STOPS))
@example([[840], [*NEW_LINE, *BROKEN]], [1], "\n")
@example([[840], [*NEW_LINE, *BROKEN]], [12], "\n")
def test_an_answer_stops_with_the_first_token_that_completes_a_stop(
    parts: list[list[int]], sizes: list[int], stop: str
) -> None:
    tokens = list(chain(*parts))
    texts = [TOKENIZER.decode(tokens[:count]) for count in range(len(tokens) + 1)]
    first = next((count for count, text in enumerate(texts) if stop in text), len(tokens))
    expected = (stop if stop in texts[first] else "", first)
    search, before, place, found = StopSearch(TOKENIZER.decode, [stop]), 0, 0, ""
    while before < len(tokens) and not found:
        new = tokens[before : before + sizes[place % len(sizes)]]
        found, taken = search.add(new)
        before, place = before + taken, place + 1
    assert (found, before) == expected


@pytest.mark.parametrize("of_stop", ["", "END"])
def test_the_token_that_ends_an_answer_is_no_text_of_it(of_stop: str) -> None:
    """Whatever a tokenizer makes of it."""
    tokens = TOKENIZER.encode(f"so{of_stop}", continues=True)
    end = TOKENIZER.encode("x", continues=True)[0]
    answer = Answer((*tokens, end), (), True)
    assert TOKENIZER.decode(answer.tokens) == f"so{of_stop}x"
    assert without_end(answer) == tuple(tokens)
    assert text_before_stop(TOKENIZER.decode, answer) == f"so{of_stop}"
    stopped = Answer(tuple(tokens), (), False, of_stop)
    assert without_end(stopped) == tuple(tokens)
    assert text_before_stop(TOKENIZER.decode, stopped) == "so"


@given(PARTS, PARTS, st.sampled_from(STOPS))
@example([], [[840]], "日")
def test_the_text_ends_before_the_stop(begun: list[list[int]], parts: list[list[int]], stop: str) -> None:
    opening = list(chain(*begun))
    tokens = [*chain(*parts), *TOKENIZER.encode(stop, continues=True)]
    name, kept = StopSearch(TOKENIZER.decode, [stop]).add(tokens)
    answer = Answer(tuple(tokens[:kept]), (), False, name)
    alone = text_before_stop(TOKENIZER.decode, answer)
    assert name == stop
    assert stop not in alone
    assert TOKENIZER.decode(tokens).startswith(alone + stop)
    behind = text_before_stop(TOKENIZER.decode, answer, opening)
    whole = TOKENIZER.decode([*opening, *answer.tokens])
    assert whole.startswith(behind + stop)
    assert len(behind) >= len(settled(TOKENIZER.decode(opening))) - len(stop)
