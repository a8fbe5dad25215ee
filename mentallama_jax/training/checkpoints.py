"""Checkpoints that are whole or do not count: saved in the background, verified before use, best and last kept.

A checkpoint is a folder `checkpoints/00000120` written by orbax. Its `manifest.json` is written last and lists every
file with its size, so that a save that was cut off and a file that was cut off later are both found without
reading the arrays.
"""

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any, Literal, Self

from orbax.checkpoint import v1 as ocp

from mentallama_jax.config import Metric, RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.files import write_json
from mentallama_jax.parallel.processes import any_says, barrier, first_says, strangers, writes_files
from mentallama_jax.storage import AnyPath, RemotePath, file_sizes

MANIFEST = "manifest.json"
Which = Literal["best", "last"] | int
_LARGE = 64 * 2**20
_HIGHER_IS_BETTER: dict[Metric, bool] = {"validation_loss": False, "label_f1": True}

# orbax reports each retry and each file that it cannot read; this module says in one line what matters.
logging.getLogger("absl").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint: its folder, the updates done, and its scores by metric (empty until evaluated)."""

    path: AnyPath
    step: int
    scores: dict[str, float]


def complete_checkpoints(directory: AnyPath) -> list[Checkpoint]:
    """The checkpoints in a folder that have a manifest, oldest first; `damage` tells whether their files are whole."""
    found = []
    for path in _step_folders(directory):
        manifest = _manifest(path)
        if manifest is not None and path.name.isdigit():
            found.append(Checkpoint(path, manifest["step"], manifest["scores"]))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def damage(checkpoint: Checkpoint) -> str | None:
    """What is wrong with the files of a checkpoint, compared with its manifest; None where they are whole."""
    there = file_sizes(checkpoint.path)
    for name, size in (_manifest(checkpoint.path) or {"files": {}})["files"].items():
        if name not in there:
            return f"{name} is missing"
        if there[name] != size:
            return f"{name} has {there[name]} of {size} bytes"
    return None


def best_of(checkpoints: list[Checkpoint], metric: Metric) -> Checkpoint | None:
    """The checkpoint with the best score (the earlier of equals); None where none is scored."""
    sign = -1 if _HIGHER_IS_BETTER[metric] else 1
    scored = [checkpoint for checkpoint in checkpoints if metric in checkpoint.scores]
    return min(scored, key=lambda checkpoint: (sign * checkpoint.scores[metric], checkpoint.step), default=None)


def find_checkpoint(directory: AnyPath, which: Which, metric: Metric) -> Checkpoint:
    """Choose a whole checkpoint to read: the best by `metric`, the last, or one by its step.

    Where nothing was evaluated yet, the best is the last.

    Raises:
        UserError: there is none, or the chosen one is damaged.
    """
    checkpoints = complete_checkpoints(directory)
    if not checkpoints:
        raise UserError(f"{directory}: no complete checkpoint yet; let the run reach its first one")
    chosen: Checkpoint | None
    if which == "best":
        chosen = best_of(checkpoints, metric) or checkpoints[-1]
    elif which == "last":
        chosen = checkpoints[-1]
    else:
        chosen = next((checkpoint for checkpoint in checkpoints if checkpoint.step == which), None)
    if chosen is None:
        steps = ", ".join(str(checkpoint.step) for checkpoint in checkpoints)
        raise UserError(f"{directory}: no checkpoint of step {which} (there are: {steps})")
    if problem := damage(chosen):
        raise UserError(
            f"{chosen.path}: damaged checkpoint ({problem}); choose another, or train on from the one before"
        )
    return chosen


def load_params(checkpoint: Checkpoint, abstract_params: Any) -> Any:
    """Read the parameters alone, onto the dtypes and shardings of a tree of `jax.ShapeDtypeStruct`.

    Raises:
        UserError: the arrays cannot be read or do not fit the tree.
    """
    try:
        return _load(checkpoint, {"params": abstract_params})["params"]
    except Exception as error:
        raise UserError(f"{checkpoint.path}: cannot be read ({_brief(error)})") from None


class Checkpoints:
    """The checkpoints of a run in progress. Use as a context manager: leaving it waits for the save under way."""

    def __init__(self, directory: AnyPath, config: RunConfig) -> None:
        """Open a folder, made where absent; `config` says what is kept, and is stored with each checkpoint."""
        self.directory = directory
        self._metric: Metric = config.evaluation.metric
        self._keep_last = config.checkpoint.keep_last
        self._config = config.model_dump(mode="json")
        self._saving: Thread | None = None
        self._failure: Exception | None = None
        self._writes_files = writes_files()
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        self._join()
        if exception_type is None:
            self.raise_failure()

    @property
    def complete(self) -> list[Checkpoint]:
        """The complete checkpoints, oldest first."""
        return complete_checkpoints(self.directory)

    @property
    def best(self) -> Checkpoint | None:
        """The complete checkpoint with the best score; None where none is scored."""
        return best_of(self.complete, self._metric)

    def restore(self, abstract_state: Any, say: Callable[[str], None]) -> tuple[Checkpoint, Any] | None:
        """Read the newest checkpoint that is whole, and remove what was cut off or lies beyond it.

        Args:
            abstract_state: {"params", "opt_state", "step"} of `jax.ShapeDtypeStruct`, shardings included.
            say: is told in one line of each checkpoint that cannot be used.

        Returns:
            The checkpoint and its state; None where no checkpoint was completed yet.

        Raises:
            UserError: checkpoints were completed, but none can be read.
        """
        complete = self.complete
        if others := strangers(str([checkpoint.step for checkpoint in complete])):
            raise UserError(
                f"{self.directory}: process {', '.join(map(str, others))} sees other checkpoints there than process 0; "
                "name a training.run_dir on storage that all hosts share"
            )
        for path in _step_folders(self.directory):
            if all(path != checkpoint.path for checkpoint in complete):
                say(f"{path}: incomplete (the run was stopped while it was written); not used")
        for checkpoint in reversed(complete):
            # All processes take the same one: what one of them cannot read is not used by any.
            problem = damage(checkpoint)
            if not any_says(bool(problem)):
                try:
                    loaded = _load(checkpoint, _split(abstract_state))
                except Exception as error:
                    problem = _brief(error)
            if any_says(bool(problem)):
                problem = problem or "another process cannot read it"
                say(f"{checkpoint.path}: damaged checkpoint ({problem}); trying the one before it")
                continue
            barrier("restored")  # nothing is removed that another process still looks at
            self._keep_only(complete[: complete.index(checkpoint) + 1])
            return checkpoint, {"params": loaded["params"], **loaded["optimizer"]}
        if complete:
            raise UserError(f"{self.directory}: no checkpoint can be read; move the folder away to start over")
        barrier("nothing to restore")
        self._keep_only([])
        barrier("cleared")
        return None

    def save(self, step: int, state: Any) -> None:
        """Start saving in the background; a save under way is waited for first. A step already saved is left as it is.

        Raises:
            UserError: the save before this one failed, for example on a full disk.
        """
        self.wait()
        path = self.directory / f"{step:08d}"
        if first_says(_manifest(path) is not None):
            return
        try:
            with _layers_apart():
                response = ocp.save_checkpointables_async(os.fspath(path.absolute()), _split(state))
        except Exception as error:
            self._fail(path, error)
            self.raise_failure()
        self._saving = Thread(target=self._commit, args=(path, step, response), name=f"checkpoint-{step}")
        self._saving.start()

    def add_scores(self, step: int, scores: dict[str, float]) -> None:
        """Note what an evaluation found for the checkpoint of `step`, then let go of what is neither best nor last."""
        self.wait()
        if not self._writes_files:
            return
        path = self.directory / f"{step:08d}"
        manifest = _manifest(path)
        if manifest is None:
            raise ValueError(f"{path} is not a complete checkpoint")
        if not all(math.isfinite(score) for score in scores.values()):
            raise ValueError(f"scores of step {step} are not finite: {scores}")
        write_json(path / MANIFEST, manifest | {"scores": scores})
        self._rotate()

    def wait(self) -> None:
        """Wait for the save under way.

        Raises:
            UserError: it failed, for example on a full disk.
        """
        self._join()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise the `UserError` of a background save that failed; do not wait for one under way."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _join(self) -> None:
        if self._saving is not None:
            self._saving.join()
            self._saving = None

    def _commit(self, path: AnyPath, step: int, response: ocp.AsyncResponse[None]) -> None:
        """Runs in a thread: once orbax is done, make the checkpoint count and let go of old ones."""
        try:
            response.result()
            if self._writes_files:
                content = {"step": step, "scores": {}, "config": self._config, "files": file_sizes(path)}
                write_json(path / MANIFEST, content)
                self._rotate()
        except Exception as error:
            self._fail(path, error)

    def _fail(self, path: AnyPath, error: Exception) -> None:
        with suppress(UserError):
            for part in _step_folders(path.parent):  # what is half-written only takes room on a full disk
                if part.name.startswith(path.name):
                    _remove(part)
        mend = "mend that" if isinstance(path, RemotePath) else "make room"
        self._failure = UserError(
            f"{path}: the checkpoint could not be written ({_brief(error)}); {mend}, then run the same command again"
        )

    def _rotate(self) -> None:
        complete = self.complete
        kept = [*complete[-self._keep_last :], best_of(complete, self._metric)]
        for checkpoint in complete:
            if checkpoint not in kept:
                _delete(checkpoint.path)

    def _keep_only(self, wanted: list[Checkpoint]) -> None:
        if self._writes_files:
            for path in _step_folders(self.directory):
                if all(path != checkpoint.path for checkpoint in wanted):
                    _delete(path)


def _split(state: Any) -> dict[str, Any]:
    """Two parts, so that generation and export read the parameters alone."""
    return {"params": state["params"], "optimizer": {"opt_state": state["opt_state"], "step": state["step"]}}


def _layers_apart() -> ocp.Context:
    """Large stacked arrays are stored as one chunk a layer, which `CheckpointTensors` reads alone."""
    storage = ocp.options.ArrayOptions.Saving.StorageOptions

    def options(_: Any, value: Any) -> Any:
        if getattr(value, "ndim", 0) < 3 or value.nbytes < _LARGE:
            return None
        return storage(chunk_byte_size=value.nbytes // value.shape[0], shard_axes=(0,))

    context = ocp.Context()
    context.array.saving.scoped_storage_options_creator = options
    return context


def _load(checkpoint: Checkpoint, abstract: dict[str, Any]) -> dict[str, Any]:
    return ocp.load_checkpointables(os.fspath(checkpoint.path.absolute()), abstract)


def _step_folders(directory: AnyPath) -> Iterator[AnyPath]:
    """Folders of checkpoints, complete or not (orbax adds a suffix until it has written everything)."""
    if directory.is_dir():
        found = [path for path in directory.iterdir() if path.name[:8].isdigit() and path.is_dir()]
        yield from sorted(found, key=lambda path: path.name)


def _manifest(path: AnyPath) -> dict[str, Any] | None:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _delete(path: AnyPath) -> None:
    # The manifest goes first: a deletion that is cut off leaves an incomplete checkpoint, not a damaged one.
    (path / MANIFEST).unlink(missing_ok=True)
    _remove(path)


def _remove(path: AnyPath) -> None:
    if isinstance(path, RemotePath):
        with suppress(UserError):
            path.rmtree()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _brief(error: BaseException) -> str:
    """The first sentence of the first cause, without the store's own description of itself."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()).split(" [tensorstore_spec")[0]
    return text[:200] or type(error).__name__
