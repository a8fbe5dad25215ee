"""Tokenise records once: flat arrays in a cache that is keyed by everything that decides a token."""

import hashlib
import json
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mentallama_jax import chat, imhi
from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_open, write_json
from mentallama_jax.imhi import prompts
from mentallama_jax.imhi.prompts import Encoded, PromptTokenizer
from mentallama_jax.imhi.records import Record
from mentallama_jax.parallel.processes import writes_files
from mentallama_jax.terminal import Console
from mentallama_jax.training.data.batch_spec import CLASSIFIED_TEXTS, PACKED_TOKENS, BatchSpec, paired_texts


class FingerprintedTokenizer(PromptTokenizer, Protocol):
    """A tokenizer that can tell itself from others."""

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides ids."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenStore:
    """Tokenised examples, in the order of the records they were made of.

    Attributes:
        key: SHA-256 of everything that decided the tokens; equal stores have equal keys.
        ids: record ids, one an example.
        tokens: int32 [all tokens], example after example, end tokens included.
        offsets: int64 [examples + 1], where each example begins in `tokens`.
        targets: bool [all tokens], which tokens an example learns to say (at least one of it, never its first); of
            a text with a class, its first token alone.
        truncated: int32 [examples], tokens that the end of each post lost to fit.
        labels: int32 [examples], the class of each text; None where examples have none.
        text_bytes: bytes of the documents that it was made of, in UTF-8; None where examples are no documents.
        sides: tokens of the longest source and of the longest target, where targets (the last tokens of an example)
            stand in rows of their own; None where they share the row with what precedes them.
    """

    key: str
    ids: Sequence[str]
    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    targets: NDArray[np.bool_]
    truncated: NDArray[np.int32]
    labels: NDArray[np.int32] | None = None
    text_bytes: int | None = None
    sides: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def batch_spec(self) -> BatchSpec:
        """The arrays of its batches."""
        if self.sides is not None:
            return paired_texts(*self.sides)
        return PACKED_TOKENS if self.labels is None else CLASSIFIED_TEXTS

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [examples], tokens of each example."""
        return np.diff(self.offsets)

    @property
    def row_lengths(self) -> NDArray[np.int64]:
        """int64 [examples], tokens of a row that each example takes.

        Of a pair, those of its source, or as large a share of the row as its target takes of the row of targets:
        examples whose lengths fit into a row so fit on both sides.
        """
        if self.sides is None:
            return self.lengths
        targets = self.target_counts
        return np.maximum(self.lengths - targets, -(-targets * self.sides[0] // self.sides[1]))

    @property
    def target_counts(self) -> NDArray[np.int64]:
        """int64 [examples], targets of each example."""
        return np.add.reduceat(self.targets, self.offsets[:-1], dtype=np.int64)

    @property
    def truncated_examples(self) -> int:
        """How many posts were cut."""
        return int(np.count_nonzero(self.truncated))

    @property
    def truncated_tokens(self) -> int:
        """Tokens lost to cuts."""
        return int(self.truncated.sum())


def tokenize(
    records: Sequence[Record], style: Style, tokenizer: FingerprintedTokenizer, max_length: int, cache_dir: str | Path
) -> TokenStore:
    """Tokenise records as training examples, or take them from the cache.

    Processes may share a cache: what a key stands for never changes and every file appears at once or not at all. A
    file that was cut short or altered is made again.

    Args:
        records: what to tokenise.
        style: how a record becomes a prompt and a response.
        tokenizer: its `fingerprint` is a part of the key.
        max_length: most tokens of an example; a longer one loses the end of its post.
        cache_dir: made where absent.

    Raises:
        UserError: no records; an example without a target token, or too long with an empty post; a cache that
            cannot be written.
    """
    if not records:
        raise UserError("no examples to tokenise: the data paths and the choice of data sets leave no row")
    ids = tuple(record.id for record in records)
    key = _key(records, style, tokenizer, max_length)
    cache = _Cache(Path(cache_dir).expanduser(), key)
    arrays = cache.read(len(records))
    if arrays is None:
        arrays = _encode(records, lambda record: prompts.encode_example(record, style, tokenizer, max_length))
        cache.write(arrays)
    offsets = np.concatenate([[0], np.cumsum(arrays.examples[:, 0], dtype=np.int64)])
    return TokenStore(key, ids, arrays.tokens, offsets, arrays.targets, arrays.examples[:, 1])


def _key(records: Sequence[Record], style: Style, tokenizer: FingerprintedTokenizer, max_length: int) -> str:
    digest = hashlib.sha256()
    # The code that renders is a part of the key, so that no one has to remember to count a version up.
    folders = (Path(str(package.__file__)).parent for package in (chat, imhi))
    for code in (Path(__file__), *(path for folder in folders for path in sorted(folder.rglob("*.py")))):
        digest.update(hashlib.sha256(code.read_bytes()).digest())
    digest.update(json.dumps([style, max_length, tokenizer.fingerprint]).encode())
    if style in ("chat", "chatml"):
        digest.update(json.dumps(tokenizer.chat_template).encode())
    tasks = {record.dataset: record.task for record in records}
    digest.update(json.dumps({name: tasks[name].fingerprint for name in sorted(tasks)}).encode())
    for record in records:
        content = [record.id, record.dataset, record.aspect, record.label, record.post, record.explanation]
        digest.update(b"\n" + json.dumps(content).encode())
    return digest.hexdigest()


class _Arrays(NamedTuple):
    """What is kept of examples.

    Attributes:
        tokens: int32 [tokens], example after example.
        targets: bool [tokens].
        examples: int32 [examples, 2]: tokens, and tokens cut.
    """

    tokens: NDArray[np.int32]
    targets: NDArray[np.bool_]
    examples: NDArray[np.int32]


def _encode(records: Sequence[Record], encode: Callable[[Record], Encoded]) -> _Arrays:
    tokens, targets = array("i"), bytearray()
    examples = np.empty((len(records), 2), np.int32)
    console = Console(stderr=True, quiet=not writes_files())
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        for number, record in enumerate(progress.track(records, description="Tokenising")):
            encoded = encode(record)
            mask = bytearray(len(encoded.tokens))
            for start, stop in encoded.targets:
                mask[start:stop] = b"\1" * (stop - start)
            if len(mask) != len(encoded.tokens) or not any(mask) or mask[0]:
                where = record.source or record.id
                raise UserError(f"{where}: no prompt, or no target token to learn from; mend the row or leave it out")
            tokens.extend(encoded.tokens)
            targets += mask
            examples[number] = len(encoded.tokens), encoded.truncated
    return _Arrays(np.frombuffer(tokens, np.int32), np.frombuffer(targets, np.bool_), examples)


class _Cache:
    """Three arrays under one key, and a description with their checksums that is written last."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._files = {name: folder / f"{key}.{name}.npy" for name in _Arrays._fields}
        self._description = folder / f"{key}.json"

    def read(self, count: int) -> _Arrays | None:
        """The arrays, mapped into memory, or None where they are absent or damaged."""
        try:
            described = json.loads(self._description.read_text(encoding="utf-8"))
            arrays = _Arrays(*(np.load(path, mmap_mode="r") for path in self._files.values()))
        except (OSError, ValueError, EOFError):
            return None
        if arrays.examples.shape != (count, 2) or described != _describe(arrays):
            return None
        return arrays

    def write(self, arrays: _Arrays) -> None:
        """Write all files, each atomically; processes that do so at once write the same bytes."""
        try:
            for path, values in zip(self._files.values(), arrays, strict=True):
                with atomic_open(path, "wb") as stream:
                    np.save(stream, values)
            write_json(self._description, _describe(arrays))
        except OSError as error:
            raise UserError(
                f"{self._folder}: the token cache cannot be written ({error.strerror or error}); "
                "name another folder with data.cache_dir"
            ) from None


def _describe(arrays: _Arrays) -> dict[str, int]:
    sums = {f"{name}_crc32": zlib.crc32(values.data) for name, values in arrays._asdict().items()}
    return {"examples": len(arrays.examples), "tokens": len(arrays.tokens), **sums}
