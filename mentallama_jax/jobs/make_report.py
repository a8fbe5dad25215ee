"""Makes a report of folders of scores and of training runs. Nothing is scored; jax is loaded only for runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.reports.composition import compose
from mentallama_jax.evaluation.reports.report_files import write_pages
from mentallama_jax.evaluation.reports.sections_on_runs import TrainedRun, training_sections
from mentallama_jax.evaluation.reports.systems import (
    METRICS,
    ScoredSystem,
    is_scores_folder,
    names_of,
    read_scores_folder,
)
from mentallama_jax.foreign import reading

_ALONE = "all"


class MadeReport(NamedTuple):
    """What was written.

    Attributes:
        paths: of the files, the page first.
        figures: folder -> the figures that the report shows.
    """

    paths: list[Path]
    figures: dict[str, Any]


def make_report(
    folders: Sequence[str | Path], out: str | Path | None = None, *, show_posts: bool = False
) -> MadeReport:
    """Write report.html, report.md and tables.tex.

    Args:
        folders: each a folder of scores or a run directory.
        out: where to write; None is the one folder.
        show_posts: whether to show the outputs that an evaluation kept.

    Raises:
        UserError: a folder holds nothing to show, several are given without `out`, or a file cannot be read.
    """
    places = [Path(folder) for folder in folders]
    if out is None and len(places) > 1:
        raise UserError("several folders make one report; say with --out where to write it")
    out = places[0] if out is None else Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder to --out")
    systems: list[ScoredSystem] = []
    runs: list[TrainedRun] = []
    figures: dict[str, Any] = {}
    # A report of one folder names it nowhere, so that it is the same wherever the folder lies.
    names = names_of(places) if len(places) > 1 else [_ALONE]
    for folder, name in zip(places, names, strict=True):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        found: dict[str, Any] = {}
        figures[str(folder)] = found
        trained = (folder / METRICS).is_file()
        if is_scores_folder(folder) or not trained:
            systems.append(read_scores_folder(folder, name, with_examples=show_posts))
            found.update(systems[-1].sections)
        if trained:
            runs.append(_run(folder, name))
            found["metrics"] = list(runs[-1].lines)
    with reading(", ".join(map(str, places)), "scores of this version"):
        document = compose(systems, training_sections(runs))
    return MadeReport(write_pages(out, document), figures)


def _run(folder: Path, name: str) -> TrainedRun:
    from mentallama_jax.training.run.metrics import read_metrics

    lines = read_metrics(folder / METRICS)
    if not any(line["kind"] == "train" for line in lines):
        raise UserError(f"{folder / METRICS}: no update is logged yet")
    return TrainedRun(name, lines)
