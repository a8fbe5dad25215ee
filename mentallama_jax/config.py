"""What a run is made of: frozen models read from YAML plus dotted overrides; a misspelt key is refused.

`load_config("configs/toy.yaml", ["optimizer.learning_rate=1e-4"])` returns a `RunConfig`. Relative paths
in a YAML file are read from the folder the command runs in. The YAML is read strictly (see `strict_yaml`), and no
value is turned into another kind: `true` is no number, and `"4"` neither.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import shown
from mentallama_jax.storage import expanded, is_remote
from mentallama_jax.strict_yaml import parse_yaml

_FINITE = Field(strict=True, allow_inf_nan=False)
_LARGEST = 10**9
_LONGEST_ROW = 2**20
_MOST_TOKENS = 2**28
_LONGEST_TEXT = 1000
_MOST_PROBLEMS = 3
_LONGEST_PROBLEM = 90

Flag = Annotated[bool, Field(strict=True)]
Fraction = Annotated[float, _FINITE, Field(ge=0, le=1)]
Decay = Annotated[float, _FINITE, Field(ge=0, lt=1)]
Count = Annotated[int, Field(strict=True, ge=0, le=_LARGEST)]
PositiveInt = Annotated[int, Field(strict=True, ge=1, le=_LARGEST)]
RowLength = Annotated[int, Field(strict=True, ge=1, le=_LONGEST_ROW)]
MicroBatch = Annotated[int, Field(strict=True, ge=1, le=2**16)]
Seed = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Weight = Annotated[float, _FINITE, Field(gt=0, le=1000)]
PositiveFloat = Annotated[float, _FINITE, Field(gt=0, le=1e30)]
Place = Annotated[str, AfterValidator(expanded)]
Style = Literal["plain", "completion", "llama2-chat", "chatml", "chat"]
Dtype = Literal["float32", "bfloat16"]
Remat = Literal[
    "none",
    "products",
    "attention+gate+up",
    "attention+qkv+middle",
    "attention+gate+middle",
    "attention+gate",
    "attention",
    "full",
    "auto",
]
SavedTensor = Literal["attention", "query", "key", "value", "middle", "gate", "up"]
Metric = Literal["validation_loss", "label_f1"]
HIGHER_IS_BETTER: Mapping[Metric, bool] = MappingProxyType({"validation_loss": False, "label_f1": True})
"""In which direction each figure of an evaluation improves."""


class Section(BaseModel):
    """A frozen group of keys that refuses unknown ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSection(Section):
    """Which model, and how it computes."""

    source: Place
    """A preset name, a Hugging Face folder or hub id, a `.gguf` file, or the URL of a folder or file."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    tokenizer: Place | None = None
    """Folder or hub id of the tokenizer; by default the one that comes with `source`."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """`random` starts from the initialiser: the only choice for a preset without a folder."""
    compute_dtype: Dtype = "bfloat16"
    """Of activations and matrix products; master weights stay in `parameter_dtype`."""
    parameter_dtype: Dtype = "float32"
    """Of the master weights. bfloat16 swallows updates at a learning rate of 1e-5."""
    remat: Remat | tuple[SavedTensor, ...] = "full"
    """What the backward pass recomputes, from `none` to `full`; a list of tensors to keep; or `auto`."""
    offload: Flag = False
    """Keep the tensors that `remat` keeps in the memory of the host."""


class DataSection(Section):
    """Which rows, rendered how, laid out how."""

    train: tuple[Place, ...]
    """Files, folders or URLs of records; `sample` is the bundled sample."""
    validation: tuple[Place, ...] = ()
    """Files or folders of records for the validation loss."""
    datasets: tuple[str, ...] = ("all",)
    """Data sets to take: names, or `all`."""
    exclude: tuple[str, ...] = ()
    """Data sets to leave out, such as the held-out tasks of the paper."""
    drop_posts_in: tuple[Place, ...] = ()
    """Files or folders whose posts must not occur in training (leak control of held-out tasks)."""
    weights: dict[str, Weight] = Field(default_factory=dict)
    """Data set -> how many times its rows are seen per epoch (fractions sample); 1 where absent."""
    max_rows: PositiveInt | None = None
    """Take at most this many training rows, chosen by `training.seed`."""
    style: Style = "plain"
    """How a row becomes a prompt and a response."""
    max_length: RowLength = 2048
    """Tokens of a row of the batch. Longer examples lose the end of their post, never question or answer."""
    layout: Literal["packed", "bucketed"] = "packed"
    """`packed` puts several examples into a row (segment ids keep them apart); `bucketed` one, by length."""
    repair_mojibake: Flag = False
    """Undo UTF-8 that was read as MacRoman, where it round-trips."""
    strict: Flag = False
    """Fail on the first bad row in place of skipping, counting and reporting it."""
    cache_dir: Place = ".cache/tokens"
    """Where tokenised examples are kept, keyed by content."""


class OptimizerSection(Section):
    """AdamW and its schedule."""

    learning_rate: PositiveFloat = 1e-5
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """From the peak to `final_fraction` of it after the warm-up."""
    warmup_fraction: Fraction = 0.04
    """Share of all updates with a linearly rising learning rate."""
    final_fraction: Fraction = 0.0
    """Learning rate of the last update as a share of the peak."""
    weight_decay: Annotated[float, _FINITE, Field(ge=0)] = 0.0
    """Decoupled; on matrices and embeddings, never on norm scales."""
    beta1: Decay = 0.9
    """Decay of the first moment."""
    beta2: Decay = 0.999
    """Decay of the second moment."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of the second moment."""
    clip_norm: PositiveFloat | None = 1.0
    """Largest global gradient norm; null does not clip."""
    first_moment_dtype: Dtype = "float32"
    """bfloat16 halves its memory. The second moment stays float32: a step of 0.1 % is below bfloat16's grain."""


