"""JSON schemas as masks: whatever a model would like to write, what it may write is of the schema."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llguidance", reason="the extra `serving` is not installed")

from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.serving import grammars
from mentallama_jax.serving.api_errors import ApiError
from mentallama_jax.serving.grammars import GrammarMask, Grammars
from mentallama_jax.serving.requested import AnswerSchema

TOKENIZER = load_tokenizer(Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer")
ROWS = 1030
MADE = Grammars(TOKENIZER, ROWS, (TOKENIZER.eos_id,))
SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"enum": ["yes", "no"]},
        "sure": {"type": "boolean"},
        "words": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
    },
    "required": ["label", "sure", "words"],
    "additionalProperties": False,
}


def allowed(mask: GrammarMask) -> list[int]:
    words = mask.allowed()
    assert words.shape == (-(-ROWS // 32),)
    return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist()


def written(mask: GrammarMask, seed: int) -> str:
    """What is written by chance among allowed tokens."""
    chance, tokens = np.random.default_rng(seed), []
    while (token := int(chance.choice(allowed(mask)))) != TOKENIZER.eos_id:
        tokens.append(token)
        mask.take(token)
    mask.check()
    return TOKENIZER.decode(tokens)


def test_what_is_written_is_of_the_schema() -> None:
    make = MADE.masks(AnswerSchema(SCHEMA, "x"))
    labels = set()
    for seed in range(12):
        value = json.loads(written(make(), seed))
        assert list(value) == ["label", "sure", "words"]
        assert isinstance(value["sure"], bool)
        assert len(value["words"]) <= 2
        assert all(len(word) <= 4 for word in value["words"])
        labels.add(value["label"])
    assert labels == {"yes", "no"}


def test_special_tokens_and_rows_without_a_token_are_never_allowed() -> None:
    mask = MADE.masks(AnswerSchema({"type": "string"}, "x"))()
    mask.take(TOKENIZER.encode('"', continues=True)[-1])
    found = set(allowed(mask))
    assert len(found) > 500
    assert not found & {*TOKENIZER.special_ids, *range(1024, 1056)}


def test_a_token_that_ends_answers_is_allowed_at_the_end_alone() -> None:
    """Also one that the tokenizer takes for text, as its files do not call it special."""
    end = TOKENIZER.encode("x", continues=True)[-1]
    mask = Grammars(TOKENIZER, ROWS, (TOKENIZER.eos_id, end)).masks(AnswerSchema({"type": "string"}, "x"))()
    for token in TOKENIZER.encode('"so', continues=True):
        assert end not in allowed(mask)
        mask.take(token)
    assert end not in allowed(mask)
    mask.take(TOKENIZER.encode('"', continues=True)[-1])
    assert allowed(mask) == [TOKENIZER.eos_id, end]
    mask.check()


def test_a_mask_that_failed_lets_an_answer_end_and_says_so() -> None:
    mask = MADE.masks(AnswerSchema({"type": "integer"}, "x"))()
    mask.take(TOKENIZER.encode("x", continues=True)[-1])
    assert allowed(mask) == [TOKENIZER.eos_id]
    with pytest.raises(ApiError) as refused:
        mask.check()
    assert refused.value.status == 500


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "object", "not": {"const": "zanzibar quokka"}}, '["not"]'),
        ({"type": "zanzibar quokka"}, "cannot be followed"),
        ({"$ref": "https://zanzibar.example/quokka"}, "cannot be followed"),
        ({"enum": ["zanzibar quokka" * 5000]}, "longer than"),
        ({"type": "string", "pattern": "(zanzibar"}, "cannot be followed"),
    ],
)
def test_schemas_that_cannot_be_followed_are_refused_without_their_words(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError) as refused:
        MADE.masks(AnswerSchema(schema, "field"))
    assert (refused.value.status, refused.value.param) == (400, "field")
    assert said in refused.value.message
    assert "zanzibar" not in refused.value.message


def test_without_llguidance_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars, "find_spec", lambda name: None)
    with pytest.raises(ApiError, match=r"mentallama-jax\[serving\]") as refused:
        MADE.masks(AnswerSchema(SCHEMA, "x"))
    assert refused.value.status == 400
