"""Whether a run that is resumed is the one that was started."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mentallama_jax.config import DpoSection, GrpoSection, RunConfig
from mentallama_jax.config.idle_keys import IDLE_KEYS, is_among
from mentallama_jax.errors import UserError
from mentallama_jax.storage import AnyPath
from mentallama_jax.training.run.extension import LENGTH

MAY_CHANGE = (
    *IDLE_KEYS,
    "model.tokenizer",
    "data.train",
    "data.tasks",
    "data.validation",
    "data.drop_posts_in",
    "evaluation.every_steps",
    "evaluation.patience",
    "objective.test",
    "objective.instructions",
)
"""Keys and sections that a resumed run may change. Data and tokenizer may move: the tokens are compared by
`data_fingerprint`.

An update keeps its examples and their rows where `micro_batch_rows` changes: the plan of a run is made with the value
that it was started with, and sampled answers of a checkpoint are cut into micro-batches anew."""
SAME_SOURCE = ("model.source", "model.revision")
"""Keys that may change where the model that they name is the same."""


def is_same_source(before: RunConfig, now: RunConfig, known: str | None, fingerprint: Callable[[], str] | None) -> bool:
    """Whether two configs name the same weights; `known` is the fingerprint of the first, where it was noted.

    Where no weights are read the shape alone counts, which is compared elsewhere.
    """
    if before.model.weights != now.model.weights:
        return False
    if fingerprint is None:
        return True
    if (before.model.source, before.model.revision) == (now.model.source, now.model.revision):
        return True
    if known is None:  # noted by no older version
        places = [Path(config.model.source).expanduser().resolve() for config in (before, now)]
        return places[0] == places[1] and places[0].exists()
    return fingerprint() == known


def refuse_other_start(path: AnyPath, config: RunConfig, known: Any, fingerprint: Callable[[], str] | None) -> None:
    """Refuse weights in `model.source` that a run did not start from, where it still reads them when it is resumed.

    Args:
        path: of the run.
        config: the run that is resumed.
        known: the fingerprint of the weights that it started from.
        fingerprint: tells which weights `model.source` holds now; None where none are read.

    Raises:
        UserError: they are others.
    """
    if config.adapter is not None:
        reads = "adapts other weights than"
    elif _compares_with_start(config):
        reads = "compares answers with the weights that it started from, which are others than"
    else:
        return
    if fingerprint is not None and fingerprint() != known:
        is_run = (Path(config.model.source).expanduser() / "model_config.json").is_file()
        counts = " (of a run directory the best checkpoint counts)" if is_run else ""
        raise UserError(
            f"{path}: this run {reads} {config.model.source} holds now{counts}; put them back, or name another "
            "training.run_dir"
        )


def _compares_with_start(config: RunConfig) -> bool:
    """Whether the loss or what is watched reads the weights that the run starts from."""
    if isinstance(config.objective, GrpoSection):
        return config.objective.beta > 0 or bool(config.data.validation)
    return isinstance(config.objective, DpoSection) and config.objective.compares


def refuse_changes(path: AnyPath, what: str, old: Any, new: Any, may_change: tuple[str, ...] = ()) -> None:
    """Compare what a run was started with with what it is now.

    Raises:
        UserError: a value differs and neither it nor its section is one of `may_change`; each is shown.
    """
    before, after = dict(_flat(old)), dict(_flat(new))
    differences = [
        f"{key} was {_shown(before, key)}, is {_shown(after, key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not is_among(key, may_change)
    ]
    if differences:
        longer = all(difference.startswith(LENGTH) for difference in differences)
        more = "; --extend goes on for more updates than it was started with" if longer else ""
        raise UserError(
            f"{path}: this run was started with {what} ({'; '.join(differences)}); "
            f"restore that to go on, or name another training.run_dir{more}"
        )


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _shown(values: dict[str, Any], key: str) -> str:
    return str(values[key]) if key in values else "absent"
