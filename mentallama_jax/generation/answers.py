"""From records to predictions, in memory: answers by generation, or the likeliest label sentence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.generation.batching import batches_by_length, pad_left
from mentallama_jax.generation.candidates import pad_candidates, score_candidates
from mentallama_jax.generation.decode import generate
from mentallama_jax.generation.decoder import unroll
from mentallama_jax.generation.placement import whole_batch
from mentallama_jax.generation.sampling import Sampling, row_keys
from mentallama_jax.imhi.predictions import LabelLogProbabilities, Prediction
from mentallama_jax.imhi.prompts import (
    Encoded,
    PromptTokenizer,
    answer_opening,
    encode_answer,
    encode_prompt,
    label_answers,
    stop_ids,
)
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.imhi.wording import instruction_response
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params


class AnswerTokenizer(PromptTokenizer, Protocol):
    """What generation needs of a tokenizer."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How records are answered.

    Attributes:
        max_new_tokens: longest answer, end token included.
        sampling: how tokens are chosen.
        seed: of sampling; each record has its own stream from (seed, record id).
        batch_size: rows decoded together; changes speed and memory, not answers.
    """

    max_new_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name.replace('_', '-')} {getattr(self, name)}: give a number from 1")


def answer_batches(
    params: Params,
    config: LlamaConfig,
    tokenizer: AnswerTokenizer,
    records: Sequence[Record],
    *,
    style: Style,
    max_length: int,
    settings: Settings,
    dtype: Any = jnp.float32,
    donate: bool = False,
) -> Iterator[list[Prediction]]:
    """Answer records by generation.

    Args:
        params: nested dict with stacked layers, see `models.llama.abstract_params`.
        config: of the model.
        tokenizer: of the model.
        records: what to answer.
        style: how a record becomes a prompt.
        max_length: tokens of prompt and answer together; a prompt that leaves no room for `max_new_tokens` loses
            the end of its post.
        settings: see `Settings`.
        dtype: of weights and activations.
        donate: delete the stacked arrays of `params` to save memory, see `cache.unroll`.

    Yields:
        The predictions of each batch as it finishes; `goldens` is the gold response of the instruction format.

    Raises:
        UserError: no room for prompts, too few positions, or a record that is too long even with an empty post.
    """
    prompts = _prompts(records, config, tokenizer, style, max_length, settings.max_new_tokens)
    end_ids = stop_ids(style, tokenizer)
    model = unroll(config, params, dtype, donate=donate)
    batch_size = whole_batch(min(settings.batch_size, max(1, len(records))))
    for batch in batches_by_length([len(prompt.tokens) for prompt in prompts], batch_size):
        tokens_BP, lengths_B = pad_left([prompts[index].tokens for index in batch], batch_size)
        ids = [records[index].id for index in batch]
        generated = generate(
            model,
            tokens_BP,
            lengths_B,
            row_keys(settings.seed, ids + [""] * (batch_size - len(ids))),
            config=config,
            sampling=settings.sampling,
            end_ids=end_ids,
            max_new_tokens=settings.max_new_tokens,
        )
        tokens_BT, counts_B, ended_B = jax.device_get(generated)
        yield [
            _prediction(
                records[index],
                prompts[index],
                text=tokenizer.decode(tokens_BT[row, : counts_B[row]].tolist()).strip(),
                finish="eos" if ended_B[row] else "length",
                new_tokens=int(counts_B[row]),
            )
            for row, index in enumerate(batch)
        ]


def answer_records(
    params: Params,
    config: LlamaConfig,
    tokenizer: AnswerTokenizer,
    records: Sequence[Record],
    *,
    style: Style,
    max_length: int,
    settings: Settings,
    dtype: Any = jnp.float32,
) -> list[Prediction]:
    """The predictions of `answer_batches` in the order of `records`; ids must be unique."""
    batches = answer_batches(
        params, config, tokenizer, records, style=style, max_length=max_length, settings=settings, dtype=dtype
    )
    by_id = {prediction.id: prediction for prediction in chain.from_iterable(batches)}
    return [by_id[record.id] for record in records]


def score_batches(
    params: Params,
    config: LlamaConfig,
    tokenizer: AnswerTokenizer,
    records: Sequence[Record],
    *,
    style: Style,
    max_length: int,
    settings: Settings,
    dtype: Any = jnp.float32,
    donate: bool = False,
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
    prompts = _prompts(records, config, tokenizer, style, max_length, U)
    model = unroll(config, params, dtype, donate=donate)
    batch_size = whole_batch(min(settings.batch_size, max(1, len(records))))
    for C in (2, most):
        group = [index for index, record in enumerate(records) if (len(answers[record.dataset]) == 2) == (C == 2)]
        for batch in batches_by_length([len(prompts[index].tokens) for index in group], batch_size):
            chosen = [group[place] for place in batch]
            tokens_BP, lengths_B = pad_left([prompts[index].tokens for index in chosen], batch_size)
            rows = [candidates[records[index].dataset] for index in chosen]
            candidates_BCU, counts_BC = pad_candidates(rows, (batch_size, C, U))
            scores_BC = np.asarray(
                score_candidates(model, tokens_BP, lengths_B, candidates_BCU, counts_BC, config=config)
            )
            _require_finite(scores_BC, [records[index].id for index in chosen])
            yield [
                _chosen(
                    records[index],
                    prompts[index],
                    answers[records[index].dataset],
                    scores_BC[row].tolist(),
                    counts_BC[row].tolist(),
                )
                for row, index in enumerate(chosen)
            ]


def _prompts(
    records: Sequence[Record],
    config: LlamaConfig,
    tokenizer: AnswerTokenizer,
    style: Style,
    max_length: int,
    answer_length: int,
) -> list[Encoded]:
    if max_length > config.max_positions:
        raise UserError(f"max-length {max_length}: the model has {config.max_positions} positions; give at most that")
    if max_length <= answer_length:
        raise UserError(
            f"max-length {max_length} leaves no room for a prompt before an answer of {answer_length} tokens"
        )
    return [encode_prompt(record, style, tokenizer, max_length - answer_length) for record in records]


def _prediction(
    record: Record,
    prompt: Encoded,
    *,
    text: str,
    finish: str,
    new_tokens: int,
    scores: LabelLogProbabilities | None = None,
) -> Prediction:
    return Prediction(
        id=record.id,
        dataset=record.dataset,
        aspect=record.aspect,
        split=record.split,
        post_id=record.post_id,
        label=record.label,
        goldens=instruction_response(record) if record.label else "",
        prompt_truncated=prompt.truncated,
        generated_text=text,
        finish=finish,
        new_tokens=new_tokens,
        label_log_probabilities=scores,
    )


def _require_finite(scores_BC: np.ndarray, ids: Sequence[str]) -> None:
    """Stop where a row's scores are no numbers: the first label would be chosen, and mean nothing.

    Raises:
        UserError: names the row.
    """
    for row, id_ in enumerate(ids):
        if not np.isfinite(scores_BC[row]).all():
            raise UserError(
                f"row {shown(id_)}: its label scores are not finite; the weights are damaged, or too large for the "
                "dtype of the computation (try --dtype float32)"
            )


def _chosen(
    record: Record, prompt: Encoded, answers: dict[str, str], sums: Sequence[float], counts: Sequence[int]
) -> Prediction:
    # A row can have fewer labels than the batch is wide.
    labels = list(answers)
    best = max(range(len(labels)), key=lambda place: sums[place])
    scores = {
        label: {"sum": total, "mean": total / count} for label, total, count in zip(labels, sums, counts, strict=False)
    }
    text = answers[labels[best]].strip()
    return _prediction(record, prompt, text=text, finish="label", new_tokens=counts[best], scores=scores)
