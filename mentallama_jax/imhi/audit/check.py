"""What is wrong or risky in data, as counts and as the names of rows; the text of a post never occurs in it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mentallama_jax.imhi.audit.inventory import FileCount, Survey
from mentallama_jax.imhi.audit.leaks import Part, SharedPosts, posts_by_part, shared_posts
from mentallama_jax.imhi.audit.near_copies import ALIKE, CONTAINED, near_copies_among
from mentallama_jax.imhi.data_files.cleaning import has_mojibake, is_spreadsheet_error
from mentallama_jax.imhi.data_files.sources import SPLITS
from mentallama_jax.imhi.data_files.table_rows import Problem
from mentallama_jax.imhi.labels import contradicts
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS


@dataclass(frozen=True, slots=True)
class Row:
    """A row by name: the record's id, where it was read from, its label."""

    id: str
    source: str
    label: str


@dataclass(frozen=True, slots=True)
class RepeatedQuestion:
    """One question about one post that is asked more than once in a data set.

    Attributes:
        dataset: its name.
        aspect: of the question.
        splits: of the rows, each once.
        conflict: whether the rows' labels differ.
        rows: those that ask it.
    """

    dataset: str
    aspect: str
    splits: tuple[str, ...]
    conflict: bool
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class PartReport:
    """A data set's split in counts.

    Attributes:
        dataset: its name.
        split: "train", "val", "test" or "".
        rows: questions.
        benchmark_rows: how many the whole benchmark has; None without a split, and where nobody published it.
        posts: different posts.
        unlabelled: rows without a label: nothing can be trained on them or scored with them.
        contradictions: rows whose explanation states another label than their own.
        empty_explanations: labelled rows without one.
        mojibake: rows with mojibake in post or explanation.
        spreadsheet_errors: rows whose post is a spreadsheet error such as `#NAME?`.
        repeated_questions: questions (post and aspect) that several rows of the part ask.
        conflicting_questions: of these, those with different labels.
        labels: aspect -> label -> rows; every label of the data set.
    """

    dataset: str
    split: str
    rows: int
    benchmark_rows: int | None
    posts: int
    unlabelled: int
    contradictions: int
    empty_explanations: int
    mojibake: int
    spreadsheet_errors: int
    repeated_questions: int
    conflicting_questions: int
    labels: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class WordingReport:
    """The two wordings (instruction, completion) of the rows of a part, compared.

    Attributes:
        dataset: its name.
        split: "train", "val", "test" or "".
        compared: rows that are there in both.
        cut: rows whose post goes on in one wording where it ends in the other.
        white_space: rows whose posts differ in white space alone.
        other: rows whose posts differ otherwise.
        answers: rows whose labels or explanations differ.
        rows: those in which anything differs.
    """

    dataset: str
    split: str
    compared: int
    cut: int
    white_space: int
    other: int
    answers: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class NearCopyReport:
    """Posts of different parts that are copies in another spelling, see `near_copies`; equal posts are in `shared`.

    Attributes:
        alike: least Jaccard index of three neighbouring words.
        contained: least share of the shorter post in the longer one.
        pairs: for each, a row of either post and how similar they are, from 0 to 1.
    """

    alike: float
    contained: float
    pairs: list[tuple[Row, Row, float]]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All that `check_records` finds.

    Attributes:
        files: counts of each file.
        unreadable: sources and files that cannot be read, one line of explanation each.
        passed_over: files in folders that were not read.
        bad_rows: rows that cannot be read.
        parts: data sets by split, in the order of the benchmark.
        spreadsheet_errors: rows whose post is one.
        unlabelled: rows without a label.
        contradictions: rows whose explanation states another label than their own.
        empty_explanations: labelled rows without an explanation.
        repeated: questions asked more than once in a data set, in one split or in several.
        wordings: comparisons of the two wordings, where both are there.
        shared: posts that several parts share.
        near_copies: posts that several parts share in other spellings.
    """

    files: list[FileCount]
    unreadable: list[str]
    passed_over: list[str]
    bad_rows: list[Problem]
    parts: list[PartReport]
    spreadsheet_errors: list[Row]
    unlabelled: list[Row]
    contradictions: list[Row]
    empty_explanations: list[Row]
    repeated: list[RepeatedQuestion]
    wordings: list[WordingReport]
    shared: SharedPosts
    near_copies: NearCopyReport

    def as_json(self) -> dict[str, Any]:
        """The report as plain values, keys as the attributes."""
        return asdict(self)


def check_records(found: Survey) -> CheckReport:
    """Look for all that is wrong or risky in what `survey.survey` found."""
    records = found.records
    repeated = _repeated(records)
    contradictions = [record for record in records if _contradicts_itself(record)]
    posts = {part: len(ids) for part, ids in posts_by_part(records).items()}
    return CheckReport(
        files=found.files,
        unreadable=found.unreadable,
        passed_over=found.passed_over,
        bad_rows=found.bad_rows,
        parts=[_part(part, rows, posts[part], contradictions) for part, rows in _by_part(records, posts).items()],
        spreadsheet_errors=[_row(record) for record in records if is_spreadsheet_error(record.post)],
        unlabelled=[_row(record) for record in records if not record.label],
        contradictions=[_row(record) for record in contradictions],
        empty_explanations=[_row(record) for record in records if _lacks_explanation(record)],
        repeated=repeated,
        wordings=list(_wordings(records, found.twins, posts)),
        shared=shared_posts(records),
        near_copies=_near_copies(records),
    )


def _contradicts_itself(record: Record) -> bool:
    return bool(record.label) and contradicts(record.label, record.explanation, record.task, record.aspect)


def _lacks_explanation(record: Record) -> bool:
    return bool(record.label) and not record.explanation


def _near_copies(records: Sequence[Record]) -> NearCopyReport:
    first: dict[str, Record] = {}
    parts: dict[str, set[Part]] = {}
    for record in records:
        first.setdefault(record.post_id, record)
        parts.setdefault(record.post_id, set()).add((record.dataset, record.split))
    posts = {post: record.post for post, record in first.items()}
    pairs = near_copies_among(posts, lambda one, two: parts[one] != parts[two])
    found = [(_row(first[pair.first]), _row(first[pair.second]), pair.similarity) for pair in pairs]
    return NearCopyReport(alike=ALIKE, contained=CONTAINED, pairs=found)


def _row(record: Record) -> Row:
    return Row(record.id, record.source, record.label)


def _by_part(records: Iterable[Record], parts: Iterable[Part]) -> dict[Part, list[Record]]:
    rows: dict[Part, list[Record]] = {part: [] for part in parts}
    for record in records:
        rows[record.dataset, record.split].append(record)
    return rows


def _repeated(records: Sequence[Record]) -> list[RepeatedQuestion]:
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.dataset, record.aspect, record.post_id), []).append(record)
    return [
        RepeatedQuestion(
            dataset=dataset,
            aspect=aspect,
            splits=tuple(dict.fromkeys(record.split for record in rows)),
            conflict=_conflict(rows),
            rows=tuple(_row(record) for record in rows),
        )
        for (dataset, aspect, _), rows in groups.items()
        if len(rows) > 1
    ]


def _conflict(rows: Iterable[Record | Row]) -> bool:
    return len({row.label for row in rows if row.label}) > 1


def _part(part: Part, rows: Sequence[Record], posts: int, contradictions: Sequence[Record]) -> PartReport:
    dataset, split = part
    task = TASKS[dataset]
    labels = Counter((record.aspect, record.label) for record in rows if record.label)
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in rows:
        groups.setdefault((record.aspect, record.post_id), []).append(record)
    several = [group for group in groups.values() if len(group) > 1]
    return PartReport(
        dataset=dataset,
        split=split,
        rows=len(rows),
        benchmark_rows=task.sizes[SPLITS.index(split)] if split and task.sizes else None,
        posts=posts,
        unlabelled=sum(not record.label for record in rows),
        contradictions=sum((record.dataset, record.split) == part for record in contradictions),
        empty_explanations=sum(map(_lacks_explanation, rows)),
        mojibake=sum(has_mojibake(record.post) or has_mojibake(record.explanation) for record in rows),
        spreadsheet_errors=sum(is_spreadsheet_error(record.post) for record in rows),
        repeated_questions=len(several),
        conflicting_questions=sum(_conflict(group) for group in several),
        labels={
            aspect: {label: labels[aspect, label] for label in task.labels}
            for aspect in task.aspects or ("",)
            if any(seen == aspect for seen, _ in labels)
        },
    )


def _wordings(records: Sequence[Record], twins: Sequence[Record], parts: Iterable[Part]) -> Iterator[WordingReport]:
    by_id = {(twin.dataset, twin.id): twin for twin in twins}
    pairs: dict[Part, list[tuple[Record, Record]]] = {part: [] for part in parts}
    for record in records:
        twin = by_id.get((record.dataset, record.id))
        if twin is not None:
            pairs[record.dataset, record.split].append((record, twin))
    for (dataset, split), compared in pairs.items():
        if compared:
            kinds = [_difference(record.post, twin.post) for record, twin in compared]
            answers = [
                (record.label, record.explanation) != (twin.label, twin.explanation) for record, twin in compared
            ]
            yield WordingReport(
                dataset=dataset,
                split=split,
                compared=len(compared),
                cut=kinds.count("cut"),
                white_space=kinds.count("white space"),
                other=kinds.count("other"),
                answers=sum(answers),
                rows=tuple(
                    _row(record)
                    for (record, _), kind, answer in zip(compared, kinds, answers, strict=True)
                    if kind or answer
                ),
            )


def _difference(first: str, second: str) -> str:
    """How two posts differ: "" not at all, "white space", "cut" or "other"."""
    if first == second:
        return ""
    shorter, longer = sorted((" ".join(first.split()), " ".join(second.split())), key=len)
    if shorter == longer:
        return "white space"
    return "cut" if longer.startswith(shorter) else "other"
