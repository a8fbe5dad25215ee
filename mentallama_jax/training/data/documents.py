"""Documents to pieces of at most a row each, tokenised once and kept on disk.

A document is BOS (where the tokenizer puts one before a text), its text, and EOS. One that is longer than a row is cut
into consecutive pieces, each an example of its own: positions begin at 0 and nothing before it is seen. A piece begins
with the last token of the piece before it, as context, so that every token of a document but its first is learnt
exactly once however long rows are, EOS at the end of documents only.

Texts are streamed into files and these are mapped into memory: of a corpus of any size one group of documents is held
at a time, and 12 bytes a piece and 32 a document.
"""

import hashlib
import json
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_open, write_json
from mentallama_jax.imhi.audit import near_copies, posts_in_texts
from mentallama_jax.imhi.audit.posts_in_texts import PostsInTexts
from mentallama_jax.imhi.data_files import text_documents
from mentallama_jax.imhi.data_files.table_rows import Problem
from mentallama_jax.imhi.data_files.text_documents import TextDocument, TextFile, TextLayout, read_documents
from mentallama_jax.parallel.processes import writes_files
from mentallama_jax.terminal import Console
from mentallama_jax.training.data.tokens import FingerprintedTokenizer, TokenStore

_GROUP_DOCUMENTS, _GROUP_CHARACTERS = 256, 1 << 20
_MOST_LISTED = 1000
_CHUNK = 1 << 22


class DocumentTokenizer(FingerprintedTokenizer, Protocol):
    """What reading documents asks of a tokenizer."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without BOS and EOS."""


@dataclass(frozen=True, slots=True)
class Instructions:
    """Records that stand between the documents.

    Attributes:
        store: their tokens.
        share: of the tokens of an epoch, at least 0 and below 1.
        seed: chooses those that are seen once more than others.
    """

    store: TokenStore
    share: float
    seed: int


@dataclass(frozen=True, slots=True)
class LeftOutDocuments:
    """The documents that are not trained on.

    Attributes:
        unusable: how many cannot be used.
        problems: the first of them.
        leaks: how many hold or copy a post that must not be trained on.
        leaks_listed: (the document, id of the post) of the first of them.
    """

    unusable: int
    problems: tuple[Problem, ...]
    leaks: int
    leaks_listed: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """A tokenised corpus.

    Attributes:
        store: its pieces, those of a document side by side, and behind them the instruction records.
        rows: pieces of each document, int64 [documents, 4]: file, number within it, bytes, pieces.
        left_out: what is not in it.
        instructions: how many examples at the end of the store are instruction records.
    """

    store: TokenStore
    rows: NDArray[np.int64]
    left_out: LeftOutDocuments
    instructions: int


def pieces(length: int, longest: int) -> list[tuple[int, int]]:
    """Where the pieces of a document of `length` tokens begin and end; each shares one token with the next.

    Raises:
        ValueError: a document or a piece of fewer than 2 tokens.
    """
    if min(length, longest) < 2:
        raise ValueError("a document and a piece have at least 2 tokens")
    return [(start, min(start + longest, length)) for start in range(0, length - 1, longest - 1)]


def instruction_order(lengths: NDArray[np.int64], tokens: float, seed: int) -> NDArray[np.int64]:
    """Which examples, some several times, come nearest to a number of tokens: whole passes and a part of one.

    Args:
        lengths: int64 [examples], tokens of each.
        tokens: wanted in all.
        seed: decides which examples the part takes.
    """
    random = np.random.Philox(key=np.array([seed % 2**64, 0], dtype=np.uint64))
    order = np.argsort(random.random_raw(len(lengths)), kind="stable")
    ends = np.cumsum(lengths[order])
    passes, rest = divmod(tokens, float(ends[-1]))
    part = int(np.argmin(np.abs(np.concatenate([[0], ends]) - rest)))
    return np.concatenate([*[np.arange(len(lengths))] * int(passes), np.sort(order[:part])])


def load_documents(
    files: Sequence[TextFile],
    layout: TextLayout,
    tokenizer: DocumentTokenizer,
    max_length: int,
    cache_dir: str | Path,
    *,
    forbidden: Mapping[str, str] | None = None,
    instructions: Instructions | None = None,
) -> Documents:
    """Tokenise documents, or take them from the cache; memory does not grow with the text.

    Args:
        files: see `text_documents.find_texts`.
        layout: how they hold documents.
        tokenizer: of the model.
        max_length: most tokens of a piece, at least 2.
        cache_dir: made where absent.
        forbidden: id -> post: documents that hold or copy one are left out.
        instructions: records to be seen between the documents.

    Raises:
        UserError: no document is left, or the cache cannot be written.
    """
    key = _key(files, layout, tokenizer, max_length, forbidden or {}, instructions)
    cache = _DocumentCache(Path(cache_dir).expanduser(), key)
    described = cache.read()
    if described is None:
        reader = _DocumentReader(files, layout, forbidden or {})
        described = cache.write(lambda writer: _write(writer, reader, tokenizer, max_length, instructions))
    left_out = _left_out(described, files)
    if not described["documents"]:
        first = f"; the first problem: {left_out.problems[0]}" if left_out.problems else ""
        leaks = f", {left_out.leaks} hold posts that must not be trained on" if left_out.leaks else ""
        raise UserError(f"no document is left of {len(files)} files{leaks}{first}")
    return _opened(cache, described, files, key, left_out)


