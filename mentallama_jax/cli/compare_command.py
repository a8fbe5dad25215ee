"""`mentallama compare`: do systems differ on the same rows?"""

import argparse
from pathlib import Path
from typing import Any

from mentallama_jax.cli.evaluate_command import add_reading, read_as, reader_of
from mentallama_jax.cli.json_output import add_json_option, figures_printed
from mentallama_jax.cli.metric_options import add_metric_models, metric_models, scoring_progress
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.errors import UserError
from mentallama_jax.storage import AnyPath, as_path, local_path

_DESCRIPTION = """\
Compare systems on the same rows: paired differences of every metric over posts, with intervals, tests and power.

PREDICTIONS is what `mentallama evaluate` takes, or the folder that it wrote with --out: then the scores of explanations
by row are compared too. A system is named after its file or folder; --system gives another name, and the predictions of
several seeds. Rows are matched by id, with equal gold; rows that not all have are an error, or left out and counted
with --matched-only.

The p-value is that of the exact test of McNemar for accuracy where each post has one row, else that of exchanging the
answers of whole posts; with several seeds it is that of Student's t over posts and seeds. Holm's procedure corrects it
over data sets and pairs of systems. The tables show the systems that cannot be distinguished from the best, the least
difference that such a comparison finds in 4 of 5 cases, and how many posts would show the difference seen. All metrics
of all data sets are in comparison.json.
"""

_EPILOG = """\
examples:
  mentallama compare tuned.jsonl base.jsonl --out comparison       is the tuned model better, and how surely?
  mentallama compare scores/tuned scores/base --out comparison     explanation metrics of evaluate --metrics too
  mentallama compare base.jsonl --system tuned=s0.jsonl,s1.jsonl,s2.jsonl --out comparison
  mentallama compare a.jsonl b.jsonl c.jsonl --metrics rouge,bleu --out comparison
  mentallama compare DR_llama3.csv DR_theirs.csv --columns gold=answer,text=output --out comparison
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "compare",
        help="compare systems on the same rows",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "predictions",
        metavar="PREDICTIONS",
        type=as_path,
        nargs="*",
        help="a system each: a .jsonl, a DATASET.csv, a folder of such, or a folder of scores",
    )
    parser.add_argument(
        "--system",
        metavar="NAME=FILE",
        type=named_system,
        action="append",
        default=[],
        help="a system by a name of your own; several seeds of it as NAME=FILE,FILE; may be repeated",
    )
    parser.add_argument("--out", metavar="DIR", type=local_path, required=True, help="folder for comparison.json")
    parser.add_argument(
        "--matched-only", action="store_true", help="leave out rows that not all systems have; they are counted"
    )
    parser.add_argument(
        "--as-upstream", action="store_true", help="read labels as the released rule scorer does; never for claims"
    )
    parser.add_argument(
        "--reader", choices=("rules", "classifier"), default="rules", help="what reads labels (default: rules)"
    )
    parser.add_argument(
        "--classifiers",
        metavar="FOLDER",
        type=local_path,
        help="a directory with one folder of a classifier a data set, for --reader classifier",
    )
    parser.add_argument(
        "--draws", metavar="N", type=int, default=5000, help="exchanges drawn for a test (default: 5000)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument(
        "--confidence", metavar="P", type=float, default=0.95, help="of intervals and tests (default: 0.95)"
    )
    parser.add_argument(
        "--metrics",
        metavar="NAMES",
        default="",
        help="compute these metrics of explanations and compare them; names as for `mentallama evaluate`",
    )
    add_reading(
        parser.add_argument_group(
            "files of other programs",
            "The options of `mentallama evaluate`, for all of them alike. Folders of scores are read as they "
            "were scored; gold that has moved is said by --gold.",
        )
    )
    add_json_option(parser)
    add_metric_models(parser)
    add_tasks(parser)
    parser.set_defaults(run=run)


def named_system(text: str) -> tuple[str, list[AnyPath]]:
    """The name and the files of NAME=FILE,FILE."""
    name, _, files = text.partition("=")
    if not name or not all(files.split(",")):
        raise argparse.ArgumentTypeError(f"expected NAME=FILE or NAME=FILE,FILE, found {text!r}")
    return name, [as_path(file) for file in files.split(",")]


def run(options: argparse.Namespace) -> int:
    """Compare; print the tables and where the report is."""
    with figures_printed(options) as figures:
        figures(_compared(options))
    return 0


def _compared(options: argparse.Namespace) -> Path:
    """Compare and print; return the file of the figures."""
    from mentallama_jax.evaluation.comparison_report import comparison_notes, difference_tables, standing_tables
    from mentallama_jax.jobs.compare import compare
    from mentallama_jax.jobs.make_report import make_report
    from mentallama_jax.terminal import Console

    found = compare(
        _systems(options),
        options.out,
        reader=reader_of(options),
        classifiers=options.classifiers,
        metrics=[name.strip() for name in options.metrics.split(",") if name.strip()],
        metric_models=metric_models(options),
        matched_only=options.matched_only,
        read_as=read_as(options),
        draws=options.draws,
        seed=options.seed,
        confidence=options.confidence,
        progress=scoring_progress,
    )
    console = Console()
    for table in [*standing_tables(found.comparison), *difference_tables(found.comparison)]:
        console.print(table)
    for note in comparison_notes(found.comparison):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    for path in (found.path, *make_report([options.out]).paths):
        console.print(f"{path} written", highlight=False, soft_wrap=True)
    return found.path


def _systems(options: argparse.Namespace) -> dict[str, list[AnyPath]]:
    """The systems by their names, those without one named after their file.

    Raises:
        UserError: two have one name.
    """
    from mentallama_jax.jobs.system_names import system_names

    given = [(name, [path]) for name, path in zip(system_names(options.predictions), options.predictions, strict=True)]
    found: dict[str, list[AnyPath]] = {}
    for name, files in [*given, *options.system]:
        if name in found:
            raise UserError(f"two systems are called {name}; give them names with --system NAME=FILE")
        found[name] = files
    return found
