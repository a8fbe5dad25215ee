"""From records to predictions, in memory: answers by generation, or the likeliest label sentence."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Protocol

import numpy as np

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.generation.label_first import LabelFirst
from mentallama_jax.generation.stop_strings import text_before_stop
from mentallama_jax.generation.votes import Votes, voted
from mentallama_jax.imhi.predictions import LabelLogProbabilities, Prediction, answer_to
from mentallama_jax.imhi.prompting import Asked, Prompting
from mentallama_jax.imhi.prompts import (
    PromptTokenizer,
    answer_opening,
    encode_answer,
    label_answers,
    stop_ids,
)
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.models.llama import LlamaConfig

_AS_TUNED = Prompting()
_NO_VOTES = Votes()


class AnswerTokenizer(PromptTokenizer, Protocol):
    """What generation needs of a tokenizer."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""


def answer_batches(
    engine: Engine,
    tokenizer: AnswerTokenizer,
    records: Sequence[Record],
    *,
    style: Style,
    max_length: int,
    settings: Settings,
    openings: Sequence[str] = (),
    prompting: Prompting = _AS_TUNED,
    label_first: bool = False,
    votes: Votes = _NO_VOTES,
) -> Iterator[list[Prediction]]:
    """Answer records by generation.

    Args:
        engine: holds the model.
        tokenizer: of the model.
        records: what to answer.
        style: how a record becomes a prompt.
        max_length: tokens of prompt and answer together; a prompt that leaves no room for `max_new_tokens` loses
            the end of its post.
        settings: see `engine.Settings`; a record's id names its stream of random numbers.
        openings: how the answer of each record is made to begin, leading blank included; none where it is free.
            The answer holds its opening, `new_tokens` does not count it.
        prompting: how questions are worded, and the examples that go before them.
        label_first: make answers begin with a label sentence of their task; goes without `openings`.
        votes: how many samples of each row vote for its label.

    Yields:
        The predictions of each batch as it finishes; `goldens` is the gold response of the instruction format.

    Raises:
        UserError: no room for prompts, too few positions, a record that is too long even with an empty post, a limit or
            a stop string that would cut the label which answers are made to begin with, or a log-probability that is
            not finite.
    """
    begun = [encode_answer(text, style, tokenizer) for text in openings or [""] * len(records)]
    answer_length = settings.max_new_tokens + max(map(len, begun), default=0)
    first = LabelFirst(records, style, tokenizer) if label_first and records else None
    if first:
        first.check(settings.max_new_tokens, settings.stop_strings)
    votes.check(settings.sampling.temperature)
    asked = _prompts(records, engine.config, tokenizer, style, max_length, answer_length, prompting)
    tokens = [[*each.prompt.tokens, *opening] for each, opening in zip(asked, begun, strict=True)]
    K = votes.count
    samples: dict[int, dict[int, Prediction]] = {index: {} for index in range(len(records))}
    found = engine.samples(
        tokens,
        [record.id for record in records],
        settings,
        stop_ids(style, tokenizer),
        count=K,
        constraint=first.constraint if first else None,
        roots=first.roots if first else (),
        text_of=tokenizer.decode,
    )
    for batch in found:
        done = []
        for (index, sample), answer in batch.items():
            record = records[index]
            _require_finite(answer.log_probabilities, record.id, "the log-probabilities of its answer")
            samples[index][sample] = _prediction(
                record,
                asked[index],
                text=asked[index].answer_in(text_before_stop(tokenizer.decode, answer, begun[index]).strip()),
                finish="eos" if answer.ended or answer.stopped_by else "length",
                new_tokens=len(answer.tokens),
                decided=first.label(record, answer.tokens) if first else "",
            )
            if len(samples[index]) == K:
                of_row = samples.pop(index)
                done.append(voted([of_row[k] for k in range(K)], keep=votes.keep) if K > 1 else of_row[0])
        if done:
            yield done


def answer_records(
    engine: Engine,
    tokenizer: AnswerTokenizer,
    records: Sequence[Record],
    *,
    style: Style,
    max_length: int,
    settings: Settings,
) -> list[Prediction]:
    """The predictions of `answer_batches` in the order of `records`; ids must be unique."""
    batches = answer_batches(engine, tokenizer, records, style=style, max_length=max_length, settings=settings)
    by_id = {prediction.id: prediction for prediction in chain.from_iterable(batches)}
    return [by_id[record.id] for record in records]


