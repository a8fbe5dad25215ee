"""Tunes a model on each of several data sets, lets each answer the test rows of all, and writes the transfer matrix."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jax.sharding import Mesh

from mentallama_jax.config import ClassificationSection, DocumentsSection, DpoSection, GrpoSection, RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.label_readers import RULES
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.reports.report_files import write_pages
from mentallama_jax.evaluation.reports.sections_on_transfer import transfer_document
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.transfer_matrix import TransferMatrix, transfer_matrix
from mentallama_jax.files import write_json
from mentallama_jax.generation.engine import Settings
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import task_named
from mentallama_jax.jobs.answer import Questions, answer, open_answerer
from mentallama_jax.jobs.tune import tune
from mentallama_jax.planning.plan import with_overrides

FIGURES = "transfer.json"
TOGETHER = "together"
"""The model that is trained on all the data sets."""


class AnswerWatcher(Protocol):
    """Is told of the answers of a model as they are written."""

    def begin(self, rows: int) -> None:
        """Take note that `rows` are left to answer."""

    def add(self, predictions: list[Prediction]) -> None:
        """Take note of a batch that is on disk."""


class Unwatched:
    """A watcher that shows nothing."""

    def begin(self, rows: int) -> None:
        """Show nothing."""

    def add(self, predictions: list[Prediction]) -> None:
        """Show nothing."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """How far it came.

    Attributes:
        matrix: what was found; None where a run was stopped before.
        paths: of the files of the report.
        stopped_by: the signal that stopped a run, or "".
        run_dir: of the run that was stopped, or "".
    """

    matrix: TransferMatrix | None
    paths: tuple[Path, ...] = ()
    stopped_by: str = ""
    run_dir: str = ""


def transfer(
    config: RunConfig,
    datasets: Sequence[str],
    questions: Questions,
    out: str | Path,
    *,
    settings: Settings | None = None,
    score_labels: bool = False,
    together: bool = False,
    drop_posts_in: Sequence[str] = (),
    mesh: Mesh | None = None,
    say: Callable[[str], None] = lambda line: None,
    watched: Callable[[], AbstractContextManager[AnswerWatcher]] = lambda: nullcontext(Unwatched()),
) -> Transfer:
    """Train, answer and score; the same call again goes on where it was stopped.

    Runs go to `OUT/runs/NAME`, predictions to `OUT/predictions/NAME.jsonl`. A run or a file that is finished is left as
    it is.

    Args:
        config: the recipe of every run; its `data.datasets` and `training.run_dir` are replaced.
        datasets: to train a model on each.
        questions: the test rows that each model answers, see `jobs.answer.questions_in`.
        out: folder for everything.
        settings: of the answers.
        score_labels: choose the likeliest label sentence instead of generating.
        together: also train a model on all the data sets.
        drop_posts_in: sources whose posts are left out of every training, added to those of the config.
        mesh: of devices that share the answers; None for one device.
        say: is told what begins.
        watched: makes what is told of the answers of one model.

    Raises:
        UserError: a classifier, an unknown data set or one without test rows, or see `jobs.tune` and `jobs.answer`.
    """
    models = _models(config, datasets, together)
    tested = list(dict.fromkeys(record.dataset for record in questions.records))
    if any(not record.label for record in questions.records):
        raise UserError("--data: a row has no label; a transfer matrix needs test rows with labels")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder to --out")
    dropped = tuple(dict.fromkeys([*config.data.drop_posts_in, *drop_posts_in]))
    scores = {}
    for name, own in models.items():
        run_dir = str(out / "runs" / name)
        say(f"{name}: training on {', '.join(own)} ({run_dir})")
        data = {"datasets": tuple(own), "drop_posts_in": dropped}
        result = tune(with_overrides(config, data=data, training={"run_dir": run_dir}))
        if result.stopped_by:
            return Transfer(None, stopped_by=result.stopped_by, run_dir=run_dir)
        path = out / "predictions" / f"{name}.jsonl"
        say(f"{name}: answering {len(questions.records)} test rows ({path})")
        answerer = open_answerer(run_dir, mesh=mesh)
        with watched() as shown:
            answer(
                answerer,
                questions,
                path,
                settings,
                score_labels=score_labels,
                on_start=shown.begin,
                on_batch=shown.add,
            )
        scores[name] = evaluate(read_predictions(path), reader=RULES, settings=IntervalSettings())
    signature = {
        "model": config.model.source,
        "test rows": len(questions.records),
        "sources": list(questions.sources),
        "answers": "likeliest label sentence" if score_labels else "generated",
        "posts left out of training": list(dropped) or "none",
        "reader": RULES,
        "recipe": config.model_dump(mode="json", exclude={"training": {"run_dir"}, "data": {"datasets"}}),
    }
    matrix = transfer_matrix(scores, models, tested, IntervalSettings().confidence, signature)
    write_json(out / FIGURES, matrix.to_json())
    pages = write_pages(out, transfer_document(matrix))
    return Transfer(matrix, (out / FIGURES, *pages))


def _models(config: RunConfig, datasets: Sequence[str], together: bool) -> dict[str, list[str]]:
    """Name of a model -> the data sets that it is trained on."""
    if isinstance(config.objective, ClassificationSection):
        raise UserError(
            "objective.kind classification: a classifier has the labels of its own data sets and answers no other "
            "question; train one with data.datasets=[all], or take a config of a model that writes answers"
        )
    if isinstance(config.objective, DocumentsSection):
        raise UserError(
            "objective.kind documents: a model of raw text learns no data set; take a config of `supervised`"
        )
    if isinstance(config.objective, DpoSection | GrpoSection):
        raise UserError(
            f"objective.kind {config.objective.kind}: it tunes a model further that has learnt a data set; take a "
            "config of `supervised`"
        )
    names = list(dict.fromkeys(task_named(name).name for name in datasets))
    models = {name: [name] for name in names}
    if together:
        if len(names) < 2:
            raise UserError("--together: name at least two data sets with --datasets")
        models[TOGETHER] = names
    return models
