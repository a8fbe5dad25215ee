"""What `mentallama data check` shows."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mentallama_jax.errors import UserError
from mentallama_jax.files import write_json
from mentallama_jax.foreign import one_line
from mentallama_jax.imhi.audit.check import CheckReport, NearCopyReport, PartReport, Row
from mentallama_jax.imhi.audit.lengths import LengthReport
from mentallama_jax.imhi.data_files.sources import SPLITS
from mentallama_jax.imhi.missing_rows import is_bundled, missing_rows
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.audit_data import PaddingReport, audit
from mentallama_jax.terminal import Console

_SHOWN_ROWS = 10
_PIPE_WIDTH = 120


def check(options: argparse.Namespace) -> int:
    """Read, report, and write the JSON file; return the exit status."""
    if options.json and options.json.is_dir():
        raise UserError(f"{options.json}: is a folder; give the name of a file to --json")
    found = audit(
        options.sources,
        tokenizer=options.tokenizer,
        style=options.style,
        max_length=options.max_length,
        repair_mojibake=options.repair,
        track=_with_progress,
    )
    for line in found.unreadable:
        print(f"error: {one_line(line)}", file=sys.stderr)
    if found.report is not None:
        _show(found.report, found.lengths, found.padding, options)
        if options.json:
            write_json(options.json, found.as_json())
    if found.unreadable:
        return 2
    return 1 if options.strict and found.bad_rows else 0


def _with_progress(records: Sequence[Record]) -> Iterable[Record]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield from progress.track(records, description="Measuring")


def _show(
    report: CheckReport, lengths: Sequence[LengthReport], padding: PaddingReport | None, options: argparse.Namespace
) -> None:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    console.print(_parts_table(report.parts))
    console.print(_labels_table(report.parts))
    if any(part.rows for part in report.wordings):
        console.print(_wordings_table(report))
    if any(leak.any for leak in report.shared.leaks):
        console.print(_leaks_table(report))
    if _other_pairs(report):
        console.print(_pairs_table(report))
    if lengths:
        console.print(_lengths_table(lengths, options))
    missing = () if is_bundled(options.sources) else _missing(report.parts)
    for line in (*missing, *_notes(report), *_length_notes(lengths, padding, options)):
        console.print(line, soft_wrap=True, markup=False)


def _table(title: str, *columns: str, left: int = 2) -> Table:
    """A table whose first `left` columns hold words and the others numbers."""
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < left else "right")
    return table


def _parts_table(parts: Sequence[PartReport]) -> Table:
    table = _table(
        "Rows", "data set", "split", "rows", "benchmark", "posts", "mojibake", "#NAME?", "repeated", "conflicting",
        "no explanation",
    )  # fmt: skip
    for part in parts:
        benchmark = "-" if part.benchmark_rows is None else str(part.benchmark_rows)
        risks = (part.mojibake, part.spreadsheet_errors, part.repeated_questions, part.conflicting_questions)
        numbers = (part.rows, benchmark, part.posts, *(number or "" for number in (*risks, part.empty_explanations)))
        table.add_row(part.dataset, part.split or "-", *map(str, numbers))
    return table


def _missing(parts: Sequence[PartReport]) -> Iterator[str]:
    """What is missing of each split that is there at all."""
    for split in SPLITS:
        rows = {part.dataset: part.rows for part in parts if part.split == split}
        if rows and (missing := missing_rows(rows, split)):
            yield f"of the whole benchmark there are {missing}"


def _labels_table(parts: Sequence[PartReport]) -> Table:
    table = _table("Labels", "data set", "split", "aspect", "rows of each label", left=4)
    for part in parts:
        for aspect, labels in part.labels.items():
            total = sum(labels.values())
            shares = ", ".join(f"{label} {count} ({count / total:.0%})" for label, count in labels.items())
            table.add_row(part.dataset, part.split or "-", aspect or "-", shares)
    return table


def _wordings_table(report: CheckReport) -> Table:
    table = _table(
        "Rows whose two wordings differ (instruction, completion)",
        "data set", "split", "compared", "post cut in one", "white space", "post otherwise", "answer",
    )  # fmt: skip
    for part in filter(lambda part: part.rows, report.wordings):
        numbers = (part.cut, part.white_space, part.other, part.answers)
        table.add_row(part.dataset, part.split or "-", str(part.compared), *(str(number or "") for number in numbers))
    return table


def _leaks_table(report: CheckReport) -> Table:
    table = _table(
        "Leaks: validation and test posts that are training posts", "data set", "split", "posts", "of its own",
        "of other data sets", "of any", "share",
    )  # fmt: skip
    for leak in report.shared.leaks:
        if leak.any:
            others = ", ".join(f"{name} {count}" for name, count in leak.others.items())
            share = f"{leak.any / leak.posts:.1%}"
            table.add_row(leak.dataset, leak.split, str(leak.posts), str(leak.own), others, str(leak.any), share)
    return table


def _other_pairs(report: CheckReport) -> list[tuple[str, str, int]]:
    """Pairs of parts that share posts, but those that `leaks` tells of."""
    shared, pairs = report.shared, []
    for row, first in enumerate(shared.parts):
        for column, second in enumerate(shared.parts[:row]):
            is_leak = (first[1] == "train") != (second[1] == "train") and first[1] and second[1]
            if shared.matrix[row][column] and not is_leak:
                pairs.append((_name(second), _name(first), shared.matrix[row][column]))
    return pairs


def _pairs_table(report: CheckReport) -> Table:
    table = _table("Other posts in two places", "in", "and in", "posts")
    for first, second, count in _other_pairs(report):
        table.add_row(first, second, str(count))
    return table


def _name(part: tuple[str, str]) -> str:
    return " ".join(filter(None, part))


def _lengths_table(lengths: Sequence[LengthReport], options: argparse.Namespace) -> Table:
    table = _table(
        f"Tokens of prompt and response ({options.tokenizer}, {options.style})",
        "data set", "split", "rows", "mean", "p5", "p50", "p95", "longest", f"over {options.max_length}", "cut tokens",
    )  # fmt: skip
    for part in lengths:
        over = f"{part.too_long} ({part.too_long / part.rows:.1%})" if part.too_long else ""
        quantiles = (part.p5, part.p50, part.p95, part.longest)
        numbers = (part.rows, f"{part.mean:.0f}", *quantiles, over, part.cut_tokens or "")
        table.add_row(part.dataset, part.split or "-", *map(str, numbers))
    return table


def _notes(report: CheckReport) -> list[str]:
    """What the tables do not show, and what can be done about what they show."""
    rows, files = sum(part.rows for part in report.parts), len(report.files)
    notes = [f"rows read: {rows}, from {files} files; bad rows: {len(report.bad_rows)}"]
    notes += [f"  {problem}" for problem in report.bad_rows[:_SHOWN_ROWS]]
    if len(report.bad_rows) > _SHOWN_ROWS:
        notes.append(f"  ... and {len(report.bad_rows) - _SHOWN_ROWS} more; --json FILE lists them all")
    if report.passed_over:
        notes.append(f"files passed over, as they hold no records or the same ones again: {len(report.passed_over)}")
    if report.wordings:
        compared, differ = (
            sum(part.compared for part in report.wordings),
            sum(len(part.rows) for part in report.wordings),
        )
        notes.append(f"rows in both wordings: {compared}, of which {differ} differ")
    if any(part.mojibake for part in report.parts):
        notes.append("mojibake: `mentallama data convert --repair` undoes it; in a run, data.repair_mojibake=true")
    if report.spreadsheet_errors:
        shown = ", ".join(row.source for row in report.spreadsheet_errors[:_SHOWN_ROWS])
        notes.append(f"posts that are spreadsheet errors, to be removed: {shown}")
    contradicting = {_name((part.dataset, part.split)): part.contradictions for part in report.parts}
    notes += _named_rows("rows whose explanation states another label", report.contradictions, contradicting)
    unlabelled = {_name((part.dataset, part.split)): part.unlabelled for part in report.parts}
    notes += _named_rows("rows without a label, which cannot be trained on or scored", report.unlabelled, unlabelled)
    conflicts = [question for question in report.repeated if question.conflict]
    across = sum(len(question.splits) > 1 for question in conflicts)
    if conflicts:
        notes.append(f"questions with conflicting labels: {len(conflicts)}, of which {across} are in different splits")
    if any(leak.any for leak in report.shared.leaks):
        notes.append(
            "leaks: data.drop_posts_in (in a run) or `convert --drop-posts-in` keeps such posts out of training"
        )
    elif report.shared.leaks:
        notes.append("no validation or test post is a training post")
    return [*notes, *_near_copy_notes(report.near_copies)]


def _named_rows(what: str, rows: Sequence[Row], by_part: Mapping[str, int]) -> list[str]:
    if not rows:
        return []
    counts = ", ".join(f"{name} {count}" for name, count in by_part.items() if count)
    more = ", ...; --json FILE lists them all" if len(rows) > _SHOWN_ROWS else ""
    return [f"{what}: {len(rows)} ({counts})", f"  {', '.join(row.id for row in rows[:_SHOWN_ROWS])}{more}"]


def _near_copy_notes(report: NearCopyReport) -> list[str]:
    """How many posts of different parts are copies in another spelling, and which, by the ids of rows."""
    limits = f"at least {report.alike:.0%} of three-word pieces shared, or {report.contained:.0%} of a shorter post"
    notes = [f"near-copies of posts across splits and data sets ({limits}): {len(report.pairs)}"]
    notes += [f"  {one.id} and {two.id}: {share:.0%}" for one, two, share in report.pairs[:_SHOWN_ROWS]]
    if len(report.pairs) > _SHOWN_ROWS:
        notes.append(f"  ... and {len(report.pairs) - _SHOWN_ROWS} more; --json FILE lists them all")
    return notes


def _length_notes(
    lengths: Sequence[LengthReport], padding: PaddingReport | None, options: argparse.Namespace
) -> list[str]:
    if not lengths:
        return ["lengths and padding: name a tokenizer with --tokenizer (`sample` is the bundled one)"]
    unfit = [name for part in lengths for name in part.unfit]
    notes = []
    if unfit:
        shown = ", ".join(unfit[:_SHOWN_ROWS])
        notes.append(
            f"rows that do not fit into {options.max_length} tokens even with an empty post: {len(unfit)} ({shown})"
        )
    if padding is not None:
        notes.append(
            f"padding in an epoch of {padding.rows} rows ({padding.tokens} tokens): {padding.padded:.1%} when padded to"
            f" {options.max_length}, {padding.bucketed:.1%} bucketed, {padding.packed:.1%} packed"
        )
    return notes
