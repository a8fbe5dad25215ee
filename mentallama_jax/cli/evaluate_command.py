"""`mentallama evaluate`: score generated answers."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.cli.json_output import add_json_option, figures_printed
from mentallama_jax.cli.metric_options import add_metric_models, metric_models, scoring_progress
from mentallama_jax.cli.task_options import add_tasks, named_tasks
from mentallama_jax.storage import as_path, expanded, local_path

if TYPE_CHECKING:
    from mentallama_jax.evaluation.foreign_outputs.read_as import ReadAs
    from mentallama_jax.jobs.score import Scored, ScoreOptions
    from mentallama_jax.terminal import Console

_DESCRIPTION = """\
Score generated answers: read the label that each output states, compare it with gold.

PREDICTIONS is the .jsonl that `mentallama generate` wrote, or a folder of DATASET.csv files with the columns
goldens,generated_text (the data set is the file's name; a column `aspect` adds scores by aspect, a column `post_id` or
`post` tells which rows belong to one post, and a column `query` tells both). Several are scored side by side, each into
a folder of its name below --out, with one table and one report of all. With --pool several are scored as one, such as
the seeds of one recipe; intervals are over posts, so that answering a post three times does not make them narrower by
itself. The same file twice is refused. Files that are no data set, and rows whose gold states no label, are named and
not scored, and it is said where the rows are a part of the benchmark's.

Files of other programs are read as well, by their content: sample logs of lm-evaluation-harness (samples_*.jsonl, or
their folder), OpenAI batch output, JSON lines of vLLM and Hugging Face scripts, tables with commas, semicolons or tabs.
Which column is for what is taken from names that can mean one thing only; else --columns says it. Gold is a label, 1 or
0 of a yes/no data set, or a gold response; or it comes from --gold by the ids of rows, such as DR/test/17, or, in a
file without ids, by a column `query` or `post`. Ids may be row numbers: from 0 where an id is 0, and in
lm-evaluation-harness; from 1 where the highest is that of the last gold row; else --columns first=0 or first=1 says it.
The data set is a column, --dataset, or in the file's name, as in DR_llama3.csv. scores.json says what was read and how;
rows that cannot be read are counted and not scored.

Labels are read from the whole output: its opening, declared answers and label sentences, then claims in words with
negation in mind. An output that states none is `unparsed`: wrong, and counted. Intervals are over posts, and exact
where every row is right or none is; those of fewer than 20 posts are marked, as they may be too narrow. Written to
--out: scores.json (figures as fractions of 1, with a signature of what was scored and how), labels_by_row.csv (of each
row its id, gold, the label read and the rule that decided it) and the report that is made of the figures: report.html
(one page with tables and pictures), report.md and tables.tex. `mentallama report` makes it again.

With --metrics explanations are compared with those of gold: the whole response, as the paper does, and the explanation
alone. Rows without a gold text are counted and not scored; empty outputs are counted, and score 0 or what the metric
gives them. Scores of rows are written to scores_by_row.parquet while they are made: the same command again computes
only what is missing.

First the labels of high risk are shown, such as suicide: how many of their rows were found and how many missed. Outputs
that are unparsed, empty, cut off, looping, refused or still reasoning are counted. Where predictions carry the
log-probabilities of labels (`mentallama generate --score-labels`, classifiers), calibration and selective prediction
follow, and with --calibrate-on, predictions of the same system on validation posts, a temperature and conformal sets.

Explanations are looked at for grounding: those that repeat the label only, or are near-copies of one of another
post, and with --data, quotes, names and numbers that the post does not have. Care counts outputs that state a
diagnosis as a fact, give medical instructions or judge the person, by a table of rules in the package.

