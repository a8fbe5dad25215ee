"""Puts the sections of a report in order, from what the JSON of systems holds."""

from collections.abc import Callable, Sequence
from functools import partial

from mentallama_jax.evaluation.reports.document import Excerpt, FigureTable, Paragraph, ReportDocument, ReportSection
from mentallama_jax.evaluation.reports.numerals import count, percent, percent_range, words
from mentallama_jax.evaluation.reports.plain_section import plain_blocks
from mentallama_jax.evaluation.reports.sections_on_answering import answering_section
from mentallama_jax.evaluation.reports.sections_on_calibration import calibration_section
from mentallama_jax.evaluation.reports.sections_on_comparisons import comparison_section, probe_section
from mentallama_jax.evaluation.reports.sections_on_labels import (
    correctness_section,
    errors_section,
    lengths_section,
    scored,
)
from mentallama_jax.evaluation.reports.sections_on_trust import (
    explanations_section,
    high_risk_section,
    human_section,
    shares_section,
    signature_section,
)
from mentallama_jax.evaluation.reports.systems import ScoredSystem

_PLAIN = {
    "comparison": "Comparison of systems",
    "calibration": "Calibration",
    "explanations": "Explanations",
    "human_agreement": "Agreement with people",
    "classifiers": "Labels read by classifiers",
    "lengths": "Lengths of outputs",
    "faithfulness": "Faithfulness of explanations",
    "fairness": "Fairness",
    "robustness": "Robustness",
}
"""Titles of sections that are shown as tables of their own keys."""
_SHARES = {"output_faults": "Faults of outputs", "grounding": "Grounding of explanations", "care": "Care in wording"}
_SHOWN_ELSEWHERE = {"schema_version", "datasets", "pooled", "mean_over_datasets", "signature", "high_risk", "coverage"}
TITLE = "Evaluation report"


def compose(systems: Sequence[ScoredSystem], training: Sequence[ReportSection] = ()) -> ReportDocument:
    """The report of some systems, and of training runs.

    Args:
        systems: in the order of their columns and colours.
        training: sections on training runs.
    """
    sections: list[ReportSection | None] = [
        _headline(systems),
        correctness_section(systems),
        _known("comparison", comparison_section, systems),
        _known("calibration", calibration_section, systems),
        _known("explanations", explanations_section, systems),
        _known("human_agreement", human_section, systems),
        *(_known(key, partial(shares_section, title, key), systems) for key, title in _SHARES.items()),
        *(_known(key, partial(probe_section, key), systems) for key in ("faithfulness", "fairness", "robustness")),
        _plain("classifiers", systems),
        errors_section(systems),
        _known("lengths", lengths_section, systems),
        *(_plain(key, systems) for key in _unknown(systems)),
        *training,
        _examples(systems),
        answering_section(systems),
        signature_section(systems),
    ]
    found = [section for section in sections if section is not None]
    return ReportDocument(TITLE if systems else "Training report", _subtitle(systems), found)


def _headline(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    of_labels = scored(systems)
    high_risk = _known("high_risk", high_risk_section, systems)
    if not of_labels:
        return high_risk
    rows = []
    for system in of_labels:
        pooled, sets = system.sections["pooled"], system.sections["datasets"]
        mean = (system.sections.get("mean_over_datasets") or {}).get("weighted_f1")
        rows.append(
            (
                system.name if len(of_labels) > 1 else "all rows", count(len(sets)), count(pooled["n"]),
                count(pooled["posts"]), percent(pooled["weighted_f1"]), percent_range(pooled["weighted_f1_interval"]),
                percent(mean), percent(pooled["majority_weighted_f1"]), count(pooled["unparsed"]),
            )
        )  # fmt: skip
    heads = (
        "system" if len(of_labels) > 1 else "scores of", "data sets", "rows", "posts", "weighted F1", "95 %",
        "mean over data sets", "majority F1", "unparsed",
    )  # fmt: skip
    table = FigureTable("All rows together", heads, tuple(rows), notes=("In %. Intervals are over posts.",))
    if high_risk is None:
        said = Paragraph("The recall of high-risk classes is not in these scores.", "warning")
        return ReportSection("At a glance", [said, table])
    return ReportSection("At a glance", [], [high_risk, ReportSection("All rows together", [table])])


def _known(
    key: str, build: Callable[[Sequence[ScoredSystem]], ReportSection | None], systems: Sequence[ScoredSystem]
) -> ReportSection | None:
    """A section in its own form; as plain tables, which it says, where its JSON is of another version."""
    try:
        return build(systems)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        plain = _plain(key, systems)
        if plain is None:
            return None
        said = Paragraph("These figures are of another version, so they are shown as they stand.", "warning")
        return ReportSection(plain.title, [said, *plain.blocks])


def _plain(key: str, systems: Sequence[ScoredSystem]) -> ReportSection | None:
    found = {system.name: system.sections[key] for system in systems if system.sections.get(key)}
    if not found:
        return None
    title = _PLAIN.get(key) or _SHARES.get(key) or words(key).capitalize()
    return ReportSection(title, plain_blocks(title, found, without=("schema_version", "signature", "definitions")))


def _unknown(systems: Sequence[ScoredSystem]) -> list[str]:
    keys = dict.fromkeys(key for system in systems for key in system.sections)
    return [key for key in keys if key not in _SHOWN_ELSEWHERE and key not in _PLAIN and key not in _SHARES]


def _examples(systems: Sequence[ScoredSystem]) -> ReportSection | None:
    parts = [
        ReportSection(
            f"Examples of {system.name}" if len(systems) > 1 else "Outputs read wrong or not at all",
            [
                Excerpt(f"{each['dataset']}: gold {each['gold']}, read as {each['read']}", each["text"])
                for each in system.examples
            ],
        )
        for system in systems
        if system.examples
    ]
    if not parts:
        return None
    said = (
        "Outputs may repeat what people wrote. Do not pass them on, do not publish them, and do not try to find who "
        "wrote them."
    )
    return ReportSection("Examples", [Paragraph(said, "warning")], parts)


def _subtitle(systems: Sequence[ScoredSystem]) -> str:
    names = [system.name for system in systems]
    if len(names) > 1:
        return f"{len(names)} systems: {', '.join(names)}"
    return ""