class TrainingSection(Section):
    """How long, how large, how reproducible."""

    run_dir: Place
    """Where everything of the run goes, a folder or gs://BUCKET/NAME; one run a directory."""
    seed: Seed = 0
    """Of initialisation, shuffling and sampling."""
    epochs: PositiveFloat | None = None
    """Passes over the training rows. Give this or `steps`."""
    steps: PositiveInt | None = None
    """Updates. Give this or `epochs`."""
    batch_size: PositiveInt = 256
    """Of one update, in `batch_unit`."""
    batch_unit: Literal["examples", "rows"] = "examples"
    """`examples` is the paper's recipe, packed or not; `rows` counts packed rows and changes the recipe."""
    micro_batch_rows: MicroBatch = 4
    """Rows that the devices work on at once; an update accumulates as many micro-batches as it needs."""
    log_every: PositiveInt = 1
    """Updates between lines of metrics.jsonl."""
    compile_cache_dir: Place | None = ".cache/xla"
    """Where compiled programs are kept between runs; null keeps none."""

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSection":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps")
        return self


class MeshSection(Section):
    """How devices share the work. The axes multiply to the number of devices of all hosts."""

    data: PositiveInt = 1
    """Copies of the model, each with its own rows: for slow links, between slices or nodes."""
    fsdp: PositiveInt | None = None
    """Devices that share parameters and optimizer state, each with its own rows; null takes all that are left."""
    tensor: PositiveInt = 1
    """Devices that share attention heads, feed-forward width and vocabulary; it must divide them."""
    sequence: PositiveInt = 1
    """Devices that share the tokens of a row; for rows too long for one device."""


