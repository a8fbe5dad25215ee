"""Scores the label sentences of variants of posts, and keeps them in a file while they are made."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.explanations import Progress
from mentallama_jax.evaluation.probes.kept_scores import KEPT, KeptScores, content_key
from mentallama_jax.evaluation.probes.label_scores import LabelScores
from mentallama_jax.generation.answers import score_batches
from mentallama_jax.generation.engine import Settings
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.answer import Answerer


class VariantScoring:
    """Scores records with a model; each different prompt once, and none that the folder holds. Use as a context.

    Attributes:
        needed: different prompts so far.
        taken_over: how many of them an earlier run had scored.
    """

    def __init__(self, answerer: Answerer, out: Path, batch_size: int, progress: Progress) -> None:
        """Name the folder and the model.

        Raises:
            UserError: `out` is a file.
        """
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: is a file; give a folder to --out")
        self._answerer = answerer
        self._kept = KeptScores(out / KEPT)
        self._settings = Settings(batch_size=batch_size)
        self._progress = progress
        fixed = [answerer.weights, answerer.tokenizer.fingerprint, answerer.dtype, answerer.style, answerer.max_length]
        self._model = hashlib.sha256(json.dumps(fixed).encode()).hexdigest()
        self.needed = self.taken_over = 0

    def __enter__(self) -> "VariantScoring":
        self._kept.__enter__()
        self._mesh = self._answerer.on_mesh()
        self._mesh.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._mesh.__exit__(*error)
        self._kept.__exit__(*error)

    def __call__(self, records: Sequence[Record]) -> list[LabelScores]:
        """The scores of records in their order; each batch is on disk before the next begins."""
        keys = [content_key(self._model, record) for record in records]
        different = dict(zip(keys, records, strict=True))
        self.needed += len(different)
        self.taken_over += sum(key in self._kept for key in different)
        with self._progress("prompts", len(different)) as advance:
            for batch, rows in self._batches(different):
                # Whole batches, whatever is there: the figures are then those of a run that was never stopped.
                if any(key not in self._kept for key in batch):
                    scores = self._scored({key: different[key] for key in batch}, rows)
                    self._kept.add({key: each for key, each in scores.items() if key not in self._kept})
                advance(len(batch))
        return [self._kept[key] for key in keys]

    def _batches(self, records: Mapping[str, Record]) -> Iterator[tuple[list[str], int]]:
        """Keys of prompts of like length with as many candidates, the longest first, and the rows to compute."""
        for few in (True, False):
            group = [key for key, record in records.items() if (len(record.task.labels) == 2) == few]
            group.sort(key=lambda key: -len(records[key].post))
            size = self._settings.batch_size
            for start in range(0, len(group), size):
                yield group[start : start + size], min(size, len(group))

    def _scored(self, records: Mapping[str, Record], rows: int) -> dict[str, LabelScores]:
        """The scores of one batch; its last record fills it up to `rows`, as another size would be compiled anew."""
        keys = [*records, *[list(records)[-1]] * (rows - len(records))]
        named = {f"{records[key].id} ({number})": key for number, key in enumerate(keys, start=1)}
        asked = [replace(records[key], id=name) for name, key in named.items()]
        answerer = self._answerer
        batches = score_batches(
            answerer.engine,
            answerer.tokenizer,
            asked,
            style=answerer.style,
            max_length=answerer.max_length,
            settings=self._settings,
        )
        return {
            named[row.id]: LabelScores(
                {label: value["sum"] for label, value in (row.label_log_probabilities or {}).items()},
                row.prompt_truncated,
            )
            for batch in batches
            for row in batch
        }
