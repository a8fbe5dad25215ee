"""How likely a language model finds an explanation, given instruction and post (the idea of GPTScore, Fu et al. 2023).

The score is the mean of ln p over the tokens of the explanation and the end token, so that an empty one has a score.
"""

from collections.abc import Iterator, Sequence

from mentallama_jax.config import Style
from mentallama_jax.generation.answers import AnswerTokenizer
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.imhi.labels.gold_response import REASONING
from mentallama_jax.imhi.prompts import answer_blank, encode_answer, encode_prompt, end_id
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import need_label

_WIDTH = 64
"""Answers are as wide as the next multiple of this, so that few shapes are compiled."""


class LanguageModelScorer:
    """The mean log-probability of texts as answers to the questions of records."""

    def __init__(
        self, engine: Engine, tokenizer: AnswerTokenizer, *, style: Style, max_length: int, settings: Settings
    ) -> None:
        """Hold a model.

        Args:
            engine: with the weights.
            tokenizer: of the model.
            style: how a record becomes a prompt.
            max_length: tokens of prompt and answer together; a longer post loses its end.
            settings: of which the batch size alone matters.
        """
        self._engine, self._tokenizer, self._style = engine, tokenizer, style
        self._max_length, self._settings = max_length, settings

    def scores(
        self, records: Sequence[Record], texts: Sequence[str], *, after_gold_label: bool = False
    ) -> Iterator[dict[int, float]]:
        """Score one text for each record.

        Args:
            records: whose questions are asked.
            texts: answers, or explanations.
            after_gold_label: whether the gold label's sentence and `Reasoning:` stand in front, and count as given.

        Yields:
            Place -> the mean of the log-probabilities (nats) of the tokens of its text, end token included.

        Raises:
            UserError: a record without a gold label where that is wanted, or too long even with an empty post.
        """
        answers, given = [], []
        for record, text in zip(records, texts, strict=True):
            if after_gold_label:
                need_label(record)
            before = f"{record.task.sentences[record.label]} {REASONING}" if after_gold_label else ""
            answers.append(
                [*self._encode(" ".join(filter(None, (before, text)))), end_id(self._style, self._tokenizer)]
            )
            given.append(_shared(self._encode(before), answers[-1]) if before else [])
        by_width: dict[int, list[int]] = {}
        for place, answer in enumerate(answers):
            by_width.setdefault(-(-len(answer) // _WIDTH) * _WIDTH, []).append(place)
        for width, members in sorted(by_width.items()):
            prompts = [
                encode_prompt(
                    records[place], self._style, self._tokenizer, self._max_length - len(answers[place])
                ).tokens
                for place in members
            ]
            candidates = [[given[place], answers[place]] for place in members]
            for batch in self._engine.scores(prompts, candidates, self._settings, (2, width)):
                yield {
                    members[row]: float(sums[1] - sums[0]) / (len(candidates[row][1]) - len(candidates[row][0]))
                    for row, sums in batch.items()
                }

    def _encode(self, text: str) -> list[int]:
        blank = answer_blank(self._style, self._tokenizer) if text else ""
        return encode_answer(blank + text, self._style, self._tokenizer) if text else []


def _shared(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """The tokens with which both begin."""
    length = next((place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
    return list(first[:length])
