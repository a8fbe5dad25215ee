"""Tune, sample, evaluate and export LLaMA-2-family models for interpretable mental-health analysis.

For research only. Nothing in this package diagnoses anybody or replaces professional care.

What the commands do is here as functions, imported when they are first used:

    import mentallama_jax as mj

    result = mj.tune(mj.load_config("configs/toy.yaml", ["training.run_dir=runs/mine"]))
    mj.answer(mj.open_answerer("runs/mine"), mj.questions_in(["sample:test"]), "predictions.jsonl")
    mj.score(["predictions.jsonl"], "scores").scores.pooled
    mj.export("runs/mine", "exports/mine")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mentallama_jax.config import load_config
    from mentallama_jax.generation.engine import Settings
    from mentallama_jax.generation.sampling import Sampling
    from mentallama_jax.jobs.agree import agree
    from mentallama_jax.jobs.annotate import annotate
    from mentallama_jax.jobs.answer import answer, open_answerer, questions_about, questions_in
    from mentallama_jax.jobs.audit_data import audit
    from mentallama_jax.jobs.baseline import baseline
    from mentallama_jax.jobs.compare import compare
    from mentallama_jax.jobs.export import export
    from mentallama_jax.jobs.make_report import make_report
    from mentallama_jax.jobs.open_model import open_model
    from mentallama_jax.jobs.probe import ProbeSettings, probe_fairness, probe_faithfulness, probe_robustness
    from mentallama_jax.jobs.score import score, score_each
    from mentallama_jax.jobs.transfer import transfer
    from mentallama_jax.jobs.tune import tune

__version__ = "0.2.0"
__all__ = [
    "ProbeSettings",
    "Sampling",
    "Settings",
    "agree",
    "annotate",
    "answer",
    "audit",
    "baseline",
    "compare",
    "export",
    "load_config",
    "make_report",
    "open_answerer",
    "open_model",
    "probe_fairness",
    "probe_faithfulness",
    "probe_robustness",
    "questions_about",
    "questions_in",
    "score",
    "score_each",
    "transfer",
    "tune",
]

_HOMES = {
    "ProbeSettings": "jobs.probe",
    "audit": "jobs.audit_data",
    "Sampling": "generation.sampling",
    "Settings": "generation.engine",
    "load_config": "config",
    "open_answerer": "jobs.answer",
    "probe_fairness": "jobs.probe",
    "probe_faithfulness": "jobs.probe",
    "probe_robustness": "jobs.probe",
    "questions_about": "jobs.answer",
    "questions_in": "jobs.answer",
    "score_each": "jobs.score",
}
"""Where a name lives whose file has another name; all others are `jobs.NAME`."""


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` when it is first used: jax takes a second to start, and scoring needs none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, f'jobs.{name}')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
