"""Any section of JSON as plain tables, so that what the report has no form of its own for is shown too.

An object with figures is a row; the keys that lead to it stand at its left. Rows with equal keys share a table.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mentallama_jax.evaluation.reports.document import Block, FigureTable, Paragraph, Terms
from mentallama_jax.evaluation.reports.numerals import NONE, is_range, readable, words

_LONG = 48
_SHOWN = 40
_MOST_ROWS = 30
_VALUE = "value"

KeyPath = tuple[str, ...]


def plain_blocks(
    title: str, by_system: Mapping[str, Any], without: Sequence[str] = (), *, folded: bool = False
) -> list[Block]:
    """Tables of a section, of one system or of several below each other.

    Args:
        title: what the tables are called.
        by_system: system -> the section's value.
        without: keys of the section that are left out, as they are shown elsewhere.
        folded: whether all tables are folded away; long ones always are.
    """
    several = len(by_system) > 1
    rows: list[tuple[KeyPath, dict[str, Any]]] = []
    texts: dict[str, str] = {}
    for system, value in by_system.items():
        if not isinstance(value, dict):
            value = {_VALUE: value}
        kept = {key: each for key, each in value.items() if key not in without}
        for path, record in _records(kept, (system,) if several else ()):
            found = {key: each for key, each in record.items() if not _is_long(each)}
            for key, each in record.items():
                if _is_long(each):
                    texts.setdefault(" / ".join((*map(words, path), words(key))), str(each))
            if found:
                rows.append((path, found))
    blocks: list[Block] = [*_tables(title, rows, folded)]
    if texts:
        blocks.append(Terms(tuple(texts.items()), heading=f"{title}, in words"))
    return blocks or [Paragraph("Nothing stands in this section.")]


def _records(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """The objects of a JSON value that hold figures, with the keys that lead to them."""
    if isinstance(value, list):
        for number, each in enumerate(value, start=1):
            yield from _records(each if isinstance(each, dict) else {_VALUE: each}, (*path, str(number)))
        return
    deeper = {key: each for key, each in value.items() if _is_nested(each)}
    own = {key: each for key, each in value.items() if key not in deeper}
    if own:
        yield path, own
    for key, each in deeper.items():
        yield from _records(each, (*path, key))


def _is_nested(value: Any) -> bool:
    return (isinstance(value, dict) and bool(value)) or (
        isinstance(value, list) and any(isinstance(each, dict | list) for each in value)
    )


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value) > _LONG


def _tables(title: str, rows: Sequence[tuple[KeyPath, dict[str, Any]]], folded: bool) -> Iterator[FigureTable]:
    groups: dict[tuple[int, tuple[str, ...]], list[tuple[KeyPath, dict[str, Any]]]] = {}
    alone: list[tuple[str, str]] = []
    for path, record in rows:
        if len(record) == 1 or not path:
            alone += [(" / ".join((*map(words, path), words(key))), _cell(each)) for key, each in record.items()]
        else:
            groups.setdefault((len(path), tuple(record)), []).append((path, record))
    if alone:
        yield FigureTable(title, ("figure", "value"), tuple(alone), folded=folded or len(alone) > _MOST_ROWS)
    for (depth, keys), of_group in groups.items():
        where = " / ".join(words(part) for part in _common([path for path, _ in of_group]))
        what = ", ".join(words(key) for key in keys[:2])
        heads = ("of", *["part"] * (depth - 1), *(words(key) for key in keys))
        body = tuple(
            (*(words(part) for part in path), *(_cell(record[key]) for key in keys)) for path, record in of_group
        )
        caption = f"{title}: {where + ', ' if where else ''}{what}"
        yield FigureTable(caption, heads, body, words=depth, folded=folded or len(body) > _MOST_ROWS)


def _common(paths: Sequence[KeyPath]) -> KeyPath:
    found = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        found.append(parts[0])
    return tuple(found) if len(paths) > 1 else ()


def _cell(value: Any) -> str:
    if isinstance(value, list) and not is_range(value):
        if not value:
            return NONE
        more = f" and {len(value) - _SHOWN} more" if len(value) > _SHOWN else ""
        return ", ".join(readable(each) for each in value[:_SHOWN]) + more
    return readable(value)
