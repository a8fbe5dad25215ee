"""Disguises records or predictions: reads, replaces, measures what can still be found, writes data and report."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.errors import UserError
from mentallama_jax.files import write_json, write_jsonl
from mentallama_jax.foreign import parse_json, reading
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.data_files.sources import find_files
from mentallama_jax.imhi.data_files.table_rows import Problem
from mentallama_jax.imhi.data_files.writers import write_records, write_release
from mentallama_jax.imhi.disguise.disguise_key import DisguiseKey
from mentallama_jax.imhi.disguise.disguise_report import DisguiseReport
from mentallama_jax.imhi.disguise.disguised_records import (
    DISGUISED,
    Disguised,
    disguise_counted,
    disguise_prediction,
    disguised_id,
    is_disguised,
)
from mentallama_jax.imhi.disguise.pseudonyms import Scope
from mentallama_jax.imhi.disguise.searchability import RUN_WORDS, longest_run
from mentallama_jax.imhi.predictions import Prediction, parse_prediction, prediction_lines
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.posts_by_id import posts_of, records_by_id
from mentallama_jax.storage import AnyPath, as_path

if TYPE_CHECKING:
    from mentallama_jax.imhi.disguise.paraphrase import ParaphraseSettings

REPORT = "disguise.json"
"""The name of the report in a folder; that of a file NAME.jsonl is NAME.disguise.json."""

_DEEPEST = 5  # folders from a table of the release to the folder of it all
_FIRST_LINE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DisguiseSettings:
    """How data are disguised.

    Attributes:
        scope: where the same name gets the same pseudonym, see `pseudonyms.Scope`.
        keep_ids: leave the names of rows as they are.
        run_words: words of a run that counts as searchable.
        repair_mojibake: undo UTF-8 that was read as MacRoman first.
        strict: stop at the first row that cannot be read.
    """

    scope: Scope = "post"
    keep_ids: bool = False
    run_words: int = RUN_WORDS
    repair_mojibake: bool = False
    strict: bool = False

    def to_json(self) -> dict[str, Any]:
        """What the report says of it, with what is the same for all."""
        return {
            "scope": self.scope,
            "ids": "kept" if self.keep_ids else "keyed",
            "ages": "moved by 1 or 2 years, the same for a post; no minor becomes an adult",
            "dates": "moved by 1 to 8 weeks, the same for a post",
            "run_words": self.run_words,
        }


@dataclass(frozen=True, slots=True)
class DisguisedData:
    """What was written.

    Attributes:
        rows: how many.
        report: the figures.
        report_path: where they are.
        problems: rows that could not be read.
    """

    rows: int
    report: DisguiseReport
    report_path: Path
    problems: Sequence[Problem]


def report_path(out: Path) -> Path:
    """Where the report of data at `out` is."""
    return out.with_suffix(f".{REPORT}") if out.suffix else out / REPORT


def disguise_data(
    sources: Sequence[str],
    out: Path,
    key: DisguiseKey,
    settings: DisguiseSettings,
    *,
    paraphrase: "ParaphraseSettings | None" = None,
    posts: Sequence[str] = (),
    track: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    on_batch: Callable[[list[Prediction]], None] = lambda rows: None,
    begin: Callable[[int], None] = lambda rows: None,
) -> DisguisedData:
    """Disguise records, or the outputs of a predictions file, and write them with a report.

    Args:
        sources: of records as for `readers.read_records`, or one `.jsonl` of predictions.
        out: a new `.jsonl`, `.parquet`, or folder in the released layout.
        key: the secret.
        settings: see there.
        paraphrase: put the posts into other words, too; None leaves them.
        posts: sources of the posts of predictions, joined by the names of rows.
        track: shows the rows that pass.
        on_batch: is told of each batch of paraphrases.
        begin: is told how many posts are paraphrased.

    Raises:
        UserError: a source that is disguised already, that cannot be read or written, or predictions with `paraphrase`.
    """
    if len(sources) == 1 and _holds_predictions(as_path(sources[0])):
        if paraphrase is not None or out.suffix.lower() != ".jsonl":
            raise UserError(f"{sources[0]}: holds predictions, which are written to a .jsonl and are not paraphrased")
        _refuse_disguised([as_path(sources[0])])
        return _disguise_predictions(as_path(sources[0]), out, key, settings, posts, track)
    if posts:
        raise UserError("--data gives the posts of predictions; the source holds records, which have theirs")
    with ExitStack() as stack:
        _refuse_disguised([file.path for file in find_files(sources, "", stack)[0] if file.rows is None])
    read = read_records(sources, repair_mojibake=settings.repair_mojibake, strict=settings.strict, need_labels=False)
    twice = next((record for record in read.records if is_disguised(record)), None)
    if twice is not None:
        raise UserError(f"{', '.join(sources)}: holds rows that are disguised already; disguise the original instead")
    found = [_disguised(record, key, settings) for record in track(read.records)]
    new = [each.record for each in found]
    outcomes = None
    if paraphrase is not None:
        from mentallama_jax.jobs.paraphrase_posts import paraphrase_records

        originals = [record.post for record in read.records]
        new, outcomes = paraphrase_records(
            originals, new, paraphrase, out.with_suffix(".paraphrases.jsonl"), on_batch, begin
        )
    report = DisguiseReport(settings.to_json(), run_words=settings.run_words, paraphrased=outcomes)
    _measure(report, read.records, found, new)
    write_records(out, new) if out.suffix else write_release(out, new)
    write_json(report_path(out), report.to_json())
    return DisguisedData(len(new), report, report_path(out), read.problems)


def _disguised(record: Record, key: DisguiseKey, settings: DisguiseSettings) -> Disguised:
    each = disguise_counted(record, key, scope=settings.scope)
    if settings.keep_ids:
        return each
    name = disguised_id(record.id, record.dataset, record.split, key)
    return replace(each, record=replace(each.record, id=name, source=f"{DISGUISED}{name}"))


def _measure(
    report: DisguiseReport, before: Sequence[Record], found: Sequence[Disguised], after: Sequence[Record]
) -> None:
    seen: set[tuple[str, str]] = set()
    for old, each, new in zip(before, found, after, strict=True):
        part = report.part(old.dataset)
        part.rows += 1
        part.in_answers += each.explanation_counts
        if old.explanation:
            part.answer_runs.append(longest_run(old.post, new.explanation))
        if (old.dataset, old.post_id) in seen:
            continue
        seen.add((old.dataset, old.post_id))
        part.in_posts += each.post_counts
        part.changed += new.post != old.post
        part.runs[new.id] = longest_run(old.post, new.post)


def _disguise_predictions(
    path: AnyPath,
    out: Path,
    key: DisguiseKey,
    settings: DisguiseSettings,
    posts: Sequence[str],
    track: Callable[[Iterable[Any]], Iterable[Any]],
) -> DisguisedData:
    report = DisguiseReport(settings.to_json(), run_words=settings.run_words)
    old_rows = [parse_prediction(line, f"{path}, line {number}") for number, line in prediction_lines(path)]
    if not old_rows:
        raise UserError(f"{path}: holds no rows")
    known = posts_of(old_rows, records_by_id(posts)) if posts else {}
    rows = []
    for old in track(old_rows):
        new, counts = disguise_prediction(old, key, post=known.get(old.id, ""), scope=settings.scope)
        if not settings.keep_ids:
            new = replace(
                new,
                id=disguised_id(old.id, old.dataset, old.split, key),
                examples=tuple(disguised_id(each, old.dataset, "train", key) for each in old.examples),
            )
        part = report.part(old.dataset)
        part.rows += 1
        part.in_answers += counts
        rows.append(new.to_json())
    write_jsonl(out, rows)
    write_json(report_path(out), report.to_json())
    return DisguisedData(len(rows), report, report_path(out), ())


def _holds_predictions(path: AnyPath) -> bool:
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        return False
    with reading(path, "JSONL", may_hold_posts=True), path.open("rb") as stream:
        line = stream.readline(_FIRST_LINE).strip()
    try:
        first = parse_json(line, path, allow_nan=True, allow_surrogates=True, may_hold_posts=True)
    except UserError:
        return False
    return isinstance(first, dict) and {"generated_text", "post_id"} <= first.keys()


def _refuse_disguised(paths: Iterable[AnyPath]) -> None:
    """Refuse files that a report beside them, or in a folder above them, says to be disguised."""
    for path in paths:
        folders: list[AnyPath] = [path.parent]
        if isinstance(path, Path):
            folders = [*path.absolute().parents[:_DEEPEST]]
        beside = path.with_suffix(f".{REPORT}")
        for report in (beside, *(folder / REPORT for folder in folders)):
            if report.is_file():
                raise UserError(f"{path}: is disguised already, by {report}; disguise the original instead")
