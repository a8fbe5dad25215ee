"""Rewards of an answer that can be checked: its label, whether its reasons fit, its quotes, its form, its length.

A reward is a number for each answer; None says that it cannot be given, as where a row has no gold label. Names:

    label            1 where the label that the answer states is the gold one, else 0
    consistency      1 where the label words in the explanation alone say the stated label, 0 where they say another one
                     or there is no explanation, 0.5 where they say none; 0 where the label is missing or wrong
    consistency:DIR  the same with the classifier of explanations in DIR, 1 or 0
    quotes           of what the explanation quotes, the share that the post has less the share that it has not; 0
                     where nothing of at least three words is quoted
    format           1 for a label sentence of the task, `Reasoning:` and words behind it, else 0
    length:MIN-MAX   1 where the answer has so many words, else 0
    model:DIR        the probability, by the reward model in the run DIR, that the answer is the preferred one
    module:function  one's own: (records, texts) -> a number or None for each
"""

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.trust.grounding import quotes_of_post
from mentallama_jax.evaluation.trust.label_only import reasons_of
from mentallama_jax.evaluation.trust.quotes import QuotedPost, words_of
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.class_inputs import without_label_sentences
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.labels.gold_response import REASONING
from mentallama_jax.imhi.records import Record

Reward = Callable[[Sequence[Record], Sequence[str]], Sequence[float | None]]
"""(the records that were asked, the text of the answer to each) -> the reward of each answer."""

CONSISTENCY = "consistency"
_NONE: Mapping[str, Callable[[str], Reward]] = MappingProxyType({})
_SHORTEST_QUOTE = 3
_WINDOW = re.compile(r"length:(\d{1,6})-(\d{1,6})")
_FUNCTION = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Rewards:
    """Named rewards with their weights.

    Attributes:
        functions: name -> reward.
        weights: name -> what it counts.
    """

    functions: Mapping[str, Reward]
    weights: Mapping[str, float]

    def of(self, records: Sequence[Record], texts: Sequence[str]) -> NDArray[np.float64]:
        """The rewards of answers, [answers, rewards] in the order of names; NaN where there is none.

        Raises:
            UserError: a function gives another number of rewards than there are answers, or one that is not finite.
        """
        columns = []
        for name, function in self.functions.items():
            given = list(function(records, texts))
            if len(given) != len(texts):
                raise UserError(f"objective.rewards {name}: gave {len(given)} rewards for {len(texts)} answers")
            try:
                column = [np.nan if value is None else float(value) for value in given]
            except (TypeError, ValueError):
                raise UserError(f"objective.rewards {name}: gave a reward that is no number") from None
            if any(value is not None and not np.isfinite(value) for value in given):
                raise UserError(f"objective.rewards {name}: gave a reward that is not finite; give None for none")
            columns.append(column)
        return np.array(columns, np.float64).T.reshape(len(texts), len(columns))

    def totals(self, values_AR: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weighted sum of each answer; NaN where it has no reward at all."""
        weights_R = np.array([self.weights[name] for name in self.functions])
        sums_A = np.nansum(values_AR * weights_R, axis=1)
        return np.where(np.isnan(values_AR).all(axis=1), np.nan, sums_A)


def open_rewards(weights: Mapping[str, float], of_folders: Mapping[str, Callable[[str], Reward]] = _NONE) -> Rewards:
    """The rewards that a config names.

    Args:
        weights: name -> weight.
        of_folders: the kinds that need a model, `consistency` and `model`, -> what makes the reward of its folder.

    Raises:
        UserError: no reward has this name.
    """
    return Rewards({name: _reward(name, of_folders) for name in weights}, dict(weights))


def _reward(name: str, of_folders: Mapping[str, Callable[[str], Reward]]) -> Reward:
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    kind, _, argument = name.partition(":")
    if kind in of_folders and argument:
        return of_folders[kind](argument)
    if kind == "length":
        return _length(name)
    if found := _FUNCTION.fullmatch(name):
        return _own(name, found[1], found[2])
    known = ", ".join([*_BUILT_IN, "length:20-120", "model:DIR", "module:function"])
    raise UserError(f"objective.rewards: there is no reward {shown(name)}; there are: {known}")


def label_reward(records: Sequence[Record], texts: Sequence[str]) -> list[float | None]:
    """Whether each answer states the gold label; None where there is none."""
    return [
        None if not record.label else float(read_label(text, record.task, record.aspect) == record.label)
        for record, text in zip(records, texts, strict=True)
    ]


def consistency_reward(records: Sequence[Record], texts: Sequence[str]) -> list[float | None]:
    """Whether the words of the explanation say the label that the answer states, right or wrong."""
    return [_consistency(record, text) for record, text in zip(records, texts, strict=True)]


def _consistency(record: Record, text: str) -> float:
    stated, reasons = read_label(text, record.task, record.aspect), reasons_of(text, record.task)
    if stated is None or not reasons:
        return 0.0
    said = read_label(without_label_sentences(reasons, record.task), record.task, record.aspect)
    return 0.5 if said is None else float(said == stated)


def of_right_labels(reward: Reward) -> Reward:
    """Give the reward where an answer states the gold label or no gold is known, and 0 elsewhere.

    Explanations of some labels fit more often than those of others. Without this it would pay to state those labels.
    """

    def gated(records: Sequence[Record], texts: Sequence[str]) -> list[float | None]:
        right = label_reward(records, texts)
        return [0.0 if own == 0 else value for own, value in zip(right, reward(records, texts), strict=True)]

    return gated


def quotes_reward(records: Sequence[Record], texts: Sequence[str]) -> list[float | None]:
    """How much of what each answer quotes its post has."""
    return [_quotes(record, text) for record, text in zip(records, texts, strict=True)]


def _quotes(record: Record, text: str) -> float:
    found = quotes_of_post(reasons_of(text, record.task), record.task)
    long = [quote.text for quote in found if len(list(words_of(quote.text))) >= _SHORTEST_QUOTE]
    if not long:
        return 0.0
    post = QuotedPost(record.post)
    there = sum(bool(post.locate(quote)) for quote in long)
    return (2 * there - len(long)) / len(long)


def format_reward(records: Sequence[Record], texts: Sequence[str]) -> list[float | None]:
    """Whether each answer is a label sentence with its reasons behind `Reasoning:`."""
    return [float(_in_form(record, text)) for record, text in zip(records, texts, strict=True)]


def _in_form(record: Record, text: str) -> bool:
    head, mark, reasons = text.strip().partition(f" {REASONING} ")
    return bool(mark and reasons.strip()) and head in record.task.sentences.values() and REASONING not in reasons


def _length(name: str) -> Reward:
    found = _WINDOW.fullmatch(name)
    if found is None or int(found[1]) > int(found[2]):
        raise UserError(f"objective.rewards {shown(name)}: give a window of words, such as length:20-120")
    least, most = int(found[1]), int(found[2])

    def length(records: Sequence[Record], texts: Sequence[str]) -> list[float | None]:
        return [float(least <= len(text.split()) <= most) for text in texts]

    return length


def _own(name: str, module: str, function: str) -> Reward:
    try:
        found: Reward = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"objective.rewards {name}: cannot be imported ({type(error).__name__}); put the folder of {module} into "
            "PYTHONPATH"
        ) from None
    if not callable(found):
        raise UserError(f"objective.rewards {name}: is no function")
    return found


_BUILT_IN: Mapping[str, Reward] = {
    "label": label_reward,
    CONSISTENCY: of_right_labels(consistency_reward),
    "quotes": quotes_reward,
    "format": format_reward,
}
