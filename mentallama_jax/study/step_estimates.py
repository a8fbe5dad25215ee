"""How long the steps of a study would take, and for how much money, before any is run.

What a row's `topology` names is planned by `mentallama plan`; else the step's own earlier time stands; else it is not
known, and said to be so.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, takewhile
from threading import Lock
from typing import Any

from mentallama_jax.config import load_config
from mentallama_jax.config.study_config import EndpointRow, GenerateRow, PairsSection, TrainRow, TransferRow
from mentallama_jax.host_memory import available_memory
from mentallama_jax.imhi.tasks import task_named
from mentallama_jax.study.row_steps import asked_datasets, named_datasets
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
_TEST, _VALIDATION = 2, 1
"""Places of a split among the sizes of a data set."""
_PROMPT, _LONGEST_PROMPT = 256, 1792
"""Tokens of a question, as `plan` assumes them; examples are counted as long as questions, up to the second."""
_LABEL_SENTENCE = 16
"""Tokens of a label sentence, about."""
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


@dataclass(frozen=True, slots=True)
class PlannedWork:
    """A part of a step that is planned.

    Attributes:
        words: of the `mentallama plan`.
        times: how often it is done.
        assumed: what is not known and was assumed.
    """

    words: tuple[str, ...]
    times: int = 1
    assumed: str = ""


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
    work_of = {step.name: planned_work(graph, step) for step in graph.steps.values() if states[step.name]}
    asked: dict[tuple[str, ...], str] = {}
    for name, parts in work_of.items():
        for part in parts:
            asked.setdefault(part.words, name)
    plans = _plans(asked, planner, say)
    found: list[StepEstimate] = []
    for step in graph.steps.values():
        state, work = states[step.name], work_of.get(step.name, ())
        if not state:
            found.append(StepEstimate(step.name, "", (0.0, 0.0), (0.0, 0.0), "its result stands"))
        elif not work:
            found.append(_by_time(graph, step, state, manifests))
        else:
            found.append(_planned(step.name, state, work, plans))
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


def _planned(step: str, state: str, work: Sequence[PlannedWork], plans: Mapping[Any, Any]) -> StepEstimate:
    """What the parts of a step come to together."""
    hours, dollars = [0.0, 0.0], [0.0, 0.0]
    for part in work:
        plan = plans[part.words]
        if isinstance(plan, str):
            return StepEstimate(step, state, None, None, f"unknown: {plan}")
        said = f"planned for {plan['topology']}"
        if not plan.get("fits") or "hours" not in plan:
            return StepEstimate(step, state, None, None, f"{said}: does not fit")
        for total, key in ((hours, "hours"), (dollars, "dollars")):
            for end in (0, 1):
                total[end] += part.times * float(plan[key][end])
    assumed = next((part.assumed for part in work if part.assumed), "")
    said = f"{said}, {assumed}" if assumed else said
    return StepEstimate(step, state, (hours[0], hours[1]), (dollars[0], dollars[1]), said)


def planned_work(graph: StudyGraph, step: StudyStep) -> tuple[PlannedWork, ...]:
    """The plans of a step; none where its row names no chips, or it is no training and no answering."""
    row = graph.config.rows.get(step.row)
    if row is None or not row.topology or not step.heavy:
        return ()
    match step.words[0]:
        case "train":
            found = [PlannedWork(_training(graph, row, step))]
        case "transfer":
            found = [*_of_transfer(graph, row, step)]
        case "generate":
            found = [_answers(graph, row, step)]
        case _:
            return ()
    return tuple(replace(part, words=(*part.words, "--topology", row.topology, "--json")) for part in found)


def _training(graph: StudyGraph, row: Any, step: StudyStep) -> tuple[str, ...]:
    overrides = list(takewhile(lambda word: not word.startswith("-"), step.words[2:]))
    words = ["plan", step.words[1], *_of_base(graph, row, overrides)]
    if isinstance(row, TrainRow) and row.pairs:
        learnt = load_config(row.config, row.overrides).data.max_rows
        words += ["--rows", str(learnt or _sampled(row.pairs))]
    return tuple(words)


def _of_transfer(graph: StudyGraph, row: TransferRow, step: StudyStep) -> Iterator[PlannedWork]:
    """The training of all models, and the answers of each: with one of all data sets each row is trained on twice."""
    named = f"data.datasets=[{', '.join(row.datasets)}]"
    yield PlannedWork(("plan", row.config, *row.overrides, named), 2 if row.together else 1)
    words = ["plan", row.config, *row.overrides, *(f"mesh.{axis}" for axis in row.mesh)]
    answers = _written(words, step, asked_rows(graph), _PROMPT, labels_alone=row.score_labels)
    yield replace(answers, times=len(set(row.datasets)) + row.together)


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


def _sampled(pairs: PairsSection) -> int:
    """About how many answers are sampled for pairs, and so how many pairs there are at most."""
    return _rows_of(named_datasets(pairs.datasets), 0, pairs.max_rows)


def _answers(graph: StudyGraph, row: Any, step: StudyStep) -> PlannedWork:
    run = row.run if isinstance(row, GenerateRow) else row.source
    if run:
        tuned = graph.config.rows[run]
        changes = [*tuned.overrides, *(["model.source=."] if tuned.source else [])]
        words = ["plan", tuned.config, *_of_base(graph, tuned, changes)]
    else:
        words = ["plan", _ANY_SHAPE, f"model.source={row.model}"]
    if isinstance(row, TrainRow):
        return _written(words, step, _sampled(row.pairs) if row.pairs else asked_rows(graph), _PROMPT)
    words += [f"mesh.{axis}" for axis in row.mesh]
    rows = asked_rows(graph, _VALIDATION if step.name.endswith("-validation") else _TEST)
    labels = [len(task_named(name).labels) for name in asked_datasets(graph.config)]
    examples = (row.shots or 0) * round(sum(labels) / len(labels))
    prompt = min(_PROMPT * (1 + examples), _LONGEST_PROMPT)
    return replace(_written(words, step, rows, prompt, labels_alone=row.score_labels), times=row.votes)


def _written(
    words: Sequence[str], step: StudyStep, rows: int, prompt: int, *, labels_alone: bool = False
) -> PlannedWork:
    """The plan of answers that a step writes; those that are label sentences are short."""
    batch, new = (step.words[step.words.index(name) + 1] for name in ("--batch-size", "--max-new-tokens"))
    new = str(_LABEL_SENTENCE) if labels_alone else new
    numbers = ["--rows", str(rows), "--batch-size", batch, "--prompt", str(prompt), "--new-tokens", new]
    return PlannedWork((*words, "--generate", *numbers), assumed=f"prompts of {prompt:,} tokens assumed")


def asked_rows(graph: StudyGraph, split: int = _TEST) -> int:
    """About how many rows every system answers: those of a split, as far as they are known."""
    return _rows_of(asked_datasets(graph.config), split, graph.config.evaluation.max_rows)


def _rows_of(datasets: Sequence[str], split: int, most: int | None) -> int:
    sizes = [task_named(name).sizes for name in datasets]
    each = [size[split] if size else most or 0 for size in sizes]
    return max(sum(min(count, most or count) for count in each), 1)
