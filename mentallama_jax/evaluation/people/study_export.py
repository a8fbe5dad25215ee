"""Makes a study: answers of several systems to the same questions, blinded, in random order, a file for each annotator.

FOLDER/annotator_1.csv ...   what annotators fill in: an answer a row, an empty column a criterion
FOLDER/INSTRUCTIONS.md       what they read first
FOLDER/key/key.json          which system wrote which item; not for annotators

Every annotator marks all items, each in an order of their own. The choice and all orders come from the seed.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.people.study_instructions import instructions
from mentallama_jax.files import atomic_folder, atomic_open, write_json, write_jsonl
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record

KEY = "key/key.json"
FORMAT = 1
FileForm = Literal["csv", "jsonl"]
FORMS: tuple[FileForm, ...] = ("csv", "jsonl")

_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to mark.

    Attributes:
        name: what annotators see of it.
        system: whose answer it is.
        answer: the row.
        record: the question and the post.
    """

    name: str
    system: str
    answer: Prediction
    record: Record


@dataclass(frozen=True, slots=True)
class Study:
    """What annotators mark.

    Attributes:
        key: twelve hex digits that change with the items, their texts and the criteria.
        items: in the order of the key.
        criteria: what is marked.
        seed: of the choice and of the orders.
    """

    key: str
    items: tuple[Item, ...]
    criteria: tuple[str, ...]
    seed: int


def make_study(
    systems: Mapping[str, Sequence[Prediction]],
    records: Sequence[Record],
    criteria: Sequence[str],
    rows: int,
    seed: int,
) -> Study:
    """Choose rows that all systems answered, and name their answers.

    Data sets take turns, and posts do not repeat before all of them were taken: so many rows then say the most.

    Args:
        systems: name -> predictions.
        records: where the posts are, by the ids of predictions.
        criteria: what is marked.
        rows: questions to choose; each gives an item a system.
        seed: of the choice.

    Raises:
        UserError: there are no such rows, or fewer than asked for.
    """
    known = {record.id: record for record in records}
    answers = {name: {row.id: row for row in of_system} for name, of_system in systems.items()}
    first = next(iter(answers.values()))
    shared = [row_id for row_id in first if row_id in known and all(row_id in each for each in answers.values())]
    if not shared:
        lacking = next((row_id for row_id in first if row_id not in known), None)
        hint = f"; {shown_cell(lacking)} is none of --data" if lacking else "; the systems answered different rows"
        raise UserError(f"no row has a post in --data and an answer of each system{hint}")
    if rows > len(shared):
        raise UserError(f"--rows {rows}: only {len(shared)} rows have a post in --data and an answer of each system")
    generator = np.random.default_rng(seed)
    chosen = _chosen([known[row_id] for row_id in shared], rows, generator)
    drafts = [(name, answers[name][record.id], record) for record in chosen for name in answers]
    drafts = [drafts[place] for place in generator.permutation(len(drafts))]
    names = [f"{number:08x}" for number in generator.choice(2**32, size=len(drafts), replace=False)]
    items = tuple(Item(name, *draft) for name, draft in zip(names, drafts, strict=True))
    return Study(_study_key(items, criteria), items, tuple(criteria), seed)


def write_study(
    folder: Path,
    study: Study,
    annotators: int,
    form: FileForm,
    files: Sequence[dict[str, str]],
) -> list[Path]:
    """Write a study into a new folder.

    Args:
        folder: new, or empty.
        study: what is marked.
        annotators: how many files.
        form: of the files.
        files: path and SHA-256 of the predictions.

    Returns:
        The files of the annotators.

    Raises:
        UserError: the folder holds something.
    """
    generator = np.random.default_rng([study.seed, 1])
    written = []
    with atomic_folder(folder) as new:
        for number in range(1, annotators + 1):
            order = generator.permutation(len(study.items))
            rows = [_row(study, study.items[place], number) for place in order]
            name = f"annotator_{number}.{form}"
            if form == "csv":
                _write_csv(new / name, rows)
            else:
                write_jsonl(
                    new / name,
                    (
                        {key: cell or None if key in study.criteria else cell for key, cell in row.items()}
                        for row in rows
                    ),
                )
            written.append(folder / name)
        text = instructions(study.key, study.criteria, form, len(study.items))
        with atomic_open(new / "INSTRUCTIONS.md") as stream:
            stream.write(text)
        write_json(new / KEY, _key(study, files))
    return written


def _chosen(records: Sequence[Record], rows: int, generator: np.random.Generator) -> list[Record]:
    queues: dict[str, list[tuple[int, int, Record]]] = {record.dataset: [] for record in records}
    taken: Counter[str] = Counter()
    for place in generator.permutation(len(records)):
        record = records[place]
        queues[record.dataset].append((taken[record.post_id], len(queues[record.dataset]), record))
        taken[record.post_id] += 1
    # First the first row of each post, then the second of those that have one.
    ordered = [sorted(queue, key=lambda entry: entry[:2]) for queue in queues.values()]
    turns = (entry[2] for turn in zip_longest(*ordered) for entry in turn if entry is not None)
    return list(islice(turns, rows))


def _study_key(items: Sequence[Item], criteria: Sequence[str]) -> str:
    what = [list(criteria), *([item.name, item.system, item.record.post, item.answer.generated_text] for item in items)]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]


def _row(study: Study, item: Item, annotator: int) -> dict[str, str]:
    record = item.record
    return {
        "study": study.key,
        "item": item.name,
        "annotator": str(annotator),
        "question": record.task.question.format(aspect=record.aspect),
        "post": record.post,
        "answer": item.answer.generated_text,
        **dict.fromkeys(study.criteria, ""),
        "comment": "",
    }


def _write_csv(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write a table that spreadsheet programs open as UTF-8, and in which no cell is taken for a formula."""
    with atomic_open(path) as stream:
        stream.write("\ufeff")
        writer = csv.writer(stream)
        writer.writerow(rows[0])
        writer.writerows([_plain(cell) for cell in row.values()] for row in rows)


def _plain(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_BEGINS_A_FORMULA) else cell


def _key(study: Study, files: Sequence[dict[str, str]]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "study": study.key,
        "seed": study.seed,
        "criteria": list(study.criteria),
        "systems": list(dict.fromkeys(sorted(item.system for item in study.items))),
        "predictions": list(files),
        "items": {
            item.name: {
                "system": item.system,
                "post": item.record.post,
                "answer": item.answer.to_json(),
            }
            for item in study.items
        },
    }
