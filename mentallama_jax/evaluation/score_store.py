"""Scores of rows in `scores_by_row.parquet`, kept while they are made, so that a second run computes what is missing.

A row of the table is one part of one prediction: `id`, `dataset`, `part`, `content` (a key of its texts), and a column
a figure; null where it was not scored. A figure that exists for all rows together has its counts in a second column,
such as `bleu_counts`. The file's metadata hold of each figure its signature, its unit and its bounds: scores of another
signature, or of other texts, are not used. Columns of figures that were not asked for this time stay.
"""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.pair_metrics import PARTS, UNITS, Figure, Pair, ResponsePart, Score
from mentallama_jax.files import atomic_open
from mentallama_jax.foreign import shown

_SECONDS_BETWEEN = 30.0
_SIGNATURES, _SCALES = b"signatures", b"scales"
_COUNTS = "_counts"


class ScoredRows(NamedTuple):
    """What a table of scores holds.

    Attributes:
        figures: name -> how it is computed, its unit and its bounds.
        scores: figure -> (part, id of the row) -> score; rows without a score are absent.
    """

    figures: dict[str, Figure]
    scores: dict[str, dict[tuple[str, str], float]]


def read_scores(path: Path) -> ScoredRows:
    """Read a table of scores by row.

    Raises:
        UserError: it cannot be read, is another table, or does not say the units of its figures.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        metadata = table.schema.metadata or {}
        signatures = json.loads(metadata[_SIGNATURES])
        figures = _figures(signatures, json.loads(metadata.get(_SCALES, b"{}")))
        keys = list(zip(table["part"].to_pylist(), table["id"].to_pylist(), strict=True))
        columns = {name: table[name].to_pylist() for name in signatures}
    except (pyarrow.ArrowException, OSError, KeyError, ValueError, TypeError):
        raise UserError(f"{path}: is no table of scores that `mentallama evaluate --metrics` wrote") from None
    if unknown := [name for name in signatures if name not in figures]:
        raise UserError(
            f"{path}: does not say the unit of {', '.join(map(shown, unknown[:12]))}, as an earlier version wrote it; "
            "`mentallama evaluate` with the same --metrics and --out adds it, and computes no score again"
        )
    scores = {
        name: {key: value for key, value in zip(keys, values, strict=True) if isinstance(value, float)}
        for name, values in columns.items()
    }
    return ScoredRows(figures, scores)


def _figures(signatures: dict[str, Any], scales: dict[str, Any]) -> dict[str, Figure]:
    """The figures whose unit and bounds are said.

    Raises:
        KeyError, TypeError or ValueError: a scale is none that was written here.
    """
    found = {}
    for name, signature in signatures.items():
        if name in scales:
            low, high = scales[name]["bounds"]
            bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
            found[name] = Figure(name, str(signature), UNITS[scales[name]["unit"]], bounds)
    return found


def _scale(figure: Figure) -> dict[str, Any]:
    """The unit and the bounds of a figure as JSON, in which a bound that there is not is null."""
    return {"unit": figure.unit, "bounds": [bound if math.isfinite(bound) else None for bound in figure.bounds]}


class ScoreStore:
    """The scores of the parts of predictions, on disk and in memory."""

    def __init__(self, path: Path | None, figures: Sequence[Figure], parts: dict[ResponsePart, list[Pair]]) -> None:
        """Take over the scores of an earlier run that still hold.

        Args:
            path: of the table; None keeps it in memory.
            figures: its columns.
            parts: the pairs of each part.
        """
        self._path = path
        self._keys = {part: [pair.content for pair in pairs] for part, pairs in parts.items()}
        self._parts = parts
        self._scores: dict[str, dict[str, Score]] = {figure.name: {} for figure in figures}
        self._signatures = {figure.name: figure.signature for figure in figures}
        self._scales = {figure.name: _scale(figure) for figure in figures}
        self._counted = {figure.name for figure in figures if figure.corpus}
        self.taken_over = 0
        """Scores that an earlier run had made."""
        self._written = time.monotonic()
        if path is not None and path.is_file():
            self._take_over(path)

    def missing(self, part: ResponsePart, figures: Sequence[Figure]) -> list[int]:
        """The places of pairs with a reference that have no score yet by one of these figures."""
        pairs, keys = self._parts[part], self._keys[part]
        known = [self._scores[figure.name] for figure in figures]
        wanted: dict[str, int] = {}
        for place, (pair, key) in enumerate(zip(pairs, keys, strict=True)):
            if pair.reference and any(key not in scores for scores in known):
                wanted.setdefault(key, place)
        return list(wanted.values())

    def add(self, part: ResponsePart, place: int, figure: Figure, score: Score) -> None:
        """Keep a score; now and then all of them are written."""
        self._scores[figure.name][self._keys[part][place]] = score
        if time.monotonic() - self._written > _SECONDS_BETWEEN:
            self.write()

    def score(self, part: ResponsePart, place: int, figure: Figure) -> Score:
        """The score of a pair.

        Raises:
            KeyError: it has none.
        """
        return self._scores[figure.name][self._keys[part][place]]

    def write(self) -> None:
        """Write the table, atomically."""
        self._written = time.monotonic()
        if self._path is None:
            return
        import pyarrow
        import pyarrow.parquet

        said = {_SIGNATURES: self._signatures, _SCALES: self._scales}
        metadata = {key: json.dumps(values).encode() for key, values in said.items()}
        table = pyarrow.table(self._columns()).replace_schema_metadata(metadata)
        with atomic_open(self._path, "wb") as stream:
            pyarrow.parquet.write_table(table, stream)

    def _columns(self) -> dict[str, list[Any]]:
        rows = [
            (part, pair, key) for part in PARTS for pair, key in zip(self._parts[part], self._keys[part], strict=True)
        ]
        columns: dict[str, list[Any]] = {
            "id": [pair.id for _, pair, _ in rows],
            "dataset": [pair.dataset for _, pair, _ in rows],
            "part": [part for part, _, _ in rows],
            "content": [key for _, _, key in rows],
        }
        for name, known in self._scores.items():
            scores = [known.get(key) if pair.reference else None for _, pair, key in rows]
            columns[name] = [None if score is None else score.value for score in scores]
            if name in self._counted:
                columns[name + _COUNTS] = [None if score is None else list(score.counts) for score in scores]
        return columns

    def _take_over(self, path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(path)
            metadata = table.schema.metadata or {}
            signatures, scales = (json.loads(metadata.get(key, b"{}")) for key in (_SIGNATURES, _SCALES))
            keys = table["content"].to_pylist()
        except (pyarrow.ArrowException, OSError, KeyError, ValueError):
            return  # another table, or none: all is computed
        for name, signature in signatures.items():
            counted = name + _COUNTS in table.column_names
            if name not in table.column_names or self._signatures.get(name, signature) != signature:
                continue
            if name in self._counted and not counted:
                continue
            values = table[name].to_pylist()
            counts = table[name + _COUNTS].to_pylist() if counted else [()] * len(values)
            found = zip(keys, values, counts, strict=True)
            known = {key: Score(value, counts) for key, value, counts in found if isinstance(value, float)}
            if name in self._scores:
                self.taken_over += len(known)
            self._scores[name], self._signatures[name] = known, signature
            if name in scales:
                self._scales.setdefault(name, scales[name])
            if counted:
                self._counted.add(name)
