"""A training run from config to checkpoints: `train` reads from top to bottom."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import jax
from jax.sharding import Mesh
from rich.table import Table

from mentallama_jax.config import (
    ClassificationSection,
    DocumentsSection,
    DpoSection,
    GrpoSection,
    RunConfig,
    SequenceSection,
    SupervisedSection,
)
from mentallama_jax.errors import UserError
from mentallama_jax.files import write_json
from mentallama_jax.host_memory import keep_freed_memory
from mentallama_jax.models.adapters import adapted_config, is_adapter
from mentallama_jax.models.module import Params, abstract_params, count_params, split_params
from mentallama_jax.models.registry import TrainedConfig
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.parallel.processes import barrier, check_alike, writes_files
from mentallama_jax.storage import AnyPath
from mentallama_jax.terminal import Console
from mentallama_jax.training.data.batches import Batch, TrainingData
from mentallama_jax.training.data.classified import TextTokenizer
from mentallama_jax.training.data.examples import Examples, load_examples
from mentallama_jax.training.data.packing import PlanSettings
from mentallama_jax.training.data.rollouts import PolicyData
from mentallama_jax.training.data.tokens import FingerprintedTokenizer
from mentallama_jax.training.early_stopping import EarlyStopping
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.mesh_placement import abstract_state, check_batch, held_part, held_rows, place_batch
from mentallama_jax.training.objectives.objective import Objective
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.objectives.policy import Policy
from mentallama_jax.training.objectives.preference import Preference
from mentallama_jax.training.policy_watch import AnswerLogProbabilities, PolicyTools, PolicyWatch, StartWeights
from mentallama_jax.training.preflight import (
    check_answers_fit,
    check_disk,
    check_memory,
    estimate_memory,
    tree_numbers,
    warn_of_cut_prompts,
)
from mentallama_jax.training.progress import Speed, TrainingProgress
from mentallama_jax.training.reference_answers import with_reference
from mentallama_jax.training.run.checkpoints import Checkpoints
from mentallama_jax.training.run.disk import naming
from mentallama_jax.training.run.figure_trackers import FigureSender
from mentallama_jax.training.run.loss_picture import draw_loss_curve
from mentallama_jax.training.run.manifest import Checkpoint
from mentallama_jax.training.run.metrics import MetricsLog, read_metrics
from mentallama_jax.training.run.run_directory import RunDirectory, SavableTokenizer
from mentallama_jax.training.step import Metrics, TrainState, init_state, make_train_step, model_params
from mentallama_jax.training.validation import (
    Evaluator,
    LabelF1,
    before_and_after,
    clocks,
    make_evaluators,
    measure_all,
    words_on_idling,
)

RunData = TrainingData | PolicyData
"""Where the batches of a run come from: examples that are planned, or answers that are sampled."""


class TrainingTokenizer(FingerprintedTokenizer, SavableTokenizer, Protocol):
    """What training asks of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """One above the largest id."""


