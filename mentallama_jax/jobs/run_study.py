"""Runs a study: its missing steps, then its pages."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from mentallama_jax.config.study_config import StudyConfig
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.tasks import own_tasks
from mentallama_jax.study.needed_packages import check_packages
from mentallama_jax.study.step_estimates import Planner, StepEstimate, estimates, plan_by_command
from mentallama_jax.study.study_graph import StudyGraph, study_graph
from mentallama_jax.study.study_pages import write_study_pages
from mentallama_jax.study.study_runner import Starter, StepState, StudyRunner, only_runner

Watcher = Callable[[StudyGraph, dict[str, StepState]], None]


class StudyOutcome(NamedTuple):
    """What came of a study.

    Attributes:
        graph: its steps and systems.
        states: step -> how it ended.
        paths: of the pages.
    """

    graph: StudyGraph
    states: dict[str, StepState]
    paths: list[Path]

    @property
    def failed(self) -> list[str]:
        """Steps that have no result."""
        return [name for name, each in self.states.items() if each.state in ("failed", "blocked")]


def run_study(
    study: StudyConfig,
    *,
    jobs: int | None = None,
    any_code: bool = False,
    watch: Watcher = lambda graph, states: None,
    start: Starter | None = None,
) -> StudyOutcome:
    """Run what is missing of a study, and write its pages; the same call again resumes what was stopped.

    Args:
        study: see `config.study_config.load_study`.
        jobs: steps at the same time; by default as the study says.
        any_code: take results that another version of the code made for done.
        watch: is told of every state, some times a second.
        start: starts a step; by default a process.

    Raises:
        UserError: another process runs the study, a config of a row cannot be read, or a package that is missing.
        KeyboardInterrupt: it was stopped, by SIGTERM or SIGHUP too; what was under way has saved itself.
    """
    with own_tasks(study.evaluation.tasks):
        graph = study_graph(study)
        check_packages(study)
        with only_runner(graph.folder), _signals_as_interrupts():
            runner = StudyRunner(
                graph,
                jobs=jobs or study.study.jobs,
                any_code=any_code,
                watch=lambda states: watch(graph, states),
                start=start,
            )
            runner.run()
            return StudyOutcome(graph, runner.states, write_study_pages(graph, runner.states))


def plan_study(
    study: StudyConfig,
    *,
    any_code: bool = False,
    planner: Planner = plan_by_command,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[StudyGraph, list[StepEstimate]]:
    """The steps of a study, and how long those that are to do may take; nothing is run but plans, which `say` is told.

    Raises:
        UserError: a config of a row cannot be read.
    """
    with own_tasks(study.evaluation.tasks):
        graph = study_graph(study)
        try:
            check_packages(study)
        except UserError as error:
            say(f"warning: {error}")
        return graph, estimates(graph, any_code=any_code, planner=planner, say=say)


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Let SIGTERM and SIGHUP stop a study as Ctrl-C does; SIGHUP that is ignored, as by `nohup`, stays ignored."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    try:
        before = {number: signal.signal(number, interrupt) for number in numbers}
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
