"""Labels of a table that only its maker knows: a mapping from cells to labels, asked before a task's own names."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown, shown_cell
from mentallama_jax.imhi.labels.gold_response import REASONING, read_gold
from mentallama_jax.imhi.tasks import Task

_MOST_SHOWN = 8


def parse_mapping(text: str) -> dict[str, str]:
    """The mapping of an option such as `1=yes,0=no`: cell -> label.

    Raises:
        UserError: it is no such list, or a cell stands twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        cell, sign, label = (word.strip() for word in part.rpartition("="))
        if not sign or not cell or not label:
            raise UserError(f"--labels {shown(part)}: give CELL=LABEL, such as 1=yes, or a FILE.yaml of such pairs")
        if cell in found:
            raise UserError(f"--labels gives {shown(cell)} twice; keep one of them")
        found[cell] = label
    return found


@dataclass(slots=True)
class LabelMapping:
    """What the cells of a table mean.

    Attributes:
        task: whose labels they are.
        labels: cell -> label of the task, as the user says it.
        unmapped: cells that mean no label, safe for messages -> rows.
    """

    task: Task
    labels: Mapping[str, str] = field(default_factory=dict)
    unmapped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        known = {label.casefold(): label for label in self.task.labels}
        read: dict[str, str] = {}
        for cell, label in self.labels.items():
            if label.strip().casefold() not in known:
                listed = ", ".join(self.task.labels)
                raise UserError(
                    f"--labels maps {shown(cell)} to {shown(label)}, no label of {self.task.name} ({listed})"
                )
            meant = known[label.strip().casefold()]
            if read.setdefault(_key(cell), meant) != meant:
                raise UserError(
                    f"--labels gives {shown(cell)} two meanings, {shown(read[_key(cell)])} and {shown(meant)}: case, "
                    "blanks around a cell and a full stop behind it do not count; keep one of them"
                )
        self.labels = read

    def check(self, cells: Counter[str]) -> None:
        """Refuse a mapping of a cell that no row has.

        Raises:
            UserError: there is one; what the rows have is named, as far as it is short.
        """
        there = {_key(_head(cell)) for cell in cells}
        absent = [cell for cell in self.labels if cell not in there]
        if absent:
            listed = list(
                dict.fromkeys(shown_cell(_head(cell).strip(), self.task.labels) for cell, _ in cells.most_common())
            )
            more = f" and {len(listed) - _MOST_SHOWN:,} more" if len(listed) > _MOST_SHOWN else ""
            have = ", ".join(listed[:_MOST_SHOWN]) or "none"
            raise UserError(f"--labels maps {shown(absent[0])}, which is the label of no row (rows have: {have}{more})")

    def mapped(self, cell: str) -> str | None:
        """The label that the user gives to a cell, or to what a response begins with; None where it is not named."""
        return self.labels.get(_key(_head(cell)))

    def numbers_otherwise(self, cell: str) -> bool:
        """Whether a cell is a number that is not named, where others are: then 0 is not no by itself."""
        return _is_number(cell) and any(_is_number(named) for named in self.labels)

    def read_response(self, response: str, aspect: str) -> tuple[str, str]:
        """Label and explanation of a gold response.

        Raises:
            UserError: it states no label.
        """
        mapped = self.mapped(response)
        if mapped is not None:
            return mapped, response.partition(REASONING)[2].strip()
        try:
            return read_gold(response, self.task, aspect)
        except UserError:
            self.count(response)
            raise

    def count(self, cell: str) -> None:
        """Note that a cell means no label."""
        self.unmapped[shown_cell(_head(cell).strip(), self.task.labels)] += 1


def _is_number(cell: str) -> bool:
    return _key(cell).lstrip("-").isdecimal()


def _head(cell: str) -> str:
    return cell.partition(REASONING)[0]


def _key(cell: str) -> str:
    """A cell as it is looked up: case, blanks and a full stop do not count, and 1.0 is 1, as data frames write it."""
    key = cell.strip().removesuffix(".").casefold()
    return key.removesuffix(".0") if key.removesuffix(".0").lstrip("-").isdecimal() else key
