"""The table of tasks: the ten IMHI data sets, and those that a user brings as files.

Everything else in the package asks this table; no other file spells a question or a label. The wording of the ten is
verbatim from the released benchmark, odd English included: a model tuned on it sees exactly these strings. The files
are read when the table is first asked.

Tasks of one's own join the table inside `with own_tasks(FILES)` and leave it at its end. A command enters this once,
around all that it does. The table is one for the process, whatever the thread.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from importlib import resources

from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import shown, shown_cell
from mentallama_jax.imhi.task_files.kept_tasks import kept_tasks
from mentallama_jax.imhi.task_files.task import Task
from mentallama_jax.imhi.task_files.task_reading import parse_task
from mentallama_jax.storage import AnyPath, as_path

__all__ = ["TASKS", "Task", "held_out", "own_tasks", "read_task_file", "read_tasks", "task_named"]

SHIPPED = ("DR", "CLP", "dreaddit", "loneliness", "SWMH", "T-SID", "SAD", "CAMS", "MultiWD", "IRF")
"""The data sets of the benchmark, in the order of its tables."""


class TaskTable(Mapping[str, Task]):
    """Canonical name -> task: the shipped ones in the paper's order, then the user's own in theirs."""

    def __init__(self) -> None:
        self._own: tuple[Task, ...] = ()
        self._tasks: dict[str, Task] | None = None
        self._names: dict[str, str] = {}

    @property
    def own(self) -> tuple[Task, ...]:
        """The tasks that are not shipped."""
        return self._own

    @property
    def all(self) -> tuple[Task, ...]:
        """Every task, as a key of caches."""
        return (*_shipped(), *self._own)

    def named(self, name: str) -> str | None:
        """The canonical name of the task with this name or alias, without regard to case."""
        self._table()
        return self._names.get(name.strip().casefold())

    @property
    def names(self) -> tuple[str, ...]:
        """Every name and alias, case-folded."""
        self._table()
        return tuple(self._names)

    def _table(self) -> dict[str, Task]:
        if self._tasks is None:
            self._names = {alias.casefold(): task.name for task in self.all for alias in (task.name, *task.aliases)}
            self._tasks = {task.name: task for task in self.all}
        return self._tasks

    def _set_own(self, tasks: tuple[Task, ...]) -> None:
        self._own, self._tasks = tasks, None

    def __getitem__(self, name: str) -> Task:
        return self._table()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table())

    def __len__(self) -> int:
        return len(self._table())


TASKS = TaskTable()


@contextmanager
def own_tasks(tasks: Iterable[Task | str | AnyPath]) -> Iterator[tuple[Task, ...]]:
    """Let tasks of one's own be known inside the block; blocks can stand in each other.

    Args:
        tasks: task files, folders of runs or exports that keep their tasks, or tasks that were read already. One that
            is known and says the same is no further one.

    Raises:
        UserError: a file that cannot be read, or a name or an alias that another task has.
    """
    before = TASKS.own
    found = before
    for each in tasks:
        for task in (each,) if isinstance(each, Task) else read_tasks(each):
            found = _joined(found, before, task, task.name if isinstance(each, Task) else each)
    TASKS._set_own(found)
    try:
        yield found
    finally:
        TASKS._set_own(before)


def read_tasks(path: str | AnyPath) -> tuple[Task, ...]:
    """The task of a file, or those that the folder of a run or an export keeps.

    Raises:
        UserError: as `read_task_file`.
    """
    return kept_tasks(path) or (read_task_file(path),)


def read_task_file(path: str | AnyPath) -> Task:
    """The task that a file describes.

    Raises:
        UserError: no such file, or not a task; the message names file and key.
    """
    place = as_path(path)
    if not place.is_file():
        raise UserError(f"{place}: no such task file, nor a run that keeps one{_near_place(place)}")
    if place.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"{place}: a task file ends in .yaml; options of one value stop a list of files")
    return parse_task(regular_file(place).read_bytes(), place)


def task_named(name: str) -> Task:
    """The task with this canonical name or alias, without regard to case.

    Raises:
        UserError: no task has this name; the nearest known one is suggested.
    """
    known = TASKS.named(name)
    if known is None:
        near = get_close_matches(name.strip().lower(), TASKS.names, n=1, cutoff=0.6)
        hint = f"; did you mean {TASKS.named(near[0])}?" if near else ""
        hint = "; name several with blanks between" if "," in name else hint
        raise UserError(
            f"unknown data set {shown_cell(name, TASKS.names)}{hint} (known: {', '.join(TASKS)}; --tasks FILE adds "
            "your own)"
        )
    return TASKS[known]


def held_out() -> tuple[str, ...]:
    """The data sets that the generalisation experiment leaves out of training: those whose file says so."""
    return tuple(name for name, task in TASKS.items() if task.held_out)


@cache
def _shipped() -> tuple[Task, ...]:
    folder = resources.files("mentallama_jax.imhi.task_files") / "shipped"
    files = {name: folder / f"{name.lower()}.yaml" for name in SHIPPED}
    return tuple(parse_task(file.read_bytes(), file.name, shipped=True) for file in files.values())


def _joined(known: tuple[Task, ...], before: Sequence[Task], task: Task, place: object) -> tuple[Task, ...]:
    if task in before:
        return known
    names = {name.casefold() for name in (task.name, *task.aliases)}
    for other in (*_shipped(), *known):
        taken = names & {name.casefold() for name in (other.name, *other.aliases)}
        if not taken:
            continue
        if other.is_shipped:
            raise UserError(
                f"{place}: {min(taken)} is a name of the shipped task {other.name}; give your task and its "
                "aliases other names"
            )
        if other.name == task.name and other in before:
            raise UserError(
                f"{place}: another task {task.name} is known already (of the run or the config), and it "
                "differs; give the same file, or leave this one out"
            )
        raise UserError(f"{place}: {min(taken)} is a name of {other.name} too; two tasks cannot share one")
    return (*known, task)


def _near_place(place: AnyPath) -> str:
    """What stands beside a path where nothing is, as a hint."""
    try:
        beside = sorted(each.name for each in place.parent.iterdir())
    except OSError:
        return f"; there is no folder {place.parent}"
    near = get_close_matches(place.name, beside, n=1)
    if not near:
        return "; `mentallama data new-task` writes one"
    return f"; did you mean {shown(near[0])[1:-1]}?"
