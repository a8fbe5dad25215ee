"""All answers of one system beside their gold: what `reading` gives, and how several become one."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.read_as import AS_THEY_SAY
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.data_files.table_rows import Problem
from mentallama_jax.imhi.predictions import Prediction


@dataclass(frozen=True, slots=True)
class LeftOut(Problem):
    """A row that is not scored; `row` is that of a CSV, or a line of a JSONL, from 1.

    Attributes:
        dataset: canonical name; "" where the row does not say it.
    """

    dataset: str


@dataclass(frozen=True, slots=True)
class Predictions:
    """All rows of one run of a model and where they come from.

    Attributes:
        rows: at least one; ids are unique. The `post_id` of a row is its own id where posts are not known.
        files: path as given and SHA-256 of each file read.
        generation: the signature that `mentallama generate` left beside its JSONL; None where there is none.
        gold: where the gold labels come from.
        posts_known: whether rows of one post are marked as such.
        left_out: rows whose gold states no label.
        passed_over: files and folders beside those read that are no predictions, each with the reason.
        forms: in what form each file was read; of other programs' files also which column was taken for what.
        remarks: what looks odd of the rows, as it may make figures wrong.
        ids_known: whether rows have ids of their own; else they are numbered, and found again by their order.
        given: the paths as they were given, of which `files` were read.
        read_as: what the user said of the files, see `ReadAs.said`.
    """

    rows: tuple[Prediction, ...]
    files: tuple[dict[str, str], ...]
    generation: dict[str, Any] | None
    gold: str
    posts_known: bool
    left_out: tuple[LeftOut, ...] = ()
    passed_over: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    ids_known: bool = True
    given: tuple[str, ...] = ()
    read_as: Mapping[str, Any] = field(default_factory=AS_THEY_SAY.said)

    def provenance(self) -> dict[str, Any]:
        """Return the part that belongs beside the scores, as plain JSON values."""
        return {
            "predictions": list(self.files),
            "given": list(self.given),
            "forms": list(self.forms),
            "read_as": dict(self.read_as),
            "passed_over": list(self.passed_over),
            "remarks": list(self.remarks),
            "left_out": [asdict(row) for row in self.left_out],
            "generation": self.generation,
            "gold": self.gold,
            "ids": "of the files" if self.ids_known else "row numbers",
            "posts": "post_id" if self.posts_known else "not known: every row counts as a post of its own",
        }


def pool(parts: Sequence[Predictions]) -> Predictions:
    """All rows of several predictions as one: seeds of a recipe, or parts of a benchmark. A post stays one post.

    Ids get the number of their part, as seeds answer the same rows. `generation` becomes `{"pooled": [...]}`.

    Raises:
        UserError: two have a row of one id with other gold: rows in another order, or other data.
    """
    if len(parts) == 1:
        return parts[0]
    _refuse_other_gold(parts)
    return Predictions(
        rows=tuple(
            replace(row, id=f"{row.id} ({number})") for number, part in enumerate(parts, start=1) for row in part.rows
        ),
        files=tuple(file for part in parts for file in part.files),
        generation={"pooled": [part.generation for part in parts]} if any(part.generation for part in parts) else None,
        gold="; ".join(dict.fromkeys(part.gold for part in parts)),
        posts_known=all(part.posts_known for part in parts),
        left_out=tuple(row for part in parts for row in part.left_out),
        passed_over=tuple(dict.fromkeys(name for part in parts for name in part.passed_over)),
        forms=tuple(form for part in parts for form in part.forms),
        remarks=tuple(remark for part in parts for remark in part.remarks),
        ids_known=all(part.ids_known for part in parts),
        given=tuple(path for part in parts for path in part.given),
        read_as=parts[0].read_as,
    )


def _refuse_other_gold(parts: Sequence[Predictions]) -> None:
    seen: dict[str, tuple[Prediction, Predictions]] = {}
    for part in parts:
        for row in part.rows:
            first, of = seen.setdefault(row.id, (row, part))
            if (first.dataset, first.aspect, first.label) != (row.dataset, row.aspect, row.label):
                files = f"{of.files[0]['file']} and {part.files[0]['file']}"
                how = "" if part.ids_known else "; without a column of ids rows are told apart by their order"
                raise UserError(f"{files}: the gold of {shown_cell(row.id)} differs{how}")


def refuse_twice(parts: Sequence[Predictions]) -> None:
    """Refuse predictions that are given twice, under one name or two, as each row would count as two.

    Seeds whose answers are all equal are no copies: what generated them says another run.

    Raises:
        UserError: two have the same content.
    """
    seen: dict[tuple[str, ...], Predictions] = {}
    for part in parts:
        columns = part.read_as["columns"]  # the outputs of two systems may be two columns of one file
        content = (*sorted(file["sha256"] for file in part.files), *sorted(map("=".join, columns.items())))
        other = seen.setdefault(content, part)
        if other is part or (other.generation and part.generation and other.generation != part.generation):
            continue
        first, second = other.files[0]["file"], part.files[0]["file"]
        both = f"{second}: given twice" if first == second else f"{first} and {second}: the same content twice"
        raise UserError(f"{both}; give it once")
