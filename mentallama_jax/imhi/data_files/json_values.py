"""The values of a JSONL file or of a JSON array, with the rows that only other programs can read."""

import json
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json, reading
from mentallama_jax.storage import AnyPath

JsonRows = list[tuple[int, Any]]
"""Line, or place in an array, from 1, and the value that stands there."""


def json_rows(path: AnyPath) -> tuple[JsonRows, dict[int, str]]:
    """The values of a JSONL file, or of a JSON array, and the rows that other programs can read but this cannot.

    Raises:
        UserError: it cannot be read, or a line is no JSON.
    """
    with reading(path, "JSON", may_hold_posts=True):
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    rows: JsonRows = []
    problems: dict[int, str] = {}
    if content.lstrip()[:1] == b"[" and path.suffix.lower() == ".json":
        values = parse_json(content, path, allow_nan=True, may_hold_posts=True)
        return list(enumerate(values, start=1)), {}
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            rows.append((number, parse_json(line, place, allow_nan=True, may_hold_posts=True)))
        except UserError as error:
            if not _is_json(line):
                raise
            problems[number] = str(error).removeprefix(f"{place}: ")
    return rows, problems


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
