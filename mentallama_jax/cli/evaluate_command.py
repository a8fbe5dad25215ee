"""`mentallama evaluate`: score generated answers."""

import argparse
from pathlib import Path
from typing import Any

from mentallama_jax.cli.json_output import add_json_option, figures_printed
from mentallama_jax.cli.metric_options import add_metric_models, metric_models, scoring_progress
from mentallama_jax.storage import as_path, local_path

_DESCRIPTION = """\
Score generated answers: read the label that each output states, compare it with gold.

PREDICTIONS is the .jsonl that `mentallama generate` wrote, or a folder of DATASET.csv files with the columns
goldens,generated_text (the data set is the file's name; a column `aspect` adds scores by aspect, a column
`post_id` tells which rows belong to one post). Several, such as the seeds of one recipe, are pooled; intervals are
drawn over posts, so that answering a post three times does not make them narrower by itself. Files that are no data
set, and rows whose gold states no label, are named and not scored.

Labels are read from the whole output: its opening, declared answers and label sentences, then claims in words with
negation in mind. An output that states none is `unparsed`: wrong, and counted. Intervals are over posts, and exact
where every row is right or none is; those of fewer than 20 posts are marked, as they may be too narrow. Written to
--out: scores.json (figures as fractions of 1, with a signature of what was scored and how) and the report that is made
of it: report.html (one page with tables and pictures), report.md and tables.tex. `mentallama report` makes it again.

With --metrics explanations are compared with those of gold: the whole response, as the paper does, and the explanation
alone. Rows without a gold text are counted and not scored; empty outputs are counted, and score 0 or what the metric
gives them. Scores of rows are written to scores_by_row.parquet while they are made: the same command again computes
only what is missing.

With --reader classifier an encoder of each data set reads the labels; Cohen's kappa beside the rules is shown, and
readers_differ.jsonl names the rows that they read differently. --consistency measures whether explanations alone, their
label sentences removed, tell a classifier the label that the output states.
"""

_EPILOG = """\
examples:
  mentallama evaluate predictions.jsonl --out scores
  mentallama evaluate seed0.jsonl seed1.jsonl seed2.jsonl --out scores  pooled over seeds
  mentallama evaluate tuned.jsonl --compare base.jsonl --out scores     is the tuned model better, and how surely?
  mentallama evaluate tuned.jsonl --metrics rouge,bleu,chrf --out scores
  mentallama evaluate tuned.jsonl --metrics bartscore,bertscore --out scores   the paper's metric, and another
  mentallama evaluate model_output/ --as-upstream --out scores_upstream
  mentallama evaluate tuned.jsonl --reader classifier --classifiers runs/classifiers --out scores_classifier
  mentallama evaluate tuned.jsonl --consistency --classifiers runs/explained --out scores_consistency
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score generated answers",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "predictions",
        metavar="PREDICTIONS",
        type=as_path,
        nargs="+",
        help="a .jsonl, a DATASET.csv or a folder of such; several are pooled",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=local_path, required=True, help="folder for scores.json and the report"
    )
    parser.add_argument(
        "--compare",
        metavar="OTHER",
        type=as_path,
        help="predictions of another model on the same rows: adds the difference in weighted F1 with a paired interval",
    )
    parser.add_argument(
        "--as-upstream",
        action="store_true",
        help="read labels as the released rule scorer does (first substring before `Reasoning:`, else a default class),"
        " for comparison with figures that it made; never for claims of your own",
    )
    parser.add_argument(
        "--reader",
        choices=("rules", "classifier"),
        default="rules",
        help="what reads labels: rules (default), or a classifier for each data set, with the rules beside it",
    )
    parser.add_argument(
        "--classifiers",
        metavar="FOLDER",
        type=local_path,
        help="a directory with one folder a data set, named after it: a run of `mentallama train` with "
        "objective.kind=classification, or a Hugging Face folder; what its classes LABEL_0... mean is said by a file "
        'classifier.json in it, such as {"labels": ["no", "yes"]}',
    )
    parser.add_argument(
        "--consistency",
        action="store_true",
        help="how often a classifier reads from the explanation alone the label that the output states; it must not "
        "have been tuned on outputs of the system",
    )
    parser.add_argument(
        "--resamples", metavar="N", type=int, default=2000, help="bootstrap draws behind each interval (default: 2000)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument(
        "--metrics",
        metavar="NAMES",
        default="",
        help="compare explanations with gold, by a list with commas between. From the extra `metrics`: rouge, bleu, "
        "chrf, and by the released scorer's definitions upstream_rouge, upstream_bleu. Computed with a model: "
        "bartscore, bartscore_precision, bartscore_f1, bartscore_faithfulness, bertscore, embedding, lm",
    )
    parser.add_argument(
        "--show-posts",
        action="store_true",
        help="keep some outputs that were read wrong in examples.json and show them in the report: handles, links, "
        "e-mail addresses, phone numbers, ages, dates and greeted names masked; do not pass them on",
    )
    parser.add_argument("--raw", action="store_true", help="with --show-posts: outputs as they are")
    add_json_option(parser)
    add_metric_models(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Score; print the tables and where the report is."""
    with figures_printed(options) as figures:
        figures(_score(options))
    return 0


def _score(options: argparse.Namespace) -> Path:
    """Score and print; return the file of the figures."""
    from mentallama_jax.evaluation.score_report import (
        agreement_table,
        comparison_table,
        consistency_table,
        explanation_tables,
        metric_notes,
        notes,
        score_table,
    )
    from mentallama_jax.jobs.score import score
    from mentallama_jax.terminal import Console

    scored = score(
        options.predictions,
        options.out,
        other=options.compare,
        reader=_reader(options),
        resamples=options.resamples,
        seed=options.seed,
        metrics=[name.strip() for name in options.metrics.split(",") if name.strip()],
        classifiers=options.classifiers,
        consistency=options.consistency,
        metric_models=metric_models(options),
        progress=scoring_progress,
        show_posts=options.show_posts,
        raw=options.raw,
    )
    console = Console()
    console.print(score_table(scored.scores))
    if scored.comparison:
        console.print(comparison_table(scored.comparison))
    if scored.explanations:
        for table in explanation_tables(scored.explanations):
            console.print(table)
        for line in metric_notes(scored.explanations):
            console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
    if scored.classifiers and scored.classifiers.agreement:
        console.print(agreement_table(scored.classifiers.agreement))
    if scored.classifiers and scored.classifiers.consistency:
        console.print(consistency_table(scored.classifiers.consistency))
    for note in notes(scored.scores):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if not scored.posts_known:
        console.print("Intervals take every row for a post of its own: the files have no post_id.", style="dim")
    for path in scored.paths:
        console.print(f"{path} written", highlight=False, soft_wrap=True)
    return scored.paths[0]


def _reader(options: argparse.Namespace) -> str:
    """The name of what reads labels.

    Raises:
        UserError: two are asked for.
    """
    from mentallama_jax.errors import UserError
    from mentallama_jax.evaluation.label_readers import AS_UPSTREAM, CLASSIFIER, RULES

    if options.as_upstream and options.reader != "rules":
        raise UserError(f"--as-upstream and --reader {options.reader} are two ways to read labels; give one")
    if options.as_upstream:
        return AS_UPSTREAM
    return CLASSIFIER if options.reader == "classifier" else RULES
