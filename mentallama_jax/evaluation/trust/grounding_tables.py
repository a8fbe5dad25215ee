"""Grounding and care in the terminal: two tables, each readable at 80 columns, and examples on request."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from mentallama_jax.evaluation.trust.care import Care, CareScores, care_findings
from mentallama_jax.evaluation.trust.care_rules import KINDS
from mentallama_jax.evaluation.trust.counted_shares import CountedShare
from mentallama_jax.evaluation.trust.grounding import Grounding, GroundingScores
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.terminal import Console

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN_IDS = 3
_EXAMPLES = 5
_LONGEST_EXAMPLE = 200
SharesOf = TypeVar("SharesOf", GroundingScores, CareScores)


def show_grounding(console: Console, found: Grounding) -> None:
    """Print what explanations take from their posts."""
    console.print(grounding_table(found))
    if not found.posts_given:
        said = "Quotes, names and numbers were not looked for in the posts: name the posts with --data."
        console.print(said, style="dim", soft_wrap=True)


def show_care(console: Console, found: Care | None) -> None:
    """Print how outputs treat the person, and a few rows by their ids."""
    if found is None or found.left_out:
        which = "no row" if found is None else f"{found.left_out:,} rows less"
        said = f"Care: {which}, as its rules are English, and the other tasks are in another language."
        console.print(said, style="dim", soft_wrap=True)
    if found is None:
        return
    console.print(care_table(found))
    for kind, ids in found.pooled.ids.items():
        if ids:
            more = getattr(found.pooled, kind).count - len(ids[:_SHOWN_IDS])
            said = f"{kind} in: {', '.join(ids[:_SHOWN_IDS])}" + (f" and {more} more" if more else "")
            console.print(said, style="dim", markup=False, highlight=False, soft_wrap=True)


def show_care_examples(console: Console, rows: Sequence[Prediction]) -> None:
    """Print some sentences that the rules of care count, as they were read: in small letters, without quotations."""
    left = dict.fromkeys(KINDS, _EXAMPLES)
    for row in (row for row in rows if row.task.in_english):
        for finding in care_findings(row.generated_text, row.task):
            if left[finding.kind]:
                left[finding.kind] -= 1
                said = f"{finding.kind} ({finding.rule}), {row.id}: {finding.sentence[:_LONGEST_EXAMPLE]}"
                console.print(said, markup=False, highlight=False, soft_wrap=True)


def grounding_table(found: Grounding) -> "Table":
    """The shares of each data set with their intervals (in %)."""
    headings = ["rows", "label\nonly", "generic"]
    if found.posts_given:
        headings += ["quotes not\nin post", "names not\nin post", "numbers not\nin post"]
    table = _table("Grounding of explanations, in %", headings)
    for name, scores in _parts(found.datasets, found.pooled).items():
        known = [scores.label_only, scores.generic, scores.absent_quotes, scores.absent_names, scores.absent_numbers]
        cells = [_cell(share, with_of=place > 1) for place, share in enumerate(known) if share is not None]
        table.add_row(name, str(scores.label_only.of), *cells)
    return table


def care_table(found: Care) -> "Table":
    """The shares of each data set with their intervals (in %)."""
    headings = ["rows", "diagnosis\nas fact", "medical\ninstruction", "judges\nperson", "diagnosis\nin label"]
    table = _table("Care: how outputs treat the person, in %", headings)
    for name, scores in _parts(found.datasets, found.pooled).items():
        known = (scores.diagnosis, scores.instruction, scores.judgement, scores.label_states_diagnosis)
        table.add_row(name, str(scores.any.of), *map(_cell, known))
    return table


def _parts(datasets: Mapping[str, SharesOf], pooled: SharesOf) -> dict[str, SharesOf]:
    return {**datasets, "pooled": pooled} if len(datasets) > 1 else dict(datasets)


def _cell(found: CountedShare, *, with_of: bool = False) -> str:
    if found.share is None or found.interval is None:
        return "none"
    low, high = found.interval
    of = f" of {found.of}" if with_of else ""
    return f"{100 * found.share:.1f}{of}\n{100 * low:.1f}-{100 * high:.1f}{'*' if found.warning else ''}"


def _table(title: str, headings: Sequence[str]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("data set", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
