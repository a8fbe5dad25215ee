"""A training run from config to checkpoints: `train` reads from top to bottom."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
from jax.sharding import Mesh

from mentallama_jax.config import DocumentsSection, DpoSection, GrpoSection, RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.host_memory import keep_freed_memory
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.parallel.processes import barrier, check_alike, writes_files
from mentallama_jax.storage import AnyPath
from mentallama_jax.terminal import Console
from mentallama_jax.training.data.examples import Examples, load_examples
from mentallama_jax.training.data.rollouts import PolicyData
from mentallama_jax.training.early_stopping import EarlyStopping
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.mesh_placement import abstract_state, check_batch, held_part, place_batch
from mentallama_jax.training.objectives.policy import Policy
from mentallama_jax.training.objectives.preference import Preference
from mentallama_jax.training.policy_watch import AnswerLogProbabilities, PolicyTools, PolicyWatch, StartWeights
from mentallama_jax.training.preflight import warn_of_cut_prompts
from mentallama_jax.training.progress import TrainingProgress
from mentallama_jax.training.recorder import Recorder, step_compiles
from mentallama_jax.training.run.checkpoints import Checkpoints
from mentallama_jax.training.run.figure_trackers import FigureSender
from mentallama_jax.training.run.loss_picture import draw_loss_curve
from mentallama_jax.training.run.manifest import Checkpoint
from mentallama_jax.training.run.metrics import MetricsLog, read_metrics
from mentallama_jax.training.run.run_directory import RunDirectory
from mentallama_jax.training.setup import (
    BaseModel,
    RunData,
    check_model,
    check_processes,
    check_resources,
    examples_with_reference,
    first_of_adapter,
    first_params,
    first_state,
    plan_updates,
    run_objective,
    shardings_of,
    shared_settings,
    warn_of_padding,
)
from mentallama_jax.training.step import TrainState, make_train_step, model_params
from mentallama_jax.training.summary import summary
from mentallama_jax.training.validation import (
    Evaluator,
    LabelF1,
    before_and_after,
    clocks,
    make_evaluators,
    measure_all,
)


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
    check_processes(config)
    console = console or Console(stderr=True, quiet=not writes_files())
    run = RunDirectory(config.training.run_dir, extend=extend)
    with _explained(config, run), run.locked(console.print), ExitStack() as stack:
        if stop is None:
            stop = stack.enter_context(StopRequest())
        stop.where = "once this part of the start is done"
        check_alike("config", shared_settings(config))
        progress = stack.enter_context(TrainingProgress(run.log if writes_files() else Path(os.devnull), console))
        mesh = make_mesh(config.mesh)
        stack.enter_context(use_mesh(mesh))
        check_model(config, base)
        check_batch(base.config, config, mesh)
        if writes_files():
            run.check_start(config, base.fingerprint)
        use_compile_cache(config.training.compile_cache_dir)
        if jax.default_backend() == "cpu":
            keep_freed_memory()
        examples = load_examples(config, base.tokenizer, progress.say)
        check_alike("data or tokenizer", json.dumps(examples.facts["fingerprints"]))
        objective = run_objective(config, base, examples)
        if isinstance(objective, Preference) and objective.compares:
            examples = examples_with_reference(objective, config, base, examples, mesh)
        sampling = None
        if isinstance(objective, Policy):
            assert policy is not None
            warn_of_cut_prompts(config, examples.train, progress.say)
            sampling = _Sampling(objective, config, base, examples, mesh, policy)
        data = plan_updates(config, run, examples, mesh) if sampling is None else sampling.data
        warn_of_padding(config, data, progress.say)
        state_shapes = abstract_state(objective, config, data.steps, mesh)
        checkpoints = stack.enter_context(Checkpoints(run.checkpoints, config))
        check_resources(config, base, data, state_shapes, checkpoints, run, progress.say)
        if writes_files():
            run.prepare(config, base.config, examples.facts, base.tokenizer, progress.say, base.fingerprint)
        barrier("run directory")
        run.check_shared()
        console.print(summary(config, base, examples, data, run, mesh))

        if stop.agreed():
            return _not_begun(run, checkpoints, data, stop, progress.say)
        restored = checkpoints.restore(state_shapes, progress.say, data.steps)
        if restored is not None:
            checkpoint, state = restored
            start, scored = checkpoint.step, bool(checkpoint.scores)
            first = first_of_adapter(objective, config, base, data, state_shapes)
            state = state | {"frozen": first["frozen"]}
            place = checkpoint.data_state or data.state(start)
            progress.say(f"resuming after update {start} of {data.steps}")
        else:
            start, scored, place = 0, False, data.state(0)
            first = state = first_state(objective, config, base, data.steps, state_shapes)

        stop.where = "after this update"
        sender = stack.enter_context(FigureSender(run.path.name, config, run.trackers, progress.say))
        metrics = stack.enter_context(
            MetricsLog(run.metrics, run.tensorboard, start, evaluated=scored, also=sender.send)
        )
        train_step = make_train_step(objective, config, data.steps, shardings_of(state_shapes))
        if sampling is None:
            evaluators = make_evaluators(config, objective, examples, label_f1, stop, mesh)
        else:
            sampling.learn_from(lambda: state, first)
            evaluators = sampling.evaluators(stop)
        del first
        recorder = Recorder(config, run, data, examples.train.ids, metrics, progress)
        due = _Due(config, data, examples)
        early = EarlyStopping(config, run.metrics, checkpoints)

        progress.start_bar(data.steps, start)
        # On a CPU nothing is gained by it, and who stops a run would wait for two updates.
        ahead = jax.default_backend() != "cpu"
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
            if not ahead:
                recorder.flush()
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
        return TrainResult(run.path, done, data.steps, stopped_by, checkpoints.best, step_compiles(train_step))


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
        self._start = StartWeights(partial(first_params, objective, config, base, mesh), config)

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
