"""Audits raw text before a model goes on with its pre-training: counts, copies, lengths in tokens."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.audit.near_copies import ALIKE, CONTAINED, NearCopy, near_copies_among
from mentallama_jax.imhi.data_files.table_rows import Problem
from mentallama_jax.imhi.data_files.text_documents import TextDocument, TextLayout, find_texts, read_documents
from mentallama_jax.imhi.records import post_id

MOST_COMPARED = 20_000
"""Documents that are compared for near-copies: the first ones of the text."""
_MOST_CHARACTERS = 1 << 26
_GROUP = 256


@dataclass(frozen=True, slots=True)
class DocumentLengths:
    """Tokens of documents, BOS and EOS among them.

    Attributes:
        tokens: of all documents.
        mean: of one; and its quantiles `p5`, `p50`, `p95` and `longest`.
        cut: documents longer than a row of training.
        pieces: what an epoch of training sees, documents and parts of documents.
    """

    tokens: int
    mean: float
    p5: int
    p50: int
    p95: int
    longest: int
    cut: int
    pieces: int


@dataclass(frozen=True, slots=True)
class DocumentAudit:
    """What was found in raw text.

    Attributes:
        files: that were read.
        documents: that can be used.
        characters: of these.
        size: bytes of these in UTF-8.
        problems: documents that cannot be used, and files that hold no text.
        duplicates: (document, the earlier one with the same words) of those that are copies, case and space aside.
        compared: documents that were looked at for near-copies.
        near_copies: pairs of these that are copies in another spelling.
        lengths: in tokens; None where no tokenizer was named.
    """

    files: int
    documents: int
    characters: int
    size: int
    problems: tuple[Problem, ...]
    duplicates: tuple[tuple[str, str], ...]
    compared: int
    near_copies: tuple[NearCopy, ...]
    lengths: DocumentLengths | None

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values, with the names of documents."""
        return asdict(self) | {"alike": ALIKE, "contained": CONTAINED}


def audit_documents(
    sources: Sequence[str],
    layout: TextLayout,
    *,
    tokenizer: str | None = None,
    max_length: int = 2048,
    track: Callable[[Iterable[TextDocument]], Iterable[TextDocument]] = lambda documents: documents,
) -> DocumentAudit:
    """Read every document once and look at it; texts are held only for the comparison, up to a bound.

    Args:
        sources: see `text_documents.find_texts`.
        layout: how they hold documents.
        tokenizer: to measure lengths with; None measures none.
        max_length: tokens of a row of training.
        track: is handed the documents and gives them back one by one, to show progress.

    Raises:
        UserError: no such source or tokenizer, or a file that cannot be read.
    """
    if max_length < 2:
        raise UserError("--max-length must be 2 or more")
    measure = _Measure(tokenizer, max_length) if tokenizer else None
    problems: list[Problem] = []
    files = find_texts(sources, problems.append)
    firsts: dict[str, str] = {}
    duplicates: list[tuple[str, str]] = []
    compared: dict[str, str] = {}
    count = characters = size = held = 0
    for document in track(read_documents(files, layout, problems.append)):
        name = f"{files[document.file].path}:{document.number}"
        count, characters, size = count + 1, characters + len(document.text), size + len(document.text.encode())
        if measure is not None:
            measure.add(document.text)
        if (first := firsts.setdefault(post_id(document.text), name)) != name:
            duplicates.append((name, first))
        elif len(compared) < MOST_COMPARED and held + len(document.text) <= _MOST_CHARACTERS:
            compared[name] = document.text
            held += len(document.text)
    return DocumentAudit(
        len(files),
        count,
        characters,
        size,
        tuple(problems),
        tuple(duplicates),
        len(compared),
        tuple(near_copies_among(compared, lambda one, two: True)),
        measure.summary() if measure is not None else None,
    )


class _Measure:
    """Counts the tokens of documents, some at a time."""

    def __init__(self, tokenizer: str, max_length: int) -> None:
        from mentallama_jax.jobs.open_tokenizer import open_tokenizer  # starts jax, which is not needed without

        self._tokenizer, self._max_length = open_tokenizer(tokenizer), max_length
        self._waiting: list[str] = []
        self._lengths = array("q")

    def add(self, text: str) -> None:
        self._waiting.append(text)
        if len(self._waiting) == _GROUP:
            self._count()

    def _count(self) -> None:
        around = 1 + (self._tokenizer.bos_id is not None)
        self._lengths.extend(len(ids) + around for ids in self._tokenizer.encode_batch(self._waiting))
        self._waiting = []

    def summary(self) -> DocumentLengths | None:
        """Summarise what was added; None where that is nothing."""
        self._count()
        lengths = np.sort(np.frombuffer(self._lengths, np.int64))
        if not len(lengths):
            return None
        p5, p50, p95 = (int(lengths[-(-len(lengths) * percent // 100) - 1]) for percent in (5, 50, 95))
        return DocumentLengths(
            tokens=int(lengths.sum()),
            mean=float(lengths.mean()),
            p5=p5,
            p50=p50,
            p95=p95,
            longest=int(lengths[-1]),
            cut=int(np.count_nonzero(lengths > self._max_length)),
            pieces=int(np.maximum(1, -(-(lengths - 1) // (self._max_length - 1))).sum()),
        )
