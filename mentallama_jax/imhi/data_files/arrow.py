"""Tables from Parquet files and from Arrow streams (of a `datasets` folder), batch by batch and within bounds."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import reading, shown
from mentallama_jax.imhi.data_files.table_rows import Problem, Table, Unread, check_columns, plain_cell, shown_columns
from mentallama_jax.storage import AnyPath, RemotePath

_BATCH_ROWS = 2048
_STREAMED_ROWS = 128
_MOST_TIMES_LARGER = 64
_SPARE_BYTES = 256 << 20
_SPARE_ROWS = 1000


def read_arrow(path: AnyPath) -> Table:
    """Read a `.parquet` or `.arrow` file.

    Cells of a type that no column of records has become `Unread`, but for lists of messages. A row with bytes that are
    not UTF-8 is a problem of its own. What the file claims to hold is compared with its bytes while it is read.

    Raises:
        UserError: not such a file, a column twice, too many columns, or rows that unpack to far more than its bytes.
    """
    form = path.suffix.lower().removeprefix(".")
    with reading(path, form.capitalize(), may_hold_posts=True), _damage_named(path), _opened(path) as (source, size):
        batches = _parquet_batches(source, path, size) if form == "parquet" else _stream_batches(source, path, size)
        rows: list[tuple[int, Mapping[str, Any]]] = []
        problems: list[Problem] = []
        names: tuple[str, ...] = ()
        before = unpacked = 0
        for names, batch in batches:
            unpacked += _unpacked_bytes(batch)
            if unpacked > _MOST_TIMES_LARGER * size + _SPARE_BYTES:
                raise UserError(f"{path}: unpacks to far more than its {size:,} bytes can mean; it is not read")
            _add_batch(batch, names, before, path, rows, problems)
            before += batch.num_rows
        return Table(tuple(name for name in names if name), rows, problems)


@contextmanager
def _damage_named(path: AnyPath) -> Iterator[None]:
    """Turn pyarrow's errors about the content into a line; it raises some as OSError, as if the disk had failed."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{path}: not a valid {path.suffix.lower()} file; it is damaged or cut off") from None


@contextmanager
def _opened(path: AnyPath) -> Iterator[tuple[Any, int]]:
    """What pyarrow reads, and how many bytes it has."""
    import pyarrow

    if isinstance(path, RemotePath):
        content = path.read_bytes()
        yield pyarrow.BufferReader(content), len(content)
    else:
        with pyarrow.OSFile(str(path)) as source:
            yield source, path.stat().st_size


def _parquet_batches(source: Any, path: AnyPath, size: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(source)
    names = tuple(file.schema_arrow.names)
    check_columns(names, path)
    _check_rows(file.metadata.num_rows, path, size)
    # Texts come as a dictionary and places in it, so that a text which stands in every row is in memory once.
    texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
    file = pyarrow.parquet.ParquetFile(source, read_dictionary=texts, metadata=file.metadata)
    yielded = False
    for batch in file.iter_batches(batch_size=_BATCH_ROWS):
        yielded = True
        yield names, batch
    if not yielded:
        yield names, pyarrow.RecordBatch.from_pylist([], schema=file.schema_arrow)


def column_cells(path: AnyPath, column: str, size: int) -> Iterator[tuple[int, Any]]:
    """The cells of one column of a Parquet file with their row numbers, from 1, read batch by batch.

    A cell of a type that is no text and no number is `Unread`; bytes that are not UTF-8 are a `UnicodeDecodeError`.

    Args:
        path: the file.
        column: its name.
        size: bytes of the file.

    Raises:
        UserError: not such a file, no such column, or rows that unpack to far more than its bytes.
    """
    import pyarrow.parquet

    with reading(path, "Parquet", may_hold_posts=True), _damage_named(path), path.open("rb") as stream:
        file = pyarrow.parquet.ParquetFile(stream)
        names = tuple(file.schema_arrow.names)
        check_columns(names, path)
        if column not in names:
            raise UserError(f"{path}: has no column {shown(column)} (there are: {shown_columns(names)})")
        _check_rows(file.metadata.num_rows, path, size)
        before = unpacked = 0
        for batch in file.iter_batches(batch_size=_STREAMED_ROWS, columns=[column]):
            unpacked += batch.nbytes
            if unpacked > _MOST_TIMES_LARGER * size + _SPARE_BYTES:
                raise UserError(f"{path}: unpacks to far more than its {size:,} bytes can mean; it is not read")
            yield from enumerate(_cells(batch.column(0)), start=before + 1)
            before += batch.num_rows


def _stream_batches(source: Any, path: AnyPath, size: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    import pyarrow

    with pyarrow.ipc.open_stream(source) as stream:
        names = tuple(stream.schema.names)
        check_columns(names, path)
        rows = 0
        for batch in stream:
            rows += batch.num_rows
            _check_rows(rows, path, size)
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                yield names, batch.slice(start, _BATCH_ROWS)


def _check_rows(rows: int, path: AnyPath, size: int) -> None:
    if not 0 <= rows <= size + _SPARE_ROWS:
        raise UserError(f"{path}: claims {rows:,} rows in {size:,} bytes; it is damaged or no table of records")


def _add_batch(
    batch: Any,
    names: tuple[str, ...],
    before: int,
    path: AnyPath,
    rows: list[tuple[int, Mapping[str, Any]]],
    problems: list[Problem],
) -> None:
    columns = [_cells(column) for column in batch.columns]
    for place in range(batch.num_rows):
        number = before + place + 1
        cells = {name: column[place] for name, column in zip(names, columns, strict=True) if name}
        bad = next((cell for cell in cells.values() if isinstance(cell, UnicodeDecodeError)), None)
        if bad is None:
            rows.append((number, cells))
        else:
            problems.append(Problem(str(path), number, "a text is not UTF-8"))


def _unpacked_bytes(batch: Any) -> int:
    """The bytes that the cells of a batch would have as a table, texts of a dictionary once for each cell."""
    import pyarrow.compute as compute
    import pyarrow.types as types

    total = 0
    for column in batch.columns:
        total += column.nbytes
        if types.is_dictionary(column.type) and _is_text(column.type.value_type):
            lengths = compute.binary_length(column.dictionary).cast("int64")
            total += compute.sum(lengths.take(column.indices)).as_py() or 0
    return total


def _cells(column: Any) -> list[Any]:
    import pyarrow.compute as compute
    import pyarrow.types as types

    if types.is_dictionary(column.type) and _is_plain(column.type.value_type):
        used = compute.unique(column.indices).drop_null()
        cells = dict(zip(used.to_pylist(), _cells(column.dictionary.take(used)), strict=True))
        return [cells.get(place) for place in column.indices.to_pylist()]
    if not _is_plain(column.type) and not _is_conversation(column.type):
        kind = str(column.type).partition("<")[0].partition("[")[0]
        return [Unread(kind) if valid else None for valid in column.is_valid().to_pylist()]
    try:
        return [plain_cell(cell) for cell in column.to_pylist()]
    except UnicodeDecodeError:
        return [_text(cell) for cell in column]


def _is_plain(kind: Any) -> bool:
    import pyarrow.types as types

    numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return numbers or types.is_null(kind) or _is_text(kind)


def _is_conversation(kind: Any) -> bool:
    """Whether cells are lists of messages: objects that hold texts alone."""
    import pyarrow.types as types

    if not (types.is_list(kind) or types.is_large_list(kind)) or not types.is_struct(kind.value_type):
        return False
    return all(_is_text(field.type) or types.is_null(field.type) for field in kind.value_type)


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _text(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        return error
