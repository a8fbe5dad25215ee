"""Do labels change where nothing that matters does? Posts and questions are changed, and flips are counted."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mentallama_jax.evaluation.probes.label_scores import LabelScores, Scorer
from mentallama_jax.evaluation.probes.perturbations import CUT_SHARE, PERTURBATIONS, TYPO_SHARE
from mentallama_jax.evaluation.probes.post_figures import MeanFigure, difference_figures, mean_figures
from mentallama_jax.evaluation.probes.prefix_measures import tally_of
from mentallama_jax.evaluation.probes.rewordings import Rewordings, reworded
from mentallama_jax.evaluation.statistics.f1 import weighted_f1
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, few_posts, one_seed_difference
from mentallama_jax.imhi.records import Record

ROBUSTNESS_DEFINITIONS = {
    "label": "the likeliest label sentence, by the sum of the log-probabilities of its tokens",
    "flip_rate": "share of rows whose label is another than that of the post itself",
    "p_change": "probability of the label of the post itself: with the change less without",
    "f1_change": "weighted F1 with the change less without, on the same rows; interval over posts",
    "unchanged": "rows whose text the change leaves equal; they are in no figure",
    "typos": f"one typing error in {TYPO_SHARE:.1%} of the words of four letters and more, at least one",
    "cut_off": f"the last {CUT_SHARE:.0%} of the words lost",
    "emoji": "a picture of a thing behind half of the sentences and behind the post",
    "blank_lines": "a blank line behind each sentence and line",
    "reworded": "the question in other words",
}


@dataclass(frozen=True, slots=True)
class VariantScores:
    """Figures of one kind of change, fractions of 1; None where it changes no row."""

    rows: int
    unchanged: int
    posts: int
    flip_rate: MeanFigure | None
    p_change: MeanFigure | None
    weighted_f1_before: float | None
    weighted_f1: float | None
    f1_change: MeanFigure | None
    warning: str | None


@dataclass(frozen=True, slots=True)
class RobustnessScores:
    """Figures of a set of rows; `probe_schema.PROBE_FIELDS` documents each."""

    rows: int
    posts: int
    cut_posts: int
    weighted_f1: float
    variants: dict[str, VariantScores]


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """The scores of a record as it is, and of each change of it; None where that leaves it equal."""

    record: Record
    plain: LabelScores
    variants: Mapping[str, LabelScores | None]


def changed(record: Record, rewordings: Rewordings, seed: int) -> dict[str, Record | None]:
    """Change -> the record with it; None where nothing is changed. Equal posts are changed equally."""
    found: dict[str, Record | None] = {}
    for name, change in PERTURBATIONS.items():
        digest = hashlib.sha256(f"{seed}\0{name}\0{record.post}".encode("utf-8", "surrogatepass")).digest()
        post = change(record.post, np.random.default_rng(int.from_bytes(digest[:8], "big")))
        found[name] = replace(record, post=post) if post != record.post else None
    for number in range(max(map(len, rewordings.values()))):
        questions = rewordings.get(record.task.question)
        found[f"reworded_{number + 1}"] = reworded(record, questions[number]) if questions else None
    return found


def score_changed(records: Sequence[Record], rewordings: Rewordings, scorer: Scorer, *, seed: int) -> list[ChangedRow]:
    """Score each record and each change of it, all at once."""
    variants = [changed(record, rewordings, seed) for record in records]
    asked = [
        each
        for record, of_record in zip(records, variants, strict=True)
        for each in (record, *(variant for variant in of_record.values() if variant is not None))
    ]
    scored = iter(scorer(asked))
    return [
        ChangedRow(
            record,
            next(scored),
            {name: None if variant is None else next(scored) for name, variant in of_record.items()},
        )
        for record, of_record in zip(records, variants, strict=True)
    ]


def robustness(rows: Sequence[ChangedRow], settings: IntervalSettings) -> RobustnessScores:
    """The figures of rows that have gold labels; at least one."""
    return RobustnessScores(
        rows=len(rows),
        posts=len({row.record.post_id for row in rows}),
        cut_posts=sum(row.plain.truncated > 0 for row in rows),
        weighted_f1=float(weighted_f1(tally_of([(row.record, row.plain) for row in rows]).total())),
        variants={name: _variant(rows, name, settings) for name in rows[0].variants},
    )


def _variant(rows: Sequence[ChangedRow], name: str, settings: IntervalSettings) -> VariantScores:
    pairs = list(_changed_pairs(rows, name))
    unchanged = len(rows) - len(pairs)
    if not pairs:
        return VariantScores(0, unchanged, 0, None, None, None, None, None, None)
    posts = [record.post_id for record, _, _ in pairs]
    flips = [float(before.predicted != after.predicted) for _, before, after in pairs]
    p_before = [before.probabilities[before.predicted] for _, before, _ in pairs]
    p_after = [after.probabilities[before.predicted] for _, before, after in pairs]
    counts = tally_of([(record, after) for record, _, after in pairs])
    counts_before = tally_of([(record, before) for record, before, _ in pairs])
    f1 = one_seed_difference(counts, counts_before, weighted_f1, settings)
    return VariantScores(
        rows=len(pairs),
        unchanged=unchanged,
        posts=len(set(posts)),
        flip_rate=mean_figures({"flips": flips}, posts, settings)["flips"],
        p_change=difference_figures({"p": (p_after, p_before)}, posts, settings)["p"],
        weighted_f1_before=float(weighted_f1(counts_before.total())),
        weighted_f1=float(weighted_f1(counts.total())),
        f1_change=MeanFigure(f1.difference, f1.interval),
        warning=few_posts(len(set(posts))),
    )


def _changed_pairs(rows: Sequence[ChangedRow], name: str) -> Iterator[tuple[Record, LabelScores, LabelScores]]:
    for row in rows:
        after = row.variants[name]
        if after is not None:
            yield row.record, row.plain, after
