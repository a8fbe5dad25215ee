"""Outputs that went wrong as texts: unparsed, empty, cut off, looping, refused, or still reasoning at their end.

Each fault has one definition, that of `DEFINITIONS`. An output may have several.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mentallama_jax.evaluation.correctness import LabelledRow
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.trust.counted_shares import CountedShare, counted_shares
from mentallama_jax.evaluation.trust.refusals import is_refusal
from mentallama_jax.imhi.labels.unwrapping import without_traces
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

_LONGEST_BLOCK = 64
_FEWEST_TIMES = 4
_FEWEST_WORDS = 12
_SURE_RUN = 9
"""A loop repeats at least so many words in a row: 3 words 4 times are 9 words that stand 3 words before as well."""

DEFINITIONS: Mapping[str, str] = {
    "unparsed": "the output states no readable label",
    "empty": "the output holds nothing but blanks, reasoning traces aside",
    "over_length": "the output reached the limit of new tokens before its end (`finish` is `length`); of the rows "
    "that tell how they ended",
    "repeated": f"a sequence of 1 to {_LONGEST_BLOCK} words stands at least {_FEWEST_TIMES} times in direct succession "
    f"and over at least {_FEWEST_WORDS} words, without regard to case; a punctuation mark counts as a word, but those "
    "that lines are drawn with do not; in a reasoning trace it counts where the trace is not closed",
    "refused": "a sentence of the output, outside quotation marks and reasoning traces, begins with a refusal, such as "
    "`I'm sorry, but I can't help` or `As an AI language model, I cannot`",
    "unclosed_reasoning": "a reasoning trace such as <think> is opened and not closed",
    "any": "at least one of these",
}

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s\-=*#~|+]")


@dataclass(frozen=True, slots=True)
class OutputFaults:
    """What `scores.json` holds under `output_faults`; `schema` documents each key.

    Attributes:
        datasets: data set -> fault -> rows that have it.
        pooled: of all rows.
        definitions: fault -> when a row has it.
    """

    datasets: dict[str, dict[str, CountedShare]]
    pooled: dict[str, CountedShare]
    definitions: dict[str, str]


def count_faults(
    rows: Sequence[Prediction], labelled: Sequence[LabelledRow], settings: IntervalSettings
) -> OutputFaults:
    """Count the faults of outputs, for each data set in the order of their table and for all rows.

    Args:
        rows: the outputs.
        labelled: the same rows, read.
        settings: of the intervals, which are over posts.
    """
    found = [faults(row, read.unparsed) for row, read in zip(rows, labelled, strict=True)]
    places = {name: [place for place, row in enumerate(rows) if row.dataset == name] for name in TASKS}

    def counted(of: Sequence[int]) -> dict[str, CountedShare]:
        posts = [rows[place].post_id for place in of]
        shares = counted_shares(
            {name: [name in found[place] for place in of] for name in DEFINITIONS if name != "over_length"},
            posts,
            settings,
        )
        told = [place for place in of if rows[place].finish]
        long = {"over_length": ["over_length" in found[place] for place in told]}
        shares |= counted_shares(long, [rows[place].post_id for place in told], settings)
        return {name: shares[name] for name in DEFINITIONS}

    return OutputFaults(
        datasets={name: counted(of) for name, of in places.items() if of},
        pooled=counted(range(len(rows))),
        definitions=dict(DEFINITIONS),
    )


def faults(row: Prediction, unparsed: bool) -> set[str]:
    """The names of the faults of an output, `any` among them where there is one."""
    answer = without_traces(row.generated_text)
    checks = {
        "unparsed": unparsed,
        "empty": answer is not None and not answer.strip(),
        "over_length": row.finish == "length",
        "repeated": is_loop(row.generated_text if answer is None else answer),
        "refused": answer is not None and is_refusal(answer),
        "unclosed_reasoning": answer is None,
    }
    found = {name for name, holds in checks.items() if holds}
    return found | {"any"} if found else found


def is_loop(text: str) -> bool:
    """Whether a sequence of words is repeated again and again; see `DEFINITIONS`."""
    words = _WORD.findall(text.casefold())
    runs = {tuple(words[start : start + _SURE_RUN]) for start in range(len(words) - _SURE_RUN + 1)}
    if len(runs) == max(len(words) - _SURE_RUN + 1, 0):
        return False  # no run of words occurs twice
    return any(_longest_run(words, size) >= _needed(size) for size in range(1, _LONGEST_BLOCK + 1))


def _needed(size: int) -> int:
    """How many words in succession must equal the word `size` before them."""
    times = max(_FEWEST_TIMES, -(-_FEWEST_WORDS // size))
    return (times - 1) * size


def _longest_run(words: Sequence[str], size: int) -> int:
    longest = run = 0
    for word, before in zip(words[size:], words, strict=False):
        run = run + 1 if word == before else 0
        longest = max(longest, run)
    return longest