With --reader classifier an encoder of each data set reads the labels; Cohen's kappa beside the rules is shown, and
readers_differ.jsonl names the rows that they read differently. --consistency measures whether explanations alone, their
label sentences removed, tell a classifier the label that the output states.
"""

_EPILOG = """\
examples:
  mentallama evaluate predictions.jsonl --out scores
  mentallama evaluate base.jsonl tuned.jsonl --out scores               two systems side by side
  mentallama evaluate seed0.jsonl seed1.jsonl seed2.jsonl --pool --out scores   one recipe, its seeds together
  mentallama evaluate tuned.jsonl --metrics rouge,bleu,chrf --out scores
  mentallama evaluate tuned.jsonl --metrics bartscore,bertscore --out scores   the paper's metric, and another
  mentallama evaluate test.jsonl --calibrate-on validation.jsonl --out scores   how true label probabilities are
  mentallama evaluate tuned.jsonl --data sample --out scores            do explanations quote what the post says?
  mentallama evaluate DR_llama3.csv --columns gold=answer,text=output --out scores
  mentallama evaluate batch_output.jsonl --gold data/imhi:test --out scores   joined by custom_id
  mentallama evaluate results/my_model/ --out scores                          samples_*.jsonl of lm_eval
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
        help="a .jsonl, a DATASET.csv, a folder of such, or what another program wrote; several stand side by side",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=local_path, required=True, help="folder for scores.json and the report"
    )
    parser.add_argument(
        "--pool", action="store_true", help="score several as one: seeds of one recipe, or parts of a benchmark"
    )
    add_reading(parser.add_argument_group("files of other programs"))
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
        'classifier.json in it, such as {"labels": ["no", "yes"]}; without one they are taken in the order of the '
        "published classifiers of the data set, which is printed",
    )
    parser.add_argument(
        "--consistency",
        action="store_true",
        help="how often a classifier reads from the explanation alone the label that the output states; it must not "
        "have been tuned on outputs of the system",
    )
    parser.add_argument(
        "--metrics",
        metavar="NAMES",
        default="",
        help="compare explanations with gold, by a list with commas between. From the extra `metrics`: rouge, bleu, "
        "chrf, and by the released scorer's definitions upstream_rouge, upstream_bleu. Computed with a model: "
        "bartscore, bartscore_precision, bartscore_f1, bartscore_faithfulness, bertscore, embedding, lm",
    )
    parser.add_argument(
        "--calibrate-on",
        metavar="PREDICTIONS",
        type=as_path,
        action="append",
        default=[],
        help="validation predictions of the same system with log-probabilities of labels, as those scored: fits a "
        "temperature and conformal sets for each data set; may be repeated",
    )
    parser.add_argument(
        "--show-posts",
        action="store_true",
        help="show outputs, which may repeat what is in posts: sentences that state a diagnosis, give medical "
        "instructions or judge the person, and, in examples.json and the report, some outputs that were read wrong; "
        "there handles, links, addresses, phone numbers, ages, dates and greeted names are masked; do not pass them on",
    )
    parser.add_argument("--raw", action="store_true", help="with --show-posts: outputs of the report as they are")
    add_json_option(parser)
    add_metric_models(parser)
    add_tasks(parser)
    parser.set_defaults(run=run)


def add_reading(group: Any) -> None:
    """Add the options that say how files of other programs are read."""
    group.add_argument(
        "--columns",
        metavar="ROLE=COLUMN",
        default="",
        help="which column is for what, with commas between: gold, text, id, dataset, aspect, post_id; "
        "filter=NAME chooses a filter of lm-evaluation-harness, first=0 or first=1 says what row numbers count from",
    )
    group.add_argument("--dataset", metavar="NAME", help="the data set of all rows, where the files do not say it")
    group.add_argument(
        "--gold",
        metavar="SOURCE",
        type=expanded,
        help="records to take gold, posts and aspects from, by ids of rows or by posts, such as data/imhi:test",
    )


def run(options: argparse.Namespace) -> int:
    """Score; print the tables and where the report is."""
    with figures_printed(options) as figures:
        if len(options.predictions) > 1 and not options.pool:
            figures(_score_each(options))
        else:
            figures(_score(options))
    return 0


def _score(options: argparse.Namespace) -> Path:
    """Score and print; return the file of the figures."""
    from mentallama_jax.evaluation.score_report import score_table
    from mentallama_jax.evaluation.trust.trust_tables import show_high_risk
    from mentallama_jax.jobs.score import score
    from mentallama_jax.terminal import Console

    scored = score(options.predictions, options.out, pool=options.pool, **_score_options(options))
    console = Console()
    _show_cautions(console, scored)
    if scored.trust:
        show_high_risk(console, scored.trust)
    console.print(score_table(scored.scores, scored.covered))
    _show_explanations(console, {"": scored})
    _show_further(console, scored, options)
    for path in scored.paths:
        console.print(f"{path} written", highlight=False, soft_wrap=True)
    _print_next(console, options, [scored])
    return scored.paths[0]


def _score_each(options: argparse.Namespace) -> dict[str, Any]:
    """Score systems side by side and print; return the figures of each."""
    from mentallama_jax.evaluation.score_report import side_by_side_table
    from mentallama_jax.evaluation.trust.trust_tables import show_high_risk
    from mentallama_jax.foreign import parse_json
    from mentallama_jax.jobs.score import score_each
    from mentallama_jax.terminal import Console

    systems = score_each(options.predictions, options.out, **_score_options(options))
    console = Console()
    for name, scored in systems.items():
        console.print(f"{name}:", style="bold", highlight=False, soft_wrap=True)
        _show_cautions(console, scored)
        if scored.trust:
            show_high_risk(console, scored.trust)
    covered = {name: scored.covered for name, scored in systems.items()}
    console.print(side_by_side_table({name: scored.scores for name, scored in systems.items()}, covered))
    _show_explanations(console, systems)
    for name, scored in systems.items():
        console.print(f"{name}:", style="bold", highlight=False, soft_wrap=True)
        _show_further(console, scored, options)
        console.print(f"{scored.paths[0].parent}: its scores and its own report", highlight=False, soft_wrap=True)
    console.print(f"{Path(options.out) / 'report.html'} written, of all systems", highlight=False, soft_wrap=True)
    said = "side by side; `mentallama compare` tests which is better, --pool scores seeds of one recipe as one"
    console.print(said, style="dim", highlight=False, soft_wrap=True)
    _print_next(console, options, list(systems.values()))
    figures = ((name, scored.paths[0]) for name, scored in systems.items())
    return {name: parse_json(path.read_bytes(), path) for name, path in figures}


