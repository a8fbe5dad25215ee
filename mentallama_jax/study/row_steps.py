"""The steps of each kind of row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mentallama_jax.config import ClassificationSection, RunConfig, load_config
from mentallama_jax.config.idle_keys import IDLE_KEYS, is_among
from mentallama_jax.config.sections import Section
from mentallama_jax.config.study_config import (
    BaselineRow,
    ClassifierRow,
    EndpointRow,
    GenerateRow,
    PairsSection,
    PredictionsRow,
    StudyConfig,
    StudyRow,
    TrainRow,
    TransferRow,
)
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.mixture import ALL
from mentallama_jax.imhi.tasks import TASKS, task_named
from mentallama_jax.study.gathered_predictions import gather
from mentallama_jax.study.study_steps import StudyFolder, StudyStep

_CLI = "mentallama_jax.cli"
_IDLE_OPTIONS = ("--batch-size", "--mesh")
"""Options of answering that change how fast it is."""


def row_steps(name: str, row: StudyRow, study: StudyConfig, folder: StudyFolder) -> Iterator[StudyStep]:
    """The steps of a row up to its predictions; each is named after it."""
    for step in _STEPS[type(row)](name, row, study, folder):
        yield replace(step, environment=dict(row.devices), launcher=row.launcher)


def _train(name: str, row: TrainRow, study: StudyConfig, folder: StudyFolder) -> Iterator[StudyStep]:
    overrides = list(row.overrides)
    makers: dict[str, str] = {}  # place that another step makes -> that step
    if row.source:
        source = str(folder.run(row.source))
        overrides.append(f"model.source={source}")
        makers[source] = f"{row.source}.train"
    if row.pairs:
        yield from _pairs(name, row.source, row.pairs, study, folder)
        pairs = str(folder.of_row(name, "pairs.jsonl"))
        overrides.append(f"data.train=[{pairs}]")
        makers[pairs] = f"{name}.pairs"
    step = train_step(f"{name}.train", name, row, overrides, folder.run(name), study)
    found = tuple(place for place in step.reads if place not in makers)
    yield replace(step, after=tuple(makers.values()), reads=found)


def train_step(
    step: str,
    name: str,
    row: TrainRow | ClassifierRow,
    overrides: Sequence[str],
    run: Path,
    study: StudyConfig,
) -> StudyStep:
    """The step that tunes by a config; its outputs are checkpoints and what a model is opened with."""
    changes = [*overrides, f"training.run_dir={run}"]
    loaded = load_config(row.config, changes)
    classifies = isinstance(loaded.objective, ClassificationSection)
    outputs = [run / "checkpoints", run / "tokenizer", run / "model_config.json"]
    if classifies:
        outputs = [run / "classifier", *(run / part / "predictions.jsonl" for part in _parts(loaded))]
    return StudyStep(
        name=step,
        row=name,
        words=("train", row.config, *changes, *row.options, *tasks_words(study)),
        outputs=tuple(outputs),
        leftovers=(run,),
        entry=f"{_CLI}.train_command",
        reads=(*read_places(loaded), *row.options),
        settings=recipe(loaded),
        idle_words=tuple(word for word in row.overrides if is_among(word.partition("=")[0], IDLE_KEYS)),
        heavy=True,
    )


def _parts(config: RunConfig) -> list[str]:
    """The parts of the data of which a classifier's run holds predictions."""
    assert isinstance(config.objective, ClassificationSection)
    return ["test", *(["validation"] if config.data.validation else [])] if config.objective.test else []


def recipe(config: RunConfig) -> dict[str, Any]:
    """All keys of a run that decide its result."""
    return {
        section: {key: value for key, value in keys.items() if not is_among(f"{section}.{key}", IDLE_KEYS)}
        if isinstance(keys, dict)
        else keys
        for section, keys in config.model_dump(mode="json").items()
        if not is_among(section, IDLE_KEYS)
    }


