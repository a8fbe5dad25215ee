"""Scores of predictions as a notebook or a program uses them: figures, a data frame, a page.

Nothing heavy is imported before something is scored, and jax only for metrics that need a model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.errors import UserError

if TYPE_CHECKING:
    import pandas

    from mentallama_jax.evaluation.foreign_outputs.read_as import ReadAs
    from mentallama_jax.evaluation.system_predictions import Predictions

_INTERVALS = ("weighted_f1", "accuracy", "macro_f1")
POOLED = "pooled"


class Evaluation:
    """What `evaluate` found.

    Attributes:
        scores: the figures as `scores.json` holds them; `mentallama_jax.evaluation.schema` documents each key.
        paths: the files written, `scores.json` first; empty where no folder was named.
    """

    def __init__(self, scores: Mapping[str, Any], page: str, paths: Sequence[Path] = ()) -> None:
        self.scores = scores
        self.paths = tuple(paths)
        self._page = page

    def to_html(self) -> str:
        """The report: one page that needs nothing else, as `mentallama evaluate` writes it."""
        return self._page

    def to_pandas(self) -> "pandas.DataFrame":
        """A row for each data set and one for all rows together: counts, figures and the ends of their intervals.

        Raises:
            UserError: pandas is not installed.
        """
        return data_frame(self._rows(), "data set")

    def _rows(self) -> dict[str, dict[str, Any]]:
        summaries = {**self.scores["datasets"], POOLED: self.scores["pooled"]}
        found: dict[str, dict[str, Any]] = {}
        for name, of in summaries.items():
            row = {"n": of["n"]}  # a frame that is too wide is printed without its middle
            for figure in _INTERVALS:
                low, high = of[f"{figure}_interval"]
                row |= {figure: of[figure], f"{figure}_low": low, f"{figure}_high": high}
            found[name] = row | {key: of[key] for key in ("majority_weighted_f1", "posts", "unparsed")}
        return found

    def __repr__(self) -> str:
        pooled = self.scores["pooled"]
        low, high = pooled["weighted_f1_interval"]
        names = ", ".join(self.scores["datasets"])
        return (
            f"<Evaluation of {pooled['n']:,} rows ({names}): weighted F1 {pooled['weighted_f1']:.3f} "
            f"({low:.3f} to {high:.3f}), unparsed {pooled['unparsed']:,}>"
        )

    def _repr_html_(self) -> str:
        """A table in a notebook."""
        head = ("data set", "rows", "accuracy", "weighted F1", "95 % interval", "macro F1", "unparsed")
        lines = [f"<tr>{''.join(f'<th scope=col>{escape(name)}</th>' for name in head)}</tr>"]
        for name, row in self._rows().items():
            interval = f"{row['weighted_f1_low']:.3f} to {row['weighted_f1_high']:.3f}"
            figures = [f"{row[figure]:.3f}" for figure in ("accuracy", "weighted_f1")]
            cells = [f"{row['n']:,}", *figures, interval, f"{row['macro_f1']:.3f}", f"{row['unparsed']:,}"]
            told = "".join(f"<td>{cell}</td>" for cell in cells)
            lines.append(f"<tr><th scope=row>{escape(name)}</th>{told}</tr>")
        return f"<table>{''.join(lines)}</table>"


def data_frame(rows: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]], index: str) -> "pandas.DataFrame":
    """Rows as a data frame of pandas; those of a mapping are named by its keys.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UserError("to_pandas needs pandas, which is not installed here: pip install pandas") from None
    if isinstance(rows, Mapping):
        return pandas.DataFrame.from_dict(dict(rows), orient="index").rename_axis(index)
    return pandas.DataFrame(list(rows))


