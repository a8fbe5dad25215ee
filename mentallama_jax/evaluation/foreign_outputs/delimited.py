"""Tables as text: commas, semicolons or tabs between columns, whichever the header is made of."""

import csv
import io

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.output_table import OutputTable
from mentallama_jax.imhi.data_files.tables import read_csv, text_of
from mentallama_jax.storage import AnyPath

_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}


def delimited_table(path: AnyPath) -> OutputTable:
    """The rows of a table.

    Raises:
        UserError: it cannot be read, or its header fits two delimiters.
    """
    delimiter = delimiter_of(path)
    table = read_csv(path, delimiter)
    if not table.rows and not table.problems:
        raise UserError(f"{path}: holds no rows")
    problems = {problem.row: problem.reason for problem in table.problems}
    return OutputTable(f"table with {_NAMES[delimiter]} between columns", table.columns, table.rows, problems)


def delimiter_of(path: AnyPath) -> str:
    """What stands between the columns of the header.

    Raises:
        UserError: it cannot be read, or two delimiters make as many columns of it.
    """
    text = text_of(path)
    counts = {delimiter: len(_header(text, delimiter)) for delimiter in _NAMES}
    most = max(counts.values())
    likely = [delimiter for delimiter, count in counts.items() if count == most]
    if most > 1 and len(likely) > 1:
        named = " and ".join(_NAMES[delimiter] for delimiter in likely)
        raise UserError(f"{path}: its header has as many {named}; quote names that hold one of them")
    return likely[0]


def header_of(path: AnyPath, delimiter: str) -> list[str]:
    """The names of the columns, where `delimiter` stands between them; none where the header is no such line.

    Raises:
        UserError: the file cannot be read as text.
    """
    return [name.strip() for name in _header(text_of(path), delimiter)]


def _header(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []
