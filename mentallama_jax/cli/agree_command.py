"""`mentallama agree`: which metrics agree with people, and how far people agree with each other."""

import argparse
from pathlib import Path
from typing import Any

from mentallama_jax.cli.json_output import add_json_option, figures_printed
from mentallama_jax.cli.metric_options import add_metric_models, metric_models, scoring_progress
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.storage import local_path

_DESCRIPTION = """\
Compare metrics of explanations with the marks that people gave.

MARKS are annotated CSV files (text,label,<model>,fluency,completeness,reliability,overall; each mark a list of those of
three annotators, 0 to 3), a folder of such, or the folder of a study that `mentallama data annotate` made. For each
criterion, with 95 % intervals over posts:

  - how far annotators agree: Krippendorff's alpha (ordinal), and the correlation of one with the mean of the others,
    the human ceiling;
  - how far each metric agrees with them: Spearman's and Kendall's rank correlation (tau-b).

Two figures need no --metrics: the length in words, and whether the label that rules read is right. Metrics compare an
answer with the gold response of its post in --data, with the post itself (--against post), or both. A metric that does
not beat the length tells you little that the length does not.

With --predictions, all answers of the systems that were marked, the mean mark of all answers is estimated: by the
metric on all of them, corrected by the marks (prediction-powered inference). That holds where the marked rows were
chosen at random.

Written to --out: human_agreement.json with a signature, and the scores of rows, without texts.
"""

_EPILOG = """\
examples:
  mentallama agree human_evaluation/DR_annotation --data data/imhi:test --metrics rouge,chrf --out agreement
  mentallama agree marks.csv --metrics embedding --against post --out agreement
  mentallama agree study --metrics rouge --predictions tuned.jsonl base.jsonl --out study/scores
  mentallama agree filled/*.csv --key study/key/key.json --out study/scores
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "agree",
        help="compare metrics with human marks",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "marks", metavar="MARKS", type=local_path, nargs="+", help="annotated .csv files, or the folder of a study"
    )
    parser.add_argument("--out", metavar="DIR", type=local_path, required=True, help="folder for human_agreement.json")
    parser.add_argument(
        "--key", metavar="FILE", type=local_path, help="the key.json of a study, where MARKS are its filled files"
    )
    parser.add_argument(
        "--metrics",
        metavar="NAMES",
        default="",
        help="metrics of explanations, a list with commas between; `mentallama evaluate --help` lists them",
    )
    parser.add_argument(
        "--against",
        choices=("gold", "post", "both"),
        default="gold",
        help="what metrics compare answers with (default: gold)",
    )
    parser.add_argument(
        "--part",
        choices=("response", "explanation"),
        default="response",
        help="compare whole responses, or explanations alone (default: response)",
    )
    parser.add_argument(
        "--predictions",
        metavar="PREDICTIONS",
        type=local_path,
        nargs="+",
        default=[],
        help="all answers of systems that were marked, each a .jsonl named after its system",
    )
    parser.add_argument("--strict", action="store_true", help="a row that cannot be read is an error")
    add_json_option(parser)
    add_metric_models(parser)
    add_tasks(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare; print the tables and where the file is."""
    with figures_printed(options) as figures:
        figures(_compare(options))
    return 0


def _compare(options: argparse.Namespace) -> Path:
    """Compare and print; return the file of the figures."""
    from mentallama_jax.evaluation.people.agreement_report import agreement_tables, notes
    from mentallama_jax.jobs.agree import AGAINST, agree
    from mentallama_jax.terminal import Console

    agreed = agree(
        options.marks,
        options.out,
        key=options.key,
        metrics=[name.strip() for name in options.metrics.split(",") if name.strip()],
        against=AGAINST if options.against == "both" else (options.against,),
        part=options.part,
        predictions=options.predictions,
        metric_models=metric_models(options),
        strict=options.strict,
        progress=scoring_progress,
    )
    console = Console()
    for table in agreement_tables(agreed.found):
        console.print(table)
    for note in notes(agreed.found, agreed.marks, agreed.matches):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{agreed.path} written", highlight=False, soft_wrap=True)
    return agreed.path
