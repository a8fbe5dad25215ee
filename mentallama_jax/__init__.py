"""Tune, sample, evaluate and export LLaMA-2-family models for interpretable mental-health analysis.

For research only. Nothing in this package diagnoses anybody or replaces professional care.

    from mentallama_jax import Task, evaluate, load_model, train

    run = train("toy", training={"run_dir": "runs/mine"})
    model = load_model("runs/mine")
    print(model.analyse("I cannot remember when I last slept through a night.", "DR"))
    evaluate("predictions.jsonl", data=["sample:test"]).to_pandas()

These four names are what the package promises to keep: `load_model` opens a model that analyses posts, answers
conversations and scores labels; `train` tunes one; `evaluate` scores predictions, whoever made them; `Task` is a task
of one's own. `help` of each says the rest. Whatever a user can mend is raised as `mentallama_jax.errors.UserError`.
Importing them takes a few hundredths of a second, as jax is imported when it is first used.

What the commands do besides is in `mentallama_jax.jobs`, a function each, which may change from version to version.
`mentallama_jax.harness` has the models and the tasks of lm-evaluation-harness.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mentallama_jax.imhi.task_files.task import Task
    from mentallama_jax.jobs.evaluated import evaluate
    from mentallama_jax.jobs.finished_run import train
    from mentallama_jax.jobs.loaded_model import load_model

__version__ = "0.2.0"
__all__ = ["Task", "evaluate", "load_model", "train"]

_HOMES = {
    "Task": "imhi.task_files.task",
    "evaluate": "jobs.evaluated",
    "load_model": "jobs.loaded_model",
    "train": "jobs.finished_run",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