def _score_options(options: argparse.Namespace) -> "ScoreOptions":
    return {
        "reader": reader_of(options),
        "metrics": [name.strip() for name in options.metrics.split(",") if name.strip()],
        "classifiers": options.classifiers,
        "consistency": options.consistency,
        "metric_models": metric_models(options),
        "calibrate_on": options.calibrate_on,
        "progress": scoring_progress,
        "show_posts": options.show_posts,
        "raw": options.raw,
        "read_as": read_as(options),
    }


def _show_explanations(console: "Console", systems: Mapping[str, "Scored"]) -> None:
    from mentallama_jax.evaluation.score_report import explanation_tables

    for table in explanation_tables({name: of.explanations for name, of in systems.items() if of.explanations}):
        console.print(table)


def _show_cautions(console: "Console", scored: "Scored") -> None:
    from mentallama_jax.evaluation.score_report import cautions

    if scored.replaced:
        what = f"{scored.paths[0].parent} held the scores of {', '.join(scored.replaced)}: these take their place"
        console.print(what, style="yellow", markup=False, highlight=False, soft_wrap=True)
    for caution in cautions(scored.scores, scored.covered):
        console.print(caution, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _show_further(console: "Console", scored: "Scored", options: argparse.Namespace) -> None:
    """Print what follows the table of labels: trust, explanations, classifiers, notes."""
    from mentallama_jax.evaluation.score_report import (
        agreement_table,
        consistency_table,
        metric_notes,
        notes,
    )
    from mentallama_jax.evaluation.trust.grounding_tables import show_care_examples
    from mentallama_jax.evaluation.trust.trust_tables import show_trust

    if scored.trust:
        show_trust(console, scored.trust)
    if options.show_posts:
        show_care_examples(console, scored.rows)
    if scored.explanations:
        for line in metric_notes(scored.explanations):
            console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
    if scored.classifiers and scored.classifiers.agreement:
        console.print(agreement_table(scored.classifiers.agreement))
    if scored.classifiers and scored.classifiers.consistency:
        console.print(consistency_table(scored.classifiers.consistency))
    for note in notes(scored.scores, scored.covered):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if not scored.posts_known:
        each = "every row, answered by all seeds," if options.pool else "every row"
        said = f"Intervals take {each} for a post of its own: the files have no post_id."
        console.print(said, style="dim", highlight=False, soft_wrap=True)


def _print_next(console: "Console", options: argparse.Namespace, systems: Sequence["Scored"]) -> None:
    """Print the command that tests these answers beside others: as scored, explanations and reading of files too."""
    folders = [str(scored.paths[0].parent) for scored in systems]
    ids = [{row.id for row in scored.rows} for scored in systems]
    if len(options.predictions) > 1 and options.pool:
        # Seeds answer the same rows; parts of a benchmark are no system that can be compared.
        parts = {row.id.rpartition(" ")[0] for row in systems[0].rows}
        if len(parts) * len(options.predictions) != len(ids[0]):
            return
        given = {"--columns": options.columns, "--dataset": options.dataset, "--gold": options.gold}
        read = [word for option, value in given.items() if value for word in (option, str(value))]
        seeds = ",".join(str(path) for path in options.predictions)
        words = ["--system", f"SEEDS={seeds}", f"OTHER{options.predictions[0].suffix or '.jsonl'}", *read]
    else:
        words = folders if len(folders) > 1 else [*folders, "OTHER_SCORES"]
    unequal = ["--matched-only"] if any(each != ids[0] for each in ids) else []
    if unequal and not set.intersection(*ids):
        return
    command = ["mentallama", "compare", *words, *unequal, *named_tasks(options), "--out", "COMPARISON"]
    console.print(f"next: {shlex.join(command)}", highlight=False, soft_wrap=True)


def read_as(options: argparse.Namespace) -> "ReadAs":
    """What the options say about files of other programs.

    Raises:
        UserError: an option is malformed, or the gold cannot be read.
    """
    from mentallama_jax.evaluation.foreign_outputs.gold_rows import gold_rows
    from mentallama_jax.evaluation.foreign_outputs.read_as import ReadAs, parse_columns
    from mentallama_jax.imhi.tasks import task_named

    columns = parse_columns(options.columns)
    dataset = task_named(options.dataset) if options.dataset else None
    return ReadAs(columns, dataset, gold_rows(options.gold) if options.gold else None)


def reader_of(options: argparse.Namespace) -> str:
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