def read_places(config: RunConfig) -> list[str]:
    """What a run reads: models, data, task files."""
    values = config.model_dump(mode="json")
    found: list[str] = []
    for section, keys in PLACES_READ.items():
        for key in keys:
            value = (values.get(section) or {}).get(key)
            found += [value] if isinstance(value, str) else list(value or ())
    return list(dict.fromkeys(found))


PLACES_READ: Mapping[str, Sequence[str]] = {
    "model": ("source", "tokenizer"),
    "data": ("train", "validation", "tasks", "drop_posts_in"),
    "objective": ("test", "instructions"),
}
"""Keys of a run that name what it reads."""


def _pairs(name: str, source: str, pairs: PairsSection, study: StudyConfig, folder: StudyFolder) -> Iterator[StudyStep]:
    sampled, made = folder.of_row(name, "sampled.jsonl"), folder.of_row(name, "pairs.jsonl")
    words = ["generate", str(folder.run(source)), "--data", *pairs.data, "--datasets", *pairs.datasets]
    words += options_of(pairs, "max_rows")
    words += ["--temperature", f"{pairs.temperature:g}", "--seed", str(pairs.seed)]
    words += answer_words(study, max_new_tokens=pairs.max_new_tokens)
    yield StudyStep(
        name=f"{name}.sample",
        row=name,
        words=(*words, *tasks_words(study), "--out", str(sampled)),
        outputs=(sampled,),
        leftovers=(sampled, sampled.with_suffix(".meta.json")),
        entry=f"{_CLI}.generate_command",
        idle_options=_IDLE_OPTIONS,
        after=(f"{source}.train",),
        reads=pairs.data,
        heavy=True,
    )
    read = [*data_words(pairs.data), *options_of(pairs, "kinds")]
    yield StudyStep(
        name=f"{name}.pairs",
        row=name,
        words=("data", "pairs", str(sampled), *read, *tasks_words(study), "--out", str(made)),
        outputs=(made,),
        leftovers=(made,),
        entry=f"{_CLI}.data_pairs",
        after=(f"{name}.sample",),
        reads=pairs.data,
        resumable=False,
    )


def _generate(name: str, row: GenerateRow, study: StudyConfig, folder: StudyFolder) -> Iterator[StudyStep]:
    words = ["generate", str(folder.run(row.run)) if row.run else row.model]
    asked = options_of(row, "adapter", "style", "prompt", "shots", "shots_choice", "shots_seed", "beams", "dtype")
    asked += options_of(row, "shots_from", "mesh", "label_first", "score_labels", "votes")
    asked += ["--temperature", f"{row.temperature:g}"] if row.temperature else []
    asked += answer_words(study, row.max_new_tokens, row.max_length, row.batch_size)
    asked += [*row.options, *tasks_words(study)]
    after = (f"{row.run}.train",) if row.run else ()
    reads = tuple(filter(None, (row.model, row.adapter, row.prompt, *row.shots_from, *row.options)))
    for what, data, out in _asked(name, study, folder, gives_probabilities=row.score_labels or row.votes > 1):
        yield StudyStep(
            name=f"{name}.{what}",
            row=name,
            words=(*words, *asked_words(study, data), *asked, "--out", str(out)),
            outputs=(out, out.with_suffix(".meta.json")),
            leftovers=(out, out.with_suffix(".meta.json")),
            entry=f"{_CLI}.generate_command",
            idle_options=_IDLE_OPTIONS,
            after=after,
            reads=(*reads, *data),
            heavy=True,
        )


def _asked(
    name: str, study: StudyConfig, folder: StudyFolder, *, gives_probabilities: bool
) -> Iterator[tuple[str, Sequence[str], Path]]:
    """What is answered: the rows of the study, and validation rows where a temperature is fitted."""
    yield "answer", study.evaluation.data, folder.predictions(name)
    if gives_probabilities and study.evaluation.calibrate:
        yield "answer-validation", study.evaluation.calibrate, folder.of_row(name, "validation.jsonl")