def take_documents(documents: Documents, count: int, seed: int) -> Documents:
    """`count` of the documents (or all, if fewer) with all their pieces, chosen by `seed`; in their order.

    Raises:
        ValueError: there are instructions among them.
    """
    if documents.instructions:
        raise ValueError("instructions belong to all the documents")
    if count >= len(documents.rows):
        return documents
    random = np.random.Philox(key=np.array([seed % 2**64, 1], dtype=np.uint64))
    kept = np.sort(np.argsort(random.random_raw(len(documents.rows)), kind="stable")[:count])
    firsts = np.concatenate([[0], np.cumsum(documents.rows[:, 3])])
    chosen = np.concatenate([np.arange(firsts[place], firsts[place + 1]) for place in kept])
    store = documents.store
    spans = [slice(store.offsets[piece], store.offsets[piece + 1]) for piece in chosen]
    rows = documents.rows[kept]
    taken = replace(
        store,
        key=hashlib.sha256(f"{store.key} {count} {seed}".encode()).hexdigest(),
        ids=[store.ids[piece] for piece in chosen],
        tokens=np.concatenate([store.tokens[span] for span in spans]),
        targets=np.concatenate([store.targets[span] for span in spans]),
        offsets=np.concatenate([[0], np.cumsum(store.lengths[chosen])]),
        truncated=store.truncated[chosen],
        text_bytes=int(rows[:, 2].sum()),
    )
    return replace(documents, store=taken, rows=rows)


class _DocumentReader:
    """Yields the documents to learn; counts and lists the others."""

    def __init__(self, files: Sequence[TextFile], layout: TextLayout, forbidden: Mapping[str, str]) -> None:
        self._files, self._layout, self._forbidden = files, layout, PostsInTexts(forbidden)
        self._names = {str(file.path): place for place, file in enumerate(files)}
        self.counts: Counter[str] = Counter()
        self.problems: list[tuple[int, int, str]] = []
        self.leaks: list[tuple[int, int, str]] = []

    def _refuse(self, problem: Problem) -> None:
        self.counts["unusable"] += 1
        if len(self.problems) < _MOST_LISTED:
            self.problems.append((self._names[problem.file], problem.row, problem.reason))

    def read(self) -> Iterator[TextDocument]:
        """Go through all files once."""
        for document in read_documents(self._files, self._layout, self._refuse):
            if (post := self._forbidden.find(document.text)) is None:
                yield document
                continue
            self.counts["leaks"] += 1
            if len(self.leaks) < _MOST_LISTED:
                self.leaks.append((document.file, document.number, post))

    def groups(self) -> Iterator[list[TextDocument]]:
        """The documents in groups that are tokenised together."""
        group: list[TextDocument] = []
        characters = 0
        total = sum(file.size for file in self._files)
        console = Console(stderr=True, quiet=not writes_files())
        columns = (TextColumn("Tokenising"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            task = progress.add_task("", total=total)
            for document in self.read():
                group.append(document)
                characters += len(document.text)
                if len(group) == _GROUP_DOCUMENTS or characters >= _GROUP_CHARACTERS:
                    yield group
                    progress.advance(task, characters)
                    group, characters = [], 0
            if group:
                yield group


def _write(
    writer: "_Writer",
    reader: _DocumentReader,
    tokenizer: DocumentTokenizer,
    max_length: int,
    instructions: Instructions | None,
) -> dict[str, Any]:
    """Write all examples; return what is to be remembered of the documents."""
    bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    for group in reader.groups():
        encoded = tokenizer.encode_batch([document.text for document in group])
        for document, ids in zip(group, encoded, strict=True):
            tokens = np.array([*bos, *ids, tokenizer.eos_id], np.int32)
            if len(tokens) > 1:
                spans = pieces(len(tokens), max_length)
                for start, stop in spans:
                    writer.add(tokens[start:stop], _all_but_first(stop - start))
                size = len(document.text.encode())
                writer.rows.extend((document.file, document.number, size, len(spans)))
    added = 0
    if instructions is not None and len(writer.rows):
        store = instructions.store
        wanted = instructions.share / (1 - instructions.share) * writer.tokens
        for example in instruction_order(store.lengths, wanted, instructions.seed).tolist():
            span = slice(store.offsets[example], store.offsets[example + 1])
            writer.add(store.tokens[span], store.targets[span])
            added += 1
    facts = {"problems": reader.problems, "leaks_listed": reader.leaks, "instructions": added}
    return facts | {name: reader.counts[name] for name in ("unusable", "leaks")}


def _all_but_first(length: int) -> NDArray[np.bool_]:
    targets = np.ones(length, np.bool_)
    targets[0] = False
    return targets


def _key(
    files: Sequence[TextFile],
    layout: TextLayout,
    tokenizer: DocumentTokenizer,
    max_length: int,
    forbidden: Mapping[str, str],
    instructions: Instructions | None,
) -> str:
    digest = hashlib.sha256()
    for code in (__file__, text_documents.__file__, near_copies.__file__, posts_in_texts.__file__):
        digest.update(hashlib.sha256(Path(code).read_bytes()).digest())
    mixed = instructions and (instructions.store.key, instructions.share, instructions.seed)
    known = [(file.path.suffix.lower(), file.sha256) for file in files]
    digest.update(json.dumps([asdict(layout), max_length, tokenizer.fingerprint, known, mixed]).encode())
    for post in sorted(forbidden.items()):
        digest.update(json.dumps(post).encode())
    return digest.hexdigest()


def _left_out(described: Mapping[str, Any], files: Sequence[TextFile]) -> LeftOutDocuments:
    names = [str(file.path) for file in files]
    return LeftOutDocuments(
        described["unusable"],
        tuple(Problem(names[file], number, reason) for file, number, reason in described["problems"]),
        described["leaks"],
        tuple((f"{names[file]}:{number}", post) for file, number, post in described["leaks_listed"]),
    )


def _opened(
    cache: "_DocumentCache",
    described: Mapping[str, Any],
    files: Sequence[TextFile],
    key: str,
    left_out: LeftOutDocuments,
) -> Documents:
    rows = np.fromfile(cache.files["rows"], np.int64).reshape(-1, 4)
    lengths = np.fromfile(cache.files["lengths"], np.int32)
    store = TokenStore(
        key,
        _PieceNames([str(file.path) for file in files], rows, len(lengths)),
        np.memmap(cache.files["tokens"], np.int32, mode="r"),
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        np.memmap(cache.files["targets"], np.bool_, mode="r"),
        np.zeros(len(lengths), np.int32),
        text_bytes=int(rows[:, 2].sum()),
    )
    return Documents(store, rows, left_out, described["instructions"])


class _PieceNames(Sequence[str]):
    """The names of all examples, made when they are asked for."""

    def __init__(self, files: Sequence[str], rows: NDArray[np.int64], count: int) -> None:
        self._files, self._rows, self._count = files, rows, count
        self._ends = np.cumsum(rows[:, 3])

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(self._count))]
        if not -self._count <= place < self._count:
            raise IndexError(place)
        piece = place % self._count
        document = int(np.searchsorted(self._ends, piece, side="right"))
        if document == len(self._rows):
            return f"instruction {piece - int(self._ends[-1]) + 1}"
        file, number, _, count = self._rows[document].tolist()
        within = piece - int(self._ends[document]) + count + 1
        return f"{self._files[file]}:{number}" + (f", piece {within} of {count}" if count > 1 else "")