def evaluate(
    predictions: Any,
    *,
    out: str | Path | None = None,
    pool: bool = False,
    columns: Mapping[str, str] | None = None,
    dataset: str | None = None,
    gold: str | None = None,
    data: Sequence[str] = (),
    metrics: Sequence[str] = (),
    calibrate_on: Sequence[str | Path] | str | Path = (),
    reader: str = "templates+words",
    tasks: Sequence[Any] = (),
) -> Evaluation:
    """Score the predictions of one system, whoever made them.

    Each of `data`, `metrics`, `calibrate_on` and `tasks` may be one or several.

    Args:
        predictions: a file or folder that `mentallama evaluate` reads (own JSONL, CSV of any columns, logs of
            lm-evaluation-harness, OpenAI batches), a data frame, a list of mappings from columns to cells, or a list
            of files.
        out: folder for scores.json and the report; None writes nothing.
        pool: several files are of one system: seeds of a recipe, or parts of a benchmark.
        columns: what a column is for, where its name does not say it: `{"gold": "answer", "text": "output"}`; also id,
            dataset, aspect, post_id; `first` is "0" or "1", what ids count from that are row numbers.
        dataset: of all rows, where they do not say it.
        gold: records to take gold from by the ids of rows, such as `data/imhi:test`.
        data: the questions and posts, by which quotes are looked up.
        metrics: of explanations, such as `["rouge", "bertscore"]`; see `mentallama evaluate --help`.
        calibrate_on: validation predictions of the same system, for temperatures of label probabilities.
        reader: what reads labels: `templates+words`, or `as-upstream`, the released rule scorer.
        tasks: tasks of your own: files, runs that keep some, or `Task`s.

    Raises:
        UserError: nothing that can be scored, or columns that cannot be told. No message quotes a post.
    """
    from tempfile import TemporaryDirectory

    from mentallama_jax.evaluation.foreign_outputs.gold_rows import gold_rows
    from mentallama_jax.evaluation.foreign_outputs.read_as import ROLES, ReadAs
    from mentallama_jax.evaluation.label_readers import READERS
    from mentallama_jax.foreign import parse_json
    from mentallama_jax.imhi.tasks import own_tasks, task_named
    from mentallama_jax.jobs.metric_models import MetricModels
    from mentallama_jax.jobs.one_or_several import several
    from mentallama_jax.jobs.score import score

    if reader not in READERS:
        raise UserError(f"reader: there is no {reader!r}; there are: {', '.join(READERS)}")
    if unknown := sorted(set(columns or {}) - set(ROLES)):
        raise UserError(f"columns: {unknown[0]!r} is nothing that a column is for; there are: {', '.join(ROLES)}")
    with own_tasks(several(tasks)), TemporaryDirectory() as nowhere:
        task = task_named(dataset) if dataset else None
        how = ReadAs(dict(columns or {}), task, gold_rows(gold) if gold else None)
        folder = Path(nowhere) if out is None else Path(out)
        scored = score(
            list(_given(predictions, how)),
            folder,
            pool=pool,
            read_as=how,
            reader=reader,
            metrics=tuple(several(metrics)),
            metric_models=MetricModels(data=tuple(several(data))),
            calibrate_on=several(calibrate_on),
        )
        scores = parse_json(scored.paths[0].read_bytes(), scored.paths[0])
        page = next(path for path in scored.paths if path.suffix == ".html").read_text("utf-8")
        return Evaluation(scores, page, scored.paths if out is not None else ())


def _given(predictions: Any, how: "ReadAs") -> "Iterator[str | Predictions]":
    """The parts of what is to be scored: names of files, or rows that are in memory."""
    from mentallama_jax.evaluation.rows_in_memory import predictions_of_rows

    if isinstance(predictions, str | Path):
        yield str(predictions)
        return
    if hasattr(predictions, "to_dict") and hasattr(predictions, "columns"):  # a data frame
        yield predictions_of_rows(predictions.to_dict("records"), how)
        return
    if isinstance(predictions, Mapping) or not isinstance(predictions, Iterable):
        raise UserError(f"predictions: give a file, a folder, a data frame or rows, not {type(predictions).__name__}")
    parts = list(predictions)
    if parts and all(isinstance(part, str | Path) for part in parts):
        yield from map(str, parts)
        return
    yield predictions_of_rows(parts, how)
