"""Sections that configs are made of: groups of keys, each with its default and a line of explanation."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mentallama_jax.config.fields import (
    FINITE,
    Count,
    Decay,
    Dtype,
    Flag,
    Fraction,
    Metric,
    MicroBatch,
    PairLossName,
    Place,
    PlaceList,
    PositiveFloat,
    PositiveInt,
    Remat,
    RewardWeight,
    RowLength,
    SavedTensor,
    Seed,
    Style,
    TargetLength,
    TextDivision,
    TextList,
    Weight,
)


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
    """The dtype of activations and matrix products; master weights stay in `parameter_dtype`."""
    parameter_dtype: Dtype = "float32"
    """The dtype of the master weights. bfloat16 swallows updates at a learning rate of 1e-5."""
    remat: Remat | tuple[SavedTensor, ...] = "full"
    """What the backward pass recomputes, from `none` to `full`; a list of tensors to keep; or `auto`."""
    offload: Flag = False
    """Keep the tensors that `remat` keeps in the memory of the host."""


class DataSection(Section):
    """Which rows, rendered how, laid out how."""

    train: PlaceList
    """Files, folders or URLs of records; `sample` is the bundled sample."""
    validation: PlaceList = ()
    """Files or folders of records for the validation loss."""
    datasets: TextList = ("all",)
    """Data sets to take: names, or `all`."""
    tasks: PlaceList = ()
    """Task files of your own, whose data sets can be named beside the ten that are shipped."""
    exclude: TextList = ()
    """Data sets to leave out, such as the held-out tasks of the paper."""
    drop_posts_in: PlaceList = ()
    """Files or folders whose posts must not occur in training (leak control of held-out tasks)."""
    weights: dict[str, Weight] = Field(default_factory=dict)
    """Data set -> how many times its rows are seen per epoch (fractions sample); 1 where absent."""
    balance_labels: Flag = False
    """See each label of a data set as often as its others: rows of common ones left out, of rare ones repeated."""
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
    """Fail on the first bad row instead of skipping, counting and reporting it."""
    cache_dir: Place = ".cache/tokens"
    """Where tokenised examples are kept, keyed by content."""


class SupervisedSection(Section):
    """A language model learns the answers."""

    kind: Literal["supervised"] = "supervised"
    """`supervised`, `classification`, `documents`, `sequence_to_sequence`; `dpo` learns pairs, `grpo` from rewards."""


class ClassificationSection(Section):
    """An encoder learns the labels of one data set, or of several with the question before each text."""

    kind: Literal["classification"]
    """`supervised`, `classification`, `documents`, `sequence_to_sequence`; `dpo` learns pairs, `grpo` from rewards."""
    input: Literal["post", "explanation", "response"] = "post"
    """What the label is read from: the post, the gold explanation alone, or explanation and label sentence."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs each class by the inverse of its training rows."""
    test: PlaceList = ()
    """Files or folders of records that the best checkpoint is scored on at the end."""


class DocumentsSection(Section):
    """A language model goes on with its pre-training, on raw text."""

    kind: Literal["documents"]
    """`supervised`, `classification`, `documents`, `sequence_to_sequence`; `dpo` learns pairs, `grpo` from rewards."""
    text_key: str = "text"
    """The key of JSONL and the column of Parquet that hold the text of a document."""
    text_files: TextDivision = "whole"
    """A `.txt` file is one document (`whole`), or `blank-lines` separate its documents."""
    instructions: PlaceList = ()
    """Files or folders of records to answer between the documents, against forgetting."""
    instruction_share: Annotated[float, FINITE, Field(ge=0, lt=1)] = 0.0
    """Their share of the tokens of an epoch: they are repeated, or some left out, until it is reached."""


class SequenceSection(Section):
    """An encoder-decoder learns the answers."""

    kind: Literal["sequence_to_sequence"]
    """`supervised`, `classification`, `documents`, `sequence_to_sequence`; `dpo` learns pairs, `grpo` from rewards."""
    target_length: TargetLength = 256
    """Tokens of a row of answers, beside `data.max_length` tokens of prompts. A longer answer is refused, never cut."""
    beams: PositiveInt = 1
    """Beams of the answers for `label_f1`; 1 takes the likeliest token."""


class DpoSection(Section):
    """A language model learns to prefer one of two answers (direct preference optimisation, Rafailov et al. 2023)."""

    kind: Literal["dpo"]
    """`supervised`, `classification`, `documents`, `sequence_to_sequence`; `dpo` learns pairs, `grpo` from rewards."""
    loss_type: PairLossName = "sigmoid"
    """The loss of a pair, by its name in TRL; `robust` and `exo_pair` need `label_smoothing`."""
    beta: PositiveFloat = 0.1
    """How much a gain over the weights that the run starts from counts; small values let the model move far."""
    label_smoothing: Annotated[float, FINITE, Field(ge=0, lt=0.5)] = 0.0
    """The share of pairs that are taken to be the wrong way round."""
    length_normalised: Flag = False
    """Compare log-probabilities a token, not of whole answers, so that length is no advantage."""

    @property
    def compares(self) -> bool:
        """Whether the loss reads both answers, and what the weights that the run starts from say of them."""
        return self.loss_type != "sft"