def options_of(section: Section, *keys: str) -> list[str]:
    """The options of keys that say something else than their default: a flag alone, a list word by word."""
    words = []
    for key in keys:
        value, default = getattr(section, key), type(section).model_fields[key].default
        if value != default:
            words.append(f"--{key.replace('_', '-')}")
            words += value if isinstance(value, tuple) else () if value is True else (str(value),)
    return words


def data_words(places: Sequence[str]) -> list[str]:
    """The words of a command that takes `--data` once for each place."""
    return [word for place in places for word in ("--data", place)]


def answer_words(
    study: StudyConfig,
    max_new_tokens: int | None = None,
    max_length: int | None = None,
    batch_size: int | None = None,
) -> list[str]:
    """How long answers are, and how many rows are answered at once."""
    length = max_length or study.answers.max_length
    return [
        *("--max-new-tokens", str(max_new_tokens or study.answers.max_new_tokens)),
        *(("--max-length", str(length)) if length else ()),
        *("--batch-size", str(batch_size or study.answers.batch_size)),
    ]


def asked_words(study: StudyConfig, data: Sequence[str]) -> list[str]:
    """Which rows are answered."""
    asked = study.evaluation
    return ["--data", *data, "--datasets", *asked.datasets, *_drawn_words(study)]


def _drawn_words(study: StudyConfig) -> list[str]:
    """How many rows of each data set, and which."""
    asked = study.evaluation
    return ["--max-rows", str(asked.max_rows), "--seed", str(asked.seed)] if asked.max_rows else []


def tasks_words(study: StudyConfig) -> list[str]:
    """The tasks of one's own that every command knows."""
    return ["--tasks", *study.evaluation.tasks] if study.evaluation.tasks else []


def _classifier(name: str, row: ClassifierRow, study: StudyConfig, folder: StudyFolder) -> Iterator[StudyStep]:
    config = load_config(row.config, row.overrides)
    if not isinstance(config.objective, ClassificationSection) or not config.objective.test:
        raise UserError(f"rows.{name}: config {row.config}: needs objective.kind classification and objective.test")
    runs = {"": folder.run(name)}
    if row.one_each and ALL in study.evaluation.datasets:
        raise UserError(
            f"rows.{name}: one classifier for each data set: name those that are there in evaluation.datasets, "
            "instead of all, or set one_each: false"
        )
    if row.one_each:
        runs = {each: folder.of_row(name, each) for each in asked_datasets(study)}
    names = []
    for dataset, run in runs.items():
        own = [f"data.datasets=[{dataset}]"] if dataset else []
        step = train_step(
            f"{name}.train{'-' if dataset else ''}{dataset}", name, row, [*row.overrides, *own], run, study
        )
        names.append(step.name)
        yield step
    parts = [("gather", "test", study.evaluation.data, folder.predictions(name))]
    if study.evaluation.calibrate and config.data.validation:
        out = folder.of_row(name, "validation.jsonl")
        parts.append(("gather-validation", "validation", study.evaluation.calibrate, out))
    for what, part, data, out in parts:
        files = [run / part / "predictions.jsonl" for run in runs.values()]
        yield StudyStep(
            name=f"{name}.{what}",
            row=name,
            words=(),
            outputs=(out, out.with_suffix(".meta.json")),
            leftovers=(out, out.with_suffix(".meta.json")),
            entry="mentallama_jax.study.gathered_predictions",
            after=tuple(names),
            reads=tuple(data),
            settings={"part": part, "asked": study.evaluation.model_dump(mode="json", include=_ASKED)},
            resumable=False,
            work=partial(gather, files, out, data, study.evaluation),
        )


_ASKED = {"datasets", "max_rows", "seed"}


def asked_datasets(study: StudyConfig) -> tuple[str, ...]:
    """The data sets of the study by name."""
    return named_datasets(study.evaluation.datasets)


