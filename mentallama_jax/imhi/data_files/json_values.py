"""The values of a JSONL file or of a JSON array, with the rows that only other programs can read."""

import json
from collections.abc import Iterator
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json, reading
from mentallama_jax.storage import AnyPath

_MARK = b"\xef\xbb\xbf"

JsonRows = list[tuple[int, Any]]
"""Line, or place in an array, from 1, and the value that stands there."""


def json_rows(path: AnyPath) -> tuple[JsonRows, dict[int, str]]:
    """The values of a JSONL file, or of a JSON array, and the rows that other programs can read but this cannot.

    Raises:
        UserError: it cannot be read, or a line is no JSON.
    """
    if path.suffix.lower() == ".json":
        with reading(path, "JSON", may_hold_posts=True):
            content = path.read_bytes().removeprefix(_MARK)
        if content.lstrip()[:1] == b"[":
            values = parse_json(content, path, allow_nan=True, may_hold_posts=True)
            return list(enumerate(values, start=1)), {}
    rows: JsonRows = []
    problems: dict[int, str] = {}
    for number, value, problem in json_lines(path):
        if problem:
            problems[number] = problem
        else:
            rows.append((number, value))
    return rows, problems


def json_lines(path: AnyPath) -> Iterator[tuple[int, Any, str]]:
    """The lines of a JSONL file that are not blank: number, value, and why only other programs can read it, or "".

    Raises:
        UserError: it cannot be read, or a line is no JSON; names the line.
    """
    with reading(path, "JSONL", may_hold_posts=True), path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            text = line.removeprefix(_MARK) if number == 1 else line
            if not text.strip():
                continue
            place = f"{path}, line {number}"
            try:
                yield number, parse_json(text, place, allow_nan=True, may_hold_posts=True), ""
            except UserError as error:
                if not _is_json(text):
                    raise
                yield number, None, str(error).removeprefix(f"{place}: ")


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
