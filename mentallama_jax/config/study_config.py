"""The config of a study: what is evaluated, and the systems that are its rows."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mentallama_jax.config.fields import (
    FINITE,
    Count,
    Flag,
    MicroBatch,
    Place,
    PlaceList,
    PositiveFloat,
    PositiveInt,
    RowLength,
    TextList,
)
from mentallama_jax.config.loading import validate
from mentallama_jax.config.sections import Section
from mentallama_jax.config.shipped import find_study, near_study
from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import shown
from mentallama_jax.strict_yaml import parse_yaml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_OF_ALL = "all"
"""Begins the names of steps that concern all systems."""
_AT_HOME = re.compile(r"https?://(?:localhost|127\.0\.0\.1|\[::1\])(?:[:/]|$)")
_Temperature = Annotated[float, FINITE, Field(ge=0, le=100)]
_Price = Annotated[float, FINITE, Field(ge=0)]


class StudySection(Section):
    """Where the study is kept, and how it is run."""

    out: Place
    """Folder of everything: runs, predictions, scores, the pages."""
    title: str = "Study"
    """Heading of the page."""
    jobs: PositiveInt = 1
    """Steps at the same time; `--jobs` changes it."""


class ScoringSection(Section):
    """What every system answers, and how its answers are scored."""

    data: PlaceList
    """The rows to answer, such as data/imhi:test."""
    datasets: TextList = ("all",)
    """Data sets to take: names, or `all`."""
    max_rows: PositiveInt | None = None
    """At most so many rows of each data set, the same for every system."""
    seed: Count = 0
    """Which rows `max_rows` takes."""
    metrics: TextList = ()
    """Metrics of explanations, by the names that `--metrics` of `mentallama evaluate` takes."""
    metric_options: TextList = ()
    """Further options of `mentallama evaluate` and `agree`, such as --bartscore-model MODEL."""
    held_out: TextList = ()
    """Data sets of the table of generalisation: tasks that some systems were not trained on."""
    calibrate: PlaceList = ()
    """Validation rows that temperatures are fitted on, where a system gives the probabilities of labels."""
    people: PlaceList = ()
    """Marks of people, as `mentallama agree` reads them."""
    tasks: PlaceList = ()
    """Task files of your own, whose data sets are known to every step."""


class AnswerSection(Section):
    """How models of this machine write answers; a row may say otherwise."""

    max_new_tokens: PositiveInt = 256
    """Longest answer in tokens."""
    max_length: RowLength | None = None
    """Tokens of prompt and answer together; longer posts lose their end."""
    batch_size: MicroBatch = 16
    """Rows answered at once."""


class _Row(Section):
    """What every row may say."""

    title: str = ""
    """What the tables call it; by default its name."""
    devices: dict[str, str] = Field(default_factory=dict)
    """Variables of its steps' environment, such as CUDA_VISIBLE_DEVICES. Steps of equal devices wait for each other."""
    launcher: str = ""
    """Words before its steps' shell command, such as `ssh -tt HOST`; the folder must be shared with that host."""
    topology: str = ""
    """The chips that `--dry-run` plans its training or answers for, such as v5e-64."""


class PairsSection(Section):
    """Pairs of answers for preference tuning, made of sampled answers to training posts."""

    data: PlaceList
    """The training rows to answer."""
    datasets: TextList = ("all",)
    """Data sets to take."""
    max_rows: PositiveInt | None = None
    """At most so many rows of each data set."""
    temperature: _Temperature = 1.0
    """How freely answers are sampled."""
    max_new_tokens: PositiveInt | None = None
    """Longest sample; by default as `answers` says."""
    kinds: TextList = ()
    """Faults to take, by the names that the command `data pairs` gives them; by default all."""
    seed: Count = 0
    """Decides the samples."""


class TrainRow(_Row):
    """A model that is tuned; a row of kind `generate` answers with it."""

    kind: Literal["train"]
    """`train`, `generate`, `classifier`, `baseline`, `transfer`, `endpoint` or `predictions`."""
    config: Place
    """The recipe: a YAML file or the name of a shipped one."""
    overrides: TextList = ()
    """Changes to it, such as training.steps=20."""
    source: str = ""
    """The row of kind `train` that it starts from, for DPO and GRPO; by default the model of the config."""
    options: TextList = ()
    """Further options of `mentallama train`, such as --distributed on several hosts."""
    pairs: PairsSection | None = None
    """What its pairs are made of, where it learns pairs; the model of `source` is sampled."""


