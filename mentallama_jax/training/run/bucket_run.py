"""A run directory on a bucket: its files are written here and copied there; a lease keeps a second process out.

Nothing can be appended to on a bucket, so that `metrics.jsonl`, the log and the TensorBoard files grow in a folder
here, and go to the bucket whole: before each checkpoint, after each evaluation, at the end, and every few seconds.

The lease is the object `run.lock`, which is created only where there is none, and written again with every beat. A
process that dies leaves it behind: whoever wants it watches it, and takes it once it has not changed for
`STALE_SECONDS`. No clock is compared with that of another machine.
"""

import atexit
import json
import os
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.storage import RemotePath

BEAT_SECONDS = 15.0
"""Between two signs of life, and two copies of what has changed."""
STALE_SECONDS = 60.0
"""How long a lease stays without a sign of life until it is taken over."""
_SETTLE_SECONDS = 2.0
LEASE = "run.lock"


def staging_folder() -> Path:
    """A folder here for the files of a run there, removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="mentallama-run-"))
    _staged.append(folder)
    return folder


_staged: list[Path] = []


@atexit.register
def remove_staging_folders() -> None:
    """Remove them now: for a process that ends without its exit functions."""
    for folder in _staged:
        shutil.rmtree(folder, ignore_errors=True)


def fetch_files(remote: RemotePath, folder: Path) -> None:
    """Copy the files of a run, but for its checkpoints and TensorBoard files."""
    top = [path for path in remote.iterdir() if path.is_file() and path.name != LEASE]
    for path in [*top, *(remote / "tokenizer").rglob("*")]:
        path.download(folder.joinpath(*path.parts[len(remote.parts) :]))


class BucketRun:
    """Holds the lease of a run and copies its files. Use as a context manager, in the process that writes files."""

    def __init__(self, remote: RemotePath, folder: Path, say: Callable[[str], None]) -> None:
        """`folder` is where the files are written; `say` is told of a wait for the lease of a process that is gone."""
        self._remote, self._folder, self._say = remote, folder, say
        self._lease = _Lease(remote / LEASE)
        self._copied: dict[str, tuple[int, int]] = {}
        self._done = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="bucket", daemon=True)

    def __enter__(self) -> "BucketRun":
        self._lease.take(self._say)
        fetch_files(self._remote, self._folder)
        self._copied = self._present()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._done.set()
        self._thread.join()
        try:
            self.publish()
        except UserError:
            if kind is None:
                raise
        finally:
            with suppress(UserError):
                self._lease.give_back()

    def publish(self) -> None:
        """Copy what has changed since it was copied last.

        Raises:
            UserError: the bucket cannot be written, or another process has taken the run.
        """
        self._lease.check()
        with self._one_at_a_time:
            for name, state in self._present().items():
                if self._copied.get(name) == state:
                    continue
                with suppress(FileNotFoundError):  # replaced just now
                    # Read first: a file that grows while it is copied would not be what was announced.
                    (self._remote / name).write_bytes((self._folder / name).read_bytes())
                    self._copied[name] = state

    def _present(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in sorted(self._folder.rglob("*")):
            with suppress(FileNotFoundError):
                if path.is_file() and path.suffix != ".tmp":
                    facts = path.stat()
                    found[path.relative_to(self._folder).as_posix()] = (facts.st_mtime_ns, facts.st_size)
        return found

    def _keep(self) -> None:
        while not self._done.wait(BEAT_SECONDS):
            with suppress(UserError):  # what lasts is met by the training itself, before its next checkpoint
                self._lease.renew()
                self.publish()


class _Lease:
    """An object that says who trains."""

    def __init__(self, path: RemotePath) -> None:
        self._path = path
        self._holder = f"process {os.getpid()} on {socket.gethostname()}"
        self._token = uuid.uuid4().hex
        self._beats = 0
        self._taken_by = ""

    def take(self, say: Callable[[str], None]) -> None:
        """Make it ours, where need be after a wait for a holder that gives no sign of life.

        Raises:
            UserError: its holder is alive, or somebody else took it.
        """
        seen, since = None, time.monotonic()
        while not self._path.create(self._content()):
            content = self._read()
            if self._is_ours(content):  # the answer to our own request was lost
                return
            if content is None:
                continue
            if seen is None:
                seen, since = content, time.monotonic()
                say(f"{self._path}: left by {_holder(content)}; waiting {STALE_SECONDS:.0f} s for a sign of life")
            elif content != seen:
                raise UserError(
                    f"{self._path.parent}: {_holder(content)} is training here; wait for it, or name another "
                    "training.run_dir"
                )
            if time.monotonic() - since > STALE_SECONDS:
                self._path.write_bytes(self._content())
                time.sleep(_SETTLE_SECONDS)  # who wanted it at the same moment has written by now
                self._refuse_others(self._read())
                return
            time.sleep(min(BEAT_SECONDS, STALE_SECONDS) / 5)

    def renew(self) -> None:
        """Give a sign of life, unless it is not ours any more."""
        content = self._read()
        if not self._is_ours(content):
            self._taken_by = _holder(content)
            return
        self._beats += 1
        self._path.write_bytes(self._content())

    def check(self) -> None:
        """Refuse to continue without it."""
        if self._taken_by:
            raise UserError(
                f"{self._path.parent}: this process gave no sign of life for a while, and {self._taken_by} has taken "
                "the run; what it did since is lost"
            )

    def give_back(self) -> None:
        """Remove it, if it is ours."""
        if self._is_ours(self._read()):
            self._path.unlink(missing_ok=True)

    def _refuse_others(self, content: bytes | None) -> None:
        if not self._is_ours(content):
            raise UserError(f"{self._path.parent}: {_holder(content)} has just begun to train here")

    def _content(self) -> bytes:
        return json.dumps({"holder": self._holder, "token": self._token, "beats": self._beats}).encode()

    def _read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def _is_ours(self, content: bytes | None) -> bool:
        return content is not None and self._token.encode() in content


def _holder(content: bytes | None) -> str:
    try:
        return str(json.loads(content or b"")["holder"])
    except (ValueError, TypeError, KeyError):
        return "another process"
