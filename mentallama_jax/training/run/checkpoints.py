"""Checkpoints that are whole or do not count: saved in the background, verified before use, best and last kept.

A checkpoint is a folder `checkpoints/00000120` written by orbax. It counts once it was read back and its manifest is
written, and it is used once its files have the checksums of that manifest (see `training.run.manifest`).
"""

import math
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from threading import Thread
from typing import Any, Literal, Self

import jax
from orbax.checkpoint import v1 as ocp

from mentallama_jax.config import HIGHER_IS_BETTER, Metric, RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.models.finite import nonfinite_parameter
from mentallama_jax.parallel.processes import any_says, barrier, first_says, strangers, writes_files
from mentallama_jax.storage import AnyPath, RemotePath, file_sizes
from mentallama_jax.training.run.manifest import (
    Checkpoint,
    complete_checkpoints,
    damage,
    delete,
    file_checksums,
    folder_name,
    has_checksums,
    own_folders,
    read_manifest,
    remove,
    tell,
    write_manifest,
)
from mentallama_jax.training.run.orbax_messages import brief, one_line_each, without_stray_errors
from mentallama_jax.training.run.read_back import Shapes, array_shapes, check_arrays

Which = Literal["best", "last"] | int
_LARGE = 64 * 2**20
_READ_ALONE = ("params/", "_CHECKPOINT", "orbax", "commit")
"""Files of a checkpoint that generation and export read: not the optimizer, which is two thirds of it."""
_PATTERN_CHARACTERS = "*?[\\"
"""What orbax takes for a pattern, or for a separator, in the path of a folder here."""
_NO_URL_CHARACTERS = _PATTERN_CHARACTERS + "]#%"
"""What it or the clients of buckets take for something else in the URL of a folder there."""


one_line_each()


def best_of(checkpoints: list[Checkpoint], metric: Metric) -> Checkpoint | None:
    """The checkpoint with the best score; None where none is scored.

    Of equals it is the one with the lower validation loss, which says more than a figure of a few rows, or the earlier.
    """
    sign = -1 if HIGHER_IS_BETTER[metric] else 1
    scored = [checkpoint for checkpoint in checkpoints if metric in checkpoint.scores]

    def rank(checkpoint: Checkpoint) -> tuple[float, float, int]:
        loss = checkpoint.scores.get("validation_loss", math.inf)
        return sign * checkpoint.scores[metric], loss, checkpoint.step

    return min(scored, key=rank, default=None)


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
    if problem := damage(chosen, _READ_ALONE, tell):
        raise UserError(
            f"{chosen.path}: damaged checkpoint ({problem}); choose another, or train on from the one before"
        )
    return chosen


