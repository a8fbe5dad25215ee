"""One case of the test with damaged files: damage, read, and what may come of it."""

import os
import random
import resource
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError

SEED = 20
MOST_SECONDS = 5.0
MOST_BYTES = 1 << 30
ODD_SHARE = 0.05  # of the cases have something that is no file in the place of one
LONGEST_MESSAGE = 300  # besides the path of the file

SECRET = "nobody may read this"
"""Stands in every post and answer; no message may quote it."""

Files = dict[str, bytes]


class WrongError(Exception):
    """A reader took what it should have refused, or read something else than there is."""


class TooSlowError(BaseException):
    """A reader ran for too long."""


@dataclass(frozen=True)
class Form:
    """A kind of file that somebody else may have written.

    Attributes:
        name: of the kind.
        files: a valid example, by file name.
        damage: changes the files in place and says how.
        read: what the program does with them. It raises `WrongError` where it finds its result to be wrong.
    """

    name: str
    files: Mapping[str, bytes]
    damage: Callable[[Files, random.Random], str]
    read: Callable[[Path], Any]


@dataclass(frozen=True)
class Failure:
    """A case in which something other than an answer or one clear line came out."""

    form: str
    number: int
    damage: str
    what: str

    def __str__(self) -> str:
        return f"python tests/fuzz/repeat.py {self.form} {self.number}  # {self.damage}: {self.what}"


def run_case(form: Form, number: int, folder: Path) -> Failure | None:
    """Write the damaged files of one case into an empty folder, read them, and judge what comes of it."""
    rng = random.Random(f"{SEED}/{form.name}/{number}")
    files = dict(form.files)
    damage = form.damage(files, rng) if number else "nothing"
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    odd = random.Random(f"{SEED}/{form.name}/{number}/odd")
    if number and odd.random() < ODD_SHARE:
        name = odd.choice(sorted(name for name in files if not name.endswith(".txt")))
        damage += _put_something_else(folder / name, odd)
    what = _outcome(lambda: form.read(folder), folder, refused_is_right=number > 0)
    return None if what is None else Failure(form.name, number, damage, what)


def _put_something_else(path: Path, rng: random.Random) -> str:
    """Let what is no file stand in the place of one."""
    path.unlink()
    kind = rng.choice(["a pipe", "a folder", "a link to nothing", "a link to itself", "a link to a device"])
    if kind == "a pipe":
        os.mkfifo(path)
        # A reader that waits for it cannot be interrupted everywhere: end its waiting once the case is lost.
        timer = threading.Timer(MOST_SECONDS + 0.5, lambda: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)))
        timer.daemon = True
        timer.start()
    elif kind == "a folder":
        path.mkdir()
    else:
        target = {"a link to nothing": "nowhere", "a link to itself": path.name, "a link to a device": "/dev/zero"}
        path.symlink_to(target[kind])
    return f", and {path.name} is {kind}"


def _outcome(read: Callable[[], Any], folder: Path, refused_is_right: bool) -> str | None:
    start, memory = time.perf_counter(), _peak_memory(reset=True)
    what = None
    try:
        with _time_limit(MOST_SECONDS), _memory_limit(3 * MOST_BYTES), warnings.catch_warnings():
            warnings.simplefilter("error")
            read()
    except UserError as error:
        what = _bad_message(str(error), folder) if refused_is_right else f"refused: {error}"
    except WrongError as error:
        what = f"WRONG: {error}"
    except TooSlowError:
        what = "SLOW: stopped"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        what = f"{type(error).__name__}: {str(error)[:150]!r} at {_place(error)}"
    if (seconds := time.perf_counter() - start) > MOST_SECONDS:
        what = f"SLOW: {seconds:.1f} s; {what}"
    if (more := _peak_memory(reset=False) - memory) > MOST_BYTES:
        what = f"LARGE: {more >> 20} MiB; {what}"
    return what


def _bad_message(message: str, folder: Path) -> str | None:
    rest = message.replace(str(folder), "")
    if len(rest) > LONGEST_MESSAGE:
        return f"MESSAGE: {len(rest)} characters: {rest[:200]!r}"
    if SECRET[:20] in message:
        return f"MESSAGE: quotes a post: {rest!r}"
    if not message.isprintable():
        return f"MESSAGE: not printable: {rest!r}"
    return None


def _place(error: BaseException) -> str:
    """Where in the package an exception came from, as `file:line function`."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "mentallama_jax" in frame.filename]
    last = (ours or list(frames))[-1]
    return f"{Path(last.filename).name}:{last.lineno} {last.name}"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _memory_limit(more: int) -> Iterator[None]:
    """Let what asks for far too much memory fail before it takes the machine down; `_peak_memory` judges the rest."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _peak_memory(*, reset: bool) -> int:
    """The most memory that this process has had since the last reset, in bytes; 0 where Linux does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5", "ascii")
        status = Path("/proc/self/status").read_text("ascii")
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) << 10
