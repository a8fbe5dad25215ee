"""The pages of a study: the paper's tables, every figure of which is traced to its file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mentallama_jax.evaluation.reports.document import (
    FigureTable,
    Paragraph,
    ReportDocument,
    ReportSection,
    Terms,
)
from mentallama_jax.evaluation.reports.report_files import write_pages
from mentallama_jax.evaluation.reports.sections_on_answering import answering_section
from mentallama_jax.evaluation.reports.sections_on_trust import signature_section
from mentallama_jax.evaluation.reports.systems import ScoredSystem
from mentallama_jax.files import write_json
from mentallama_jax.study.explanation_tables import explanations, people, transfer
from mentallama_jax.study.label_tables import (
    SystemScores,
    calibration,
    correctness,
    differences,
    generalisation,
    high_risk,
)
from mentallama_jax.study.study_costs import costs_section, write_costs
from mentallama_jax.study.study_graph import StudyGraph
from mentallama_jax.study.study_runner import WITH_RESULT, StepState
from mentallama_jax.study.traced_figures import FiguresFile, TracedTables

FIGURES = "figures.json"


def write_study_pages(graph: StudyGraph, states: Mapping[str, StepState]) -> list[Path]:
    """Write report.html, report.md, tables.tex and figures.json of what is there; they say what is missing.

    Args:
        graph: the study.
        states: how its steps ended; only results of this state of the study are shown.
    """
    tables = TracedTables()
    scored = _scored(graph, states)
    matrices = [
        (
            title,
            FiguresFile(place / "transfer.json", _name(graph, place / "transfer.json"), behind=place / "predictions"),
        )
        for name, title, place in graph.transfers
        if _has_result(states, f"{name}.transfer")
    ]
    comparison = _file(graph, states, "all.compare")
    sections = [
        high_risk(scored, tables) if scored else None,
        correctness(scored, comparison, tables) if scored else None,
        differences(scored, comparison, tables),
        generalisation(scored, graph.config.evaluation.held_out, tables) if scored else None,
        explanations(scored, _file(graph, states, "all.compare-explanations"), tables),
        people(_file(graph, states, "all.people"), tables),
        calibration(scored, tables),
        transfer(matrices, tables),
        _missing(graph, states),
        costs_section(graph, write_costs(graph), tables),
        _answered(scored),
        _signatures(graph, scored) if scored else None,
    ]
    study = graph.config.study
    found = [section for section in sections if section is not None]
    document = ReportDocument(study.title, _subtitle(scored), found)
    write_json(graph.folder.path / FIGURES, tables.to_json(lambda place: _name(graph, Path(place))))
    return [*write_pages(graph.folder.path, document), graph.folder.path / FIGURES]


def _has_result(states: Mapping[str, StepState], step: str) -> bool:
    return step in states and states[step].state in WITH_RESULT


def _scored(graph: StudyGraph, states: Mapping[str, StepState]) -> SystemScores:
    return {
        system.name: (system, FiguresFile(path, _name(graph, path)))
        for system in graph.systems
        if _has_result(states, f"{system.name}.evaluate")
        for path in [system.scores / "scores.json"]
    }


def _file(graph: StudyGraph, states: Mapping[str, StepState], step: str) -> FiguresFile | None:
    """The figures that a step left behind, where it did."""
    if not _has_result(states, step):
        return None
    path = graph.steps[step].outputs[0]
    return FiguresFile(path, _name(graph, path))


def _name(graph: StudyGraph, path: Path) -> str:
    """What a file is called in the pages: its place in the study's folder."""
    try:
        return str(path.relative_to(graph.folder.path))
    except ValueError:
        return str(path)


def _subtitle(scored: SystemScores) -> str:
    titles = "; ".join(system.title for system, _ in scored.values())
    return f"{len(scored)} systems: {titles}" if scored else "no system has a result"


def _missing(graph: StudyGraph, states: Mapping[str, StepState]) -> ReportSection | None:
    """The steps without a result, so that an empty line is not taken for a figure."""
    rows = tuple((name, each.state, each.why) for name, each in states.items() if each.state not in WITH_RESULT)
    if not rows:
        return None
    said = Paragraph("Some steps have no result, so that their figures are missing above.", "warning")
    table = FigureTable("Steps without a result", ("step", "state", "why"), rows, words=3, printed=False)
    return ReportSection("What is missing", [said, table])


def _answered(scored: SystemScores) -> ReportSection | None:
    return answering_section(_systems({name: each for name, each in scored.items() if each[0].explains}))


def _systems(scored: SystemScores) -> list[ScoredSystem]:
    return [ScoredSystem(system.title, file.value) for system, file in scored.values()]


def _signatures(graph: StudyGraph, scored: SystemScores) -> ReportSection | None:
    """What each system's figures were made of: predictions with their hashes, and the signature of the scores."""
    rows: list[tuple[str, ...]] = []
    for system, file in scored.values():
        rows += [(system.title, _name(graph, Path(each["file"])), each["sha256"]) for each in file.predictions()]
    table = FigureTable(
        "Predictions behind the figures", ("system", "predictions", "SHA-256"), tuple(rows), words=3, printed=False
    )
    said = Paragraph(f"{FIGURES} says of each figure above from which file it is, and from which place in it.")
    found = signature_section(_systems(scored))
    parts: list[ReportSection] = []
    if found is not None:
        parts = list(found.parts) or [ReportSection("Signature", found.blocks)]
    settings: Any = graph.config.model_dump(mode="json", exclude={"rows"})
    of_study = Terms(tuple((key, str(value)) for key, value in settings["evaluation"].items()), "What was evaluated")
    return ReportSection("Signatures", [said, table, of_study], [_folded(part) for part in parts])


def _folded(part: ReportSection) -> ReportSection:
    """The same with its terms folded away: there are many systems."""
    blocks = [
        Terms(each.pairs, each.heading or "What was scored, and how") if isinstance(each, Terms) else each
        for each in part.blocks
    ]
    return ReportSection(part.title, blocks, part.parts)
