"""From records to predictions of an encoder-decoder: written answers, or the likeliest label sentence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.generation.beam_search import BeamSearch
from mentallama_jax.generation.engine import Settings
from mentallama_jax.generation.sequence_engine import SequenceEngine
from mentallama_jax.generation.stop_strings import without_end
from mentallama_jax.imhi.pair_texts import PairTokenizer, encode_sources, label_texts, specials_of
from mentallama_jax.imhi.predictions import Prediction, answer_to
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS

_LOST = -1e8
"""A score below this belongs to a beam that is none."""


class SequenceTokenizer(PairTokenizer, Protocol):
    """What answering needs of a tokenizer."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""


@dataclass(frozen=True, slots=True)
class SourceReading:
    """How records become sources.

    Attributes:
        tokenizer: of the model.
        style: plain or completion.
        max_length: most tokens of a source; a longer post loses its end.
    """

    tokenizer: SequenceTokenizer
    style: Style
    max_length: int


def answer_sequences(
    engine: SequenceEngine,
    reading: SourceReading,
    records: Sequence[Record],
    settings: Settings,
    search: BeamSearch | None = None,
    no_repeat_ngram: int = 0,
) -> Iterator[list[Prediction]]:
    """Answer records by writing targets; the arguments are those of `SequenceEngine.answers`.

    Yields:
        The predictions of each batch as it finishes; `goldens` is the gold response of the instruction format.

    Raises:
        UserError: a record that is too long even with an empty post, or scores that are not finite.
    """
    sources = encode_sources(records, reading.style, reading.tokenizer, reading.max_length)
    tokens, ids = [source.tokens for source in sources], [record.id for record in records]
    for batch in engine.answers(tokens, ids, settings, search, no_repeat_ngram):
        rows = []
        for place, written in batch.items():
            if not np.isfinite(written.score) or written.score < _LOST:
                raise UserError(_not_finite(ids[place], "the scores of its answer"))
            rows.append(
                replace(
                    answer_to(records[place], reading.tokenizer.decode(without_end(written)).strip()),
                    prompt_truncated=sources[place].truncated,
                    finish="eos" if written.ended else "length",
                    new_tokens=len(written.tokens),
                )
            )
        yield rows


def score_sequences(
    engine: SequenceEngine, reading: SourceReading, records: Sequence[Record], settings: Settings
) -> Iterator[list[Prediction]]:
    """Answer records with the likeliest of their task's label sentences.

    A sentence is as likely as its tokens together, as the beginning of an answer: the sum of their log-probabilities,
    what opens every target included, its end token not.

    Yields:
        As `answer_sequences`, `finish` being "label", with `label_log_probabilities`.

    Raises:
        UserError: a record that is too long even with an empty post, or scores that are not finite.
    """
    closing = len(specials_of(reading.tokenizer, engine.config.end_id, "the model").closing)
    texts = {name: label_texts(TASKS[name], reading.style) for name in {record.dataset for record in records}}
    candidates = {
        name: [ids[:-closing] for ids in reading.tokenizer.encode(list(of.values()), 1 << 30)]
        for name, of in texts.items()
    }
    sources = encode_sources(records, reading.style, reading.tokenizer, reading.max_length)
    tokens = [source.tokens for source in sources]
    for batch in engine.scores(tokens, [candidates[record.dataset] for record in records], settings):
        rows = []
        for place, scores_C in batch.items():
            record = records[place]
            if not np.isfinite(scores_C).all():
                raise UserError(_not_finite(record.id, "its label scores"))
            counts = [len(ids) for ids in candidates[record.dataset]]
            of = texts[record.dataset]
            best = int(np.argmax(scores_C))
            rows.append(
                replace(
                    answer_to(record, list(of.values())[best]),
                    prompt_truncated=sources[place].truncated,
                    finish="label",
                    new_tokens=counts[best],
                    label_log_probabilities={
                        label: {"sum": total, "mean": total / count}
                        for label, total, count in zip(of, scores_C.tolist(), counts, strict=True)
                    },
                )
            )
        yield rows


def _not_finite(id_: str, what: str) -> str:
    return (
        f"row {shown(id_)}: {what} are not finite; the weights are damaged, or too large for the dtype of the "
        "computation (try --dtype float32)"
    )
