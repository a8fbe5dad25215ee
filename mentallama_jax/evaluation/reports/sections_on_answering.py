"""A section of a report on how answers came about: the prompt, its examples, and what decided labels."""

from collections.abc import Sequence

from mentallama_jax.evaluation.how_answered import answering
from mentallama_jax.evaluation.reports.document import FigureTable, ReportSection
from mentallama_jax.evaluation.reports.systems import ScoredSystem


def answering_section(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    """A row for each system whose predictions say how they were made; None where none does."""
    rows = []
    for system in systems:
        found = answering((system.sections.get("signature") or {}).get("generation"))
        if found is not None:
            rows.append((system.name, found.prompt, found.shots, found.decided))
    if not rows:
        return None
    heads = ("system", "prompt", "few-shot examples", "labels decided by")
    title = "How answers were made"
    return ReportSection(title, [FigureTable(title, heads, tuple(rows), words=len(heads))])
