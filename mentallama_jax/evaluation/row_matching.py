"""The rows that several systems share: found by id, with equal gold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.score_store import ScoredRows
from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.predictions import Prediction


@dataclass(frozen=True, slots=True)
class SeedAnswers:
    """The answers of one seed of a system.

    Attributes:
        file: what they are called in messages.
        predictions: all of them.
        scored: scores of their rows by metrics of explanations; None where there are none.
    """

    file: str
    predictions: Predictions
    scored: ScoredRows | None = None


@dataclass(frozen=True, slots=True)
class System:
    """A system that is compared: its name and the answers of each of its seeds."""

    name: str
    seeds: tuple[SeedAnswers, ...]


@dataclass(frozen=True, slots=True)
class Matched:
    """Rows that all answered.

    Attributes:
        rows: of each system and seed, ordered by id; a post is named as the first seed of all names it.
        left_out: file -> rows that were left out, as others lack them.
    """

    rows: tuple[tuple[tuple[Prediction, ...], ...], ...]
    left_out: dict[str, int]


def match_rows(systems: Sequence[System], matched_only: bool) -> Matched:
    """The rows of all systems and seeds.

    Args:
        systems: two at least.
        matched_only: leave out rows that not all have, and count them.

    Raises:
        UserError: rows that not all have, no common row, or gold that differs.
    """
    answers = [seed for system in systems for seed in system.seeds]
    by_id = [{row.id: row for row in seed.predictions.rows} for seed in answers]
    shared = sorted(set.intersection(*(set(rows) for rows in by_id)))
    every = set.union(*(set(rows) for rows in by_id))
    if not shared:
        raise UserError(f"{_names(answers)} have no row in common; rows are matched by id")
    for seed, rows in zip(answers, by_id, strict=True):
        missing = sorted(every - set(rows))
        if missing and not matched_only:
            what = f"{_rows(len(missing))}, such as {shown_cell(missing[0])}, are in others and not in {seed.file}"
            raise UserError(f"{what}; generate all from the same records, or leave such rows out with --matched-only")
    for seed, rows in zip(answers[1:], by_id[1:], strict=True):
        differing = [key for key in shared if _gold(rows[key]) != _gold(by_id[0][key])]
        if differing:
            alike = all(rows[key].label == by_id[0][key].label for key in differing)
            what = "data set or aspect" if alike else "gold"
            what = f"the {what} of {_rows(len(differing))}, such as {shown_cell(differing[0])}, differs"
            if all(rows[key].post_id != by_id[0][key].post_id for key in differing):
                what += ", and so do their posts: one id stands for other rows there"
            raise UserError(f"{answers[0].file} and {seed.file} cannot be compared: {what}")
    posts = {key: by_id[0][key].post_id for key in shared}
    ordered = iter([tuple(replace(rows[key], post_id=posts[key]) for key in shared) for rows in by_id])
    left_out = {seed.file: len(rows) - len(shared) for seed, rows in zip(answers, by_id, strict=True)}
    return Matched(
        tuple(tuple(next(ordered) for _ in system.seeds) for system in systems),
        {file: count for file, count in left_out.items() if count},
    )


def _gold(row: Prediction) -> tuple[str, str, str]:
    return row.dataset, row.aspect, row.label


def _names(answers: Sequence[SeedAnswers]) -> str:
    return " and ".join(seed.file for seed in answers)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
