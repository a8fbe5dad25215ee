"""Raw text as documents: `.txt`, JSONL and Parquet files, read one document at a time.

What cannot be used is named by file and number and left out. No more than one document, one line or one batch of a
Parquet file is in memory at once.
"""

import codecs
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mentallama_jax.config import TextDivision
from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import holds_half_pair, parse_json, reading, shown
from mentallama_jax.imhi.data_files.arrow import column_cells
from mentallama_jax.imhi.data_files.cleaning import repair_mojibake
from mentallama_jax.imhi.data_files.sources import tables_below
from mentallama_jax.imhi.data_files.table_rows import Problem, Unread, plain_cell, shown_columns
from mentallama_jax.storage import AnyPath, as_path

SUFFIXES_OF_TEXT = (".txt", ".jsonl", ".parquet")
LONGEST_DOCUMENT = 1 << 24
"""Characters; a long novel has a tenth of them."""
_LONGEST_JSON = 6 * LONGEST_DOCUMENT
_CHUNK = 1 << 20

Refuse = Callable[[Problem], None]
"""Is told of a document, or of a whole file, that is left out."""


@dataclass(frozen=True, slots=True)
class TextLayout:
    """How files hold documents.

    Attributes:
        key: of JSONL and Parquet.
        text_files: whether a `.txt` file is one document, or blank lines separate its documents.
        repair: undo UTF-8 that was read as MacRoman, where it round-trips.
    """

    key: str = "text"
    text_files: TextDivision = "whole"
    repair: bool = False


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of documents.

    Attributes:
        path: here or on a bucket.
        size: bytes.
        sha256: of its bytes.
    """

    path: AnyPath
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TextDocument:
    """One document.

    Attributes:
        file: place of its file in the list that was read.
        number: within the file, from 1: a paragraph, a line of JSONL or a row of Parquet.
        text: never blank.
    """

    file: int
    number: int
    text: str


def find_texts(sources: Sequence[str], refuse: Refuse) -> list[TextFile]:
    """The files behind sources (files and folders), in a stable order and each once; every byte is read.

    Args:
        sources: files, folders or URLs.
        refuse: is told of `.txt` files that hold no text.

    Raises:
        UserError: a source does not exist, or holds no file to read.
    """
    found: dict[AnyPath, AnyPath] = {}
    for source in sources:
        place = as_path(source)
        if place.is_dir():
            paths = tables_below(place, SUFFIXES_OF_TEXT)
        elif place.suffix.lower() in SUFFIXES_OF_TEXT:
            paths = [place]
        else:
            raise UserError(
                f"{source}: raw text is read from folders and files that end in {', '.join(SUFFIXES_OF_TEXT)}"
            )
        if not paths:
            raise UserError(f"{source}: holds no {', '.join(SUFFIXES_OF_TEXT)} file to read")
        for path in paths:
            found.setdefault(path.resolve(), regular_file(path))
    surveyed = []
    for path in found.values():
        file, problem = _survey(path)
        if problem:
            refuse(Problem(str(path), 1, problem))
        else:
            surveyed.append(file)
    return surveyed


def read_documents(files: Sequence[TextFile], layout: TextLayout, refuse: Refuse) -> Iterator[TextDocument]:
    """The documents of files, in order.

    Args:
        files: see `find_texts`.
        layout: how they hold documents.
        refuse: is told of each document that is left out: no text, blank, not UTF-8, not JSON, too long.

    Raises:
        UserError: a file cannot be read, is no Parquet file, or lacks the column.
    """
    for place, file in enumerate(files):
        for number, found in _texts(file, layout):
            text, problem = _checked(found)
            if problem:
                refuse(Problem(str(file.path), number, problem))
            else:
                yield TextDocument(place, number, repair_mojibake(text) if layout.repair else text)


@dataclass(frozen=True, slots=True)
class _Bad:
    """What stands in the place of a document that cannot be read."""

    reason: str


_TOO_LONG = _Bad(f"is longer than {LONGEST_DOCUMENT:,} characters; divide it")


def _checked(found: Any) -> tuple[str, str]:
    """The text of a document, or why there is none."""
    if isinstance(found, _Bad):
        return "", found.reason
    if isinstance(found, UnicodeDecodeError):
        return "", "is not UTF-8"
    if found is None:
        return "", "has no text (an empty cell, null or NaN)"
    if not isinstance(found, str):
        return "", f"holds a {found.kind if isinstance(found, Unread) else type(found).__name__} instead of text"
    if not found.strip():
        return "", "is empty"
    if len(found) > LONGEST_DOCUMENT:
        return "", _TOO_LONG.reason
    if holds_half_pair(found):
        return "", "holds half of a surrogate pair"
    return found, ""


def _survey(path: AnyPath) -> tuple[TextFile, str]:
    """A file's size and digest, and why its bytes are no text; only those of `.txt` have to be."""
    digest, size, problem = hashlib.sha256(), 0, ""
    decoder = codecs.getincrementaldecoder("utf-8")() if path.suffix.lower() == ".txt" else None
    with reading(path, "text", may_hold_posts=True), path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            if decoder is not None and not problem:
                problem = _no_text(chunk, decoder, first=not size)
            digest.update(chunk)
            size += len(chunk)
    if decoder is not None and not problem:
        problem = _no_text(b"", decoder, first=not size, last=True)
    return TextFile(path, size, digest.hexdigest()), problem


