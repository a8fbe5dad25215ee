"""Audits data before it is used: what is wrong with rows, what leaks, how long prompts are, what training would pad."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mentallama_jax.config import Style, TrainingSection
from mentallama_jax.errors import UserError
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
from mentallama_jax.imhi.audit.check import CheckReport, check_records
from mentallama_jax.imhi.audit.inventory import survey
from mentallama_jax.imhi.audit.lengths import Length, LengthReport, measure_length, summarise_lengths
from mentallama_jax.imhi.records import Record
from mentallama_jax.training.data.packing import PlanSettings, plan_epoch


@dataclass(frozen=True, slots=True)
class PaddingReport:
    """Padding as a fraction of all tokens computed in an epoch, for each way to lay out rows.

    Attributes:
        rows: examples; the training rows, or all where no row is marked as one.
        tokens: of these, within the limit.
        padded: every example in a row of the limit's length.
        bucketed: examples of about one length in rows of it, at the default batch of training.
        packed: several examples in a row of the limit's length, at the default batch of training.
    """

    rows: int
    tokens: int
    padded: float
    bucketed: float
    packed: float


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found.

    Attributes:
        unreadable: files that cannot be read, a line each.
        bad_rows: how many rows cannot be read.
        report: of the rows; None where there are none.
        lengths: in tokens, of each data set and split; empty where no tokenizer was named.
        padding: what training would pad; None where no tokenizer was named, or no row fits.
        measured_with: tokenizer, style and longest row of `lengths`.
    """

    unreadable: tuple[str, ...]
    bad_rows: int
    report: CheckReport | None
    lengths: tuple[LengthReport, ...] = ()
    padding: PaddingReport | None = None
    measured_with: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values, the ids of rows included."""
        facts: dict[str, Any] = {} if self.report is None else self.report.as_json()
        if self.measured_with is not None:
            facts |= {"lengths": [asdict(part) for part in self.lengths]}
            facts |= {"padding": self.padding and asdict(self.padding), "measured_with": self.measured_with}
        return facts


def audit(
    sources: Sequence[str],
    *,
    tokenizer: str | None = None,
    style: Style = "plain",
    max_length: int = 2048,
    repair_mojibake: bool = False,
    track: Callable[[Sequence[Record]], Iterable[Record]] = lambda records: records,
) -> Audit:
    """Read everything in the sources and look at it.

    Args:
        sources: files and folders.
        tokenizer: to measure lengths with, see `jobs.open_tokenizer.open_tokenizer`; None measures none.
        style: how a row becomes a prompt when it is measured.
        max_length: tokens of a row of training.
        repair_mojibake: undo UTF-8 that was read as MacRoman, where it round-trips.
        track: is handed the rows to measure and gives them back one by one, to show progress.

    Raises:
        UserError: no such source or tokenizer, or no row of the split that is asked for.
    """
    if max_length < 1:
        raise UserError("--max-length must be 1 or more")
    opened = _open_tokenizer(tokenizer) if tokenizer else None
    found = survey(sources, repair_mojibake=repair_mojibake)
    if not found.records:
        if not found.unreadable:
            raise UserError(f"{', '.join(sources)}: holds no row of the split that is asked for")
        return Audit(tuple(found.unreadable), len(found.bad_rows), None)
    report = check_records(found)
    audited = Audit(tuple(found.unreadable), len(found.bad_rows), report)
    if opened is None:
        return audited
    lengths = [measure_length(record, style, opened, max_length) for record in track(found.records)]
    parts = [(part.dataset, part.split) for part in report.parts]
    return replace(
        audited,
        lengths=tuple(summarise_lengths(lengths, parts)),
        padding=_padding(lengths, max_length),
        measured_with={"tokenizer": tokenizer, "style": style, "max_length": max_length},
    )


def _open_tokenizer(source: str) -> Tokenizer:
    from mentallama_jax.jobs.open_tokenizer import open_tokenizer  # starts jax, which an audit without it does not need

    return open_tokenizer(source)


def _padding(lengths: Sequence[Length], max_length: int) -> PaddingReport | None:
    """What training would pad; None where no row fits."""
    training = [length for length in lengths if length.part[1] == "train"] or lengths
    kept = np.array([length.kept for length in training if length.kept is not None], np.int64)
    if not len(kept):
        return None
    defaults = TrainingSection(run_dir="", epochs=1)
    tokens, micro_batch = int(kept.sum()), defaults.micro_batch_rows

    def computed(layout: Any) -> int:
        settings = PlanSettings(
            seed=defaults.seed,
            batch_size=defaults.batch_size,
            batch_unit=defaults.batch_unit,
            max_length=max_length,
            layout=layout,
            micro_batch_rows=micro_batch,
        )
        rows = [
            (-(-len(update.row_ends) // micro_batch), update.row_length) for update in plan_epoch(kept, settings, 0)
        ]
        return sum(micro_batches * micro_batch * row_length for micro_batches, row_length in rows)

    return PaddingReport(
        rows=len(kept),
        tokens=tokens,
        padded=1 - tokens / (len(kept) * max_length),
        bucketed=1 - tokens / computed("bucketed"),
        packed=1 - tokens / computed("packed"),
    )
