"""From what the user names (files, folders, URLs, `sample`, `hub:owner/name`, `FOLDER:train`) to the files to read."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown, shown_cell
from mentallama_jax.imhi.data_files.hub_datasets import PREFIX, fetch_files, load_parts
from mentallama_jax.imhi.data_files.table_rows import Table, table_of_rows
from mentallama_jax.imhi.data_files.tables import SUFFIXES, read_table
from mentallama_jax.imhi.tasks import Task, task_named
from mentallama_jax.storage import AnyPath, RemotePath, as_path, is_remote

SPLITS = ("train", "val", "test")

PASSED_OVER = (
    "complete_data",
    "test_complete",
    "human_evaluation",
    "DR_annotation",
    "label_data_examples",
    "response_generation_examples",
)
"""Folders of the release that hold the same rows in another wording, or no records; read when named themselves."""

_SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test",)}
_SPLIT_WORDS = {word: split for split, words in _SPELLINGS.items() for word in words}
_OTHER_WORDS = ("instruction", "complete", "completion", "expert", "annotation", "data", "imhi")
_WORD = re.compile(r"[^-_. ]+")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read and what its place says about its rows.

    Attributes:
        path: the file, here or on a bucket.
        name: how messages and `Record.source` call it.
        dataset: the data set that its name or its folder names, or None.
        split: "train", "val", "test" or "" when neither name says.
        wanted: the splits asked for, of those that its rows name; empty for all.
        expert: whether it is of the expert-written set, which answers test posts a second time.
        rows: the rows themselves, where they are in memory or come from the hub; None where they are read from `path`.
    """

    path: AnyPath
    name: str
    dataset: Task | None
    split: str
    wanted: frozenset[str] = frozenset()
    expert: bool = False
    rows: Any = field(default=None, repr=False, compare=False)

    def table(self) -> Table:
        """Its rows.

        Raises:
            UserError: see `tables.read_table`.
        """
        if self.rows is None:
            return read_table(self.path)
        table = table_of_rows(self.rows, self.name)
        if not table.rows:
            raise UserError(f"{self.name}: holds no rows")
        return table


def split_named(word: str) -> str:
    """The canonical split ("train", "val", "test") of a spelling such as `validation`; "" stays "".

    Raises:
        UserError: it is no split.
    """
    if not word:
        return ""
    try:
        return _SPLIT_WORDS[word.strip().lower()]
    except KeyError:
        raise UserError(f"unknown split {shown_cell(word)} (known: {', '.join(SPLITS)})") from None


def find_files(
    sources: Sequence[str | AnyPath], split: str, stack: ExitStack
) -> tuple[list[SourceFile], list[AnyPath]]:
    """The files behind `sources`, in a stable order and each once, and the files passed over in folders.

    Hidden files and folders (`.ipynb_checkpoints`) are never looked at.

    `split` is wanted of every source ("" for all); a source that asks for another one gives nothing. `stack` keeps
    the bundled sample's files in place until it is closed.

    Raises:
        UserError: a source does not exist or holds no file to read.
    """
    files: dict[AnyPath, SourceFile] = {}
    passed_over: list[AnyPath] = []
    for source in sources:
        found, skipped, asked = _of_source(str(source), stack)
        passed_over += skipped
        if asked and split and asked != split:
            continue
        wanted = frozenset({asked, split} - {""})
        for file in found:
            seen = files.setdefault(file.path.resolve(), replace(file, wanted=wanted))
            both = seen.wanted | wanted if seen.wanted and wanted else frozenset[str]()
            files[file.path.resolve()] = replace(seen, wanted=both)
    return list(files.values()), [path for path in dict.fromkeys(passed_over) if path.resolve() not in files]


