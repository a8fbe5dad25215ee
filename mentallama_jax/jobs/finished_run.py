"""Training as a notebook or a program uses it: a config with changes in, the run with its paths and figures out.

Nothing heavy is imported before a run begins.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.errors import UserError

if TYPE_CHECKING:
    import pandas

    from mentallama_jax.config import RunConfig
    from mentallama_jax.jobs.loaded_model import LoadedModel
    from mentallama_jax.storage import AnyPath
    from mentallama_jax.training.loop import TrainResult

_FILES = ("config.json", "data.json", "metrics.jsonl", "loss.png", "checkpoints", "tokenizer", "log.txt")


class FinishedRun:
    """How a run ended, and where everything of it is.

    Attributes:
        run_dir: the run directory; whatever takes a model takes it.
        steps: updates done.
        total_steps: updates of the whole run.
        stopped: whether it was asked to stop before its end; the same call resumes it.
        best_step: updates of the best checkpoint; None where nothing was evaluated.
        best_scores: figure -> value of the best checkpoint.
    """

    def __init__(self, result: "TrainResult") -> None:
        self.run_dir: AnyPath = result.run_dir
        self.steps, self.total_steps = result.steps, result.total_steps
        self.stopped = bool(result.stopped_by)
        self.best_step = None if result.best is None else result.best.step
        self.best_scores: Mapping[str, float] = {} if result.best is None else dict(result.best.scores)

    @property
    def paths(self) -> "dict[str, AnyPath]":
        """Name -> file or folder of the run, for those that are there."""
        found = {name.partition(".")[0]: self.run_dir / name for name in _FILES}
        return {name: path for name, path in found.items() if path.exists()}

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: `kind` (train or validation), `step`, and figures."""
        from mentallama_jax.training.run.metrics import read_metrics

        return read_metrics(self.run_dir / "metrics.jsonl")

    def to_pandas(self) -> "pandas.DataFrame":
        """The metrics as a data frame, a row for each line.

        Raises:
            UserError: pandas is not installed.
        """
        from mentallama_jax.jobs.evaluated import data_frame

        return data_frame(self.metrics, "line")

    def load_model(self, **options: Any) -> "LoadedModel":
        """The tuned model, the best checkpoint of it; options are those of `mentallama_jax.load_model`."""
        from mentallama_jax.jobs.loaded_model import load_model

        return load_model(str(self.run_dir), **options)

    def __repr__(self) -> str:
        done = f"stopped after {self.steps} of {self.total_steps} updates" if self.stopped else f"{self.steps} updates"
        scores = ", ".join(f"{name} {value:.4f}" for name, value in self.best_scores.items())
        best = f"; best after {self.best_step}: {scores}" if self.best_step is not None else ""
        return f"<FinishedRun {self.run_dir}: {done}{best}>"


def train(
    config: "str | Path | Mapping[str, Any] | RunConfig",
    *,
    tasks: Sequence[str | Path] = (),
    extend: bool = False,
    log_to: Sequence[str] = (),
    **overrides: Any,
) -> FinishedRun:
    """Tune a model, or resume the run in `training.run_dir`, as `mentallama train` does.

    Args:
        config: the name of a shipped config (such as "toy"), a YAML file, its sections as a mapping, or a `RunConfig`.
        tasks: a task file of your own, or several, besides those of the config.
        extend: make a finished run longer than it was started.
        log_to: trackers that are sent the figures too: "wandb", "mlflow".
        overrides: changes of the config by section: `training={"run_dir": "runs/mine", "steps": 20}`; or by key:
            `**{"training.steps": 20}`.

    Returns:
        Where the run is, how it ended and its figures. Ctrl-C saves the run and returns with `stopped`.

    Raises:
        UserError: an unknown key (with the nearest known one), a bad value, or what `mentallama train` refuses.
    """
    from mentallama_jax.config import RunConfig, load_config, with_tasks
    from mentallama_jax.config.loading import changed
    from mentallama_jax.jobs.one_or_several import several
    from mentallama_jax.jobs.tune import tune
    from mentallama_jax.training.run.figure_trackers import sending_figures_to

    changes = [f"{key}={_yaml(key, value)}" for key, value in _flat(overrides)]
    if isinstance(config, str | Path):
        read = load_config(config, changes)
    elif isinstance(config, RunConfig):
        read = changed(RunConfig, config.model_dump(mode="json"), "config", changes)
    elif isinstance(config, Mapping):
        read = changed(RunConfig, dict(config), "config", changes)
    else:
        raise UserError(f"config: give a name, a file, a mapping or a RunConfig, not {type(config).__name__}")
    with sending_figures_to(several(log_to)):
        return FinishedRun(tune(with_tasks(read, [str(file) for file in several(tasks)]), extend=extend))


def _flat(changes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Changes by section as changes by key."""
    for name, value in changes.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", each) for key, each in value.items())
        else:
            yield name, value


def _yaml(key: str, value: Any) -> str:
    """A value as YAML reads it back; JSON is YAML."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError):
        raise UserError(f"{key}: {type(value).__name__} is no value of a config") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError
