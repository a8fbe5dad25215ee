"""The metrics of explanations that need a model, as `evaluation.pair_metrics.PairMetric`."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.pair_metrics import Figure, Pair, Score
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.records import Record
from mentallama_jax.scorers.bart_score import DIRECTIONS, SequenceScorer
from mentallama_jax.scorers.bert_score import BertScorer
from mentallama_jax.scorers.embedding_similarity import EmbeddingSimilarity
from mentallama_jax.scorers.lm_score import LanguageModelScorer

_NATS = (-math.inf, 0.0)
_PAIRS_AT_ONCE = 256
"""Scores of so many pairs are kept together: what a killed process computes again at most."""

Encode = Callable[[Sequence[str]], list[list[int]]]
"""Texts -> token ids, special tokens included, each cut to what the model can read."""


class BartScoreMetric:
    """BARTScore in one or more of its `bart_score.DIRECTIONS`."""

    empty_score = None

    def __init__(
        self,
        scorer: SequenceScorer,
        encode: Encode,
        names: Sequence[str],
        model: str,
        records: Mapping[str, Record] | None,
    ) -> None:
        """Make the metric.

        Args:
            scorer: holds the model.
            encode: the tokenizer.
            names: keys of `DIRECTIONS`.
            model: what the signature says of weights and tokenizer.
            records: by id, for the direction that asks for the post.
        """
        self.figures = [Figure(name, f"{DIRECTIONS[name]}; {model}", "nats", _NATS) for name in names]
        self._scorer, self._encode, self._records = scorer, encode, records

    def scores(self, pairs: Sequence[Pair]) -> Iterator[dict[int, tuple[Score, ...]]]:
        """See `PairMetric`."""
        names = {figure.name for figure in self.figures}
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = pairs[start : start + _PAIRS_AT_ONCE]
            outputs, references = (
                self._encode([getattr(pair, side) for pair in part]) for side in ("output", "reference")
            )
            found: dict[str, list[float]] = {}
            if names & {"bartscore", "bartscore_f1"}:
                found["bartscore"] = self._all(outputs, references)
            if names & {"bartscore_precision", "bartscore_f1"}:
                found["bartscore_precision"] = self._all(references, outputs)
            if "bartscore_f1" in names:
                both = zip(found["bartscore"], found["bartscore_precision"], strict=True)
                found["bartscore_f1"] = [(one + other) / 2 for one, other in both]
            if "bartscore_faithfulness" in names:
                posts = self._encode([record_of(pair, self._records).post for pair in part])
                found["bartscore_faithfulness"] = self._all(posts, outputs)
            yield {
                start + place: tuple(Score(found[figure.name][place]) for figure in self.figures)
                for place in range(len(part))
            }

    def _all(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> list[float]:
        return in_order(self._scorer.scores(list(zip(sources, targets, strict=True))), len(sources))


class BertScoreMetric:
    """BERTScore: `bertscore_p`, `bertscore_r` and `bertscore_f1`."""

    empty_score = None

    def __init__(self, scorer: BertScorer, signature: str, *, rescaled: bool) -> None:
        """Make the metric; `signature` says how texts are compared."""
        # A rescaled score has no lowest value that is known: that of the baseline decides.
        bounds = (-math.inf, 1.0) if rescaled else (-1.0, 1.0)
        names = "bertscore_p", "bertscore_r", "bertscore_f1"
        self.figures = [Figure(name, signature, "share", bounds) for name in names]
        self._scorer = scorer

    def scores(self, pairs: Sequence[Pair]) -> Iterator[dict[int, tuple[Score, ...]]]:
        """See `PairMetric`."""
        for start, part in _parts(pairs):
            for batch in self._scorer.scores([(pair.output, pair.reference) for pair in part]):
                yield {start + place: tuple(map(Score, values)) for place, values in batch.items()}


class EmbeddingMetric:
    """The cosine of sentence embeddings; that of an empty output is 0."""

    empty_score = 0.0

    def __init__(self, scorer: EmbeddingSimilarity, signature: str) -> None:
        """Make the metric; `signature` says of which model the embeddings are."""
        self.figures = [Figure("embedding", signature, "share", (-1.0, 1.0))]
        self._scorer = scorer

    def scores(self, pairs: Sequence[Pair]) -> Iterator[dict[int, tuple[Score, ...]]]:
        """See `PairMetric`."""
        for start, part in _parts(pairs):
            for batch in self._scorer.scores([(pair.output, pair.reference) for pair in part]):
                yield {start + place: (Score(value),) for place, value in batch.items()}


class LanguageModelMetric:
    """The mean log-probability of an output given its question: `lm`, and after the gold label: `lm_gold_label`."""

    empty_score = None

    def __init__(self, scorer: LanguageModelScorer, records: Mapping[str, Record], signature: str) -> None:
        """Make the metric.

        Args:
            scorer: holds the model.
            records: the questions, by the ids of predictions.
            signature: says of which model and which questions.
        """
        self.figures = [
            Figure("lm", f"mean ln p(output | instruction, post), end token included; {signature}", "nats", _NATS),
            Figure("lm_gold_label", f"the same after the sentence of the gold label; {signature}", "nats", _NATS),
        ]
        self._scorer, self._records = scorer, records

    def scores(self, pairs: Sequence[Pair]) -> Iterator[dict[int, tuple[Score, ...]]]:
        """See `PairMetric`."""
        for start, part in _parts(pairs):
            records = [record_of(pair, self._records) for pair in part]
            texts = [pair.output for pair in part]
            plain = in_order(self._scorer.scores(records, texts), len(part))
            after = in_order(self._scorer.scores(records, texts, after_gold_label=True), len(part))
            yield {
                start + place: tuple(map(Score, values)) for place, values in enumerate(zip(plain, after, strict=True))
            }


def record_of(pair: Pair, records: Mapping[str, Record] | None) -> Record:
    """The record that a prediction is about.

    Raises:
        UserError: there is none.
    """
    record = None if records is None else records.get(pair.id)
    if record is None:
        raise UserError(f"row {shown(pair.id)}: its post is not in --data, whose rows are matched by their ids")
    return record


def in_order(batches: Iterator[dict[int, Any]], count: int) -> list[Any]:
    """The values of all batches by place."""
    found: dict[int, Any] = {}
    for batch in batches:
        found |= batch
    return [found[place] for place in range(count)]


def _parts(pairs: Sequence[Pair]) -> Iterator[tuple[int, Sequence[Pair]]]:
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        yield start, pairs[start : start + _PAIRS_AT_ONCE]
