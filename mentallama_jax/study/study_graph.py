"""From the config of a study to the graph of its steps, in an order in which they can be run."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mentallama_jax.config import load_config
from mentallama_jax.config.study_config import (
    BaselineRow,
    ClassifierRow,
    EndpointRow,
    GenerateRow,
    PredictionsRow,
    StudyConfig,
    StudyRow,
    TrainRow,
    TransferRow,
)
from mentallama_jax.study.row_steps import (
    asked_datasets,
    data_words,
    named_datasets,
    options_of,
    row_steps,
    tasks_words,
)
from mentallama_jax.study.study_steps import StudyFolder, StudyStep

_CLI = "mentallama_jax.cli"
_WITH_MODELS = ("bartscore", "bertscore", "embedding", "lm")
"""Beginnings of the names of metrics that are computed with a model."""


@dataclass(frozen=True, slots=True)
class StudySystem:
    """A row that answers, so a line of the tables.

    Attributes:
        name: its key in the config.
        title: what the tables call it.
        predictions: its answers.
        scores: the folder of its scores.
        explains: whether it writes explanations.
        trained_on: data sets that its model was tuned on; None where that is not known.
    """

    name: str
    title: str
    predictions: Path
    scores: Path
    explains: bool
    trained_on: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class StudyGraph:
    """A study that can be run.

    Attributes:
        config: what it was made of.
        folder: where everything is.
        steps: by name, each behind all that it comes after.
        systems: the lines of the tables, in the order of the rows.
        transfers: titles and folders of transfer matrices.
    """

    config: StudyConfig
    folder: StudyFolder
    steps: dict[str, StudyStep]
    systems: tuple[StudySystem, ...]
    transfers: tuple[tuple[str, str, Path], ...]


def study_graph(study: StudyConfig) -> StudyGraph:
    """The steps and systems of a study.

    Raises:
        UserError: a config of a row cannot be read.
    """
    folder = StudyFolder(Path(study.study.out))
    rows: dict[str, StudyRow] = study.rows
    systems = tuple(_system(name, row, study, folder) for name, row in rows.items() if _answers(row))
    transfers = tuple(
        (name, row.title or name, folder.of_row(name, "transfer"))
        for name, row in rows.items()
        if isinstance(row, TransferRow)
    )
    by_row = {system.name: system for system in systems}
    steps: dict[str, StudyStep] = {}
    for name in _in_order(rows):
        steps |= {step.name: step for step in row_steps(name, rows[name], study, folder)}
        if name in by_row:
            step = _evaluate(by_row[name], rows[name], study, folder, steps)
            steps[step.name] = step
    steps |= {step.name: step for step in _of_all(systems, study, folder)}
    knowing = {name: replace(step, reads=(*step.reads, *study.evaluation.tasks)) for name, step in steps.items()}
    return StudyGraph(study, folder, knowing, systems, transfers)


def _answers(row: StudyRow) -> bool:
    return not isinstance(row, TrainRow | TransferRow)


def _in_order(rows: dict[str, StudyRow]) -> Iterator[str]:
    """The rows, each behind the one that it starts from or answers with."""
    done: dict[str, None] = {}

    def add(name: str) -> None:
        row = rows[name]
        before = row.source if isinstance(row, TrainRow) else row.run if isinstance(row, GenerateRow) else ""
        if before and before not in done:
            add(before)
        done.setdefault(name)

    for name in rows:
        add(name)
    yield from done


def _system(name: str, row: StudyRow, study: StudyConfig, folder: StudyFolder) -> StudySystem:
    return StudySystem(
        name=name,
        title=row.title or name,
        predictions=Path(row.file) if isinstance(row, PredictionsRow) else folder.predictions(name),
        scores=folder.scores(name),
        explains=isinstance(row, EndpointRow | PredictionsRow)
        or (isinstance(row, GenerateRow) and not row.score_labels),
        trained_on=_trained_on(row, study),
    )


def _trained_on(row: StudyRow, study: StudyConfig) -> tuple[str, ...] | None:
    """The data sets whose training rows a system has seen; None where that is not known."""
    if isinstance(row, GenerateRow | EndpointRow | PredictionsRow) and row.trained_on is not None:
        return named_datasets(row.trained_on)
    if isinstance(row, GenerateRow) and row.run and not row.adapter:
        return _tuned_on(study.rows[row.run], study)
    if isinstance(row, ClassifierRow) and not row.one_each:
        return _tuned_on(row, study)
    return asked_datasets(study) if isinstance(row, ClassifierRow | BaselineRow) else None


def _tuned_on(row: TrainRow | ClassifierRow, study: StudyConfig) -> tuple[str, ...]:
    data = load_config(row.config, row.overrides).data
    excluded = named_datasets(data.exclude)
    own = tuple(name for name in named_datasets(data.datasets) if name not in excluded)
    if not isinstance(row, TrainRow) or not row.source:
        return own
    learnt = named_datasets(row.pairs.datasets) if row.pairs else own
    return tuple(dict.fromkeys((*_tuned_on(study.rows[row.source], study), *learnt)))


def _evaluate(
    system: StudySystem, row: StudyRow, study: StudyConfig, folder: StudyFolder, steps: dict[str, StudyStep]
) -> StudyStep:
    asked = study.evaluation
    words = ["evaluate", str(system.predictions), *data_words(asked.data)]
    after = [f"{system.name}.{what}" for what in ("answer", "gather") if f"{system.name}.{what}" in steps]
    reads: list[str] = list(asked.data)
    if system.explains and asked.metrics:
        words += ["--metrics", ",".join(asked.metrics), *asked.metric_options]
        reads += asked.metric_options
    validation = [
        name for what in ("answer-validation", "gather-validation") if (name := f"{system.name}.{what}") in steps
    ]
    if validation:
        words += ["--calibrate-on", str(steps[validation[0]].outputs[0])]
        after += validation
    if isinstance(row, PredictionsRow):
        reads += filter(None, (row.file, str(Path(row.file).with_suffix(".meta.json")), row.gold))
        words += options_of(row, "columns", "dataset", "gold")
    return StudyStep(
        name=f"{system.name}.evaluate",
        row=system.name,
        words=(*words, *tasks_words(study), "--out", str(system.scores)),
        outputs=(system.scores / "scores.json", system.scores / "labels_by_row.csv"),
        leftovers=(system.scores,),
        entry=f"{_CLI}.evaluate_command",
        after=tuple(after),
        reads=tuple(reads),
        heavy=system.explains and _needs_models(asked.metrics),
        environment=dict(row.devices),
        launcher=row.launcher,
    )


def _needs_models(metrics: Sequence[str]) -> bool:
    return any(name.startswith(_WITH_MODELS) for name in metrics)


def _of_all(systems: Sequence[StudySystem], study: StudyConfig, folder: StudyFolder) -> Iterator[StudyStep]:
    """What sets systems beside each other, and metrics beside people."""
    asked = study.evaluation
    systems = [system for system in systems if not _read_otherwise(study.rows[system.name])]
    if len(systems) > 1:
        yield _compare("all.compare", systems, study, folder.comparison, scored=False)
    explaining = [system for system in systems if system.explains]
    if len(explaining) > 1 and asked.metrics:
        yield _compare("all.compare-explanations", explaining, study, folder.explanations, scored=True)
    if asked.people:
        words = ["agree", *asked.people, *data_words(asked.data)]
        words += ["--metrics", ",".join(asked.metrics), *asked.metric_options] if asked.metrics else []
        yield StudyStep(
            name="all.people",
            row="",
            words=(*words, *tasks_words(study), "--out", str(folder.people)),
            outputs=(folder.people / "human_agreement.json",),
            leftovers=(folder.people,),
            entry=f"{_CLI}.agree_command",
            reads=(*asked.people, *asked.data, *asked.metric_options),
            heavy=_needs_models(asked.metrics),
        )


def _read_otherwise(row: StudyRow) -> bool:
    """Whether a file is read in a way that `compare` has no options for."""
    return isinstance(row, PredictionsRow) and bool(row.columns or row.dataset or row.gold or "," in row.file)


def narrowed(step: StudyStep, failed: Collection[str]) -> StudyStep | None:
    """A comparison without the systems that failed; None where fewer than two are left.

    Args:
        step: one that `study_graph` made.
        failed: names of steps that have no result.
    """
    lost = {name.partition(".")[0] for name in step.after if name in failed}
    words: list[str] = []
    for word in step.words:
        words.append(word)
        if len(words) > 1 and words[-2] == "--system" and word.partition("=")[0] in lost:
            del words[-2:]
    if words.count("--system") < 2:
        return None
    return replace(step, words=tuple(words), after=tuple(name for name in step.after if name not in failed))


def _compare(name: str, systems: Sequence[StudySystem], study: StudyConfig, out: Path, *, scored: bool) -> StudyStep:
    words = ["compare"]
    for system in systems:
        words += ["--system", f"{system.name}={system.scores if scored else system.predictions}"]
    return StudyStep(
        name=name,
        row="",
        words=(*words, "--matched-only", *tasks_words(study), "--out", str(out)),
        outputs=(out / "comparison.json",),
        leftovers=(out,),
        entry=f"{_CLI}.compare_command",
        tolerant=True,
        after=tuple(f"{system.name}.evaluate" for system in systems),
    )
