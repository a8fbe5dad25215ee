"""What is shown on a terminal: names and texts of strangers appear as they are, and steer nothing.

Tables are readable at any width: one that is too wide is cut into several, each with the columns that name its rows.
"""

import copy
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, Self

import rich.console
from rich.table import Column, Table
from rich.text import Text

from mentallama_jax.foreign import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_WIDEST_WORD = 24
"""Longer words of a column that may wrap, such as paths, are cut into lines."""


class Console(rich.console.Console):
    """The console that everything is printed with: no text is taken for markup or emoji, in tables neither.

    A folder may be called `[/x]` and a model `[red]`. Control characters are shown by their codes. For styles pass
    `style`, or `markup=True` with a text that holds nothing foreign.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is shown."""
        return super().render_str(printable(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; tables so that no cell is cut off."""
        super().print(*(part for each in objects for part in _parts(each, self)), **options)

    def on_broken_pipe(self) -> None:
        """End quietly where nobody reads on, as after `| head`."""
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise SystemExit(141) from None


class NotebookLine:
    """A bar in the cell of a notebook: one line that is written over, as a cell moves no cursor and needs no widget."""

    _WIDTH = 24
    _SECONDS = 0.2

    def __init__(self, total: int, stream: IO[str] | None = None) -> None:
        """Begin with none of `total` done; standard error is what a notebook shows."""
        self._total, self._stream = total, stream or sys.stderr
        self._longest, self._due = 0, 0.0

    def show(self, done: int, figures: str = "") -> None:
        """Show how many are done; some calls in between show nothing, the last one does."""
        if time.monotonic() < self._due and done < self._total:
            return
        full = self._WIDTH * min(done, self._total) // max(self._total, 1)
        line = f"{'█' * full}{'·' * (self._WIDTH - full)} {done}/{self._total} {figures}".rstrip()
        self._longest = max(self._longest, len(line))
        self._stream.write("\r" + line.ljust(self._longest))
        self._stream.flush()
        self._due = time.monotonic() + self._SECONDS

    def close(self) -> None:
        """End the line."""
        if self._longest:
            self._stream.write("\n")
            self._stream.flush()


class CountingBar:
    """How many things are done: a bar on a terminal and in a notebook, nothing elsewhere. Use as a context manager."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._total, self._done = total, 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._line: NotebookLine | None = None

    def __enter__(self) -> Self:
        if self._console.is_jupyter:
            self._line = NotebookLine(self._total)
            self._line.show(0)
        elif self._console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

            columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console)
            self._task = self._bar.add_task("", total=self._total)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._line is not None:
            self._line.close()

    def add(self, count: int) -> None:
        """Count more that are done."""
        self._done += count
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done)
        if self._line is not None:
            self._line.show(self._done)


def _parts(shown: Any, console: Console) -> Sequence[Any]:
    """Something to print: a table that is too wide in parts, anything else as it is."""
    if not isinstance(shown, Table) or len(shown.columns) < 2:
        return (shown,)
    measured = [shown._measure_column(console, console.options, column) for column in shown.columns]
    widest = [each.maximum for each in measured]
    if sum(widest) + shown._extra_width <= console.width:
        return (shown,)
    keys = _keys(shown.columns)
    least = [
        min(high if column.no_wrap else min(low, _WIDEST_WORD), max(console.width // 2, 1) if place in keys else high)
        for place, (column, (low, high)) in enumerate(zip(shown.columns, measured, strict=True))
    ]
    groups: list[list[int]] = []
    for place in range(len(shown.columns)):
        if place in keys:
            continue
        together = [*(groups[-1] if groups else keys), place]
        if groups and sum(least[each] for each in together) + _borders(shown, together) <= console.width:
            groups[-1] = together
        else:
            groups.append([*keys, place])
    _share_out(shown, groups, least, len(keys), console.width)
    return [_part(shown, places, least, widest, console.width, first=not at) for at, places in enumerate(groups)]


def _share_out(table: Table, groups: list[list[int]], least: Sequence[int], keys: int, width: int) -> None:
    """Give the last part a second column, where it has one alone and the part before it can spare one."""
    if len(groups) < 2 or len(groups[-1]) > keys + 1 or len(groups[-2]) < keys + 3:
        return
    together = [*groups[-1][:keys], groups[-2][-1], *groups[-1][keys:]]
    if sum(least[each] for each in together) + _borders(table, together) <= width:
        groups[-2:] = [groups[-2][:-1], together]


def _keys(columns: Sequence[Column]) -> list[int]:
    """The columns that name the rows: the words before the first number, or the first column where all are words."""
    numbers = [place for place, column in enumerate(columns) if column.justify == "right"]
    return list(range(max(min(numbers, default=1), 1)))


def _borders(table: Table, places: Sequence[int]) -> int:
    part = copy.copy(table)
    part.columns = [table.columns[place] for place in places]
    return part._extra_width


def _part(
    table: Table, places: Sequence[int], least: Sequence[int], widest: Sequence[int], width: int, *, first: bool
) -> Table:
    """A table of some columns, each at least as wide as it needs, and wider as long as there is room."""
    part = copy.copy(table)
    part.columns = [
        replace(table.columns[place], _index=index, overflow="fold", no_wrap=False, _cells=table.columns[place]._cells)
        for index, place in enumerate(places)
    ]
    room = width - part._extra_width - sum(least[place] for place in places)
    for column, place in zip(part.columns, places, strict=True):
        more = min(max(room, 0), widest[place] - least[place])
        room -= more
        column.width = max(least[place] + more - part._get_padding_width(column._index), 1)
    if not first and part.title:
        part.title = "continued"
    return part