class EncodingTokenizer(TextTokenizer, SavableTokenizer, Protocol):
    """What training an encoder asks of a tokenizer."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What training starts from: a shape, a tokenizer, and a way to read the weights (None: random ones).

    The weights are read onto the shardings handed over, a tree like the parameters. `fingerprint` tells which ones they
    are, wherever they lie; it is None where there are none to be read.
    """

    config: TrainedConfig
    tokenizer: TrainingTokenizer | EncodingTokenizer
    load_params: Callable[[Any], Params] | None
    fingerprint: Callable[[], str] | None = None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended.

    Attributes:
        run_dir: the run directory.
        steps: updates done.
        total_steps: updates of the whole run.
        stopped_by: the signal that stopped it early, or "".
        best: the best checkpoint; None where nothing was evaluated.
        step_compiles: how often the training step was compiled (1, and one more for each further row length).
    """

    run_dir: AnyPath
    steps: int
    total_steps: int
    stopped_by: str
    best: Checkpoint | None
    step_compiles: int


def train(
    config: RunConfig,
    base: BaseModel,
    label_f1: LabelF1 | None = None,
    console: Console | None = None,
    stop: StopRequest | None = None,
    *,
    extend: bool = False,
    policy: PolicyTools | None = None,
) -> TrainResult:
    """Train, or resume the run in `config.training.run_dir`, until the end or until asked to stop.

    Args:
        config: the run.
        base: what it starts from.
        label_f1: measures `label_f1`; needed where `evaluation.generate_rows` is above 0.
        console: where to show things; standard error by default.
        stop: listens to signals already; by default it begins to listen here.
        policy: samples and rewards answers; needed where the objective is `grpo`.
        extend: whether a run may be made longer than it was started, see `run.extension`.

    Raises:
        UserError: anything that the user can mend, before the first update where that can be known; a loss that is
            not finite; a full disk. The run can then be resumed from its last checkpoint.
    """
    _check_processes(config)
    console = console or Console(stderr=True, quiet=not writes_files())
    run = RunDirectory(config.training.run_dir, extend=extend)
    with _explained(config, run), run.locked(console.print), ExitStack() as stack:
        if stop is None:
            stop = stack.enter_context(StopRequest())
        stop.where = "once this part of the start is done"
        check_alike("config", _shared(config))
        progress = stack.enter_context(TrainingProgress(run.log if writes_files() else Path(os.devnull), console))
        mesh = make_mesh(config.mesh)
        stack.enter_context(use_mesh(mesh))
        _check_model(config, base)
        check_batch(base.config, config, mesh)
        use_compile_cache(config.training.compile_cache_dir)
        if jax.default_backend() == "cpu":
            keep_freed_memory()
        examples = load_examples(config, base.tokenizer, progress.say)
        check_alike("data or tokenizer", json.dumps(examples.facts["fingerprints"]))
        objective = _objective(config, base, examples)
        if isinstance(objective, Preference) and objective.compares:
            examples = _with_reference(objective, config, base, examples, mesh)
        sampling = None
        if isinstance(objective, Policy):
            assert policy is not None
            warn_of_cut_prompts(config, examples.train, progress.say)
            sampling = _Sampling(objective, config, base, examples, mesh, policy)
        data = _plan(config, run, examples, mesh) if sampling is None else sampling.data
        _warn_of_padding(config, data, progress.say)
        state_shapes = abstract_state(objective, config, data.steps, mesh)
        checkpoints = stack.enter_context(Checkpoints(run.checkpoints, config))
        _check_resources(config, base, data, state_shapes, checkpoints, run, progress.say)
        if writes_files():
            run.prepare(config, base.config, examples.facts, base.tokenizer, progress.say, base.fingerprint)
        barrier("run directory")
        run.check_shared()
        console.print(_summary(config, base, examples, data, run, mesh))

        if stop.agreed():
            return _not_begun(run, checkpoints, data, stop, progress.say)
        restored = checkpoints.restore(state_shapes, progress.say, data.steps)
        if restored is not None:
            checkpoint, state = restored
            start, scored = checkpoint.step, bool(checkpoint.scores)
            first = _first_of_adapter(objective, config, base, data, state_shapes)
            state = state | {"frozen": first["frozen"]}
            place = checkpoint.data_state or data.state(start)
            progress.say(f"resuming after update {start} of {data.steps}")
        else:
            start, scored, place = 0, False, data.state(0)
            first = state = _first_state(objective, config, base, data.steps, state_shapes)

        stop.where = "after this update"
        sender = stack.enter_context(FigureSender(run.path.name, config, run.trackers, progress.say))
        metrics = stack.enter_context(
            MetricsLog(run.metrics, run.tensorboard, start, evaluated=scored, also=sender.send)
        )
        train_step = make_train_step(objective, config, data.steps, _shardings(state_shapes))
        if sampling is None:
            evaluators = make_evaluators(config, objective, examples, label_f1, stop, mesh)
        else:
            sampling.learn_from(lambda: state, first)
            evaluators = sampling.evaluators(stop)
        del first
        recorder = _Recorder(config, run, data, examples.train.ids, metrics, progress)
        due = _Due(config, data, examples)
        early = EarlyStopping(config, run.metrics, checkpoints)

        progress.start_bar(data.steps, start)
        done = start
        if due.evaluation(start) and not scored:  # it was interrupted
            scores = measure_all(evaluators, state, start, stop)
            recorder.add_scores(start, scores, clocks(evaluators), checkpoints, early)
        for batch in stack.enter_context(closing(data.iterate(place))):
            if early.agreed() or stop.agreed():
                break
            with recorder.compile_time(train_step, batch):
                arrays = place_batch(batch.arrays, config.training.micro_batch_rows, mesh, objective.batch_spec)
                state, figures = train_step(state, arrays)
            recorder.add(batch, figures)  # and read those of the update before, while this one is computed
            done = batch.step + 1
            if due.checkpoint(done) or stop:
                recorder.flush()  # refuses figures that are not finite, so no bad state is saved
                metrics.sync()
                run.publish()
                checkpoints.save(done, state, data.state(done))
            if due.evaluation(done) and not stop:
                scores = measure_all(evaluators, state, done, stop)
                recorder.add_scores(done, scores, clocks(evaluators), checkpoints, early)
        recorder.flush()
        if done > start:
            checkpoints.save(
                done, state, data.state(done)
            )  # nothing to do, unless the request to stop came after the last look at it
        checkpoints.wait()
        barrier("all saved")
        if writes_files():
            draw_loss_curve(run.metrics, run.loss_curve, config.evaluation.metric)
        gave_up = done < data.steps and early.agreed()
        ended = done == data.steps or gave_up
        complete = ended and (bool(checkpoints.complete[-1].scores) or not due.evaluation(done))
        stopped_by = "" if complete else stop.signal_name
        stopped = f"stopped by {stopped_by} after update {done} of {data.steps}; everything is saved"
        why = f" of {data.steps}, as {early.reason}" if gave_up else ""
        if complete and isinstance(config.objective, DocumentsSection) and writes_files():
            for line in before_and_after(read_metrics(run.metrics)):
                progress.say(line)
        progress.say(f"done after {done} updates{why}: {run.path}" if complete else stopped)
        return TrainResult(run.path, done, data.steps, stopped_by, checkpoints.best, _compiles(train_step))


def _plan(config: RunConfig, run: RunDirectory, examples: Examples, mesh: Mesh) -> TrainingData:
    """The updates of the run: the same ones where it is resumed with other micro-batches."""
    training = config.training
    settings = replace(PlanSettings.of(config), micro_batch_rows=run.planned_micro_batch_rows(config))
    return TrainingData(
        examples.train,
        settings,
        epochs=training.epochs,
        steps=training.steps,
        held=held_rows(mesh, training.micro_batch_rows),
        micro_batch_rows=training.micro_batch_rows,
    )


class _Sampling:
    """What a run that learns from its own answers has instead of a plan and of a validation loss."""

    def __init__(
        self,
        objective: Policy,
        config: RunConfig,
        base: BaseModel,
        examples: Examples,
        mesh: Mesh,
        tools: PolicyTools,
    ) -> None:
        self._config, self._tools, self._examples = config, tools, examples
        self._compute = AnswerLogProbabilities(objective, mesh)
        self._start = StartWeights(partial(_first_params, objective, config, base, mesh), config)

        held = partial(held_part, micro_batch_rows=config.training.micro_batch_rows, mesh=mesh)
        self.data = PolicyData(examples.records, config, tools.sampler, tools.rewards, self._compute, self._start, held)

    def learn_from(self, state: Callable[[], TrainState], first: TrainState) -> None:
        """Sample from a state, which changes with every update; `first` is that before the first one."""
        self.data.weights = lambda: model_params(state())
        if self._config.adapter is not None:
            self._start.beside(first["params"], lambda: state()["frozen"])

    def evaluators(self, stop: StopRequest) -> list[Evaluator]:
        """What is watched; nothing where no records are held out."""
        records = self._examples.to_answer
        if not records:
            return []
        return PolicyWatch(self._config, self._tools, records, self._compute, self._start, stop).evaluators


def _with_reference(
    objective: Preference, config: RunConfig, base: BaseModel, examples: Examples, mesh: Mesh
) -> Examples:
    """The examples with what the weights that the run starts from say of them."""
    random = json.dumps([base.config.to_json(), config.training.seed])
    name = base.fingerprint() if base.fingerprint is not None else random
    load = partial(_first_params, objective, config, base, mesh)
    stores = [examples.train] + ([examples.validation] if examples.validation is not None else [])
    train, *validation = with_reference(stores, objective, name, load, mesh)
    return replace(examples, train=train, validation=validation[0] if validation else None)


def _objective(config: RunConfig, base: BaseModel, examples: Examples) -> Objective:
    """What the run minimises, over what it has read."""
    if isinstance(config.objective, SupervisedSection | GrpoSection):
        prompts = examples.records if isinstance(config.objective, GrpoSection) else ()
        check_answers_fit(config, [*prompts, *examples.to_answer], cast(TrainingTokenizer, base.tokenizer))
    return objective_of(base.config, config, examples.class_counts)


def _not_begun(
    run: RunDirectory,
    checkpoints: Checkpoints,
    data: RunData,
    stop: StopRequest,
    say: Callable[[str], None],
) -> TrainResult:
    """How a run ends that is asked to stop before its first update."""
    saved = checkpoints.complete
    done = saved[-1].step if saved else 0
    say(f"stopped by {stop.signal_name} before an update was made; {done} of {data.steps} are saved")
    return TrainResult(run.path, done, data.steps, stop.signal_name, checkpoints.best, 0)


def use_compile_cache(folder: str | None) -> None:
    """Keep compiled programs in a folder, so that a resumed run does not compile again; None keeps none."""
    jax.config.update("jax_compilation_cache_dir", folder and str(Path(folder).expanduser().absolute()))


class _Due:
    """After which updates to evaluate and to save."""

    def __init__(self, config: RunConfig, data: RunData, examples: Examples) -> None:
        self._save_every = config.checkpoint.every_steps
        self._evaluate_every = config.evaluation.every_steps
        self._evaluates = examples.validation is not None
        self._evaluates_first = isinstance(config.objective, DocumentsSection | DpoSection | GrpoSection)
        self._ends = {*data.epoch_ends, data.steps}
        self._last = data.steps

    def evaluation(self, step: int) -> bool:
        """Every so many updates and after the last; or else after each epoch and the last.

        Where the gain is one over the model that the run starts from, as of documents, also before the first.
        """
        if not self._evaluates or not step:
            return self._evaluates and self._evaluates_first
        if self._evaluate_every is None:
            return step in self._ends
        return step % self._evaluate_every == 0 or step == self._last

    def checkpoint(self, step: int) -> bool:
        """Every so many updates, after each epoch and the last, and before each evaluation: it may find the best."""
        return step % self._save_every == 0 or step in self._ends or self.evaluation(step)


class _Recorder:
    """Reads the figures of an update while the next one is computed; refuses those that are not finite."""

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        data: RunData,
        ids: Sequence[str],
        metrics: MetricsLog,
        progress: TrainingProgress,
    ) -> None:
        self._log_every, self._last = config.training.log_every, data.steps
        self._metric = config.evaluation.metric
        self._run, self._ids, self._metrics, self._progress = run, ids, metrics, progress
        self._speed = Speed()
        self._pending: tuple[Batch, Metrics] | None = None
        self._clock: float | None = None

    def add(self, batch: Batch, figures: Metrics) -> None:
        """Take the figures of an update that was just dispatched, and log those of the one before."""
        self.flush()
        self._pending = (batch, figures)

    def flush(self) -> None:
        """Log the update taken last, waiting for it.

        Raises:
            UserError: its loss or its gradient norm is not finite.
        """
        if self._pending is None:
            return
        (batch, arrays), self._pending = self._pending, None
        figures: dict[str, float] = {name: value.item() for name, value in jax.device_get(arrays).items()}
        if not (math.isfinite(figures["loss"]) and math.isfinite(figures["grad_norm"])):
            self._refuse(batch, figures)
        now = time.monotonic()
        if self._clock is not None:
            self._speed.add(now - self._clock, batch.real_tokens)
        self._clock = now
        step = batch.step + 1
        if step % self._log_every == 0 or step == self._last:
            figures |= batch.figures
            figures |= {"real_tokens": batch.real_tokens, "pad_share": round(batch.pad_share, 6)}
            if self._speed.known:
                figures["tokens_per_second"] = round(self._speed.tokens_per_second, 1)
            self._metrics.write("train", step, {"epoch": batch.epoch + 1, **figures})
        self._progress.update(step, figures["loss"], figures["learning_rate"], batch.pad_share, self._speed)

    def add_scores(
        self,
        step: int,
        scores: dict[str, float],
        times: dict[str, float],
        checkpoints: Checkpoints,
        early: EarlyStopping,
    ) -> None:
        """Log what an evaluation found and note it for its checkpoint; there are no scores where it was interrupted."""
        self._clock = None  # the next update is left out of the speed: the evaluation took time as well
        if scores:
            self._metrics.write("validation", step, scores | times)
            self._run.publish()
            if step:  # before the first update there is no checkpoint
                checkpoints.add_scores(step, scores)
                early.evaluated(step)
            if writes_files():
                draw_loss_curve(self._run.metrics, self._run.loss_curve, self._metric)
            figures = ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
            self._progress.say(f"after update {step}: {figures}{words_on_idling(times)}")

    @contextmanager
    def compile_time(self, train_step: Any, batch: Batch) -> Iterator[None]:
        """Around a call of the step: say how long it compiled, if it did."""
        before, start = _compiles(train_step), time.monotonic()
        yield
        if _compiles(train_step) > before:
            rows, length = batch.arrays["tokens"].shape
            seconds = time.monotonic() - start
            self._progress.say(f"compiled the training step for {rows} rows of {length} tokens in {seconds:.1f} s")
            self._clock = None

    def _refuse(self, batch: Batch, figures: dict[str, float]) -> None:
        ids = [self._ids[example] for example in batch.examples]
        if writes_files():
            with naming(self._run.bad_batch):
                write_json(self._run.bad_batch, {"step": batch.step + 1, "epoch": batch.epoch + 1, "examples": ids})
        listed = self._run.path / self._run.bad_batch.name
        shown = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        raise UserError(
            f"update {batch.step + 1} (epoch {batch.epoch + 1}): loss {figures['loss']}, gradient norm "
            f"{figures['grad_norm']}; its rows: {shown} (all in {listed}). The checkpoints before it are "
            "kept. Look at these rows, or start again in a new training.run_dir with a lower optimizer.learning_rate"
        )


def _check_processes(config: RunConfig) -> None:
    if jax.process_count() > 1 and config.evaluation.generate_rows and isinstance(config.objective, SequenceSection):
        raise UserError(
            f"evaluation.generate_rows={config.evaluation.generate_rows}: an encoder-decoder answers in one process "
            f"only and there are {jax.process_count()}; set it to 0 and use `mentallama generate` on the checkpoints"
        )


def _shared(config: RunConfig) -> str:
    """What all processes must be told alike; where things lie may differ from host to host."""
    places = {"data": {"train", "validation", "cache_dir"}, "training": {"run_dir", "compile_cache_dir"}}
    if isinstance(config.objective, ClassificationSection):
        places["objective"] = {"test"}
    if isinstance(config.objective, DocumentsSection):
        places["objective"] = {"instructions"}
    return config.model_dump_json(exclude=places | {"model": {"source", "tokenizer"}})


def _check_model(config: RunConfig, base: BaseModel) -> None:
    # Some published BARTs have a mask token beyond their table, which no text becomes.
    beyond = 1 if isinstance(config.objective, SequenceSection) else 0
    if base.tokenizer.vocab_size > base.config.vocab_size + beyond:
        raise UserError(
            f"model.tokenizer has {base.tokenizer.vocab_size} tokens and {config.model.source} embeds "
            f"{base.config.vocab_size}; name the tokenizer that belongs to the model"
        )
    if isinstance(config.objective, SequenceSection) and config.objective.target_length > base.config.longest_text:
        raise UserError(
            f"objective.target_length {config.objective.target_length} is more than the {base.config.longest_text} "
            f"positions of {config.model.source}; lower it"
        )
    if config.data.max_length > base.config.longest_text:
        raise UserError(
            f"data.max_length {config.data.max_length} is more than the {base.config.longest_text} positions of "
            f"{config.model.source}; lower it"
        )


def _warn_of_padding(config: RunConfig, data: RunData, say: Callable[[str], None]) -> None:
    if data.pad_share > 0.5:
        training = config.training
        say(
            f"warning: {data.pad_share:.0%} of what is computed is padding; an update of {training.batch_size} "
            f"{training.batch_unit} does not fill training.micro_batch_rows {training.micro_batch_rows} rows of "
            f"data.max_length {config.data.max_length} tokens: lower either"
        )


def _check_resources(
    config: RunConfig,
    base: BaseModel,
    data: RunData,
    state_shapes: TrainState,
    checkpoints: Checkpoints,
    run: RunDirectory,
    say: Callable[[str], None],
) -> None:
    need = estimate_memory(base.config, config, data.rows, data.row_lengths[-1], state_shapes)
    check_disk(run.path, need.checkpoint, len(checkpoints.complete), config)
    check_memory(need, config, say)


def _first_state(
    objective: Objective, config: RunConfig, base: BaseModel, steps: int, state_shapes: TrainState
) -> TrainState:
    # Placed as a restored state is, so that both run the very same program; the parameters are not copied.
    shardings = _shardings(state_shapes)
    params = base.load_params(model_params(shardings)) if base.load_params is not None else None
    # What is frozen in another dtype than it is read in, or trained in another, cannot be taken over in place.
    donated = 0 if config.adapter is None else ()
    first = jax.jit(partial(init_state, objective, config, steps), out_shardings=shardings, donate_argnums=donated)
    return first(params)


def _first_params(objective: Objective, config: RunConfig, base: BaseModel, mesh: Mesh) -> Params:
    """All parameters before the first update; moments, which may not fit beside those of the run, are not made."""
    shardings = model_params(_shardings(abstract_state(objective, config, 1, mesh)))
    params = base.load_params(shardings) if base.load_params is not None else None

    def first(params: Params | None) -> Params:
        return model_params(init_state(objective, config, 1, params))

    donated = 0 if config.adapter is None else ()
    found: Params = jax.jit(first, out_shardings=shardings, donate_argnums=donated)(params)
    return found


def _first_of_adapter(
    objective: Objective,
    config: RunConfig,
    base: BaseModel,
    data: RunData,
    state_shapes: TrainState,
) -> TrainState:
    """The first state where parameters are frozen: checkpoints do not hold these, so the base model is read again."""
    if not state_shapes["frozen"]:
        return {"frozen": {}}
    return _first_state(objective, config, base, data.steps, state_shapes)


def _shardings(state_shapes: TrainState) -> TrainState:
    return jax.tree.map(lambda shape: shape.sharding, state_shapes)


def _row_words(config: RunConfig) -> str:
    """What a row holds, for people."""
    if isinstance(config.objective, SequenceSection):
        return f"{config.data.max_length} tokens of prompts and {config.objective.target_length} of answers"
    return f"{config.data.max_length} tokens"


def _summary(
    config: RunConfig,
    base: BaseModel,
    examples: Examples,
    data: RunData,
    run: RunDirectory,
    mesh: Mesh,
) -> Table:
    rows = sum(examples.rows.values())
    unit, size, micro_rows = config.training.batch_unit, config.training.batch_size, config.training.micro_batch_rows
    epochs = "part of an epoch"
    if data.epoch_ends:
        more = "" if data.epoch_ends[-1] == data.steps else " and part of the next"
        count = len(data.epoch_ends)
        epochs = f"{count} epoch{'' if count == 1 else 's'} of {data.epoch_ends[0]:,}{more}"
    validation = len(examples.validation) if examples.validation is not None else 0
    table = Table(show_header=False, box=None, title="training", title_justify="left")
    for name, value in (
        ("model", f"{config.model.source}, {config.model.weights} weights"),
        ("parameters", _parameters(config, base.config)),
        ("training rows", f"{rows:,}: " + ", ".join(f"{name} {count:,}" for name, count in examples.rows.items())),
        (
            "validation rows",
            f"{validation:,}" if validation else "none: the last checkpoint is the best",
        ),
        ("updates", f"{data.steps:,}: {epochs}"),
        ("batch", f"{size:,} {unit} an update, at most {data.rows} rows, {micro_rows} at a time"),
        ("layout", f"{config.data.layout}, rows of {_row_words(config)}, {data.pad_share:.1%} padding"),
        ("computes on", f"{_devices(mesh)} in {config.model.compute_dtype}"),
        ("run directory", str(run.path)),
    ):
        table.add_row(name, value)
    return table


def _parameters(config: RunConfig, model: TrainedConfig) -> str:
    if config.adapter is None:
        return f"{count_params(model):,} in {config.model.parameter_dtype}"
    trained = split_params(abstract_params(adapted_config(model, config.adapter)), is_adapter)[0]
    return (
        f"{tree_numbers(trained):,} trained in {config.model.parameter_dtype}, {count_params(model):,} of the base in "
        f"{config.adapter.base_dtype}"
    )


def _devices(mesh: Mesh) -> str:
    kind = mesh.devices.flat[0].device_kind
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1)
    return f"{mesh.size} x {kind} ({axes})" if axes else kind


def _compiles(train_step: Any) -> int:
    return int(train_step._cache_size())


@contextmanager
def _explained(config: RunConfig, run: RunDirectory) -> Iterator[None]:
    """Turn a full disk and exhausted device memory into one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or run.path}: {error.strerror or error}; mend that (if the disk is full, make room), "
            "then run the same command again: it resumes from the last checkpoint"
        ) from None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        lower = []
        if config.training.micro_batch_rows > 1:
            lower.append(f"lower training.micro_batch_rows (now {config.training.micro_batch_rows}) and run it again")
        if config.model.remat != "full":
            lower.append("set model.remat=full")
        lower.append(f"start anew with data.max_length below {config.data.max_length}")
        raise UserError(f"out of device memory; {', or '.join(lower)}") from None
