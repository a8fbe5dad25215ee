"""Records in, predictions out: with the bundled vocabulary and a random model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax
from tiny_decoder import continue_greedily, full_logits, random_params, shape

from mentallama_jax.errors import UserError
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.generation.answers import answer_batches, answer_records, score_batches
from mentallama_jax.generation.batching import PROMPT_SLOTS, batches_by_length, prompt_slots
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.generation.packs import read, width_of
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.prompts import encode_prompt, label_answers
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import instruction_response

SAMPLE_TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"
CONFIG = shape(vocab_size=1024, num_layers=1)
PARAMS = random_params(CONFIG)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(SAMPLE_TOKENIZER)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Rows of tasks with few, many and aspect-wise labels, and one that is much longer than the others."""
    sample = {record.dataset: record for record in read_records(["sample:test"]).records}
    long = replace(sample["DR"], id="long", post=" ".join([sample["DR"].post] * 5))
    return [sample["DR"], sample["SAD"], long, sample["IRF"], sample["T-SID"]]


def engine_of(params=PARAMS, config=CONFIG) -> Engine:
    engine = Engine(config)
    engine.update(params)
    return engine


def answers(tokenizer, records, *, max_length=512, style="plain", **changes):
    settings = replace(Settings(max_new_tokens=8, batch_size=2), **changes)
    return answer_records(engine_of(), tokenizer, records, style=style, max_length=max_length, settings=settings)


def test_predictions_carry_the_record_and_come_in_its_order(tokenizer, records) -> None:
    rows = answers(tokenizer, records)
    for row, record in zip(rows, records, strict=True):
        assert row.finish in ("eos", "length")
        assert 1 <= row.new_tokens <= 8
        assert row.to_json() == {
            "id": record.id,
            "dataset": record.dataset,
            "aspect": record.aspect,
            "split": record.split,
            "post_id": record.post_id,
            "label": record.label,
            "goldens": instruction_response(record),
            "prompt_truncated": 0,
            "generated_text": row.generated_text,
            "finish": row.finish,
            "new_tokens": row.new_tokens,
        }
        assert row.explanation == record.explanation


def test_batch_size_and_order_change_nothing(tokenizer, records) -> None:
    sampling = Sampling(1.2, None, 0.95)
    rows = answers(tokenizer, records, sampling=sampling, seed=3)
    assert rows == answers(tokenizer, records, sampling=sampling, seed=3, batch_size=3)
    assert rows == answers(tokenizer, records[::-1], sampling=sampling, seed=3)[::-1]
    assert [row.generated_text for row in rows] != [
        row.generated_text for row in answers(tokenizer, records, sampling=sampling, seed=4)
    ]


def test_a_prompt_leaves_room_for_the_answer(tokenizer, records) -> None:
    rows = answers(tokenizer, records, max_length=256)
    for row, record in zip(rows, records, strict=True):
        whole = encode_prompt(record, "plain", tokenizer, 10_000)
        assert (row.prompt_truncated > 0) == (len(whole.tokens) > 256 - 8)
    assert any(row.prompt_truncated for row in rows)


def test_impossible_lengths_are_refused(tokenizer, records) -> None:
    with pytest.raises(UserError, match="1024 positions"):
        answers(tokenizer, records, max_length=1025)
    with pytest.raises(UserError, match="no room for a prompt"):
        answers(tokenizer, records, max_length=8)
    with pytest.raises(UserError, match="even with an empty post"):
        answers(tokenizer, records, max_length=20)
    with pytest.raises(UserError, match="batch-size 0"):
        Settings(batch_size=0)


def test_few_compilations_for_many_lengths(tokenizer, records) -> None:
    config = replace(CONFIG, intermediate_size=8)
    before = read._cache_size()
    settings = Settings(max_new_tokens=4, batch_size=1)
    engine = engine_of(random_params(config), config)
    rows = list(answer_batches(engine, tokenizer, records, style="plain", max_length=512, settings=settings))
    assert [len(batch) for batch in rows] == [1] * 5
    lengths = [len(encode_prompt(record, "plain", tokenizer, 508).tokens) for record in records]
    assert len(set(lengths)) == 5
    assert 1 <= read._cache_size() - before <= len({width_of(length) for length in lengths}) + 1 < 5