def _of_source(source: str, stack: ExitStack) -> tuple[list[SourceFile], list[AnyPath], str]:
    """The files of one source, those passed over, and the split it asks for."""
    place, wanted = source, ""
    own_colons = 1 if is_remote(source) or source.startswith(PREFIX) else 0
    if source.count(":") > own_colons and not as_path(source).exists():
        place, _, word = source.rpartition(":")
        if word.lower() not in _SPLIT_WORDS:
            raise UserError(f"{source}: no such file or folder, and {shown(word)} is no split ({', '.join(SPLITS)})")
        wanted = split_named(word)
    if place == "sample":
        return list(_sample_files(wanted, stack)), [], wanted
    path: AnyPath = as_path(place)
    if place.startswith(PREFIX):
        if parts := load_parts(place.removeprefix(PREFIX)):
            return list(_hub_parts(place, parts, wanted)), [], wanted
        path = fetch_files(place.removeprefix(PREFIX), SUFFIXES)
    if path.is_file():
        return [_describe(path)], [], wanted
    if not path.is_dir():
        raise UserError(f"{source}: no such file or folder (`sample` is the bundled sample)")
    kept: list[SourceFile] = []
    skipped: list[AnyPath] = []
    for found in tables_below(path):
        if set(found.parts[len(path.parts) : -1]) & set(PASSED_OVER):
            skipped.append(found)
        else:
            kept.append(_describe(found))
    if not kept:
        hint = f"; name one of {', '.join(sorted({str(found.parent) for found in skipped}))}" if skipped else ""
        raise UserError(f"{path}: holds no {', '.join(SUFFIXES)} file to read{hint}")
    return kept, skipped, wanted


def _hub_parts(place: str, parts: Mapping[tuple[str, str], Any], wanted: str) -> Iterator[SourceFile]:
    repository = place.removeprefix(PREFIX).partition("@")[0].rpartition("/")[2]
    for (configuration, part), rows in parts.items():
        name = f"{place}:{part}" if configuration == "default" else f"{place}:{configuration}:{part}"
        split = _split_in(part)
        if not wanted or split in ("", wanted):
            dataset = _dataset_in(configuration) or _dataset_in(repository)
            yield SourceFile(Path(name), name, dataset, split, rows=rows)


def tables_below(folder: AnyPath, suffixes: Sequence[str] = SUFFIXES) -> list[AnyPath]:
    """Every file of these suffixes in a folder and its subfolders, sorted; links are followed, hidden names are not.

    Raises:
        UserError: a subfolder or a table cannot be read. Without a word, the data would be smaller than they seem.
    """
    if isinstance(folder, RemotePath):
        below = ((found, found.parts[len(folder.parts) :]) for found in folder.rglob("*"))
        return [found for found, parts in below if _is_table(found.name, suffixes) and not any(map(_is_hidden, parts))]

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); give the right to, or move it away")

    tables: list[AnyPath] = []
    seen = {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        visible = [name for name in folders if not _is_hidden(name)]
        real = {name: os.path.realpath(os.path.join(place, name)) for name in visible}
        folders[:] = [name for name in visible if real[name] not in seen]
        seen |= {real[name] for name in folders}
        tables += [_regular(Path(place) / name) for name in files if _is_table(name, suffixes) and not _is_hidden(name)]
    return sorted(tables)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _is_table(name: str, suffixes: Sequence[str]) -> bool:
    return os.path.splitext(name)[1].lower() in suffixes


def _regular(path: Path) -> Path:
    if not path.is_file():
        what = "is a link that leads nowhere" if path.is_symlink() else "is no regular file"
        raise UserError(f"{path}: {what}; mend it or move it away")
    return path


def _sample_files(wanted: str, stack: ExitStack) -> Iterator[SourceFile]:
    folder = resources.files("mentallama_jax.imhi") / "sample"
    for split in (wanted,) if wanted else SPLITS:
        path = stack.enter_context(resources.as_file(folder / f"{split}.jsonl"))
        yield SourceFile(path, f"sample/{split}.jsonl", None, split)


def _describe(path: AnyPath) -> SourceFile:
    stem, folder = path.stem, path.absolute().parent.name
    # Any folder may be called after a test of something; one that says the split says nothing else.
    plain_folder = folder if set(_words(folder)) <= {*_SPLIT_WORDS, *_OTHER_WORDS} else ""
    return SourceFile(
        path=path,
        name=str(path),
        dataset=_dataset_in(stem) or _dataset_in(folder),
        split=_split_in(stem) or _split_in(plain_folder),
        expert="expert" in _words(plain_folder),
    )


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _split_in(name: str) -> str:
    return next((_SPLIT_WORDS[word] for word in _words(name) if word in _SPLIT_WORDS), "")


def _dataset_in(name: str) -> Task | None:
    spare = {*_SPLIT_WORDS, *_OTHER_WORDS}
    kept = "-".join(word for word in _words(name) if word not in spare)
    for spelling in (name, kept, kept.replace("-", "_")):
        try:
            return task_named(spelling)
        except UserError:
            continue
    return None