def _no_text(chunk: bytes, decoder: codecs.IncrementalDecoder, *, first: bool, last: bool = False) -> str:
    if first and chunk.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "the file is UTF-16; save it as UTF-8"
    if b"\0" in chunk:
        return "the file holds a NUL byte; it is not a text file or is damaged"
    try:
        decoder.decode(chunk, last)
    except UnicodeDecodeError:
        return "the file is not UTF-8; save it as UTF-8"
    return "the file is empty" if first and last else ""


def _texts(file: TextFile, layout: TextLayout) -> Iterator[tuple[int, Any]]:
    """Numbered texts, and what stands in the place of some."""
    suffix = file.path.suffix.lower()
    if suffix == ".parquet":
        try:
            yield from column_cells(file.path, layout.key, file.size)
        except UserError as error:
            hint = "; name it with objective.text_key" if "has no column" in str(error) else ""
            raise UserError(f"{error}{hint}") from None
    elif suffix == ".jsonl":
        yield from _jsonl_cells(file, layout.key)
    elif layout.text_files == "whole" and file.size > 4 * LONGEST_DOCUMENT:
        yield 1, _TOO_LONG
    else:
        with reading(file.path, "text", may_hold_posts=True), file.path.open("rb") as raw:
            stream = io.TextIOWrapper(raw, encoding="utf-8-sig")  # which makes every line end one line feed
            if layout.text_files == "whole":
                yield 1, stream.read().strip("\n")
            else:
                yield from enumerate(_paragraphs(stream), start=1)


def _paragraphs(stream: io.TextIOWrapper) -> Iterator[str | _Bad]:
    """What blank lines separate."""
    lines: list[str] = []
    length = 0
    while line := stream.readline(LONGEST_DOCUMENT + 1):
        if line.strip():
            length += len(line)
            if length <= LONGEST_DOCUMENT:
                lines.append(line)
        elif length:
            yield "".join(lines).rstrip("\n") if length <= LONGEST_DOCUMENT else _TOO_LONG
            lines, length = [], 0
    if length:
        yield "".join(lines).rstrip("\n") if length <= LONGEST_DOCUMENT else _TOO_LONG


def _jsonl_cells(file: TextFile, key: str) -> Iterator[tuple[int, Any]]:
    with reading(file.path, "JSONL", may_hold_posts=True), file.path.open("rb") as stream:
        number = 0
        while line := stream.readline(_LONGEST_JSON):
            number += 1
            if len(line) == _LONGEST_JSON and not line.endswith(b"\n"):
                while (rest := stream.readline(_LONGEST_JSON)) and not rest.endswith(b"\n"):
                    pass
                yield number, _TOO_LONG
            elif line.removeprefix(codecs.BOM_UTF8).strip():
                yield number, _json_cell(line, f"{file.path}, line {number}", key)


def _json_cell(line: bytes, place: str, key: str) -> Any:
    try:
        row = parse_json(line.strip(), place, allow_nan=True, allow_surrogates=True, may_hold_posts=True)
    except UserError as error:
        return _Bad(str(error).removeprefix(f"{place}: "))
    if not isinstance(row, dict):
        return _Bad(f"is no JSON object but a {type(row).__name__}")
    if key not in row:
        return _Bad(f"has no key {shown(key)} (there are: {shown_columns(row)}); name it with objective.text_key")
    return plain_cell(row[key])
