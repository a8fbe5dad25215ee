"""All that sources hold, read file by file, so that a malformed file does not hide the others."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.cleaning import has_mojibake
from mentallama_jax.imhi.data_files.readers import read_file
from mentallama_jax.imhi.data_files.sources import SourceFile, find_files
from mentallama_jax.imhi.data_files.table_records import ReadResult
from mentallama_jax.imhi.data_files.table_rows import Problem
from mentallama_jax.imhi.records import Record
from mentallama_jax.storage import AnyPath

_COMPLETION_FOLDERS = frozenset(("complete_data", "test_complete"))

_Read = tuple[SourceFile, ReadResult]


@dataclass(frozen=True, slots=True)
class FileCount:
    """What one file holds.

    Attributes:
        file: its name.
        rows: that can be read.
        bad_rows: that cannot.
        mojibake: rows with mojibake in post or explanation.
        twin: whether these are rows of another file, in the completion wording.
    """

    file: str
    rows: int
    bad_rows: int
    mojibake: int
    twin: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    Attributes:
        records: of all files but twins; ids are unique within a file.
        twins: the same rows once more, in the completion wording.
        files: counts of each file that can be read.
        bad_rows: rows that cannot be read.
        unreadable: sources and files that cannot be read at all, one line of explanation each.
        passed_over: files in folders that were not read.
    """

    records: list[Record]
    twins: list[Record]
    files: list[FileCount]
    bad_rows: list[Problem]
    unreadable: list[str]
    passed_over: list[str]


def survey(sources: Sequence[str], *, repair_mojibake: bool = False) -> Survey:
    """Read all that `sources` hold, and the completion files that folders hold besides the same instruction rows.

    What is wrong with a source, a file or a row is not raised: it stands in the survey.

    Args:
        sources: as for `readers.read_records`.
        repair_mojibake: undo UTF-8 that was read as MacRoman, in posts and explanations.
    """
    unreadable: list[str] = []
    with ExitStack() as stack:
        there = [source for source in sources if _is_there(source, unreadable)]
        files, passed_over = find_files(there, "", stack)
        named = list(_read(files, repair_mojibake, unreadable))
        completion = find_files([path for path in passed_over if _is_completion(path)], "", stack)[0]
        besides = list(_read(completion, repair_mojibake, unreadable))
    plain = _parts(read for read in named if not _is_completion(read[0].path))
    twin_files = {
        file.path for file, result in named if _is_completion(file.path) and _parts([(file, result)]) <= plain
    }
    own = [read for read in named if read[0].path not in twin_files]
    twins = [read for read in named if read[0].path in twin_files]
    twins += [read for read in besides if _parts([read]) <= _parts(own)]
    seen = {file.path for file, _ in (*own, *twins)}
    return Survey(
        records=[record for _, result in own for record in result.records],
        twins=[record for _, result in twins for record in result.records],
        files=[_count(read, twin=False) for read in own] + [_count(read, twin=True) for read in twins],
        bad_rows=[problem for _, result in (*own, *twins) for problem in result.problems],
        unreadable=unreadable,
        passed_over=[str(path) for path in passed_over if path not in seen],
    )


def _is_there(source: str, unreadable: list[str]) -> bool:
    try:
        with ExitStack() as stack:
            find_files([source], "", stack)
    except UserError as error:
        unreadable.append(str(error))
        return False
    return True


def _read(files: Iterable[SourceFile], repair_mojibake: bool, unreadable: list[str]) -> Iterator[_Read]:
    """The files that hold rows of a wanted split; a line is added to `unreadable` for each that cannot be read."""
    for file in files:
        try:
            result = read_file(file, repair_mojibake=repair_mojibake)
        except UserError as error:
            unreadable.append(str(error))
        except OSError as error:
            unreadable.append(f"{file.name}: cannot be read ({error.strerror or error})")
        else:
            if result.records or result.problems:
                yield file, result


def _is_completion(path: AnyPath) -> bool:
    return bool(_COMPLETION_FOLDERS.intersection(path.absolute().parts))


def _parts(reads: Iterable[_Read]) -> set[tuple[str, str]]:
    return {(record.dataset, record.split) for _, result in reads for record in result.records}


def _count(read: _Read, twin: bool) -> FileCount:
    file, result = read
    broken = sum(has_mojibake(record.post) or has_mojibake(record.explanation) for record in result.records)
    return FileCount(file.name, len(result.records), len(result.problems), broken, twin)
