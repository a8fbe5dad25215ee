"""Sends the figures of a run to Weights & Biases or MLflow, where they are installed and asked for.

What is sent: the figures of metrics.jsonl with their number of updates, the name of the run's folder, and of the
config numbers, switches and choices. No path, no text and no key of the config, no code and no console. A tracker is
a copy: metrics.jsonl has all whatever happens to it. Each tracker works in a thread of its own behind a queue. Where
it fails or is too slow it is given up with one warning, and the run goes on.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self, get_args, get_origin

from pydantic import BaseModel

from mentallama_jax.errors import UserError
from mentallama_jax.files import write_json
from mentallama_jax.foreign import one_line, parse_json
from mentallama_jax.parallel.processes import writes_files

PROJECT = "mentallama"
_PATIENCE = 20.0
"""Seconds that a tracker has at the end for what it has not sent yet."""
_MOST_WAITING = 10_000

_QUIET = {
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_X_DISABLE_MACHINE_INFO": "true",
    "WANDB_X_DISABLE_META": "true",
}
"""What wandb would send of its own accord: the cells of a notebook, what is printed, the command line, paths."""

Tell = Callable[[str], None]


class TrackedRun(NamedTuple):
    """What a tracker is told of a run.

    Attributes:
        name: of the run's folder.
        settings: numbers, switches and choices of its config, by dotted key.
        known: the tracker's own name for the run where it was begun before; "" where it is new.
    """

    name: str
    settings: Mapping[str, Any]
    known: str


class Tracker(Protocol):
    """A service that figures are sent to; all calls come from one thread."""

    def begin(self, run: TrackedRun) -> str:
        """Begin a run, or go on with a known one; return the tracker's own name for it."""

    def send(self, step: int, figures: Mapping[str, float]) -> None:
        """Take figures after `step` updates."""

    def end(self) -> None:
        """Take the run for ended."""


class WandbTracker:
    """Weights & Biases. A run that the program has begun itself is used and left open."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._given = getattr(module, "run", None)

    def begin(self, run: TrackedRun) -> str:
        """See `Tracker`."""
        os.environ |= {name: value for name, value in _QUIET.items() if name not in os.environ}
        self._run = self._given or self._module.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            config=dict(run.settings),
            id=run.known or None,
            resume="allow",
        )
        return str(self._run.id)

    def send(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.log(dict(figures), step=step)

    def end(self) -> None:
        """See `Tracker`."""
        if self._given is None:
            self._run.finish()


class MlflowTracker:
    """MLflow, by its client, whose calls name their run. A run that the program has begun itself is left open."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._given = module.active_run()

    def begin(self, run: TrackedRun) -> str:
        """See `Tracker`."""
        self._client = self._module.MlflowClient()
        if self._given is not None:
            self._id = str(self._given.info.run_id)
        elif run.known:
            self._id = run.known
            self._client.update_run(self._id, status="RUNNING")
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            found = self._client.get_experiment_by_name(name)
            experiment = self._client.create_experiment(name) if found is None else found.experiment_id
            self._id = str(self._client.create_run(experiment, run_name=run.name).info.run_id)
            for key, value in run.settings.items():
                self._client.log_param(self._id, key, value)
        return self._id

    def send(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for name, value in figures.items():
            self._client.log_metric(self._id, name, value, step=step)

    def end(self) -> None:
        """See `Tracker`."""
        if self._given is None:
            self._client.set_terminated(self._id)


TRACKERS: Mapping[str, Callable[[Any], Tracker]] = {"wandb": WandbTracker, "mlflow": MlflowTracker}

_wanted: tuple[str, ...] = ()


@contextmanager
def sending_figures_to(names: Sequence[str]) -> Iterator[None]:
    """Let runs inside the block send their figures to these trackers.

    Raises:
        UserError: there is no such tracker, or it is not installed.
    """
    global _wanted
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"--log-to {name}: there is no such tracker; there are: {', '.join(TRACKERS)}")
        try:
            import_module(name)
        except ImportError:
            raise UserError(f"--log-to {name}: {name} is not installed here: pip install {name}") from None
    before, _wanted = _wanted, tuple(dict.fromkeys(names))
    try:
        yield
    finally:
        _wanted = before


