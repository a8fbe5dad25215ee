"""Configs: frozen models read from YAML plus dotted overrides. Each command that has one has a root."""

from mentallama_jax.config.fields import HIGHER_IS_BETTER, Dtype, Metric, Remat, SavedTensor, Style, TextDivision
from mentallama_jax.config.loading import known_keys, read_config, validate
from mentallama_jax.config.run_config import RunConfig, load_config, parse_config, with_tasks
from mentallama_jax.config.sections import (
    AdapterSection,
    CheckpointSection,
    ClassificationSection,
    DataSection,
    DocumentsSection,
    DpoSection,
    EvaluationSection,
    GrpoSection,
    MeshSection,
    ModelSection,
    OptimizerSection,
    Section,
    SequenceSection,
    SupervisedSection,
    TrainingSection,
)

__all__ = [
    "HIGHER_IS_BETTER",
    "AdapterSection",
    "CheckpointSection",
    "ClassificationSection",
    "DataSection",
    "DocumentsSection",
    "DpoSection",
    "Dtype",
    "EvaluationSection",
    "GrpoSection",
    "MeshSection",
    "Metric",
    "ModelSection",
    "OptimizerSection",
    "Remat",
    "RunConfig",
    "SavedTensor",
    "Section",
    "SequenceSection",
    "Style",
    "SupervisedSection",
    "TextDivision",
    "TrainingSection",
    "known_keys",
    "load_config",
    "parse_config",
    "read_config",
    "validate",
    "with_tasks",
]