def named_datasets(names: Sequence[str]) -> tuple[str, ...]:
    """Data sets as a config lists them, by their own names; `all` stands for all of them."""
    return tuple(TASKS) if ALL in names else tuple(task_named(name).name for name in names)


def _baseline(name: str, row: BaselineRow, study: StudyConfig, folder: StudyFolder) -> Iterator[StudyStep]:
    learnt = ["baseline", row.floor, "--train", *row.train, *options_of(row, "validation")]
    for what, data, out in _asked(name, study, folder, gives_probabilities=True):
        asked = [*asked_words(study, data), *row.options, *tasks_words(study)]
        yield StudyStep(
            name=f"{name}.{what}",
            row=name,
            words=(*learnt, *asked, "--out", str(out)),
            outputs=(out, out.with_suffix(".meta.json")),
            leftovers=(out, out.with_suffix(".meta.json")),
            entry=f"{_CLI}.baseline_command",
            reads=(*row.train, *row.validation, *row.options, *data),
        )


def _transfer(name: str, row: TransferRow, study: StudyConfig, folder: StudyFolder) -> Iterator[StudyStep]:
    out = folder.of_row(name, "transfer")
    data = study.evaluation.data
    words = ["transfer", row.config, *row.overrides, "--datasets", *row.datasets, "--data", *data]
    words += [*_drawn_words(study), *options_of(row, "together", "score_labels", "mesh")]
    words += ["--max-new-tokens", str(study.answers.max_new_tokens), "--batch-size", str(study.answers.batch_size)]
    loaded = load_config(row.config, row.overrides)
    yield StudyStep(
        name=f"{name}.transfer",
        row=name,
        words=(*words, *tasks_words(study), "--out", str(out)),
        outputs=(out / "transfer.json", out / "predictions"),
        leftovers=(out,),
        entry=f"{_CLI}.transfer_command",
        idle_words=tuple(word for word in row.overrides if is_among(word.partition("=")[0], IDLE_KEYS)),
        idle_options=_IDLE_OPTIONS,
        reads=(*read_places(loaded), *data),
        settings=recipe(loaded),
        heavy=True,
    )


def _endpoint(name: str, row: EndpointRow, study: StudyConfig, folder: StudyFolder) -> Iterator[StudyStep]:
    out = folder.predictions(name)
    words = ["ask", row.model, "--endpoint", row.endpoint, *asked_words(study, study.evaluation.data)]
    words += options_of(row, "max_cost", "prices", "price_in", "price_out", "prompt", "shots")
    words += options_of(row, "shots_from", "send_posts")
    words += ["--max-new-tokens", str(row.max_new_tokens or study.answers.max_new_tokens)]
    kept = out.with_suffix(".answers.jsonl")
    yield StudyStep(
        name=f"{name}.answer",
        row=name,
        words=(*words, *row.options, *tasks_words(study), "--kept-answers", str(kept), "--out", str(out)),
        outputs=(out, out.with_suffix(".meta.json")),
        # Kept answers stay: they are paid for, and each is known by all that was sent.
        leftovers=(out, out.with_suffix(".meta.json")),
        entry=f"{_CLI}.ask_command",
        reads=tuple(filter(None, (row.prompt, *row.shots_from, *row.options, *study.evaluation.data))),
        refused="" if row.send_posts or row.at_home else "send_posts is false, so that no post leaves this machine",
    )


def _predictions(name: str, row: PredictionsRow, study: StudyConfig, folder: StudyFolder) -> Iterator[StudyStep]:
    """A file that is there needs no step."""
    yield from ()


_STEPS: Mapping[type, Any] = {
    TrainRow: _train,
    GenerateRow: _generate,
    ClassifierRow: _classifier,
    BaselineRow: _baseline,
    TransferRow: _transfer,
    EndpointRow: _endpoint,
    PredictionsRow: _predictions,
}
