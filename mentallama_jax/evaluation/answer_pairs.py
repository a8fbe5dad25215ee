"""Pairs for preference tuning: the gold answer of a question against an answer of a model that has a fault.

Kinds of faults, the first that is found counts: `wrong_label` (another label than gold is stated), `no_label` (none can
be read), `inconsistent` (the right label, and an explanation that says another one), `invented_quote` (the right label,
and a quote that the post does not have).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from mentallama_jax.evaluation.label_readers import RULES, label_of
from mentallama_jax.evaluation.pair_balance import balanced
from mentallama_jax.evaluation.rewards import consistency_reward
from mentallama_jax.evaluation.trust.grounding import quotes_of_post
from mentallama_jax.evaluation.trust.label_only import reasons_of
from mentallama_jax.evaluation.trust.quotes import QuotedPost
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import instruction_query, instruction_response

KINDS = ("wrong_label", "no_label", "inconsistent", "invented_quote")
Contradicts = Callable[[Sequence[Record], Sequence[str]], Sequence[float | None]]
"""(records, texts) -> 0 where an explanation says another label than the one that the text states; see `rewards`."""


@dataclass(frozen=True, slots=True)
class FaultyPair:
    """The gold answer to a question, and an answer with a fault.

    Attributes:
        id: of the row, and which of its answers this is.
        dataset: canonical name.
        kind: of the fault, one of `KINDS`.
        prompt: the question in the wording of the benchmark.
        chosen: the gold answer.
        rejected: the answer with the fault.
    """

    id: str
    dataset: str
    kind: str
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class FaultyPairs:
    """Pairs, and why other answers gave none.

    Attributes:
        pairs: in the order of the outputs.
        left_out: reason -> answers: `no gold explanation`, `cut at the limit`, `no fault`, `fault not asked for`,
            `gold answer has it too`, `seen already`, `one-sided`.
    """

    pairs: list[FaultyPair]
    left_out: Counter[str]


def faulty_pairs(
    rows: Sequence[Prediction],
    records: Mapping[str, Record],
    kinds: Sequence[str] = KINDS,
    consistency: Contradicts = consistency_reward,
    *,
    one_sided: bool = False,
) -> FaultyPairs:
    """Make pairs of outputs and the records that they answer.

    Args:
        rows: outputs; of those that were voted for, every sample that was kept is looked at.
        records: row id -> its record, with gold.
        kinds: the faults to take.
        consistency: tells explanations that say another label.
        one_sided: keep wrong labels that prefer one label more often than they reject it, see `pair_balance`.
    """
    left_out: Counter[str] = Counter()
    pairs: list[FaultyPair] = []
    preferences: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for row in rows:
        record, seen = records[row.id], set[str]()
        gold = instruction_response(record)
        fault_of_gold = cache(partial(_fault, record, _label(record, None, gold), gold, consistency))
        endings = (row.finish, *(row.samples_finish or [""] * len(row.samples)))
        for number, (text, finish) in enumerate(zip((row.generated_text, *row.samples), endings, strict=True)):
            reason = _why_not(record, text, row.finish if text == row.generated_text else finish, seen)
            label = None if reason else _label(record, row if not number else None, text)
            kind = None if reason else _fault(record, label, text, consistency)
            if not reason and kind is None:
                reason = "no fault"
            elif not reason and kind not in kinds:
                reason = "fault not asked for"
            elif not reason and kind == fault_of_gold():
                reason = "gold answer has it too"
            if reason:
                left_out[reason] += 1
                continue
            seen.add(text)
            assert kind is not None
            name = f"{row.id}#{number}"
            pairs.append(FaultyPair(name, row.dataset, kind, instruction_query(record), gold, text.strip()))
            if kind == "wrong_label" and label is not None:
                preferences.setdefault((row.dataset, record.aspect), {})[name] = (record.label, label)
    if not one_sided:
        surplus = {name for found in preferences.values() for name in _surplus(found)}
        pairs = [pair for pair in pairs if pair.id not in surplus]
        left_out["one-sided"] += len(surplus)
    return FaultyPairs(pairs, +left_out)


def _surplus(preferences: Mapping[str, tuple[str, str]]) -> list[str]:
    """The names of those that are left out for balance."""
    kept = balanced(list(preferences.values()))
    return [name for name, keep in zip(preferences, kept, strict=True) if not keep]


def _why_not(record: Record, text: str, finish: str, seen: set[str]) -> str:
    """Why a text that ended so is not looked at; "" where it is."""
    if not record.label or not record.explanation:
        return "no gold explanation"
    if finish == "length":
        return "cut at the limit"
    if text in seen or not text.strip() or text.strip() == instruction_response(record):
        return "seen already"
    return ""


def _label(record: Record, row: Prediction | None, text: str) -> str | None:
    """The label that a text states: a row's own where it is given; None where none can be read."""
    return label_of(row, RULES) if row is not None else read_label(text, record.task, record.aspect)


def _fault(record: Record, label: str | None, text: str, consistency: Contradicts) -> str | None:
    """The kind of the first fault; None where there is none."""
    if label is None:
        return "no_label"
    if label != record.label:
        return "wrong_label"
    reasons = reasons_of(text, record.task)
    if reasons and consistency([record], [text])[0] == 0:
        return "inconsistent"
    post = QuotedPost(record.post)
    if any(not post.locate(quote.text) for quote in quotes_of_post(reasons, record.task)):
        return "invented_quote"
    return None
