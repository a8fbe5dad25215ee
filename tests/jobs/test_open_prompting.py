"""Prompts as a user names them: nearest examples by a real encoder's embeddings, and what the signature says."""

from pathlib import Path

import numpy as np
import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.shots import Shots
from mentallama_jax.jobs.open_prompting import open_prompting
from mentallama_jax.jobs.open_scorers import open_embeddings

BERT = Path(__file__).parents[1] / "fixtures" / "bert_score" / "bert"
QUESTIONS = [record for record in read_records(["sample:test"]).records if record.dataset == "DR"][:3]
TRAINING = [record for record in read_records(["sample:train"]).records if record.dataset == "DR"]


def test_the_nearest_examples_are_those_of_the_embeddings() -> None:
    said: list[str] = []
    nearest = Shots(1, "nearest")
    found = open_prompting(QUESTIONS, shots=nearest, sources=["sample:train"], encoder=str(BERT), say=said.append)
    assert len(said) == 1
    scorer, named = open_embeddings(str(BERT))
    posts = [record.post for record in TRAINING]
    for question in QUESTIONS:
        one_by_one: dict[int, float] = {}
        for batch in scorer.scores([(question.post, post) for post in posts]):
            one_by_one |= batch
        vectors_ND = scorer.embeddings([question.post, *posts])
        cosines = vectors_ND[1:] @ vectors_ND[0]
        np.testing.assert_allclose(cosines, [one_by_one[place] for place in range(len(posts))], atol=1e-5)
        for example in found.examples[question.id]:
            of_label = [cosines[place] for place, row in enumerate(TRAINING) if row.label == example.label]
            own = next(cosines[place] for place, row in enumerate(TRAINING) if row.id == example.id)
            assert own == pytest.approx(max(of_label), abs=1e-5)
    assert found.signature["shots"]["encoder"] == named
    assert set(found.signature["shots"]["examples"]) == {row.id for each in found.examples.values() for row in each}


def test_the_instruction_alone_says_nothing_and_parts_say_their_words() -> None:
    assert open_prompting(QUESTIONS).signature == {}
    parts = open_prompting(QUESTIONS, "zero-shot").signature["prompt"]
    assert parts["kind"] == "zero-shot"
    assert "{post}" in parts["text"]
    first = open_prompting(QUESTIONS, shots=Shots(1, seed=1), sources=["sample:train"])
    second = open_prompting(QUESTIONS, shots=Shots(1, seed=1), sources=["sample"])
    assert first.signature["shots"] == second.signature["shots"]
    with pytest.raises(UserError, match=r"no labelled training row of DR|holds no row of the split"):
        open_prompting(QUESTIONS, shots=Shots(1), sources=["sample:test"])