def score_batches(
    engine: Engine,
    tokenizer: AnswerTokenizer,
    records: Sequence[Record],
    *,
    style: Style,
    max_length: int,
    settings: Settings,
    prompting: Prompting = _AS_TUNED,
) -> Iterator[list[Prediction]]:
    """Answer records with the likeliest of their task's label sentences.

    A sentence is as likely as its tokens together: the sum of their log-probabilities chooses. Arguments are as in
    `answer_batches`; of the settings, the batch size alone matters.

    Yields:
        Predictions as in `answer_batches`, with `generated_text` the chosen sentence, `finish` "label", `new_tokens`
        its tokens, and besides `label_log_probabilities`: for each label `sum` and `mean` over its tokens, in nats.

    Raises:
        UserError: as `answer_batches`; or the scores of a row are not finite.
    """
    opening = answer_opening(style, tokenizer)
    answers = {name: label_answers(task, style, opening) for name, task in TASKS.items()}
    candidates = {
        name: [encode_answer(text, style, tokenizer) for text in texts.values()] for name, texts in answers.items()
    }
    # Few shapes: a candidate is as wide as the longest of all tasks, a row has two of them or the most that a task has.
    U = max(map(len, chain.from_iterable(candidates.values())))
    most = max(map(len, candidates.values()))
    asked = _prompts(records, engine.config, tokenizer, style, max_length, U, prompting)
    for C in (2, most):
        group = [index for index, record in enumerate(records) if (len(answers[record.dataset]) == 2) == (C == 2)]
        tokens = [asked[index].prompt.tokens for index in group]
        for batch in engine.scores(tokens, [candidates[records[index].dataset] for index in group], settings, (C, U)):
            rows = []
            for place, scores_C in batch.items():
                record, prompt = records[group[place]], asked[group[place]]
                _require_finite(scores_C, record.id, "its label scores")
                counts = [len(candidate) for candidate in candidates[record.dataset]]
                rows.append(_chosen(record, prompt, answers[record.dataset], scores_C.tolist(), counts))
            yield rows


def _prompts(
    records: Sequence[Record],
    config: LlamaConfig,
    tokenizer: AnswerTokenizer,
    style: Style,
    max_length: int,
    answer_length: int,
    prompting: Prompting,
) -> list[Asked]:
    if max_length > config.max_positions:
        raise UserError(f"max-length {max_length}: the model has {config.max_positions} positions; give at most that")
    if max_length <= answer_length:
        raise UserError(
            f"max-length {max_length} leaves no room for a prompt before an answer of {answer_length} tokens"
        )
    return [prompting.ask(record, style, tokenizer, max_length - answer_length) for record in records]


def _prediction(
    record: Record,
    asked: Asked,
    *,
    text: str,
    finish: str,
    new_tokens: int,
    scores: LabelLogProbabilities | None = None,
    decided: str = "",
) -> Prediction:
    return replace(
        answer_to(record, text),
        prompt_truncated=asked.prompt.truncated,
        finish=finish,
        new_tokens=new_tokens,
        label_log_probabilities=scores,
        decided_label=decided,
        examples=asked.examples,
    )


def _require_finite(values: Sequence[float] | np.ndarray, id_: str, what: str) -> None:
    """Stop where a row's log-probabilities are no numbers: whatever is chosen by them means nothing.

    Raises:
        UserError: names the row.
    """
    if not np.isfinite(values).all():
        raise UserError(
            f"row {shown(id_)}: {what} are not finite; the weights are damaged, or too large for the "
            "dtype of the computation (try --dtype float32)"
        )


def _chosen(
    record: Record, asked: Asked, answers: dict[str, str], sums: Sequence[float], counts: Sequence[int]
) -> Prediction:
    labels = list(answers)
    best = max(range(len(labels)), key=lambda place: sums[place])
    scores = {
        label: {"sum": total, "mean": total / count} for label, total, count in zip(labels, sums, counts, strict=True)
    }
    text = answers[labels[best]].strip()
    return _prediction(record, asked, text=text, finish="label", new_tokens=counts[best], scores=scores)
