"""What a recipe asks of the chips: updates, rows, real tokens; from the run's own data, or from stated assumptions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.config import ClassificationSection, DocumentsSection, DpoSection, RunConfig, SequenceSection
from mentallama_jax.errors import UserError
from mentallama_jax.training.data.batches import TrainingData
from mentallama_jax.training.data.packing import PlanSettings
from mentallama_jax.training.data.tokens import TokenStore

PADDED_LENGTH = 2096
"""Tokens of a row of the paper, one example in each: what packing is compared with."""
_TEXT_TOKENS: Mapping[str, float] = {"post": 113.0, "explanation": 91.0, "response": 102.0}
"""Tokens of what a classifier reads: the mean over the data sets DR, SAD and dreaddit, in pieces of uncased BERT."""
PAIR_TOKENS = 129.0
"""Tokens of a row that a pair of the completion format takes: the mean of the longer of source and target, where rows
of both have as much room, over 3,000 training rows of all data sets in pieces of uncased BERT."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is assumed of data that are not here: the whole benchmark of the paper, and lengths measured on a part.

    Attributes:
        rows: training examples.
        mean_tokens: of an example: query and response in LLaMA-2 tokens, or the text that a classifier reads.
        fill: real tokens as a share of what packing computes, micro-batches apart.
    """

    rows: int = 72093
    mean_tokens: float = 182.0
    fill: float = 0.985


def assumed_tokens(config: RunConfig) -> float:
    """The mean tokens of an example where nothing else is said; documents are taken to fill their rows."""
    if isinstance(config.objective, ClassificationSection):
        return min(_TEXT_TOKENS[config.objective.input], config.data.max_length)
    if isinstance(config.objective, DocumentsSection):
        return float(config.data.max_length)
    if isinstance(config.objective, SequenceSection):
        return PAIR_TOKENS
    if isinstance(config.objective, DpoSection):
        return min(2 * Assumptions().mean_tokens, config.data.max_length)  # two answers, each behind its prompt
    return Assumptions().mean_tokens


def target_length(config: RunConfig) -> int:
    """Tokens of a row of targets beside a row of the batch; 0 where targets stand in the row itself."""
    return config.objective.target_length if isinstance(config.objective, SequenceSection) else 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole training job.

    Attributes:
        source: where the figures come from, in words.
        updates: of the job.
        rows: packed rows of an update, on average.
        tokens: real tokens of an update, on average.
        most_rows: rows of the largest update.
        row_length: tokens of a row.
        examples: of an update.
        padded: True where a row is one example.
        count: training examples of an epoch; 0 where only updates are known.
        assumed: whether that many are assumed, rather than given or counted.
        known: training rows that its data sets are known to have; 0 where it is not known.
    """

    source: str
    updates: int
    rows: float
    tokens: float
    most_rows: int
    row_length: int
    examples: float
    padded: bool = False
    count: int = 0
    assumed: bool = False
    known: int = 0

    def micro_batches(self, micro_batch_rows: int) -> int:
        """Micro-batches that an update computes, whole ones."""
        return math.ceil(self.rows / micro_batch_rows - 1e-9)

    def real_share(self, micro_batch_rows: int) -> float:
        """Real tokens as a share of what is computed."""
        return self.tokens / (self.micro_batches(micro_batch_rows) * micro_batch_rows * self.row_length)

    def as_padded(self, length: int = PADDED_LENGTH) -> "Recipe":
        """The same examples, each in a row of its own of `length` tokens."""
        rows = math.ceil(self.examples)
        return Recipe(f"one example a row of {length}", self.updates, rows, self.tokens, rows, length, rows, True)


def assumed_recipe(config: RunConfig, assumptions: Assumptions) -> Recipe:
    """The job of a config over examples that are not here."""
    training, length = config.training, config.data.max_length
    if training.batch_unit == "rows":
        tokens = training.batch_size * length * assumptions.fill
        examples, rows = tokens / assumptions.mean_tokens, float(training.batch_size)
    else:
        examples = float(min(training.batch_size, assumptions.rows))
        tokens = examples * assumptions.mean_tokens
        rows = examples if config.data.layout == "bucketed" else float(math.ceil(tokens / (length * assumptions.fill)))
    an_epoch = math.ceil(assumptions.rows / examples)
    updates = training.steps or max(1, round((training.epochs or 1) * an_epoch))
    source = f"assumed: {assumptions.rows:,} examples of {assumptions.mean_tokens:g} tokens on average"
    return Recipe(source, updates, rows, tokens, math.ceil(rows), length, examples, count=assumptions.rows)


def recipe_of_documents(config: RunConfig, rows: int | None, mean_tokens: float | None) -> Recipe:
    """The job of a config over raw text that is not here.

    Args:
        config: the run.
        rows: pieces of documents, as many as an epoch sees; None where `training.steps` says how much is trained.
        mean_tokens: of a piece; by default every piece fills its row.

    Raises:
        UserError: neither says how much text there is.
    """
    tokens = mean_tokens or assumed_tokens(config)
    if rows is not None:
        return assumed_recipe(config, Assumptions(rows, tokens))
    if config.training.steps is None:
        raise UserError(
            "the size of the text decides the hours: give --data to read it, --rows (pieces of at most a row of "
            "tokens, with --mean-tokens), or training.steps=N"
        )
    recipe = assumed_recipe(config, Assumptions(mean_tokens=tokens))
    total = recipe.updates * recipe.tokens
    return replace(recipe, source=f"assumed: {recipe.updates:,} updates, {total:,.0f} tokens of text", count=0)


def recipe_of_lengths(config: RunConfig, lengths: NDArray[np.int64]) -> Recipe:
    """The job of a config over examples of these lengths: its very plan, of the first epoch, times the epochs."""
    settings = PlanSettings.of(config)
    count = len(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    empty = np.zeros(0, np.int32)
    store = TokenStore("", ("",) * count, empty, offsets, np.ones(count, np.int32), np.zeros(count, np.int32))
    data = TrainingData(store, settings, epochs=1)
    updates = config.training.steps or max(1, round((config.training.epochs or 1) * data.steps))
    tokens = float(lengths.sum()) / data.steps
    computed = tokens / (1 - data.pad_share)
    length = max(data.row_lengths)
    rows = computed / length
    source = f"data: {count:,} examples"
    return Recipe(source, updates, rows, tokens, data.rows, length, count / data.steps, count=count)
