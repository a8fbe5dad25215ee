"""Figures of the pages of a study, each with the file that it comes from and the place in it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mentallama_jax.evaluation.reports.document import FigureTable
from mentallama_jax.evaluation.reports.numerals import (
    NONE,
    count,
    decimal,
    decimal_range,
    percent,
    percent_range,
    points,
    points_range,
)
from mentallama_jax.foreign import parse_json, reading

FEW = "* Few posts: the interval may be too narrow."
"""What a star behind an interval means; a note of tables that have one."""
Keys = tuple[str | int, ...]


def _percent_ends(value: Any, ends: Any = None, warning: Any = None) -> str:
    return f"{percent(value)} ({percent_range(ends, '*' if warning else '')})" if ends else percent(value)


def _decimal_ends(value: Any, ends: Any = None, warning: Any = None) -> str:
    mark = "*" if warning else ""
    return f"{decimal(value)} ({decimal_range(ends)}{mark})" if ends else decimal(value)


def _points_ends(value: Any, ends: Any = None) -> str:
    return f"{points(value)} ({points_range(ends)})" if ends else points(value)


def _probability(value: Any) -> str:
    return NONE if value is None else "< 0.001" if value < 0.001 else decimal(value, 3)


def _duration(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value / 3600:.2f} h" if value >= 3600 else f"{value / 60:.1f} min" if value >= 60 else f"{value:.0f} s"


FORMS: Mapping[str, Callable[..., str]] = MappingProxyType(
    {
        "percent": percent,
        "percent with interval": _percent_ends,
        "decimal": decimal,
        "decimal with interval": _decimal_ends,
        "points with interval": _points_ends,
        "difference with interval": _decimal_ends,
        "count": count,
        "p": _probability,
        "duration": _duration,
        "dollars": lambda value: NONE if value is None else f"{value:,.2f}",
    }
)
"""How values become the text of a cell, by name."""


@dataclass(frozen=True, slots=True)
class TracedCell:
    """A cell that holds figures.

    Attributes:
        text: what is shown.
        file: where the values stand, as `SourceFile.name`.
        keys: the place of each value in the file.
        form: how they become the text, a name in `FORMS`.
    """

    text: str
    file: str
    keys: tuple[Keys, ...]
    form: str


Cell = str | TracedCell


class FiguresFile:
    """A JSON file that figures come from."""

    def __init__(self, path: Path, name: str, value: Any = None, behind: Path | None = None) -> None:
        """Read `path`.

        Args:
            path: the file.
            name: what it is called in the pages.
            value: its content, where it is known.
            behind: the folder of the predictions that it was made of, where its signature does not name them.
        """
        if value is None:
            with reading(path, "JSON"):
                value = parse_json(path.read_bytes(), path)
        self.path, self.name, self.value, self._behind = path, name, value, behind

    def get(self, *keys: str | int) -> Any:
        """The value at a place; None where there is none."""
        found = self.value
        for key in keys:
            try:
                found = found[key]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def cell(self, form: str, *places: Keys) -> Cell:
        """A cell with the values at some places; the sign for none where the first is not there."""
        values = [self.get(*place) for place in places]
        if not values or values[0] is None:
            return NONE
        return TracedCell(FORMS[form](*values), self.name, places, form)

    def predictions(self) -> Iterator[dict[str, str]]:
        """The predictions, or marks of people, that the file was made of: `file` and `sha256`."""
        signatures = [self.get("signature"), *(each for of in (self.get("systems") or {}).values() for each in of)]
        for signature in signatures:
            for key in ("predictions", "marks"):
                for each in (signature.get(key) if isinstance(signature, dict) else None) or ():
                    yield {"file": str(each["file"]), "sha256": str(each["sha256"])}
        for path in sorted(self._behind.glob("*.jsonl")) if self._behind else ():
            yield {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


class TracedTables:
    """Makes tables, and remembers where each figure is from."""

    def __init__(self) -> None:
        """Begin without tables."""
        self.figures: list[dict[str, Any]] = []
        self._files: dict[str, FiguresFile] = {}

    def table(
        self,
        caption: str,
        header: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        source: Sequence[FiguresFile],
        **options: Any,
    ) -> FigureTable:
        """A table of the report.

        Args:
            caption: unique within the report.
            header: one cell a column.
            rows: as many cells each.
            source: the files that cells name.
            options: see `FigureTable`.
        """
        for each in source:
            self._files[each.name] = each
        for number, row in enumerate(rows):
            for column, cell in enumerate(row):
                if isinstance(cell, TracedCell):
                    self.figures.append(
                        {
                            "table": caption,
                            "row": number,
                            "column": column,
                            "text": cell.text,
                            "file": cell.file,
                            "keys": [list(keys) for keys in cell.keys],
                            "form": cell.form,
                        }
                    )
        shown = tuple(tuple(cell.text if isinstance(cell, TracedCell) else cell for cell in row) for row in rows)
        starred = any("*" in cell for row in shown for cell in row)
        notes = tuple(note for note in options.pop("notes", ()) if note != FEW or starred)
        return FigureTable(caption, tuple(header), shown, notes=notes, **options)

    def to_json(self, portable: Callable[[str], str]) -> dict[str, Any]:
        """All figures, and the files they come from with their hashes and those of the predictions behind them."""
        used = {each["file"] for each in self.figures}
        return {
            "schema_version": 1,
            "figures": self.figures,
            "files": {
                name: {
                    "sha256": hashlib.sha256(file.path.read_bytes()).hexdigest(),
                    "predictions": [each | {"file": portable(each["file"])} for each in file.predictions()],
                }
                for name, file in sorted(self._files.items())
                if name in used
            },
        }
