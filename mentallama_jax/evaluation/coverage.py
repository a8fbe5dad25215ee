"""How many rows of the benchmark's splits were scored: figures of 40 rows are not figures of 405."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.imhi.data_files.sources import SPLITS
from mentallama_jax.imhi.tasks import TASKS

_ASSUMED = "test"


@dataclass(frozen=True, slots=True)
class Coverage:
    """Rows of one split of a data set.

    Attributes:
        split: "train", "val" or "test".
        stated: whether the rows say their split; else it is taken for the test split.
        rows: different rows that were scored; a row that several seeds answered is one.
        of: rows of the split in the whole benchmark; None where nobody published them.
    """

    split: str
    stated: bool
    rows: int
    of: int | None

    @property
    def is_part(self) -> bool:
        """Whether rows are known to be missing."""
        return self.of is not None and self.rows < self.of

    @property
    def is_more(self) -> bool:
        """Whether there are more rows than the split has: some may be there twice, or be of another split."""
        return self.of is not None and self.rows > self.of


Covered = Mapping[str, Sequence[Coverage]]
"""Data set -> each of its splits that rows were scored of."""


def coverage(parts: Sequence[Predictions]) -> dict[str, list[Coverage]]:
    """The rows that predictions cover, of each data set in the order of the table of data sets.

    Args:
        parts: the predictions before they are pooled, whose ids are those of rows.
    """
    seen: dict[tuple[str, str], set[str]] = {}
    for part in parts:
        for row in part.rows:
            seen.setdefault((row.dataset, row.split), set()).add(row.id)
    found: dict[str, list[Coverage]] = {}
    for name, task in TASKS.items():
        of = dict(zip(SPLITS, task.sizes or (None, None, None), strict=True))
        for split in (*SPLITS, ""):
            if ids := seen.get((name, split)):
                known = split or _ASSUMED
                found.setdefault(name, []).append(Coverage(known, bool(split), len(ids), of[known]))
    return found


def coverage_note(covered: Covered) -> str | None:
    """What is missing, in one line; None where nothing is known to be."""
    parts = [(name, each) for name, of in covered.items() for each in of if each.is_part]
    if not parts:
        return None
    listed = ", ".join(f"{name} {each.rows:,} of {each.of:,} {each.split} rows" for name, each in parts)
    assumed = (
        "; rows that do not say their split are taken for test rows" if any(not e.stated for _, e in parts) else ""
    )
    return f"scored is a part of the benchmark: {listed}{assumed}"
