"""Answers that people marked, from annotated CSV files or from a study of one's own, in one form."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mentallama_jax.evaluation.people.krippendorff import Marks
from mentallama_jax.imhi.data_files.annotations import ANNOTATORS, CRITERIA, HIGHEST_MARK, Annotation
from mentallama_jax.imhi.data_files.table_rows import Problem
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record, post_id
from mentallama_jax.imhi.wording import instruction_response

SCALE = (0.0, float(HIGHEST_MARK))
"""The lowest and the highest mark."""

ALIKE = 0.6
"""Least share of equal words (Jaccard index) of two spellings of one post; the next post must have under half of it."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class MarkedAnswer:
    """An answer of a system and the marks that people gave it.

    Attributes:
        answer: the row, as a prediction.
        system: whose answer it is.
        post: the text that it is about.
        marks: criterion -> marks, one an annotator; None where there is none.
    """

    answer: Prediction
    system: str
    post: str
    marks: Mapping[str, Marks]


@dataclass(frozen=True, slots=True)
class HumanMarks:
    """Marked answers and who marked them.

    Attributes:
        rows: at least one.
        criteria: what was marked, in order.
        annotators: their names, in the order of the marks.
        files: path and SHA-256 of each file read.
        study: the key of a study of one's own; None for annotated CSV files.
        problems: rows that could not be read.
        notes: what else to know of the files, each in one line.
    """

    rows: tuple[MarkedAnswer, ...]
    criteria: tuple[str, ...]
    annotators: tuple[str, ...]
    files: tuple[dict[str, str], ...]
    study: str | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Matches:
    """How marked answers found their gold responses.

    Attributes:
        exact: answers whose post is that of a record.
        alike: answers whose post is that of a record in another spelling, such as garbled quotation marks.
        none: answers whose post is that of no record.
        other_labels: matched answers whose label in the marks differs from that of the record.
    """

    exact: int
    alike: int
    none: int
    other_labels: int


def of_annotations(
    annotations: Iterable[Annotation], files: Sequence[dict[str, str]], problems: Sequence[Problem]
) -> HumanMarks:
    """Marks of annotated CSV files; the first mark of each cell is taken for that of one annotator in all files."""
    rows = [
        MarkedAnswer(
            Prediction(
                id=each.id,
                dataset="DR",
                post_id=post_id(each.post),
                label=each.label,
                generated_text=each.explanation,
            ),
            each.model,
            each.post,
            each.marks,
        )
        for each in annotations
    ]
    annotators = tuple(str(number) for number in range(1, ANNOTATORS + 1))
    return HumanMarks(tuple(rows), CRITERIA, annotators, tuple(files), problems=tuple(problems))


def with_gold(marks: HumanMarks, records: Sequence[Record]) -> tuple[HumanMarks, Matches]:
    """Give answers the gold response and the id of the record of their post, data set and aspect.

    A post is first looked for by its text, then by its words: published marks hold posts with garbled characters.
    Answers that have a gold response already are left as they are.
    """
    of_post = {(record.dataset, record.aspect, record.post_id): record for record in records}
    words = {key: _words(record.post) for key, record in of_post.items()}
    counts = dict.fromkeys(("exact", "alike", "none", "other_labels"), 0)
    alike: dict[tuple[str, str, str], Record | None] = {}
    rows = []
    for row in marks.rows:
        answer = row.answer
        if answer.goldens:
            rows.append(row)
            continue
        key = (answer.dataset, answer.aspect, answer.post_id)
        record = of_post.get(key)
        how = "exact" if record else "alike"
        if record is None:
            if key not in alike:
                place = _likest(row.post, {each: found for each, found in words.items() if each[:2] == key[:2]})
                alike[key] = of_post[place] if place else None
            record = alike[key]
        counts["none" if record is None else how] += 1
        if record is not None:
            counts["other_labels"] += bool(answer.label and record.label and answer.label != record.label)
            gold = instruction_response(record) if record.label else ""
            answer = replace(answer, id=record.id, post_id=record.post_id, goldens=gold)
        rows.append(replace(row, answer=answer))
    return replace(marks, rows=tuple(rows)), Matches(**counts)


def _likest(post: str, words: Mapping[tuple[str, str, str], frozenset[str]]) -> tuple[str, str, str] | None:
    """The key of the post whose words are nearly those of `post`, where it is clear which one that is."""
    own = _words(post)
    shares = sorted(((len(own & other) / max(1, len(own | other)), key) for key, other in words.items()), reverse=True)
    if not shares or shares[0][0] < ALIKE or (len(shares) > 1 and 2 * shares[1][0] >= shares[0][0]):
        return None
    return shares[0][1]


def _words(post: str) -> frozenset[str]:
    return frozenset(_WORD.findall(post.casefold()))