class GrpoSection(Section):
    """A language model learns from rewards of answers that it samples itself (GRPO, Shao et al. 2024)."""

    kind: Literal["grpo"]
    """`supervised`, `classification`, `documents`, `sequence_to_sequence`; `dpo` learns pairs, `grpo` from rewards."""
    rewards: dict[str, RewardWeight]
    """Reward -> weight: `label`, `consistency`, `quotes`, `format`, `length:20-120`, `model:DIR`, `module:function`."""
    num_generations: Annotated[int, Field(strict=True, ge=2, le=1024)] = 8
    """Answers to each prompt; a reward counts against the others of its prompt."""
    temperature: PositiveFloat = 1.0
    """What the logits are divided by, where answers are sampled and where they are learnt."""
    loss_type: Literal["dapo", "bnpo", "dr_grpo", "grpo"] = "dapo"
    """What tokens weigh: `dapo` and `bnpo` the same, `grpo` each answer the same, `dr_grpo` by the longest possible."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """Whether a ratio of new to old probability is that of a token, or of an answer (GSPO)."""
    epsilon: PositiveFloat = 0.2
    """How far below 1 a ratio counts; and above, where `epsilon_high` is null."""
    epsilon_high: PositiveFloat | None = None
    """How far above 1 a ratio counts; DAPO has 0.28."""
    beta: Annotated[float, FINITE, Field(ge=0)] = 0.0
    """Weight of the divergence from the weights that the run starts from; 0 does not hold them."""
    use_bias_correction_kl: Flag = True
    """Weigh that divergence by the ratio of new to old probability."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divide rewards by their standard deviation among the answers to a prompt, in the batch, or not."""
    num_iterations: PositiveInt = 1
    """Updates that are made from the same answers."""
    mask_truncated_completions: Flag = False
    """Learn nothing from answers that reached `evaluation.max_new_tokens`."""


class AdapterSection(Section):
    """Trains small matrices beside frozen ones (LoRA, Hu et al. 2021), instead of the model; null trains the model."""

    kind: Literal["lora"] = "lora"
    """The kind of adapter; without this section the whole model is trained."""
    rank: Annotated[int, Field(strict=True, ge=1, le=4096)] = 16
    """Columns of the first small matrix and rows of the second."""
    alpha: PositiveFloat = 32.0
    """What their product is multiplied by, over `rank`."""
    dropout: Decay = 0.0
    """Share of the inputs of the first small matrix that a step drops."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("all-linear",)
    """Projections to adapt by their Hugging Face names, such as `q_proj`; `all-linear` takes those of all layers."""
    rank_pattern: dict[str, Annotated[int, Field(strict=True, ge=1, le=4096)]] = Field(default_factory=dict)
    """Projection -> its own rank."""
    alpha_pattern: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Projection -> its own alpha."""
    rslora: Flag = False
    """Divide alpha by the root of the rank (rsLoRA)."""
    dora: Flag = False
    """Learn the length of each column of the sum apart (DoRA)."""
    base_dtype: Literal["float32", "bfloat16", "int8", "int4"] = "bfloat16"
    """The dtype of the frozen weights; `int8` has a scale for each output, `int4` for each 64 inputs of it."""


ObjectiveSection = Annotated[
    SupervisedSection | ClassificationSection | DocumentsSection | SequenceSection | DpoSection | GrpoSection,
    Field(discriminator="kind"),
]


class OptimizerSection(Section):
    """The optimizer and its schedule."""

    name: Literal["adamw", "adafactor"] = "adamw"
    """`adafactor` keeps row and column sums for its second moment and no first one, as T5 is usually tuned."""
    learning_rate: PositiveFloat = 1e-5
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """From the peak to `final_fraction` of it after the warm-up."""
    warmup_fraction: Fraction = 0.04
    """Share of all updates with a linearly rising learning rate."""
    final_fraction: Fraction = 0.0
    """Learning rate of the last update as a share of the peak."""
    weight_decay: Annotated[float, FINITE, Field(ge=0)] = 0.0
    """Decoupled; on matrices and embeddings, never on norm scales and biases."""
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

    @model_validator(mode="after")
    def _means_something(self) -> "OptimizerSection":
        """Refuse values that Adafactor would not read."""
        fields = type(self).model_fields
        if self.name == "adafactor":
            for key in ("beta1", "beta2", "epsilon", "first_moment_dtype"):
                if getattr(self, key) != fields[key].default:
                    raise ValueError(f"{key} {getattr(self, key)} belongs to adamw; adafactor has no such value")
        return self


class TrainingSection(Section):
    """How long, how large, how reproducible."""

    run_dir: Place
    """Where everything of the run goes, a folder or gs://BUCKET/NAME; one run a directory."""
    seed: Seed = 0
    """The seed of initialisation, shuffling and sampling."""
    epochs: PositiveFloat | None = None
    """Passes over the training rows. Give this or `steps`."""
    steps: PositiveInt | None = None
    """Updates. Give this or `epochs`."""
    batch_size: PositiveInt = 256
    """The size of one update, in `batch_unit`."""
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
            raise ValueError("give exactly one of epochs and steps; the other one is null, as in training.epochs=null")
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
    patience: PositiveInt | None = None
    """Stop after so many evaluations in a row without a better `metric`; null trains to the end."""


class CheckpointSection(Section):
    """What is kept."""

    every_steps: PositiveInt = 100
    """Updates between checkpoints; the end of an epoch and of the run always make one."""
    keep_last: PositiveInt = 1
    """Newest checkpoints to keep; the best one is kept besides."""
