"""From what the user names (files, folders, `sample`, `FOLDER:train`) to the files to read."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.tables import SUFFIXES
from mentallama_jax.imhi.tasks import Task, task_named

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
_OTHER_WORDS = ("instruction", "complete", "completion", "expert", "annotation", "data")
_WORD = re.compile(r"[^-_. ]+")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read and what its place says about its rows.

    Attributes:
        path: the file.
        name: how messages and `Record.source` call it.
        dataset: the data set that its name or its folder names, or None.
        split: "train", "val", "test" or "" when neither name says.
        wanted: the split asked for by `FOLDER:train`, or "".
        expert: whether it is of the expert-written set, which answers test posts a second time.
    """

    path: Path
    name: str
    dataset: Task | None
    split: str
    wanted: str
    expert: bool


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
        raise UserError(f"unknown split {word!r} (known: {', '.join(SPLITS)})") from None


def find_files(sources: Sequence[str | Path], stack: ExitStack) -> tuple[list[SourceFile], list[Path]]:
    """The files behind `sources`, in a stable order and each once, and the files passed over in folders.

    `stack` keeps the bundled sample's files in place until it is closed.

    Raises:
        UserError: a source does not exist or holds no file to read.
    """
    files: dict[Path, SourceFile] = {}
    passed_over: list[Path] = []
    for source in sources:
        found, skipped = _of_source(str(source), stack)
        passed_over += skipped
        for file in found:
            files.setdefault(file.path.resolve(), file)
    return list(files.values()), [path for path in dict.fromkeys(passed_over) if path.resolve() not in files]


def _of_source(source: str, stack: ExitStack) -> tuple[list[SourceFile], list[Path]]:
    place, wanted = source, ""
    if not Path(source).exists():
        before, colon, word = source.rpartition(":")
        if colon:
            place, wanted = before, split_named(word)
    if place == "sample" and not Path(place).exists():
        return list(_sample_files(wanted, stack)), []
    path = Path(place)
    if path.is_file():
        return [_describe(path, wanted)], []
    if not path.is_dir():
        raise UserError(f"{source}: no such file or folder (`sample` is the bundled sample)")
    inside = sorted(found for found in path.rglob("*") if found.suffix.lower() in SUFFIXES and found.is_file())
    skipped = [found for found in inside if set(found.relative_to(path).parts[:-1]) & set(PASSED_OVER)]
    kept = [found for found in inside if found not in set(skipped)]
    if not kept:
        hint = f"; name one of {', '.join(sorted({str(found.parent) for found in skipped}))}" if skipped else ""
        raise UserError(f"{path}: holds no {', '.join(SUFFIXES)} file to read{hint}")
    return [_describe(found, wanted) for found in kept], skipped


def _sample_files(wanted: str, stack: ExitStack) -> Iterator[SourceFile]:
    folder = resources.files("mentallama_jax.imhi") / "sample"
    for split in (wanted,) if wanted else SPLITS:
        path = stack.enter_context(resources.as_file(folder / f"{split}.jsonl"))
        yield SourceFile(path, f"sample/{split}.jsonl", None, split, wanted, expert=False)


def _describe(path: Path, wanted: str) -> SourceFile:
    places = (path.stem, path.absolute().parent.name)
    datasets = (_dataset_in(place) for place in places)
    splits = (_split_in(place) for place in places)
    return SourceFile(
        path=path,
        name=str(path),
        dataset=next((task for task in datasets if task), None),
        split=next((split for split in splits if split), ""),
        wanted=wanted,
        expert="expert" in _words(places[1]),
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
