"""Tokens that end answers and that the tokenizer's files do not call special: they are no text of an answer."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from toy_answerer import TOKENIZER, toy_answerer

import mentallama_jax
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
from mentallama_jax.generation.engine import Answer, Settings
from mentallama_jax.imhi.prompts import encode_prompt, encode_question, stop_ids
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.analyse import Analyser, AnalysisSettings, likeliest
from mentallama_jax.jobs.answer import Answerer
from mentallama_jax.jobs.converse import converse
from mentallama_jax.jobs.serve import ServedAnalyser

SETTINGS = Settings(8)


@pytest.fixture(scope="module")
def toy() -> Answerer:
    return toy_answerer()


def ending_with(toy: Answerer, end: int) -> Answerer:
    """The same model, whose files name one more token as an end."""
    files = {path.name: path.read_bytes() for path in TOKENIZER.iterdir() if path.is_file()}
    files["generation_config.json"] = json.dumps({"eos_token_id": [toy.tokenizer.eos_id, end]}).encode()
    tokenizer = Tokenizer(files, "toy")
    assert tokenizer.decode([end]) != ""
    return replace(toy, tokenizer=tokenizer)


def written(toy: Answerer, prompt: Sequence[int]) -> tuple[int, ...]:
    ends = stop_ids(toy.style, toy.tokenizer)
    ((answer,),) = [batch.values() for batch in toy.engine.answers([prompt], ["x"], SETTINGS, ends)]
    return answer.tokens


def an_end_in(toy: Answerer, tokens: Sequence[int]) -> int:
    """The place of a token, not the first, that is text and does not come before."""
    return next(
        place
        for place, token in enumerate(tokens)
        if place and token not in tokens[:place] and toy.tokenizer.decode([token]).strip(" \ufffd")
    )


def test_conversations(toy: Answerer) -> None:
    tokens = written(toy, encode_question("Sleep?", toy.style, toy.tokenizer))
    place = an_end_in(toy, tokens)
    expected = toy.tokenizer.decode(tokens[:place]).strip()
    assert converse(ending_with(toy, tokens[place]), ["Sleep?"], SETTINGS) == [expected]
    shown = toy.tokenizer.decode([tokens[place]]).strip()
    stopping = replace(SETTINGS, stop_strings=(shown,))  # a stop that the end token alone would complete
    if shown not in expected:
        assert converse(ending_with(toy, tokens[place]), ["Sleep?"], stopping) == [expected]


def test_analyses(toy: Answerer) -> None:
    settings = AnalysisSettings(SETTINGS.max_new_tokens)
    free = Analyser(toy, settings)
    (record,) = free.questions(["I count the cracks."], "DR")
    ((scored,),) = toy.answers([record], Settings(batch_size=1), score_labels=True)
    tokens = written(toy, free.explanation_prompt(record, likeliest(scored)).prompt.tokens)
    place = an_end_in(toy, tokens)
    ending = ending_with(toy, tokens[place])
    expected = toy.tokenizer.decode(tokens[:place]).strip()
    (found,) = Analyser(ending, settings).analyse(["I count the cracks."], "DR")
    assert (found.explanation, found.explanation_complete) == (expected, True)
    answer = Answer(tokens[: place + 1], (), True)
    served = ServedAnalyser(ending, settings).analysis(record, scored, [*answer.tokens], answer, 0.0)
    assert (served["explanation"], served["explanation_complete"]) == (expected, True)


def test_predictions(toy: Answerer) -> None:
    record = Record("1", "DR", "I count the cracks.", "yes", "")
    room = toy.max_length - SETTINGS.max_new_tokens
    tokens = written(toy, encode_prompt(record, toy.style, toy.tokenizer, room).tokens)
    place = an_end_in(toy, tokens)
    ((found,),) = ending_with(toy, tokens[place]).answers([record], SETTINGS)
    assert (found.finish, found.new_tokens) == ("eos", place + 1)
    assert found.generated_text == toy.tokenizer.decode(tokens[:place]).strip()


def test_no_answer_is_decoded_with_the_token_that_ends_it() -> None:
    package = Path(mentallama_jax.__file__).parent
    found = [
        f"{path.name}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.name != "stop_strings.py"
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"decode\([^()]*\b(answer|written)\.tokens", line)
    ]
    assert found == []