def load_params(checkpoint: Checkpoint, abstract_params: Any) -> Any:
    """Read the parameters alone, onto the dtypes and shardings of a tree of `jax.ShapeDtypeStruct`.

    Raises:
        UserError: the arrays cannot be read, do not fit the tree, or hold NaN or infinity.
    """
    try:
        params = _load(checkpoint, {"params": abstract_params})["params"]
    except Exception as error:
        raise UserError(f"{checkpoint.path}: cannot be read ({brief(error)})") from None
    _refuse_not_finite(checkpoint, params)
    return params


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
        check_name(directory)
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self._usual = without_stray_errors()
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        self._join()
        if exception_type is None:
            sys.excepthook = self._usual
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

    def restore(
        self, abstract_state: Any, say: Callable[[str], None], total_steps: int | None = None
    ) -> tuple[Checkpoint, Any] | None:
        """Read the newest checkpoint that is whole, and remove the incomplete and damaged ones after it.

        Args:
            abstract_state: the train state of `jax.ShapeDtypeStruct`, shardings included. Its frozen parameters are
                not kept in checkpoints, as they are those of the base model.
            say: is told in one line of each checkpoint that cannot be used.
            total_steps: updates of the run; a checkpoint beyond them is refused.

        Returns:
            The checkpoint and its state, without frozen parameters; None where no checkpoint was completed yet.

        Raises:
            UserError: a manifest or a file cannot be read now, a checkpoint is whole and does not fit, or all of them
                are damaged. Nothing is removed then.
        """
        complete = self.complete
        if others := strangers(str([checkpoint.step for checkpoint in complete])):
            raise UserError(
                f"{self.directory}: process {', '.join(map(str, others))} sees other checkpoints there than process 0; "
                "name a training.run_dir on storage that all hosts share"
            )
        if complete and total_steps is not None and complete[-1].step > total_steps:
            raise UserError(f"{complete[-1].path}: the run has {total_steps} updates only; move that checkpoint away")
        for path in own_folders(self.directory):
            if all(path != checkpoint.path for checkpoint in complete):
                say(f"{path}: incomplete (the run was stopped while it was written); not used")
        for checkpoint in reversed(complete):
            # All processes take the same one: what one of them finds damaged is not used by any.
            state, problem = self._read(checkpoint, abstract_state, say)
            if any_says(bool(problem)):
                problem = problem or "another process finds it damaged"
                say(f"{checkpoint.path}: damaged checkpoint ({problem}); trying the one before it")
                continue
            barrier("restored")  # nothing is removed that another process still looks at
            self._keep_only(complete[: complete.index(checkpoint) + 1])
            return checkpoint, state
        if complete:
            raise UserError(f"{self.directory}: no checkpoint can be read; move the folder away to start over")
        barrier("nothing to restore")
        self._keep_only([])
        barrier("cleared")
        return None

    def _read(self, checkpoint: Checkpoint, abstract_state: Any, say: Callable[[str], None]) -> tuple[Any, str | None]:
        """The state of a checkpoint, or what is damaged."""
        problem = damage(checkpoint, say=say, share=(jax.process_index(), jax.process_count()))
        if any_says(bool(problem)):
            return None, problem
        try:
            loaded = _load(checkpoint, _split(abstract_state))
        except Exception as error:
            if not has_checksums(checkpoint):
                return None, brief(error)
            raise UserError(
                f"{checkpoint.path}: its files are whole, and yet it cannot be read ({brief(error)}); nothing is "
                "removed"
            ) from None
        state = {"params": loaded["params"], **loaded["optimizer"]}
        _refuse_not_finite(checkpoint, state)
        return state, None

    def save(self, step: int, state: Any, data_state: dict[str, Any] | None = None) -> None:
        """Start saving in the background; a save under way is waited for first. A step already saved is left as it is.

        Args:
            step: updates done.
            state: the train state; its frozen parameters are left out.
            data_state: where the batches go on, as plain JSON values; see `training.data.batches.BatchSource`.

        Raises:
            UserError: the save before this one failed, for example on a full disk.
        """
        self.wait()
        path = self.directory / folder_name(step)
        if first_says(read_manifest(path) is not None):
            return
        try:
            with _layers_apart():
                response = ocp.save_checkpointables_async(_orbax_path(path), _split(state))
        except Exception as error:
            self._fail(path, error)
            self.raise_failure()
        commit = partial(self._commit, path, step, data_state, response, array_shapes(_split(state)))
        self._saving = Thread(target=commit, name=f"checkpoint-{step}")
        self._saving.start()

    def add_scores(self, step: int, scores: dict[str, float]) -> None:
        """Note what an evaluation found for the checkpoint of `step`, then remove what is neither best nor last."""
        self.wait()
        if not self._writes_files:
            return
        path = self.directory / folder_name(step)
        described = read_manifest(path)
        if described is None:
            raise ValueError(f"{path} is not a complete checkpoint")
        if not all(math.isfinite(score) for score in scores.values()):
            raise ValueError(f"scores of step {step} are not finite: {scores}")
        write_manifest(path, described | {"scores": scores})
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

    def _commit(
        self,
        path: AnyPath,
        step: int,
        data_state: dict[str, Any] | None,
        response: ocp.AsyncResponse[None],
        shapes: Shapes,
    ) -> None:
        """Make the checkpoint count once orbax is done and all of it was read back; runs in a thread."""
        try:
            response.result()
            if self._writes_files:
                check_arrays(Path(_orbax_path(path)) if isinstance(path, Path) else path, shapes)
                files = file_sizes(path)
                content = {"step": step, "scores": {}, "config": self._config, "data": data_state, "files": files}
                write_manifest(path, content | {"checksums": file_checksums(path, files)})
                self._rotate()
        except Exception as error:
            self._fail(path, error)

    def _fail(self, path: AnyPath, error: Exception) -> None:
        with suppress(UserError, OSError):
            for part in own_folders(path.parent):  # what is half-written only takes room on a full disk
                if part.name.partition(".")[0] == path.name:
                    remove(part)
        mend = "mend that" if isinstance(path, RemotePath) else "make room"
        self._failure = UserError(
            f"{path}: the checkpoint could not be written ({brief(error)}); {mend}, then run the same command again"
        )

    def _rotate(self) -> None:
        complete = self.complete
        kept = [*complete[-self._keep_last :], best_of(complete, self._metric)]
        for checkpoint in complete:
            if checkpoint not in kept:
                delete(checkpoint.path)

    def _keep_only(self, wanted: list[Checkpoint]) -> None:
        if self._writes_files:
            for path in own_folders(self.directory):
                if all(path != checkpoint.path for checkpoint in wanted):
                    delete(path)


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
    return ocp.load_checkpointables(_orbax_path(checkpoint.path), abstract)


def check_name(directory: AnyPath) -> None:
    """Refuse a folder of checkpoints in whose path orbax or a bucket's client would read a pattern or a URL's end.

    Raises:
        UserError: it is on a bucket, or several processes would need the same other name for it.
    """
    special = _NO_URL_CHARACTERS if isinstance(directory, RemotePath) else _PATTERN_CHARACTERS
    found = sorted(set(os.fspath(directory.absolute())) & set(special))
    if found and (isinstance(directory, RemotePath) or jax.process_count() > 1):
        raise UserError(
            f"{directory.parent}: checkpoints cannot be written below a name with {' '.join(found)}; name another "
            "training.run_dir"
        )


def _orbax_path(path: AnyPath) -> str:
    """What orbax is told: where it would take the path for a pattern, a symbolic link to the same folder."""
    place = path.absolute()
    if isinstance(place, RemotePath) or not set(os.fspath(place)) & set(_PATTERN_CHARACTERS):
        return os.fspath(place)
    return os.fspath(Path(_link_to(place.parent).name, "checkpoints", place.name))


@cache
def _link_to(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    """A folder with the link `checkpoints` to `folder`, removed when the process ends."""
    holder = tempfile.TemporaryDirectory(prefix="mentallama-checkpoints-")
    Path(holder.name, "checkpoints").symlink_to(folder)
    if set(holder.name) & set(_PATTERN_CHARACTERS):
        raise UserError(f"{holder.name}: set TMPDIR to a folder without * ? [ and backslash in its name")
    return holder


def _refuse_not_finite(checkpoint: Checkpoint, tree: Any) -> None:
    if (name := nonfinite_parameter(tree)) is not None:
        raise UserError(f"{checkpoint.path}: {name} holds NaN or infinity; use an earlier checkpoint")
