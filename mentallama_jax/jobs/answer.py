"""Answers questions about posts with a model: from what is asked to predictions, in a file or in memory."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import jax
from jax.sharding import Mesh

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
from mentallama_jax.generation import label_first
from mentallama_jax.generation.answers import answer_batches, score_batches
from mentallama_jax.generation.drafts import check_drafts
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.generation.placement import mesh_of_hosts, param_shardings
from mentallama_jax.generation.resumable import (
    MAY_DIFFER,
    params_fingerprint,
    records_fingerprint,
    write_predictions,
)
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.generation.votes import Votes
from mentallama_jax.imhi.data_files.posts import read_posts, records_of_text
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.mixture import choose_rows
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.prompting import Prompting
from mentallama_jax.imhi.prompts import IM_START, stop_ids
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.open_model import OpenedModel, is_run, open_model
from mentallama_jax.parallel.mesh import use_mesh
from mentallama_jax.parallel.processes import are_several, check_alike
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.run.checkpoints import Which
from mentallama_jax.training.run.opened_run import describe_run
from mentallama_jax.training.run.run_directory import versions

_MAX_LENGTH = 2048


class StoppedError(Exception):
    """Asked to stop, by the signal that the message names."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked.

    Attributes:
        records: one question about one post each, with unique ids.
        sources: where they were read from.
        problems: of rows that cannot be read and are left out, a line each.
        unlabelled: how many rows are left out because they have no label while others have one.
    """

    records: tuple[Record, ...]
    sources: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unlabelled: int = 0


def questions_in(
    sources: Sequence[str],
    *,
    task: str | None = None,
    aspect: str = "",
    datasets: Sequence[str] = ("all",),
    max_rows: int | None = None,
    seed: int = 0,
    repair_mojibake: bool = False,
) -> Questions:
    """The questions of files.

    Args:
        sources: files, folders, `sample`; SOURCE:test takes a split.
        task: the data set whose question is asked about posts that belong to none; None where rows name theirs.
        aspect: the one to ask about, with `task`; "" asks about every one.
        datasets: to take, or `all`.
        max_rows: of each data set at most, chosen by `seed`.
        seed: of that choice.
        repair_mojibake: undo UTF-8 that was read as MacRoman, where it round-trips.

    Raises:
        UserError: nothing there, an unknown data set or aspect, or no row that can be asked about.
    """
    if max_rows is not None and max_rows < 1:
        raise UserError(f"--max-rows {max_rows}: give a number from 1")
    if task:
        result = read_posts(sources, task, aspect=aspect, repair_mojibake=repair_mojibake)
    else:
        result = read_records(sources, repair_mojibake=repair_mojibake, need_labels=False)
    labelled = [record for record in result.records if record.label]
    unlabelled = len(result.records) - len(labelled) if labelled else 0
    records = choose_rows(labelled or result.records, datasets, max_rows, seed)
    return Questions(tuple(records), tuple(map(str, sources)), tuple(map(str, result.problems)), unlabelled)


def questions_about(post: str, task: str, *, aspect: str = "") -> Questions:
    """The question of a data set about one post; every aspect of it, or one.

    Raises:
        UserError: no such data set or aspect, or no text.
    """
    return Questions(tuple(records_of_text(post, task, aspect=aspect)))


@dataclass(frozen=True, slots=True)
class Manner:
    """How questions are put, and how the label of an answer is decided.

    Attributes:
        prompting: wording and few-shot examples, see `jobs.open_prompting`.
        label_first: make answers begin with a label sentence of their task.
        votes: of several samples of each row.
    """

    prompting: Prompting = field(default_factory=Prompting)
    label_first: bool = False
    votes: Votes = field(default_factory=Votes)

    def signature(self) -> dict[str, Any]:
        """What it adds to the signature of predictions: nothing where all is as without it."""
        said = dict(self.prompting.signature)
        if self.label_first:
            said["label_first"] = True
        if self.votes.count > 1:
            said["votes"] = asdict(self.votes)
        return said


PLAINLY = Manner()


@dataclass(frozen=True)
class Answerer:
    """A model that is ready to answer.

    Attributes:
        opened: where it comes from.
        engine: holds its weights.
        tokenizer: its own.
        style: how a record becomes a prompt.
        style_reason: why this one.
        max_length: tokens of prompt and answer together.
        dtype: of weights and activations.
        weights: fingerprint of the parameters.
        mesh: of devices that share the work; None for one device.
        int8: what is kept in int8 instead: none, some or all of `cache` and `weights`.
    """

    opened: OpenedModel
    engine: Engine
    tokenizer: Tokenizer
    style: Style
    style_reason: str
    max_length: int
    dtype: str
    weights: str
    mesh: Mesh | None = field(repr=False)
    int8: tuple[str, ...] = ()

    def answers(
        self,
        records: Sequence[Record],
        settings: Settings,
        *,
        score_labels: bool = False,
        manner: Manner = PLAINLY,
    ) -> Iterator[list[Prediction]]:
        """Answer records a batch at a time; iterate inside `on_mesh()`. See `generation.answers`."""
        answer: Callable[..., Iterator[list[Prediction]]] = score_batches
        if not score_labels:
            answer = partial(answer_batches, label_first=manner.label_first, votes=manner.votes)
        return answer(
            self.engine,
            self.tokenizer,
            records,
            style=self.style,
            max_length=self.max_length,
            settings=settings,
            prompting=manner.prompting,
        )

    def on_mesh(self) -> AbstractContextManager[Any]:
        """The context in which the model computes."""
        return use_mesh(self.mesh) if self.mesh else nullcontext()

    def signature(
        self, questions: Questions, settings: Settings, *, score_labels: bool, manner: Manner = PLAINLY
    ) -> dict[str, Any]:
        """All that decides the answers, as plain JSON values; versions and names besides."""
        if score_labels:
            answers: dict[str, Any] = {"mode": "score-labels", "chosen_by": "sum of log-probabilities"}
        else:
            seed = settings.seed if settings.sampling.temperature else None
            answers = {
                "mode": "generate",
                "max_new_tokens": settings.max_new_tokens,
                "end_ids": list(stop_ids(self.style, self.tokenizer)),
                "sampling": _sampling_signature(settings.sampling) | {"seed": seed},
            }
            if settings.stop_strings:
                answers["stop_strings"] = list(settings.stop_strings)
        model = self.opened.identity | {"weights": self.weights, "tokenizer": self.tokenizer.fingerprint}
        asked = {"dtype": self.dtype, "style": self.style, "max_length": self.max_length}
        if self.int8:  # only where it is so, and files of before can be continued
            asked["int8"] = list(self.int8)
        return model | asked | answers | manner.signature() | signature_of_questions(questions)


def signature_of_questions(questions: Questions) -> dict[str, Any]:
    """What was asked and by which versions, as plain JSON values: the end of the signature of every answerer."""
    records = questions.records
    return {
        "sources": list(questions.sources),
        "rows": len(records),
        "records": records_fingerprint(records),
        "gold": "labels as released" if any(record.label for record in records) else "none",
        "versions": versions(),
    }


def _sampling_signature(sampling: Sampling) -> dict[str, Any]:
    """Every setting; those that came later only where they are used, so that files of before can be continued."""
    later = {"min_p": 0.0, "repetition_penalty": 1.0}
    return {name: value for name, value in asdict(sampling).items() if name not in later or later[name] != value}


class AnyAnswerer(Protocol):
    """A model that is ready to answer, whatever its architecture."""

    @property
    def style(self) -> Style:
        """How a record becomes a prompt."""

    def answers(
        self,
        records: Sequence[Record],
        settings: Settings,
        *,
        score_labels: bool = False,
        manner: Manner = PLAINLY,
    ) -> Iterator[list[Prediction]]:
        """Answer records a batch at a time; iterate inside `on_mesh()`."""

    def on_mesh(self) -> AbstractContextManager[Any]:
        """Return the context in which the model computes."""

    def signature(
        self, questions: Questions, settings: Settings, *, score_labels: bool, manner: Manner = PLAINLY
    ) -> dict[str, Any]:
        """Return all that decides the answers, as plain JSON values; versions and names besides."""


def check_stops(
    model: str, style: Style | None, records: Sequence[Record], settings: Settings, manner: Manner = PLAINLY
) -> None:
    """Refuse, before a model is read, stop strings that would cut the labels with which its answers begin.

    Args:
        model: see `open_answerer`.
        style: as asked; None for the usual one.
        records: what is asked.
        settings: with the stop strings.
        manner: how questions are put.

    Raises:
        UserError: names the label sentence and the stop string.
    """
    if not (manner.label_first and settings.stop_strings):
        return
    if style is None and is_run(model):
        style = describe_run(model).config.data.style
    label_first.check_stops(records, style or "plain", settings.stop_strings)  # but for completion all word it alike


def open_answerer(
    model: str,
    *,
    revision: str | None = None,
    checkpoint: Which | None = None,
    adapter: str | Path | None = None,
    style: Style | None = None,
    max_length: int | None = None,
    dtype: str | None = None,
    mesh: Mesh | None = None,
    int8_cache: bool = False,
    int8_weights: bool = False,
    drafts: int | None = None,
) -> Answerer:
    """Read a model onto the devices, ready to answer.

    Args:
        model: see `jobs.open_model.open_model`; `revision`, `checkpoint` and `adapter` likewise.
        style: how a record becomes a prompt; by default as the run was trained, for other models as the tokenizer
            suggests.
        max_length: tokens of prompt and answer together; by default as trained, else 2,048; never more than the model
            has positions for.
        dtype: of weights and activations; by default float32 on CPU, bfloat16 elsewhere.
        mesh: of devices that share the work; by default one device, and of several processes
            `placement.mesh_of_hosts`.
        int8_cache: keep keys and values in int8.
        int8_weights: keep the weights of projections in int8.
        drafts: tokens that a step guesses, see `generation.drafts`; by default as `usual_drafts`.

    Raises:
        UserError: no such model, too many drafts, one that does not divide along the mesh, or too few positions.
    """
    check_drafts(drafts or 0)
    opened = open_model(model, revision=revision, checkpoint=checkpoint, adapter=adapter)
    if max_length and max_length > opened.config.max_positions:
        raise UserError(
            f"--max-length {max_length}: the model has {opened.config.max_positions} positions; give at most that"
        )
    dtype = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    tokenizer = opened.load_tokenizer()
    usual = (style, "as asked") if style else _usual_style(opened, tokenizer)
    trained = _MAX_LENGTH if opened.run is None else opened.run.data.max_length
    if mesh is None and are_several():
        mesh = mesh_of_hosts(opened.config, dtype)
    params = opened.load_params(dtype, param_shardings(opened.config, mesh=mesh) if mesh else None)
    weights = params_fingerprint(params)
    answerer = Answerer(
        opened,
        Engine(opened.config, dtype, int8_cache=int8_cache, int8_weights=int8_weights, drafts=drafts),
        tokenizer,
        *usual,
        min(max_length or trained, opened.config.max_positions),
        dtype,
        weights,
        mesh,
        tuple(name for name, asked in (("cache", int8_cache), ("weights", int8_weights)) if asked),
    )
    with answerer.on_mesh():
        answerer.engine.update(params, donate=True)
    return answerer


def _usual_style(opened: OpenedModel, tokenizer: Tokenizer) -> tuple[Style, str]:
    """How this model is prompted where nobody says it, and why."""
    if opened.run is not None:
        return opened.run.data.style, "as trained"
    try:
        tokenizer.special_id(IM_START)
    except UserError:
        if tokenizer.chat_template is None:
            return "plain", f"the tokenizer has no {IM_START}"
        return "chat", f"the tokenizer has no {IM_START}, but a chat template"
    return "chatml", f"the tokenizer has {IM_START}"


def answer(
    answerer: AnyAnswerer,
    questions: Questions,
    out: str | Path,
    settings: Settings | None = None,
    *,
    score_labels: bool = False,
    manner: Manner = PLAINLY,
    stop: StopRequest | None = None,
    on_start: Callable[[int], None] = lambda left: None,
    on_batch: Callable[[list[Prediction]], None] = lambda rows: None,
) -> list[Prediction]:
    """Answer questions into a predictions file, or go on with one that was stopped.

    Several processes answer together: all call this with the same arguments, each inside the same mesh, and the first
    writes the file. What a batch of answers is made of reaches all of them, so that all decide the same.

    Args:
        answerer: see `open_answerer` and `answer_sequences.open_sequence_answerer`.
        questions: see `questions_in`.
        out: ends in `.jsonl`.
        settings: see `Settings`.
        score_labels: choose the likeliest label sentence instead of generating.
        manner: how questions are put and labels decided.
        stop: ends the work of all processes behind a batch where one of them is asked to stop; None where a signal
            ends it.
        on_start: is told how many rows are left.
        on_batch: is told of each batch once it is on disk.

    Returns:
        All predictions in the order of the questions; of several processes the first alone has all of them.

    Raises:
        StoppedError: asked to stop; what is finished is in the file.
        UserError: a process has another model or other questions than the first; see also
            `generation.resumable.write_predictions` and `generation.answers`.
    """
    settings = settings or Settings()
    manner.prompting.check_style(answerer.style)

    def rest(left: list[Record]) -> Iterator[list[Prediction]]:
        on_start(len(left))
        for rows in answerer.answers(left, settings, score_labels=score_labels, manner=manner):
            yield rows
            if stop is not None and stop.agreed():
                raise StoppedError(stop.signal_name)

    signature = answerer.signature(questions, settings, score_labels=score_labels, manner=manner)
    check_alike("model or data", json.dumps([value for name, value in signature.items() if name not in MAY_DIFFER]))
    with answerer.on_mesh():
        return write_predictions(Path(out), questions.records, signature, rest, on_batch)