class FigureSender:
    """Sends the figures of a run to the trackers that are wanted. Use as a context manager."""

    def __init__(self, run_name: str, config: BaseModel, kept: Path, say: Tell, patience: float = _PATIENCE) -> None:
        """Begin.

        Args:
            run_name: name of the run's folder.
            config: of the run; see `shown_settings` for what of it is sent.
            kept: file with the trackers' own names for the run, so that a resumed run goes on there.
            say: is told what is given up.
            patience: seconds that a tracker has at the end.
        """
        self._patience = patience
        names = _wanted if writes_files() else ()
        known = _known(kept) if names else {}
        settings = shown_settings(config) if names else {}
        self._threads = [
            _TrackerThread(
                name, TRACKERS[name](sys.modules[name]), TrackedRun(run_name, settings, known.get(name, "")), kept, say
            )
            for name in names
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.end(self._patience)

    def send(self, kind: str, step: int, figures: Mapping[str, float]) -> None:
        """Send figures after `step` updates, each named `kind/name`. It returns at once and never fails."""
        for thread in self._threads:
            thread.put(step, {f"{kind}/{name}": value for name, value in figures.items()})


class _TrackerThread:
    """One tracker, its thread and what waits to be sent."""

    def __init__(self, name: str, tracker: Tracker, run: TrackedRun, kept: Path, say: Tell) -> None:
        self._name, self._tracker, self._run, self._kept, self._say = name, tracker, run, kept, say
        self._waiting: queue.Queue[tuple[int, Mapping[str, float]] | None] = queue.Queue(_MOST_WAITING)
        self._given_up = False
        self._thread = threading.Thread(target=self._work, name=f"figures to {name}", daemon=True)
        self._thread.start()

    def put(self, step: int, figures: Mapping[str, float]) -> None:
        if self._given_up:
            return
        try:
            self._waiting.put_nowait((step, figures))
        except queue.Full:
            self._give_up("it takes figures more slowly than they come")

    def end(self, patience: float) -> None:
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(patience)
        if self._thread.is_alive():
            self._give_up(f"it had not taken all of them after {patience:.0f} s")

    def _work(self) -> None:
        try:
            known = self._tracker.begin(self._run)
            _keep(self._kept, self._name, known)
            while (item := self._waiting.get()) is not None and not self._given_up:
                self._tracker.send(*item)
            self._tracker.end()
        except BaseException as error:
            # Whatever a tracker raises: its words may hold keys and addresses, so its kind alone is told.
            self._give_up(type(error).__name__)

    def _give_up(self, reason: str) -> None:
        if not self._given_up:
            self._given_up = True
            self._say(f"warning: no more figures are sent to {self._name} ({reason}); metrics.jsonl has all of them")


def shown_settings(config: BaseModel) -> dict[str, Any]:
    """The numbers, switches and choices of a config, by dotted key: nothing that a user has spelt freely."""
    found: dict[str, Any] = {}
    for name in type(config).model_fields:
        section = getattr(config, name)
        if not isinstance(section, BaseModel):
            continue
        for key, info in type(section).model_fields.items():
            value = getattr(section, key)
            if isinstance(value, bool | int | float) or (isinstance(value, str) and _is_choice(info.annotation)):
                found[f"{name}.{key}"] = value
    return found


def _is_choice(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return True
    options = [each for each in get_args(annotation) if each is not type(None)]
    return len(options) == 1 and _is_choice(options[0])


_keeping = threading.Lock()


def _known(kept: Path) -> dict[str, str]:
    """The trackers' own names for a run; none where the file is gone or damaged, as a copy can begin anew."""
    try:
        values = parse_json(kept.read_bytes(), kept)
    except (OSError, UserError):
        return {}
    return {name: one_line(each) for name, each in values.items()} if isinstance(values, dict) else {}


def _keep(kept: Path, name: str, known: str) -> None:
    with _keeping:
        write_json(kept, _known(kept) | {name: known})
