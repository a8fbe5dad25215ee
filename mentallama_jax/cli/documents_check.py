"""What `mentallama data check --documents` shows."""

import argparse
from collections.abc import Iterable, Iterator, Sequence

from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mentallama_jax.errors import UserError
from mentallama_jax.files import write_json
from mentallama_jax.imhi.data_files.text_documents import TextDocument, TextLayout
from mentallama_jax.jobs.audit_documents import DocumentAudit, audit_documents
from mentallama_jax.terminal import Console

_SHOWN_ROWS = 10


def check_documents(options: argparse.Namespace) -> int:
    """Read, report, and write the JSON file; return the exit status."""
    if options.json and options.json.is_dir():
        raise UserError(f"{options.json}: is a folder; give the name of a file to --json")
    found = audit_documents(
        options.sources,
        TextLayout(options.text_key, options.text_files, options.repair),
        tokenizer=options.tokenizer,
        max_length=options.max_length,
        track=_with_progress,
    )
    console = Console(highlight=False)
    console.print(_table(found, options))
    for line in _notes(found, options):
        console.print(line, soft_wrap=True, markup=False)
    if options.json:
        write_json(options.json, found.as_json())
    return 1 if options.strict and found.problems else 0


def _with_progress(documents: Iterable[TextDocument]) -> Iterator[TextDocument]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.completed:.0f} documents read"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield from progress.track(documents, total=None)


def _table(found: DocumentAudit, options: argparse.Namespace) -> Table:
    table = Table(show_header=False, title="Documents", title_justify="left", box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    rows: list[tuple[str, str]] = [
        ("files", f"{found.files:,}"),
        ("documents", f"{found.documents:,}"),
        ("characters", f"{found.characters:,}"),
        ("bytes", f"{found.size:,}"),
        ("that cannot be used", f"{len(found.problems):,}"),
        ("copies of earlier ones", f"{len(found.duplicates):,}"),
        (f"pairs of near-copies (among {found.compared:,})", f"{len(found.near_copies):,}"),
    ]
    if (lengths := found.lengths) is not None:
        rows += [
            ("tokens", f"{lengths.tokens:,}"),
            ("tokens of a document: mean", f"{lengths.mean:.0f}"),
            ("5 %, half, 95 % have at most", f"{lengths.p5:,}, {lengths.p50:,}, {lengths.p95:,}"),
            ("longest", f"{lengths.longest:,}"),
            (f"longer than {options.max_length:,}", f"{lengths.cut:,}"),
            (f"pieces of at most {options.max_length:,}", f"{lengths.pieces:,}"),
            ("bytes a token", f"{found.size / lengths.tokens:.2f}"),
        ]
    for row in rows:
        table.add_row(*row)
    return table


def _notes(found: DocumentAudit, options: argparse.Namespace) -> list[str]:
    notes = _listed("cannot be used", [str(problem) for problem in found.problems])
    notes += _listed("copies", [f"{one} of {two}" for one, two in found.duplicates])
    pairs = [f"{pair.second} and {pair.first}: {pair.similarity:.0%}" for pair in found.near_copies]
    notes += _listed("near-copies", pairs)
    if options.tokenizer is None:
        notes.append("lengths: name a tokenizer with --tokenizer (`sample` is the bundled one)")
    return notes


def _listed(what: str, lines: Sequence[str]) -> list[str]:
    more = (
        [f"  ... and {len(lines) - _SHOWN_ROWS} more; --json FILE lists them all"] if len(lines) > _SHOWN_ROWS else []
    )
    return [f"{what}:", *(f"  {line}" for line in lines[:_SHOWN_ROWS]), *more] if lines else []
