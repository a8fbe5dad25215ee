"""What looks odd of predictions that can be scored: said above the figures, as it may make them wrong."""

from collections import Counter
from collections.abc import Iterator, Sequence

from mentallama_jax.evaluation.foreign_outputs.read_as import dataset_of_name
from mentallama_jax.foreign import shown, shown_cell
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS, Task
from mentallama_jax.storage import AnyPath

_MANY = 0.1
"""Share of a data set's rows; a model that says it of fewer is wrong now and then."""


def remarks(path: AnyPath, rows: Sequence[Prediction], dataset: Task | None, posts_known: bool) -> Iterator[str]:
    """What to mind of the rows of a file, in a line each.

    Args:
        path: of the file, whose name may tell a data set.
        rows: those that are scored.
        dataset: what the user says that all rows are of; None where the file says it.
        posts_known: whether each row is marked with its post.
    """
    named = dataset_of_name(path.stem)
    if dataset is not None and named not in (None, dataset):
        yield f"{path}: named after {named.name if named else ''}, and read as {dataset.name}, as --dataset says"
    yield from _sentences_of_others(path, rows)
    if posts_known:
        yield from _asked_again(path, rows)


def gold_contradicted(ids: Sequence[str], column: str) -> Iterator[str]:
    """That rows hold another gold label than the gold that they are joined to; nothing where none does."""
    if ids:
        what = f"column {shown(column)} of {_rows(len(ids))}, such as {shown_cell(ids[0])}"
        yield f"{what}, says another label than --gold, which counts"


def _sentences_of_others(path: AnyPath, rows: Sequence[Prediction]) -> Iterator[str]:
    """Where many outputs open with a label sentence of another data set: such as the file of another data set."""
    of_dataset = Counter(row.dataset for row in rows)
    openings = {
        name: tuple(text.rstrip(".").casefold() for text in task.sentences.values()) for name, task in TASKS.items()
    }
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        text = row.generated_text.lstrip().casefold()
        if text.startswith(openings[row.dataset]):
            continue
        of = next((name for name, opening in openings.items() if text.startswith(opening)), None)
        if of is not None:
            found[row.dataset, of] += 1
    for (name, of), count in found.items():
        if count >= _MANY * of_dataset[name]:
            yield f"{path}: {_rows(count)} read as {name} open with a label sentence of {of}"


def _asked_again(path: AnyPath, rows: Sequence[Prediction]) -> Iterator[str]:
    """Rows with the post and the question of another."""
    golds: dict[tuple[str, str, str], set[str]] = {}
    for row in rows:
        golds.setdefault((row.dataset, row.aspect, row.post_id), set()).add(row.label)
    again, unlike = len(rows) - len(golds), sum(len(labels) > 1 for labels in golds.values())
    if again:
        contradict = f"; the gold of {unlike:,} of these posts contradicts itself" if unlike else ""
        yield f"{path}: {_rows(again)} with the post and the question of another row{contradict}"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