class _Writer:
    """Adds examples to the files of a corpus that is being made."""

    def __init__(self, streams: Mapping[str, IO[bytes]]) -> None:
        self._streams = streams
        self.tokens = 0
        self.rows = array("q")

    def add(self, tokens: NDArray[np.int32], targets: NDArray[np.bool_]) -> None:
        """Add one example."""
        self._streams["tokens"].write(tokens.tobytes())
        self._streams["targets"].write(targets.tobytes())
        self._streams["lengths"].write(np.int32(len(tokens)).tobytes())
        self.tokens += len(tokens)


class _DocumentCache:
    """The files of a corpus under one key, and a description with their checksums that is written last."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self.files = {name: folder / f"{key}.documents.{name}.bin" for name in ("tokens", "targets", "lengths", "rows")}
        self._description = folder / f"{key}.documents.json"

    def read(self) -> dict[str, Any] | None:
        """What is remembered of the corpus, or None where a file is absent or damaged."""
        try:
            described = json.loads(self._description.read_text(encoding="utf-8"))
            whole = described["crc32"] == self._sums()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return described if whole else None

    def write(self, fill: Callable[[_Writer], dict[str, Any]]) -> dict[str, Any]:
        """Make the files: `fill` adds the examples and returns what is to be remembered of them."""
        try:
            with ExitStack() as stack:
                streams = {name: stack.enter_context(atomic_open(path, "wb")) for name, path in self.files.items()}
                writer = _Writer(streams)
                facts = fill(writer)
                streams["rows"].write(writer.rows.tobytes())
            described = {**facts, "documents": len(writer.rows) // 4, "crc32": self._sums()}
            write_json(self._description, described)
        except OSError as error:
            if error.filename and not str(error.filename).startswith(str(self._folder)):
                raise
            raise UserError(
                f"{self._folder}: the token cache cannot be written ({error.strerror or error}); "
                "name another folder with data.cache_dir"
            ) from None
        return described

    def _sums(self) -> dict[str, int]:
        return {name: _crc32(path) for name, path in self.files.items()}


def _crc32(path: Path) -> int:
    total = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            total = zlib.crc32(chunk, total)
    return total
