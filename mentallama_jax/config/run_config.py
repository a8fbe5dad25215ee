"""The config of a training run, and which of its values go together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from mentallama_jax.config.loading import read_config, validate
from mentallama_jax.config.sections import (
    AdapterSection,
    CheckpointSection,
    ClassificationSection,
    DataSection,
    DocumentsSection,
    EvaluationSection,
    MeshSection,
    ModelSection,
    ObjectiveSection,
    OptimizerSection,
    Section,
    SequenceSection,
    SupervisedSection,
    TrainingSection,
)
from mentallama_jax.storage import is_remote

_MOST_TOKENS = 2**28


class RunConfig(Section):
    """Everything that decides a training run."""

    model: ModelSection
    data: DataSection
    objective: ObjectiveSection = Field(default_factory=SupervisedSection)
    adapter: AdapterSection | None = None
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection)
    training: TrainingSection
    mesh: MeshSection = Field(default_factory=MeshSection)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    checkpoint: CheckpointSection = Field(default_factory=CheckpointSection)

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        if self.evaluation.metric == "label_f1" and not self.evaluation.generate_rows:
            raise ValueError("evaluation.metric label_f1 needs evaluation.generate_rows above 0")
        if self.data.layout == "bucketed" and self.training.batch_unit == "rows":
            raise ValueError("training.batch_unit rows needs data.layout packed (a bucketed row is one example)")
        if self.evaluation.patience and not self.data.validation:
            raise ValueError("evaluation.patience needs data.validation")
        if isinstance(self.objective, ClassificationSection):
            self._check_classification()
        elif self.evaluation.metric == "weighted_f1":
            raise ValueError("evaluation.metric weighted_f1 goes with objective.kind classification; choose label_f1")
        if isinstance(self.objective, SequenceSection):
            self._check_sequences()
        if isinstance(self.objective, DocumentsSection):
            self._check_documents(self.objective)
        self._check_adapter()
        self._check_places()
        self._check_batch_arithmetic()
        return self

    def _check_classification(self) -> None:
        """Refuse what an encoder does not do."""
        if self.evaluation.generate_rows:
            raise ValueError(
                f"evaluation.generate_rows {self.evaluation.generate_rows}: an encoder writes no answers; set it to 0"
            )
        if self.evaluation.metric == "weighted_f1" and not self.data.validation:
            raise ValueError("evaluation.metric weighted_f1 needs data.validation")
        if self.model.offload:
            raise ValueError("model.offload: an encoder keeps its tensors on the device; set it to false")
        if self.model.remat == "auto":
            raise ValueError("model.remat auto is chosen for a LLaMA only; set none or full")
        if is_remote(self.training.run_dir):
            raise ValueError(f"training.run_dir {self.training.run_dir}: the run of a classifier is kept in a folder")

    def _check_sequences(self) -> None:
        """Refuse what an encoder-decoder does not do."""
        if self.data.style not in ("plain", "completion"):
            raise ValueError(
                f"data.style {self.data.style}: an encoder-decoder reads a question and writes its answer, without a "
                "chat; set completion or plain"
            )
        if self.model.offload:
            raise ValueError("model.offload: an encoder-decoder keeps its tensors on the device; set it to false")
        if self.model.remat == "auto":
            raise ValueError("model.remat auto is chosen for a LLaMA only; set none or full")

    def _check_documents(self, objective: DocumentsSection) -> None:
        """Refuse what raw text does not have."""
        if bool(objective.instructions) != bool(objective.instruction_share):
            raise ValueError("objective.instructions and objective.instruction_share: give both or neither")
        if self.evaluation.generate_rows:
            raise ValueError(
                f"evaluation.generate_rows {self.evaluation.generate_rows}: raw text asks no questions; set it to 0"
            )
        if self.data.max_rows is not None:
            raise ValueError(
                f"data.max_rows {self.data.max_rows}: documents are not chosen; set training.steps, or name fewer files"
            )
        if self.data.max_length < 2:
            raise ValueError(f"data.max_length {self.data.max_length}: a row of documents needs 2 tokens; raise it")

    def _check_adapter(self) -> None:
        """Refuse what there is no adapter for."""
        if self.adapter is not None and self.objective.kind == "sequence_to_sequence":
            raise ValueError("adapter: goes with a LLaMA or an encoder; an encoder-decoder is trained whole")

    def _check_places(self) -> None:
        """Checkpoints are written to file systems and to buckets of one kind; caches are here."""
        run_dir = self.training.run_dir
        if is_remote(run_dir) and not run_dir.startswith("gs://"):
            raise ValueError(f"training.run_dir {run_dir}: a run is kept in a folder or on a bucket gs://NAME")
        caches = {"data.cache_dir": self.data.cache_dir, "training.compile_cache_dir": self.training.compile_cache_dir}
        for key, folder in caches.items():
            if is_remote(folder):
                raise ValueError(f"{key} {folder}: has to be a folder here")

    def _check_batch_arithmetic(self) -> None:
        """Refuse an update that cannot fill its micro-batches: rows left empty are computed all the same."""
        size, micro_batch = self.training.batch_size, self.training.micro_batch_rows
        if micro_batch * self.data.max_length > _MOST_TOKENS:
            raise ValueError(
                f"training.micro_batch_rows {micro_batch} of data.max_length {self.data.max_length} are more than "
                f"{_MOST_TOKENS:,} tokens at once; lower one of them"
            )
        if micro_batch > size:
            raise ValueError(
                f"training.micro_batch_rows {micro_batch} is more than training.batch_size {size} can fill; lower it"
            )
        packed_examples = self.data.layout == "packed" and self.training.batch_unit == "examples"
        if size % micro_batch and not packed_examples:
            raise ValueError(
                f"training.batch_size {size} rows are not whole micro-batches of training.micro_batch_rows "
                f"{micro_batch}; choose a multiple"
            )


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file and apply overrides such as `training.steps=20`.

    Raises:
        UserError: unreadable file, invalid YAML, an unknown key (with the nearest known one) or a bad value.
    """
    return read_config(RunConfig, path, overrides)


def parse_config(values: Any, origin: str) -> RunConfig:
    """Check plain values, such as a run's `config.json`; `origin` names them in errors.

    Raises:
        UserError: an unknown key (with the nearest known one) or a bad value; at most three are named.
    """
    return validate(RunConfig, values, origin)
