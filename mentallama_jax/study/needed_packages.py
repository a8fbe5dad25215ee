"""The optional packages that a study's steps import: asked for before the first step, not hours later by the last."""

from collections.abc import Iterator
from importlib.util import find_spec

from mentallama_jax.config.study_config import BaselineRow, EndpointRow, GenerateRow, StudyConfig
from mentallama_jax.errors import UserError

_PACKAGE = "package:"
_OF_METRICS = {"rouge": "rouge_score", "upstream_rouge": "rouge_score"} | dict.fromkeys(
    ("bleu", "chrf", "upstream_bleu"), "sacrebleu"
)


def check_packages(study: StudyConfig) -> None:
    """Refuse a study of which a package is missing; rows with a launcher run elsewhere and are not looked at.

    Raises:
        UserError: names the packages, who needs them, and the command that installs them.
    """
    missing = {(module, extra): who for module, extra, who in _needed(study) if find_spec(module) is None}
    if not missing:
        return
    extras = sorted({extra for _, extra in missing if extra})
    installs = [f"'mentallama-jax[{','.join(extras)}]'"] if extras else []
    installs += sorted(module.replace("_", "-") for module, extra in missing if not extra)
    named = ", ".join(f"{module} (for {who})" for (module, _), who in missing.items())
    raise UserError(f"not installed here: {named}; pip install {' '.join(installs)}")


def _needed(study: StudyConfig) -> Iterator[tuple[str, str, str]]:
    """Each module, the extra of this package that brings it ("" for a package of its own), and who needs it."""
    for metric in study.evaluation.metrics:
        if metric in _OF_METRICS:
            yield _OF_METRICS[metric], "metrics", f"evaluation.metrics {metric}"
    for option in study.evaluation.metric_options:
        if option.startswith(_PACKAGE):
            yield option.removeprefix(_PACKAGE), "", "evaluation.metric_options"
    for name, row in study.rows.items():
        if getattr(row, "launcher", ""):
            continue
        if isinstance(row, BaselineRow) and row.floor == "tfidf":
            yield "sklearn", "baselines", f"row {name}"
        if isinstance(row, EndpointRow):
            yield "openai", "baselines", f"row {name}"
        if isinstance(row, GenerateRow) and row.model.startswith(_PACKAGE):
            yield row.model.removeprefix(_PACKAGE), "", f"row {name}"
        if isinstance(row, GenerateRow) and (row.model.endswith(".gguf") or row.model.startswith(_PACKAGE)):
            yield "gguf", "gguf", f"row {name}"
