"""The folder of a run: what it is made of, who may write to it, and when a run may be resumed from it."""

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from mentallama_jax.config import RunConfig, parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.files import lock_file, regular_file, write_json
from mentallama_jax.foreign import parse_json, reading
from mentallama_jax.imhi.task_files.kept_tasks import KEPT, kept_tasks, to_keep
from mentallama_jax.imhi.tasks import TASKS, Task
from mentallama_jax.models.registry import TrainedConfig, model_config_from_json
from mentallama_jax.parallel.processes import any_says, writes_files
from mentallama_jax.storage import AnyPath, RemotePath, as_path
from mentallama_jax.training.data.tokens import TokenStore
from mentallama_jax.training.run.bucket_run import BucketRun, fetch_files, staging_folder
from mentallama_jax.training.run.disk import naming
from mentallama_jax.training.run.extension import EXTENSIONS, LENGTH, extension_of
from mentallama_jax.training.run.manifest import complete_checkpoints
from mentallama_jax.training.run.same_recipe import (
    MAY_CHANGE,
    SAME_SOURCE,
    is_same_source,
    refuse_changes,
    refuse_other_start,
)

_PACKAGES = ("mentallama-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "transformers")


class SavableTokenizer(Protocol):
    """A tokenizer that can copy its files."""

    def save(self, folder: Path) -> None:
        """Write the files of the tokenizer into a folder."""


class RunDirectory:
    """Paths of a run's files: where `path` is on a bucket, of their copies here; only the checkpoints are there."""

    def __init__(self, path: str | AnyPath, *, extend: bool = False) -> None:
        """Name the files; `extend` allows `prepare` to make a run longer than it was started."""
        self._extend = extend
        self.path = as_path(os.path.expanduser(path) if isinstance(path, str) else path)
        here = staging_folder() if isinstance(self.path, RemotePath) else self.path
        self.config = here / "config.json"
        self.model_config = here / "model_config.json"
        self.versions = here / "versions.json"
        self.data = here / "data.json"
        self.tasks = here / KEPT
        self.tokenizer = here / "tokenizer"
        self.metrics = here / "metrics.jsonl"
        self.loss_curve = here / "loss.png"
        self.tensorboard = here / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.log = here / "log.txt"
        self.trackers = here / "trackers.json"
        self.bad_batch = here / "bad_batch.json"
        self._lock = here / "run.lock"
        self._here = here
        self._bucket: BucketRun | None = None

    @contextmanager
    def locked(self, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Make the folder and hold its lock. The system lets go of it when the process ends, however it ends.

        On a bucket a lock outlives a process that is killed; `say` is told of a wait for it.

        Raises:
            UserError: another process holds it, the folder cannot be written, or it holds something else than a run.
        """
        if not writes_files():
            yield
        elif isinstance(self.path, RemotePath):
            if not (self.path / self.config.name).is_file():
                self._refuse_strangers(path.name for path in self.path.iterdir())
            with BucketRun(self.path, self._here, say) as self._bucket:
                yield
        else:
            with self._locked_here(self.path, say):
                self._sweep()
                yield

    def publish(self) -> None:
        """Bring a bucket up to date with the files that were written here.

        Raises:
            UserError: the bucket cannot be written, or another process has taken the run.
        """
        if self._bucket is not None:
            self._bucket.publish()

    def fetch(self) -> None:
        """Bring the files that describe the run here from a bucket, to be read."""
        if isinstance(self.path, RemotePath):
            fetch_files(self.path, self._here)

    @contextmanager
    def _locked_here(self, path: Path, say: Callable[[str], None]) -> Iterator[None]:
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not self.config.exists():
                self._refuse_strangers(os.listdir(path))
            stream = self._lock.open("a+", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be used ({error.strerror}); name another folder with training.run_dir"
            ) from None
        with stream:
            try:
                if not lock_file(stream):
                    say(
                        f"warning: {self.path}: this file system has no locks, so that nothing keeps a second process "
                        "out; start one at a time"
                    )
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().strip() or "another process"
                raise UserError(
                    f"{self.path}: {holder} is training here; wait for it, or name another training.run_dir"
                ) from None
            except OSError as error:
                raise UserError(
                    f"{self._lock}: cannot be locked ({error.strerror}); name another folder with training.run_dir"
                ) from None
            with naming(self._lock):
                stream.truncate(0)
                stream.write(f"process {os.getpid()} on {socket.gethostname()}")
                stream.flush()
            yield

    def check_shared(self) -> None:
        """Refuse a folder that this process does not share with process 0, which has written into it.

        Raises:
            UserError: it is another folder, on another disk.
        """
        if not (self.path / self.config.name).is_file():
            raise UserError(
                f"{self.path}: process {jax.process_index()} on {socket.gethostname()} does not see the files of "
                "process 0; name a training.run_dir on storage that all hosts share"
            )

    def _refuse_strangers(self, names: Iterable[str]) -> None:
        own = {path.name for path in vars(self).values() if isinstance(path, Path | RemotePath)}
        if strangers := sorted(name for name in set(names) - own if not self._is_temporary(name)):
            raise UserError(f"{self.path}: not a run directory (it holds {strangers[0]}); name a new training.run_dir")

    def _is_temporary(self, name: str) -> bool:
        """Whether a process that was killed left this file or folder while it wrote one of a run."""
        own = "|".join(re.escape(path.name) for path in vars(self).values() if isinstance(path, Path))
        return re.fullmatch(rf"\.({own})\.[^/]+\.tmp", name) is not None

    def _sweep(self) -> None:
        """Remove what killed processes left; the lock is held, so that no other one is writing now."""
        for path in self._here.iterdir():
            if self._is_temporary(path.name):
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def planned_micro_batch_rows(self, config: RunConfig) -> int:
        """The `training.micro_batch_rows` that the plan of the run was made with: those of its first start.

        All processes must ask: process 0 reads the files and tells the others.

        Raises:
            UserError: the description of a run to be resumed cannot be read.
        """
        return any_says(self._planned_rows() if writes_files() else 0) or config.training.micro_batch_rows

    def _planned_rows(self) -> int:
        """What the files of a run to be resumed say of that; 0 where there is none."""
        number = 0
        if complete_checkpoints(self.checkpoints) and self.data.exists():
            number = read_json(self.data).get("planned_micro_batch_rows") or 0
            if type(number) is not int or not 0 <= number <= 2**16:
                raise UserError(f"{self.data}: planned_micro_batch_rows is no number of rows; the file is damaged")
            if not number and self.config.exists():
                number = parse_config(read_json(self.config), str(self.config)).training.micro_batch_rows
        return int(number)

    def check_start(self, config: RunConfig, fingerprint: Callable[[], str] | None) -> None:
        """Refuse a run to be resumed that reads the weights it started from, where `model.source` holds others now.

        Args:
            config: resolved config.
            fingerprint: as in `prepare`.

        Raises:
            UserError: so it is.
        """
        if complete_checkpoints(self.checkpoints):
            refuse_other_start(self.path, config, read_json(self.data).get("model_fingerprint"), fingerprint)

    def prepare(
        self,
        config: RunConfig,
        model_config: TrainedConfig,
        data: Mapping[str, Any],
        tokenizer: SavableTokenizer,
        say: Callable[[str], None],
        fingerprint: Callable[[], str] | None = None,
    ) -> None:
        """Write the descriptions of the run, or compare them with those of the run that is resumed.

        Until the first checkpoint is complete there is nothing to protect, and a new recipe replaces the old one.

        Args:
            config: resolved config.
            model_config: shape of the model.
            data: facts about the data; those under `fingerprints` must stay as they are.
            tokenizer: copied into the folder.
            say: is told of changes that are allowed but may show in the figures.
            fingerprint: tells which weights `model.source` holds; None where it is a shape without weights.

        Raises:
            UserError: the recipe, the model or the data differ; the message shows where.
        """
        described = model_config.to_json()
        rows, source = config.training.micro_batch_rows, None
        extensions: list[dict[str, Any]] = []
        if complete_checkpoints(self.checkpoints):
            # Parsed, so that a key that came with a newer version of the package has its default.
            before = parse_config(read_json(self.config), str(self.config))
            facts = read_json(self.data)
            source = facts.get("model_fingerprint")
            if not isinstance(source, str | None) or not isinstance(facts.get("fingerprints"), dict):
                raise UserError(f"{self.data}: its fingerprints are not what a run writes; the file is damaged")
            may_change: tuple[str, ...] = MAY_CHANGE
            if is_same_source(before, config, source, fingerprint):
                may_change += SAME_SOURCE
            extensions = list(facts.get(EXTENSIONS, []))
            if self._extend and before.training != config.training:
                done = complete_checkpoints(self.checkpoints)[-1].step
                if extension := extension_of(self.path, before.training, config.training, done):
                    may_change += LENGTH
                    extensions.append(extension)
                    say(extension["said"])
            refuse_changes(self.path, "another recipe", _plain(before), _plain(config), may_change)
            # Parsed, as runs of older versions do not state their model type.
            trained = model_config_from_json(read_json(self.model_config), str(self.model_config)).to_json()
            refuse_changes(self.path, "another model", trained, described)
            refuse_changes(self.path, "another task", _of_tasks(kept_tasks(self._here)), _of_tasks(TASKS.own))
            refuse_changes(self.path, "other data", facts["fingerprints"], data["fingerprints"])
            rows = self._planned_rows() or config.training.micro_batch_rows
        else:
            if self._extend:
                raise UserError(f"{self.path}: --extend: there is no checkpoint of a run to extend; leave it out")
            source = fingerprint() if fingerprint is not None else None
        extended = {EXTENSIONS: extensions} if extensions else {}
        with naming(self.tokenizer):
            tokenizer.save(self.tokenizer)
        _write(self.model_config, described)
        _write(self.data, {**data, "model_fingerprint": source, "planned_micro_batch_rows": rows, **extended})
        if TASKS.own:
            _write(self.tasks, to_keep(TASKS.own))
        else:
            self.tasks.unlink(missing_ok=True)
        self._note_versions(say)
        _write(self.config, _plain(config))
        self.publish()

    def _note_versions(self, say: Callable[[str], None]) -> None:
        now = versions()
        before = read_json(self.versions, list) if self.versions.exists() else []
        if not all(isinstance(versions, dict) for versions in before):
            raise UserError(f"{self.versions}: expected a list of JSON objects; the file is damaged")
        if before and before[-1] != now:
            changes = ", ".join(
                f"{key} {before[-1].get(key)} -> {now[key]}" for key in now if before[-1].get(key) != now[key]
            )
            say(f"resuming with other versions ({changes}): losses may differ in their last digits")
        if not before or before[-1] != now:
            _write(self.versions, [*before, now])


def data_fingerprint(store: TokenStore) -> str:
    """SHA-256 of the examples in their order: ids, tokens, which of those are targets, and classes if there are any.

    Pieces of documents are known by their tokens alone: files may move, and there are too many to list.
    """
    if store.text_bytes is not None:
        content = hashlib.sha256(b"documents")
        for values in (store.tokens, store.offsets):
            content.update(np.ascontiguousarray(values).data)
        return content.hexdigest()
    digest = hashlib.sha256("\n".join(store.ids).encode())
    prompts = store.lengths - store.target_counts
    last = np.arange(len(store.tokens)) - np.repeat(store.offsets[:-1], store.lengths) >= np.repeat(
        prompts, store.lengths
    )
    # Where targets are the last tokens of each example, as they are in older runs, the sum is that of older versions.
    told = prompts.astype(np.int32) if np.array_equal(last, store.targets) else store.targets
    classes = () if store.labels is None else (store.labels,)
    for values in (store.tokens, store.offsets, told, *classes):
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of all that decides the figures of a run."""
    packages = {name: _version(name) for name in _PACKAGES}
    device = jax.devices()[0]
    return packages | {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "devices": f"{jax.device_count()} {device.platform} {device.device_kind}",
    }


def read_json(path: Path, kind: type[dict[str, Any]] | type[list[Any]] = dict) -> Any:
    """Read one of the JSON files of a run directory.

    Raises:
        UserError: it is missing, not JSON, or not of that kind.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; is {path.parent} a run directory?")
    with reading(path, "JSON"):
        content = regular_file(path).read_bytes()
    value = parse_json(content, path)
    if not isinstance(value, kind):
        raise UserError(f"{path}: expected a JSON {'object' if kind is dict else 'list'}; the file is damaged")
    return value


def _write(path: Path, value: Any) -> None:
    with naming(path):
        write_json(path, value)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        from mentallama_jax import __version__

        return __version__ if package == "mentallama-jax" else "absent"


def _of_tasks(tasks: Iterable[Task]) -> dict[str, Any]:
    return {task.name: task.to_json() for task in tasks}


def _plain(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")
