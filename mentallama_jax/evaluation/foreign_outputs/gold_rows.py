"""Gold rows that outputs are joined to by their ids, or by their posts where they have no ids."""

import re
from collections.abc import Iterable, Sequence

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task, task_named
from mentallama_jax.storage import AnyPath

_NUMBERED = re.compile(r"(?:(?P<dataset>[^/]+)/)?(?P<number>0|[1-9][0-9]{0,8})", re.ASCII)
_RECORD = re.compile(r"(?P<dataset>[^/]+)/(?:[^/]+/)?(?P<number>[0-9]+)", re.ASCII)


class GoldRows:
    """Records with a label, found by their id, by data set and row number, or by post and question."""

    def __init__(self, name: str, records: Sequence[Record]) -> None:
        """Index records.

        Args:
            name: of where they come from, for messages and signatures.
            records: those without a label are not used.

        Raises:
            UserError: none has a label.
        """
        self.name = name
        labelled = [record for record in records if record.label]
        if not labelled:
            raise UserError(f"--gold {name}: no row of it has a label")
        self._by_id = {record.id: record for record in labelled}
        self._by_post: dict[str, list[Record]] = {}
        for record in labelled:
            self._by_post.setdefault(record.post_id, []).append(record)
        self._by_number: dict[tuple[str, int], list[Record]] = {}
        self._last: dict[str, int] = {}
        """Data set -> the number of its last row, with or without a label."""
        self._files: dict[str, set[str]] = {}
        """Data set -> what stands before the numbers of its rows, such as `DR/test/`: each numbers rows anew."""
        for record in records:
            if (found := _RECORD.fullmatch(record.id)) and found["dataset"] == record.dataset:
                number = int(found["number"])
                self._last[record.dataset] = max(self._last.get(record.dataset, 0), number)
                self._files.setdefault(record.dataset, set()).add(record.id[: found.start("number")])
                if record.label:
                    self._by_number.setdefault((record.dataset, number), []).append(record)

    def first_number(self, ids: Iterable[tuple[str, Task | None]], said: int | None = None) -> int:
        """What the row numbers among ids count from, 0 or 1.

        From 0 where one of them is 0. From 1 where the highest is the last row's, which from 0 would be that of no row,
        and where all have their data set before them, as ours do.

        Args:
            ids: of all outputs, failed ones among them, with the data set of each where it is known.
            said: what the user says.

        Raises:
            UserError: they may count from either; it does not say in which file.
        """
        if said is not None:
            return said
        highest: dict[str, int] = {}
        for id_, task in ids:
            found = None if id_ in self._by_id else _NUMBERED.fullmatch(id_)
            if found is None:
                continue
            if found["number"] == "0":
                return 0
            if not found["dataset"] and task is not None and len(self._files.get(task.name, ())) == 1:
                highest[task.name] = max(highest.get(task.name, 0), int(found["number"]))
        if not highest or any(number == self._last[dataset] for dataset, number in highest.items()):
            return 1
        raise UserError(
            "its ids are row numbers that may count from 0 or from 1, as none is 0 and the highest is not that of the "
            "last gold row; say it by --columns first=0 or first=1"
        )

    def find(self, id_: str, task: Task | None, first: int) -> Record:
        """The gold row of an id such as `DR/test/17`, or of a row number such as `17` or `DR/17`.

        Args:
            id_: of an output.
            task: its data set, where it is known.
            first: what the first row's number is in the outputs, 0 or 1.

        Raises:
            UserError: there is none, several, or one of another data set; says which, without a place.
        """
        numbered = _NUMBERED.fullmatch(id_)
        counts_otherwise = first == 0 and numbered is not None and numbered["dataset"] is not None
        record = (None if counts_otherwise else self._by_id.get(id_)) or self._numbered(id_, task, first)
        if task is not None and record.dataset != task.name:
            raise UserError(f"its id {shown_cell(id_)} is that of a row of {record.dataset}, not of {task.name}")
        return record

    def find_post(self, post: str, asked: Sequence[tuple[Task, str]]) -> Record:
        """The gold row about a post.

        Args:
            post: its `post_id`.
            asked: data sets that it may be of, each with the aspect that is asked about; none says neither.

        Raises:
            UserError: there is none, or there are several that may be meant; without a place.
        """
        questions = {(task.name, aspect) for task, aspect in asked}
        found = [row for row in self._by_post.get(post, ()) if not asked or (row.dataset, row.aspect) in questions]
        if not found:
            raise UserError("it asks about a post that no row with gold is about")
        if len({(row.dataset, row.aspect, row.label) for row in found}) > 1:
            raise UserError(f"it may be any of {len(found)} gold rows about its post; give a column with their ids")
        return found[0]

    def _numbered(self, id_: str, task: Task | None, first: int) -> Record:
        example = next(iter(self._by_id))
        unknown = f"its id {shown_cell(id_)} is that of no row with gold, whose ids are such as {shown_cell(example)}"
        found = _NUMBERED.fullmatch(id_)
        if found is None:
            raise UserError(unknown)
        if found["dataset"]:
            try:
                task = task_named(found["dataset"])
            except UserError:
                raise UserError(unknown) from None
        if task is None:
            raise UserError(f"its id {shown_cell(id_)} is a row number, but its data set is not known (give --dataset)")
        records = self._by_number.get((task.name, int(found["number"]) + 1 - first), [])
        if len(self._files.get(task.name, ())) > 1 or len(records) > 1:
            raise UserError(
                f"its row number {id_} may be that of several gold rows; give one split, as --gold SOURCE:test"
            )
        if not records:
            raise UserError(unknown)
        return records[0]


def gold_rows(source: str | AnyPath) -> GoldRows:
    """The gold rows of a source of records.

    Raises:
        UserError: it cannot be read, or no row has a label.
    """
    return GoldRows(str(source), read_records([source], need_labels=False).records)