def test_every_row_is_in_one_batch_and_lengths_fit_their_slots() -> None:
    lengths = np.random.default_rng(0).integers(1, 3000, 50).tolist()
    batches = list(batches_by_length(lengths, 8))
    assert sorted(index for batch in batches for index in batch) == list(range(50))
    assert [lengths[index] for batch in batches for index in batch] == sorted(lengths, reverse=True)
    for length in lengths:
        slots = prompt_slots(length)
        assert length <= slots
        assert slots in PROMPT_SLOTS or (slots % 512 == 0 and slots - length < 512)


@pytest.mark.parametrize("style", ["plain", "completion"])
def test_label_scores_equal_a_plain_pass_and_choose_by_their_sum(tokenizer, records, style) -> None:
    settings = Settings(batch_size=2)
    batches = score_batches(engine_of(), tokenizer, records, style=style, max_length=512, settings=settings)
    rows = {row.id: row for batch in batches for row in batch}
    assert rows.keys() == {record.id for record in records}
    for record in records:
        row, texts = rows[record.id], label_answers(record.task, style)
        scores = row.label_log_probabilities
        assert list(scores) == list(record.task.labels)
        best = max(scores, key=lambda label: scores[label]["sum"])
        assert row.generated_text == texts[best].strip()
        assert row.finish == "label"
        prompt = encode_prompt(record, style, tokenizer, 400).tokens
        for label in (best, record.label):
            candidate = tokenizer.encode(texts[label], continues=True)
            log_probabilities_TV = log_softmax(full_logits(PARAMS, CONFIG, [*prompt, *candidate]), axis=-1)
            places = np.arange(len(prompt) - 1, len(prompt) + len(candidate) - 1)
            expected = log_probabilities_TV[places, candidate].sum()
            np.testing.assert_allclose(scores[label]["sum"], expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(scores[label]["mean"], expected / len(candidate), rtol=1e-5, atol=1e-5)


def test_scores_that_are_no_numbers_stop_with_the_row(tokenizer, records) -> None:
    broken = {**PARAMS, "final_norm": {"scale": PARAMS["final_norm"]["scale"].at[0].set(np.nan)}}
    settings = Settings(batch_size=2)
    engine = engine_of(broken)
    for ask, what in ((score_batches, "its label scores"), (answer_batches, "the log-probabilities of its answer")):
        with pytest.raises(UserError, match=rf"^row '[^']+': {what} are not finite"):
            list(ask(engine, tokenizer, records, style="plain", max_length=512, settings=settings))


def test_an_answer_goes_on_from_its_opening(tokenizer, records) -> None:
    openings = [f"{next(iter(label_answers(record.task, 'plain').values()))} Reasoning:" for record in records]
    settings = Settings(max_new_tokens=8, batch_size=2)
    batches = answer_batches(
        engine_of(), tokenizer, records, style="plain", max_length=256, settings=settings, openings=openings
    )
    rows = {row.id: row for batch in batches for row in batch}
    for record, opening in zip(records, openings, strict=True):
        begun = tokenizer.encode(opening, continues=True)
        room = 256 - 8 - max(len(tokenizer.encode(text, continues=True)) for text in openings)
        prompt = encode_prompt(record, "plain", tokenizer, room)
        row = rows[record.id]
        expected = continue_greedily(PARAMS, CONFIG, [*prompt.tokens, *begun], row.new_tokens)
        assert row.generated_text == tokenizer.decode([*begun, *expected]).strip()
        assert row.generated_text.startswith(opening.strip())
        assert row.prompt_truncated == prompt.truncated
    assert any(row.prompt_truncated for row in rows.values())


def test_a_stop_string_is_cut_with_what_follows_it(tokenizer, records) -> None:
    rows = answers(tokenizer, records, batch_size=5)
    free = max((row.generated_text for row in rows), key=len)
    stop = free[len(free) // 2 :][:2]
    for row, cut in zip(rows, answers(tokenizer, records, batch_size=2, stop_strings=(stop,)), strict=True):
        assert stop not in cut.generated_text
        assert cut.generated_text == row.generated_text.partition(stop)[0].strip()
        assert (cut.finish == "eos") == (row.finish == "eos" or stop in row.generated_text)
        assert cut.new_tokens <= row.new_tokens
