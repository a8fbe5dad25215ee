"""How long the steps of a study would take, and for how much money, before any is run.

What a row's `topology` names is planned by `mentallama plan`; else the step's own earlier time stands; else it is not
known, and said to be so.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, takewhile
from threading import Lock
from typing import Any

from mentallama_jax.config import load_config
from mentallama_jax.config.study_config import EndpointRow, GenerateRow, TrainRow
from mentallama_jax.host_memory import available_memory
from mentallama_jax.imhi.tasks import task_named
from mentallama_jax.study.row_steps import asked_datasets
from mentallama_jax.study.step_manifests import StepManifests
from mentallama_jax.study.study_graph import StudyGraph
from mentallama_jax.study.study_steps import StudyStep

Range = tuple[float, float]
Planner = Callable[[Sequence[str]], Any]
"""The JSON that `mentallama plan ... --json` prints for these words; a text says why there is none."""
UNKNOWN = "unknown"
"""What is said of a step that names no chips and has never run."""
_MEMORY_OF_A_PLAN = 4 << 30
"""Bytes that a compiler for TPUs may take."""
_ANY_SHAPE = "llama2-7b"
"""A recipe to plan answers of a model that was not tuned here: its mesh; the model replaces its own."""


@dataclass(frozen=True, slots=True)
class StepEstimate:
    """What is known of a step before it runs.

    Attributes:
        step: its name.
        state: why it would be done; "" where its result stands.
        hours: lower and upper; None where not known.
        dollars: likewise, of chips or of an endpoint.
        said: what the estimate is from.
    """

    step: str
    state: str
    hours: Range | None
    dollars: Range | None
    said: str


def plan_by_command(words: Sequence[str]) -> Any:
    """Plan in a process of its own, as jax and the TPU compiler are started for it."""
    command = [sys.executable, "-m", "mentallama_jax", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)[0]
    except (ValueError, IndexError, TypeError):
        errors = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
        return errors[-1] if errors else f"the plan ended with status {done.returncode}"


def estimates(
    graph: StudyGraph,
    *,
    any_code: bool = False,
    planner: Planner = plan_by_command,
    say: Callable[[str], None] = lambda line: None,
) -> list[StepEstimate]:
    """An estimate of each step, in the order of the graph.

    Args:
        graph: the study.
        any_code: as in `StudyRunner`.
        planner: plans the words of a `mentallama plan`.
        say: is told what is being planned: a plan takes from seconds to minutes.
    """
    manifests = StepManifests(graph.folder, any_code=any_code)
    states: dict[str, str] = {}
    for step in graph.steps.values():
        before = [name for name in step.after if states[name]]
        states[step.name] = f"follows {before[0]}" if before else manifests.why_not_done(step, manifests.inputs(step))
    words_of = {step.name: plan_words(graph, step) for step in graph.steps.values() if states[step.name]}
    asked: dict[tuple[str, ...], str] = {}
    for name, words in words_of.items():
        if words is not None:
            asked.setdefault(words, name)
    plans = _plans(asked, planner, say)
    found: list[StepEstimate] = []
    for step in graph.steps.values():
        state, words = states[step.name], words_of.get(step.name)
        if not state:
            found.append(StepEstimate(step.name, "", (0.0, 0.0), (0.0, 0.0), "its result stands"))
        elif words is None:
            found.append(_by_time(graph, step, state, manifests))
        else:
            found.append(_planned(step.name, state, plans[words], 2 if "--together" in step.words else 1))
    return found


def _plans(asked: Mapping[tuple[str, ...], str], planner: Planner, say: Callable[[str], None]) -> dict[Any, Any]:
    """The plan of the words that each of these steps asks for; as many at a time as there are cores and memory."""
    workers = max(1, min(len(asked), os.cpu_count() or 1, available_memory() // _MEMORY_OF_A_PLAN))
    begun, in_turn = count(1), Lock()

    def plan(words: tuple[str, ...]) -> Any:
        with in_turn:
            say(f"planning {asked[words]} ({next(begun)} of {len(asked)}): {shlex.join(words)}")
        return planner(words)

    with ThreadPoolExecutor(workers) as pool:
        try:
            return dict(zip(asked, pool.map(plan, asked), strict=True))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _by_time(graph: StudyGraph, step: StudyStep, state: str, manifests: StepManifests) -> StepEstimate:
    row = graph.config.rows.get(step.row)
    dollars: Range | None = (0.0, 0.0)
    if isinstance(row, EndpointRow) and step.name.endswith(".answer"):
        dollars = (0.0, row.max_cost) if row.max_cost is not None else dollars
    elif step.heavy and row is not None and row.topology:
        dollars = None
    seconds = manifests.earlier_seconds(step)
    if seconds is None:
        return StepEstimate(step.name, state, None, dollars, step.refused or UNKNOWN)
    return StepEstimate(step.name, state, (seconds / 3600, seconds / 3600), dollars, "as it took before")


def _planned(step: str, state: str, plan: Any, times: int) -> StepEstimate:
    """What a plan comes to, `times` over: a matrix with a model of all data sets trains on each row twice."""
    if isinstance(plan, str):
        return StepEstimate(step, state, None, None, f"unknown: {plan}")
    said = f"planned for {plan['topology']}"
    if not plan.get("fits") or "hours" not in plan:
        return StepEstimate(step, state, None, None, f"{said}: does not fit")
    return StepEstimate(step, state, _range(plan["hours"], times), _range(plan["dollars"], times), said)


def _range(ends: Sequence[float], times: int) -> Range:
    return (times * float(ends[0]), times * float(ends[1]))


def plan_words(graph: StudyGraph, step: StudyStep) -> tuple[str, ...] | None:
    """The words of the plan of a step; None where its row names no chips, or it is no training and no answering."""
    row = graph.config.rows.get(step.row)
    if row is None or not row.topology or not step.heavy:
        return None
    if step.words[0] == "train":
        overrides = list(takewhile(lambda word: not word.startswith("-"), step.words[2:]))
        words = ["plan", step.words[1], *_of_base(graph, row, overrides)]
        words += ["--rows", str(_pairs(row))] if isinstance(row, TrainRow) and row.pairs and _pairs(row) else []
    elif step.words[0] == "transfer":
        words = ["plan", row.config, *row.overrides, f"data.datasets=[{', '.join(row.datasets)}]"]
    elif step.words[0] == "generate":
        words = _answers(graph, row, step)
    else:
        return None
    return (*words, "--topology", row.topology, "--json")


def _of_base(graph: StudyGraph, row: Any, overrides: list[str]) -> list[str]:
    """The changes of a config, with the model that the first run of a chain begins with: its shape is known."""
    kept = [word for word in overrides if not word.startswith(("training.run_dir=", "data.train=["))]
    if not isinstance(row, TrainRow) or not row.source:
        return kept
    base = row
    while base.source:
        base = graph.config.rows[base.source]
    source = load_config(base.config, base.overrides).model.source
    return [*(word for word in kept if not word.startswith("model.source=")), f"model.source={source}"]


def _pairs(row: TrainRow) -> int:
    assert row.pairs is not None
    learnt = load_config(row.config, row.overrides).data.max_rows
    return learnt or (row.pairs.max_rows or 0) * len(row.pairs.datasets)


def _answers(graph: StudyGraph, row: Any, step: StudyStep) -> list[str]:
    run = row.run if isinstance(row, GenerateRow) else row.source
    if run:
        tuned = graph.config.rows[run]
        changes = [*tuned.overrides, *(["model.source=."] if tuned.source else [])]
        words = ["plan", tuned.config, *_of_base(graph, tuned, changes)]
    else:
        words = ["plan", _ANY_SHAPE, f"model.source={row.model}"]
    sampled = (row.pairs.max_rows or 0) * len(row.pairs.datasets) if isinstance(row, TrainRow) and row.pairs else 0
    words += [f"mesh.{axis}" for axis in row.mesh] if isinstance(row, GenerateRow) else []
    words += ["--generate", "--rows", str(sampled or asked_rows(graph))]
    for option, name in (("--batch-size", "--batch-size"), ("--max-new-tokens", "--new-tokens")):
        words += [name, step.words[step.words.index(option) + 1]]
    return words


def asked_rows(graph: StudyGraph) -> int:
    """About how many rows every system answers: those of the test splits, as far as they are known."""
    most = graph.config.evaluation.max_rows
    sizes = [task_named(name).sizes for name in asked_datasets(graph.config)]
    each = [size[2] if size else most or 0 for size in sizes]
    return max(sum(min(count, most or count) for count in each), 1)