class GenerateRow(_Row):
    """Answers of a model of this machine."""

    kind: Literal["generate"]
    """See the row of kind `train`."""
    run: str = ""
    """The row of kind `train` whose model answers."""
    model: Place = ""
    """Another model: a folder, hub id, .gguf file or run directory. Give `run` or `model`."""
    adapter: Place = ""
    """A PEFT adapter to merge into it."""
    style: Literal["", "plain", "completion", "llama2-chat", "chatml", "chat"] = ""
    """How a row becomes a prompt; by default as the run was trained, or as the model wants it."""
    prompt: Place = ""
    """`zero-shot`, or a YAML file that words the question; by default the benchmark's instruction."""
    shots: PositiveInt | None = None
    """Few-shot examples of each label."""
    shots_from: PlaceList = ()
    """Where they come from."""
    shots_choice: Literal["", "balanced", "random", "nearest"] = ""
    """Which ones."""
    shots_seed: Count | None = None
    """Decides their draw."""
    label_first: Flag = False
    """Make answers begin with a label sentence."""
    score_labels: Flag = False
    """Choose the likeliest label sentence; nothing is written."""
    votes: PositiveInt = 1
    """Samples of each row that vote; needs a temperature."""
    temperature: _Temperature = 0.0
    """0 takes the likeliest token."""
    beams: PositiveInt = 1
    """Beam search with so many beams, for BART and T5."""
    mesh: TextList = ()
    """Devices that share the model and the rows, such as tensor=8."""
    dtype: Literal["", "float32", "bfloat16"] = ""
    """The dtype of weights and activations."""
    max_new_tokens: PositiveInt | None = None
    """By default as `answers` says."""
    max_length: RowLength | None = None
    """Likewise."""
    batch_size: MicroBatch | None = None
    """Likewise."""
    trained_on: TextList | None = None
    """Data sets that it was trained on: [] for none; by default those of `run`, else not known."""
    options: TextList = ()
    """Further options of `mentallama generate`."""

    @model_validator(mode="after")
    def _one_model(self) -> "GenerateRow":
        if bool(self.run) == bool(self.model):
            raise ValueError("run and model: give one of them, a row of kind train or a model")
        return self


class ClassifierRow(_Row):
    """An encoder that reads labels."""

    kind: Literal["classifier"]
    """See the row of kind `train`."""
    config: Place
    """The recipe, with objective.kind classification."""
    overrides: TextList = ()
    """Changes to it."""
    one_each: Flag = True
    """One classifier for each data set, as in the paper; false tunes one over all."""
    options: TextList = ()
    """Further options of `mentallama train`."""


class BaselineRow(_Row):
    """A floor."""

    kind: Literal["baseline"]
    """See the row of kind `train`."""
    floor: Literal["tfidf", "majority"]
    """Which one."""
    train: PlaceList
    """Rows to learn from."""
    validation: PlaceList = ()
    """Rows that choose the strength of regularisation, for tfidf."""
    options: TextList = ()
    """Further options of `mentallama baseline`."""


class TransferRow(_Row):
    """A model trained on each data set and tested on all; it has a table of its own."""

    kind: Literal["transfer"]
    """See the row of kind `train`."""
    config: Place
    """The recipe."""
    overrides: TextList = ()
    """Changes to it."""
    datasets: TextList
    """Data sets to train on and to test on."""
    together: Flag = False
    """Also train one model on all of them."""
    score_labels: Flag = False
    """Choose the likeliest label sentence instead of generating."""
    mesh: TextList = ()
    """Devices that share the answers, such as tensor=4."""


class EndpointRow(_Row):
    """Answers of a model behind an OpenAI-compatible endpoint."""

    kind: Literal["endpoint"]
    """See the row of kind `train`."""
    model: str
    """As the endpoint calls it."""
    endpoint: str
    """Its address up to /v1."""
    send_posts: Flag = False
    """Posts may leave this machine. Without it the row is not run, but for an address of this machine."""
    max_cost: PositiveFloat | None = None
    """Dollars after which asking stops; must be given where posts leave this machine."""
    prices: Place = ""
    """YAML file with the prices of models."""
    price_in: _Price | None = None
    """Dollars for a million tokens of questions, instead of `prices`."""
    price_out: _Price | None = None
    """Dollars for a million tokens of answers."""
    prompt: Place = ""
    """As in a row of kind `generate`."""
    shots: PositiveInt | None = None
    """Likewise."""
    shots_from: PlaceList = ()
    """Likewise."""
    max_new_tokens: PositiveInt | None = None
    """Likewise."""
    trained_on: TextList | None = None
    """Data sets that it was trained on, for the table of generalisation: [] for none; else not known."""
    options: TextList = ()
    """Further options of `mentallama ask`."""

    @property
    def at_home(self) -> bool:
        """Whether it is an address of this machine, which posts do not leave then."""
        return bool(_AT_HOME.match(self.endpoint))

    @model_validator(mode="after")
    def _limited(self) -> "EndpointRow":
        if self.at_home or not self.send_posts:
            return self
        priced = bool(self.prices) or None not in (self.price_in, self.price_out)
        if self.max_cost is None or not priced:
            raise ValueError(
                "max_cost: give the dollars to stop at, and prices, or price_in and price_out (0 and 0 for a server of "
                "your own)"
            )
        return self