class EvaluationSection(Section):
    """What is measured while training."""

    every_steps: PositiveInt | None = None
    """Updates between evaluations; null evaluates at the end of each epoch and of the run."""
    max_rows: PositiveInt | None = None
    """Validation examples used for the loss; all by default."""
    generate_rows: Count = 0
    """Validation examples answered by generation for `label_f1`; 0 asks for none."""
    max_new_tokens: RowLength = 256
    """Longest generated answer."""
    metric: Metric = "validation_loss"
    """Chooses the best checkpoint."""


class CheckpointSection(Section):
    """What is kept."""

    every_steps: PositiveInt = 100
    """Updates between checkpoints; the end of an epoch and of the run always make one."""
    keep_last: PositiveInt = 1
    """Newest checkpoints to keep; the best one is kept besides."""


class RunConfig(Section):
    """Everything that decides a training run."""

    model: ModelSection
    data: DataSection
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
        self._check_places()
        self._check_batch_arithmetic()
        return self

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
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such config (the shipped ones are in configs/)")
    values = parse_yaml(regular_file(path).read_bytes(), path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections such as `model:` and `data:`")
    for override in overrides:
        _apply(values, override)
    return parse_config(values, str(path))


def parse_config(values: Any, origin: str) -> RunConfig:
    """Validate plain values, as read from YAML or a run's `config.json`; `origin` names them in errors.

    Raises:
        UserError: an unknown key (with the nearest known one) or a bad value; at most three are named.
    """
    if not isinstance(values, dict):
        raise UserError(f"{origin}: expected the sections of a config")
    _check_texts(values, origin)
    try:
        # A section whose keys are all commented out is read as null: its keys take their defaults.
        return RunConfig.model_validate({key: {} if value is None else value for key, value in values.items()})
    except ValidationError as error:
        problems = list(dict.fromkeys(_explain(problem) for problem in error.errors(include_url=False)))
        more = f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        raise UserError(f"{origin}: {'; '.join(problems[:_MOST_PROBLEMS])}{more}") from None


def _check_texts(values: Any, origin: str, key: str = "") -> None:
    """Refuse texts that are no names of anything: with control characters, half surrogate pairs, or very long."""
    if isinstance(values, str):
        if len(values) > _LONGEST_TEXT or not values.isprintable():
            raise UserError(f"{origin}: {key or 'a value'} is {shown(values, 40)}; expected a short printable text")
    elif isinstance(values, dict):
        for name, value in values.items():
            _check_texts(value, origin, f"{key}.{shown(name)[1:-1]}".removeprefix("."))
    elif isinstance(values, list | tuple):
        for value in values:
            _check_texts(value, origin, key)


def _apply(values: dict[str, Any], override: str) -> None:
    named = f"override {shown(override, 80)}"
    key, equals, text = override.partition("=")
    *sections, last = key.split(".")
    if not equals or not all((*sections, last)):
        raise UserError(f"{named}: expected section.key=value")
    place: Any = values
    for section in sections:
        if place.get(section) is None:  # absent, or emptied
            place[section] = {}
        place = place[section]
        if not isinstance(place, dict):
            raise UserError(f"{named}: {shown('.'.join(sections))[1:-1]} is not a section")
    place[last] = parse_yaml(text, named)


def _explain(problem: Any) -> str:
    # Names of the members of a union stand in the place too, as `literal['none',...]`.
    parts = [str(part) for part in problem["loc"] if not re.search(r"[\[\]]", str(part))]
    key = shown(".".join(parts))[1:-1] if parts else ""
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(key, list(known_keys()), n=1, cutoff=0.4)
        return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else "")
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "literal_error":
        message = f"Input should be {problem['ctx']['expected']}"
    if problem["type"] != "value_error" and len(message) > _LONGEST_PROBLEM:
        message = message[:_LONGEST_PROBLEM] + "..."
    if problem["type"] == "bool_type":
        message += " (true or false)"
    return f"{key}: {message}" if key else message


def known_keys(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key, sections included."""
    for name, info in model.model_fields.items():
        yield prefix + name
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from known_keys(info.annotation, f"{prefix}{name}.")
