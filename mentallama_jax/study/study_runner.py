"""Runs the steps of a study that are missing, several at a time, and says how far it is."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Literal

from mentallama_jax.errors import UserError
from mentallama_jax.files import lock_file
from mentallama_jax.study.step_manifests import Inputs, StepManifests
from mentallama_jax.study.step_processes import RunningStep, StepProcess, reason_of
from mentallama_jax.study.study_graph import StudyGraph, narrowed
from mentallama_jax.study.study_steps import StudyFolder, StudyStep

RunState = Literal["waiting", "reused", "running", "done", "failed", "blocked", "stopped"]
FINAL = ("reused", "done", "failed", "blocked", "stopped")
WITH_RESULT = ("reused", "done")
_POLL = 0.2
_NOTE_EVERY = 20.0
_PATIENCE = 120.0
"""Seconds that steps get to save themselves before they are killed."""


@dataclass(slots=True)
class StepState:
    """How far a step is.

    Attributes:
        state: `reused` is a result of an earlier run.
        why: why it is done again, or why it failed.
        began: `time.monotonic()` of its start.
        seconds: that it took, or has taken so far; earlier tries included.
        expected: seconds that it took earlier; None where that is not known.
    """

    state: RunState = "waiting"
    why: str = ""
    began: float = 0.0
    seconds: float = 0.0
    expected: float | None = None


Watch = Callable[[dict[str, StepState]], None]
Starter = Callable[[StudyStep], RunningStep]


@dataclass(slots=True)
class _Running:
    step: StudyStep
    inputs: Inputs
    process: RunningStep
    spent: float
    noted: float = field(default_factory=time.monotonic)


@contextmanager
def only_runner(folder: StudyFolder) -> Iterator[None]:
    """Hold the study's lock, which the system lets go when the process ends.

    Raises:
        UserError: another process runs the study.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    stream: IO[bytes]
    with (folder.path / "study.lock").open("ab") as stream:
        try:
            lock_file(stream)
        except BlockingIOError:
            raise UserError(f"{folder.path}: another process runs this study; wait for it, or end it first") from None
        yield


class StudyRunner:
    """Runs a graph; `only_runner` must be held."""

    def __init__(
        self,
        graph: StudyGraph,
        *,
        jobs: int = 1,
        any_code: bool = False,
        watch: Watch = lambda states: None,
        start: Starter | None = None,
    ) -> None:
        """Prepare.

        Args:
            graph: the study.
            jobs: steps at the same time.
            any_code: take results that other code made for done.
            watch: is told of every state, some times a second.
            start: starts a step; by default a process.
        """
        self._graph, self._jobs, self._watch = graph, jobs, watch
        self._start = start or (lambda step: StepProcess(step, graph.folder.log(step.name)))
        self.manifests = StepManifests(graph.folder, any_code=any_code)
        self.states = {name: StepState() for name in graph.steps}
        self._running: dict[str, _Running] = {}
        for name, step in graph.steps.items():
            self.states[name].expected = self.manifests.earlier_seconds(step)

    def run(self) -> bool:
        """Run until nothing is left to do; return whether every step has its result.

        Raises:
            KeyboardInterrupt: the user stopped it; what was under way has saved itself.
        """
        try:
            while not all(each.state in FINAL for each in self.states.values()):
                begun = self._begin_what_can()
                ended = self._end_what_is_done()
                self._watch(self.states)
                if not begun and not ended:
                    time.sleep(_POLL)
        except BaseException:
            self._stop_all()
            raise
        self.manifests.keep_hashes()
        self._watch(self.states)
        return all(each.state in WITH_RESULT for each in self.states.values())

    def _begin_what_can(self) -> bool:
        """Begin steps that have all that they follow; whether anything changed."""
        changed = False
        for name, step in self._graph.steps.items():
            state = self.states[name]
            if state.state != "waiting" or any(self.states[other].state not in FINAL for other in step.after):
                continue
            failed = [other for other in step.after if self.states[other].state not in WITH_RESULT]
            ready = narrowed(step, failed) if failed and step.tolerant else None if failed else step
            if ready is None:
                state.state, state.why = "blocked", f"{failed[0]} has no result"
                changed = True
            else:
                changed |= self._begin(ready, state)
        return changed

    def _begin(self, step: StudyStep, state: StepState) -> bool:
        """Take the step's earlier result, or start it where there is room; whether anything changed."""
        if state.why and not self._room(step):
            return False
        inputs = self.manifests.inputs(step)
        why = self.manifests.why_not_done(step, inputs)
        if not why:
            state.state, state.seconds = "reused", state.expected or 0.0
            return True
        if step.refused:
            state.state, state.why = "blocked", step.refused
            return True
        state.why = why
        if not self._room(step):
            return False
        spent = self.manifests.begin(step, inputs)
        state.began, state.state, state.seconds = time.monotonic(), "running", spent
        self._watch(self.states)
        if step.work is not None:
            self._work(step, inputs, state)
        else:
            self._running[step.name] = _Running(step, inputs, self._start(step), spent)
        return True

    def _room(self, step: StudyStep) -> bool:
        if len(self._running) >= self._jobs:
            return False
        return step.place is None or all(each.step.place != step.place for each in self._running.values())

    def _work(self, step: StudyStep, inputs: Inputs, state: StepState) -> None:
        assert step.work is not None
        try:
            step.work()
            self.manifests.finish(step, inputs, time.monotonic() - state.began)
        except UserError as error:
            state.state, state.why = "failed", str(error)
        else:
            state.state, state.why = "done", ""
        state.seconds = time.monotonic() - state.began

    def _end_what_is_done(self) -> bool:
        """Take the results of processes that have ended; whether any has."""
        ended = False
        for name, running in list(self._running.items()):
            state, status = self.states[name], running.process.poll()
            state.seconds = running.spent + time.monotonic() - state.began
            if status is None:
                if time.monotonic() - running.noted > _NOTE_EVERY:
                    running.noted = time.monotonic()
                    self.manifests.note(running.step, state.seconds)
                continue
            ended = True
            del self._running[name]
            self.manifests.note(running.step, state.seconds)
            if status == 0:
                try:
                    self.manifests.finish(running.step, running.inputs, state.seconds)
                    state.state, state.why = "done", ""
                    continue
                except UserError as error:
                    state.why = str(error)
            else:
                state.why = reason_of(self._graph.folder.log(name), status)
            state.state = "failed"
        return ended

    def _stop_all(self) -> None:
        """Let what is under way save itself; end it where that takes too long, or the user asks again."""
        for each in self._running.values():
            each.process.stop()
        until = time.monotonic() + _PATIENCE
        try:
            while self._still_running() and time.monotonic() < until:
                time.sleep(_POLL)
        except KeyboardInterrupt:
            pass
        for each in self._running.values():
            each.process.stop(at_once=True)
        while self._still_running():
            time.sleep(_POLL / 10)
        for name, running in self._running.items():
            self.states[name].state = "stopped"
            self.manifests.note(running.step, self.states[name].seconds)

    def _still_running(self) -> bool:
        return any(each.process.poll() is None for each in self._running.values())