class PredictionsRow(_Row):
    """Answers that another program made."""

    kind: Literal["predictions"]
    """See the row of kind `train`."""
    file: Place
    """What `mentallama evaluate` reads."""
    columns: str = ""
    """Which column is for what, as `--columns` of `mentallama evaluate` takes it."""
    dataset: str = ""
    """The data set of all rows, where the file does not say it."""
    gold: Place = ""
    """Records that gold comes from."""
    trained_on: TextList | None = None
    """Data sets that it was trained on, for the table of generalisation: [] for none; else not known."""


StudyRow = TrainRow | GenerateRow | ClassifierRow | BaselineRow | TransferRow | EndpointRow | PredictionsRow
ROW_KINDS: Mapping[str, type[Section]] = {
    "train": TrainRow,
    "generate": GenerateRow,
    "classifier": ClassifierRow,
    "baseline": BaselineRow,
    "transfer": TransferRow,
    "endpoint": EndpointRow,
    "predictions": PredictionsRow,
}


class _StudyHead(Section):
    """The sections of a study but its rows."""

    study: StudySection
    evaluation: ScoringSection
    answers: AnswerSection = Field(default_factory=AnswerSection)


class StudyConfig(_StudyHead):
    """Everything that decides a study."""

    rows: dict[str, Any]


def load_study(path: str | Path, out: str | Path | None = None) -> StudyConfig:
    """Read a study from YAML, or a shipped one by its name; `out` replaces its `study.out`.

    Raises:
        UserError: unreadable file, invalid YAML, an unknown key, a bad value, or rows that do not go together.
    """
    found = find_study(path)
    if not found.exists():
        raise UserError(f"{path}: no such study; {near_study(Path(path))}")
    values = parse_yaml(regular_file(found).read_bytes(), found)
    if out is not None and isinstance(values, dict) and isinstance(values.get("study"), dict):
        values["study"]["out"] = str(out)
    return parse_study(values, str(path))


def parse_study(values: Any, origin: str) -> StudyConfig:
    """Check plain values; `origin` names them in errors.

    Raises:
        UserError: as `load_study`.
    """
    if not isinstance(values, dict) or not isinstance(values.get("rows"), dict) or not values["rows"]:
        there = ", ".join(map(str, values)) if isinstance(values, dict) and values else "nothing"
        raise UserError(
            f"{origin}: expected the sections study, evaluation and rows, with a row at least; found {there}"
        )
    head = validate(_StudyHead, {key: value for key, value in values.items() if key != "rows"}, origin)
    rows = {name: _row(name, row, origin) for name, row in values["rows"].items()}
    _check_places(head, origin)
    _check_references(rows, origin)
    return StudyConfig(**{key: getattr(head, key) for key in _StudyHead.model_fields}, rows=rows)


def _row(name: Any, values: Any, origin: str) -> Section:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == _OF_ALL:
        raise UserError(
            f"{origin}: row {shown(name)}: a name has letters, digits, _ and - only, and is not `{_OF_ALL}`"
        )
    place = f"{origin}, rows.{name}"
    if not isinstance(values, dict) or values.get("kind") not in ROW_KINDS:
        raise UserError(f"{place}: kind: give one of {', '.join(ROW_KINDS)}")
    return validate(ROW_KINDS[values["kind"]], values, place)


def _check_places(head: _StudyHead, origin: str) -> None:
    if any(letter in head.study.out for letter in ",=") or "://" in head.study.out:
        raise UserError(f"{origin}: study.out: name a folder of this machine, without commas and =")


def _check_references(rows: Mapping[str, Any], origin: str) -> None:
    """Refuse rows that name rows that are not there, or each other in a circle."""
    for name, row in rows.items():
        key = "source" if isinstance(row, TrainRow) else "run" if isinstance(row, GenerateRow) else ""
        wanted = getattr(row, key) if key else ""
        if wanted and not isinstance(rows.get(wanted), TrainRow):
            there = ", ".join(other for other, each in rows.items() if isinstance(each, TrainRow)) or "none"
            raise UserError(f"{origin}, rows.{name}: {key} {shown(wanted)}: no row of kind train (there are: {there})")
        if isinstance(row, TrainRow) and row.pairs and not row.source:
            raise UserError(f"{origin}, rows.{name}: pairs need source, the row whose model is sampled")
        seen = {name}
        while isinstance(row, TrainRow) and row.source:
            if row.source in seen:
                raise UserError(f"{origin}, rows.{name}: source leads in a circle")
            seen.add(row.source)
            row = rows[row.source]
