"""From the data section of a config to tokenised examples, and to the facts about them that a run records."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.config import (
    ClassificationSection,
    DataSection,
    DocumentsSection,
    DpoSection,
    RunConfig,
    SequenceSection,
)
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.audit.near_copies import ALIKE, CONTAINED
from mentallama_jax.imhi.audit.posts_in_texts import PostsInTexts
from mentallama_jax.imhi.data_files.preference_pairs import AnswerPair, read_pairs, sample_pairs
from mentallama_jax.imhi.data_files.readers import read_records, split_query
from mentallama_jax.imhi.data_files.table_rows import Problem
from mentallama_jax.imhi.data_files.text_documents import TextLayout, find_texts
from mentallama_jax.imhi.learnt_classes import classes_of
from mentallama_jax.imhi.missing_rows import chosen_datasets, is_bundled, missing_rows
from mentallama_jax.imhi.mixture import Forbidden, forbidden_posts, held_out_rows, mix, sample_rows
from mentallama_jax.imhi.records import Record
from mentallama_jax.training.data.classified import TextTokenizer, class_store
from mentallama_jax.training.data.documents import (
    Documents,
    DocumentTokenizer,
    Instructions,
    load_documents,
    take_documents,
)
from mentallama_jax.training.data.paired import pair_store
from mentallama_jax.training.data.preferred import preference_store
from mentallama_jax.training.data.tokens import FingerprintedTokenizer, TokenStore, tokenize
from mentallama_jax.training.run.run_directory import data_fingerprint

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """What a run trains and is evaluated on.

    Attributes:
        train: tokenised training examples; a row with weight 2 is there twice.
        validation: tokenised examples for the validation loss; None where no validation data is named.
        to_answer: the fixed validation records that generation answers for `label_f1`.
        rows: training rows of each data set.
        facts: fingerprints, counts and problems: what `data.json` records.
        class_counts: int64 [classes], training rows of each class that a classifier learns; None where none is learnt.
        records: the training records, in the order of `train`; none where examples are no records.
    """

    train: TokenStore
    validation: TokenStore | None
    to_answer: list[Record]
    rows: dict[str, int]
    facts: dict[str, Any]
    class_counts: NDArray[np.int64] | None = None
    records: Sequence[Record] = ()


def load_examples(config: RunConfig, tokenizer: FingerprintedTokenizer | TextTokenizer, say: Say) -> Examples:
    """Read, choose and tokenise the rows of a run.

    A source may hold all splits: training takes the rows marked `train` or not at all, validation those marked
    `val` or not at all. Posts of the test rows of data sets that are left out never train.

    Raises:
        UserError: unreadable data, or nothing left of it.
    """
    if isinstance(config.objective, DocumentsSection):
        return _document_examples(config, config.objective, cast(DocumentTokenizer, tokenizer), say)
    if isinstance(config.objective, DpoSection):
        return _pair_examples(config, cast(FingerprintedTokenizer, tokenizer), say)
    reader = _Reader(config, say)
    dropped = _posts_to_drop(config, reader)
    train, forbidden = _training_records(config, reader, say, config.data.train, "data.train", dropped)
    validation = _validation_records(config, reader)
    to_answer = sample_rows(validation, config.evaluation.generate_rows, config.training.seed)
    stores = {"train": _tokens(train, "training", config, tokenizer, say)}
    if validation:
        stores["validation"] = _tokens(validation, "validation", config, tokenizer, say)
    facts: dict[str, Any] = {
        "fingerprints": {name: data_fingerprint(tokens) for name, tokens in stores.items()},
        "train": _facts(train, stores["train"]),
        "validation": _facts(validation, stores["validation"]) if validation else None,
        "label_f1_rows": [record.id for record in to_answer],
        "posts_kept_out_of_training": len(forbidden.posts),
        "near_copies_kept_out_of_training": _near_copies(forbidden),
        "problems": reader.problems,
    }
    counts = None
    if (labels := stores["train"].labels) is not None:
        names = classes_of(config.data).names
        counts = np.bincount(labels, minlength=len(names)).astype(np.int64)
        facts["classes"] = dict(zip(names, counts.tolist(), strict=True))
    return Examples(stores["train"], stores.get("validation"), to_answer, _rows(train), facts, counts, train)


class _Reader:
    """Reads sources as the config says; counts and tells of the rows that cannot be read."""

    def __init__(self, config: RunConfig, say: Say) -> None:
        self._repair, self._strict = config.data.repair_mojibake, config.data.strict
        self._say = say
        self.problems: list[dict[str, Any]] = []

    def read(self, sources: Sequence[str], key: str) -> list[Record]:
        """Every row of the sources; `key` of the config names them in messages."""
        try:
            result = read_records(sources, repair_mojibake=self._repair, strict=self._strict)
        except UserError as error:
            raise UserError(f"{key}: {error}") from None
        if result.problems:
            count, first = len(result.problems), result.problems[0]
            self._say(f"{key}: {count} rows cannot be read and are left out, the first: {first}")
            self.problems.extend(asdict(problem) for problem in result.problems)
        return result.records


def _posts_to_drop(config: RunConfig, reader: _Reader) -> list[Record]:
    return reader.read(config.data.drop_posts_in, "data.drop_posts_in") if config.data.drop_posts_in else []


def _training_records(
    config: RunConfig, reader: _Reader, say: Say, sources: Sequence[str], key: str, dropped: list[Record]
) -> tuple[list[Record], Forbidden]:
    """The training rows of the sources under `key`, and the posts that were kept out of them (`dropped` too)."""
    data = config.data
    everything = reader.read(sources, key)
    tests = held_out_rows(everything, data.exclude) + dropped
    there = _of_split(everything, "train", key)
    if not is_bundled(sources):
        counts = Counter(record.dataset for record in there)
        if missing := missing_rows(counts, "train", chosen_datasets(data.datasets, data.exclude)):
            say(f"{key}: {missing}")
    forbidden = forbidden_posts(tests, there)
    if forbidden.near_copies:
        say(
            f"near-copies of posts that must not be trained on, left out: {len(forbidden.near_copies)} pairs, "
            f"at least {ALIKE:.0%} alike or {CONTAINED:.0%} of the shorter post; data.json lists them"
        )
    records = mix(
        there,
        datasets=data.datasets,
        exclude=data.exclude,
        weights=data.weights,
        balance_labels=data.balance_labels,
        drop_posts=forbidden.posts,
        max_rows=data.max_rows,
        seed=config.training.seed,
    )
    return records, forbidden


def _pair_examples(config: RunConfig, tokenizer: FingerprintedTokenizer, say: Say) -> Examples:
    """The pairs of a run."""
    data, reader = config.data, _Reader(config, say)
    dropped = PostsInTexts({record.post_id: record.post for record in _posts_to_drop(config, reader)})
    problems, stores, facts = reader.problems, {}, {}
    wanted = {"train": (data.train, data.max_rows), "validation": (data.validation, config.evaluation.max_rows)}
    for name, (sources, most) in wanted.items():
        if not sources:
            continue
        key = f"data.{name}"
        try:
            pairs, bad = read_pairs(sources)
            allowed = [pair for pair in pairs if name != "train" or dropped.find(_asked_about(pair)) is None]
            if leaks := len(pairs) - len(allowed):
                say(f"{key}: {leaks} pairs are about posts that must not be trained on and are left out")
            if not allowed:
                raise UserError("every pair is about a post of data.drop_posts_in; name other pairs")
            kept = sample_pairs(allowed, most or len(allowed), config.training.seed)
            store, too_long = preference_store(kept, data.style, tokenizer, data.max_length)
        except UserError as error:
            raise UserError(f"{key}: {error}") from None
        if bad:
            if data.strict:
                raise UserError(f"{key}: {bad[0]} (data.strict)")
            say(f"{key}: {len(bad)} rows are no pairs and are left out, the first: {bad[0]}")
        if too_long:
            say(
                f"{key}: {too_long} of {len(kept)} pairs do not fit into data.max_length {data.max_length} and are "
                "left out"
            )
        problems += [asdict(problem) for problem in bad]
        stores[name] = store
        facts[name] = {
            "pairs": len(store),
            "tokens": int(store.lengths.sum()),
            "target_tokens": int(store.targets.sum()),
            "longest_pair": int(store.lengths.max()),
            "leaks": leaks,
            "too_long": too_long,
            "posts_cut": store.truncated_examples,
        }
    prints = {name: data_fingerprint(store) for name, store in stores.items()}
    found: dict[str, Any] = {"fingerprints": prints, **facts, "label_f1_rows": [], "problems": problems}
    return Examples(stores["train"], stores.get("validation"), [], {"pairs": len(stores["train"])}, found)


def _asked_about(pair: AnswerPair) -> str:
    """The post that a pair is about; the whole prompt where it is not in the wording of the benchmark."""
    try:
        return split_query(pair.prompt)[0]
    except UserError:
        return pair.prompt


def _document_examples(
    config: RunConfig, objective: DocumentsSection, tokenizer: DocumentTokenizer, say: Say
) -> Examples:
    """The documents of a run, with the records that stand between them."""
    reader, corpora = _Reader(config, say), _Corpora(config, objective, tokenizer, say)
    dropped = _posts_to_drop(config, reader)
    forbidden = {record.post_id: record.post for record in dropped}
    records: list[Record] = []
    mixed = None
    if objective.instructions:
        records, _ = _training_records(config, reader, say, objective.instructions, "objective.instructions", dropped)
        store = _tokens(records, "instructions", config, tokenizer, say)
        mixed = Instructions(store, objective.instruction_share, config.training.seed)
    train = corpora.load(config.data.train, "data.train", forbidden, mixed)
    validation = None
    if config.data.validation:
        validation = corpora.load(config.data.validation, "data.validation", {}, None)
        validation = take_documents(
            validation, config.evaluation.max_rows or len(validation.rows), config.training.seed
        )
    facts: dict[str, Any] = {
        "fingerprints": {"train": data_fingerprint(train.store)},
        "train": corpora.facts(train, "data.train"),
        "validation": validation and corpora.facts(validation, "data.validation"),
        "label_f1_rows": [],
        "posts_kept_out_of_training": len(forbidden),
        "problems": reader.problems,
    }
    if validation is not None:
        facts["fingerprints"]["validation"] = data_fingerprint(validation.store)
    if mixed is not None:
        facts["instructions"] = _facts(records, mixed.store)
    rows = {"documents": len(train.rows)} | ({"instructions": train.instructions} if mixed else {})
    return Examples(train.store, validation.store if validation else None, [], rows, facts)


@dataclass(slots=True)
class _Corpora:
    """Loads the documents of sources; tells of those that are left out, and of the files."""

    config: RunConfig
    objective: DocumentsSection
    tokenizer: DocumentTokenizer
    say: Say
    _bad_files: dict[str, list[Problem]] = field(default_factory=dict)
    _files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def load(
        self, sources: Sequence[str], key: str, forbidden: dict[str, str], instructions: Instructions | None
    ) -> Documents:
        """Read the documents of sources, which are those of `key`."""
        data, bad = self.config.data, self._bad_files.setdefault(key, [])
        try:
            files = find_texts(sources, bad.append)
            layout = TextLayout(self.objective.text_key, self.objective.text_files, data.repair_mojibake)
            documents = load_documents(
                files,
                layout,
                self.tokenizer,
                data.max_length,
                data.cache_dir,
                forbidden=forbidden,
                instructions=instructions,
            )
        except UserError as error:
            raise UserError(f"{key}: {error}" + (f"; {bad[0]}" if bad else "")) from None
        left_out = documents.left_out
        self._files[key] = [{"file": str(file.path), "bytes": file.size, "sha256": file.sha256} for file in files]
        if problems := [*bad, *left_out.problems]:
            if data.strict:
                raise UserError(f"{key}: {problems[0]} (data.strict)")
            count = len(bad) + left_out.unusable
            self.say(f"{key}: {count} documents cannot be used and are left out, the first: {problems[0]}")
        if left_out.leaks:
            self.say(
                f"{key}: {left_out.leaks} documents hold or copy posts that must not be trained on and are left out; "
                "data.json lists them"
            )
        return documents

    def facts(self, documents: Documents, key: str) -> dict[str, Any]:
        """What `data.json` records of a corpus."""
        store, left_out, bad = documents.store, documents.left_out, self._bad_files[key]
        plain = store.lengths[: len(store) - documents.instructions]
        return {
            "documents": len(documents.rows),
            "examples": len(store),
            "tokens": int(store.lengths.sum()),
            "target_tokens": int(np.count_nonzero(store.targets)),
            "longest_example": int(store.lengths.max()),
            "text_bytes": store.text_bytes,
            "instruction_examples": documents.instructions,
            "instruction_share": 1 - float(plain.sum() / store.lengths.sum()),
            "files": self._files[key],
            "unusable": len(bad) + left_out.unusable,
            "unusable_listed": [asdict(problem) for problem in [*bad, *left_out.problems]],
            "leaks": left_out.leaks,
            "leaks_listed": [{"document": document, "post": post} for document, post in left_out.leaks_listed],
        }


def _near_copies(forbidden: Forbidden) -> dict[str, Any]:
    pairs = [{"row": row, "of": test, "similarity": share} for row, test, share in forbidden.near_copies]
    return {"alike": ALIKE, "contained": CONTAINED, "pairs": pairs}


def _validation_records(config: RunConfig, reader: _Reader) -> list[Record]:
    data = config.data
    if not data.validation:
        return []
    return mix(
        _of_split(reader.read(data.validation, "data.validation"), "val", "data.validation"),
        datasets=data.datasets,
        exclude=data.exclude,
        drop_posts=(),
        max_rows=config.evaluation.max_rows,
        seed=config.training.seed,
    )


def _tokens(
    records: list[Record],
    what: str,
    config: RunConfig,
    tokenizer: FingerprintedTokenizer | TextTokenizer,
    say: Say,
) -> TokenStore:
    data = config.data
    if isinstance(config.objective, ClassificationSection):
        tokens = _classified(records, what, config.objective, data, cast(TextTokenizer, tokenizer), say)
    elif isinstance(config.objective, SequenceSection):
        reader, length = cast(TextTokenizer, tokenizer), config.objective.target_length
        tokens = pair_store(records, data.style, reader, data.max_length, length)
    else:
        encoder = cast(FingerprintedTokenizer, tokenizer)
        tokens = tokenize(records, data.style, encoder, data.max_length, data.cache_dir)
    if tokens.truncated_examples:
        say(
            f"{what}: {tokens.truncated_examples} of {len(tokens)} posts lose their end "
            f"({tokens.truncated_tokens} tokens) to fit data.max_length {data.max_length}"
        )
    return tokens


def _classified(
    records: list[Record],
    what: str,
    objective: ClassificationSection,
    data: DataSection,
    tokenizer: TextTokenizer,
    say: Say,
) -> TokenStore:
    classes = classes_of(data)
    tokens, left_out = class_store(records, classes, objective.input, tokenizer, data.max_length)
    if left_out:
        say(f"{what}: {left_out} of {len(records)} rows have no {objective.input} and are left out")
    return tokens


def _of_split(records: list[Record], split: str, key: str) -> list[Record]:
    kept = [record for record in records if record.split in (split, "")]
    if not kept:
        there = ", ".join(sorted({record.split for record in records}))
        raise UserError(f"{key}: no row of split {split} (only {there}); name other files")
    return kept


def _rows(records: list[Record]) -> dict[str, int]:
    return dict(sorted(Counter(record.dataset for record in records).items()))


def _facts(records: list[Record], store: TokenStore) -> dict[str, Any]:
    return {
        "examples": len(store),
        "rows": _rows(records),
        "posts": len({record.post_id for record in records}),
        "tokens": int(store.lengths.sum()),
        "target_tokens": int(store.targets.sum()),
        "longest_example": int(store.lengths.max()),
        "posts_cut": store.truncated_examples,
        "tokens_cut": store.truncated_tokens,
    }
