"""Pairs of answers to one prompt, of which one is preferred: rows `prompt,chosen,rejected` as texts or as messages.

Forms, as TRL has them: three texts; `prompt` as messages with the answers as messages or texts; or no `prompt` and two
whole conversations, `chosen` and `rejected`, that differ in their last message alone. A prompt is one question of a
user. The column `id` may name the rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.raw_forms import message_turn
from mentallama_jax.imhi.data_files.sources import tables_below
from mentallama_jax.imhi.data_files.table_rows import Problem
from mentallama_jax.imhi.data_files.tables import SUFFIXES, read_table
from mentallama_jax.imhi.mixture import draw
from mentallama_jax.storage import AnyPath, as_path

COLUMNS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """Two answers to one question.

    Attributes:
        id: unique within a collection.
        prompt: the question, without the marks of a chat.
        chosen: the answer that is preferred.
        rejected: the other one.
    """

    id: str
    prompt: str
    chosen: str
    rejected: str


def read_pairs(sources: Sequence[str]) -> tuple[list[AnswerPair], list[Problem]]:
    """Read pairs from files and folders of `.jsonl`, `.parquet` and `.csv`; rows that are no pairs are problems.

    Raises:
        UserError: a source does not exist, is malformed, or has no such columns; or no row is a pair.
    """
    pairs: list[AnswerPair] = []
    problems: list[Problem] = []
    taken: set[str] = set()
    for path in (file for source in sources for file in _files(source)):
        table = read_table(path)
        problems += table.problems
        if not {"chosen", "rejected"} <= set(table.columns):
            raise UserError(
                f"{path}: pairs have the columns {', '.join(COLUMNS)}; make some with `mentallama data pairs`"
            )
        for number, row in table.rows:
            try:
                prompt, chosen, rejected = pair_texts(row)
                name = row.get("id")
                where = name if isinstance(name, str) and name and name not in taken else f"{path}:{number}"
                taken.add(where)
                pairs.append(AnswerPair(where, prompt, chosen, rejected))
            except UserError as error:
                problems.append(Problem(str(path), number, str(error)))
    if not pairs:
        raise UserError(f"{', '.join(sources)}: no row is a pair" + (f"; {problems[0]}" if problems else ""))
    return pairs, problems


def sample_pairs(pairs: Sequence[AnswerPair], most: int, seed: int) -> list[AnswerPair]:
    """At most so many pairs, in their order; the choice depends on their ids and the seed alone."""
    chosen = {pair.id for pair in sorted(pairs, key=lambda pair: draw(seed, "pairs", pair.id))[:most]}
    return [pair for pair in pairs if pair.id in chosen]


def pair_texts(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Prompt, chosen and rejected answer of a row in any of the forms.

    Raises:
        UserError: it is no pair; the message quotes nothing of it.
    """
    cells: dict[str, Any] = {name: row.get(name) for name in COLUMNS}
    if cells["prompt"] is None and all(isinstance(cells[name], list) for name in COLUMNS[1:]):
        chosen, rejected = ([message_turn(one) for one in cells[name]] for name in COLUMNS[1:])
        if chosen[:-1] != rejected[:-1]:
            raise UserError("its two conversations differ before the last message")
        prompt = _question(chosen[:-1])
        answers = [_answer(turns[-1:], name) for turns, name in ((chosen, "chosen"), (rejected, "rejected"))]
    else:
        given = cells["prompt"]
        prompt = _question([message_turn(one) for one in given]) if isinstance(given, list) else _text(given, "prompt")
        answers = [
            _answer([message_turn(one) for one in cells[name]], name)
            if isinstance(cells[name], list)
            else _text(cells[name], name)
            for name in COLUMNS[1:]
        ]
    if answers[0] == answers[1]:
        raise UserError("its two answers are the same")
    return prompt, answers[0], answers[1]


def _files(source: str) -> list[AnyPath]:
    path = as_path(source)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{source}: no such file or folder; pairs are files with the columns {', '.join(COLUMNS)}")
    found = tables_below(path)
    if not found:
        raise UserError(f"{path}: holds no {', '.join(SUFFIXES)} file to read")
    return found


def _question(turns: Sequence[tuple[str, str]]) -> str:
    if [role for role, _ in turns] != ["user"]:
        raise UserError("its prompt is not one message of a user; conversations of several turns are not learnt from")
    return _text(turns[0][1], "prompt")


def _answer(turns: Sequence[tuple[str, str]], column: str) -> str:
    if [role for role, _ in turns] != ["assistant"]:
        raise UserError(f"{column} is not one message of an assistant")
    return _text(turns[0][1], column)


def _text(cell: Any, column: str) -> str:
    if not isinstance(cell, str) or not cell.strip():
        raise UserError(f"{column} is empty, or no text")
    return cell.strip() if column != "prompt" else cell
