"""Rows of the benchmark that are not there: copies that can be had today hold a part of the data sets."""

from collections.abc import Iterable, Mapping, Sequence

from mentallama_jax.imhi.data_files.sources import SPLITS
from mentallama_jax.imhi.mixture import ALL
from mentallama_jax.imhi.tasks import TASKS, task_named

_NAMES = {"train": "training", "val": "validation", "test": "test"}
BUNDLED = "sample"


def missing_rows(rows: Mapping[str, int], split: str, wanted: Iterable[str] | None = None) -> str | None:
    """How many rows of a split of the benchmark there are, and which are missing; None where all are there.

    None as well where nothing of the benchmark is there: rows of tasks of one's own are no part of it.

    Args:
        rows: data set -> rows that are there; data sets whose size nobody published are passed over.
        split: "train", "val" or "test".
        wanted: data sets that ought to be there; by default the whole benchmark.
    """
    sizes = {
        name: TASKS[name].sizes[SPLITS.index(split)]  # type: ignore[index]
        for name in (TASKS if wanted is None else wanted)
        if TASKS[name].sizes is not None
    }
    fewer = {name: rows[name] for name, size in sizes.items() if 0 < rows.get(name, 0) < size}
    absent = [name for name in sizes if not rows.get(name)]
    if not fewer and not absent:
        return None
    here = sum(min(rows.get(name, 0), size) for name, size in sizes.items())
    if not here:
        return None
    parts = [f"without {', '.join(absent)}"] if absent else []
    parts += [f"{name} {count:,} of {sizes[name]:,}" for name, count in fewer.items()]
    return f"{here:,} of the {sum(sizes.values()):,} {_NAMES[split]} rows: {'; '.join(parts)}"


def is_bundled(sources: Iterable[str]) -> bool:
    """Whether all sources are the bundled sample, which is no copy of the benchmark."""
    return all(str(source).partition(":")[0] == BUNDLED for source in sources)


def chosen_datasets(datasets: Sequence[str], exclude: Iterable[str] = ()) -> list[str]:
    """The data sets that a config asks for, by their canonical names.

    Raises:
        UserError: there is no such data set.
    """
    left_out = {task_named(name).name for name in exclude}
    named = list(TASKS) if ALL in datasets else [task_named(name).name for name in datasets]
    return [name for name in named if name not in left_out]
