"""The classes that a classifier learns: the labels of one data set, or those of several side by side."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mentallama_jax.config import DataSection
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.mixture import ALL
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS, Task, own_tasks, task_named


@dataclass(frozen=True, slots=True)
class LearntClasses:
    """The labels of some data sets, one after the other; a text is of one data set and has a class of its own labels.

    Attributes:
        tasks: the data sets, in the order of their classes.
    """

    tasks: tuple[Task, ...]

    @property
    def asks(self) -> bool:
        """Whether the question stands before every text, as it says which labels may answer."""
        return len(self.tasks) > 1

    @property
    def groups(self) -> tuple[int, ...]:
        """The place of its data set among `tasks`, for each class."""
        return tuple(place for place, task in enumerate(self.tasks) for _ in task.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The label of each class, behind the name of its data set where there are several."""
        return tuple(f"{task.name}: {label}" if self.asks else label for task in self.tasks for label in task.labels)

    def first(self, dataset: str) -> int:
        """The first class of a data set; its others follow in the order of its labels."""
        place = [task.name for task in self.tasks].index(dataset)
        return sum(len(task.labels) for task in self.tasks[:place])

    def number(self, record: Record) -> int:
        """The class of a record."""
        return self.first(record.dataset) + record.task.labels.index(record.label)


def learnt_classes(datasets: Sequence[str], exclude: Collection[str] = ()) -> LearntClasses:
    """The classes of the data sets with these names or aliases, or of `all`, without those left out.

    They follow the table of data sets, whatever the order of the names.

    Raises:
        UserError: an unknown data set, or none is left.
    """
    taken = set(TASKS) if ALL in datasets else {task_named(name).name for name in datasets}
    taken -= {task_named(name).name for name in exclude}
    if not taken:
        raise UserError("data.exclude leaves out every data set of data.datasets; a classifier needs one")
    return LearntClasses(tuple(task for name, task in TASKS.items() if name in taken))


def classes_of(data: DataSection) -> LearntClasses:
    """The classes of the data sets of a config, tasks of one's own among them.

    Raises:
        UserError: see `learnt_classes`; a task file that cannot be read.
    """
    with own_tasks(data.tasks):
        return learnt_classes(data.datasets, data.exclude)
