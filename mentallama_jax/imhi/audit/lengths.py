"""How long examples are in tokens, and what a limit would cut."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sys import maxsize

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.audit.leaks import Part
from mentallama_jax.imhi.prompts import PromptTokenizer, encode_example
from mentallama_jax.imhi.records import Record


@dataclass(frozen=True, slots=True)
class Length:
    """One example, prompt and response and end token together.

    Attributes:
        id: of the record.
        part: data set and split.
        whole: tokens without a limit.
        kept: tokens within the limit, where the end of the post is cut; None if not even an empty post fits.
    """

    id: str
    part: Part
    whole: int
    kept: int | None


@dataclass(frozen=True, slots=True)
class LengthReport:
    """Tokens of the examples of a part.

    Attributes:
        dataset: its name.
        split: "train", "val", "test" or "".
        rows: examples.
        mean: tokens of an example, without a limit; and its quantiles `p5`, `p50`, `p95` and `longest`.
        too_long: examples above the limit.
        cut_tokens: what these lose from the end of their posts.
        unfit: ids of examples that do not fit even with an empty post.
    """

    dataset: str
    split: str
    rows: int
    mean: float
    p5: int
    p50: int
    p95: int
    longest: int
    too_long: int
    cut_tokens: int
    unfit: tuple[str, ...]


def measure_length(record: Record, style: Style, tokenizer: PromptTokenizer, max_length: int) -> Length:
    """Count the tokens of a training example.

    Raises:
        UserError: the tokenizer lacks a token of the style.
    """
    whole = len(encode_example(record, style, tokenizer, maxsize).tokens)
    kept: int | None = whole
    if whole > max_length:
        try:
            kept = len(encode_example(record, style, tokenizer, max_length).tokens)
        except UserError:
            kept = None
    return Length(record.id, (record.dataset, record.split), whole, kept)


def summarise_lengths(lengths: Iterable[Length], parts: Iterable[Part]) -> list[LengthReport]:
    """One report for each of `parts`, in their order."""
    of: dict[Part, list[Length]] = {part: [] for part in parts}
    for length in lengths:
        of[length.part].append(length)
    return [_summary(part, rows) for part, rows in of.items()]


def _summary(part: Part, rows: Sequence[Length]) -> LengthReport:
    whole = sorted(row.whole for row in rows)
    cut = [row for row in rows if row.kept != row.whole]
    return LengthReport(
        dataset=part[0],
        split=part[1],
        rows=len(rows),
        mean=sum(whole) / len(whole),
        p5=_quantile(whole, 5),
        p50=_quantile(whole, 50),
        p95=_quantile(whole, 95),
        longest=whole[-1],
        too_long=len(cut),
        cut_tokens=sum(row.whole - row.kept for row in cut if row.kept is not None),
        unfit=tuple(row.id for row in cut if row.kept is None),
    )


def _quantile(ascending: Sequence[int], percent: int) -> int:
    """The smallest value that at least `percent` in a hundred do not exceed."""
    return ascending[-(-len(ascending) * percent // 100) - 1]
