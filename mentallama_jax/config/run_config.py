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
    DpoSection,
    EvaluationSection,
    GrpoSection,
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
_CHOICES = "data.datasets, data.exclude, data.weights and data.balance_labels"


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
        if isinstance(self.objective, DpoSection):
            self._check_dpo(self.objective)
        elif self.evaluation.metric == "rewards/accuracies":
            raise ValueError("evaluation.metric rewards/accuracies goes with objective.kind dpo")
        if isinstance(self.objective, GrpoSection):
            self._check_grpo(self.objective)
        elif self.evaluation.metric == "reward":
            raise ValueError("evaluation.metric reward goes with objective.kind grpo")
        if self.evaluation.metric != "validation_loss" and not self.data.validation:
            raise ValueError(
                f"evaluation.metric {self.evaluation.metric} needs data.validation; without it set validation_loss, "
                "and the last checkpoint is the best"
            )
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
        if not objective.instructions and _chooses_records(self.data):
            raise ValueError(f"{_CHOICES} choose records, which only objective.instructions has; remove them")
        if self.data.max_rows is not None:
            raise ValueError(
                f"data.max_rows {self.data.max_rows}: documents are not chosen; set training.steps, or name fewer files"
            )
        if self.data.max_length < 2:
            raise ValueError(f"data.max_length {self.data.max_length}: a row of documents needs 2 tokens; raise it")

    def _check_dpo(self, objective: DpoSection) -> None:
        """Refuse what pairs of answers do not have."""
        smooths = objective.loss_type in ("robust", "exo_pair")
        if bool(objective.label_smoothing) != smooths:
            what = "needs one above 0" if smooths else "reads none; robust and exo_pair do"
            raise ValueError(
                f"objective.label_smoothing {objective.label_smoothing:g}: objective.loss_type {objective.loss_type} "
                f"{what}"
            )
        if objective.length_normalised and objective.loss_type in ("ipo", "sigmoid_norm", "sft"):
            raise ValueError(f"objective.length_normalised: {objective.loss_type} divides by lengths already")
        if objective.loss_type == "sft":
            if objective.beta != type(objective).model_fields["beta"].default:
                raise ValueError(
                    f"objective.beta {objective.beta:g}: sft compares with no other weights and reads none"
                )
            if self.evaluation.metric == "rewards/accuracies":
                raise ValueError(
                    "evaluation.metric rewards/accuracies: sft compares no answers; choose validation_loss"
                )
        if self.evaluation.generate_rows:
            raise ValueError(
                f"evaluation.generate_rows {self.evaluation.generate_rows}: pairs are not asked; set it to 0, and use "
                "`mentallama generate` on the checkpoints"
            )
        if self.data.layout != "packed":
            raise ValueError("data.layout bucketed: the two answers of a pair share a row; set it to packed")
        if _chooses_records(self.data):
            raise ValueError(f"{_CHOICES} choose records; choose pairs where they are made")
        if self.data.repair_mojibake:
            raise ValueError("data.repair_mojibake: pairs are read as they are; repair records before they are paired")

    def _check_grpo(self, objective: GrpoSection) -> None:
        """Refuse what sampling does not do."""
        training, evaluation = self.training, self.evaluation
        if not objective.rewards:
            raise ValueError("objective.rewards is empty; name at least one reward")
        if training.batch_size % objective.num_generations:
            raise ValueError(
                f"training.batch_size {training.batch_size} answers are not whole groups of objective.num_generations "
                f"{objective.num_generations}; choose a multiple"
            )
        if training.batch_unit != "examples" or self.data.layout != "packed":
            raise ValueError("objective.kind grpo goes with training.batch_unit examples and data.layout packed")
        if evaluation.max_new_tokens >= self.data.max_length:
            raise ValueError(
                f"evaluation.max_new_tokens {evaluation.max_new_tokens} of data.max_length {self.data.max_length} "
                "leave no room for a prompt; lower the first"
            )
        if bool(self.data.validation) != bool(evaluation.generate_rows):
            raise ValueError("data.validation and evaluation.generate_rows: give both or neither")
        if not objective.beta and not objective.use_bias_correction_kl:
            raise ValueError(
                "objective.use_bias_correction_kl false: it is about the divergence that objective.beta 0 leaves out"
            )
        if self.data.validation and evaluation.metric not in ("reward", "label_f1"):
            raise ValueError(f"evaluation.metric {evaluation.metric}: nothing is predicted; choose reward or label_f1")
        if self.mesh.sequence > 1:
            raise ValueError(f"mesh.sequence {self.mesh.sequence}: answers are sampled token by token; set it to 1")

    def _check_adapter(self) -> None:
        """Refuse dropout where two models are compared."""
        if self.adapter is not None and self.adapter.dropout and self.objective.kind in ("dpo", "grpo"):
            raise ValueError(
                f"adapter.dropout {self.adapter.dropout}: {self.objective.kind} compares answers with what a model "
                "without dropout says of them; set it to 0"
            )

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


def _chooses_records(data: DataSection) -> bool:
    return data.datasets != ("all",) or bool(data.exclude or data.weights) or data.balance_labels


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


def with_tasks(config: RunConfig, files: Sequence[str]) -> RunConfig:
    """The config with these task files besides its own.

    Raises:
        UserError: as `parse_config`.
    """
    if not files:
        return config
    values = config.model_dump(mode="json")
    values["data"]["tasks"] = list(dict.fromkeys([*values["data"]["tasks"], *files]))
    return parse_config(values, "--tasks")
